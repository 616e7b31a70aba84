"""What Dagster remembers of runs that ended long ago: what tells a status is kept, the rest of it goes.

Dagster removes nothing by itself, and can only remove a run with everything that it has recorded: the partitions that
it materialized would be missing. So the events are removed here, one run after another, by what they say.

Kept of a run, however old: the newest materialization of each partition, with its tags; the plan of each partition
that has not been materialized since, which is why it shows as failed; the newest result of each check; and the run
itself, as long as any of these is left. What goes: log lines, events of steps and of the run, materializations and
plans that newer ones have replaced, and what the run printed.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as db
from dagster import DagsterEventType
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.asset_check_execution_record import COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from sqlalchemy.engine import Connection

_MADE = DagsterEventType.ASSET_MATERIALIZATION.value
_OBSERVED = DagsterEventType.ASSET_OBSERVATION.value
_PLANNED = DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value
# An event of the left is replaced by a newer one of the right, of the same partition.
_REPLACED_BY = {_MADE: [_MADE], _OBSERVED: [_OBSERVED], _PLANNED: [_MADE, _PLANNED]}
_COMPLETED = [status.value for status in COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES]
_UNFINISHED = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
# Below what SQLite takes in one statement.
_CHUNK = 10_000


@dataclass(frozen=True)
class Cleared:
    """What went.

    Attributes:
        runs: that were looked at.
        removed_runs: of which nothing is left.
        events: that were removed from the event log, or with SQLite from its index.
    """

    runs: int
    removed_runs: int
    events: int


def clear_history(instance: dg.DagsterInstance, ended_before: datetime) -> Cleared:
    """Remove what is not needed any more of the runs that ended before some time, and of no unfinished backfill.

    Raises:
        NotImplementedError: Dagster's events are not in SQLite or PostgreSQL.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise NotImplementedError(f"history can be cleared in SQLite and PostgreSQL, not in {type(storage).__name__}")
    unfinished = {backfill.backfill_id for backfill in instance.get_backfills(BulkActionsFilter(statuses=_UNFINISHED))}
    ended = dg.RunsFilter(statuses=FINISHED_STATUSES, updated_before=ended_before)
    old = [run.run_id for run in instance.get_runs(ended) if run.tags.get("dagster/backfill") not in unfinished]
    events = removed_runs = 0
    for run_id in old:
        with storage.index_transaction() as connection:
            events += _clear_events(connection, run_id)
            is_needed = _is_needed(connection, run_id)
        own_file = Path(storage.path_for_shard(run_id)) if isinstance(storage, SqliteEventLogStorage) else None
        if own_file:
            _empty(own_file)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        if not is_needed:
            instance.delete_run(run_id)
            removed_runs += 1
            if own_file:
                own_file.unlink(missing_ok=True)
    return Cleared(len(old), removed_runs, events)


def _clear_events(connection: Connection, run_id: str) -> int:
    """Remove the events of a run that say nothing any more, and return how many."""
    events, checks = SqlEventLogStorageTable, AssetCheckExecutionsTable
    kind = events.c.dagster_event_type
    replaced = [db.and_(kind == old, _has_newer(new)) for old, new in _REPLACED_BY.items()]
    says_nothing = db.or_(kind.is_(None), kind.not_in(list(_REPLACED_BY)), *replaced)
    doomed = connection.execute(db.select(events.c.id).where(events.c.run_id == run_id, says_nothing)).scalars().all()
    for start in range(0, len(doomed), _CHUNK):
        chunk = doomed[start : start + _CHUNK]
        connection.execute(db.delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id.in_(chunk)))
        connection.execute(db.delete(events).where(events.c.id.in_(chunk)))
    newer = checks.alias("newer")
    same = [newer.c.asset_key == checks.c.asset_key, newer.c.check_name == checks.c.check_name]
    # Until a newer plan has come to a result, the UI still shows the result before it.
    replaces = db.or_(newer.c.execution_status.in_(_COMPLETED), checks.c.execution_status.not_in(_COMPLETED))
    again = db.exists().where(*same, _same(newer.c.partition, checks.c.partition), newer.c.id > checks.c.id, replaces)
    connection.execute(db.delete(checks).where(checks.c.run_id == run_id, again))
    return len(doomed)


def _has_newer(kinds: Sequence[str]) -> Any:
    """Say that an asset's partition, or the asset if it has none, has a newer event of some kind.

    One question for each case: joined in one, no index would answer it.
    """
    events, newer = SqlEventLogStorageTable, SqlEventLogStorageTable.alias("newer")
    same = db.and_(
        newer.c.asset_key == events.c.asset_key, newer.c.dagster_event_type.in_(kinds), newer.c.id > events.c.id
    )
    return db.or_(
        db.and_(events.c.partition.is_not(None), db.exists().where(same, newer.c.partition == events.c.partition)),
        db.and_(events.c.partition.is_(None), db.exists().where(same, newer.c.partition.is_(None))),
    )


def _same(one: Any, other: Any) -> Any:
    return db.or_(one == other, db.and_(one.is_(None), other.is_(None)))


def _is_needed(connection: Connection, run_id: str) -> bool:
    """Say whether a run has still recorded something that nothing newer has replaced."""
    tables = (SqlEventLogStorageTable, AssetCheckExecutionsTable)
    return any(
        connection.execute(db.select(table.c.id).where(table.c.run_id == run_id).limit(1)).first() is not None
        for table in tables
    )


def _empty(file: Path) -> None:
    """Empty the file that SQLite has for a run besides the index, which has all that is kept."""
    if not file.exists():
        return
    with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as connection:
        if connection.execute("DELETE FROM event_logs").rowcount:
            connection.execute("VACUUM")
