"""An upload opens nothing but itself: no other file of its folder, and no connection."""

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import frnr_assets_tests
from frnr_assets.media.source import ClipUnusable
from frnr_assets_tests.conftest import MakeClip
from frnr_assets_tests.media.conftest import DecodeClip, PlainFFmpeg
from frnr_assets_tests.media.hostile import Bait, matroska, mp4, strangers
from frnr_assets_tests.media.hostile.watch import FolderWatch, Servers

BASELINE = ("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "baseline", "-crf", "28", "-threads", "1")


@pytest.fixture(scope="module")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", encode=BASELINE).read_bytes()


@pytest.fixture
def data_root(clip: bytes, tmp_path: Path) -> Path:
    """A folder with a video that an attack may want."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "private.mp4").write_bytes(clip)
    return folder


@pytest.fixture
def watch(data_root: Path) -> Iterator[FolderWatch]:
    watching = FolderWatch(data_root)
    yield watching
    watching.close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    # The path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix="frnr-") as folder:
        found = Servers(Path(folder))
        yield found
        found.close()


@pytest.fixture
def bait(servers: Servers) -> Bait:
    return Bait("private.mp4", f"http://127.0.0.1:{servers.port}/private.mp4", str(servers.unix))


def attacks(clip: bytes, bait: Bait) -> dict[str, bytes]:
    tracks, frames = matroska.track(matroska.H264, mp4.avc_configuration(clip)), mp4.samples(clip)
    references = mp4.elsewhere(bait)
    return {
        **strangers.scripts(bait),
        "ffconcat, unix socket": f"ffconcat version 1.0\nfile unix:{bait.unix}\n".encode(),
        **{name: mp4.refer(mp4.without_samples(clip), reference) for name, reference in references.items()},
        **{f"{name}, with samples of its own": mp4.refer(clip, reference) for name, reference in references.items()},
        "reference movie": mp4.reference_movie(bait),
        "linked segments": matroska.linked(tracks, frames, bait),
    }


def test_uploads_that_name_others_open_no_other_file_and_no_connection(
    clip: bytes,
    data_root: Path,
    watch: FolderWatch,
    servers: Servers,
    bait: Bait,
    decode: DecodeClip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As on a kernel that does not let tools do without network: what the tools are told has to suffice.
    monkeypatch.setattr("frnr_assets.media.sandbox._network_prefix", tuple)
    for content in attacks(clip, bait).values():
        (data_root / "clip.mp4").write_bytes(content)
        watch.opened()
        with contextlib.suppress(ClipUnusable):
            decode(data_root / "clip.mp4")
        assert watch.opened() == {"clip.mp4"}
    assert not servers.close()


@pytest.mark.parametrize(
    ("attack", "options", "file", "called"),
    [
        ("HLS, file", (), True, set()),
        ("ffconcat, file", (), True, set()),
        ("alias", ("-enable_drefs", "1"), True, set()),
        ("HLS, url", ("-protocol_whitelist", "file,http,tcp"), False, {"tcp"}),
        ("ffconcat, unix socket", ("-safe", "0", "-protocol_whitelist", "file,unix"), False, {"unix"}),
    ],
)
def test_the_watch_notices_what_an_unguarded_ffmpeg_opens(
    attack: str,
    options: tuple[str, ...],
    file: bool,
    called: set[str],
    clip: bytes,
    data_root: Path,
    watch: FolderWatch,
    servers: Servers,
    bait: Bait,
    plain_ffmpeg: PlainFFmpeg,
) -> None:
    upload = data_root / ("clip.m3u8" if attack.startswith("HLS") else "clip.mp4")
    upload.write_bytes(attacks(clip, bait)[attack])
    watch.opened()
    with contextlib.suppress(subprocess.CalledProcessError):
        plain_ffmpeg(*options, "-i", upload, "-f", "null", "-")
    assert ("private.mp4" in watch.opened()) is file
    assert servers.close() == called


def trace(folder: Path, *command: str | Path) -> str:
    """Return what a command and its children open and connect to."""
    log = folder / "trace"
    calls = "trace=open,openat,openat2,connect,sendto,sendmsg"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-s", "4096", "-e", calls, "-o", log, *command], capture_output=True, check=False
    )
    if done.returncode != 0 and not log.exists():
        pytest.skip(f"strace cannot trace here: {done.stderr.decode()}")
    assert done.returncode == 0, done.stderr.decode()
    return log.read_text(errors="replace")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_kernel_is_asked_for_no_other_file_and_no_connection(
    clip: bytes, data_root: Path, servers: Servers, bait: Bait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(frnr_assets_tests.__file__).parents[1]))
    uploads = []
    chosen = attacks(clip, bait)
    for index, name in enumerate(("HLS, file", "DASH after Matroska's first bytes", "alias", "linked segments")):
        uploads.append(data_root / f"upload{index}.mp4")
        uploads[-1].write_bytes(chosen[name])
    seen = trace(tmp_path, sys.executable, "-m", "frnr_assets_tests.media.hostile.attempt", *uploads)
    opened = set(re.findall(r'"[^"]*/data/([^"]*)"', seen))
    assert opened == {upload.name for upload in uploads}
    assert f"htons({servers.port})" not in seen
    assert not re.search(r"AF_INET6?\b", seen)
    assert str(servers.unix) not in seen
