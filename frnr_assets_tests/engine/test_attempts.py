"""Clips on which the tools keep failing, from run to run, with the real ffmpeg."""

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.attempts import MAX_ATTEMPTS, AttemptLog
from frnr_assets.engine.batch import Engine
from frnr_assets.engine.outcomes import Clip, ReferenceDone, ReferenceFailed
from frnr_assets.media.pool import LocalCrew, WorkPool
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.toolchain import Toolchain
from frnr_assets_tests.assets.tool_wrapper import ToolWrapper, wrap
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip

CRFS = (38, 51)
FILE = {"size_bytes": 100, "mtime_ns": 7}

# Whatever this ffmpeg is told to do before it does what it is asked: a shell command in a file.
_ORDERS = """\
#!/bin/sh
test -e {folder}/orders && . {folder}/orders
exec {ffmpeg} "$@"
"""
KILL = "kill -KILL $$"
NO_SPACE = "echo '[error] No space left on device' >&2; exit 1"


@dataclass(frozen=True)
class Stage:
    """A clip that is decoded and measured in one run after another, each with an engine of its own."""

    clip: Clip
    tables: Tables
    toolchain: Toolchain
    wrapper: ToolWrapper

    def order(self, command: str | None) -> None:
        orders = self.wrapper.folder / "orders"
        if command is None:
            orders.unlink()
        else:
            orders.write_text(f"{command}\n")

    def decode(self) -> ReferenceDone | ReferenceFailed:
        outcome: ReferenceDone | ReferenceFailed
        (outcome,) = self._run(lambda engine: engine.decode_references([self.clip]))
        return outcome

    def decode_until_quarantined(self) -> ReferenceDone:
        self.order(KILL)
        for _ in range(MAX_ATTEMPTS - 1):
            assert isinstance(self.decode(), ReferenceFailed)
        last = self.decode()
        assert isinstance(last, ReferenceDone)
        assert last.outcome == "quarantined"
        self.order(None)
        return last

    def measure(self, *crfs: int, recompute: bool = False) -> list[str]:
        """Return how the cells went, by CRF."""
        cells = self._run(
            lambda engine: engine.measure_cells({self.clip: crfs or CRFS}, run_id="run", recompute=recompute)
        )
        return [getattr(cell, "outcome", "failed") for cell in sorted(cells, key=lambda cell: cell.crf)]

    def measure_until_quarantined(self, *crfs: int) -> None:
        self.wrapper.fail(" -crf ")
        for _ in range(MAX_ATTEMPTS - 1):
            assert set(self.measure(*crfs)) == {"failed"}
        assert set(self.measure(*crfs)) == {"quarantined"}
        self.wrapper.fail(None)

    def reference(self) -> dict[str, Any]:
        (row,) = self.tables.references.read().rows(named=True)
        return row

    def attempts(self) -> int | None:
        """Return how many failures in a row are counted; None when none ever was."""
        counts = self.tables.attempts.read()["attempts"].to_list()
        return counts[0] if counts else None

    def _run(self, work: Callable[[Engine], Iterable[Any]]) -> list[Any]:
        with ThreadPoolExecutor(2) as executor:
            pool = WorkPool(LocalCrew(executor, cores=2, memory_bytes=1 << 30))
            return list(work(Engine(self.tables, replace(self.toolchain, runner=ToolRunner()), pool)))


@pytest.fixture
def stage(tmp_path: Path, toolchain: Toolchain, make_clip: MakeClip) -> Stage:
    wrapper = wrap(toolchain.ffmpeg.path, tmp_path / "tool")
    obeying = tmp_path / "obeying"
    obeying.write_text(_ORDERS.format(folder=wrapper.folder, ffmpeg=wrapper.path))
    obeying.chmod(0o755)
    clip = Clip("a", make_clip(tmp_path / "clips" / "a.mp4"), 3.0)
    ffmpeg = replace(toolchain.ffmpeg, path=obeying)
    return Stage(clip, Tables(tmp_path / "data"), replace(toolchain, ffmpeg=ffmpeg), wrapper)


@pytest.fixture
def decoded(stage: Stage) -> Stage:
    assert isinstance(stage.decode(), ReferenceDone)
    return stage


