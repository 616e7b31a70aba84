"""What a batch loses when Dagster's PostgreSQL is away for a while: nothing."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import sqlalchemy as db
from sqlalchemy.engine import URL

from frnr_assets.assets.cells import DISTORTION, FEATURE_ROWS
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.postgres import Patience, end_backends
from frnr_assets_tests.assets.batch import SWEEP, Batch
from frnr_assets_tests.assets.conftest import persistent_instance
from tools.ports import free_port
from tools.postgres import PostgresServer

# Longer than one answer is waited for.
OUTAGE_S = 15.0
# Each test has clips of its own.
CELLS = 3 * len(SWEEP)

Away = tuple[int, Callable[[], None], Callable[[], None]]


class Forwarder:
    """A way to the server that can be cut, or fall silent without a word."""

    def __init__(self, target: int):
        self.target = target
        self.port = free_port()
        self._open = threading.Event()
        self._open.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listen()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self._pairs.append((near, far))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=[one, other], daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                # What was sent before the silence arrives after it.
                self._open.wait()
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Refuse new connections, and end those that there are."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            for line in pair:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._listen()

    def fall_silent(self) -> None:
        self._open.clear()

    def speak_again(self) -> None:
        self._open.set()


@dataclass
class Kept:
    """A batch whose records are in a database of the server."""

    batch: Batch
    server: PostgresServer
    database: str

    def start(self, first: int, *, port: int, patience_s: int) -> "subprocess.Popen[bytes]":
        """Start the cells of three clips, and return once the first of them is recorded."""
        self.batch.keep_records_in(self.server.storage(self.database, port=port, patience_seconds=patience_s))
        run = self.batch.start(first=f"clip{first:02}|18", last=f"clip{first + 2:02}|38")
        query = """SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'
            AND partition IN (%s, %s, %s)"""
        deadline = time.monotonic() + 120
        some = list(cells_of(first))[: len(SWEEP)]
        while self.server.ask(query, self.database, some) == [(0,)] and time.monotonic() < deadline:
            time.sleep(0.02)
        return run

    def rows(self, first: int) -> pl.DataFrame:
        clips = [f"clip{index:02}" for index in range(first, first + 3)]
        return self.batch.rows().filter(pl.col("clip").is_in(clips))

    def events(self, first: int) -> list[Counter[str]]:
        found = [self.batch.recorded(asset) for asset in (DISTORTION, FEATURE_ROWS)]
        return [Counter(key for key in keys if key in cells_of(first)) for keys in found]

    @property
    def log(self) -> str:
        return self.batch.log.read_text(errors="replace")


def cells_of(first: int) -> dict[str, int]:
    """Return the cells of three clips, each of them once."""
    return {f"clip{index:02}|{crf}": 1 for index in range(first, first + 3) for crf in SWEEP}


@pytest.fixture(scope="module")
def kept(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory, decoded_batch: Batch, ffmpeg: FFmpeg
) -> Kept:
    database = postgres.new_database()
    folder = tmp_path_factory.mktemp("postgres") / "batch"
    batch = decoded_batch.copy(folder, ffmpeg, storage=postgres.storage(database))
    return Kept(batch, postgres, database)


@pytest.fixture
def away(request: pytest.FixtureRequest, postgres: PostgresServer) -> Away:
    """A port of the server, and how it goes away and comes back."""
    if request.param == "the server crashes":
        return postgres.port, postgres.stop, postgres.start
    way = Forwarder(postgres.port)
    if request.param == "the way is cut":
        return way.port, way.cut, way.mend
    return way.port, way.fall_silent, way.speak_again


@pytest.mark.parametrize(
    ("away", "first"),
    [("the server crashes", 0), ("the way is cut", 3), ("the way falls silent", 6)],
    indirect=["away"],
    ids=str,
)
def test_a_quarter_of_a_minute_without_the_server_cost_no_row_and_no_event_and_the_batch_goes_on(
    away: Away, first: int, kept: Kept
) -> None:
    port, go, come_back = away
    said_before = len(kept.log)
    run = kept.start(first, port=port, patience_s=30)
    go()
    assert run.poll() is None, "the batch must be under way for this to mean something"
    time.sleep(OUTAGE_S)
    come_back()
    assert run.wait(timeout=300) == 0
    assert {f"{clip}|{crf}": 1 for clip, crf in kept.rows(first).select("clip", "crf").iter_rows()} == cells_of(first)
    assert kept.events(first) == [cells_of(first)] * 2, "each cell has one event of each asset"
    assert "PostgreSQL does not answer" in kept.log[said_before:]
    assert "PostgreSQL answers again" in kept.log[said_before:]
    twice = "SELECT event FROM event_logs GROUP BY event HAVING count(*) > 1"
    assert kept.server.ask(twice, kept.database) == []
    untagged = """SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND asset_key LIKE
        '%feature_rows%' AND id NOT IN (SELECT event_id FROM asset_event_tags WHERE key = 'dagster/data_version')"""
    assert kept.server.ask(untagged, kept.database) == [(0,)]


def test_a_server_that_stays_away_ends_the_batch_with_a_sentence_and_another_run_does_only_the_rest(kept: Kept) -> None:
    said_before = len(kept.log)
    run = kept.start(9, port=kept.server.port, patience_s=3)
    kept.server.stop()
    try:
        assert run.wait(timeout=300) != 0
    finally:
        kept.server.start()
    log = kept.log[said_before:]
    assert "Dagster's PostgreSQL has not answered for" in log
    assert "What is measured stays; when it answers again, launch the rest again" in log
    measured = len(kept.rows(9))
    before = kept.batch.wrapper.encodes
    assert 1 <= measured <= CELLS
    assert kept.batch.finish(first="clip09|18", last="clip11|38") == 0
    assert kept.batch.wrapper.encodes - before == CELLS - measured, "what was measured is not measured again"
    assert [set(events) for events in kept.events(9)] == [set(cells_of(9))] * 2


# The first that writes to a table is cut off in the middle, by a server that ends its process.
_CUT_ONCE = """
CREATE SEQUENCE writes;
CREATE FUNCTION cut_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('writes') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF;
    RETURN NEW; END $$;
