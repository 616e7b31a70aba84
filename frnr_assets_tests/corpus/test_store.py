import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frnr_assets.corpus import store
from frnr_assets.corpus.schema import (
    FEATURE_ROWS_KEY,
    FEATURE_ROWS_SCHEMA,
    FRAME_SCORES_SCHEMA,
    REFERENCES_KEY,
    REFERENCES_SCHEMA,
)
from frnr_assets.corpus.store import LONG_ROWS_IN_A_GROUP, FileTable, PartTable
from frnr_assets.corpus.tables import Tables
from frnr_assets_tests.corpus.rows import feature_row, frame_scores_row, reference_row, sweep_rows

ROWS_AT_ONCE = 3

# Every process writes rows of its own keys, several at once, and says so only when they are durable.
APPENDING = """
import sys
from pathlib import Path
from frnr_assets.corpus import store
from frnr_assets_tests.corpus.test_store import small_table, small_rows

store.COMPACT_ABOVE_PARTS = 5
table = small_table(Path(sys.argv[1]))
first, rounds = int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + rounds):
    table.append(small_rows(number))
    print(number, flush=True)
"""

SMALL_FIELDS: list["pa.Field[Any]"] = [
    pa.field("clip", pa.string(), nullable=False),
    pa.field("crf", pa.int32(), nullable=False),
    pa.field("value", pa.string(), nullable=False),
    pa.field("recorded_ns", pa.int64(), nullable=False),
]
SMALL_SCHEMA = pa.schema(SMALL_FIELDS)


def small_table(folder: Path) -> PartTable:
    return PartTable(folder, SMALL_SCHEMA, ("clip", "crf"))


def small_rows(number: int) -> list[dict[str, Any]]:
    return [{"clip": f"{number:06}", "crf": crf, "value": str(number) * 100} for crf in range(ROWS_AT_ONCE)]


def _small_file(folder: Path) -> FileTable:
    return FileTable(folder / "small.parquet", SMALL_SCHEMA)


def _file_rows(*values: str) -> list[dict[str, Any]]:
    return [{"clip": "a", "crf": crf, "value": value, "recorded_ns": 1} for crf, value in enumerate(values)]


def _appending(folder: Path, first: int, rounds: int) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", APPENDING, str(folder), str(first), str(rounds)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def _reports(process: "subprocess.Popen[str]", reported: list[int]) -> None:
    assert process.stdout is not None
    reported.extend(map(int, process.stdout))


def _complete(frame: pl.DataFrame) -> list[int]:
    """The numbers whose rows are all there and whole."""
    found = {int(clip): group for (clip,), group in frame.group_by("clip")}
    for number, group in found.items():
        assert group.sort("crf").drop("recorded_ns").rows(named=True) == small_rows(number)
    return sorted(found)


@pytest.fixture
def table(tmp_path: Path) -> PartTable:
    return PartTable(tmp_path / "rows", FEATURE_ROWS_SCHEMA, FEATURE_ROWS_KEY)


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / "rows").glob("*.parquet"))


def test_a_row_comes_back_as_it_was_recorded(table: PartTable) -> None:
    rows = [
        feature_row("b", nr_mos=None, extra_params=["-tune", "film"], src="/clips/é \u2028\n.mp4"),
        feature_row("a", vmaf_score=0.1 + 0.2, encode_size_bytes=2**40),
    ]
    table.append(rows)
    assert table.read().columns == FEATURE_ROWS_SCHEMA.names
    assert table.read().drop("recorded_ns").rows(named=True) == rows[::-1]
    assert [schema.equals(FEATURE_ROWS_SCHEMA) for schema in table.schemas()] == [True]


def test_a_table_that_nothing_was_written_to_reads_as_an_empty_one(table: PartTable) -> None:
    assert table.read().is_empty()
    assert table.read().columns == FEATURE_ROWS_SCHEMA.names
    assert table.read(pl.col("clip") == "a").is_empty()
    assert table.schemas() == []
    table.compact()
    assert table.read().is_empty()


@pytest.mark.parametrize("compacted", [False, True])
def test_the_newest_row_of_a_key_counts(table: PartTable, compacted: bool) -> None:
    table.append([feature_row("a", crf, run_id="first") for crf in (18, 23)])
    table.append([feature_row("a", 18, run_id="second"), feature_row("a", 18, run_id="third")])
    table.append([feature_row("a", 18, preset="slow", run_id="another cell")])
    if compacted:
        table.compact()
    found = {(row["preset"], row["crf"]): row["run_id"] for row in table.read().rows(named=True)}
    assert found == {("preset", 18): "third", ("preset", 23): "first", ("slow", 18): "another cell"}
    assert len(table.read()) == 3


