import errno
import math
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from frnr_assets.corpus.findings import reference_implausible, row_errors, sweeps_incomplete
from frnr_assets.corpus.schema import FEATURE_ROWS_SCHEMA, REFERENCES_SCHEMA, ROW_SCHEMA
from frnr_assets.corpus.store import PartTable
from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.engine.outcomes import CellDone, CellQuarantined, Clip, ReferenceDone, ReferenceFailed
from frnr_assets.engine.rows import current_identities
from frnr_assets.media.encode import EncodeSettings
from frnr_assets.media.encoders import LIBX264
from frnr_assets.media.pool import LocalCrew, WorkPool
from frnr_assets.media.process import ToolResult, ToolRunner
from frnr_assets.media.sweep import CellFailed
from frnr_assets.media.toolchain import Toolchain
from frnr_assets_tests.conftest import MakeClip

CRFS = (23, 38)
OTHER_SCENE = "testsrc=size=64x48:rate=24,trim=end_frame=12"

# What differs between two measurements of the same cell.
TIMES = {"encode_time_ms", "score_time_ms", "timestamp", "run_id", "recorded_ns"}

Cell = CellDone | CellFailed | CellQuarantined


def _measure(
    engine: Engine, *clips: Clip, crfs: Sequence[int] = CRFS, run_id: str = "run-1", recompute: bool = False
) -> list[Cell]:
    cells = engine.measure_cells(dict.fromkeys(clips, crfs), run_id=run_id, recompute=recompute)
    return sorted(cells, key=lambda cell: (cell.clip, cell.crf))


def _decode(engine: Engine, *clips: Clip) -> list[ReferenceDone]:
    outcomes = list(engine.decode_references(clips))
    done = [outcome for outcome in outcomes if isinstance(outcome, ReferenceDone)]
    assert done == outcomes
    return done


def _decode_and_measure(engine: Engine, *clips: Clip, crfs: Sequence[int] = CRFS) -> list[CellDone]:
    assert [done.outcome for done in _decode(engine, *clips)] == ["done"] * len(clips)
    return _done(_measure(engine, *clips, crfs=crfs))


def _done(cells: Sequence[Cell]) -> list[CellDone]:
    done = [cell for cell in cells if isinstance(cell, CellDone)]
    assert done == list(cells)
    return done


def _failed(cells: Sequence[Cell]) -> list[CellFailed]:
    failed = [cell for cell in cells if isinstance(cell, CellFailed)]
    assert failed == list(cells)
    return failed


def _ingest(tables: Tables, *clips: Clip) -> None:
    unknown = dict.fromkeys(("mos_std_dev", "n_ratings", "split", "url", "size_bytes", "mtime_ns"))
    listed = {"dataset": "tests", "extra": "{}", "manifest": "m", "line": 1, "removed": False, **unknown}
    tables.clips.write(
        [{"clip": clip.key, "name": clip.key, "src": str(clip.src), "mos": clip.mos, **listed} for clip in clips]
    )


def _measurement(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMES}


@dataclass(frozen=True)
class Measured:
    """A batch that was decoded and measured, not to be changed."""

    engine: Engine
    executor: ThreadPoolExecutor
    clips: tuple[Clip, ...]
    references: list[ReferenceDone]
    cells: list[CellDone]

    def copy(self, folder: Path) -> Engine:
        shutil.copytree(self.engine.tables.root, folder)
        # Its own runner and pool: a batch that ends early calls them off for good.
        toolchain = replace(self.engine.toolchain, runner=ToolRunner())
        pool = WorkPool(LocalCrew(self.executor, cores=2, memory_bytes=1 << 30))
        return replace(self.engine, tables=Tables(folder), toolchain=toolchain, pool=pool)


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain, executor: ThreadPoolExecutor, make_clip: MakeClip
) -> Measured:
    folder = tmp_path_factory.mktemp("measured")
    odd = "testsrc2=size=67x49:rate=30000/1001,trim=end_frame=10,format=yuv444p"
    clips = (
        Clip("plain", make_clip(folder / "plain.mp4"), 3.0123456789012345),
        Clip("odd", make_clip(folder / "odd é.mkv", odd, ("-c:v", "ffv1")), None),
    )
    engine = Engine(Tables(folder / "data"), toolchain, WorkPool(LocalCrew(executor, cores=2, memory_bytes=1 << 30)))
    references = _decode(engine, *clips)
    return Measured(engine, executor, clips, references, _done(_measure(engine, *clips)))


