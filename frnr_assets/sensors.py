"""Sensors: what happens without a hand. Each says in its skip reason why it does nothing."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from frnr_assets.assets.cells import CELLS_PER_RUN, FEATURE_ROWS, code_version
from frnr_assets.assets.decoded_reference import CLIPS_PER_RUN, DECODED_REFERENCE
from frnr_assets.assets.fr_corpus import FR_CORPUS
from frnr_assets.assets.source_manifest import SOURCE_MANIFEST
from frnr_assets.automation import CELLS, INGEST, PUBLISH, REFERENCES, block_tags
from frnr_assets.corpus.backlog import Backlog, Recipe, backlog, blocks
from frnr_assets.corpus.ingest import was_refused, what_changed
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.corpus.places import look_at
from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets.maintenance import DOWNLOAD, missing_sources
from frnr_assets.media.process import ToolError
from frnr_assets.partitions import CLIP
from frnr_assets.resources import TablesResource
from frnr_assets.settings import Settings
from frnr_assets.words import harmless

_ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# So many runs in a row that failed and recorded nothing: the fault is not with the clips.
_FRUITLESS_RUNS = 3
_EXAMPLES = 3
# Half a manifest would have the other half's clips removed.
_SETTLING_S = 3.0

Evaluated = dg.SensorResult | dg.SkipReason


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Return the sensors, which are off until they are switched on."""
    return [
        _sensor(
            settings,
            "watch_sources",
            INGEST,
            "Reads the manifests again when a manifest or a clip's file has changed since they were read.",
            lambda context, tables: _watch_sources(context, tables, settings),
        ),
        _sensor(
            settings,
            "fetch_missing_sources",
            DOWNLOAD,
            "Downloads sources that are not there and have a URL.",
            lambda context, tables: _fetch_missing(context, tables, settings),
        ),
        _sensor(
            settings,
            "decode_missing_references",
            REFERENCES,
            "Decodes new clips, and clips whose file has changed, in blocks. A clip in quarantine is left alone until "
            "its file changes or somebody materializes it.",
            _Stage(settings, REFERENCES, DECODED_REFERENCE, CLIPS_PER_RUN).evaluate,
        ),
        _sensor(
            settings,
            "measure_missing_cells",
            CELLS,
            "Measures clips that lack rows, in blocks of contiguous clips with the whole sweep.",
            _Stage(settings, CELLS, FEATURE_ROWS, max(1, CELLS_PER_RUN // len(settings.crf_sweep))).evaluate,
        ),
        _sensor(
            settings,
            "publish_what_is_measured",
            PUBLISH,
            "Publishes the corpus when cells have been measured or MOS corrected: at once when no cell is being "
            f"measured, else every {settings.automation.publish_minutes:g} minutes.",
            lambda context, tables: _publish(context, tables, settings),
        ),
    ]


def _sensor(
    settings: Settings,
    name: str,
    job: str,
    description: str,
    evaluate: Callable[[dg.SensorEvaluationContext, Tables], Evaluated],
) -> dg.SensorDefinition:
    running, stopped = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=name,
        job_name=job,
        description=description,
        minimum_interval_seconds=settings.automation.interval_seconds,
        default_status=running if settings.automation.running else stopped,
    )
    def sensor(context: dg.SensorEvaluationContext, tables: TablesResource) -> Evaluated:
        return evaluate(context, tables.tables())

    return sensor


def _watch_sources(context: dg.SensorEvaluationContext, tables: Tables, settings: Settings) -> Evaluated:
    if _runs(context.instance, INGEST, SOURCE_MANIFEST, _ACTIVE):
        return dg.SkipReason("the manifests are being read; what has changed since is looked at afterwards")
    if not settings.datasets:
        return dg.SkipReason("no dataset is configured; add [[datasets]] with name and manifest to frnr.toml")
    try:
        changed = what_changed(settings.datasets, tables, settings.allowed_roots)
    except ManifestError as error:
        return dg.SkipReason(str(error))
    if not changed:
        return _nothing_changed(tables)
    if written := [path for path in changed if _is_being_written(path)]:
        return dg.SkipReason(
            f"changed: {_some(changed)}. {harmless(written[0])} was written just now, and may not be complete"
        )
    states = [repr(settings.datasets), *(f"{path} {look_at(Path(path))}" for path in changed)]
    return _ask_once(context, states, settings, f"changed: {_some(changed)}")


def _nothing_changed(tables: Tables) -> Evaluated:
    if was_refused(tables):
        return _settled(
            "a dataset could not be used when the manifests were read, and nothing has changed since; the last run of "
            f"{INGEST} says why"
        )
    return _settled("no manifest and no clip's file has changed since the manifests were read")


def _fetch_missing(context: dg.SensorEvaluationContext, tables: Tables, settings: Settings) -> Evaluated:
    waiting = missing_sources(tables, retry_failed=False)
    if not waiting:
        return _settled("no source waits for its download")
    if _runs(context.instance, DOWNLOAD, None, _ACTIVE):
        return dg.SkipReason(f"a download is under way; {len(waiting)} sources wait")
    sources = [" ".join(found) for found in waiting.items()]
    return _ask_once(context, sources, settings, f"{len(waiting)} sources wait: {_some(waiting)}")


def _is_being_written(path: str) -> bool:
    found = look_at(path)
    return found is not None and abs(time.time() - found.mtime_ns / 1e9) < _SETTLING_S


def _settled(reason: str) -> dg.SensorResult:
    """Do nothing, and forget what was asked for: the same state, should it come again, is news."""
    return dg.SensorResult(skip_reason=reason, cursor="{}")


def _ask_once(context: dg.SensorEvaluationContext, states: Sequence[str], settings: Settings, what: str) -> Evaluated:
    """Request a run, unless one was requested for these very states not long ago."""
    digest = hashlib.sha256("\n".join(states).encode(errors="surrogateescape")).hexdigest()
    now = time.time()
    asked = json.loads(context.cursor) if context.cursor else {}
    again_at = asked.get("at", 0) + settings.automation.retry_minutes * 60
    if asked.get("for") == digest and now < again_at:
        return dg.SkipReason(f"{what}. A run was asked for already; if it fails, another one is at {_clock(again_at)}")
    context.log.info(what)
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=json.dumps({"for": digest, "at": now}))


