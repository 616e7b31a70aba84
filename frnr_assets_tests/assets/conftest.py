"""A project on disk, with clips and a Dagster instance of its own."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from frnr_assets.automation import CELLS, INGEST, PUBLISH, REFERENCES
from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.tables import Tables
from frnr_assets.definitions import build_definitions
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.settings import Settings
from frnr_assets_tests.assets.batch import ALL_CLIPS, FIRST, LAST, Batch, make_clips
from frnr_assets_tests.assets.run_job import main as run_job
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip
from frnr_assets_tests.once import made_once
from tools.postgres import PostgresServer

on_both_storages = pytest.mark.parametrize("storage", ["sqlite", "postgres"], indirect=True)


@dataclass
class Project:
    """A manifest with clips, and the jobs run on it through a persistent instance."""

    folder: Path
    settings: Settings
    instance: dg.DagsterInstance

    @property
    def tables(self) -> Tables:
        return Tables(self.settings.data_root)

    @property
    def manifest(self) -> Path:
        (dataset,) = self.settings.datasets
        return dataset.manifest

    @property
    def clips(self) -> Path:
        (dataset,) = self.settings.datasets
        return dataset.clips_root or self.folder

    def write_manifest(self, entries: Sequence[Mapping[str, object]]) -> None:
        self.manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    def run(
        self, job: str, *, first: str | None = None, last: str | None = None, config: Mapping[str, Any] | None = None
    ) -> dg.ExecuteInProcessResult:
        tags = {}
        if first is not None:
            tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        definition = build_definitions(self.settings).resolve_job_def(job)
        return definition.execute_in_process(
            instance=self.instance,
            tags=tags,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **(config or {})},
        )

    def decode(self) -> None:
        self._run_all((INGEST, None, None), (REFERENCES, "bars", "broken"))

    def measure_and_publish(self) -> None:
        self._run_all((CELLS, "bars|23", "broken|38"), (PUBLISH, None, None))

    def run_everything(self) -> None:
        self.decode()
        self.measure_and_publish()

    def _run_all(self, *jobs: tuple[str, str | None, str | None]) -> None:
        for job, first, last in jobs:
            result = self.run(job, first=first, last=last)
            assert result.success, [
                event.step_failure_data.error for event in result.all_events if event.is_step_failure
            ]

    def with_settings(self, **changes: object) -> "Project":
        return Project(self.folder, self.settings.model_copy(update=changes), self.instance)

    def materializations(self, asset: dg.AssetKey) -> list[dg.AssetMaterialization]:
        records = self.instance.fetch_materializations(asset, limit=1000).records
        return [record.asset_materialization for record in reversed(records) if record.asset_materialization]

    def failures(self, result: dg.ExecuteInProcessResult) -> list[str]:
        """Return what a person reads on the run's page: the descriptions of its failures."""
        events = [event for event in result.all_events if event.is_step_failure]
        found = [event.step_failure_data.user_failure_data for event in events]
        return [data.description or "" for data in found if data is not None]


def project_in(folder: Path, instance: dg.DagsterInstance, clips: Path) -> Project:
    """A sweep of two CRFs keeps a whole run at a few seconds."""
    settings = Settings(
        data_root=folder / "data",
        datasets=(Dataset(name="tests", manifest=folder / "manifest.jsonl", clips_root=clips, expected_clips=3),),
        crf_sweep=(23, 38),
        cores=2,
        memory_gib=2,
    )
    return Project(folder, settings, instance)


def make_project(folder: Path, instance: dg.DagsterInstance, make_clip: MakeClip) -> Project:
    """Two clips and a broken one."""
    made = project_in(folder, instance, folder / "clips")
    bars = make_clip(made.clips / "bars.mp4")
    make_clip(made.clips / "odd.mp4", SMALL_SCENE.replace("64x48", "66x50"))
    (made.clips / "broken.mp4").write_bytes(bars.read_bytes()[:600])
    made.write_manifest([{"src": "bars.mp4", "mos": 3.5}, {"src": "odd.mp4"}, {"src": "broken.mp4", "mos": 1}])
    return made