def test_the_newest_row_counts_although_its_part_was_named_before_an_older_one(
    table: PartTable, tmp_path: Path
) -> None:
    # As when one process stamps its rows first and another finishes its part first, or compacts meanwhile.
    table.append([feature_row("a", run_id="older")])
    table.append([feature_row("a", run_id="newer")])
    first, second = _parts(tmp_path)
    first.rename(second.with_name("9.parquet"))
    assert table.read()["run_id"].to_list() == ["newer"]
    table.compact()
    assert table.read()["run_id"].to_list() == ["newer"]


def test_a_row_that_the_disk_did_not_take_is_not_there(
    table: PartTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    table.append([feature_row("a")])
    with monkeypatch.context() as broken_disk:
        broken_disk.setattr(store, "sync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            table.append([feature_row("b")])
    assert table.read()["clip"].to_list() == ["a"]
    assert list((tmp_path / "rows").iterdir()) == _parts(tmp_path)


def test_only_the_columns_that_were_asked_for_are_read(table: PartTable) -> None:
    assert table.read(columns=["run_id"]).columns == [*FEATURE_ROWS_KEY, "run_id"]
    table.append([feature_row("a", run_id="older"), feature_row("a", 23, run_id="other")])
    table.append([feature_row("a", run_id="newer")])
    found = table.read(pl.col("crf") == 18, columns=["run_id", "recorded_ns"])
    assert found.columns == [*FEATURE_ROWS_KEY, "run_id", "recorded_ns"]
    assert found["run_id"].to_list() == ["newer"]
    assert table.read(columns=[]).rows() == table.read().select(FEATURE_ROWS_KEY).rows()


def test_a_sensor_sees_that_rows_were_added(table: PartTable) -> None:
    stamps, newest = [table.stamp()], [table.newest_ns()]
    for run_id in ("first", "second"):
        table.append([feature_row("a", run_id=run_id), feature_row("b", run_id=run_id)])
        stamps.append(table.stamp())
        newest.append(table.newest_ns())
    assert len(set(stamps)) == 3
    assert newest[0] == 0
    assert newest == sorted(set(newest))
    assert newest[-1] == table.read()["recorded_ns"].max()
    assert table.stamp() == stamps[-1]


def test_a_data_root_may_be_called_anything(tmp_path: Path) -> None:
    folder = tmp_path / "[a-b]*" / "crf=7"
    parts, file = PartTable(folder / "parts", FEATURE_ROWS_SCHEMA, FEATURE_ROWS_KEY), _small_file(folder)
    for crf in (18, 23):
        parts.append([feature_row("a", crf)])
    assert parts.newest_ns() == parts.read()["recorded_ns"].max()
    parts.compact()
    assert parts.read()["crf"].to_list() == [18, 23]
    rows = [{"clip": "a", "crf": 18, "value": "x", "recorded_ns": 1}]
    assert (file.write(rows), file.write(rows)) == (True, False)
    assert file.read().rows(named=True) == rows


def test_a_file_that_was_not_written_yet_reads_as_an_empty_table(tmp_path: Path) -> None:
    file = _small_file(tmp_path / "tables")
    assert (file.exists(), file.stamp()) == (False, "")
    assert file.read().is_empty()
    assert file.read().columns == SMALL_SCHEMA.names
    assert file.write([])
    assert file.exists()
    assert file.read().is_empty()


def test_a_file_is_replaced_only_by_other_rows(tmp_path: Path) -> None:
    file, path = _small_file(tmp_path), tmp_path / "small.parquet"
    assert file.write(_file_rows("x", "y"))
    os.utime(path, ns=(1, 1))
    stamp = file.stamp()
    assert not file.write(_file_rows("x", "y"))
    assert (file.stamp(), path.stat().st_mtime_ns) == (stamp, 1)
    for other in (_file_rows("y", "x"), _file_rows("x"), _file_rows("x", "y")):
        assert file.write(other)
        assert file.read().rows(named=True) == other
        assert file.stamp() != stamp
    assert file.schema().equals(SMALL_SCHEMA)
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.parquet"]


@pytest.mark.parametrize(
    "change", [{"crf": "18"}, {"crf": 2**40}, {"value": None}, {"value": "\ud800"}, {"surprise": 1}], ids=ascii
)
def test_a_row_that_does_not_fit_leaves_the_file_as_it_was(tmp_path: Path, change: dict[str, Any]) -> None:
    file = _small_file(tmp_path)
    file.write(_file_rows("before"))
    with pytest.raises((pa.ArrowException, ValueError)):
        file.write([*_file_rows("good"), _file_rows("bad")[0] | change])
    assert file.read()["value"].to_list() == ["before"]


def test_a_full_disk_leaves_the_file_as_it_was(small_disk: Path) -> None:
    file = _small_file(small_disk)
    file.write(_file_rows("before"))
    ballast = _fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        file.write(_file_rows(os.urandom(10_000).hex()))
    assert file.read()["value"].to_list() == ["before"]
    ballast.unlink()
    assert file.write(_file_rows("after"))
    assert [entry.name for entry in small_disk.iterdir()] == ["small.parquet"]


def test_only_the_rows_that_were_asked_for_are_read(table: PartTable) -> None:
    table.append(sweep_rows("a", "b", "c"))
    table.append([feature_row("b", 18, run_id="newer")])
    found = table.read(pl.col("clip").is_in(["b", "not there"]))
    assert [(row["clip"], row["crf"], row["run_id"]) for row in found.rows(named=True)] == [
        ("b", 18, "newer"),
        ("b", 23, "run_id"),
        ("b", 28, "run_id"),
    ]
    assert table.read(pl.col("clip").is_in([])).is_empty()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("width", "640"),
        ("width", 640.5),
        ("width", 2**40),
        ("width", True),
        ("src", 5),
        ("src", b"\xff"),
        ("src", "\ud800"),
        ("vmaf_score", "95.5"),
        ("vmaf_score", True),
        ("hdr_forced", 1),
        ("extra_params", "-tune"),
        ("extra_params", [None]),
        ("vmaf_score", None),
        ("src", None),
        ("extra_params", None),
        ("no_such_column", 1),
    ],
    ids=ascii,
)
def test_a_value_that_does_not_fit_is_refused_and_nothing_is_written(
    table: PartTable, tmp_path: Path, column: str, value: Any
) -> None:
    table.append([feature_row("before")])
    before = sorted((tmp_path / "rows").iterdir())
    with pytest.raises((pa.ArrowException, ValueError)):
        table.append([feature_row("good"), feature_row("bad", **{column: value})])
    assert sorted((tmp_path / "rows").iterdir()) == before
    assert table.read()["clip"].to_list() == ["before"]


