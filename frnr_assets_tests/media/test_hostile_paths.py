"""Names and kinds of files: what no upload can be is refused, and every name that a person may give works."""

import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.media.decode import decode_reference
from frnr_assets.media.encoders import LIBX264
from frnr_assets.media.process import ToolFailed, ToolResult, ToolRunner
from frnr_assets.media.reference import Reference
from frnr_assets.media.score import Score, score_distortions
from frnr_assets.media.source import ClipUnusable, SourceRules, fingerprint
from frnr_assets.media.toolchain import Toolchain
from frnr_assets_tests.conftest import MakeClip
from frnr_assets_tests.media.conftest import DecodeClip, EncodeClip

RULES = SourceRules()


@pytest.fixture(scope="module")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4").read_bytes()


@pytest.fixture(scope="module")
def expected(clip: bytes, decode: DecodeClip, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    plain = tmp_path_factory.mktemp("plain") / "clip.mp4"
    plain.write_bytes(clip)
    return decode(plain)


def score(source: Path, reference: Reference, distortion: Path, toolchain: Toolchain, scratch: Path) -> Score:
    (found,) = score_distortions(
        source,
        reference,
        [distortion],
        vmaf=toolchain.vmaf,
        ffmpeg=toolchain.ffmpeg,
        runner=toolchain.runner,
        limits=toolchain.limits,
        rules=RULES,
        scratch=scratch,
    )
    return found


@pytest.mark.parametrize(
    "name",
    [
        "two words.mp4",
        """it's "quoted" `id` $HOME & more;.mp4""",
        "%d.mp4",
        "clip%03d.mp4",
        "12:30|clip.mp4",
        "-i",
        "concat:a.mp4|b.mp4",
        "file:clip.mp4",
        "http://127.0.0.1:9/clip.mp4",
        "[0:v]{a,b}*?.mp4",
        "źdźbło 日本 🎬 e\u0301.mp4",
        f"{'x' * 251}.mp4",
        "[error] Avoiding reinit.mp4",
        os.fsdecode(b"\xff\xfe.mp4"),
    ],
    ids=lambda name: ascii(name)[:40],
)
def test_any_name_that_a_person_may_give_is_nothing_but_a_name(
    name: str,
    clip: bytes,
    expected: Reference,
    decode: DecodeClip,
    encode: EncodeClip,
    toolchain: Toolchain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    # So that a name that begins with a hyphen or a protocol is what a tool would see first.
    monkeypatch.chdir(uploads)
    source = Path(name)
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(clip)
    reference = decode(source)
    assert (reference.frames, reference.frames_md5) == (expected.frames, expected.frames_md5)
    distortion = encode(source, reference, 38)
    assert 0 <= score(source, reference, distortion, toolchain, tmp_path).vmaf_score <= 100


@pytest.mark.parametrize("character", ["\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"], ids=ascii)
@pytest.mark.parametrize("place", ["clip{}.mp4", "folder{}/clip.mp4"])
def test_a_name_that_would_forge_a_line_of_a_log_or_a_terminal_is_refused(
    character: str, place: str, clip: bytes, decode: DecodeClip, tmp_path: Path
) -> None:
    source = tmp_path / place.format(character)
    if character != "\0":
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(clip)
    named = "a NUL" if character == "\0" else f"the control character U+{ord(character):04X}"
    with pytest.raises(ClipUnusable, match=f"^{re.escape(f'its path has {named} in it')}$"):
        decode(source)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    # The path of a socket may not be longer than about a hundred characters.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"\0\0\0\x20ftypisom")
        file.truncate(1 << 40)


def make_loop(path: Path) -> None:
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(make_fifo, "it is not a regular file", id="a FIFO"),
        pytest.param(make_socket, "it is not a regular file", id="a socket"),
        pytest.param(Path.mkdir, "it is not a regular file", id="a folder"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "it is not a regular file", id="a device"),
        pytest.param(Path.touch, "it is empty", id="nothing"),
        pytest.param(
            make_huge,
            "it has 1099511627776 bytes, more than the 4294967296 that max_source_gib allows",
            id="a sparse file of a terabyte",
        ),
        pytest.param(make_loop, "it cannot be opened: Too many levels of symbolic links", id="a loop"),
    ],
)
def test_what_cannot_be_an_upload_is_refused_unread(make: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    make(tmp_path / "clip.mp4")
    with pytest.raises(ClipUnusable, match=f"^{re.escape(reason)}$"):
        fingerprint(tmp_path / "clip.mp4", RULES)


def test_a_link_to_nothing_may_be_mended_and_is_no_fault_of_the_clip(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").symlink_to(tmp_path / "missing.mp4")
    with pytest.raises(ToolFailed, match=r"^it could not be read: No such file or directory$"):
        fingerprint(tmp_path / "clip.mp4", RULES)


@pytest.fixture
def inside(tmp_path: Path, clip: bytes) -> Path:
    """A root with a clip; beside it another folder with one."""
    for folder in ("inside", "outside", "inside but not really"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "real.mp4").write_bytes(clip)
    return tmp_path / "inside"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("clip.mp4", "../outside/real.mp4"),
        ("clip.mp4", "../inside but not really/real.mp4"),
        ("folder", "../outside"),
        ("clip.mp4", "/etc/passwd"),
    ],
)
def test_a_link_out_of_the_roots_is_refused(link: str, target: str, inside: Path) -> None:
    (inside / link).symlink_to(target)
    source = inside / link / "real.mp4" if link == "folder" else inside / link
    with pytest.raises(ClipUnusable, match=r"^it is in .*, outside the allowed roots; "):
        fingerprint(source, SourceRules(roots=(inside.resolve(),)))


