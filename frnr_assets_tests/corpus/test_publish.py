import itertools
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import FrameType
from typing import Any

import duckdb
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frnr_assets.corpus.publish import (
    KEEP_VERSIONS,
    ROW_GROUP_ROWS,
    CorpusInvalid,
    CorpusMissing,
    Publication,
    current_version,
    find_version,
    publish,
    published_rows,
    read_version,
    sources_file,
    version_files,
)
from frnr_assets.corpus.schema import ROW_SCHEMA, SOURCES_SCHEMA
from frnr_assets.corpus.store import to_polars
from frnr_assets.vocabulary import CAVEAT
from frnr_assets_tests.corpus.rows import (
    MOS_SCALE,
    SWEEP,
    corpus_frame,
    feature_row,
    labelled,
    rows_to_publish,
    sweep_rows,
)

FIRST_SECOND = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def _publish(rows: pl.DataFrame, folder: Path) -> Publication:
    return publish(labelled(rows), folder, sweep=SWEEP, mos_scale=MOS_SCALE)


def _corpus(*clips: str) -> pl.DataFrame:
    return corpus_frame(sweep_rows(*clips))


def _files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def _at(monkeypatch: pytest.MonkeyPatch, seconds: Sequence[float]) -> None:
    """Let each publication happen at another second after the first, and the last of them for ever."""
    moments = itertools.chain(seconds, itertools.repeat(seconds[-1]))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":  # noqa: ARG003
            # Asked for twice in a publication: for the name and for the metadata.
            return cls.fromtimestamp((FIRST_SECOND + timedelta(seconds=next(moments))).timestamp(), UTC)

    monkeypatch.setattr("frnr_assets.corpus.publish.datetime", Clock)


@pytest.fixture
def a_second_each(monkeypatch: pytest.MonkeyPatch) -> None:
    _at(monkeypatch, range(1000))


def test_what_is_read_back_is_what_was_measured(tmp_path: Path) -> None:
    rows = corpus_frame(
        [
            feature_row("b", 28, nr_mos=None, extra_params=["-tune", "film"], src="/é 1.mp4", nr_source="/é 1.mp4"),
            feature_row("b", 18, vmaf_score=0.1 + 0.2, encode_size_bytes=2**40),
            *sweep_rows("a"),
        ]
    )
    publication = _publish(rows.sample(fraction=1, shuffle=True, seed=1), tmp_path)
    assert publication.rows == 5
    assert publication.size_bytes == sum(file.stat().st_size for file in publication.path.rglob("*.parquet"))
    table = read_version(publication.path)
    assert table.schema.equals(ROW_SCHEMA)
    assert to_polars(table).equals(rows.sort("crf", "src"))


def test_columns_that_are_not_in_the_contract_stay_behind(tmp_path: Path) -> None:
    rows = _corpus("a").select(pl.lit("a").alias("clip"), pl.all().reverse(), pl.lit(1).alias("recorded_ns"))
    publication = _publish(rows.select(reversed(rows.columns)), tmp_path)
    assert read_version(publication.path).schema.names == ROW_SCHEMA.names


@pytest.mark.parametrize("sweep", [(18, 23, 38), (5, 18, 40)], ids=str)
def test_rows_come_in_the_order_of_crf_and_source(tmp_path: Path, sweep: Sequence[int]) -> None:
    rows = rows_to_publish(sweep_rows("b", "c", "a", sweep=sweep))
    publication = publish(rows, tmp_path, sweep=sweep, mos_scale=MOS_SCALE)
    assert {folder.name for folder in publication.path.iterdir()} == {f"crf={crf}" for crf in sweep}
    found = to_polars(read_version(publication.path)).select("crf", "src").rows()
    assert found == [(crf, f"/clips/{clip}.mp4") for crf in sweep for clip in "abc"]


