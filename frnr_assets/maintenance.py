"""Jobs that materialize nothing: fetching missing sources, removing clips for good, and clearing Dagster's history."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from frnr_assets.assets.progress import Progress, refusal
from frnr_assets.containers import container_of, kind_of
from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.download import Acceptance, Download, Downloaded, DownloadFailed, Patience, download_all
from frnr_assets.corpus.ingest import forgetting, to_download
from frnr_assets.corpus.locks import Busy, locked
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.corpus.places import look_at
from frnr_assets.corpus.tables import Tables
from frnr_assets.corpus.urls import has_secret, known_as, urls_in
from frnr_assets.history import clear_history
from frnr_assets.partitions import CLIP
from frnr_assets.resources import TablesResource
from frnr_assets.settings import Settings
from frnr_assets.words import harmless, public_url

DOWNLOAD, REMOVE, CLEAR = "download_sources", "remove_clips", "clear_history"

# What is downloaded is on disk at once; what is known of it is written in handfuls, so that the parts stay few.
_RECORD_EVERY_S = 10.0


class DownloadConfig(dg.Config):
    """What the operator may ask of a download."""

    retry_failed: bool = Field(default=False, description="Also those that failed too often, or for good.")


class RemoveConfig(dg.Config):
    """Which of the clips that the manifests list no longer are to go."""

    clips: list[str] = Field([], description="Keys of the clips.")
    all_removed: bool = Field(default=False, description="All of them, instead.")


def build_maintenance_jobs(settings: Settings) -> list[dg.JobDefinition]:
    """Return the jobs."""

    @dg.op
    def download(context: dg.OpExecutionContext, config: DownloadConfig, tables: TablesResource) -> None:
        store = tables.tables()
        waiting = missing_sources(store, retry_failed=config.retry_failed)
        wanted = _downloads(waiting, settings.datasets, context.log.warning)
        progress = Progress("downloads", len(wanted), context.log.info)
        unrecorded: list[Downloaded | DownloadFailed] = []
        recorded_at = time.monotonic()
        try:
            with (
                locked(store.root / ".download.lock", wait=False),
                closing(
                    download_all(
                        wanted,
                        threads=settings.download_threads,
                        patience=Patience(),
                        acceptance=Acceptance(settings.source_rules().max_bytes, _why_no_source),
                    )
                ) as outcomes,
            ):
                try:
                    for outcome in outcomes:
                        unrecorded.append(outcome)
                        if isinstance(outcome, DownloadFailed):
                            context.log.warning(f"{harmless(public_url(outcome.download.url))}: {outcome.reason}")
                        progress.count("failed" if isinstance(outcome, DownloadFailed) else "done")
                        if time.monotonic() - recorded_at > _RECORD_EVERY_S:
                            _record(store, unrecorded)
                            unrecorded, recorded_at = [], time.monotonic()
                finally:
                    _record(store, unrecorded)
        except Busy as error:
            raise refusal("another download is under way; launch this one again when it has ended") from error
        except OSError as error:
            # A write to a full disk does not say which file it was to.
            where = f": {error.filename}" if error.filename else ""
            raise refusal(
                f"{error.strerror}{where}. What was downloaded stays; mend it and launch the job again"
            ) from error
        progress.tell()

    @dg.op
    def remove(context: dg.OpExecutionContext, config: RemoveConfig, tables: TablesResource) -> None:
        try:
            with forgetting(tables.tables(), None if config.all_removed else config.clips) as gone:
                for clip in gone:
                    context.instance.delete_dynamic_partition(CLIP, clip)
        except ManifestError as error:
            raise refusal(str(error)) from error
        context.log.info(f"removed {len(gone)} clips and their partitions; their rows stay in the tables, unpublished")

    @dg.op
    def clear(context: dg.OpExecutionContext) -> None:
        days = settings.automation.keep_history_days
        try:
            cleared = clear_history(context.instance, datetime.now(UTC) - timedelta(days=days))
        except NotImplementedError as error:
            raise refusal(str(error)) from error
        context.log.info(
            f"{cleared.runs} runs ended more than {days} days ago; removed {cleared.removed_runs} of them, "
            f"{cleared.events} events, and what the runs printed"
        )

    @dg.job(
        name=DOWNLOAD,
        description="Download the sources that are not there and have a URL. Those that failed too often, or for good "
        "(HTTP 404), are tried again only with retry_failed.",
    )
    def download_sources() -> None:
        download()

    @dg.job(
        name=REMOVE,
        description="Remove the partitions of clips that the manifests list no longer: those named in clips, or with "
        "all_removed all of them.",
    )
    def remove_clips() -> None:
        remove()

    @dg.job(
        name=CLEAR,
        description=f"Remove what Dagster has recorded of runs that ended {settings.automation.keep_history_days} days "
        "ago, but for what tells the status of a partition or a check.",
    )
    def clear_history_job() -> None:
        clear()

    return [download_sources, remove_clips, clear_history_job]


def missing_sources(tables: Tables, *, retry_failed: bool) -> dict[str, str]:
    """Return the URLs, as the tables know them, of the sources that are not there now; the first listed counts.

    What was downloaded since the manifests were read is there, although nobody has noted it yet.

    Args:
        tables: where the tables are.
        retry_failed: also those that failed too often, or for good.
    """
    waiting = to_download(tables, retry_failed=retry_failed)
    first = dict(reversed(waiting))
    return {src: first[src] for src in dict(waiting) if look_at(Path(src)) is None}


def _why_no_source(head: bytes) -> str | None:
    # A manifest names both address and file: only a video may come of it, whatever the file is called.
    return None if container_of(head) else kind_of(head)


def _downloads(waiting: Mapping[str, str], datasets: Sequence[Dataset], warn: Callable[[str], None]) -> list[Download]:
    """Return what to fetch; a URL with a secret is read from its manifest again, for no table has it."""
    names = set(waiting.values())
    urls = {name: name for name in names if not has_secret(name)}
    for dataset in datasets if len(urls) < len(names) else ():
        try:
            urls |= urls_in(dataset, names)
        except ManifestError as error:
            warn(str(error))
    if lost := [src for src, name in waiting.items() if name not in urls]:
        warn(f"{len(lost)} URLs are not in the manifests any more; materialize source_manifest, then launch this again")
    return [Download(urls[name], Path(src)) for src, name in waiting.items() if name in urls]


def _record(tables: Tables, outcomes: Sequence[Downloaded | DownloadFailed]) -> None:
    if not outcomes:
        return
    targets = [str(outcome.download.target) for outcome in outcomes]
    known = {row["src"]: row for row in tables.downloads.read(pl.col("src").is_in(targets)).iter_rows(named=True)}
    tables.downloads.append([_row(outcome, known.get(str(outcome.download.target))) for outcome in outcomes])


def _row(outcome: Downloaded | DownloadFailed, known: dict[str, Any] | None) -> dict[str, Any]:
    download = outcome.download
    row = {"src": str(download.target), "url": known_as(download.url)}
    if isinstance(outcome, Downloaded):
        return {**row, "size_bytes": outcome.size_bytes, "failure": None, "permanent": False, "attempts": 1}
    failed_before = known is not None and known["failure"] is not None and known["url"] == row["url"]
    attempts = 1 + (known["attempts"] if known is not None and failed_before else 0)
    return {
        **row,
        "size_bytes": None,
        "failure": outcome.reason,
        "permanent": outcome.permanent,
        "attempts": attempts,
    }