def test_dots_in_a_path_do_not_lead_out_of_the_roots(inside: Path) -> None:
    with pytest.raises(ClipUnusable, match=r"^it is in .*, outside the allowed roots; "):
        fingerprint(inside / ".." / "outside" / "real.mp4", SourceRules(roots=(inside.resolve(),)))


def test_a_link_within_the_roots_works(inside: Path, expected: Reference, decode: DecodeClip) -> None:
    (inside / "clip.mp4").symlink_to("real.mp4")
    reference = decode(inside / "clip.mp4", SourceRules(roots=(inside.resolve(),)))
    assert reference.frames_md5 == expected.frames_md5


class Meddler(ToolRunner):
    """Changes something before the program with that name is started."""

    def __init__(self, program: str, meddle: Callable[[], Any]):
        super().__init__()
        self.program, self.meddle = program, meddle

    def run(self, argv: Sequence[str], **how: Any) -> ToolResult:
        if Path(argv[0]).name.startswith(self.program):
            self.meddle()
        return super().run(argv, **how)


def replace(source: Path) -> None:
    """Put another file there, of the same size and time."""
    before = source.stat()
    other = source.with_name("other")
    other.write_bytes(source.read_bytes())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(source)


def append(source: Path) -> None:
    with source.open("ab") as file:
        file.write(b"\0\0\0\x08free")


def overwrite(source: Path) -> None:
    """Change the content where it is; the time tells."""
    before = source.stat()
    source.write_bytes(source.read_bytes()[::-1])
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def overwrite_on_the_sly(source: Path) -> None:
    """Change the content where it is, and set the time back; only the time of the last change of its entry tells."""
    before = source.stat()
    source.write_bytes(source.read_bytes().replace(b"Lavf", b"Lavx"))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def source(clip: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "source" / "clip.mp4"
    path.parent.mkdir()
    path.write_bytes(clip)
    return path


@pytest.mark.parametrize(
    ("change", "when"),
    [
        *((change, when) for change in (replace, append) for when in ("before", "python", "ffmpeg")),
        (overwrite, "before"),
        (overwrite, "python"),
        (overwrite, "ffmpeg"),
        (overwrite_on_the_sly, "before"),
    ],
)
def test_a_file_that_is_another_by_now_fails_and_is_not_condemned(
    change: Callable[[Path], None], when: str, source: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    found = fingerprint(source, RULES)
    if when == "before":
        change(source)
    runner = ToolRunner() if when == "before" else Meddler(when, lambda: change(source))
    with pytest.raises(ToolFailed, match=r"^it changed while it was read$"):
        decode_reference(
            source,
            found,
            ffmpeg=toolchain.ffmpeg,
            encoder=LIBX264,
            runner=runner,
            limits=toolchain.limits,
            rules=RULES,
            scratch=tmp_path,
        )


@pytest.mark.parametrize("when", ["encode", "score"])
def test_a_file_that_is_another_after_its_decode_makes_no_row(
    when: str, source: Path, decode: DecodeClip, encode: EncodeClip, toolchain: Toolchain, tmp_path: Path
) -> None:
    reference = decode(source)
    distortion = encode(source, reference, 38) if when == "score" else None
    replace(source)
    with pytest.raises(ToolFailed, match=r"^it changed while it was read$"):
        score(source, reference, distortion or encode(source, reference, 38), toolchain, tmp_path)
