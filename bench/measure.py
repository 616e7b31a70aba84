"""What every measurement needs: figures, processes of their own, and what those use."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from frnr_assets.automation import block_tags
from frnr_assets.definitions import build_definitions
from frnr_assets.settings import load_settings

SAMPLE_S = 0.02


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str
    target: str = ""


def run_job(project: Path, job: str, *cells: str) -> None:
    """Run a job in a process of its own."""
    call([sys.executable, "-m", "bench.measure", str(project), job, *cells], Path(__file__).parents[1])


def job_main(project: Path, job: str, first: str = "", last: str = "") -> None:
    """Be that process."""
    os.chdir(project)
    tags = block_tags(first, last) if first else {}
    with dg.DagsterInstance.from_config(str(project)) as instance:
        definition = build_definitions(load_settings(project)).resolve_job_def(job)
        definition.execute_in_process(
            instance=instance, tags=tags, run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
        )


def cpu_of(work: Callable[[], None]) -> float:
    """Return the user and system seconds of all processes that some work starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def call(argv: Sequence[str], cwd: Path) -> None:
    """Run a program and insist that it succeeds."""
    subprocess.run(argv, cwd=cwd, check=True, stdin=subprocess.DEVNULL)


@contextmanager
def sampled(scratch: Path) -> Iterator[dict[str, float]]:
    """Sample the bytes in a folder and the resident memory of all processes started from here; yield the peaks."""
    peaks = {"scratch": 0.0, "memory": 0.0}
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            # A folder may go away between being found and being opened; the next sample sees what is left.
            with suppress(FileNotFoundError):
                peaks["scratch"] = max(peaks["scratch"], sum(map(_size, scratch.rglob("*"))))
            peaks["memory"] = max(
                peaks["memory"], sum(_resident_bytes(process) for process in _descendants(os.getpid()))
            )

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _descendants(parent: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{parent}/task").glob("*/children")
        found = [int(child) for listing in children for child in listing.read_text().split()]
    except OSError:
        return
    for child in found:
        yield child
        yield from _descendants(child)


def _resident_bytes(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    job_main(Path(sys.argv[1]), *sys.argv[2:])
