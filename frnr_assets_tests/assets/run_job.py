"""Run one job of a project on disk in a process of its own, which a test can kill."""

import sys
from pathlib import Path

import dagster as dg

from frnr_assets.definitions import build_definitions
from frnr_assets.settings import load_settings


def main(folder: Path, job: str, first: str, last: str) -> int:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last} if first else {}
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        definition = build_definitions(load_settings(folder)).resolve_job_def(job)
        return 0 if definition.execute_in_process(instance=instance, tags=tags, raise_on_error=False).success else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
