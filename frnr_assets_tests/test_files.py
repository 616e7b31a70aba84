"""Opening what somebody else named."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from frnr_assets.files import FileRefused, open_regular


def _content(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "root/sub/clip.mp4").write_bytes(b"inside")
    (tmp_path / "outside/clip.mp4").write_bytes(b"outside")
    return tmp_path / "root"


@pytest.mark.parametrize("target", ["sub/clip.mp4", "../root/sub/clip.mp4", "{root}/sub/clip.mp4", "sub/other"])
def test_a_dataset_of_links_is_read_as_long_as_they_stay_inside(root: Path, target: str) -> None:
    (root / "sub/other").symlink_to("clip.mp4")
    (root / "link.mp4").symlink_to(target.format(root=root))
    assert _content(open_regular(root / "link.mp4", [root])) == b"inside"


@pytest.mark.parametrize("roots", [[], ["root"], ["out"], ["outside/deeper"]])
def test_a_file_outside_the_roots_is_never_read(root: Path, roots: list[str]) -> None:
    (root / "link.mp4").symlink_to("../outside/clip.mp4")
    allowed = [root.parent / name for name in roots]
    with pytest.raises(FileRefused, match=rf"it is in {root.parent}/outside, .* allowed_roots"):
        open_regular(root / "link.mp4", allowed)


def test_a_link_that_is_exchanged_between_the_look_and_the_opening_leads_nowhere(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = root / "link.mp4"
    link.symlink_to("sub/clip.mp4")
    really_open = os.open

    def exchange_then_open(path: Path, flags: int) -> int:
        link.unlink()
        link.symlink_to("../outside/clip.mp4")
        return really_open(path, flags)

    monkeypatch.setattr(os, "open", exchange_then_open)
    with pytest.raises(FileRefused, match="outside the allowed roots"):
        open_regular(link, [root])


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(str(path))


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [Path.mkdir, _fifo, _socket, _device])
def test_what_is_no_file_is_neither_waited_for_nor_read(
    make: Callable[[Path], None], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    # Relative, because a socket's path must be short.
    make(Path("it"))
    with pytest.raises(FileRefused, match=r"^it is not a regular file$"):
        open_regular(root / "it", None)


def test_a_fifo_that_takes_the_files_place_is_not_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = root / "clip.mp4"
    clip.write_bytes(b"a clip")
    really_open = os.open

    def exchange_then_open(path: Path, flags: int) -> int:
        clip.unlink()
        os.mkfifo(clip)
        return really_open(path, flags)

    monkeypatch.setattr(os, "open", exchange_then_open)
    with pytest.raises(FileRefused, match=r"^it is not a regular file$"):
        open_regular(clip, [root])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a\0.mp4", "a NUL"),
        ("a\n.mp4", "U+000A"),
        ("a\x1b[2J.mp4", "U+001B"),
        ("a\x85.mp4", "U+0085"),
        ("a\u2028.mp4", "U+2028"),
    ],
    ids=ascii,
)
def test_a_name_that_could_steer_a_terminal_or_a_log_is_refused(name: str, reason: str, root: Path) -> None:
    if "\0" not in name:
        (root / name).write_bytes(b"a clip")
    with pytest.raises(FileRefused) as caught:
        open_regular(root / name, [root])
    assert reason in str(caught.value)
    assert name not in str(caught.value)


def test_a_loop_of_links_ends(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(FileRefused, match="Too many levels"):
        open_regular(root / "a", [root])


def test_a_file_that_is_not_there_may_be_back_later(root: Path) -> None:
    (root / "dangling.mp4").symlink_to("gone.mp4")
    for name in ("gone.mp4", "dangling.mp4"):
        with pytest.raises(FileNotFoundError):
            open_regular(root / name, [root])


def test_a_refusal_leaves_no_descriptor_open(root: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the names, without opening the folder lazily
    with pytest.raises(FileRefused):
        open_regular(root / "sub/clip.mp4", [])
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
