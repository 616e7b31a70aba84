import os
from collections.abc import Callable
from pathlib import Path

import pytest

from frnr_assets.corpus.manifests.records import RowRejected
from frnr_assets.corpus.places import Places, SourceFile, checked_path, look_at
from frnr_assets_tests.corpus.manifests import Disk


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    disk = Disk(tmp_path)
    disk.clips("in/clip.mp4", "in/sub/deep.mp4", "outside/clip.mp4")
    return disk


@pytest.mark.parametrize(
    ("src", "expected"),
    [
        ("a.mp4", "/clips/a.mp4"),
        ("sub/./a.mp4", "/clips/sub/a.mp4"),
        ("/elsewhere/a.mp4", "/elsewhere/a.mp4"),
        ("..a..mp4", "/clips/..a..mp4"),
        ("a\\..\\b.mp4", "/clips/a\\..\\b.mp4"),
        (" é 1.mp4", "/clips/ é 1.mp4"),
        ("no_extension", "/clips/no_extension"),
    ],
)
def test_an_ordinary_path_is_found_where_the_manifest_says(src: str, expected: str) -> None:
    assert checked_path(src, Path("/clips")) == Path(expected)


@pytest.mark.parametrize(
    ("src", "reason"),
    [
        ("../a.mp4", ".. in it"),
        ("sub/../a.mp4", ".. in it"),
        ("/clips/../a.mp4", ".. in it"),
        ("sub/..", ".. in it"),
        ("a\0.mp4", "a NUL"),
        ("a\n.mp4", "U+000A"),
        ("a\x1b[2J.mp4", "U+001B"),
        ("a\x7f.mp4", "U+007F"),
        ("a\x85.mp4", "U+0085"),
        ("a\u2028.mp4", "U+2028"),
        ("sub\u2029/a.mp4", "U+2029"),
        (".", "no path of a clip"),
        ("/", "no path of a clip"),
        ("/clips", "no path of a clip"),
    ],
    ids=ascii,
)
def test_a_path_that_could_lead_astray_is_refused(src: str, reason: str) -> None:
    with pytest.raises(RowRejected) as caught:
        checked_path(src, Path("/clips"))
    assert caught.value.kind == "bad path"
    assert reason in caught.value.reason


@pytest.mark.parametrize("source", ["in/clip.mp4", "in/sub/deep.mp4", "in/link.mp4", "in/folder/deep.mp4", "allowed/x"])
def test_a_file_in_the_roots_is_found_through_links_too(disk: Disk, source: str) -> None:
    (disk.root / "in/link.mp4").symlink_to(disk.root / "in/sub/deep.mp4")
    (disk.root / "in/folder").symlink_to("sub")
    disk.write("allowed/x", "12345")
    (disk.root / "roots").symlink_to("in")
    found = Places([disk.root / "roots", disk.root / "allowed"]).find(disk.root / source)
    state = (disk.root / source).stat()
    assert found == SourceFile.of(state) == look_at(disk.root / source)


def _link_to_file(source: Path, outside: Path) -> None:
    source.symlink_to(outside / "clip.mp4")


def _link_to_nothing(source: Path, outside: Path) -> None:
    source.symlink_to(outside / "missing.mp4")


def _link_by_way_of(source: Path, outside: Path) -> None:
    (source.parent / "hop").symlink_to(outside)
    source.symlink_to("hop/clip.mp4")


@pytest.mark.parametrize("link", [_link_to_file, _link_to_nothing, _link_by_way_of])
def test_a_link_does_not_lead_out_of_the_roots(disk: Disk, link: Callable[[Path, Path], None]) -> None:
    source = disk.root / "in/link.mp4"
    link(source, disk.root / "outside")
    with pytest.raises(RowRejected, match="add the folder to allowed_roots") as caught:
        Places([disk.root / "in"]).find(source)
    assert caught.value.kind == "outside roots"
    assert str(disk.root / "outside") in caught.value.reason
    both = Places([disk.root / "in", disk.root / "outside"])
    assert (both.find(source) is None) == (link is _link_to_nothing)


@pytest.mark.parametrize("source", ["outside/clip.mp4", "outside/missing.mp4", "in2/x.mp4", "in/folder/clip.mp4"])
def test_a_path_outside_the_roots_tells_nothing_of_what_is_there(disk: Disk, source: str) -> None:
    disk.clips("in2/x.mp4")
    (disk.root / "in/folder").symlink_to(disk.root / "outside")
    with pytest.raises(RowRejected) as caught:
        Places([disk.root / "in"]).find(disk.root / source)
    assert caught.value.kind == "outside roots"


@pytest.mark.parametrize("source", ["in/missing.mp4", "in/missing/clip.mp4", "in/clip.mp4/clip.mp4", "in/dangling.mp4"])
def test_a_file_that_is_not_there_yet_is_no_mistake(disk: Disk, source: str) -> None:
    (disk.root / "in/dangling.mp4").symlink_to("missing.mp4")
    assert Places([disk.root / "in"]).find(disk.root / source) is None
    assert look_at(disk.root / source) is None


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (Path.mkdir, "no file"),
        (os.mkfifo, "no file"),
        (lambda path: path.symlink_to("sub"), "no file"),
        (lambda path: path.symlink_to(path.name), "no file"),
    ],
    ids=["folder", "FIFO", "link to a folder", "link to itself"],
)
def test_what_is_no_file_is_not_waited_for(disk: Disk, make: Callable[[Path], None], kind: str) -> None:
    source = disk.root / "in/x.mp4"
    make(source)
    with pytest.raises(RowRejected, match="not a regular file") as caught:
        Places([disk.root / "in"]).find(source)
    assert caught.value.kind == kind


def test_a_name_that_the_disk_does_not_take_is_refused_with_its_reason(disk: Disk) -> None:
    with pytest.raises(RowRejected, match="cannot be looked at: File name too long") as caught:
        Places([disk.root / "in"]).find(disk.root / "in" / f"{'x' * 300}.mp4")
    assert caught.value.kind == "bad path"


@pytest.mark.parametrize("src", ["/etc/passwd", "../outside/clip.mp4", "link.mp4", "folder", "missing.mp4", "a\0.mp4"])
def test_a_manifest_from_elsewhere_reads_no_file_that_is_not_its_dataset_s(disk: Disk, src: str) -> None:
    (disk.root / "in/link.mp4").symlink_to("../outside/clip.mp4")
    (disk.root / "in/folder").mkdir()
    disk.ingest(disk.jsonl("clip.mp4", src, path="in/manifest.jsonl"))
    assert list(disk.listed()) == ["clip.mp4"]
    ((line, _),) = disk.rejects()
    assert line == 2
    assert disk.tables.contents.read().is_empty()


def test_a_folder_that_was_allowed_is_read(disk: Disk) -> None:
    (disk.root / "in/link.mp4").symlink_to("../outside/clip.mp4")
    dataset = disk.jsonl("clip.mp4", "link.mp4", path="in/manifest.jsonl")
    disk.ingest(dataset, allowed_roots=[disk.root / "outside"])
    assert list(disk.listed()) == ["clip.mp4", "link.mp4"]
