"""Dagster's records of a whole dataset, multiplied from those that a real run has written for one clip."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable

# As many clips as a run of each stage takes; a run of cells has their whole sweep.
CLIPS_IN_A_RUN = {"decode_references": 500, "measure_cells": 100}
_EVENTS, _TAGS = SqlEventLogStorageTable.name, AssetEventTagsTable.name
_POINTER = '"dagster/input_event_pointer/decoded_reference": "{}"'


@dataclass(frozen=True)
class Real:
    """What real runs have written for one clip.

    Attributes:
        clip: its key.
        events: its rows of the event log, those of its reference first, in order.
        tags: by id of an event, its rows of the table of tags.
        reference: id of the materialization of its reference.
    """

    clip: str
    events: Sequence[Mapping[str, Any]]
    tags: Mapping[int, Sequence[Mapping[str, Any]]]
    reference: int


def read_real(instance: dg.DagsterInstance, clip: str) -> Real:
    """Read what was written for a clip: planned and done, its reference and its cells."""
    with _index(instance) as connection:
        columns = sa.text(f"SELECT * FROM {_EVENTS} WHERE partition = :one OR partition LIKE :cells ORDER BY id")  # noqa: S608 - the name of a table of Dagster's
        events = [dict(row) for row in connection.execute(columns, {"one": clip, "cells": f"{clip}|%"}).mappings()]
        of_clip = {event["id"] for event in events}
        found = connection.execute(sa.text(f"SELECT * FROM {_TAGS} ORDER BY id")).mappings()  # noqa: S608 - likewise
        tags: dict[int, list[Mapping[str, Any]]] = {}
        for tag in found:
            if tag["event_id"] in of_clip:
                tags.setdefault(tag["event_id"], []).append(dict(tag))
    (reference,) = (
        event["id"]
        for event in events
        if event["partition"] == clip and event["dagster_event_type"] == "ASSET_MATERIALIZATION"
    )
    return Real(clip, events, tags, reference)


def multiply(instance: dg.DagsterInstance, real: Real, clips: Sequence[str]) -> int:
    """Write for other clips what Dagster has written for a real one, and the runs that would have done it.

    Only names differ: of the clip, of its run, and of the event of its reference. The statements are the database's
    own, because millions of rows would otherwise go through Python.

    Returns:
        how many events were written.
    """
    runs = {run: _add_runs(instance, run, clips, size) for run, size in _real_runs(instance, real).items()}
    with _bulk(instance) as connection:
        first = connection.execute(sa.text(f"SELECT MAX(id) FROM {_EVENTS}")).scalar_one() + 1  # noqa: S608 - likewise
        stride = len(real.events)
        positions = {event["id"]: position for position, event in enumerate(real.events)}
        connection.execute(sa.text("CREATE TEMPORARY TABLE made (n INTEGER PRIMARY KEY, clip TEXT)"))
        connection.execute(
            sa.text("INSERT INTO made VALUES (:n, :clip)"), [{"n": n, "clip": clip} for n, clip in enumerate(clips)]
        )
        connection.execute(sa.text("CREATE TEMPORARY TABLE made_runs (old TEXT, n INTEGER, run TEXT)"))
        rows = [{"old": old, "n": n, "run": run} for old, made in runs.items() for n, run in enumerate(made)]
        connection.execute(sa.text("INSERT INTO made_runs VALUES (:old, :n, :run)"), rows)
        connection.execute(sa.text("CREATE INDEX made_runs_by_n ON made_runs (n, old)"))
        indexes = _drop_indexes(connection)
        _multiply_events(connection, real, positions, first, stride)
        _multiply_tags(connection, real, positions, first, stride)
        for create in indexes:
            connection.execute(sa.text(create))
    return len(clips) * stride


def _multiply_events(
    connection: sa.Connection, real: Real, positions: Mapping[int, int], first: int, stride: int
) -> None:
    old = _POINTER.format(real.reference)
    before, after = _POINTER.split("{}")
    connection.execute(sa.text(f"CREATE TEMPORARY TABLE pattern AS SELECT 0 AS k, e.* FROM {_EVENTS} e WHERE id < 0"))  # noqa: S608 - likewise
    names = list(real.events[0])
    into = ", ".join(["k", *names])
    values = ", ".join([":k", *(f":{name}" for name in names)])
    connection.execute(
        sa.text(f"INSERT INTO pattern ({into}) VALUES ({values})"),  # noqa: S608 - likewise
        [{"k": positions[event["id"]], **event} for event in real.events],
    )
    changed = {
        "id": ":first + f.n * :stride + p.k",
        "run_id": "r.run",
        "event": "replace(replace(replace(p.event, :old, :before || (:first + f.n * :stride + :reference) || :after), "
        "p.run_id, r.run), :clip, f.clip)",
        "partition": "replace(p.partition, :clip, f.clip)",
    }
    made = ", ".join(changed.get(name, f"p.{name}") for name in names)
    connection.execute(
        sa.text(
            f"INSERT INTO {_EVENTS} ({', '.join(names)}) SELECT {made} FROM made f CROSS JOIN pattern p "  # noqa: S608 - likewise
            "JOIN made_runs r ON r.n = f.n AND r.old = p.run_id"
        ),
        {
            "first": first,
            "stride": stride,
            "old": old,
            "before": before,
            "after": after,
            "reference": positions[real.reference],
            "clip": real.clip,
        },
    )


def _multiply_tags(
    connection: sa.Connection, real: Real, positions: Mapping[int, int], first: int, stride: int
) -> None:
    connection.execute(
        sa.text("CREATE TEMPORARY TABLE tag_pattern (k INTEGER, asset_key TEXT, name TEXT, value TEXT, at TIMESTAMP)")
    )
    rows = [
        {
            "k": positions[event],
            "asset": tag["asset_key"],
            "name": tag["key"],
            "value": tag["value"],
            "at": tag["event_timestamp"],
        }
        for event, tags in real.tags.items()
        for tag in tags
    ]
    connection.execute(sa.text("INSERT INTO tag_pattern VALUES (:k, :asset, :name, :value, :at)"), rows)
    connection.execute(
        sa.text(
            f'INSERT INTO {_TAGS} (event_id, asset_key, "key", value, event_timestamp) '  # noqa: S608 - likewise
            "SELECT :first + f.n * :stride + p.k, p.asset_key, p.name, "
            "CASE WHEN p.value = :clip THEN f.clip "
            "WHEN p.name = 'dagster/input_event_pointer/decoded_reference' "
            "THEN '' || (:first + f.n * :stride + :reference) ELSE p.value END, p.at "
            "FROM made f CROSS JOIN tag_pattern p"
        ),
        {"first": first, "stride": stride, "clip": real.clip, "reference": positions[real.reference]},
    )


def _drop_indexes(connection: sa.Connection) -> list[str]:
    """Drop the indexes of events and tags, but for primary keys, and return the statements that make them again."""
    wanted = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN (:a, :b)"
    found = connection.execute(sa.text(wanted), {"a": _EVENTS, "b": _TAGS}).all()
    for name, _ in found:
        connection.execute(sa.text(f"DROP INDEX {name}"))
    return [create for _, create in found]


def _real_runs(instance: dg.DagsterInstance, real: Real) -> dict[str, int]:
    """Return how many clips a run has by the runs that the events are from."""
    runs = {run: instance.get_run_by_id(run) for run in dict.fromkeys(event["run_id"] for event in real.events)}
    return {name: CLIPS_IN_A_RUN[run.job_name] for name, run in runs.items() if run is not None}


def _add_runs(instance: dg.DagsterInstance, pattern: str, clips: Sequence[str], size: int) -> list[str]:
    """Add a run for so many clips each, like a real one, and return the run of each clip."""
    storage = instance.run_storage
    if not isinstance(storage, SqlRunStorage):
        raise TypeError("the records are in no database")
    with storage.connect() as connection:
        real = dict(connection.execute(sa.select(RunsTable).where(RunsTable.c.run_id == pattern)).mappings().one())
        of_real = sa.select(RunTagsTable).where(RunTagsTable.c.run_id == pattern)
        tags = [dict(tag) for tag in connection.execute(of_real).mappings()]
        real.pop("id")
        names = [f"{index:08x}{pattern[8:]}" for index in range(-(-len(clips) // size))]
        body = real.pop("run_body")
        connection.execute(
            RunsTable.insert(),
            [{**real, "run_id": name, "run_body": body.replace(pattern, name)} for name in names],
        )
        connection.execute(
            RunTagsTable.insert(),
            [{"run_id": name, "key": tag["key"], "value": tag["value"]} for name in names for tag in tags],
        )
    return [names[index // size] for index in range(len(clips))]


@contextmanager
def _index(instance: dg.DagsterInstance) -> Iterator[sa.Connection]:
    """Lend a connection to the events of all runs, in a transaction."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError("the records are in no database")
    with storage.index_transaction() as connection:
        yield connection


@contextmanager
def _bulk(instance: dg.DagsterInstance) -> Iterator[sa.Connection]:
    """Lend a connection for millions of rows: in SQLite's own journal each of them would be written twice."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        raise TypeError("the records are in no file of SQLite")
    engine = sa.create_engine(storage.conn_string_for_shard("index"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=OFF")
        connection.exec_driver_sql("PRAGMA synchronous=OFF")
        connection.exec_driver_sql("PRAGMA cache_size=-500000")
        yield connection
        connection.commit()
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