@contextmanager
def persistent_instance(folder: Path, storage: Mapping[str, object] | None = None) -> Iterator[dg.DagsterInstance]:
    overrides = {"telemetry": {"enabled": False}, **({"storage": storage} if storage else {})}
    with dg.DagsterInstance.local_temp(str(folder), overrides=overrides) as instance:
        yield instance


@pytest.fixture
def storage(request: pytest.FixtureRequest) -> Mapping[str, object]:
    """Where Dagster's records are, as dagster.yaml says it: its own default, or PostgreSQL for `on_both_storages`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return {}
    running: PostgresServer = request.getfixturevalue("postgres")
    return running.storage(running.new_database())


@pytest.fixture
def project(tmp_path: Path, make_clip: MakeClip, storage: Mapping[str, object]) -> Iterator[Project]:
    with persistent_instance(tmp_path, storage) as instance:
        yield make_project(tmp_path, instance, make_clip)


@contextmanager
def project_like(recorded: Path, folder: Path, clips: Path) -> Iterator[Project]:
    """Lend a project of its own, but for the clips, in which all is recorded that is in another's folder."""
    shutil.copytree(recorded, folder, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("clips"))
    with persistent_instance(folder) as instance:
        yield project_in(folder, instance, clips)


@pytest.fixture(scope="session")
def decoded_once(request: pytest.FixtureRequest, make_clip: MakeClip) -> Path:
    """The folder of a project that was decoded, to be copied."""

    def make(folder: Path) -> None:
        with persistent_instance(folder) as instance:
            make_project(folder, instance, make_clip).decode()

    return made_once(request, "decoded", make)


@pytest.fixture(scope="session")
def materialized_once(request: pytest.FixtureRequest, decoded_once: Path) -> Path:
    """The folder of a project whose graph was materialized, to be copied."""

    def make(folder: Path) -> None:
        with project_like(decoded_once, folder, decoded_once / "clips") as project:
            project.measure_and_publish()

    return made_once(request, "materialized", make)


@pytest.fixture
def decoded(decoded_once: Path, tmp_path: Path) -> Iterator[Project]:
    """A project whose clips were decoded, for tests that write no clip."""
    with project_like(decoded_once, tmp_path, decoded_once / "clips") as project:
        yield project


@pytest.fixture
def materialized(materialized_once: Path, decoded_once: Path, tmp_path: Path) -> Iterator[Project]:
    """A project whose graph was materialized, for tests that write no clip."""
    with project_like(materialized_once, tmp_path, decoded_once / "clips") as project:
        yield project


@pytest.fixture(scope="session")
def published_once(
    materialized_once: Path, decoded_once: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    with project_like(materialized_once, tmp_path_factory.mktemp("published"), decoded_once / "clips") as project:
        yield project


@pytest.fixture
def published(published_once: Project, tmp_path: Path) -> Project:
    """A project whose graph was materialized, with tables of the test's own to damage."""
    shutil.copytree(published_once.settings.data_root, tmp_path / "data", symlinks=True)
    return published_once.with_settings(data_root=tmp_path / "data")


@pytest.fixture(scope="session")
def ingested_batch(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip, ffmpeg: FFmpeg) -> Batch:
    clips = make_clips(tmp_path_factory.mktemp("clips"), make_clip)
    batch = Batch(tmp_path_factory.mktemp("ingested"), clips, ffmpeg)
    assert run_job(batch.folder, INGEST, "", "") == 0
    return batch


@pytest.fixture(scope="session")
def decoded_batch(tmp_path_factory: pytest.TempPathFactory, ingested_batch: Batch, ffmpeg: FFmpeg) -> Batch:
    batch = ingested_batch.copy(tmp_path_factory.mktemp("decoded") / "batch", ffmpeg)
    assert run_job(batch.folder, REFERENCES, *ALL_CLIPS) == 0
    return batch


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, decoded_batch: Batch, ffmpeg: FFmpeg) -> Batch:
    """The batch, run once without anything in its way."""
    batch = decoded_batch.copy(tmp_path_factory.mktemp("uninterrupted") / "batch", ffmpeg)
    assert run_job(batch.folder, CELLS, FIRST, LAST) == 0
    return batch
