"""The command `frnr extract` as its users run it, and whatever may end it."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from frnr_assets.adapter import CORPUS_ROW_KEYS, PROVENANCE_KEYS
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.vocabulary import CANONICAL6_FEATURES, CAVEAT
from frnr_assets_tests.assets.tool_wrapper import processes_of
from frnr_assets_tests.conftest import MakeClip
from frnr_assets_tests.extraction import (
    CELLS,
    CLIPS,
    FRNR,
    MOS,
    SWEEP,
    MakeProject,
    Project,
    Row,
    json_lines,
    listed,
    make_clips,
    make_projects,
    measurements,
)

# What two clips on two cores may have encoded and not yet scored.
IN_FLIGHT = 2 * len(SWEEP)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips"), make_clip)


@pytest.fixture(scope="module")
def make_project(clips: Path, ffmpeg: FFmpeg) -> MakeProject:
    return make_projects(clips, ffmpeg.path)


@dataclass(frozen=True)
class Done:
    """An extraction that nothing interrupted, not to be changed."""

    project: Project
    said: str
    rows: list[Row]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, make_project: MakeProject) -> Done:
    project = make_project(tmp_path_factory.mktemp("project"))
    finished = project.run_as_a_user_does()
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == ""
    return Done(project, finished.stderr, project.rows())


class TestOutput:
    def test_rows_come_in_the_order_of_the_manifest_and_the_sweep(self, done: Done, clips: Path) -> None:
        expected = [(str(clips / f"{clip}.mp4"), crf, MOS[clip]) for clip in CLIPS for crf in SWEEP]
        assert [(row["src"], row["crf"], row["nr_mos"]) for row in done.rows] == expected

    def test_each_line_is_a_complete_row_with_the_contracts_keys_in_order(self, done: Done) -> None:
        for row in done.rows:
            assert tuple(row) == (*CORPUS_ROW_KEYS, *PROVENANCE_KEYS)
            assert {name for name, value in row.items() if value is None} <= {"nr_mos"}
            assert row["fr_from_nr"] is True
            assert row["src"] == row["nr_source"]
            assert (row["encode_path"], row["exit_status"], row["clip_mode"]) == ("", 0, "full")

    def test_a_parquet_file_has_the_same_rows_and_says_what_they_are(
        self, done: Done, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(tmp_path, done.project, "rows.parquet")
        finished = project.run()
        assert finished.returncode == 0, finished.stderr
        assert project.wrapper.encodes == 0, "what another output of the same manifest was made of is used again"
        assert pl.read_parquet(project.output).rows(named=True) == done.rows
        metadata = pq.read_schema(project.output).metadata or {}
        assert metadata[b"caveat"].decode() == CAVEAT
        assert json.loads(metadata[b"crf_sweep"]) == list(SWEEP)

    def test_progress_on_standard_error_names_rows_rate_and_failures(self, done: Done) -> None:
        last = [line for line in done.said.splitlines() if line.startswith("rows:")][-1]
        assert f"100%|##########| {CELLS}/{CELLS} [" in last
        assert re.search(r"[\d.]+row/s", last)
        assert "failures=0" in last
        assert done.said.splitlines()[-1] == f"frnr: {CELLS} rows in rows.jsonl"
        assert "\r" not in done.said, "in a log file every state is a line"

    def test_nothing_but_output_and_tables_is_left(self, done: Done) -> None:
        left = {path.name for path in done.project.folder.iterdir()}
        assert left == {"manifest.jsonl", "rows.jsonl", "data", ".workingdir2", "tool"}
        assert done.project.scratch == []
        assert not (done.project.folder / ".workingdir2" / "k150k-encodes").exists()


class TestOnceMore:
    def test_the_same_command_measures_nothing_and_leaves_the_output_as_it_is(
        self, done: Done, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(tmp_path, done.project)
        before = project.output.read_bytes()
        again = project.run()
        assert again.returncode == 0, again.stderr
        assert project.wrapper.encodes == 0
        assert project.output.read_bytes() == before
        assert f"{CELLS}/{CELLS} [" in again.stderr

    def test_only_what_is_new_is_measured_and_what_is_gone_leaves_the_output(
        self, done: Done, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(tmp_path, done.project)
        project.manifest(listed("clip4"), *(listed(clip, MOS[clip]) for clip in CLIPS[1:]))
        assert project.run().returncode == 0
        assert project.wrapper.encodes == len(SWEEP)
        rows = project.rows()
        assert [Path(row["src"]).stem for row in rows[: len(SWEEP)]] == ["clip4"] * len(SWEEP)
        assert rows[len(SWEEP) :] == done.rows[len(SWEEP) :]

    def test_a_corrected_mos_is_in_the_output_without_measuring(
        self, done: Done, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(tmp_path, done.project)
        project.manifest(*(listed(clip, 2.5) for clip in CLIPS))
        assert project.run().returncode == 0
        assert project.wrapper.encodes == 0
        assert project.rows() == [{**row, "nr_mos": 2.5} for row in done.rows]

    def test_rows_of_another_preset_and_sweep_are_used_again_when_it_comes_back(
        self, done: Done, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(tmp_path, done.project)
        before = project.output.read_bytes()
        assert project.run("--preset", "ultrafast", "--crf-sweep", "30").returncode == 0
        assert [(row["crf"], row["preset"]) for row in project.rows()] == [(30, "ultrafast")] * len(CLIPS)
        encodes = project.wrapper.encodes
        assert project.run().returncode == 0
        assert project.wrapper.encodes == encodes
        assert project.output.read_bytes() == before


class TestFailures:
    def test_what_cannot_be_used_is_named_with_its_reason_until_it_is_mended(
        self, clips: Path, make_project: MakeProject, tmp_path: Path
    ) -> None:
        ours = tmp_path / "ours"
        ours.mkdir()
        shutil.copy(clips / "clip0.mp4", ours / "good.mp4")
        (ours / "broken.mp4").write_bytes(b"not a video at all")
        project = make_project(tmp_path / "project")
        project.manifest(listed("broken"), listed("gone"), listed("good"), listed("good", 9.0), "no JSON")
        where = ("--clips-root", str(ours))
        first = project.run(*where)
        assert first.returncode == 1
        assert [Path(row["src"]).stem for row in project.rows()] == ["good"] * len(SWEEP)
        assert "frnr: 4 failures, with reasons, in rows.failures.jsonl" in first.stderr
        assert "failures=4" in first.stderr
        failures = json_lines(project.failures)
        assert {tuple(failure) for failure in failures} == {("src", "crf", "reason", "detail")}
        reasons = {failure["src"]: failure["reason"] for failure in failures if failure["src"] is not None}
        assert "no video of a known container" in reasons[str(ours / "broken.mp4")]
        assert "no file" in reasons[str(ours / "gone.mp4")] or "not there" in reasons[str(ours / "gone.mp4")]
        assert any("no JSON" in failure["detail"] for failure in failures)

        # What is broken stays so, and is not tried again.
        assert project.run(*where).returncode == 1
        assert json_lines(project.failures) == failures

        shutil.copy(clips / "clip1.mp4", ours / "broken.mp4")
        shutil.copy(clips / "clip2.mp4", ours / "gone.mp4")
        project.manifest(listed("broken"), listed("gone"), listed("good"))
        last = project.run(*where)
        assert last.returncode == 0, last.stderr
        assert not project.failures.exists()
        stems = [Path(row["src"]).stem for row in project.rows()]
        assert stems == [stem for stem in ("broken", "gone", "good") for _ in SWEEP]
        assert project.wrapper.encodes == 3 * len(SWEEP)

    def test_a_cell_that_failed_is_named_and_measured_by_the_same_command_later(
        self, done: Done, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(tmp_path)
        project.wrapper.fail("clip3.mp4 .*-crf 38 ")
        first = project.run()
        assert first.returncode == 1
        assert "Traceback" not in first.stderr
        (failure,) = json_lines(project.failures)
        assert failure["crf"] == 38
        assert "told to fail" in failure["reason"]
        assert "command: " in failure["detail"]
        assert failure["src"] == str(project.clips / "clip3.mp4")
        cell = (str(project.clips / "clip3.mp4"), 38)
        others = [row for row in done.rows if (row["src"], row["crf"]) != cell]
        assert measurements(project.rows()) == measurements(others)
        project.wrapper.fail(None)
        assert project.run().returncode == 0
        assert measurements(project.rows()) == measurements(done.rows)
        assert not project.failures.exists()

    def test_a_clip_in_quarantine_is_tried_again_when_asked_for(
        self, done: Done, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(tmp_path)
        project.wrapper.fail("clip0.mp4 .*scdet")
        assert project.run().returncode == 1
        project.wrapper.fail(None)
        assert project.run().returncode == 1, "its file has not changed"
        (failure,) = json_lines(project.failures)
        assert failure["src"] == str(project.clips / "clip0.mp4")
        assert failure["crf"] is None
        again = project.run("--retry-quarantined")
        assert again.returncode == 0, again.stderr
        assert measurements(project.rows()) == measurements(done.rows)
        assert not project.failures.exists()

    def test_a_narrower_scale_fails_the_clips_beyond_it_and_no_other(
        self, done: Done, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(tmp_path, done.project)
        finished = project.run("--mos-scale", "1,3.5")
        assert finished.returncode == 1
        assert [failure["src"] for failure in json_lines(project.failures)] == [str(project.clips / "clip1.mp4")]
        rows = project.rows()
        assert all(row["nr_mos"] is None or row["nr_mos"] <= 3.5 for row in rows)
        assert {Path(row["src"]).stem for row in rows} == {"clip0", "clip2", "clip3"}

    def test_a_manifest_of_which_nothing_can_be_used_is_one_sentence(
        self, make_project: MakeProject, tmp_path: Path
    ) -> None:
        project = make_project(tmp_path)
        project.manifest(listed("none"), listed("nor this"))
        finished = project.run()
        assert finished.returncode == 2
        assert "manifest.jsonl" in finished.stderr
        assert len(finished.stderr.splitlines()) == 1
        assert not project.output.exists()


def test_extra_features_are_a_file_of_their_own(done: Done, make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(tmp_path, done.project)
    finished = project.run("--extra-features", "psnr")
    assert finished.returncode == 0, finished.stderr
    extras = pl.read_parquet(tmp_path / "rows.extra_features.parquet")
    names = ["src", "src_sha256", "encoder", "preset", "crf", "feature", "mean", "std"]
    assert extras.columns == names
    expected = [
        (row["src"], row["src_sha256"], row["crf"], f"psnr_{plane}") for row in done.rows for plane in ("cb", "cr", "y")
    ]
    assert extras.select("src", "src_sha256", "crf", "feature").rows() == expected
    assert extras["mean"].is_between(10, 100).all()
    assert extras["std"].is_between(0, 50).all()
    assert measurements(project.rows()) == measurements(done.rows), "the contract has no column for them"


def test_frames_are_a_file_of_their_own_and_go_when_nobody_asks_for_them(
    done: Done, make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project(tmp_path, done.project)
    finished = project.run("--per-frame-scores")
    assert finished.returncode == 0, finished.stderr
    path = tmp_path / "rows.frames.parquet"
    cells = pl.read_parquet(path)
    cell = ["src", "src_sha256", "encoder", "preset", "crf"]
    assert cells.columns == [*cell, "vmaf", *CANONICAL6_FEATURES]
    assert cells.select(cell).rows() == [tuple(row[name] for name in cell) for row in done.rows], "in their order"
    assert cells["vmaf"].list.mean().to_list() == pytest.approx([row["vmaf_score"] for row in done.rows], rel=1e-6)
    metadata = pq.read_schema(path).metadata or {}
    assert metadata[b"caveat"].decode() == CAVEAT
    assert measurements(project.rows()) == measurements(done.rows), "the contract has no column for them"
    assert project.wrapper.encodes == CELLS
    assert project.run().returncode == 0
    assert project.wrapper.encodes == CELLS
    assert not path.exists()


@pytest.fixture
def running(make_project: MakeProject, tmp_path: Path) -> Iterator[tuple[Project, "subprocess.Popen[str]"]]:
    """An extraction of which some rows are durable, and whose last cell hangs."""
    project = make_project(tmp_path)
    project.wrapper.hang(f"{CLIPS[-1]}.mp4 .*-crf 38 ")
    # A shell that runs the tests in the background has its children ignore SIGINT.
    command = ["env", "--default-signal=INT", *FRNR, *project.arguments()]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (project.parts and hanging(project)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield project, process
    finally:
        process.kill()
        process.communicate()


def hanging(project: Project) -> list[int]:
    commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in processes_of(project.folder)}
    return [pid for pid, line in commands.items() if line.exists() and line.read_bytes().startswith(b"sleep\x00600")]


def wait_until_no_process(folder: Path) -> None:
    # The system kills a dead parent's children at once, but not before the parent is seen to be dead.
    deadline = time.monotonic() + 5
    while processes_of(folder):
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestInterruption:
    @pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
    def test_a_command_that_is_stopped_writes_the_rows_so_far_and_goes_on_later(
        self, sent: signal.Signals, running: tuple[Project, "subprocess.Popen[str]"], done: Done
    ) -> None:
        project, process = running
        process.send_signal(sent)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "interrupted" in said.splitlines()[-1]
        assert "Traceback" not in said
        assert processes_of(project.folder) == []
        assert project.scratch == []
        rows = measurements(project.rows())
        assert 0 < len(rows) < CELLS
        assert rows == [row for row in measurements(done.rows) if row in rows], "in order, each once"
        assert f"frnr: {len(rows)} rows in rows.jsonl" in said
        assert not project.failures.exists(), "what was not reached has not failed"

        project.wrapper.hang(None)
        again = project.run()
        assert again.returncode == 0, again.stderr
        assert measurements(project.rows()) == measurements(done.rows)
        assert project.wrapper.encodes <= CELLS + IN_FLIGHT

    def test_a_command_that_is_killed_has_lost_only_what_was_in_flight(
        self, running: tuple[Project, "subprocess.Popen[str]"], done: Done
    ) -> None:
        project, process = running
        process.kill()
        process.communicate(timeout=30)
        wait_until_no_process(project.folder)
        assert not project.output.exists()
        durable = project.tables.feature_rows.read().rows(named=True)
        assert durable

        project.wrapper.hang(None)
        again = project.run()
        assert again.returncode == 0, again.stderr
        assert measurements(project.rows()) == measurements(done.rows)
        stored = pl.read_parquet(project.parts)
        assert len(stored) == CELLS, "no cell was stored twice"
        assert not stored.select("clip", "encoder", "preset", "crf").is_duplicated().any()
        kept = {(row["clip"], row["crf"]): row["run_id"] for row in durable}
        found = {(row["clip"], row["crf"]): row["run_id"] for row in stored.iter_rows(named=True)}
        assert kept.items() <= found.items(), "what was durable was not measured again"
        assert project.wrapper.encodes <= CELLS + IN_FLIGHT
        assert project.scratch == [], "what the killed command left behind is gone"

    def test_a_second_command_on_the_same_input_is_refused(
        self, running: tuple[Project, "subprocess.Popen[str]"]
    ) -> None:
        project, process = running
        second = project.run()
        assert second.returncode == 1
        (line,) = second.stderr.splitlines()
        assert "being made already" in line
        assert "--data-root" in line
        assert process.poll() is None
        assert hanging(project), "the first goes on"

    def test_another_input_in_the_same_folder_is_not_held_up(
        self, running: tuple[Project, "subprocess.Popen[str]"]
    ) -> None:
        project, process = running
        (project.folder / "others.jsonl").write_text(f"{listed('clip5')}\n")
        second = project.run("--input", "others.jsonl", "--output", "others.parquet")
        assert second.returncode == 0, second.stderr
        assert len(pl.read_parquet(project.folder / "others.parquet")) == len(SWEEP)
        assert process.poll() is None
        assert hanging(project), "what the first has in its scratch folder is left alone"