class TestCompleteRows:
    def test_every_cell_becomes_one_complete_row(self, measured: Measured) -> None:
        assert [(cell.clip, cell.crf, cell.reused) for cell in measured.cells] == [
            (clip, crf, False) for clip in ("odd", "plain") for crf in CRFS
        ]
        for cell in measured.cells:
            assert set(ROW_SCHEMA.names) <= set(cell.row)
            table = pa.Table.from_pylist([{**cell.row, "recorded_ns": 1}], schema=FEATURE_ROWS_SCHEMA)
            table.validate(full=True)
            missing = {name for name in table.column_names if table.column(name).null_count}
            assert missing == ({"nr_mos"} if cell.clip == "odd" else set())

    def test_what_is_reported_is_what_is_durable(self, measured: Measured) -> None:
        stored = measured.engine.tables.feature_rows.read().drop("recorded_ns").rows(named=True)
        assert stored == [cell.row for cell in measured.cells]

    def test_a_measured_batch_can_be_published(self, measured: Measured, tmp_path: Path) -> None:
        tables = measured.copy(tmp_path / "data").tables
        _ingest(tables, *measured.clips)
        rows = tables.current_rows()
        names = [name for name in rows.columns if name in ROW_SCHEMA.names]
        assert names == ROW_SCHEMA.names
        assert row_errors(ROW_SCHEMA, rows, published=4, mos_scale=(1.0, 5.0)) == []
        assert sweeps_incomplete(rows, CRFS) == []
        assert reference_implausible(measured.engine.tables.references.read()) == []

    def test_a_row_says_which_upload_it_was_made_from(self, measured: Measured) -> None:
        sources = {clip.key: clip for clip in measured.clips}
        hashes = {done.clip: done.row["src_sha256"] for done in measured.references}
        for cell in measured.cells:
            clip = sources[cell.clip]
            assert cell.row["src"] == cell.row["nr_source"] == str(clip.src)
            assert cell.row["src_sha256"] == hashes[cell.clip]
            assert cell.row["nr_mos"] == clip.mos
            assert cell.row["fr_from_nr"] is True
            assert cell.row["encode_path"] == ""
            assert cell.row["run_id"] == "run-1"

    def test_a_rows_figures_agree_with_each_other(self, measured: Measured) -> None:
        for row in (cell.row for cell in measured.cells):
            assert row["duration_s"] == pytest.approx(row["frames"] / row["framerate"], rel=1e-12)
            assert row["bitrate_kbps"] == pytest.approx(row["encode_size_bytes"] * 8 / 1000 / row["duration_s"])
            assert row["shot_avg_duration_sec"] * row["shot_count"] == pytest.approx(row["duration_s"])
            assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
            assert min(row["encode_time_ms"], row["score_time_ms"], row["encode_size_bytes"]) > 0

    def test_size_and_rate_are_the_working_ones(self, measured: Measured) -> None:
        odd, plain = measured.cells[0].row, measured.cells[-1].row
        assert (odd["width"], odd["height"], odd["pix_fmt"], odd["frames"]) == (67, 49, "yuv444p", 10)
        assert odd["framerate"] == pytest.approx(30000 / 1001)
        assert (plain["width"], plain["height"], plain["pix_fmt"], plain["frames"]) == (64, 48, "yuv420p", 12)
        assert plain["framerate"] == 24.0

    def test_quality_and_size_fall_with_crf(self, measured: Measured) -> None:
        for better, worse in zip(measured.cells[::2], measured.cells[1::2], strict=True):
            assert better.row["vmaf_score"] > worse.row["vmaf_score"]
            assert better.row["encode_size_bytes"] > worse.row["encode_size_bytes"]

    def test_the_time_of_a_row_is_unambiguous(self, measured: Measured) -> None:
        for cell in measured.cells:
            moment = datetime.fromisoformat(cell.row["timestamp"])
            assert moment.utcoffset() == timedelta(0)
            assert abs(datetime.now(UTC) - moment) < timedelta(minutes=10)

    def test_a_references_facts_are_complete_and_durable(self, measured: Measured) -> None:
        stored = measured.engine.tables.references.read().rows(named=True)
        assert [row["clip"] for row in stored] == ["odd", "plain"]
        # Matroska does not say how long its streams are.
        silent = {"odd": {"stream_duration_s"}, "plain": set[str]()}
        for row in stored:
            missing = {name for name in REFERENCES_SCHEMA.names if row[name] is None}
            assert missing == {"quarantine_reason", "tool_output", "attempts", "kept_path"} | silent[row["clip"]]
        assert {done.clip: done.outcome for done in measured.references} == {"odd": "done", "plain": "done"}


