"""Jobs and schedules: what is materialized together, and when."""

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from frnr_assets.assets.cells import DISTORTION, FEATURE_ROWS
from frnr_assets.assets.corpus_report import CORPUS_REPORT
from frnr_assets.assets.decoded_reference import DECODED_REFERENCE
from frnr_assets.assets.fr_corpus import FR_CORPUS
from frnr_assets.assets.mixed_corpus import MIXED_CORPUS
from frnr_assets.assets.source_manifest import SOURCE_MANIFEST
from frnr_assets.maintenance import CLEAR
from frnr_assets.settings import Settings

INGEST, REFERENCES, CELLS, PUBLISH = "read_manifest", "decode_references", "measure_cells", "publish_corpus"


def block_tags(first: str, last: str, crf_sweep: Sequence[int] | None = None) -> dict[str, str]:
    """Return the tags that make a run of contiguous clips, with the whole sweep for a job of cells."""
    start, end = (first, last) if crf_sweep is None else (f"{first}|{crf_sweep[0]}", f"{last}|{crf_sweep[-1]}")
    return {"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": end}


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the schedules, which are off until they are switched on."""
    running, stopped = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED
    status = running if settings.automation.running else stopped
    return [
        dg.ScheduleDefinition(
            name="read_manifests_again",
            job_name=INGEST,
            cron_schedule=settings.automation.cron,
            description="Reads the manifests again, for whatever was missed.",
            default_status=status,
        ),
        dg.ScheduleDefinition(
            name="clear_old_history",
            job_name=CLEAR,
            cron_schedule="30 4 * * *",
            description="Clears what Dagster has recorded of old runs, but for what tells the status of a partition or "
            "a check.",
            default_status=status,
        ),
    ]


def build_jobs(settings: Settings) -> list[UnresolvedAssetJobDefinition]:
    """Return one job for each stage.

    A downstream asset, or a check, in the same run as a batch would be skipped, because a batch yields nothing; so
    the corpus, the checks of the tables it is made from, and its report have a run of their own.
    """
    corpora = [FR_CORPUS, *([MIXED_CORPUS] if settings.fr_datasets else [])]
    measured = dg.AssetSelection.checks_for_assets(DECODED_REFERENCE, FEATURE_ROWS)
    return [
        dg.define_asset_job(INGEST, dg.AssetSelection.assets(SOURCE_MANIFEST), description="Read the manifests."),
        dg.define_asset_job(
            REFERENCES,
            dg.AssetSelection.assets(DECODED_REFERENCE).without_checks(),
            description="Decode the references of some clips.",
        ),
        dg.define_asset_job(
            CELLS,
            dg.AssetSelection.assets(DISTORTION, FEATURE_ROWS).without_checks(),
            description="Encode and score some cells.",
        ),
        dg.define_asset_job(
            PUBLISH,
            dg.AssetSelection.assets(*corpora, CORPUS_REPORT) | measured,
            description="Publish the corpus, check it, report on it; before, check the tables that it is made from. "
            "*Materialize all* leaves out the checks of the tables: they have a button of their own, *Execute all* on "
            "the page *Checks* of decoded_reference and feature_rows.",
        ),
    ]
