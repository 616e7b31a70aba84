"""Reading manifests again, downloading, publishing; what is on from the start; and all of it on the real graph."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from frnr_assets.assets.cells import FEATURE_ROWS
from frnr_assets.assets.fr_corpus import FR_CORPUS
from frnr_assets.assets.source_manifest import SOURCE_MANIFEST
from frnr_assets.automation import CELLS, INGEST, PUBLISH, REFERENCES
from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.corpus.publish import current_version
from frnr_assets.definitions import build_definitions
from frnr_assets.maintenance import CLEAR, DOWNLOAD
from frnr_assets.settings import Automation
from frnr_assets_tests.assets.automated import (
    CANCELED,
    DECODE,
    FAILED,
    FETCH,
    JOBS,
    MEASURE,
    PUBLICATION,
    QUEUED,
    WATCH,
    Place,
    automated,
    ends,
)
from frnr_assets_tests.assets.conftest import Project, on_both_storages
from frnr_assets_tests.conftest import MakeClip

NOTHING_CHANGED = "no manifest and no clip's file has changed since the manifests were read"
ASKED = "publication was asked for already"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with automated(tmp_path, monkeypatch) as place:
        yield place


def publish_by_hand(place: Place, meanwhile: Callable[[], None]) -> None:
    @dg.asset(key=FR_CORPUS)
    def fr_corpus() -> None:
        meanwhile()

    assert dg.materialize([fr_corpus], instance=place.instance).success


class TestWatching:
    def test_before_the_first_ingestion_it_asks_for_one(self, place: Place) -> None:
        assert len(place.tick(WATCH)) == 1
        place.ingest()
        assert place.why(WATCH) == NOTHING_CHANGED

    def test_a_dataset_that_could_not_be_read_is_not_said_to_be_well(self, place: Place) -> None:
        place.manifest.write_text("")
        with pytest.raises(ManifestError):
            place.ingest()
        assert place.why(WATCH) == (
            "a dataset could not be used when the manifests were read, and nothing has changed since; the last run of "
            "read_manifest says why"
        )

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda place: place.write_manifest("abc"), "manifest.jsonl"),
            (lambda place: place.manifest.unlink(), "manifest.jsonl"),
            (lambda place: place.clip("b").write_bytes(b"another"), "b.mp4"),
            (lambda place: os.utime(place.clip("b"), ns=(1, 1)), "b.mp4"),
            (lambda place: place.clip("b").unlink(), "b.mp4"),
            (lambda place: place.clip("late").write_bytes(b"here at last"), "late.mp4"),
        ],
        ids=["manifest", "no manifest", "file", "touched file", "no file", "file that was missing"],
    )
    def test_a_change_is_asked_about_once_and_again_only_when_it_persists(
        self, place: Place, change: Callable[[Place], object], what: str
    ) -> None:
        place.write_manifest([*"abcdef", "late"])
        place.ingest()
        assert place.why(WATCH) == NOTHING_CHANGED
        change(place)
        assert len(place.tick(WATCH)) == 1
        assert place.why(WATCH) == (
            f"changed: {place.folder / what}. A run was asked for already; if it fails, another one is at "
            f"{place.clock.reads_in(60)}"
        )
        place.clock.minutes = 59
        assert place.tick(WATCH) == []
        place.clock.minutes = 61
        assert len(place.tick(WATCH)) == 1
        assert place.tick(WATCH) == []

    def test_after_the_run_it_is_silent(self, place: Place) -> None:
        place.ingest()
        place.clip("b").write_bytes(b"another")
        place.tick(WATCH)
        place.ingest()
        place.clock.minutes = 61
        assert place.why(WATCH) == NOTHING_CHANGED

    def test_another_change_does_not_wait_for_the_first(self, place: Place) -> None:
        place.ingest()
        for clip in "abcde":
            place.clip(clip).unlink()
            assert len(place.tick(WATCH)) == 1
        assert ", ".join(str(place.clip(clip)) for clip in "abc") + " and 2 more" in place.why(WATCH)

    def test_a_manifest_that_is_being_written_is_not_read_half(self, place: Place) -> None:
        place.ingest()
        place.write_manifest("ab")
        place.clock.minutes = 0
        assert place.why(WATCH) == (
            f"changed: {place.manifest}. {place.manifest} was written just now, and may not be complete"
        )
        place.clock.minutes = 1
        assert len(place.tick(WATCH)) == 1

    def test_a_file_that_changes_again_is_asked_about_again(self, place: Place) -> None:
        place.ingest()
        for content in (b"another", b"yet another"):
            place.clip("b").write_bytes(content)
            assert len(place.tick(WATCH)) == 1

    def test_a_configuration_that_is_changed_again_is_asked_about_again(self, place: Place) -> None:
        place.ingest()
        (dataset,) = place.settings.datasets
        for scale in ((1.0, 6.0), (1.0, 7.0)):
            place.choices["datasets"] = (dataset.model_copy(update={"mos_scale": scale}),)
            assert len(place.tick(WATCH)) == 1
            assert place.why(WATCH).startswith("changed: the configuration of the datasets. A run was asked for")

    def test_the_same_change_once_more_is_asked_about_without_delay(self, place: Place) -> None:
        place.ingest()
        away = place.clip("b").with_suffix(".away")
        for _ in range(2):
            place.clip("b").rename(away)
            assert len(place.tick(WATCH)) == 1
            away.rename(place.clip("b"))
            place.ingest()
            assert place.why(WATCH) == NOTHING_CHANGED

    @pytest.mark.parametrize("by_hand", [False, True])
    def test_files_that_keep_arriving_do_not_pile_up_runs(self, place: Place, by_hand: bool) -> None:
        place.ingest()
        place.clip("a").unlink()
        assert len(place.tick(WATCH)) == 1
        job, asset = ("__ASSET_JOB", SOURCE_MANIFEST) if by_hand else (INGEST, None)
        run = place.launch(job, {}, QUEUED, asset)
        place.clip("b").unlink()
        reading = "the manifests are being read; what has changed since is looked at afterwards"
        assert place.why(WATCH) == reading
        place.end(run)
        assert len(place.tick(WATCH)) == 1

    def test_a_dataset_that_cannot_be_looked_at_is_named(self, place: Place) -> None:
        place.choices["datasets"] = (Dataset(name="drop", manifest=place.folder),)
        assert place.why(WATCH).startswith(f"{place.folder}: a folder, and no KonViD-150k score file in it")


class TestFetching:
    @pytest.fixture
    def missing(self, place: Place) -> Place:
        """Three clips of which two are to be downloaded."""
        place.clip("a").unlink()
        place.clip("b").unlink()
        place.write_manifest("abc", url="http://127.0.0.1:9/clip.mp4")
        assert place.why(FETCH) == "no source waits for its download"
        place.ingest()
        return place

    def test_missing_sources_are_asked_for_once_and_again_only_when_they_still_wait(self, missing: Place) -> None:
        assert len(missing.tick(FETCH)) == 1
        wait = f"2 sources wait: {missing.clip('a')}, {missing.clip('b')}"
        assert missing.why(FETCH).startswith(f"{wait}. A run was asked for already")
        missing.clock.minutes = 61
        assert len(missing.tick(FETCH)) == 1

    def test_one_download_run_at_a_time(self, missing: Place) -> None:
        run = missing.launch(DOWNLOAD, {}, QUEUED)
        assert missing.why(FETCH) == "a download is under way; 2 sources wait"
        missing.end(run, FAILED)
        assert len(missing.tick(FETCH)) == 1

    def test_what_was_downloaded_is_not_fetched_again_before_it_is_ingested(self, missing: Place) -> None:
        missing.tick(FETCH)
        missing.clip("a").write_bytes(b"a downloaded clip")
        missing.clip("b").write_bytes(b"another one")
        assert missing.why(FETCH) == "no source waits for its download"
        assert len(missing.tick(WATCH)) == 1

    def test_a_clip_whose_file_went_away_is_fetched_again(self, missing: Place) -> None:
        missing.clip("c").unlink()
        missing.ingest()
        missing.tick(FETCH)
        assert missing.why(FETCH).startswith("3 sources wait")

    @pytest.mark.parametrize(
        ("permanent", "attempts", "waiting"),
        [(True, 1, 1), (False, 3, 1), (False, 2, 2)],
        ids=["404", "third", "second"],
    )
    def test_a_source_that_was_given_up_is_left_to_a_person(
        self, missing: Place, permanent: bool, attempts: int, waiting: int
    ) -> None:
        row = {"src": str(missing.clip("a")), "url": "http://127.0.0.1:9/clip.mp4", "size_bytes": None}
        missing.tables.downloads.append([{**row, "failure": "HTTP 404", "permanent": permanent, "attempts": attempts}])
        missing.tick(FETCH)
        assert missing.why(FETCH).startswith(f"{waiting} sources wait")


class TestPublishing:
    @pytest.fixture
    def measured(self, place: Place) -> Place:
        place.ingest()
        place.decode("abcdef")
        assert place.why(PUBLICATION) == "no cell was measured yet"
        place.measure("abc")
        return place

    def measuring(self, place: Place) -> dg.DagsterRun:
        return place.launch(CELLS, place.tags(MEASURE, "d", "f"))

    def waits_until(self, place: Place, minutes: float) -> str:
        at = place.clock.reads_in(minutes)
        return f"clips are being measured; the next publication is when they are done, or at {at}"

    def test_what_is_measured_is_published_at_once_and_once(self, measured: Place) -> None:
        assert len(measured.tick(PUBLICATION)) == 1
        assert measured.why(PUBLICATION).startswith(ASKED)
        publish_by_hand(measured, lambda: None)
        measured.clock.minutes = 1000
        assert measured.why(PUBLICATION) == "what was measured is published"

    @pytest.mark.parametrize("kind", ["cells", "references", "a backfill"])
    def test_while_clips_are_being_measured_it_is_published_every_hour(self, measured: Place, kind: str) -> None:
        measured.tick(PUBLICATION)
        if kind == "cells":
            run = self.measuring(measured)
        elif kind == "references":
            run = measured.launch(REFERENCES, measured.tags(DECODE, "d", "f"), QUEUED)
        else:
            run = measured.launch("__ASSET_JOB", measured.tags(MEASURE, "d", "f"), QUEUED, FEATURE_ROWS)
        measured.measure("d")
        assert measured.why(PUBLICATION) == self.waits_until(measured, 60)
        measured.clock.minutes = 61
        assert len(measured.tick(PUBLICATION)) == 1
        measured.measure("e")
        assert measured.why(PUBLICATION) == self.waits_until(measured, 60)
        measured.end(run)
        assert len(measured.tick(PUBLICATION)) == 1

    def test_a_publication_by_hand_counts(self, measured: Place) -> None:
        measured.clock.minutes = 0
        publish_by_hand(measured, lambda: None)
        assert measured.why(PUBLICATION) == "what was measured is published"
        self.measuring(measured)
        measured.measure("d")
        assert measured.why(PUBLICATION) == self.waits_until(measured, 60)

    def test_what_was_measured_during_a_publication_is_published_by_the_next(self, measured: Place) -> None:
        publish_by_hand(measured, lambda: measured.measure("d"))
        assert len(measured.tick(PUBLICATION)) == 1

    def test_a_corrected_mos_alone_is_published(self, measured: Place) -> None:
        measured.tick(PUBLICATION)
        measured.ingest()
        assert measured.why(PUBLICATION).startswith(ASKED)
        measured.write_manifest("abcdef", mos=2.5)
        measured.ingest()
        assert len(measured.tick(PUBLICATION)) == 1

    def test_a_clip_that_left_the_manifest_leaves_the_corpus(self, measured: Place) -> None:
        measured.tick(PUBLICATION)
        measured.write_manifest("abcde")
        measured.ingest()
        assert len(measured.tick(PUBLICATION)) == 1

    def test_a_clip_put_into_quarantine_leaves_the_corpus(self, measured: Place) -> None:
        measured.tick(PUBLICATION)
        measured.quarantine("a")
        assert len(measured.tick(PUBLICATION)) == 1

    def test_merging_the_tables_parts_changes_nothing_to_publish(self, measured: Place) -> None:
        measured.measure("def")
        measured.tick(PUBLICATION)
        measured.tables.feature_rows.compact()
        measured.tables.references.compact()
        assert measured.why(PUBLICATION).startswith(ASKED)

    @pytest.mark.parametrize("status", [FAILED, CANCELED])
    def test_a_publication_that_failed_is_repeated_after_an_hour_or_when_something_changes(
        self, measured: Place, status: dg.DagsterRunStatus
    ) -> None:
        measured.tick(PUBLICATION)
        measured.launch(PUBLISH, {}, status)
        assert measured.why(PUBLICATION) == f"{ASKED}; if it failed, another is at {measured.clock.reads_in(60)}"
        measured.clock.minutes += 61
        assert len(measured.tick(PUBLICATION)) == 1
        measured.measure("d")
        assert len(measured.tick(PUBLICATION)) == 1

    def test_a_publication_that_fails_is_not_repeated_with_every_row(self, measured: Place) -> None:
        self.measuring(measured)
        measured.tick(PUBLICATION)
        measured.launch(PUBLISH, {}, FAILED)
        measured.measure("d")
        assert measured.why(PUBLICATION) == self.waits_until(measured, 60)

    def test_a_publication_waits_for_the_one_before(self, measured: Place) -> None:
        measured.tick(PUBLICATION)
        run = measured.launch(PUBLISH, {}, QUEUED)
        measured.measure("d")
        under_way = "a publication is under way; what has changed since is published afterwards"
        assert measured.why(PUBLICATION) == under_way
        measured.end(run)
        assert len(measured.tick(PUBLICATION)) == 1


class TestSwitches:
    @pytest.mark.parametrize("running", [False, True])
    def test_all_are_off_until_somebody_switches_them_on(self, place: Place, running: bool) -> None:
        if running:
            place.automation = Automation(running=True, cron="30 4 * * 1", interval_seconds=7)
        repository = build_definitions(place.settings).get_repository_def()
        sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
        assert {name: sensor.job_name for name, sensor in sensors.items()} == JOBS
        on = (dg.DefaultSensorStatus.RUNNING, 7) if running else (dg.DefaultSensorStatus.STOPPED, 30)
        assert {(sensor.default_status, sensor.minimum_interval_seconds) for sensor in sensors.values()} == {on}
        schedules = {schedule.name: schedule for schedule in repository.schedule_defs}
        assert {schedule.default_status.value for schedule in schedules.values()} == {on[0].value}
        assert schedules["read_manifests_again"].cron_schedule == ("30 4 * * 1" if running else "0 3 * * *")

    @pytest.mark.parametrize(("name", "job"), [("read_manifests_again", INGEST), ("clear_old_history", CLEAR)])
    def test_a_schedule_launches_its_job_without_being_asked(self, place: Place, name: str, job: str) -> None:
        schedule = build_definitions(place.settings).resolve_schedule_def(name)
        assert schedule.job_name == job
        with dg.build_schedule_context(place.instance) as context:
            assert len(schedule.evaluate_tick(context).run_requests or ()) == 1


@on_both_storages
def test_without_a_hand_a_manifest_becomes_a_corpus_and_stays_up_to_date(
    project: Project, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frnr_assets.sensors._SETTLING_S", 0.0)
    place = Place(project.folder, project.instance)
    place.choices = {"datasets": project.settings.datasets, "cores": 2, "memory_gib": 2}

    def launched_until_all_is_done() -> list[str]:
        launched: list[str] = []
        for _ in range(6):
            asked = [
                (sensor, tags, place.launch(JOBS[sensor], tags, QUEUED))
                for sensor in JOBS
                for tags in place.tick(sensor)
            ]
            if not asked:
                return launched
            for sensor, tags, queued in asked:
                first, last = ends(tags) if sensor in {DECODE, MEASURE} else (None, None)
                assert project.run(JOBS[sensor], first=first, last=last).success
                place.end(queued)
                launched.append(JOBS[sensor])
        raise AssertionError(launched)

    def published() -> set[tuple[str, int, float | None]]:
        version = current_version(project.tables.corpus)
        assert version is not None
        rows = pl.read_parquet(version).select(pl.col("src").str.split("/").list.last(), "crf", "nr_mos")
        return set(rows.rows())

    assert launched_until_all_is_done() == [INGEST, REFERENCES, CELLS, PUBLISH]
    assert published() == {
        (f"{clip}.mp4", crf, mos) for clip, mos in (("bars", 3.5), ("odd", None)) for crf in (23, 38)
    }
    assert place.why(MEASURE) == "2 clips have all their rows, 1 are in quarantine"

    project.write_manifest([{"src": "bars.mp4", "mos": 2}, {"src": "odd.mp4"}, {"src": "broken.mp4", "mos": 1}])
    assert launched_until_all_is_done() == [INGEST, PUBLISH]
    assert ("bars.mp4", 23, 2.0) in published()

    make_clip(project.clips / "broken.mp4", "testsrc=size=64x48:rate=24,trim=end_frame=9")
    assert launched_until_all_is_done() == [INGEST, REFERENCES, CELLS, PUBLISH]
    assert ("broken.mp4", 38, 1.0) in published()
    assert len(published()) == 6
