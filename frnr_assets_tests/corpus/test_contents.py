import errno
import hashlib
import os
from pathlib import Path

import pytest

from frnr_assets.corpus.contents import Contents
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.corpus.places import SourceFile, look_at
from frnr_assets_tests.corpus.manifests import Disk

MIDDLE = 64 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def _big(middle: bytes) -> bytes:
    return b"head" * MIDDLE + middle + b"tail" * MIDDLE


def _files(disk: Disk, **contents: bytes) -> list[tuple[str, SourceFile]]:
    files = []
    for name, content in contents.items():
        path = disk.write(name, content)
        state = look_at(path)
        assert state is not None
        files.append((str(path), state))
    return files


@pytest.mark.parametrize(
    ("contents", "groups"),
    [
        ({"a": b"x", "b": b"y", "c": b"x"}, [[0, 2]]),
        ({"a": b"x", "b": b"xx", "c": b"x "}, []),
        ({"a": b"x", "b": b"y", "c": b"y", "d": b"x", "e": b"x"}, [[0, 3, 4], [1, 2]]),
        ({"a": _big(b"same"), "b": _big(b"same")}, [[0, 1]]),
        ({"a": _big(b"left"), "b": _big(b"rite"), "c": _big(b"rite")}, [[1, 2]]),
        ({"a": b"", "b": b"", "c": b""}, []),
        ({}, []),
    ],
    ids=["small", "of other sizes", "two groups", "big", "only the ends are equal", "empty files", "no file"],
)
def test_only_files_that_are_equal_throughout_count_as_one(
    disk: Disk, contents: dict[str, bytes], groups: list[list[int]]
) -> None:
    found, unreadable = Contents([], [disk.root]).equal(_files(disk, **contents))
    assert sorted(found) == groups
    assert unreadable == {}


def test_a_file_of_its_own_size_is_not_read(disk: Disk) -> None:
    files = [("/nowhere/a", SourceFile(5, 1, 1, 1)), *_files(disk, b=b"four", c=b"four", d=b"with ends of its own")]
    contents = Contents([], [disk.root])
    assert contents.equal(files) == ([[1, 2]], {})
    assert [row["src"] for row in contents.rows()] == [src for src, _ in files[1:3]]


@pytest.mark.parametrize("equal_ends", [False, True])
def test_a_file_that_cannot_be_read_costs_only_itself(disk: Disk, equal_ends: bool) -> None:
    files = [("/nowhere/a", SourceFile(4, 1, 1, 1)), *_files(disk, b=b"four", c=b"four")]
    ends = hashlib.sha256(b"fourfour").hexdigest()
    known = {"src": "/nowhere/a", "size_bytes": 4, "mtime_ns": 1, "ends_sha256": ends, "sha256": None}
    groups, unreadable = Contents([known] if equal_ends else [], [disk.root]).equal(files)
    assert groups == [[1, 2]]
    assert {position: (found.kind, found.reason) for position, found in unreadable.items()} == {
        0: ("no file", "/nowhere/a could not be read: No such file or directory")
    }


def test_a_file_that_has_not_changed_is_not_read_again(disk: Disk) -> None:
    files = _files(disk, a=b"same", b=b"same", c=b"diff")
    first = Contents([], [disk.root])
    first.equal(files)
    for src, _ in files:
        Path(src).unlink()
    again = Contents(first.rows(), [disk.root])
    assert again.equal(files) == ([[0, 1]], {})
    assert again.rows() == first.rows()


def test_a_file_that_has_changed_is_read_again(disk: Disk) -> None:
    a, b = _files(disk, a=b"same", b=b"same")
    first = Contents([], [disk.root])
    assert first.equal([a, b]) == ([[0, 1]], {})
    second = Contents(first.rows(), [disk.root])
    changed = _files(disk, b=b"diff")
    assert second.equal([a, *changed]) == ([], {})
    assert Contents(second.rows(), [disk.root]).equal([a, *_files(disk, b=b"same")]) == ([[0, 1]], {})