def test_every_single_file_says_what_its_rows_are_worth(tmp_path: Path) -> None:
    rows = [
        row | {"ffmpeg_version": "n9.0.2" if row["crf"] == 18 else "n8.1"} | {"encoder_version": "libx264-165"}
        for row in sweep_rows("a", "b")
    ]
    publication = _publish(corpus_frame(rows), tmp_path)
    files = list(publication.path.rglob("*.parquet"))
    assert len(files) == len(SWEEP)
    for file in files:
        found = {key.decode(): value.decode() for key, value in (pq.read_metadata(file).metadata or {}).items()}
        assert found["caveat"] == CAVEAT
        assert found["schema_version"] == "3"
        assert json.loads(found["crf_sweep"]) == list(SWEEP)
        assert found["rows"] == "6"
        assert found["ffmpeg_version"] == "n8.1, n9.0.2"
        assert found["encoder_version"] == "libx264-165"
        assert (found["encoder"], found["preset"]) == ("encoder", "preset")
        assert (found["vmaf_model"], found["vmaf_binary_version"]) == ("vmaf_model", "vmaf_binary_version")
        published = datetime.fromisoformat(found["published"])
        assert published.utcoffset() == timedelta(0)
        schema = pq.read_schema(file)
        assert all((field.metadata or {}).get(b"description") for field in schema)
    assert published_rows(read_version(publication.path).schema) == 6


def test_what_a_filter_of_a_trainer_needs_is_in_the_files_footers(tmp_path: Path) -> None:
    rows = corpus_frame([feature_row(f"{clip:06}", extra_params=["-tune", "film"]) for clip in range(2000)])
    many = pl.concat([rows.with_columns(src=pl.format("/{}{}", pl.lit(part), "src")) for part in range(35)])
    publication = _publish(many.with_columns(nr_source="src", src_sha256="src"), tmp_path)
    (file,) = version_files(publication.path)
    metadata = pq.read_metadata(file)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [ROW_GROUP_ROWS, 70_000 - ROW_GROUP_ROWS]
    by_src = [ROW_SCHEMA.names.index(name) for name in ("src", "encoder", "preset")]
    for group in groups:
        assert [column.column_index for column in group.sorting_columns] == by_src
        for column in (group.column(number) for number in range(group.num_columns)):
            assert column.compression == "ZSTD"
            assert column.is_stats_set
            if column.physical_type == "BYTE_ARRAY":
                assert column.has_dictionary_page, column.path_in_schema
    first, second = (group.column(by_src[0]).statistics for group in groups)
    assert first is not None
    assert second is not None
    assert str(first.max) < str(second.min)


def test_a_dataset_from_elsewhere_has_no_count_of_published_rows() -> None:
    assert published_rows(pa.table({"crf": [18]}).schema) == -1


@pytest.mark.parametrize("way", ["version", "current"])
@pytest.mark.parametrize("library", ["polars", "pandas", "duckdb"])
def test_a_trainer_reads_the_corpus_with_one_line(tmp_path: Path, library: str, way: str) -> None:
    # Paths of one digit: a Hive key read as text would sort and compare as text.
    rows = rows_to_publish(sweep_rows("a", "b", sweep=(5, 18, 28)))
    publication = publish(rows, tmp_path, sweep=(5, 18, 28), mos_scale=MOS_SCALE)
    version = publication.path if way == "version" else tmp_path / "current"
    if library == "polars":
        frame = pl.read_parquet(version)
        names, integer, crfs = frame.columns, frame.schema["crf"].is_integer(), frame["crf"].to_list()
    elif library == "pandas":
        table = pd.read_parquet(version, partitioning=None)
        names, integer, crfs = list(table.columns), table["crf"].dtype.kind == "i", table["crf"].tolist()
    else:
        found = duckdb.sql(f"select * from '{version}/**/*.parquet'")  # noqa: S608 - the folder is this test's own
        assert found is not None
        types = dict(zip(found.columns, map(str, found.types), strict=True))
        position = found.columns.index("crf")
        names, integer, crfs = (
            found.columns,
            types["crf"] in {"INTEGER", "BIGINT"},
            [row[position] for row in found.fetchall()],
        )
    assert names == ROW_SCHEMA.names
    assert integer
    assert sorted(crfs) == [5, 5, 18, 18, 28, 28]


def test_there_is_no_current_version_before_the_first_publication(tmp_path: Path) -> None:
    assert current_version(tmp_path) is None
    assert current_version(tmp_path / "missing") is None


