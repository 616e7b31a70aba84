"""What is left of Dagster's records when old history is cleared: every status, and little else."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._utils.test.data_versions import get_stale_status_resolver

from frnr_assets.assets.cells import DISTORTION, FEATURE_ROWS
from frnr_assets.assets.decoded_reference import DECODED_REFERENCE
from frnr_assets.assets.fr_corpus import FR_CORPUS
from frnr_assets.automation import CELLS, INGEST, PUBLISH
from frnr_assets.definitions import build_definitions
from frnr_assets.history import Cleared, clear_history
from frnr_assets.maintenance import CLEAR
from frnr_assets_tests.assets.conftest import Project, on_both_storages, persistent_instance

CLIPS = ("bars", "odd", "broken", "new")
CELL_KEYS = [f"{clip}|{crf}" for clip in CLIPS for crf in (23, 38)]
PARTITIONS = {DECODED_REFERENCE: list(CLIPS), DISTORTION: CELL_KEYS, FEATURE_ROWS: CELL_KEYS}
KEPT = {DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED}


def statuses(project: Project) -> dict[str, Any]:
    """Return what the UI shows: partitions that are green, red or stale, what was made last, the results of checks."""
    instance, definitions = project.instance, build_definitions(project.settings)
    graph = definitions.resolve_asset_graph()
    resolver = get_stale_status_resolver(
        instance, [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
    )
    found: dict[str, Any] = {}
    for asset, keys in PARTITIONS.items():
        # Neither what Dagster has cached nor what it makes of the events anew may differ.
        for source in ("cache", "events"):
            if source == "events":
                instance.event_log_storage.wipe_asset_cached_status(asset)
            partitions = graph.get(asset).partitions_def
            assert partitions is not None
            found[f"{asset} by {source}"] = instance.get_status_by_partition(asset, keys, partitions)
        found[f"{asset} stale"] = {key: resolver.get_status(asset, key) for key in keys}
        found[f"{asset} last"] = instance.get_latest_storage_id_by_partition(
            asset, DagsterEventType.ASSET_MATERIALIZATION, set(keys)
        )
    last = instance.get_latest_materialization_event(FR_CORPUS)
    found["published"] = last and last.timestamp
    checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(graph.asset_check_keys))
    found["checks"] = {key: record.status for key, record in checks.items()}
    return found


def everything_old(instance: dg.DagsterInstance) -> Cleared:
    return clear_history(instance, datetime.now(UTC) + timedelta(minutes=1))


def compute_log(instance: dg.DagsterInstance, run_id: str) -> Path:
    manager = instance.compute_log_manager
    assert isinstance(manager, LocalComputeLogManager)
    return Path(manager.get_captured_local_path([run_id, "compute_logs", "step"], "out"))


@pytest.fixture
def worked(project: Project) -> tuple[Project, dict[str, str]]:
    """Everything was made, some of it twice, and a clip failed; with the runs by name."""
    project.run_everything()
    (project.clips / "new.mp4").write_bytes(b"not decoded yet")
    project.write_manifest([{"src": f"{clip}.mp4"} for clip in CLIPS])
    again = {
        "ingestion": project.run(INGEST),
        "cells of bars": project.run(CELLS, first="bars|23", last="bars|38"),
        "failed": project.run(CELLS, first="new|23", last="new|38"),
        "publication": project.run(PUBLISH),
    }
    assert [name for name, result in again.items() if not result.success] == ["failed"]
    for run in project.instance.get_runs():
        log = compute_log(project.instance, run.run_id)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("said by a tool")
    first = [run for run in project.instance.get_runs() if run.run_id not in {res.run_id for res in again.values()}]
    return project, {run.job_name: run.run_id for run in first} | {name: res.run_id for name, res in again.items()}


@on_both_storages
def test_clearing_history_changes_no_status_and_leaves_only_what_tells_one(
    worked: tuple[Project, dict[str, str]],
) -> None:
    project, runs = worked
    instance = project.instance
    before = statuses(project)
    red = [key for key, status in before[f"{FEATURE_ROWS} by events"].items() if status and status.value == "FAILED"]
    assert red == ["new|23", "new|38"], "a failure that was not made good is a status as well"
    cleared = everything_old(instance)
    assert statuses(project) == before
    assert (cleared.runs, cleared.removed_runs) == (len(runs), 2)
    left = {run.run_id for run in instance.get_runs()}
    assert {name for name, run in runs.items() if run not in left} == {INGEST, PUBLISH}, "both were done again since"
    assert [run for run in runs.values() if compute_log(instance, run).exists()] == []
    made = [materialization.partition for materialization in project.materializations(FEATURE_ROWS)]
    assert sorted(filter(None, made)) == sorted(key for key in CELL_KEYS if not key.startswith("new")), "each once"
    events = [entry for run in left for entry in instance.all_logs(run)]
    assert {entry.dagster_event_type for entry in events} <= KEPT
    assert everything_old(instance) == Cleared(len(left), 0, 0), "nothing is left to clear"
    assert project.run(CELLS, first="bars|23", last="odd|38").success
    reused = [made.metadata["reused"].value for made in project.materializations(FEATURE_ROWS)[-4:]]
    assert reused == [True] * 4, "the platform goes on as before"


def test_what_is_young_or_belongs_to_an_unfinished_backfill_is_left_alone(project: Project) -> None:
    assert project.run(INGEST).success
    assert project.run(CLEAR).success
    run, *_ = project.instance.get_runs(dg.RunsFilter(job_name=INGEST))
    events = len(project.instance.all_logs(run.run_id))
    assert events > 5
    project.instance.add_run_tags(run.run_id, {"dagster/backfill": "unfinished"})
    project.instance.add_backfill(
        PartitionBackfill(
            "unfinished",
            status=BulkActionStatus.REQUESTED,
            from_failure=False,
            tags={},
            backfill_timestamp=0.0,
            asset_selection=[FEATURE_ROWS],
        )
    )
    everything_old(project.instance)
    assert len(project.instance.all_logs(run.run_id)) == events


@dg.asset
def checked() -> None:
    """What a check is of."""


@dg.asset_check(asset=checked)
def good() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False)


@on_both_storages
def test_a_check_that_is_only_planned_again_keeps_the_failure_that_the_ui_shows(
    storage: Mapping[str, object], tmp_path: Path
) -> None:
    key = good.check_key
    plan = DagsterEvent(
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value,
        job_name="publish",
        event_specific_data=AssetCheckEvaluationPlanned(asset_key=key.asset_key, check_name=key.name),
    )
    with persistent_instance(tmp_path, storage) as instance:
        for _ in range(2):
            dg.materialize([checked, good], instance=instance, raise_on_error=False)
        instance.report_dagster_event(plan, run_id="queued")
        before = instance.event_log_storage.get_asset_check_summary_records([key])
        completed = before[key].last_completed_check_execution_record
        assert completed is not None, "the plan hides no result"
        everything_old(instance)
        assert instance.event_log_storage.get_asset_check_summary_records([key]) == before
        left = instance.event_log_storage.get_asset_check_execution_history(key, limit=9)
        assert [record.status.value for record in left] == ["PLANNED", "FAILED"], "older results go"
