import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dagster._core.definitions.partitions.utils.base import (
    raise_error_on_duplicate_partition_keys,
    raise_error_on_invalid_partition_key_substring,
)

from frnr_assets.corpus import store
from frnr_assets.corpus.dataset import Columns, Dataset
from frnr_assets.corpus.ingest import MAX_DOWNLOAD_ATTEMPTS, DatasetRefused, forgetting, to_download, what_changed
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.corpus.tables import Tables
from frnr_assets_tests.corpus.manifests import Disk

URL = "https://host/clip.mp4"
NOTHING = {
    "new clips": 0,
    "clips with another file": 0,
    "clips with another MOS": 0,
    "clips back": 0,
    "clips removed": 0,
}


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    disk = Disk(tmp_path)
    disk.clips("k/a.mp4", "k/b.mp4", "k/c.mp4", "l/d.mp4")
    return disk


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    found = {str(path): path.stat() for path in (folder / "data").rglob("*.parquet")}
    return {path: (state.st_ino, state.st_mtime_ns) for path, state in found.items()}


def _rated(*clips: str, mos: float = 3.0, **more: Any) -> list[dict[str, Any]]:
    return [{"src": f"{clip}.mp4", "mos": mos, **more} for clip in clips]


class TestNothingIsLost:
    """Every row of every manifest is a clip or a reject."""

    @pytest.fixture
    def nasty(self, disk: Disk) -> list[bytes]:
        """Rows of JSON Lines, of which some are good alone, some together with others, and some never."""
        for path, content in {"same": "a" * 9, "copy": "a" * 9, "other": "b" * 9, "empty": "", "void": ""}.items():
            disk.write(f"k/{path}.mp4", content)
        for path in ("x/stem.mp4", "y/stem.mp4", "...mp4", "|.mp4", f"{'n' * 250}.mp4", "'a', \"b\" [c].mp4", "é.mp4"):
            disk.clips(f"k/{path}")
        (disk.root / "k/link.mp4").symlink_to("other.mp4")
        (disk.root / "k/out.mp4").symlink_to(disk.root / "l/d.mp4")
        (disk.root / "k/twin.mp4").hardlink_to(disk.root / "k/other.mp4")
        (disk.root / "k/folder.mp4").mkdir()
        os.mkfifo(disk.root / "k/pipe.mp4")
        sources = [str(path.relative_to(disk.root / "k")) for path in (disk.root / "k").rglob("*.mp4")]
        sources += ["missing.mp4", "../l/d.mp4", "/etc/passwd", "a\0.mp4", "two\u2028lines.mp4", "", ".", "./a.mp4"]
        rows = [json.dumps({"src": src}).encode() for src in sources]
        rows += [json.dumps({"src": "a.mp4", "mos": mos}).encode() for mos in (0.5, 3, "1_0", "\u0663", True, "")]
        rows += [json.dumps({"src": f"{name}.mp4", "url": URL}).encode() for name in ("far", "far", "a", "../far")]
        rows += [b'{"src": "b.mp4", "mos": NaN}', b'{"src": "b.mp4", "src": "b.mp4"}', b'{"src": "\\ud800"}']
        return [
            *rows,
            b"{",
            b"null",
            b"[" * 9999,
            b"\xff",
            b"",
            b" \t",
            b'{"src": "c.mp4", "x": "\xe2\x80\xa8"}',
            b"\0",
        ]

    @pytest.mark.parametrize("seed", range(12))
    def test_whatever_a_manifest_holds(self, disk: Disk, nasty: list[bytes], seed: int) -> None:
        chance = random.Random(seed)
        good = b'{"src": "always.mp4", "mos": 2}'
        disk.clips("k/always.mp4")
        for _ in range(3):
            rows = [good, *chance.choices(nasty, k=chance.randrange(80))]
            chance.shuffle(rows)
            line_end = chance.choice([b"\n", b"\r\n"])
            dataset = disk.dataset("k/m.jsonl", chance.choice([b"", b"\xef\xbb\xbf"]) + line_end.join(rows))
            ingested = disk.ingest(dataset)
            clips, rejects = disk.tables.listed_clips(), disk.tables.rejects.read()
            lines = [number for number, row in enumerate(rows, start=1) if row.strip()]
            # A clip that keeps its values is there with the line of the row that was rejected.
            assert sorted({*clips["line"], *rejects["line"]}) == lines
            assert len(rejects) == rejects["line"].n_unique() == sum(ingested.rejects.values())
            assert len(clips) == clips["line"].n_unique() == ingested.listed["k"]
            assert ingested.clips == tuple(clips["clip"])
            assert all(rejects["reason"].str.len_chars() > 10)
            assert clips.filter(clips["name"] == "always.mp4")["mos"].to_list() == [2.0]
            known = disk.tables.clips.read()
            raise_error_on_duplicate_partition_keys(known["clip"].to_list())
            raise_error_on_invalid_partition_key_substring(known["clip"].to_list())
            before = _files(disk.root)
            assert disk.ingest(dataset).changes == NOTHING
            assert _files(disk.root) == before
            assert what_changed([dataset], disk.tables) == []

    @pytest.mark.parametrize(("mos", "kept"), [(1.0, True), (5.0, True), (5.000001, False), (0.99, False)])
    def test_a_mos_is_judged_by_the_scale_of_its_dataset(self, disk: Disk, mos: float, kept: bool) -> None:
        disk.ingest(disk.jsonl(*_rated("a"), {"src": "b.mp4", "mos": mos}))
        assert ("b.mp4" in disk.listed()) == kept
        assert disk.reasons() == ([] if kept else [f"MOS is {mos}, not within the declared scale 1 to 5"])

    def test_a_clip_that_is_listed_twice_counts_once(self, disk: Disk) -> None:
        rows = [*_rated("a", mos=9), *_rated("a", mos=2), {"src": f"{disk.root}/k/./a.mp4", "mos": 4}, *_rated("b")]
        disk.ingest(disk.jsonl(*rows))
        assert [row["mos"] for row in disk.listed().values()] == [2.0, 3.0]
        assert disk.rejects() == [(1, "bad MOS"), (3, "listed twice")]
        assert f"in line 2 of {disk.root / 'k/manifest.jsonl'}" in disk.reasons()[1]

    @pytest.mark.parametrize("reason", ["bad MOS", "no file", "malformed"])
    def test_a_dataset_that_is_not_the_declared_one_is_refused_with_its_first_reason(
        self, disk: Disk, reason: str
    ) -> None:
        disk.ingest(disk.jsonl(*_rated("a")), disk.jsonl(*_rated("d"), path="l/m.jsonl"))
        before = disk.listed()["d.mp4"]
        bad = {"bad MOS": _rated("d", "e", mos=73.5), "no file": _rated("x", "y"), "malformed": [{}, {"mos": 1}]}
        with pytest.raises(DatasetRefused, match=r"l/m\.jsonl: none of its rows can be used; line 1: ") as caught:
            disk.ingest(disk.jsonl(*_rated("a", "b")), disk.jsonl(*bad[reason], path="l/m.jsonl"))
        assert disk.rejects() == [(1, reason), (2, reason)]
        assert disk.reasons()[0] in str(caught.value)
        assert disk.listed()["d.mp4"]["mos"] == before["mos"]
        assert sorted(disk.listed()) == ["a.mp4", "b.mp4", "d.mp4"], "the other dataset is up to date"
        assert caught.value.ingestion.changes == NOTHING | {"new clips": 1}

    def test_without_a_dataset_a_person_is_told_what_to_configure(self, disk: Disk) -> None:
        with pytest.raises(ManifestError, match=r"add \[\[datasets\]\]"):
            disk.ingest()


