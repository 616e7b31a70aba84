"""A PostgreSQL server of our own, for as long as a measurement takes."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_DEBIAN = Path("/usr/lib/postgresql")
_USER = "bench"
# Who runs the server when we are root, which the server refuses to be.
_UNPRIVILEGED = "nobody"


def server_programs(installed: Path = _DEBIAN) -> Path | None:
    """Return the folder of the newest PostgreSQL server's programs, None when Debian's package is not there."""
    versions = sorted((int(path.parent.parent.name), path.parent) for path in installed.glob("*/bin/initdb"))
    return versions[-1][1] if versions else None


@contextmanager
def server(folder: Path, programs: Path) -> Iterator[str]:
    """Lend a server, and the lines of dagster.yaml that have Dagster keep its records there.

    Args:
        folder: where it keeps its files; it is made.
        programs: the folder of its programs.
    """
    folder.mkdir()
    as_user: list[str] = []
    if os.geteuid() == 0:
        account = pwd.getpwnam(_UNPRIVILEGED)
        as_user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        os.chown(folder, account.pw_uid, account.pw_gid)
        for parent in (folder, *folder.parents):
            if not parent.stat().st_mode & 0o001 and parent != folder:
                parent.chmod(parent.stat().st_mode | 0o011)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    _run([*as_user, str(programs / "initdb"), "-A", "trust", "-U", _USER, "-D", str(data)], folder)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    control = [*as_user, str(programs / "pg_ctl"), "-D", str(data), "-w"]
    _run([*control, "-l", str(folder / "log"), "-o", options, "start"], folder)
    try:
        address = ("--host", "127.0.0.1", "--port", str(port), "--username", _USER)
        _run([*as_user, str(programs / "createdb"), *address, "dagster"], folder)
        yield _CONFIGURATION.format(user=_USER, port=port)
    finally:
        _run([*control, "-m", "immediate", "stop"], folder)
        shutil.rmtree(data)


_CONFIGURATION = """\
storage:
  custom:
    module: frnr_assets.postgres
    class: PatientPostgresStorage
    config:
      postgres_db:
        username: {user}
        password: ""
        hostname: 127.0.0.1
        port: {port}
        db_name: dagster
"""


def _run(argv: Sequence[str], folder: Path) -> None:
    subprocess.run(argv, cwd=folder, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
