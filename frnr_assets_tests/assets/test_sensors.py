"""The stages that work in blocks, on fabricated tables and runs."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from frnr_assets.assets.fr_corpus import FR_CORPUS
from frnr_assets.automation import PUBLISH
from frnr_assets.corpus.backlog import backlog
from frnr_assets.corpus.tables import Tables
from frnr_assets.partitions import CLIP
from frnr_assets.settings import Automation
from frnr_assets_tests.assets.automated import (
    ASSETS,
    CANCELED,
    DECODE,
    FAILED,
    JOBS,
    MEASURE,
    QUEUED,
    STARTED,
    SUCCESS,
    Place,
    automated,
    ends,
)
from frnr_assets_tests.assets.conftest import on_both_storages


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: Mapping[str, object]) -> Iterator[Place]:
    with automated(tmp_path, monkeypatch, storage) as place:
        yield place


@pytest.fixture(params=[DECODE, MEASURE])
def stage(request: pytest.FixtureRequest, place: Place) -> str:
    """One of the stages, for which all clips wait."""
    place.ingest()
    if request.param == MEASURE:
        place.decode("abcdef")
    return str(request.param)


class TestBlocks:
    @pytest.mark.parametrize(("sensor", "size"), [(DECODE, 200), (MEASURE, 250)])
    def test_a_large_backlog_is_worked_off_in_blocks_of_which_few_are_queued(
        self, place: Place, sensor: str, size: int
    ) -> None:
        names = [f"clip{number}" for number in range(2 * size + 50)]
        place.write_clips(names)
        place.ingest()
        if sensor == MEASURE:
            place.decode(names)
        place.automation = Automation()
        asked = place.tick(sensor)
        expected = [place.tags(sensor, names[start], names[start + size - 1]) for start in (0, size)]
        assert [ends(tags) for tags in asked] == [ends(tags) for tags in expected]
        runs = [place.launch(JOBS[sensor], tags, QUEUED) for tags in asked]
        waiting = f"{len(names)} clips to do; 2 of at most 2 blocks are queued or running"
        assert place.why(sensor) == waiting
        place.done(sensor, names[:size])
        place.end(runs[0])
        assert [ends(tags) for tags in place.tick(sensor)] == [ends(place.tags(sensor, names[2 * size], names[-1]))]

    @on_both_storages
    def test_a_clip_that_is_gone_is_left_alone_and_splits_the_block(self, place: Place, stage: str) -> None:
        place.clip("e").unlink()
        place.write_manifest("acdef")
        place.ingest()
        assert place.blocks(stage) == ["a-a", "c-d", "f-f"]

    def test_a_clip_in_quarantine_is_not_decoded_until_its_file_changes(self, place: Place) -> None:
        place.ingest()
        place.quarantine("b")
        assert place.blocks(DECODE) == ["a-a", "c-f"]
        place.decode("acdef")
        assert place.why(DECODE) == "every clip is decoded; 1 are in quarantine"
        os.utime(place.clip("b"), ns=(1, 1))
        assert place.why(DECODE) == "every clip is decoded; 1 are in quarantine"
        place.ingest()
        assert place.blocks(DECODE) == ["b-b"]

    def test_clips_in_quarantine_do_not_split_blocks_of_cells_but_get_none_of_their_own(self, place: Place) -> None:
        place.ingest()
        place.decode("acf")
        place.quarantine("b", "d")
        assert place.blocks(MEASURE) == ["a-d", "f-f"]
        place.measure("acf")
        assert place.why(MEASURE) == "3 clips have all their rows, 2 are in quarantine, 1 wait to be decoded"

    def test_a_clip_that_a_person_brought_back_from_quarantine_is_measured(self, place: Place) -> None:
        place.ingest()
        place.decode("acdef")
        place.quarantine("b")
        place.measure("acdef")
        assert place.blocks(MEASURE) == []
        place.decode("b")
        assert place.blocks(MEASURE) == ["b-b"]

    @pytest.mark.parametrize(
        "changes",
        [{"preset": "slow"}, {"vmaf_model": "vmaf_v0.6.1neg"}, {"extra_params": ("-g", "9")}, {"crf_sweep": (22, 38)}],
        ids=["preset", "model", "parameters", "sweep"],
    )
    def test_another_setting_measures_everything_again(self, place: Place, changes: dict[str, object]) -> None:
        place.ingest()
        place.decode("abcdef")
        place.measure("abcdef")
        assert place.why(MEASURE) == "6 clips have all their rows, 0 are in quarantine"
        place.choices = changes
        (tags,) = place.tick(MEASURE)
        assert ends(tags) == ends(place.tags(MEASURE, "a", "f"))
        assert place.why(DECODE) == "every clip is decoded; 0 are in quarantine"

    def test_clips_that_are_no_partitions_yet_are_not_asked_for(self, place: Place, stage: str) -> None:
        for clip in "abcdef":
            place.instance.delete_dynamic_partition(CLIP, clip)
        assert place.why(stage) == "6 clips to do; 6 are no partitions yet; materialize source_manifest"

    @pytest.mark.parametrize("sensor", [DECODE, MEASURE])
    def test_before_an_ingestion_a_sensor_says_what_it_waits_for(self, place: Place, sensor: str) -> None:
        assert place.why(sensor) == "there is no table of clips yet; materialize source_manifest first"

    def test_an_idle_tick_does_not_read_the_tables_until_they_change(
        self, place: Place, stage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.done(stage, "abcdef")
        reason = place.why(stage)
        looked = []

        def counted(*args: Any) -> Any:
            looked.append(args)
            return backlog(*args)

        monkeypatch.setattr("frnr_assets.sensors.backlog", counted)
        assert (place.why(stage), len(looked)) == (reason, 0)
        place.quarantine("b")
        assert "1 are in quarantine" in place.why(stage)
        assert len(looked) == 1
        place.write_manifest("abcde")
        place.ingest()
        place.why(stage)
        assert len(looked) == 2


class TestClipsThatAreInARun:
    @pytest.mark.parametrize("status", [QUEUED, dg.DagsterRunStatus.STARTING, STARTED, dg.DagsterRunStatus.CANCELING])
    def test_they_are_not_asked_for_again(self, place: Place, stage: str, status: dg.DagsterRunStatus) -> None:
        (tags,) = place.tick(stage)
        run = place.launch(JOBS[stage], tags, status)
        assert place.why(stage) == "6 clips to do; 6 are in a run now"
        place.done(stage, "abcdef")
        place.end(run)
        assert "to do" not in place.why(stage)

    @pytest.mark.parametrize("kind", ["a job by hand", "a backfill", "a single partition", "the other stage"])
    def test_nor_are_those_of_a_run_that_a_person_launched(self, place: Place, stage: str, kind: str) -> None:
        tags, backfill = place.tags(stage, "b", "c"), {"dagster/backfill": "x"}
        if kind == "a job by hand":
            place.launch(JOBS[stage], tags, STARTED)
        elif kind == "a backfill":
            place.launch("__ASSET_JOB", {**tags, **backfill}, QUEUED, ASSETS[stage])
        elif kind == "a single partition":
            for clip in "bc":
                one = {"dagster/partition": clip if stage == DECODE else f"{clip}|38"}
                place.launch("__ASSET_JOB", {**one, **backfill}, QUEUED, ASSETS[stage])
        else:
            other = MEASURE if stage == DECODE else DECODE
            place.launch(JOBS[other], place.tags(other, "b", "c"), STARTED)
        assert place.blocks(stage) == ["a-a", "d-f"]

    def test_a_run_of_something_else_holds_nothing_up(self, place: Place, stage: str) -> None:
        place.launch(PUBLISH, {}, STARTED)
        place.launch("__ASSET_JOB", {"dagster/partition": "b"}, STARTED, FR_CORPUS)
        assert place.blocks(stage) == ["a-f"]

    def test_a_run_that_ends_during_the_tick_is_not_repeated(
        self, place: Place, stage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = place.launch(JOBS[stage], place.tags(stage, "a", "f"), STARTED)

        def while_it_ends(tables: Tables, recipe: Any) -> Any:
            found = backlog(tables, recipe)
            place.done(stage, "abcdef")
            place.end(run)
            return found

        monkeypatch.setattr("frnr_assets.sensors.backlog", while_it_ends)
        assert place.why(stage) == "6 clips to do; 6 are in a run now"


class TestClipsOfRunsThatFailed:
    @pytest.mark.parametrize("status", [FAILED, CANCELED])
    @pytest.mark.parametrize("by_hand", [False, True], ids=["by the sensor", "in a backfill"])
    def test_they_wait_and_the_others_do_not(
        self, place: Place, stage: str, status: dg.DagsterRunStatus, by_hand: bool
    ) -> None:
        job = ("__ASSET_JOB", ASSETS[stage]) if by_hand else (JOBS[stage], None)
        place.launch(job[0], place.tags(stage, "b", "c"), status, job[1])
        assert place.blocks(stage) == ["a-a", "d-f"]
        place.done(stage, "adef")
        place.clock.minutes = 59
        assert place.why(stage) == (
            "2 clips to do; 2 were tried in vain, or cancelled, less than 60 minutes ago and are tried again later"
        )
        place.clock.minutes = 61
        assert place.blocks(stage) == ["b-c"]

    @on_both_storages
    def test_three_runs_that_recorded_nothing_pause_the_stage_until_the_time_it_says(
        self, place: Place, stage: str
    ) -> None:
        for clip in "ab":
            place.launch(JOBS[stage], place.tags(stage, clip, clip), FAILED)
        assert place.blocks(stage) == ["c-f"]
        last = place.launch(JOBS[stage], place.tags(stage, "c", "c"), FAILED)
        reason = place.why(stage)
        assert reason.startswith(
            "6 clips to do; the last 3 runs failed, or were cancelled, and recorded nothing: read the message of run "
            f"{last.run_id}, mend it, and launch one by hand; the next try is at "
        )
        assert reason.endswith(place.clock.reads_in(60))
        place.clock.minutes = 61
        assert place.blocks(stage) == ["a-f"]

    def test_a_stage_with_a_success_is_not_paused(self, place: Place, stage: str) -> None:
        place.done(stage, "f")
        for clip in "abc":
            place.launch(JOBS[stage], place.tags(stage, clip, clip), FAILED)
        place.launch(JOBS[stage], place.tags(stage, "f", "f"), SUCCESS)
        assert place.blocks(stage) == ["d-e"]

    def test_a_stage_in_which_a_failed_run_recorded_something_is_not_paused(self, place: Place, stage: str) -> None:
        for clip in "abc":
            place.launch(JOBS[stage], place.tags(stage, clip, clip), FAILED)
        place.done(stage, "a")
        assert place.blocks(stage) == ["d-f"]

    def test_the_pause_ends_when_it_said_however_the_failures_were_spread(self, place: Place, stage: str) -> None:
        for clip, minutes in (("a", 10), ("b", 20), ("c", 40)):
            place.clock.minutes = minutes
            place.launch(JOBS[stage], place.tags(stage, clip, clip), FAILED)
        assert place.why(stage).endswith(f"the next try is at {place.clock.reads_in(30)}")
        place.clock.minutes = 69
        assert place.blocks(stage) == []
        place.clock.minutes = 71
        assert place.blocks(stage) == ["a-a", "d-f"]

    def test_two_failures_and_a_run_that_goes_on_are_no_pause(self, place: Place, stage: str) -> None:
        for clip in "ab":
            place.launch(JOBS[stage], place.tags(stage, clip, clip), FAILED)
        place.launch(JOBS[stage], place.tags(stage, "c", "c"), STARTED)
        assert place.blocks(stage) == ["d-f"]


class TestAFileThatChangedSinceItWasIngested:
    def test_it_is_not_decoded_in_every_tick_until_it_is_ingested(self, place: Place) -> None:
        place.ingest()
        place.decode("bcdef")
        assert place.blocks(DECODE) == ["a-a"]
        place.clip("a").write_bytes(b"another")
        file = place.clip("a").stat()
        run = place.launch(JOBS[DECODE], place.tags(DECODE, "a", "a"))
        place.decode("a", size_bytes=file.st_size, mtime_ns=file.st_mtime_ns)
        place.end(run)
        assert place.why(DECODE).startswith("1 clips to do; 1 were tried in vain")
        place.clock.minutes = 61
        assert place.blocks(DECODE) == ["a-a"]
        place.ingest()
        assert place.why(DECODE) == "every clip is decoded; 0 are in quarantine"

    def test_once_it_is_ingested_it_is_decoded_without_delay(self, place: Place) -> None:
        place.ingest()
        place.launch(JOBS[DECODE], place.tags(DECODE, "a", "f"), SUCCESS)
        place.decode("abcdef")
        place.clip("a").write_bytes(b"another")
        place.ingest()
        assert place.blocks(DECODE) == ["a-a"]