class TestIncremental:
    """What has changed is seen, and nothing else is touched."""

    def test_ingesting_again_writes_nothing(self, disk: Disk) -> None:
        disk.write("k/copy.mp4", (disk.root / "k/a.mp4").read_bytes())
        datasets = disk.jsonl(*_rated("a", "b", "copy"), {}), disk.jsonl(*_rated("d"), path="l/m.jsonl")
        assert disk.ingest(*datasets).changes == NOTHING | {"new clips": 3}
        before, stamp = _files(disk.root), disk.tables.clips.stamp()
        assert disk.ingest(*datasets).changes == NOTHING
        assert _files(disk.root) == before
        assert disk.tables.clips.stamp() == stamp

    @pytest.mark.parametrize(
        ("change", "counted"),
        [
            (lambda disk: disk.jsonl(*_rated("a", "b", "c")), {"new clips": 1}),
            (lambda disk: disk.jsonl(*_rated("a"), *_rated("b", mos=4)), {"clips with another MOS": 1}),
            (lambda disk: disk.jsonl(*_rated("a"), "b.mp4"), {"clips with another MOS": 1}),
            (lambda disk: disk.jsonl(*_rated("a")), {"clips removed": 1}),
            (lambda disk: disk.jsonl(*_rated("b", "a", split="test")), {}),
            (lambda disk: disk.write("k/b.mp4", "another file"), {"clips with another file": 1}),
            (lambda disk: os.utime(disk.root / "k/b.mp4", (1, 1)), {"clips with another file": 1}),
        ],
        ids=["new", "corrected MOS", "withdrawn MOS", "removed", "other columns", "replaced", "touched"],
    )
    def test_each_change_is_counted_once(
        self, disk: Disk, change: Callable[[Disk], object], counted: dict[str, int]
    ) -> None:
        dataset = disk.jsonl(*_rated("a", "b"))
        disk.ingest(dataset)
        change(disk)
        assert disk.ingest(dataset).changes == NOTHING | counted
        assert disk.ingest(dataset).changes == NOTHING
        state = (disk.root / "k/a.mp4").stat()
        assert (disk.listed()["a.mp4"]["size_bytes"], disk.listed()["a.mp4"]["mtime_ns"]) == (
            state.st_size,
            state.st_mtime_ns,
        )

    def test_a_clip_that_was_removed_is_kept_and_comes_back(self, disk: Disk) -> None:
        disk.ingest(disk.jsonl(*_rated("b", "a")))
        before = disk.listed()["b.mp4"]
        assert disk.ingest(disk.jsonl(*_rated("a"))).clips == ("a",)
        (gone,) = (row for row in disk.tables.clips.read().iter_rows(named=True) if row["removed"])
        assert gone == before | {"removed": True}
        assert disk.ingest(disk.jsonl(*_rated("b", "a", mos=4))).changes["clips back"] == 1
        assert disk.listed()["b.mp4"] == before | {"mos": 4.0}

    @pytest.mark.parametrize(
        "row",
        [
            b'{"src": "b.mp4", "mos": 9}',
            b'{"src": "b.mp4", "mos": "n/a"}',
            b'{"src": "b.mp4", "mos": 3, "n_ratings": "?"}',
            b'{"src": "b.mp4", "mos": 3, "x": NaN}',
            b'{"src": "b.mp4", "mos": 3',
            b'{"src": "b\xff.mp4", "mos": 3}',
            b'{"src": "b\\u0000.mp4"}',
            b"{}",
        ],
    )
    def test_a_clip_whose_row_is_bad_now_keeps_its_values(self, disk: Disk, row: bytes) -> None:
        disk.ingest(disk.jsonl(*_rated("a", "b", "c")))
        before = disk.listed()
        dataset = disk.jsonl(*_rated("a", "b"))
        dataset.manifest.write_bytes(dataset.manifest.read_bytes().splitlines()[0] + b"\n" + row)
        for removed in (1, 0):
            assert disk.ingest(dataset).changes == NOTHING | {"clips removed": removed}
            assert disk.listed() == {name: before[name] for name in ("a.mp4", "b.mp4")}
            assert [line for line, _ in disk.rejects()] == [2]

    @pytest.mark.parametrize("mos", [9, "n/a"])
    def test_a_clip_that_keeps_its_values_is_listed_where_its_row_is_now(self, disk: Disk, mos: Any) -> None:
        disk.ingest(disk.jsonl(*_rated("a", "b")))
        before = disk.listed()["b.mp4"]
        disk.ingest(disk.jsonl(*_rated("a"), {}, *_rated("b", mos=mos)))
        assert disk.listed()["b.mp4"] == before | {"line": 3}
        assert disk.rejects() == [(2, "malformed"), (3, "bad MOS")]

    def test_a_clip_that_was_removed_long_ago_does_not_stand_for_a_row_that_went_bad(self, disk: Disk) -> None:
        disk.ingest(disk.jsonl(*_rated("a", "b")))
        disk.ingest(disk.jsonl(*_rated("a", "c")))
        disk.ingest(disk.jsonl(*_rated("a"), {}))
        assert list(disk.listed()) == ["a.mp4", "c.mp4"]

    def test_a_clip_that_was_removed_does_not_come_back_by_a_bad_row(self, disk: Disk) -> None:
        disk.ingest(disk.jsonl(*_rated("a", "b")))
        disk.ingest(disk.jsonl(*_rated("a")))
        assert disk.ingest(disk.jsonl(*_rated("a"), *_rated("b", mos=9))).changes == NOTHING
        assert list(disk.listed()) == ["a.mp4"]

    def test_a_row_that_went_bad_in_a_manifest_of_two_datasets_costs_neither_its_clip(self, disk: Disk) -> None:
        disk.clips("l/a.mp4", "l/b.mp4")
        k = disk.jsonl(*_rated("a", "b"))
        both = k, k.model_copy(update={"name": "l", "clips_root": disk.root / "l"})
        disk.ingest(*both)
        disk.jsonl(*_rated("a"), {})
        assert disk.ingest(*both).changes == NOTHING
        assert disk.tables.listed_clips()["dataset"].sort().to_list() == ["k", "k", "l", "l"]

    def test_a_clip_whose_file_is_away_keeps_its_place(self, disk: Disk) -> None:
        dataset = disk.jsonl(*_rated("a", "b"))
        disk.ingest(dataset)
        before = disk.listed()
        (disk.root / "k/b.mp4").rename(disk.root / "away")
        assert disk.ingest(dataset).changes == NOTHING
        assert disk.listed()["b.mp4"] == before["b.mp4"] | {"size_bytes": None, "mtime_ns": None}
        assert disk.rejects() == []
        (disk.root / "away").rename(disk.root / "k/b.mp4")
        assert disk.ingest(dataset).changes == NOTHING
        assert disk.listed() == before

    def test_a_dataset_taken_out_of_the_configuration_takes_its_clips_along(self, disk: Disk) -> None:
        datasets = disk.jsonl(*_rated("a", "b")), disk.jsonl(*_rated("d"), path="l/m.jsonl")
        disk.ingest(*datasets)
        assert disk.ingest(datasets[1]).changes == NOTHING | {"clips removed": 2}
        assert list(disk.listed()) == ["d.mp4"]
        assert disk.ingest(*datasets).changes == NOTHING | {"clips back": 2}

    @pytest.mark.parametrize(
        "spoil",
        [
            Path.unlink,
            lambda manifest: manifest.write_bytes(b""),
            lambda manifest: manifest.write_bytes("\ufeff{}".encode("utf-16-le")),
            lambda manifest: manifest.parent.rename(manifest.parent.with_name("unmounted")),
        ],
        ids=["missing", "empty", "UTF-16", "folder not mounted"],
    )
    def test_a_manifest_that_cannot_be_read_costs_no_clip_and_holds_up_no_other_dataset(
        self, disk: Disk, spoil: Callable[[Path], object]
    ) -> None:
        datasets = disk.jsonl(*_rated("a", "b")), disk.jsonl(*_rated("d"), path="l/m.jsonl")
        disk.ingest(*datasets)
        before = disk.listed()["d.mp4"]
        disk.jsonl(*_rated("a"))
        spoil(datasets[1].manifest)
        for changes in (NOTHING | {"clips removed": 1}, NOTHING):
            with pytest.raises(DatasetRefused, match=str(disk.root / "l")) as caught:
                disk.ingest(*datasets)
            assert caught.value.ingestion.changes == changes
            assert list(disk.listed()) == ["a.mp4", "d.mp4"]
            assert disk.listed()["d.mp4"] == before