def test_the_newest_publication_is_the_current_one(tmp_path: Path) -> None:
    for clips in ("a", "ab", "abc"):
        publication = _publish(_corpus(*clips), tmp_path)
        assert current_version(tmp_path) == publication.path
        assert len(read_version(publication.path)) == len(SWEEP) * len(clips)


def _invalid(change: Callable[[list[dict[str, Any]]], Any]) -> pl.DataFrame:
    rows = sweep_rows("a", "b", "c")
    change(rows)
    return corpus_frame(rows)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda rows: rows[4].update(vmaf_score=100.0001), CorpusInvalid),
        (lambda rows: rows[4].update(vmaf_score=float("nan")), CorpusInvalid),
        (lambda rows: rows[4].update(motion2_std=float("inf")), CorpusInvalid),
        (lambda rows: rows[4].update(nr_mos=17.0), CorpusInvalid),
        (lambda rows: rows[4].update(fr_from_nr=False), CorpusInvalid),
        (lambda rows: rows[4].update(nr_source="/clips/x.mp4"), CorpusInvalid),
        (lambda rows: rows.append(rows[4]), CorpusInvalid),
        (lambda rows: rows.clear(), CorpusInvalid),
        (lambda rows: rows[4].update(vmaf_score=None), ValueError),
        (lambda rows: rows[4].update(fr_from_nr=None), ValueError),
    ],
    ids=["range", "NaN", "infinite", "MOS", "mastered", "source", "twice", "no row", "null", "null flag"],
)
def test_a_broken_corpus_leaves_trainers_with_the_version_before(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any], error: type[Exception]
) -> None:
    before = _publish(_corpus("a"), tmp_path)
    files = _files(tmp_path)
    with pytest.raises(error):
        _publish(_invalid(change), tmp_path)
    assert current_version(tmp_path) == before.path
    # The folder's own time changes with what came and went in it.
    assert {name: time for name, time in _files(tmp_path).items() if name != "versions"} == {
        name: time for name, time in files.items() if name != "versions"
    }


def test_a_refusal_names_every_finding(tmp_path: Path) -> None:
    rows = _invalid(lambda rows: (rows[0].update(vmaf_score=-1.0), rows[4].update(fr_from_nr=False)))
    with pytest.raises(CorpusInvalid) as caught:
        _publish(rows, tmp_path)
    assert {finding.clips for finding in caught.value.findings} == {("/clips/a.mp4",), ("/clips/b.mp4",)}
    assert all(str(finding) in str(caught.value) for finding in caught.value.findings)
    assert current_version(tmp_path) is None


def test_a_full_disk_leaves_trainers_with_the_version_before(small_disk: Path) -> None:
    before = _publish(_corpus("a"), small_disk)
    files = set(_files(small_disk))
    rows = corpus_frame([row | {"run_id": os.urandom(50_000).hex()} for row in sweep_rows(*"abcdefghijklmnop")])
    with pytest.raises(OSError, match="No space left"):
        _publish(rows, small_disk)
    assert set(_files(small_disk)) == files
    assert current_version(small_disk) == before.path
    assert len(read_version(before.path)) == len(SWEEP)


@pytest.mark.usefixtures("a_second_each")
def test_only_the_newest_versions_take_up_space(tmp_path: Path) -> None:
    published = [_publish(_corpus("a"), tmp_path).path for _ in range(KEEP_VERSIONS + 3)]
    assert sorted((tmp_path / "versions").iterdir()) == sorted(published[-KEEP_VERSIONS:])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".publication.lock", "current", "sources", "versions"]
    assert sorted((tmp_path / "sources").iterdir()) == sorted(map(sources_file, published[-KEEP_VERSIONS:]))


@pytest.mark.parametrize(
    "seconds", [[0, 0, 0, 0, 0, 0], [50, 40, 30, 20, 10, 0]], ids=["within one second", "a clock that is set back"]
)
def test_whatever_the_clock_says_the_current_version_is_never_the_one_that_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: Sequence[float]
) -> None:
    _at(monkeypatch, seconds)
    for number in range(1, len(seconds) + 1):
        publication = _publish(_corpus(*"abcdef"[:number]), tmp_path)
        assert publication.path.is_dir()
        assert current_version(tmp_path) == publication.path
        assert len(read_version(publication.path)) == len(SWEEP) * number


