"""Dagster's records in PostgreSQL, by a storage that waits when the server is away.

dagster.yaml names it, in its block `storage`. Dagster's own storage gives up when a connection breaks, and a batch of
hours would end with it. This one tries again for two minutes, and writes no event twice.
"""

import errno
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

import dagster as dg
import psycopg2
import psycopg2.errors
import sqlalchemy as db
from dagster import DagsterEvent
from dagster._config.config_schema import UserConfigSchema
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.config import PostgresStorageConfig, pg_config
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._serdes import ConfigurableClassData, serialize_value
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage, PostgresRunStorage
from dagster_postgres.utils import DagsterPostgresException, pg_url_from_config
from sqlalchemy.engine import URL, Connection, make_url

PATIENCE_S = 120
# The driver that dagster-postgres brings; SQLAlchemy would look for another one.
_DRIVER = "postgresql+psycopg2"
# How libpq notices a server that has vanished without a word, in seconds and (the last) milliseconds.
_NOTICING = {
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_PAUSE_S = 0.5
# A healthy server may take seconds, when it writes a checkpoint or another holds a lock.
_SHORTEST_SILENCE_S = 10.0
# What psycopg2 counts as errors of operation, though the server has answered.
_ANSWERS = (psycopg2.errors.QueryCanceled, psycopg2.errors.DiskFull)
_REFUSAL = re.compile(r"FATAL: .*(authentication failed| does not exist)")
_TERMINATION_MS = 5000

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass
class Patience:
    """How long the server is waited for.

    Attributes:
        address: of the server, for messages.
        seconds: after so many it is given up. From then on each attempt is the only one, until one succeeds.
    """

    address: str
    seconds: float
    _exhausted: bool = field(default=False, init=False)

    def attempt(self, action: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do what may be done again, until the server does it.

        Raises:
            TimeoutError: it is given up; the message names the server and the reason.
            PermissionError: the server refuses user, password or database, for which nobody waits.
        """
        began = time.monotonic()
        told = False
        while True:
            try:
                done = action(*args, **kwargs)
            except (DagsterPostgresException, db.exc.DBAPIError, db.exc.TimeoutError) as error:
                if _refuses_login(error):
                    raise self._refused(error) from error
                if not _is_away(error):
                    raise
                waited = time.monotonic() - began
                if self._exhausted or waited >= self.seconds:
                    given_up = self._given_up(waited, error)
                    self._exhausted = True
                    raise given_up from error
                if not told:
                    _log.warning(
                        "%s: PostgreSQL does not answer (%s); trying again for up to %.0f s",
                        self.address,
                        _reason(error),
                        self.seconds,
                    )
                    told = True
                time.sleep(_PAUSE_S)
            else:
                self._exhausted = False
                if told:
                    _log.warning("%s: PostgreSQL answers again, after %.0f s", self.address, time.monotonic() - began)
                return done

    def _given_up(self, waited: float, error: Exception) -> TimeoutError:
        what = f"Dagster's PostgreSQL has not answered for {waited:.0f} s ({_reason(error)})"
        if not self._exhausted:
            # As long as it is away, no run can be told so.
            _log.error(
                "%s: %s. What is measured stays; when it answers again, launch the rest again", self.address, what
            )
        # An error of the system, with a place: what catches those of disks says this one in a sentence as well.
        return TimeoutError(errno.ETIMEDOUT, what, self.address)

    def _refused(self, error: Exception) -> PermissionError:
        what = f"Dagster's PostgreSQL refuses the login ({_reason(error)}); correct dagster.yaml, or what it refers to"
        return PermissionError(errno.EACCES, what, self.address)


def _is_away(error: BaseException) -> bool:
    """Say whether an error is about the server or the way to it, rather than about what it was asked."""
    cause = _cause(error)
    if not isinstance(cause, db.exc.DBAPIError):
        return isinstance(cause, db.exc.TimeoutError)
    if isinstance(cause.orig, _ANSWERS):
        return False
    return cause.connection_invalidated or isinstance(cause.orig, psycopg2.OperationalError | psycopg2.InterfaceError)


def _refuses_login(error: BaseException) -> bool:
    cause = _cause(error)
    if not isinstance(cause, db.exc.DBAPIError) or not isinstance(cause.orig, psycopg2.OperationalError):
        return False
    # Of what refuses a connection, psycopg2 has the words alone.
    return cause.orig.pgcode is None and _REFUSAL.search(_reason(error)) is not None


def _cause(error: BaseException) -> BaseException:
    return error.__cause__ if isinstance(error, DagsterPostgresException) and error.__cause__ else error


def _reason(error: BaseException) -> str:
    cause = _cause(error)
    lines = str(cause.orig if isinstance(cause, db.exc.DBAPIError) else cause).split("\n")
    return lines[0].strip()


class PatientPostgresStorage(DagsterPostgresStorage):
    """PostgreSQL for Dagster's runs, events and schedules; configured as Dagster's own, with `patience_seconds`."""

    def __init__(
        self, postgres_url: str, patience: Patience, *, autocreate: bool, inst_data: ConfigurableClassData | None = None
    ):
        super().__init__(postgres_url, autocreate, inst_data)
        self._run_storage = _PatientRuns(postgres_url, patience, autocreate=autocreate)
        self._event_log_storage = _PatientEvents(postgres_url, patience, autocreate=autocreate)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return the configuration: that of Dagster's own storage, and how long to wait for the server.

        Without `auth_provider`, whose passwords change while connections are made here with the one of the beginning.
        """
        theirs: Any = pg_config()
        without = {key: option for key, option in theirs.items() if key != "auth_provider"}
        return {**without, "patience_seconds": dg.Field(int, is_required=False, default_value=PATIENCE_S)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any] | PostgresStorageConfig
    ) -> "PatientPostgresStorage":
        """Open the storage that a dagster.yaml describes.

        Raises:
            ValueError: the patience is negative.
            TimeoutError: the server did not answer.
            PermissionError: the server refuses user, password or database.
        """
        config: Mapping[str, Any] = config_value
        if config["patience_seconds"] < 0:
            raise ValueError(f"dagster.yaml: patience_seconds is {config['patience_seconds']}; give 0 or more")
        url = _with_ways_to_notice(make_url(pg_url_from_config(config)))
        patience = Patience(f"{url.host}:{url.port or 5432}/{url.database}", config["patience_seconds"])
        return patience.attempt(
            cls,
            url.render_as_string(hide_password=False),
            patience,
            autocreate=config["should_autocreate_tables"],
            inst_data=inst_data,
        )


def _with_ways_to_notice(url: URL) -> URL:
    """Name the driver and the process, and let libpq notice what is lost; what was configured itself counts."""
    own = {**_NOTICING, "application_name": f"frnr-{uuid4()}", **url.query}
    return url.set(drivername=_DRIVER, query=own)


class _PatientRuns(PostgresRunStorage):
    def __init__(self, postgres_url: str, patience: Patience, *, autocreate: bool):
        self._patience = patience
        super().__init__(postgres_url, autocreate)

    def handle_run_event(self, run_id: str, event: DagsterEvent, update_timestamp: datetime | None = None) -> None:
        # It sets the run's status: doing so twice is doing so once.
        self._patience.attempt(super().handle_run_event, run_id, event, update_timestamp)

    def get_run_records(self, *args: Any, **kwargs: Any) -> Sequence[RunRecord]:
        # What looks after the processes of runs asks this, and would not do so again.
        return self._patience.attempt(super().get_run_records, *args, **kwargs)


class _PatientEvents(PostgresEventLogStorage):
    def __init__(self, postgres_url: str, patience: Patience, *, autocreate: bool):
        self._patience = patience
        # Of several silences in a row, the last ends with the patience.
        self._watch = _Watch(max(patience.seconds / 4, _SHORTEST_SILENCE_S))
        super().__init__(postgres_url, autocreate)

    def store_event(self, event: EventLogEntry) -> None:
        store, broken = super().store_event, list[int]()

        def attempt() -> None:
            earlier = tuple(broken)
            with self._watch.watching(broken):
                if earlier:
                    with self._connect() as connection:
                        end_backends(connection, earlier)
                    self._withdraw(event)
                store(event)

        self._patience.attempt(attempt)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        # Dagster's own writes them in a few statements, which nothing could withdraw.
        for event in events:
            self.store_event(event)

    def get_latest_storage_id_by_partition(self, *args: Any, **kwargs: Any) -> Mapping[str, int]:
        return self._patience.attempt(super().get_latest_storage_id_by_partition, *args, **kwargs)

    def get_latest_tags_by_partition(self, *args: Any, **kwargs: Any) -> Mapping[str, Mapping[str, str]]:
        return self._patience.attempt(super().get_latest_tags_by_partition, *args, **kwargs)

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        if not self._watch.is_on:
            with super()._connect() as connection:
                yield connection
            return
        # Dagster's own attempts at a connection would come before ours, and be counted by nobody.
        with self._engine.connect() as connection, self._watch.over(connection):
            yield connection

    def _withdraw(self, event: EventLogEntry) -> None:
        """Remove what an attempt before has stored of an event: all of it, or some when it was interrupted."""
        table = SqlEventLogStorageTable.c
        # Its text has the time in it, to the microsecond.
        same = db.select(table.id).where(table.run_id == event.run_id, table.event == serialize_value(event))
        with self.index_transaction() as connection:
            found = connection.execute(same).scalars().all()
            connection.execute(db.delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id.in_(found)))
            executions = AssetCheckExecutionsTable
            connection.execute(db.delete(executions).where(executions.c.evaluation_event_storage_id.in_(found)))
            connection.execute(db.delete(SqlEventLogStorageTable).where(table.id.in_(found)))


