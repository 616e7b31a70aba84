"""Everything wired, in one screen."""

from pathlib import Path

import dagster as dg

from frnr_assets.assets.cells import build_cells
from frnr_assets.assets.corpus_report import build_corpus_report
from frnr_assets.assets.decoded_reference import build_decoded_reference
from frnr_assets.assets.fr_corpus import build_fr_corpus
from frnr_assets.assets.mixed_corpus import build_mixed_corpus
from frnr_assets.assets.source_manifest import build_source_manifest
from frnr_assets.automation import build_jobs, build_schedules
from frnr_assets.checks import build_checks
from frnr_assets.maintenance import build_maintenance_jobs
from frnr_assets.resources import resources_from
from frnr_assets.sensors import build_sensors
from frnr_assets.settings import Settings, load_settings


def build_definitions(settings: Settings) -> dg.Definitions:
    """Wire assets, checks, jobs, schedules, sensors and resources for one configuration."""
    return dg.Definitions(
        assets=[
            build_source_manifest(settings),
            build_decoded_reference(settings),
            build_cells(settings),
            build_fr_corpus(settings),
            *([build_mixed_corpus(settings)] if settings.fr_datasets else []),
            build_corpus_report(),
        ],
        asset_checks=build_checks(settings),
        jobs=[*build_jobs(settings), *build_maintenance_jobs(settings)],
        schedules=build_schedules(settings),
        sensors=build_sensors(settings),
        resources=resources_from(settings),
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Wire the configuration of the folder that Dagster was started in."""
    return build_definitions(load_settings(Path.cwd()))
