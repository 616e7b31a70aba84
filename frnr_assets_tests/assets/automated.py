"""Clips that were ingested, fabricated tables of what was made of them, and sensors that are ticked by hand."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from frnr_assets.assets.cells import FEATURE_ROWS
from frnr_assets.assets.decoded_reference import DECODED_REFERENCE
from frnr_assets.assets.source_manifest import SOURCE_MANIFEST
from frnr_assets.automation import CELLS, INGEST, PUBLISH, REFERENCES, block_tags
from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.ingest import ingest
from frnr_assets.corpus.tables import Tables
from frnr_assets.definitions import build_definitions
from frnr_assets.maintenance import DOWNLOAD
from frnr_assets.partitions import register_clips
from frnr_assets.settings import Automation, Settings
from frnr_assets_tests.assets.conftest import persistent_instance
from frnr_assets_tests.corpus.rows import feature_row, reference_row

WATCH, FETCH = "watch_sources", "fetch_missing_sources"
DECODE, MEASURE = "decode_missing_references", "measure_missing_cells"
PUBLICATION = "publish_what_is_measured"
JOBS = {WATCH: INGEST, FETCH: DOWNLOAD, DECODE: REFERENCES, MEASURE: CELLS, PUBLICATION: PUBLISH}
ASSETS = {DECODE: DECODED_REFERENCE, MEASURE: FEATURE_ROWS}

QUEUED, STARTED = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED
SUCCESS, FAILED, CANCELED = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED
_ENDS = {
    SUCCESS: DagsterEventType.RUN_SUCCESS,
    FAILED: DagsterEventType.RUN_FAILURE,
    CANCELED: DagsterEventType.RUN_CANCELED,
}
_REPOSITORY = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository")
_SWEEP = (23, 38)


@dataclass
class Clock:
    """Stands for the module time in the sensors: when the test began, and some minutes, so that no file is new.

    It stands still, for what is said of a time must not depend on when a minute of ours ends.
    """

    minutes: float = 1.0
    began: float = field(default_factory=time.time)

    def time(self) -> float:
        return self.began + self.minutes * 60

    def reads_in(self, minutes: float) -> str:
        return time.strftime("%H:%M UTC", time.gmtime(self.time() + minutes * 60))


@dataclass
class Place:
    """Clips named with one letter each, as far as the methods with blocks in their names are used."""

    folder: Path
    instance: dg.DagsterInstance
    clock: Clock = field(default_factory=Clock)
    automation: Automation = field(default_factory=lambda: Automation(queued_blocks=9))
    choices: dict[str, object] = field(default_factory=dict)
    reason: str = ""
    _cursors: dict[str, str | None] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        dataset = Dataset(name="tests", manifest=self.manifest)
        chosen: dict[str, Any] = {"data_root": self.folder / "data", "datasets": (dataset,), "crf_sweep": _SWEEP}
        return Settings(**{**chosen, "automation": self.automation, **self.choices})

    @property
    def tables(self) -> Tables:
        return Tables(self.settings.data_root)

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.jsonl"

    def clip(self, name: str) -> Path:
        return self.folder / f"{name}.mp4"

    def write_manifest(self, clips: Sequence[str], **columns: object) -> None:
        lines = [json.dumps({"src": f"{clip}.mp4", **columns}) for clip in clips]
        self.manifest.write_text("".join(f"{line}\n" for line in lines))

    def write_clips(self, clips: Sequence[str]) -> None:
        """Write files and their manifest; of different sizes, so that nobody need compare their contents."""
        for size, name in enumerate(clips, start=1):
            self.clip(name).write_bytes(b"x" * size)
        self.write_manifest(clips)

    def ingest(self) -> None:
        """Do what a materialization of source_manifest does."""
        register_clips(self.instance, ingest(self.settings.datasets, self.tables).clips)
        self.instance.report_runless_asset_event(dg.AssetMaterialization(SOURCE_MANIFEST))

    def decode(self, clips: Sequence[str], **changes: object) -> None:
        """Record references of the clips' files as they were ingested."""
        ingested = {row["clip"]: row for row in self.tables.clips.read().rows(named=True)}
        files = {clip: {name: ingested[clip][name] for name in ("size_bytes", "mtime_ns")} for clip in clips}
        self.tables.references.append([reference_row(clip, **{**files[clip], **changes}) for clip in clips])

    def quarantine(self, *clips: str) -> None:
        self.decode(clips, quarantine_reason="it is empty", identity=self.settings.tools().conditions)

    def measure(self, clips: Sequence[str]) -> None:
        chosen = self.settings
        made_with = {"encoder": chosen.encoder, "preset": chosen.preset, "vmaf_model": chosen.vmaf_model}
        rows = [feature_row(clip, crf, **made_with) for clip in clips for crf in chosen.crf_sweep]
        self.tables.feature_rows.append(rows)

    def done(self, sensor: str, clips: Sequence[str]) -> None:
        """Record what a run of a stage records."""
        if sensor == DECODE:
            self.decode(clips)
        else:
            self.measure(clips)

    def tick(self, sensor: str) -> list[Mapping[str, str]]:
        """Return the tags of the runs that a sensor asks for."""
        definitions = build_definitions(self.settings)
        resources = {"tables": (definitions.resources or {})["tables"]}
        with dg.build_sensor_context(self.instance, self._cursors.get(sensor), resources=resources) as context:
            found = definitions.resolve_sensor_def(sensor).evaluate_tick(context)
        self._cursors[sensor], self.reason = found.cursor, found.skip_message or ""
        return [request.tags for request in found.run_requests or ()]

    def blocks(self, sensor: str) -> list[str]:
        """Return the first and last clip of each block that a sensor asks for, as "a-f"."""
        ranges = [ends(tags) for tags in self.tick(sensor)]
        if sensor == MEASURE:
            assert {(first[1:], last[1:]) for first, last in ranges} <= {("|23", "|38")}, "the whole sweep"
        return [f"{first[0]}-{last[0]}" for first, last in ranges]

    def why(self, sensor: str) -> str:
        """Return why a sensor asks for no run."""
        assert self.tick(sensor) == []
        return self.reason

    def tags(self, sensor: str, first: str, last: str) -> dict[str, str]:
        return block_tags(first, last, self.settings.crf_sweep if sensor == MEASURE else None)

    def launch(
        self,
        job: str,
        tags: Mapping[str, str],
        status: dg.DagsterRunStatus = STARTED,
        asset: dg.AssetKey | None = None,
    ) -> dg.DagsterRun:
        run: dg.DagsterRun = create_run_for_test(
            self.instance,
            job,
            tags=dict(tags),
            status=STARTED if status in _ENDS else status,
            asset_selection=None if asset is None else frozenset({asset}),
            remote_job_origin=RemoteJobOrigin(_REPOSITORY, job),
        )
        if status in _ENDS:
            self.end(run, status)
        return run

    def end(self, run: dg.DagsterRun, status: dg.DagsterRunStatus = SUCCESS) -> None:
        """Let a run end at the time that the clock shows."""
        event = DagsterEvent(_ENDS[status].value, run.job_name)
        now = datetime.fromtimestamp(self.clock.time(), UTC)
        self.instance.run_storage.handle_run_event(run.run_id, event, update_timestamp=now)


def ends(tags: Mapping[str, str]) -> tuple[str, str]:
    return tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"]


@contextmanager
def automated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, storage: Mapping[str, object] | None = None
) -> Iterator[Place]:
    """Six clips, not ingested yet; Dagster's records are in memory when no storage is asked for."""
    folder.mkdir(exist_ok=True)
    with persistent_instance(folder, storage) if storage else dg.DagsterInstance.ephemeral() as instance:
        place = Place(folder, instance)
        monkeypatch.setattr("frnr_assets.sensors.time", place.clock)
        place.write_clips("abcdef")
        yield place