@pytest.mark.parametrize("column", [field.name for field in FEATURE_ROWS_SCHEMA if field.name != "recorded_ns"])
def test_an_incomplete_row_is_refused_whichever_column_it_lacks(table: PartTable, tmp_path: Path, column: str) -> None:
    row = feature_row()
    del row[column]
    if FEATURE_ROWS_SCHEMA.field(column).nullable:
        table.append([row])
        assert table.read()[column].to_list() == [None]
        return
    with pytest.raises(ValueError, match=column):
        table.append([row])
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("values", [[95.5, "95.5"], [True], [None], 95.5, (95.5,), "95.5", [[95.5]], None], ids=ascii)
def test_frames_that_are_no_list_of_numbers_are_refused_and_nothing_is_written(tmp_path: Path, values: Any) -> None:
    table = Tables(tmp_path).frame_scores
    with pytest.raises((pa.ArrowException, ValueError)):
        table.append([frame_scores_row(), frame_scores_row("bad", vmaf=values)])
    assert table.read().is_empty()
    assert not list(tmp_path.rglob("*.parquet"))


def test_frames_come_back_as_they_were_recorded_also_after_a_compaction(tmp_path: Path) -> None:
    table = Tables(tmp_path).frame_scores
    # More cells than there are in a row group; clips of different lengths, one without frames, whole numbers too.
    rows = [frame_scores_row(f"{number:04}", frames=number % 7) for number in range(LONG_ROWS_IN_A_GROUP + 10)]
    rows[1]["vmaf"] = [97, 0.25]
    table.append(rows[:-1])
    table.append(rows[-1:])
    for _ in range(2):
        assert table.read().drop("recorded_ns").rows(named=True) == rows
        assert table.read(pl.col("clip") == "0003").rows(named=True)[0]["motion2"] == rows[3]["motion2"]
        table.compact()
    assert [schema.equals(FRAME_SCORES_SCHEMA) for schema in table.schemas()] == [True]