class TestTheCount:
    def test_the_third_run_in_a_row_is_the_last(self, tmp_path: Path) -> None:
        tables = Tables(tmp_path)
        found = [AttemptLog(tables, ["a"]).failed("a", FILE, "killed") for _ in range(4)]
        sentence = "it failed in {} runs; the last time: killed"
        assert found == [None, None, sentence.format(3), sentence.format(4)]

    def test_one_run_counts_once_however_often_it_failed(self, tmp_path: Path) -> None:
        tables = Tables(tmp_path)
        log = AttemptLog(tables, ["a"])
        assert [log.failed("a", FILE, "killed") for _ in range(5)] == [None] * 5
        assert log.attempts("a") == 1
        assert len(list((tmp_path / "tables" / "attempts").glob("*.parquet"))) == 1, "nor is it written again"
        assert AttemptLog(tables, ["a"]).failed("a", FILE, "killed") is None

    @pytest.mark.parametrize("changes", [{"size_bytes": 101}, {"mtime_ns": 8}])
    def test_another_file_is_not_blamed_for_the_one_before(self, tmp_path: Path, changes: dict[str, int]) -> None:
        tables = Tables(tmp_path)
        for _ in range(MAX_ATTEMPTS - 1):
            AttemptLog(tables, ["a"]).failed("a", FILE, "killed")
        log = AttemptLog(tables, ["a"])
        assert log.failed("a", {**FILE, **changes}, "killed") is None
        assert log.attempts("a") == 1

    def test_clips_are_not_blamed_for_each_other(self, tmp_path: Path) -> None:
        tables = Tables(tmp_path)
        for clip in ("a", "b", "c"):
            assert AttemptLog(tables, ["a", "b", "c"]).failed(clip, FILE, "killed") is None
        AttemptLog(tables, ["a", "b", "c"]).worked(["b"])
        assert dict(tables.attempts.read().select("clip", "attempts").iter_rows()) == {"a": 1, "b": 0, "c": 1}

    def test_a_run_in_which_a_clip_failed_is_no_success_of_it(self, tmp_path: Path) -> None:
        tables = Tables(tmp_path)
        AttemptLog(tables, ["a"]).failed("a", FILE, "killed")
        log = AttemptLog(tables, ["a"])
        log.failed("a", FILE, "killed")
        log.worked(["a"])
        assert tables.attempts.read()["attempts"].to_list() == [2]

    def test_clips_that_always_work_cost_the_table_nothing(self, tmp_path: Path) -> None:
        tables = Tables(tmp_path)
        AttemptLog(tables, ["a", "b"]).worked(["a", "b"])
        assert not (tmp_path / "tables" / "attempts").exists()