class TestReuse:
    def test_a_second_run_measures_nothing_again(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        # Nothing that could decode or encode is left.
        broken = replace(engine.toolchain, ffmpeg=replace(engine.toolchain.ffmpeg, path=Path("/missing/ffmpeg")))
        engine = replace(engine, toolchain=broken)
        references = _decode(engine, *measured.clips)
        assert [done.outcome for done in references] == ["reused", "reused"]
        cells = _done(_measure(engine, *measured.clips, run_id="run-2"))
        assert [cell.outcome for cell in cells] == ["reused"] * 4
        assert [cell.row["timestamp"] for cell in cells] == [cell.row["timestamp"] for cell in measured.cells]
        assert [cell.row["run_id"] for cell in cells] == ["run-1"] * 4
        assert engine.tables.feature_rows.read().equals(measured.engine.tables.feature_rows.read())

    def test_only_what_is_missing_is_measured(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        cells = _done(_measure(engine, *measured.clips, crfs=(23, 51, 38)))
        assert [(cell.crf, cell.outcome) for cell in cells] == [(23, "reused"), (38, "reused"), (51, "done")] * 2

    @pytest.mark.parametrize("mos", [1.5, None], ids=["changed", "withdrawn"])
    def test_a_corrected_mos_reaches_the_rows_without_measuring(
        self, measured: Measured, tmp_path: Path, mos: float | None
    ) -> None:
        engine = measured.copy(tmp_path / "data")
        broken = replace(engine.toolchain, ffmpeg=replace(engine.toolchain.ffmpeg, path=Path("/missing/ffmpeg")))
        corrected = replace(measured.clips[0], mos=mos)
        cells = _done(_measure(replace(engine, toolchain=broken), corrected))
        assert [cell.outcome for cell in cells] == ["reused", "reused"]
        before = {cell.crf: cell.row for cell in measured.cells if cell.clip == "plain"}
        for row in engine.tables.feature_rows.read(pl.col("clip") == "plain").drop("recorded_ns").rows(named=True):
            assert row == {**before[row["crf"]], "nr_mos": mos}

    def test_a_clip_that_moved_keeps_its_rows_under_its_new_path(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        moved = replace(measured.clips[0], src=tmp_path / "moved.mp4")
        shutil.copy(measured.clips[0].src, moved.src)
        cells = _done(_measure(engine, moved))
        assert [cell.outcome for cell in cells] == ["reused", "reused"]
        rows = engine.tables.feature_rows.read(pl.col("clip") == "plain")
        assert set(rows["src"]) == set(rows["nr_source"]) == {str(moved.src)}

    def test_the_same_upload_under_two_keys_has_rows_under_both(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        plain = measured.clips[0]
        twin = Clip("a twin", tmp_path / "twin.mp4", 1.0)
        shutil.copy2(plain.src, twin.src)
        _decode(engine, twin)
        cells = _done(_measure(engine, plain, twin))
        assert [cell.clip for cell in cells] == ["a twin", "a twin", "plain", "plain"]
        rows = engine.tables.feature_rows.read()
        assert {(row["clip"], row["src"], row["nr_mos"]) for row in rows.rows(named=True)} >= {
            ("a twin", str(twin.src), 1.0),
            ("plain", str(plain.src), plain.mos),
        }

    def test_the_same_upload_under_two_keys_is_not_recorded_anew_by_every_run(
        self, measured: Measured, tmp_path: Path
    ) -> None:
        engine = measured.copy(tmp_path / "data")
        twin = replace(measured.clips[0], key="a twin")
        _decode(engine, twin)
        _measure(engine, measured.clips[0], twin)
        before = engine.tables.feature_rows.read()
        _measure(engine, measured.clips[0], twin)
        assert engine.tables.feature_rows.read().equals(before)

    def test_recompute_measures_again_and_finds_the_same(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        cells = _done(_measure(engine, measured.clips[0], run_id="run-2", recompute=True))
        assert [cell.outcome for cell in cells] == ["done", "done"]
        assert {cell.row["run_id"] for cell in cells} == {"run-2"}
        before = [cell for cell in measured.cells if cell.clip == "plain"]
        assert [_measurement(cell.row) for cell in cells] == [_measurement(cell.row) for cell in before]
        assert [cell.row["encode_time_ms"] for cell in cells] != [cell.row["encode_time_ms"] for cell in before]
        stored = engine.tables.feature_rows.read(pl.col("clip") == "plain")
        assert stored.drop("recorded_ns").rows(named=True) == [cell.row for cell in cells]

    def test_other_settings_never_reuse_a_row(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        settings = EncodeSettings(LIBX264, "ultrafast", ("-tune", "film"))
        other = replace(engine, toolchain=replace(engine.toolchain, settings=settings))
        (cell,) = _done(_measure(other, measured.clips[0], crfs=(38,)))
        assert cell.outcome == "done"
        assert (cell.row["preset"], cell.row["extra_params"]) == ("ultrafast", ["-tune", "film"])
        before = next(cell for cell in measured.cells if (cell.clip, cell.crf) == ("plain", 38))
        assert cell.row["encode_size_bytes"] != before.row["encode_size_bytes"]
        assert len(engine.tables.feature_rows.read(pl.col("clip") == "plain")) == 3

    def test_a_reference_decoded_with_other_tools_is_not_trusted(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        newer = replace(engine.toolchain, ffmpeg=replace(engine.toolchain.ffmpeg, version="n10"))
        upgraded = replace(engine, toolchain=newer)
        for cell in _failed(_measure(upgraded, measured.clips[0])):
            assert "decoded_reference" in cell.reason
        assert [done.outcome for done in _decode(upgraded, measured.clips[0])] == ["done"]
        assert [cell.outcome for cell in _done(_measure(upgraded, measured.clips[0], crfs=(38,)))] == ["done"]

    @pytest.mark.parametrize("recompute", [False, True])
    def test_an_empty_batch_is_no_error(self, engine: Engine, recompute: bool) -> None:
        assert list(engine.decode_references([])) == []
        assert _measure(engine, recompute=recompute) == []


class TestFilesThatChange:
    def test_a_replaced_file_never_gets_the_rows_of_the_one_before(
        self, engine: Engine, tmp_path: Path, make_clip: MakeClip
    ) -> None:
        clip = Clip("a", make_clip(tmp_path / "a.mp4"), 3.0)
        (before,) = _decode_and_measure(engine, clip, crfs=(38,))
        make_clip(clip.src, OTHER_SCENE)
        (failed,) = _failed(_measure(engine, clip, crfs=(38,)))
        assert "replaced" in failed.reason
        assert "materialize decoded_reference" in failed.reason
        (after,) = _decode_and_measure(engine, clip, crfs=(38,))
        assert after.outcome == "done"
        assert after.row["src_sha256"] != before.row["src_sha256"]
        _ingest(engine.tables, clip)
        assert engine.tables.current_rows()["src_sha256"].to_list() == [after.row["src_sha256"]]

    def test_a_file_that_was_only_touched_is_not_measured_again(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        touched = replace(measured.clips[0], src=tmp_path / "touched.mp4")
        shutil.copy2(measured.clips[0].src, touched.src)
        os.utime(touched.src, ns=(10**18, 10**18))
        assert {cell.outcome for cell in _done(_measure(engine, touched))} == {"reused"}
        # Decoding again takes note of the new time, and changes nothing for the rows.
        assert [done.clip for done in _decode(engine, touched)] == ["plain"]
        assert [done.outcome for done in _decode(engine, touched)] == ["reused"]
        assert {cell.outcome for cell in _done(_measure(engine, touched))} == {"reused"}

    def test_a_file_that_disappeared_costs_only_its_own_cells(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        gone = replace(measured.clips[0], src=tmp_path / "gone.mp4")
        cells = _measure(engine, gone, measured.clips[1])
        assert [(cell.clip, cell.outcome) for cell in cells[:2] if isinstance(cell, CellDone)] == [
            ("odd", "reused")
        ] * 2
        for failed in _failed(cells[2:]):
            assert "No such file" in failed.reason

    @pytest.mark.parametrize("moment", ["-crf", "libvmaf"], ids=["before its encode", "while it is scored"])
    def test_a_file_that_disappears_while_it_is_measured_costs_only_its_own_cells(
        self, measured: Measured, tmp_path: Path, moment: str
    ) -> None:
        engine = measured.copy(tmp_path / "data")
        vanishing = replace(measured.clips[0], src=tmp_path / "vanishing.mp4")
        shutil.copy2(measured.clips[0].src, vanishing.src)

        class Thief(ToolRunner):
            def run(self, argv: Sequence[str], **how: Any) -> ToolResult:
                opened = [Path(f"/proc/self/fd/{number}").readlink() for number in how.get("inherited", ())]
                stolen = moment in " ".join(argv) and opened == [vanishing.src]
                if stolen and moment == "-crf":
                    vanishing.src.unlink(missing_ok=True)
                result = super().run(argv, **how)
                if stolen:
                    vanishing.src.unlink(missing_ok=True)
                return result

        engine = replace(engine, toolchain=replace(engine.toolchain, runner=Thief()))
        cells = _measure(engine, vanishing, measured.clips[1], crfs=(45, 51))
        assert [(cell.clip, cell.outcome) for cell in cells[:2] if isinstance(cell, CellDone)] == [("odd", "done")] * 2
        assert [failed.clip for failed in _failed(cells[2:])] == ["plain", "plain"]


class TestQuarantine:
    def test_a_broken_clip_is_set_aside_with_its_reason_and_the_others_go_on(
        self, engine: Engine, tmp_path: Path, make_clip: MakeClip
    ) -> None:
        good = make_clip(tmp_path / "good.mp4")
        content = good.read_bytes()
        broken = {
            "cut": content[: len(content) // 2],
            "empty": b"",
            "text": b"<html>404 Not Found</html>\n" * 100,
        }
        clips = [Clip("good", good, 3.0), Clip("folder", tmp_path, 3.0)]
        for name, damaged in broken.items():
            (tmp_path / f"{name}.mp4").write_bytes(damaged)
            clips.append(Clip(name, tmp_path / f"{name}.mp4", 3.0))
        outcomes = {done.clip: done for done in _decode(engine, *clips)}
        assert {name for name, done in outcomes.items() if done.outcome == "quarantined"} == {
            *broken,
            "folder",
        }
        stored = {row["clip"]: row["quarantine_reason"] for row in engine.tables.references.read().rows(named=True)}
        assert stored == {name: done.quarantine_reason for name, done in outcomes.items()}
        assert stored.pop("good") is None
        assert all(stored.values())
        assert stored["empty"] == "it is empty"
        cells = _measure(engine, *clips, crfs=(51,))
        assert {cell.clip: cell.reason for cell in cells if isinstance(cell, CellQuarantined)} == stored
        assert [cell.clip for cell in cells if isinstance(cell, CellDone)] == ["good"]
        _ingest(engine.tables, *clips)
        assert engine.tables.current_rows()["clip"].to_list() == ["good"]

    def test_a_damaged_clip_has_rows_only_as_long_as_damage_is_accepted(self, engine: Engine, damaged: Path) -> None:
        clip = Clip("damaged", damaged, 3.0)
        toolchain = engine.toolchain
        accepting = replace(engine, toolchain=replace(toolchain, rules=replace(toolchain.rules, accept_damaged=True)))
        assert [done.outcome for done in _decode(engine, clip)] == ["quarantined"]
        _decode_and_measure(accepting, clip, crfs=(51,))
        facts = engine.tables.references.read().row(0, named=True)
        assert any("error while decoding" in error for error in facts["decode_errors"])
        assert current_identities(engine.tables.references.read(), (51,), accepting.toolchain).height == 1
        assert current_identities(engine.tables.references.read(), (51,), toolchain).is_empty()
        (failed,) = _failed(_measure(engine, clip, crfs=(51,)))
        assert "damage accepted" in failed.reason
        assert [done.outcome for done in _decode(engine, clip)] == ["quarantined"]
        _ingest(engine.tables, clip)
        assert engine.tables.current_rows().is_empty()

    def test_a_disk_that_is_away_condemns_no_clip(self, engine: Engine, tmp_path: Path, make_clip: MakeClip) -> None:
        clip = Clip("a", make_clip(tmp_path / "mounted" / "a.mp4"), 3.0)
        (before,) = _decode_and_measure(engine, clip, crfs=(51,))
        (tmp_path / "mounted").rename(tmp_path / "away")
        (outcome,) = engine.decode_references([clip])
        assert isinstance(outcome, ReferenceFailed)
        assert outcome.reason == "it could not be read: No such file or directory"
        (tmp_path / "away").rename(tmp_path / "mounted")
        (after,) = _done(_measure(engine, clip, crfs=(51,)))
        assert after.reused
        assert _measurement(after.row) == _measurement(before.row)

    def test_a_clip_in_quarantine_is_not_passed_over_once_its_file_is_another(
        self, engine: Engine, tmp_path: Path, make_clip: MakeClip
    ) -> None:
        clip = Clip("a", tmp_path / "a.mp4", 3.0)
        clip.src.write_bytes(b"no video at all")
        assert [done.outcome for done in _decode(engine, clip)] == ["quarantined"]
        assert [type(cell) for cell in _measure(engine, clip, crfs=(51,))] == [CellQuarantined]
        make_clip(clip.src)
        (failed,) = _failed(_measure(engine, clip, crfs=(51,)))
        assert failed.reason.startswith(
            "its file changed since it was put into quarantine; materialize decoded_reference"
        )

    def test_a_clip_that_was_repaired_leaves_quarantine(
        self, engine: Engine, tmp_path: Path, make_clip: MakeClip
    ) -> None:
        clip = Clip("a", tmp_path / "a.mp4", None)
        clip.src.write_bytes(b"no video at all")
        assert [done.outcome for done in _decode(engine, clip)] == ["quarantined"]
        assert [done.outcome for done in _decode(engine, clip)] == ["quarantined"]
        make_clip(clip.src)
        (cell,) = _decode_and_measure(engine, clip, crfs=(51,))
        assert cell.row["nr_mos"] is None

    def test_a_name_that_no_file_can_have_costs_only_its_own_clip(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        impossible = Clip("nul", Path("/clips/a\0.mp4"), 3.0)
        outcomes = {done.clip: done.outcome for done in _decode(engine, impossible, measured.clips[0])}
        assert outcomes == {"nul": "quarantined", "plain": "reused"}


class TestCellsThatCannotBeMeasured:
    def test_cells_without_a_decoded_reference_say_what_to_do(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        new = Clip("new", measured.clips[0].src, 3.0)
        cells = _measure(engine, new, measured.clips[0])
        assert [(cell.clip, cell.crf) for cell in _failed(cells[:2])] == [("new", crf) for crf in CRFS]
        assert all("materialize decoded_reference" in cell.reason for cell in _failed(cells[:2]))
        assert [cell.outcome for cell in _done(cells[2:])] == ["reused", "reused"]

    def test_a_failed_encode_costs_only_its_own_cell(self, measured: Measured, tmp_path: Path) -> None:
        class Saboteur(ToolRunner):
            def run(self, argv: Sequence[str], **how: Any) -> ToolResult:
                arguments = [*argv, "/missing/folder/x.mp4"] if "51" in argv else argv
                return super().run(arguments, **how)

        engine = measured.copy(tmp_path / "data")
        engine = replace(engine, toolchain=replace(engine.toolchain, runner=Saboteur()))
        good, bad = _measure(engine, measured.clips[0], crfs=(51, 45))
        assert isinstance(good, CellDone)
        assert isinstance(bad, CellFailed)
        assert (good.crf, bad.crf) == (45, 51)
        assert bad.reason.startswith("encode at CRF 51 failed")
        assert "-crf 51" in bad.detail
        stored = engine.tables.feature_rows.read(pl.col("clip") == "plain")["crf"].to_list()
        assert stored == sorted([*CRFS, 45])
        assert list(engine.tables.scratch.iterdir()) == []


class TestScratch:
    def test_nothing_is_left_of_a_batch(self, measured: Measured) -> None:
        assert list(measured.engine.tables.scratch.iterdir()) == []

    def test_nothing_is_left_of_a_batch_that_was_called_off(self, measured: Measured, tmp_path: Path) -> None:
        engine = measured.copy(tmp_path / "data")
        with ThreadPoolExecutor(1) as executor:
            engine = replace(engine, pool=WorkPool(LocalCrew(executor, cores=1, memory_bytes=1 << 30)))
            cells = engine.measure_cells({measured.clips[0]: (45, 48, 51), measured.clips[1]: (45,)}, run_id="run-2")
            first = next(iter(cells))
            assert isinstance(first, CellDone)
            assert list(engine.tables.scratch.iterdir()) != []
            cells.close()  # type: ignore[attr-defined]
        assert list(engine.tables.scratch.iterdir()) == []
        assert first.crf in engine.tables.feature_rows.read(pl.col("clip") == first.clip)["crf"]

    def test_a_table_that_cannot_be_written_ends_the_batch_and_leaves_nothing_working_or_lying_about(
        self, measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = measured.copy(tmp_path / "data")

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with ThreadPoolExecutor(2) as executor:
            engine = replace(engine, pool=WorkPool(LocalCrew(executor, cores=2, memory_bytes=1 << 30)))
            monkeypatch.setattr(PartTable, "append", full)
            with pytest.raises(OSError, match="No space left"):
                _measure(engine, *measured.clips, crfs=(44, 45, 46, 47, 48))
        assert list(engine.tables.scratch.iterdir()) == []

    def test_encodes_of_a_clip_are_gone_when_the_next_one_comes(self, measured: Measured, tmp_path: Path) -> None:
        engine, clips = measured.copy(tmp_path / "data"), list[str]()
        with ThreadPoolExecutor(1) as executor:
            engine = replace(engine, pool=WorkPool(LocalCrew(executor, cores=1, memory_bytes=1 << 30)))
            for cell in engine.measure_cells(dict.fromkeys(measured.clips, (48, 51)), run_id="run-2"):
                kept = {path.parents[2].name for path in engine.tables.scratch.rglob("distortion.mp4")}
                if clips and cell.clip != clips[-1]:
                    assert len(kept) == 1
                clips.append(cell.clip)
        assert clips == ["plain", "plain", "odd", "odd"]