def end_backends(connection: Connection, backends: Sequence[int]) -> None:
    """End what served attempts of this process before: what they were sent may still be on its way, and be done late.

    Raises:
        sqlalchemy.exc.TimeoutError: some of them do not end.
    """
    activity = db.table("pg_stat_activity", db.column("pid"), db.column("application_name"))
    ours = activity.c.application_name == connection.engine.url.query["application_name"]
    before = [activity.c.pid.in_(backends), ours]
    connection.execute(db.select(db.func.pg_terminate_backend(activity.c.pid, _TERMINATION_MS)).where(*before)).all()
    left = connection.execute(db.select(activity.c.pid).where(*before)).scalars().all()
    if left:
        raise db.exc.TimeoutError(f"its processes {list(left)} do not end")


class _Watch(threading.local):
    """Cuts the connections of a thread that writes when they are silent for too long: libpq would wait for ever.

    Attributes:
        seconds: of silence.
        is_on: whether this thread is writing.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.is_on = False
        self._backends: list[int] = []

    @contextmanager
    def watching(self, backends: list[int]) -> Iterator[None]:
        """Watch over what is connected meanwhile, and note the server's processes that may be left of it."""
        self.is_on, self._backends = True, backends
        try:
            yield
        finally:
            self.is_on = False

    @contextmanager
    def over(self, connection: Connection) -> Iterator[None]:
        """Watch over one connection."""
        driver: Any = connection.connection.driver_connection
        self._backends.append(driver.info.backend_pid)
        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            timer = threading.Timer(self.seconds, _cut, [line])
            timer.start()
            try:
                yield
            finally:
                timer.cancel()
                timer.join()


def _cut(line: socket.socket) -> None:
    # The other side may have been faster.
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
