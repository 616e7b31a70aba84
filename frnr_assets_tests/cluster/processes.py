"""A scheduler and workers, started as a user would start them, each a process that a test can kill."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 60.0
REPOSITORY = Path(__file__).parents[2]


def wait_until(what: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Process:
    """One program and, as it leads a session of its own, all that it has started."""

    popen: "subprocess.Popen[bytes]"
    log: Path

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


@dataclass
class DaskCluster:
    """A scheduler, and the workers that a test adds.

    Attributes:
        folder: for logs and for what Dask writes.
        address: the scheduler's.
    """

    folder: Path
    address: str = ""
    processes: list[Process] = field(default_factory=list)

    def start_scheduler(self) -> Process:
        """Start it, again at the same address if there was one before."""
        found = self.folder / "scheduler.json"
        found.unlink(missing_ok=True)
        port = self.address.rpartition(":")[2] or "0"
        arguments = ["--host", "127.0.0.1", "--port", port, "--no-dashboard", "--scheduler-file", str(found)]
        process = self._start("scheduler", arguments, {})
        wait_until(lambda: found.exists() and found.read_text().endswith("}"))
        self.address = json.loads(found.read_text())["address"]
        return process

    def start_worker(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        nanny: bool = False,
        threads: int = 1,
        code: Path = REPOSITORY,
    ) -> Process:
        """Start a worker; it is told where its tools are by environment variables, as Dask's configuration has it."""
        arguments = [self.address, "--host", "127.0.0.1", "--nthreads", str(threads), "--memory-limit", "2GiB"]
        arguments += ["--no-dashboard", "--nanny" if nanny else "--no-nanny", "--local-directory", str(self.folder)]
        named = {f"DASK_FRNR__{name.upper()}": value for name, value in (settings or {}).items()}
        return self._start("worker", arguments, {**named, "PYTHONPATH": str(code)})

    def end(self) -> None:
        for process in self.processes:
            process.end()

    def _start(self, command: str, arguments: list[str], environment: Mapping[str, str]) -> Process:
        log = self.folder / f"{command}{len(self.processes)}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "dask", command, *arguments],
                cwd=self.folder,
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(Process(popen, log))
        return self.processes[-1]


@contextmanager
def dask_cluster(folder: Path) -> Iterator[DaskCluster]:
    """Lend a scheduler without workers."""
    folder.mkdir(exist_ok=True)
    cluster = DaskCluster(folder)
    try:
        cluster.start_scheduler()
        yield cluster
    finally:
        cluster.end()