@dataclass(frozen=True)
class _Stage:
    """A stage whose missing clips are made in blocks.

    Attributes:
        settings: the settings.
        job: name of its job.
        asset: what tells that a run is about it.
        block_clips: most clips in a block.
    """

    settings: Settings
    job: str
    asset: dg.AssetKey
    block_clips: int

    def evaluate(self, context: dg.SensorEvaluationContext, tables: Tables) -> Evaluated:
        """Request blocks of what is missing, as many as may be queued."""
        try:
            recipe = self.settings.recipe()
        except ToolError as error:
            return dg.SkipReason(harmless(str(error)))
        return self._evaluate(context, tables, recipe)

    def _evaluate(self, context: dg.SensorEvaluationContext, tables: Tables, recipe: Recipe) -> Evaluated:
        stamp = f"{tables.clips.stamp()} {tables.references.stamp()} {tables.feature_rows.stamp()}"
        stamp += f" {code_version(self.settings)} {recipe}"
        nothing_to_do = json.loads(context.cursor) if context.cursor else {}
        if nothing_to_do.get("at") == stamp:
            return dg.SkipReason(nothing_to_do["reason"])
        # Before the tables are read: a run that ends meanwhile is seen as active, not as if it had recorded nothing.
        active = _runs(context.instance, self.job, self.asset, _ACTIVE)
        try:
            todo = backlog(tables, recipe)
        except NotMaterialized as error:
            return dg.SkipReason(str(error))
        missing = todo.to_decode if self.job == REFERENCES else todo.to_measure
        if not missing:
            reason = self._nothing_missing(todo)
            return dg.SensorResult(skip_reason=reason, cursor=json.dumps({"at": stamp, "reason": reason}))
        queued = sum(run.job_name == self.job for run in active)
        limit = self.settings.automation.queued_blocks
        if queued >= limit:
            return dg.SkipReason(
                f"{len(missing)} clips to do; {queued} of at most {limit} blocks are queued or running"
            )
        if pause := self._pause(context.instance, tables):
            return dg.SkipReason(f"{len(missing)} clips to do; {pause}")
        return self._request(context.instance, missing, todo, active, limit - queued)

    def _request(
        self,
        instance: dg.DagsterInstance,
        missing: frozenset[str],
        todo: Backlog,
        active: Sequence[dg.DagsterRun],
        number: int,
    ) -> Evaluated:
        order = instance.get_dynamic_partitions(CLIP)
        position = {clip: index for index, clip in enumerate(order)}
        other = (CELLS, FEATURE_ROWS) if self.job == REFERENCES else (REFERENCES, DECODED_REFERENCE)
        busy = _clips_of([*active, *_runs(instance, *other, _ACTIVE)], order, position)
        held = _clips_of(self._ran_in_vain_lately(instance), order, position) - busy
        # Only in the cells' blocks do clips in quarantine cost nothing: there they are recorded, not tried again.
        idle = todo.quarantined - busy if self.job == CELLS else frozenset[str]()
        now = missing - busy - held
        sweep = self.settings.crf_sweep if self.job == CELLS else None
        requests = [
            dg.RunRequest(tags=block_tags(block[0], block[-1], sweep))
            for block, _ in zip(blocks(order, now, self.block_clips, idle), range(number), strict=False)
        ]
        if requests:
            return dg.SensorResult(run_requests=requests)
        unknown = len(missing - position.keys())
        reasons = [
            f"{len(missing & busy)} are in a run now" if missing & busy else "",
            f"{len(missing & held)} were tried in vain, or cancelled, less than "
            f"{self.settings.automation.retry_minutes:g} minutes ago and are tried again later"
            if missing & held
            else "",
            f"{unknown} are no partitions yet; materialize source_manifest" if unknown else "",
        ]
        return dg.SkipReason(f"{len(missing)} clips to do; {'; '.join(filter(None, reasons))}")

    def _nothing_missing(self, todo: Backlog) -> str:
        quarantine = f"{len(todo.quarantined)} are in quarantine"
        if self.job == REFERENCES:
            return f"every clip is decoded; {quarantine}"
        waiting = f", {len(todo.to_decode)} wait to be decoded" if todo.to_decode else ""
        return f"{todo.complete} clips have all their rows, {quarantine}{waiting}"

    def _ran_in_vain_lately(self, instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
        since = _minutes_ago(self.settings.automation.retry_minutes)
        found = _runs(instance, self.job, self.asset, _ENDED_BADLY, since)
        if self.job == REFERENCES:
            # A file that has changed since it was ingested differs from what was ingested however often it is decoded.
            ingested = instance.get_latest_materialization_event(SOURCE_MANIFEST)
            after = datetime.fromtimestamp(ingested.timestamp, UTC) if ingested else None
            found += _runs(instance, self.job, self.asset, [dg.DagsterRunStatus.SUCCESS], since, after)
        return found

    def _pause(self, instance: dg.DagsterInstance, tables: Tables) -> str | None:
        """Return why no block is worth a try now: the last ones failed without recording anything."""
        since = _minutes_ago(self.settings.automation.retry_minutes)
        ended = dg.RunsFilter(
            job_name=self.job, statuses=[*_ENDED_BADLY, dg.DagsterRunStatus.SUCCESS], updated_after=since
        )
        records = instance.get_run_records(ended, limit=_FRUITLESS_RUNS)
        if len(records) < _FRUITLESS_RUNS or any(record.dagster_run.is_success for record in records):
            return None
        oldest = min(record.create_timestamp.timestamp() for record in records)
        first_ended = min(record.update_timestamp.timestamp() for record in records)
        table = tables.references if self.job == REFERENCES else tables.feature_rows
        if table.newest_ns() / 1e9 >= oldest:
            return None
        again_at = first_ended + self.settings.automation.retry_minutes * 60
        return (
            f"the last {_FRUITLESS_RUNS} runs failed, or were cancelled, and recorded nothing: read the message of run "
            f"{records[0].dagster_run.run_id}, mend it, and launch one by hand; the next try is at {_clock(again_at)}"
        )


def _publish(context: dg.SensorEvaluationContext, tables: Tables, settings: Settings) -> Evaluated:
    measured = tables.feature_rows.newest_ns()
    if not measured:
        return dg.SkipReason("no cell was measured yet")
    stamp = f"{tables.clips.stamp()} {tables.references.newest_ns()} {measured}"
    asked = json.loads(context.cursor) if context.cursor else {}
    if _runs(context.instance, PUBLISH, FR_CORPUS, _ACTIVE):
        return dg.SkipReason("a publication is under way; what has changed since is published afterwards")
    last = context.instance.get_latest_materialization_event(FR_CORPUS)
    published_from = _started(context.instance, last.run_id) if last else 0.0
    if published_from > max(tables.clips.written_ns(), tables.references.newest_ns(), measured) / 1e9:
        return dg.SkipReason("what was measured is published")
    retry_at = asked.get("at", 0.0) + settings.automation.retry_minutes * 60
    if asked.get("for") == stamp and time.time() < retry_at:
        return dg.SkipReason(f"publication was asked for already; if it failed, another is at {_clock(retry_at)}")
    # One that failed counts, too: else it would be repeated with every row.
    last_at = max(last.timestamp if last else 0.0, asked.get("at", 0.0))
    again_at = last_at + settings.automation.publish_minutes * 60
    # Between two blocks of cells, clips are being decoded for the next.
    stages = ((CELLS, FEATURE_ROWS), (REFERENCES, DECODED_REFERENCE))
    if time.time() < again_at and any(_runs(context.instance, *stage, _ACTIVE) for stage in stages):
        return dg.SkipReason(
            f"clips are being measured; the next publication is when they are done, or at {_clock(again_at)}"
        )
    cursor = json.dumps({"for": stamp, "at": time.time()})
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=cursor)