"""
_CUT = {
    "asset_event_tags": "CREATE TRIGGER cut BEFORE INSERT ON asset_event_tags EXECUTE FUNCTION cut_once()",
    "asset_keys": "CREATE TRIGGER cut BEFORE INSERT ON asset_keys EXECUTE FUNCTION cut_once()",
    "asset_check_executions": "CREATE TRIGGER cut BEFORE INSERT ON asset_check_executions EXECUTE FUNCTION cut_once()",
}


@pytest.mark.parametrize("table", _CUT)
def test_an_event_that_was_stored_by_half_is_stored_once_and_whole(
    table: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    database = postgres.new_database()
    postgres.ask(_CUT_ONCE + _CUT[table], database)
    asset = dg.AssetKey("made")
    event: dg.AssetMaterialization | dg.AssetCheckEvaluation
    if table == "asset_check_executions":
        event = dg.AssetCheckEvaluation(asset_key=asset, check_name="good", passed=True)
    else:
        event = dg.AssetMaterialization(asset, partition="a", tags={"dagster/data_version": "1"})
    with persistent_instance(tmp_path, postgres.storage(database)) as instance:
        instance.report_runless_asset_event(event)
        tags = instance.event_log_storage.get_latest_tags_by_partition(
            asset, dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
        )
    assert postgres.ask("SELECT count(*) FROM event_logs", database) == [(1,)]
    assert postgres.ask("SELECT last_value >= 2 FROM writes", database) == [(True,)], "it was written anew"
    if table == "asset_check_executions":
        assert postgres.ask("SELECT execution_status FROM asset_check_executions", database) == [("SUCCEEDED",)]
    else:
        assert tags == {"a": {"dagster/data_version": "1"}}
        assert postgres.ask("SELECT count(*) FROM asset_event_tags", database) == [(1,)]


def test_events_that_dagster_stores_together_are_each_stored_once_and_whole(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    asset = dg.AssetKey("made")
    with dg.DagsterInstance.ephemeral() as source:
        for partition in "ab":
            tags = {"dagster/data_version": "1"}
            source.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition, tags=tags))
        events = [record.event_log_entry for record in source.fetch_materializations(asset, limit=2).records]
    database = postgres.new_database()
    postgres.ask(_CUT_ONCE + _CUT["asset_event_tags"], database)
    with persistent_instance(tmp_path, postgres.storage(database)) as instance:
        instance.event_log_storage.store_event_batch(events)
    assert postgres.ask("SELECT last_value >= 2 FROM writes", database) == [(True,)], "it was written anew"
    assert postgres.ask("SELECT count(*), count(DISTINCT partition) FROM event_logs", database) == [(2, 2)]
    assert postgres.ask("SELECT count(*), count(DISTINCT event_id) FROM asset_event_tags", database) == [(2, 2)]


@pytest.mark.parametrize(
    ("option", "error", "said"),
    [
        ({"patience_seconds": -1}, ValueError, "patience_seconds is -1; give 0 or more"),
        ({"auth_provider": {"gcp_wif": {}}}, dg.DagsterInvalidConfigError, "auth_provider"),
    ],
    ids=["negative patience", "auth_provider"],
)
def test_an_option_that_could_not_be_honoured_is_refused(
    option: dict[str, Any], error: type[Exception], said: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    storage = postgres.storage("postgres", **option)
    with pytest.raises(error, match=said), persistent_instance(tmp_path, storage) as instance:
        instance.get_runs()


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"db_name": "missing"}], ids=["password", "database"])
def test_a_refused_login_is_said_in_a_sentence_and_nobody_waits_for_another_answer(
    wrong: dict[str, str], postgres: PostgresServer, tmp_path: Path
) -> None:
    storage = postgres.storage("postgres", patience_seconds=3600)
    storage["custom"]["config"]["postgres_db"] |= wrong
    with pytest.raises(PermissionError, match="refuses the login"), persistent_instance(tmp_path, storage) as instance:
        instance.get_runs()


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        ("SELECT pg_sleep(60)", "statement timeout"),
        ("DO $$ BEGIN RAISE 'no space left' USING ERRCODE = 'disk_full'; END $$", "no space left"),
    ],
    ids=["cancelled", "disk full"],
)
def test_what_the_server_answers_is_not_taken_for_its_absence(
    statement: str, answer: str, postgres: PostgresServer
) -> None:
    patience = Patience("server", seconds=1)
    with engine_of(postgres).connect() as connection:
        connection.execute(db.text("SET statement_timeout = 200"))
        with pytest.raises(db.exc.OperationalError, match=answer):
            patience.attempt(connection.execute, db.text(statement))


def test_a_write_that_takes_a_second_is_not_cut_off_however_short_the_patience(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    database = postgres.new_database()
    slow = """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON event_logs EXECUTE FUNCTION slow()"""
    postgres.ask(slow, database)
    with persistent_instance(tmp_path, postgres.storage(database, patience_seconds=0)) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("made"))
    assert postgres.ask("SELECT count(*) FROM event_logs", database) == [(1,)]


def test_a_record_is_not_tried_again_beside_an_attempt_before_that_does_not_end(postgres: PostgresServer) -> None:
    engine = engine_of(postgres)
    with engine.connect() as before, engine.connect() as now:
        driver: Any = before.connection.driver_connection
        left = driver.info.backend_pid
        os.kill(left, signal.SIGSTOP)
        try:
            with pytest.raises(db.exc.TimeoutError, match=f"{left}"):
                end_backends(now, [left])
        finally:
            os.kill(left, signal.SIGCONT)
        end_backends(now, [left])
        before.invalidate()


def engine_of(server: PostgresServer) -> db.Engine:
    config = server.storage("postgres")["custom"]["config"]["postgres_db"]
    url = URL.create(
        "postgresql+psycopg2",
        config["username"],
        config["password"],
        config["hostname"],
        config["port"],
        "postgres",
        {"application_name": "frnr-test"},
    )
    return db.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=db.NullPool)
