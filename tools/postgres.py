"""A PostgreSQL server for tests and measurements: a cluster in a temporary folder, on a free port of this machine."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import psycopg2.extensions

from tools.ports import free_port

MISSING = "there is no PostgreSQL server here; install the Debian package postgresql"
_USER, _TEMPLATE = "frnr", "dagster_template"


class NoServerError(Exception):
    """PostgreSQL cannot be started here; the message says what to install."""


@dataclass
class PostgresServer:
    """A running cluster.

    Attributes:
        programs: the folder of initdb and pg_ctl.
        folder: where data, socket and log are.
        port: where it listens, on 127.0.0.1.
        password: of its only user.
    """

    programs: Path
    folder: Path
    port: int
    password: str
    _databases: int = field(default=0)

    def start(self) -> None:
        """Start it, and return once it answers."""
        self._control("start", "--log", str(self.folder / "log"))

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; "immediate" as a crash would, so that no client is told anything."""
        self._control("stop", "--mode", mode)

    def _control(self, what: str, *arguments: str) -> None:
        data = str(self.folder / "data")
        run_as_owner([str(self.programs / "pg_ctl"), what, "--wait", "--silent", "--pgdata", data, *arguments])

    def connect(self, database: str = "postgres") -> "psycopg2.extensions.connection":
        """Open a connection that commits each statement."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=_USER, password=self.password, dbname=database
        )
        connection.autocommit = True
        return connection

    def ask(self, query: str, database: str = "postgres", values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own, and return its rows."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, list(values) or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def storage(self, database: str, *, port: int | None = None, **config: object) -> dict[str, Any]:
        """Return the block `storage` of a dagster.yaml for one of its databases."""
        address = {"hostname": "127.0.0.1", "port": port or self.port, "username": _USER, "password": self.password}
        own: dict[str, Any] = {"postgres_db": {**address, "db_name": database}, **config}
        return {"custom": {"module": "frnr_assets.postgres", "class": "PatientPostgresStorage", "config": own}}

    def new_database(self) -> str:
        """Make a database that has Dagster's tables, copied from one in which Dagster made them."""
        template = self._template
        self._databases += 1
        name = f"dagster_{self._databases}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    @cached_property
    def _template(self) -> str:
        self.ask(f"CREATE DATABASE {_TEMPLATE}")
        with (
            tempfile.TemporaryDirectory() as folder,
            dg.DagsterInstance.local_temp(folder, overrides={"storage": self.storage(_TEMPLATE)}),
        ):
            return _TEMPLATE


def run_as_owner(command: list[str]) -> None:
    """Run a program of PostgreSQL, which refuses to work for root.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    lowered = ["setpriv", f"--reuid={owner()}", f"--regid={pwd.getpwnam(owner()).pw_gid}", "--clear-groups"]
    as_whom = lowered if os.geteuid() == 0 else []
    # Nothing of it is waited for but its end: the server keeps the descriptors that it was started with.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run([*as_whom, *command], stdout=said, stderr=said, cwd="/", check=False)
        said.seek(0)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {said.read().decode(errors='replace')}")


def owner() -> str:
    """Return the account that the server runs as: this one, or when it is root, one without rights."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def programs() -> Path:
    """Return the folder of the newest server's programs, which Debian does not put on PATH.

    Raises:
        NoServerError: there is none.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    elsewhere = shutil.which("initdb")
    candidates = [*found, *([Path(elsewhere)] if elsewhere else [])]
    if not candidates or (os.geteuid() == 0 and not shutil.which("setpriv")):
        raise NoServerError(MISSING)
    return candidates[len(found) - 1 if found else 0].parent


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Start a cluster, and remove it in the end.

    Args:
        durable: write what is committed to the disk, as a server does that outlives its machine; tests need not.

    Raises:
        NoServerError: PostgreSQL is not installed.
    """
    where = programs()
    # Not in pytest's folder, which only its own user may enter.
    with tempfile.TemporaryDirectory(prefix="frnr-postgres-") as name:
        server = PostgresServer(where, Path(name), free_port(), secrets.token_urlsafe(12))
        (server.folder / "password").write_text(server.password)
        settings: Mapping[str, object] = {
            "listen_addresses": "'127.0.0.1'",
            "port": server.port,
            "unix_socket_directories": f"'{name}'",
            "fsync": "on" if durable else "off",
            "max_connections": 50,
        }
        if os.geteuid() == 0:
            for path in (server.folder, server.folder / "password"):
                shutil.chown(path, owner())
        run_as_owner(
            [
                *(str(where / "initdb"), "--pgdata", f"{name}/data", "--username", _USER, "--no-sync"),
                *("--auth", "scram-sha-256", "--pwfile", f"{name}/password", "--locale", "C", "--encoding", "UTF8"),
            ]
        )
        with (server.folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{setting} = {value}\n" for setting, value in settings.items())
        server.start()
        try:
            yield server
        finally:
            server.stop()
