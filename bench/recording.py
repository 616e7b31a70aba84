"""The cost of Dagster's records of a cell: two planned events with the run, two materializations as it is done."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import yaml

from bench.measure import Figure, run_module, tell
from bench.stage import Stage
from frnr_assets.assets.cells import DISTORTION, FEATURE_ROWS
from frnr_assets.assets.decoded_reference import DECODED_REFERENCE
from frnr_assets.assets.events import Parent, record
from frnr_assets.automation import block_tags
from frnr_assets.partitions import CLIP, cell_partitions, register_clips
from frnr_assets.vocabulary import CANONICAL6_FEATURES, DEFAULT_CRF_SWEEP
from tools.postgres import NoServerError, postgres_server

MOST_CLIPS = 20
_MOST_MS = 20
# Dagster's own switch: one planned event for all partitions of an asset in a run.
_ONE_PLANNED = {"DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1"}


def recording_figures(stage: Stage) -> Iterator[Figure]:
    """Measure the records of some cells on instances that have no other."""
    yield from _figures(_instance(stage.folder / "recording"), "SQLite, empty", stage.size)
    try:
        with postgres_server(durable=True) as server:
            project = _instance(stage.folder / "recording-on-server", storage=server.storage(server.new_database()))
            yield from _figures(project, "PostgreSQL, empty", stage.size)
    except NoServerError as error:
        yield Figure("a cell in Dagster's records, PostgreSQL", None, remark=str(error))


def _instance(folder: Path, **configuration: object) -> Path:
    """Make a folder that Dagster keeps its records in, or is told where."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text(yaml.safe_dump({"telemetry": {"enabled": False}, **configuration}))
    return folder


def full_recording_figures(stage: Stage) -> Iterator[Figure]:
    """Measure them on an instance that has the records of all clips, after somebody has looked at the asset's page."""
    yield from _figures(stage.recorded, "SQLite, full", stage.size)


def _figures(project: Path, storage: str, size: int) -> Iterator[Figure]:
    clips = str(min(MOST_CLIPS, size))
    told = run_module("bench.recording", str(project), clips).told
    whole = told["planned_ms"] + told["done_ms"]
    parts = f"planned {told['planned_ms']:.1f}, done {told['done_ms']:.1f}"
    yield Figure(f"a cell in Dagster's records, {storage}", whole, "ms", at_most=_MOST_MS, remark=parts)
    lean = run_module("bench.recording", str(project), clips, **_ONE_PLANNED).told
    whole = lean["planned_ms"] + lean["done_ms"]
    remark = "not what the platform does: cells that fail would look missing"
    yield Figure("... if one planned event were enough for a run", whole, "ms", remark=remark)


def _assets(done_s: list[float]) -> dg.Definitions:
    """Return the assets of cells, without the work: they only record, with as many values as the real ones."""
    partitions = cell_partitions(DEFAULT_CRF_SWEEP)
    specs = [
        dg.AssetSpec(DISTORTION, partitions_def=partitions, code_version="1"),
        dg.AssetSpec(FEATURE_ROWS, deps=[DISTORTION], partitions_def=partitions, code_version="1"),
    ]

    @dg.multi_asset(name="cells", specs=specs, can_subset=True, backfill_policy=dg.BackfillPolicy.multi_run(500))
    def cells(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        reference = Parent(DECODED_REFERENCE, "0123456789abcdef", "1")
        distortion = {f"figure {index}": 1.5 for index in range(8)}
        row = {**distortion, **dict.fromkeys(CANONICAL6_FEATURES, 0.5)}
        started = time.monotonic()
        for key in context.partition_keys:
            for asset, metadata, parents in (
                (DISTORTION, distortion, [reference]),
                (FEATURE_ROWS, row, [reference, Parent(DISTORTION, "0123456789abcdef")]),
            ):
                record(
                    context,
                    asset,
                    key,
                    data_version="0123456789abcdef",
                    code_version="1",
                    parents=parents,
                    metadata=metadata,
                )
        done_s.append(time.monotonic() - started)
        yield from ()

    return dg.Definitions(assets=[cells], jobs=[dg.define_asset_job("record")], executor=dg.in_process_executor)


def main(project: str, number: str) -> None:
    """Be the process that measures."""
    done_s: list[float] = []
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    with dg.DagsterInstance.from_config(project) as instance:
        if not instance.get_dynamic_partitions(CLIP):
            register_clips(instance, [f"{index:010}" for index in range(int(number))])
        clips = instance.get_dynamic_partitions(CLIP)[: int(number)]
        cells = len(clips) * len(DEFAULT_CRF_SWEEP)
        job = _assets(done_s).resolve_job_def("record")
        tags = block_tags(clips[0], clips[-1], DEFAULT_CRF_SWEEP)
        result = job.execute_in_process(instance=instance, tags=tags, run_config=quiet)
        planned = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        times = [entry.timestamp for entry in planned]
        # From the first to the last there is one event fewer than were written.
        each_s = (max(times) - min(times)) / (len(times) - 1)
    tell(planned_ms=each_s * len(times) / cells * 1000, done_ms=done_s[0] / cells * 1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