class TestDecoding:
    def test_a_clip_that_ends_its_tool_three_times_goes_into_quarantine(self, stage: Stage) -> None:
        stage.order(KILL)
        failed = stage.decode()
        assert isinstance(failed, ReferenceFailed)
        assert failed.tool_ran
        assert isinstance(stage.decode(), ReferenceFailed)
        assert stage.tables.references.read().is_empty()
        last = stage.decode()
        assert isinstance(last, ReferenceDone)
        row = stage.reference()
        assert {name: row[name] for name in last.row} == dict(last.row)
        assert row["quarantine_reason"] == (
            "it failed in 3 runs; the last time: decode failed: ffmpeg was ended by signal 9"
        )
        assert "exit status: -9" in row["tool_output"]
        file = stage.clip.src.stat()
        assert (row["attempts"], row["size_bytes"], row["mtime_ns"]) == (3, file.st_size, file.st_mtime_ns)
        stage.order(None)
        assert stage.measure() == ["quarantined"] * 2
        assert stage.tables.feature_rows.read().is_empty()

    def test_the_quarantine_says_which_content_it_is_about(self, stage: Stage) -> None:
        stage.decode_until_quarantined()
        assert stage.reference()["src_sha256"] is not None

    def test_one_success_starts_the_count_anew(self, stage: Stage) -> None:
        stage.order(KILL)
        assert [type(stage.decode()) for _ in range(2)] == [ReferenceFailed] * 2
        stage.order(None)
        assert stage.decode().outcome == "done"  # type: ignore[union-attr]
        assert stage.attempts() == 0

    def test_another_file_starts_the_count_anew(self, stage: Stage, make_clip: MakeClip) -> None:
        stage.order(KILL)
        assert [type(stage.decode()) for _ in range(2)] == [ReferenceFailed] * 2
        make_clip(stage.clip.src, SMALL_SCENE.replace("end_frame=12", "end_frame=10"))
        assert isinstance(stage.decode(), ReferenceFailed)
        assert stage.attempts() == 1

    def test_a_person_brings_it_back(self, stage: Stage) -> None:
        stage.decode_until_quarantined()
        back = stage.decode()
        assert isinstance(back, ReferenceDone)
        assert back.outcome == "done"
        assert stage.attempts() == 0
        assert stage.measure() == ["done"] * 2

    def test_a_person_in_vain_makes_it_four(self, stage: Stage) -> None:
        stage.decode_until_quarantined()
        stage.order(KILL)
        again = stage.decode()
        assert isinstance(again, ReferenceDone)
        assert again.row["attempts"] == 4
        assert stage.reference()["quarantine_reason"].startswith("it failed in 4 runs")

    def test_a_clip_that_is_broken_counts_who_tried_it(self, stage: Stage) -> None:
        stage.clip.src.write_bytes(b"no video at all")
        for tried in (1, 2, 3):
            assert isinstance(stage.decode(), ReferenceDone)
            assert (stage.reference()["attempts"], stage.attempts()) == (tried, None)
        stage.clip.src.write_bytes(b"no video either, but another file")
        stage.decode()
        assert stage.reference()["attempts"] == 1

    def test_a_file_that_is_away_is_not_the_clips_failure(self, stage: Stage) -> None:
        stage.clip.src.unlink()
        for _ in range(MAX_ATTEMPTS):
            failed = stage.decode()
            assert isinstance(failed, ReferenceFailed)
            assert not failed.tool_ran
        assert stage.attempts() is None

    def test_a_full_disk_is_not_the_clips_failure(self, stage: Stage) -> None:
        stage.order(NO_SPACE)
        for _ in range(MAX_ATTEMPTS):
            with pytest.raises(OSError, match="No space left on device") as caught:
                stage.decode()
            assert caught.value.errno == errno.ENOSPC
        assert stage.attempts() is None
        assert stage.tables.references.read().is_empty()

    def test_a_file_that_goes_away_while_it_is_decoded_does_not_condemn_its_clip(self, stage: Stage) -> None:
        stage.order(f"rm -f {stage.clip.src}")
        assert isinstance(stage.decode(), ReferenceFailed)