def _started(instance: dg.DagsterInstance, run_id: str) -> float:
    """Return when a run started, in seconds since 1970; 0 when that is not known."""
    record = instance.get_run_record_by_id(run_id)
    return (record.start_time if record else None) or 0.0


def _runs(
    instance: dg.DagsterInstance,
    job: str,
    asset: dg.AssetKey | None,
    statuses: list[dg.DagsterRunStatus],
    since: datetime | None = None,
    created_after: datetime | None = None,
) -> list[dg.DagsterRun]:
    """Return the runs of a job, and those that materialize its asset by hand or in a backfill."""
    wanted = dg.RunsFilter(statuses=statuses, updated_after=since, created_after=created_after)
    found = instance.get_run_records(wanted)
    runs = [record.dagster_run for record in found]
    return [run for run in runs if run.job_name == job or (asset and asset in (run.asset_selection or ()))]


def _clips_of(runs: Iterable[dg.DagsterRun], order: Sequence[str], position: Mapping[str, int]) -> frozenset[str]:
    """Return the clips that runs are about, from their partition or their range of partitions."""
    clips: set[str] = set()
    for run in runs:
        one = run.tags.get("dagster/partition")
        first = run.tags.get("dagster/asset_partition_range_start", one)
        last = run.tags.get("dagster/asset_partition_range_end", one)
        ends = [position.get(key.split("|")[0]) for key in (first, last) if key]
        if len(ends) == 2 and ends[0] is not None and ends[1] is not None:
            clips.update(order[ends[0] : ends[1] + 1])
    return frozenset(clips)


def _some(paths: Iterable[str]) -> str:
    found = list(paths)
    more = f" and {len(found) - _EXAMPLES} more" if len(found) > _EXAMPLES else ""
    return harmless(", ".join(found[:_EXAMPLES]) + more)


def _minutes_ago(minutes: float) -> datetime:
    return datetime.fromtimestamp(time.time() - minutes * 60, UTC)


def _clock(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%H:%M UTC")