def test_what_an_unfinished_write_left_behind_is_never_read(table: PartTable, tmp_path: Path) -> None:
    table.append([feature_row("a")])
    (part,) = _parts(tmp_path)
    other = pa.Table.from_pylist([{**feature_row("ghost"), "recorded_ns": 1}], schema=FEATURE_ROWS_SCHEMA)
    pq.write_table(other, part.with_name(f".{part.name}.0.tmp"))
    part.with_name(f".{part.name}.1.tmp").write_bytes(part.read_bytes()[:100])
    assert table.read()["clip"].to_list() == ["a"]
    assert len(table.schemas()) == 1
    table.append([feature_row("b")])
    table.compact()
    assert table.read()["clip"].to_list() == ["a", "b"]


def test_compaction_removes_only_what_has_been_abandoned_for_long(
    table: PartTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.append([feature_row("a")])
    unfinished = tmp_path / "rows" / ".x.parquet.0.tmp"
    unfinished.touch()
    table.compact()
    assert unfinished.exists()
    monkeypatch.setattr(store, "ABANDONED_AFTER_S", -1)
    table.compact()
    assert not unfinished.exists()


def test_compaction_keeps_every_row_in_one_part(table: PartTable, tmp_path: Path) -> None:
    for clip in "abcd":
        table.append(sweep_rows(clip))
    table.append([feature_row("a", 18, nr_mos=None, extra_params=["-tune", "film"])])
    before = table.read()
    assert len(_parts(tmp_path)) == 5
    table.compact()
    assert len(_parts(tmp_path)) == 1
    assert table.read().equals(before)
    assert pq.read_schema(_parts(tmp_path)[0]).equals(FEATURE_ROWS_SCHEMA)


def test_the_number_of_files_stays_bounded_however_often_is_written(
    table: PartTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "COMPACT_ABOVE_PARTS", 3)
    for number in range(12):
        table.append([feature_row(f"{number:02}")])
        assert len(_parts(tmp_path)) <= 3
    assert len(table.read()) == 12


def test_compaction_does_not_rewrite_large_parts(
    table: PartTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.append([feature_row(f"{number:05}") for number in range(3000)])
    (large,) = _parts(tmp_path)
    monkeypatch.setattr(store, "SMALL_PART_BYTES", large.stat().st_size)
    untouched = large.stat().st_ino, large.stat().st_mtime_ns
    table.append([feature_row("00000", run_id="newer")])
    table.append([feature_row("x")])
    table.compact()
    assert len(_parts(tmp_path)) == 2
    assert (large.stat().st_ino, large.stat().st_mtime_ns) == untouched
    assert len(table.read()) == 3001
    assert table.read(pl.col("clip") == "00000")["run_id"].to_list() == ["newer"]


def test_a_reader_beside_a_compacting_process_never_fails_nor_misses_a_row(tmp_path: Path) -> None:
    folder, reported = tmp_path / "rows", list[int]()
    with _appending(folder, 0, 150) as process:
        listener = threading.Thread(target=_reports, args=(process, reported))
        listener.start()
        reads = 0
        while listener.is_alive():
            durable = len(reported)
            seen = _complete(small_table(folder).read())
            assert seen == list(range(len(seen)))
            assert len(seen) >= durable
            reads += 1
        listener.join()
    assert process.returncode == 0
    assert reported == list(range(150))
    assert reads > 5
    assert _complete(small_table(folder).read()) == reported


def _stop_at(moment: threading.Event, appending: Callable[[], None]) -> None:
    while not moment.is_set():
        appending()


def test_a_check_of_the_schemas_beside_a_compacting_process_does_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "COMPACT_ABOVE_PARTS", 2)
    table, enough = small_table(tmp_path / "rows"), threading.Event()
    table.append(small_rows(0))
    with ThreadPoolExecutor(1) as executor:
        writing = executor.submit(_stop_at, enough, lambda: table.append(small_rows(1)))
        try:
            for _ in range(300):
                assert len(table.schemas()) == 1
        finally:
            enough.set()
    writing.result()


def test_processes_that_record_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    folder, rounds = tmp_path / "rows", 60
    processes = [_appending(folder, first, rounds) for first in (0, 1000, 2000)]
    reported: list[int] = []
    for process in processes:
        with process:
            _reports(process, reported)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert _complete(small_table(folder).read()) == sorted(reported)
    assert len(reported) == 3 * rounds


def test_a_kill_at_any_moment_loses_no_row_that_was_reported(tmp_path: Path) -> None:
    folder, durable = tmp_path / "rows", list[int]()
    for first, moment_s in enumerate((0, 0.004, 0.017, 0.042, 0.088)):
        with _appending(folder, first * 1000, 1000) as process:
            assert process.stdout is not None
            durable.append(int(process.stdout.readline()))
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment_s)
            process.kill()
            _reports(process, durable)
        assert process.returncode == -signal.SIGKILL
        seen = _complete(small_table(folder).read())
        assert set(durable) <= set(seen)
        # An append that was killed between its rename and its report is there, and whole.
        assert set(seen) - set(durable) <= {number + 1 for number in durable}
    small_table(folder).compact()
    assert set(durable) <= set(_complete(small_table(folder).read()))