class TestMeasuring:
    @pytest.mark.parametrize("tool", [" -crf 51 ", "libvmaf"], ids=["encode", "score"])
    def test_a_clip_with_a_cell_that_fails_three_times_goes_into_quarantine(self, decoded: Stage, tool: str) -> None:
        before = decoded.reference()
        decoded.wrapper.fail(tool)
        assert decoded.measure(51) == ["failed"]
        assert decoded.measure(51) == ["failed"]
        assert decoded.reference() == before
        assert decoded.measure(51) == ["quarantined"]
        row = decoded.reference()
        assert row["quarantine_reason"].startswith("it failed in 3 runs; the last time: ")
        assert "told to fail" in row["tool_output"]
        assert row["attempts"] == 3
        of_the_file = ("src", "src_sha256", "size_bytes", "mtime_ns")
        assert [row[name] for name in of_the_file] == [before[name] for name in of_the_file]
        decoded.wrapper.fail(None)
        assert decoded.measure(51) == ["quarantined"]
        assert decoded.tables.feature_rows.read().is_empty()

    def test_several_cells_of_a_run_count_once(self, decoded: Stage) -> None:
        decoded.wrapper.fail(" -crf ")
        assert decoded.measure(38, 45, 51) == ["failed"] * 3
        assert decoded.attempts() == 1
        assert decoded.measure(38, 45, 51) == ["failed"] * 3
        assert decoded.measure(38, 45, 51) == ["quarantined"] * 3
        assert decoded.reference()["attempts"] == 3

    def test_cells_that_work_do_not_hide_one_that_never_does(self, decoded: Stage) -> None:
        decoded.wrapper.fail(" -crf 51 ")
        assert decoded.measure(recompute=True) == ["done", "failed"]
        assert decoded.measure(recompute=True) == ["done", "failed"]
        assert decoded.measure(recompute=True) == ["done", "quarantined"]

    def test_one_success_starts_the_count_anew(self, decoded: Stage) -> None:
        decoded.wrapper.fail(" -crf ")
        assert [decoded.measure() for _ in range(2)] == [["failed"] * 2] * 2
        decoded.wrapper.fail(None)
        assert decoded.measure() == ["done"] * 2
        assert decoded.attempts() == 0

    def test_rows_that_were_there_already_are_no_success(self, decoded: Stage) -> None:
        assert decoded.measure(38) == ["done"]
        decoded.wrapper.fail(" -crf 51 ")
        assert decoded.measure(51) == ["failed"]
        assert decoded.measure(38) == ["reused"]
        assert decoded.attempts() == 1

    def test_another_file_starts_the_count_anew(self, decoded: Stage, make_clip: MakeClip) -> None:
        decoded.wrapper.fail(" -crf ")
        assert [decoded.measure(51) for _ in range(2)] == [["failed"]] * 2
        make_clip(decoded.clip.src, SMALL_SCENE.replace("end_frame=12", "end_frame=10"))
        assert isinstance(decoded.decode(), ReferenceDone)
        assert decoded.measure(51) == ["failed"]
        assert decoded.attempts() == 1

    def test_a_person_brings_it_back_and_the_count_starts_anew(self, decoded: Stage) -> None:
        decoded.measure_until_quarantined(51)
        back = decoded.decode()
        assert isinstance(back, ReferenceDone)
        assert back.outcome == "done"
        decoded.wrapper.fail(" -crf ")
        assert [decoded.measure(51) for _ in range(2)] == [["failed"]] * 2
        decoded.wrapper.fail(None)
        assert decoded.measure(51) == ["done"]

    def test_another_file_leaves_quarantine(self, decoded: Stage, make_clip: MakeClip) -> None:
        decoded.measure_until_quarantined(51)
        make_clip(decoded.clip.src, SMALL_SCENE.replace("end_frame=12", "end_frame=10"))
        assert isinstance(decoded.decode(), ReferenceDone)
        assert decoded.measure(51) == ["done"]

    def test_a_file_that_is_away_is_not_the_clips_failure(self, decoded: Stage) -> None:
        away = decoded.clip.src.rename(decoded.clip.src.with_name("away"))
        for _ in range(MAX_ATTEMPTS):
            assert decoded.measure(51) == ["failed"]
        assert decoded.attempts() is None
        away.rename(decoded.clip.src)
        assert decoded.measure(51) == ["done"]

    def test_a_file_that_goes_away_while_it_is_measured_is_not_the_clips_failure(self, decoded: Stage) -> None:
        decoded.order(f"rm -f {decoded.clip.src}")
        assert decoded.measure(51) == ["failed"]
        assert decoded.attempts() is None

    def test_a_full_disk_is_not_the_clips_failure(self, decoded: Stage) -> None:
        decoded.order(NO_SPACE)
        for _ in range(MAX_ATTEMPTS):
            with pytest.raises(OSError, match="No space left on device"):
                decoded.measure(51)
        assert decoded.attempts() is None
        decoded.order(None)
        assert decoded.measure(51) == ["done"]

    def test_a_failure_that_is_not_counted_is_no_success_either(self, decoded: Stage) -> None:
        decoded.wrapper.fail(" -crf ")
        assert decoded.measure(51) == ["failed"]
        decoded.wrapper.fail(None)
        # Touched while it is scored: its rows would be those of nobody knows which file.
        decoded.order(f"touch -d '2001-01-01' {decoded.clip.src}")
        assert decoded.measure(51) == ["failed"]
        assert decoded.attempts() == 1


class TestFilesOfEqualContent:
    @pytest.mark.parametrize("change", ["touched", "moved", "moved and touched"])
    def test_the_reference_is_not_decoded_again_and_takes_note(
        self, decoded: Stage, tmp_path: Path, change: str
    ) -> None:
        before, now = decoded.reference(), decoded
        if "moved" in change:
            moved = shutil.move(decoded.clip.src, tmp_path / "clips" / "moved.mp4")
            now = replace(decoded, clip=replace(decoded.clip, src=Path(moved)))
        if "touched" in change:
            os.utime(now.clip.src, ns=(10**18, 10**18))
        decoded.order(KILL)
        done = now.decode()
        assert isinstance(done, ReferenceDone)
        assert done.outcome == "reused"
        expected = {"src": str(now.clip.src), "mtime_ns": now.clip.src.stat().st_mtime_ns}
        again = {name: now.reference()[name] for name in ("recorded_ns", "file_state")}
        assert now.reference() == {**before, **expected, **again}
        assert now.reference()["recorded_ns"] > before["recorded_ns"]
        recorded = now.reference()
        now.decode()
        assert now.reference() == recorded
