"""The cost of what is done with all rows at once: ingestion, publication, checks, report."""

from collections.abc import Iterator

from bench.measure import Figure, Used, run_asset
from bench.stage import Stage
from frnr_assets.vocabulary import DEFAULT_CRF_SWEEP

_MOST_MIB = 2048


def tables_figures(stage: Stage) -> Iterator[Figure]:
    """Measure each stage that handles the whole dataset, as a run of Dagster in a process of its own."""
    rows = stage.size * len(DEFAULT_CRF_SWEEP)
    project = stage.measured
    yield from _figures(f"ingesting {stage.size:,} clips", stage.ingested.first, 30)
    yield from _figures("ingesting them again, unchanged", stage.ingested.again, 10)
    yield from _figures(f"publishing {rows:,} rows", run_asset(project, "asset", "fr_corpus"), 20)
    yield from _figures("all checks of the corpus", run_asset(project, "checks", "fr_corpus"), 20)
    yield from _figures("its report", run_asset(project, "asset", "corpus_report"), 60)


def _figures(what: str, used: Used, most_s: float) -> Iterator[Figure]:
    yield Figure(what, used.seconds, "s", at_most=most_s, remark="the whole process, start-up included")
    yield Figure(f"{what}: peak memory", used.peak_bytes / 2**20, "MiB", at_most=_MOST_MIB)