# The steps of a durable write, each of which the process may not live to see.
@pytest.mark.parametrize("step", ["pq.ParquetWriter", "sync", "os.fsync", "Path.replace", "Path.unlink"])
def test_a_kill_while_compacting_loses_no_row(tmp_path: Path, step: str) -> None:
    folder = tmp_path / "rows"
    for number in range(4):
        small_table(folder).append(small_rows(number))
    killed = f"""
import os, signal, sys
from pathlib import Path
from frnr_assets.corpus import store
from frnr_assets_tests.corpus.test_store import small_table

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

owner, name = {step!r}.rpartition(".")[::2]
setattr({{"pq": store.pq, "os": os, "Path": Path, "": store}}[owner], name, die)
small_table(Path(sys.argv[1])).compact()
"""
    process = subprocess.run(
        [sys.executable, "-c", killed, str(folder)], check=False, cwd=Path(__file__).parents[2], capture_output=True
    )
    assert process.returncode == -signal.SIGKILL
    assert _complete(small_table(folder).read()) == [0, 1, 2, 3]
    small_table(folder).compact()
    assert _complete(small_table(folder).read()) == [0, 1, 2, 3]
    assert len(list(folder.glob("*.parquet"))) == 1


def _fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    return ballast


def _large_rows(number: int) -> list[dict[str, Any]]:
    value = os.urandom(5000).hex()
    return [row | {"value": value} for row in small_rows(number)]


def test_a_full_disk_costs_only_the_rows_that_did_not_fit(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "COMPACT_ABOVE_PARTS", 10_000)
    table, durable = small_table(small_disk / "rows"), list[int]()

    def append_for_ever() -> None:
        for number in itertools.count():
            table.append(_large_rows(number))
            durable.append(number)

    with pytest.raises(OSError, match="No space left"):
        append_for_ever()
    assert len(durable) > 5
    assert len(table.read()) == len(durable) * ROWS_AT_ONCE
    assert not list(small_disk.glob("rows/.*.tmp"))


def test_recording_goes_on_once_a_full_disk_has_room_again(small_disk: Path) -> None:
    table = small_table(small_disk / "rows")
    table.append(small_rows(0))
    ballast = _fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        table.append(small_rows(1))
    assert _complete(table.read()) == [0]
    ballast.unlink()
    table.append(small_rows(1))
    table.compact()
    assert _complete(table.read()) == [0, 1]


def test_a_row_that_is_durable_is_not_reported_lost_because_compaction_had_no_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = small_table(small_disk / "rows")
    for number in range(20):
        table.append(_large_rows(number))
    monkeypatch.setattr(store, "COMPACT_ABOVE_PARTS", 1)
    room_for_one_part = small_disk / "spare"
    room_for_one_part.write_bytes(b"\0" * 40_000)
    _fill(small_disk)
    room_for_one_part.unlink()
    reported = 20
    with suppress(OSError):
        table.append(_large_rows(20))
        reported = 21
    assert len(table.read()) == reported * ROWS_AT_ONCE


def test_a_quarantined_clip_and_a_usable_one_fit_the_same_table(tmp_path: Path) -> None:
    table = PartTable(tmp_path / "references", REFERENCES_SCHEMA, REFERENCES_KEY)
    table.append([reference_row("a"), reference_row("b")])
    table.append([{"clip": "b", "src": "/clips/b.mp4", "quarantine_reason": "it is empty"}])
    usable, quarantined = table.read().rows(named=True)
    assert (usable["quarantine_reason"], quarantined["quarantine_reason"]) == (None, "it is empty")
    assert quarantined["frames"] is None


@pytest.mark.parametrize("compacted", [False, True])
def test_rows_of_before_a_column_was_added_are_still_there(tmp_path: Path, compacted: bool) -> None:
    older = small_table(tmp_path)
    older.append(small_rows(1))
    newer = PartTable(tmp_path, SMALL_SCHEMA.append(pa.field("note", pa.string())), ("clip", "crf"))
    assert set(newer.read()["note"]) == {None}
    newer.append([{**row, "note": "new"} for row in small_rows(2)])
    if compacted:
        newer.compact()
    assert dict(newer.read().select("clip", "note").iter_rows()) == {"000001": None, "000002": "new"}
    assert newer.newest_ns() > 0