def test_a_hard_link_is_the_same_content(disk: Disk) -> None:
    ((src, state),) = _files(disk, a=b"same")
    os.link(src, disk.root / "b")
    assert Contents([], [disk.root]).equal([(src, state), (str(disk.root / "b"), state)]) == ([[0, 1]], {})


def test_what_is_not_asked_about_any_more_is_forgotten(disk: Disk) -> None:
    files = _files(disk, a=b"same", b=b"same", c=b"same")
    first = Contents([], [disk.root])
    first.equal(files)
    second = Contents(first.rows(), [disk.root])
    second.equal(files[1:])
    assert [row["src"] for row in second.rows()] == [src for src, _ in files[1:]]


@pytest.mark.parametrize("same", ["copy", "hard link", "link"])
def test_an_upload_under_two_names_counts_once_even_across_datasets(disk: Disk, same: str) -> None:
    disk.clips("k/a.mp4", "k/b.mp4", "l/d.mp4")
    original, copy = disk.root / "k/a.mp4", disk.root / "l/copy.mp4"
    if same == "copy":
        disk.write("l/copy.mp4", original.read_bytes())
    else:
        (copy.hardlink_to if same == "hard link" else copy.symlink_to)(original)
    datasets = disk.jsonl("a.mp4", "b.mp4"), disk.jsonl("copy.mp4", "d.mp4", path="l/m.jsonl")
    disk.ingest(*datasets)
    assert list(disk.listed()) == ["a.mp4", "b.mp4", "d.mp4"]
    assert disk.rejects() == [(1, "same content")]
    assert disk.reasons() == [f"its content is that of {original}"]


def test_a_known_clip_is_not_ousted_by_a_copy_that_is_listed_before_it(disk: Disk) -> None:
    disk.clips("k/a.mp4", "k/b.mp4")
    disk.ingest(disk.jsonl("b.mp4", "a.mp4"))
    disk.write("k/copy.mp4", (disk.root / "k/a.mp4").read_bytes())
    dataset = disk.jsonl("copy.mp4", "b.mp4", "a.mp4")
    for _ in range(2):
        disk.ingest(dataset)
        assert list(disk.listed()) == ["b.mp4", "a.mp4"]
        assert disk.rejects() == [(1, "same content")]


def test_a_known_clip_that_the_disk_does_not_give_now_keeps_its_values(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, _: int) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    disk.clips("k/a.mp4", "k/b.mp4")
    disk.ingest(disk.jsonl("a.mp4", "b.mp4"))
    before = disk.listed()
    (disk.root / "data/tables/contents.parquet").unlink()
    with monkeypatch.context() as broken_disk:
        broken_disk.setattr("frnr_assets.corpus.contents._ends_sha256", fail)
        with pytest.raises(ManifestError, match="could not be read: Input/output error"):
            disk.ingest(disk.jsonl("a.mp4", "b.mp4"))
        disk.write("k/well.mp4", "of a size that no other has")
        changes = disk.ingest(disk.jsonl("a.mp4", "b.mp4", "well.mp4")).changes
    assert (changes["new clips"], changes["clips removed"]) == (1, 0)
    assert disk.listed().items() > before.items()
    assert disk.rejects() == [(1, "no file"), (2, "no file")]


def test_the_file_of_one_clip_in_place_of_another_s_is_not_measured_twice(disk: Disk) -> None:
    disk.clips("k/a.mp4", "k/b.mp4")
    dataset = disk.jsonl("a.mp4", "b.mp4")
    disk.ingest(dataset)
    disk.write("k/a.mp4", (disk.root / "k/b.mp4").read_bytes())
    assert disk.ingest(dataset).changes["clips removed"] == 1
    assert list(disk.listed()) == ["b.mp4"], "the clip whose file has not changed stays"
    assert disk.rejects() == [(1, "same content")]
    disk.clips("k/a.mp4")
    assert disk.ingest(dataset).changes["clips back"] == 1