@pytest.mark.usefixtures("a_second_each")
def test_a_kept_version_is_found_by_its_name_with_its_sources(tmp_path: Path) -> None:
    published = [
        publish(labelled(_corpus(*clips)), tmp_path, sweep=SWEEP, mos_scale=MOS_SCALE, keep_versions=2)
        for clips in ("a", "ab", "abc")
    ]
    for publication, clips in zip(published[1:], ("ab", "abc"), strict=True):
        found = find_version(tmp_path, publication.path.name)
        assert found == publication.path
        sources = pq.read_table(sources_file(found))
        assert sources.schema.equals(SOURCES_SCHEMA)
        assert sources.equals(publication.sources)
        assert sources["clip"].to_pylist() == list(clips)
    assert find_version(tmp_path) == published[-1].path
    with pytest.raises(CorpusMissing, match=f"no version {published[0].path.name}; there are {published[1].path.name}"):
        find_version(tmp_path, published[0].path.name)


def test_before_the_first_publication_a_reader_is_told_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(CorpusMissing, match="nothing is published there; materialize fr_corpus first"):
        find_version(tmp_path / "fr_corpus")


def test_a_kill_between_sources_and_rows_leaves_no_sources_for_good(tmp_path: Path) -> None:
    _publish(_corpus("a"), tmp_path)
    (tmp_path / "sources" / "000007-20260304T050607Z.parquet").write_bytes(b"of a version that never came")
    publication = _publish(_corpus("a"), tmp_path)
    assert len(list((tmp_path / "sources").iterdir())) == 2
    assert sources_file(publication.path).exists()


@pytest.mark.usefixtures("a_second_each")
def test_a_reader_of_an_older_version_is_not_cut_off(tmp_path: Path) -> None:
    older = _publish(_corpus("a"), tmp_path)
    before = read_version(older.path)
    for _ in range(KEEP_VERSIONS - 1):
        _publish(_corpus("a", "b"), tmp_path)
        assert read_version(older.path).equals(before)


def test_there_is_no_moment_without_a_whole_current_version(tmp_path: Path) -> None:
    before, seen = _publish(_corpus("a"), tmp_path), set[Path | None]()

    def look(_frame: FrameType, event: str, _argument: object) -> None:
        if event == "c_return":
            version = current_version(tmp_path)
            assert version is None or len(list(version.rglob("*.parquet"))) == len(SWEEP)
            assert version is None or sources_file(version).is_file()
            seen.add(version)

    sys.setprofile(look)
    try:
        after = _publish(_corpus("a", "b"), tmp_path)
    finally:
        sys.setprofile(None)
    assert seen == {before.path, after.path}


@pytest.mark.usefixtures("a_second_each")
def test_a_reader_beside_publications_always_sees_a_whole_version(tmp_path: Path) -> None:
    _publish(_corpus("a"), tmp_path)
    reads: queue.Queue[int | Exception] = queue.Queue()
    enough = threading.Event()

    def read() -> None:
        while not enough.is_set():
            try:
                version = current_version(tmp_path)
                assert version is not None
                table = read_version(version)
                assert table.schema.equals(ROW_SCHEMA)
                assert len(table) == published_rows(table.schema)
                reads.put(len(table))
            except Exception as error:  # noqa: BLE001 - whatever it is, the reader lost its corpus
                reads.put(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    seen = []
    try:
        for number in range(1, 13):
            _publish(_corpus(*"abcdefghijkl"[:number]), tmp_path)
            # One read ends between two publications, so that the reader is never further behind than is kept.
            while not reads.empty():
                seen.append(reads.get())
            seen.append(reads.get(timeout=30))
            if isinstance(seen[-1], Exception):
                break
    finally:
        enough.set()
        reader.join()
    assert [error for error in seen if isinstance(error, Exception)] == []
    assert len(set(seen)) > 5
    assert {count for count in seen if isinstance(count, int)} <= {len(SWEEP) * number for number in range(1, 13)}