INGESTING = """
import sys
from pathlib import Path
from frnr_assets_tests.corpus.manifests import Disk

disk, name, rounds = Disk(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
for count in range(1, rounds + 1):
    disk.clips(f"{name}/{count}.mp4")
    dataset = disk.jsonl(*(f"{number}.mp4" for number in range(1, count + 1)), path=f"{name}/m.jsonl")
    print(*disk.ingest(dataset).clips, flush=True)
"""


def test_two_ingestions_at_once_lose_no_clip_and_change_no_key(tmp_path: Path) -> None:
    # Each knows only its own dataset: what one writes, the other has to keep, and no key may be given twice.
    rounds = 12
    argv = [sys.executable, "-c", INGESTING, str(tmp_path)]
    processes = {
        name: subprocess.Popen(
            [*argv, name, str(rounds)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        for name in ("k", "l")
    }
    reported = {name: process.communicate()[0].splitlines() for name, process in processes.items()}
    known = Disk(tmp_path).tables.clips.read()
    assert known["clip"].is_unique().all()
    for name, lines in reported.items():
        clips = known.filter(known["dataset"] == name)
        keys = dict(clips.select("name", "clip").iter_rows())
        expected = [keys[f"{number}.mp4"] for number in range(1, rounds + 1)]
        assert [line.split() for line in lines] == [expected[:count] for count in range(1, rounds + 1)]
        assert len(clips) == rounds


class TestWhatChanged:
    @pytest.fixture
    def datasets(self, disk: Disk) -> list[Dataset]:
        datasets = [disk.jsonl(*_rated("a", "b", "missing")), disk.jsonl(*_rated("d"), path="l/m.jsonl")]
        manifests = [str(dataset.manifest) for dataset in datasets]
        assert what_changed(datasets, disk.tables) == ["the configuration of the datasets", *manifests]
        disk.ingest(*datasets)
        assert what_changed(datasets, disk.tables) == []
        return datasets

    @pytest.mark.parametrize(
        ("change", "seen"),
        [
            (lambda disk: disk.jsonl(*_rated("a", "b", "missinG")), ["k/manifest.jsonl"]),
            (lambda disk: disk.write("k/a.mp4", "content of k/x.mp4"), ["k/a.mp4"]),
            (lambda disk: (disk.root / "k/a.mp4").unlink(), ["k/a.mp4"]),
            (lambda disk: disk.clips("k/missing.mp4"), ["k/missing.mp4"]),
            (lambda disk: (disk.root / "l/m.jsonl").unlink(), ["l/m.jsonl"]),
            (lambda disk: (disk.clips("k/a.mp4"), disk.jsonl("d.mp4", path="l/m.jsonl")), ["l/m.jsonl", "k/a.mp4"]),
            (lambda disk: disk.clips("k/not listed.mp4"), []),
        ],
        ids=["edited", "replaced", "gone", "appeared", "manifest gone", "manifest first", "another file"],
    )
    def test_a_change_on_disk_is_seen_until_it_is_ingested(
        self, disk: Disk, datasets: list[Dataset], change: Callable[[Disk], object], seen: list[str]
    ) -> None:
        change(disk)
        for _ in range(2):
            assert what_changed(datasets, disk.tables) == [str(disk.root / path) for path in seen]
        if all(dataset.manifest.exists() for dataset in datasets):
            disk.ingest(*datasets)
            assert what_changed(datasets, disk.tables) == []

    def test_a_dataset_that_is_new_in_the_configuration_is_seen(self, disk: Disk, datasets: list[Dataset]) -> None:
        other = disk.jsonl(*_rated("c"), path="k/other.jsonl").model_copy(update={"name": "other"})
        seen = ["the configuration of the datasets", str(other.manifest)]
        assert what_changed([*datasets, other], disk.tables) == seen

    @pytest.mark.parametrize(
        "change",
        [{"mos_scale": (0.0, 3.5)}, {"columns": Columns(mos="rating")}, {"clips_root": Path("/elsewhere")}],
        ids=lambda change: next(iter(change)),
    )
    def test_another_setting_of_a_dataset_is_seen(
        self, disk: Disk, datasets: list[Dataset], change: dict[str, object]
    ) -> None:
        changed = [datasets[0].model_copy(update=change), datasets[1]]
        assert what_changed(changed, disk.tables) == ["the configuration of the datasets"]
        assert what_changed(datasets, disk.tables, [Path("/more")]) == ["the configuration of the datasets"]

    def test_another_scale_is_applied_although_no_file_has_changed(self, disk: Disk, datasets: list[Dataset]) -> None:
        disk.ingest(datasets[0], datasets[1].model_copy(update={"mos_scale": (1.0, 3.0)}))
        with pytest.raises(ManifestError, match=r"MOS is 3\.0, not within the declared scale 4 to 5"):
            disk.ingest(datasets[0], datasets[1].model_copy(update={"mos_scale": (4.0, 5.0)}))
        assert disk.ingest(*datasets).rejects == {"no file": 1}

    def test_what_a_full_disk_kept_out_of_the_table_of_clips_is_seen_again(
        self, disk: Disk, datasets: list[Dataset], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def write(table: pa.Table, path: Path) -> None:
            if path.name == "clips.parquet":
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            written(table, path)

        written = store.write_parquet
        disk.jsonl(*_rated("a", "b", mos=4))
        before = disk.listed()
        with monkeypatch.context() as full_disk:
            full_disk.setattr(store, "write_parquet", write)
            with pytest.raises(OSError, match="No space left"):
                disk.ingest(*datasets)
        assert disk.listed() == before
        assert what_changed(datasets, disk.tables) == [str(disk.root / "k/manifest.jsonl")]

    def test_a_dataset_that_was_refused_is_not_read_again_until_it_is_mended(
        self, disk: Disk, datasets: list[Dataset]
    ) -> None:
        disk.jsonl(*_rated("d", mos=50), path="l/m.jsonl")
        with pytest.raises(ManifestError, match="none of its rows"):
            disk.ingest(*datasets)
        assert what_changed(datasets, disk.tables) == []


class TestToDownload:
    @pytest.fixture
    def waiting(self, disk: Disk) -> Dataset:
        rows = [{"src": f"{clip}.mp4", "url": f"{URL}/{clip}"} for clip in ("a", "x", "y", "z")]
        return disk.jsonl(*rows, {"src": "no url.mp4"}, {"src": "x.mp4", "url": "https://elsewhere"})

    def _waiting(self, disk: Disk, *, retry_failed: bool = False) -> list[str]:
        found = to_download(disk.tables, retry_failed=retry_failed)
        assert all(url == f"{URL}/{Path(src).stem}" for src, url in found)
        return [str(Path(src).relative_to(disk.root / "k")) for src, _ in found]

    def _failed(self, disk: Disk, clip: str, url: str | None = None, **more: Any) -> None:
        row = {"url": url or f"{URL}/{clip}", "size_bytes": None, "failure": "HTTP 503", "permanent": False, **more}
        disk.tables.downloads.append([{"src": str(disk.root / f"k/{clip}.mp4"), **row}])

    def test_missing_sources_with_an_address_wait(self, disk: Disk, waiting: Dataset) -> None:
        assert self._waiting(disk) == []
        disk.ingest(waiting)
        assert self._waiting(disk) == ["x.mp4", "y.mp4", "z.mp4"]
        kinds = ["not downloaded", "not downloaded", "not downloaded", "no file", "listed twice"]
        assert disk.rejects() == list(enumerate(kinds, start=2))
        disk.clips("k/y.mp4")
        assert disk.ingest(waiting).changes["new clips"] == 1
        assert self._waiting(disk) == ["x.mp4", "z.mp4"]

    def test_a_dataset_of_which_nothing_is_downloaded_yet_is_not_refused(self, disk: Disk) -> None:
        disk.ingest(disk.jsonl(*({"src": f"{clip}.mp4", "url": f"{URL}/{clip}"} for clip in "xy")))
        assert self._waiting(disk) == ["x.mp4", "y.mp4"]
        assert disk.listed() == {}

    @pytest.mark.parametrize(
        ("failed", "given_up"),
        [
            ({"permanent": True, "attempts": 1}, True),
            ({"attempts": MAX_DOWNLOAD_ATTEMPTS}, True),
            ({"attempts": MAX_DOWNLOAD_ATTEMPTS - 1}, False),
            ({"permanent": True, "attempts": 9, "url": "https://former.address"}, False),
            ({"failure": None, "size_bytes": 7, "attempts": 9}, False),
        ],
        ids=["for good", "too often", "not too often", "from another address", "not at all, and the file is gone"],
    )
    def test_a_download_that_failed_for_good_waits_for_a_person(
        self, disk: Disk, waiting: Dataset, failed: dict[str, Any], given_up: bool
    ) -> None:
        disk.ingest(waiting)
        self._failed(disk, "y", **failed)
        rest = ["x.mp4", "z.mp4"] if given_up else ["x.mp4", "y.mp4", "z.mp4"]
        assert self._waiting(disk) == rest
        disk.ingest(waiting)
        assert ((3, "download failed") in disk.rejects()) == given_up
        assert any("HTTP 503; when that is mended" in reason for reason in disk.reasons()) == given_up
        assert self._waiting(disk) == rest
        assert self._waiting(disk, retry_failed=True) == ["x.mp4", "y.mp4", "z.mp4"]

    def test_a_clip_whose_file_vanished_is_downloaded_again(self, disk: Disk, waiting: Dataset) -> None:
        disk.clips(*(f"k/{clip}.mp4" for clip in "xyz"))
        disk.ingest(waiting)
        assert self._waiting(disk) == []
        for clip in "ay":
            (disk.root / f"k/{clip}.mp4").unlink()
        disk.ingest(waiting)
        assert self._waiting(disk) == ["a.mp4", "y.mp4"]
        self._failed(disk, "y", permanent=True, attempts=1)
        assert self._waiting(disk) == ["a.mp4"]
        disk.ingest(disk.jsonl(*_rated("x")))
        assert self._waiting(disk, retry_failed=True) == []


class TestForget:
    @pytest.fixture
    def tables(self, disk: Disk) -> Tables:
        disk.ingest(disk.jsonl(*_rated("a", "b", "c")))
        disk.ingest(disk.jsonl(*_rated("b")))
        return disk.tables

    @pytest.mark.parametrize(
        ("clips", "gone"), [(None, ["a", "c"]), (["c"], ["c"]), (["c", "a"], ["c", "a"]), ([], [])]
    )
    def test_removed_clips_go_for_good(
        self, disk: Disk, tables: Tables, clips: list[str] | None, gone: list[str]
    ) -> None:
        listed = disk.listed()
        with forgetting(tables, clips) as found:
            assert found == gone
        assert set(disk.keys().values()) == {"a", "b", "c"} - set(gone)
        assert disk.listed() == listed
        assert disk.ingest(disk.jsonl(*_rated("a", "b", "c"))).changes["new clips"] == len(gone)

    @pytest.mark.parametrize(("clips", "named"), [(["a", "b"], "b"), (["typo", "a"], "typo"), (["x", "b"], "b, x")])
    def test_a_clip_that_is_listed_or_unknown_is_refused_by_name(
        self, disk: Disk, tables: Tables, clips: list[str], named: str
    ) -> None:
        before = _files(disk.root)
        refused = pytest.raises(ManifestError, match=f"^{named}: not a clip that was removed")
        with refused, forgetting(tables, clips):
            pass
        assert _files(disk.root) == before

    def test_before_anything_was_ingested_there_is_nothing_to_forget(self, disk: Disk) -> None:
        with forgetting(disk.tables, None) as found:
            assert found == []
        assert not disk.tables.clips.exists()
        with pytest.raises(ManifestError, match="not a clip"), forgetting(disk.tables, ["a"]):
            pass
