"""What every measurement needs: figures, processes of their own, and what those use."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from frnr_assets.automation import block_tags
from frnr_assets.definitions import build_definitions
from frnr_assets.settings import load_settings

T = TypeVar("T")

SAMPLE_S = 0.02
_CHECKOUT = Path(__file__).parents[1]
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what was measured.
        value: how much of it; None when it could not be measured here, and ``remark`` says why.
        unit: its unit, empty for a plain number.
        at_most: the target, where less is better.
        at_least: the target, where more is better.
        remark: what a reader has to know beside it.
    """

    name: str
    value: float | None
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    remark: str = ""

    @property
    def target(self) -> str:
        """The target in words, empty when there is none."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return f"at least {self.at_least:g}" if self.at_least is not None else ""

    @property
    def verdict(self) -> str:
        """Whether the target was met, empty when there is none to judge."""
        if self.value is None or not self.target:
            return ""
        high = self.at_most is not None and self.value > self.at_most
        low = self.at_least is not None and self.value < self.at_least
        return "missed" if high or low else "met"


@dataclass(frozen=True)
class Used:
    """What a process of its own has used.

    Attributes:
        seconds: of wall-clock time, from its start to its end.
        peak_bytes: its resident memory at its highest.
        told: what it has measured itself; a job, its CPU seconds before the run, and when the run started.
    """

    seconds: float
    peak_bytes: int
    told: Mapping[str, Any]


def run_job(project: Path, job: str, *cells: str) -> Used:
    """Run a job in a process of its own, over a range of partitions if two keys are given."""
    return run_module("bench.measure", "job", str(project), job, *cells)


def run_asset(project: Path, what: str, asset: str) -> Used:
    """Materialize an asset without its checks, or evaluate its checks alone, in a process of its own.

    Args:
        project: the folder of the project.
        what: "asset" or "checks".
        asset: name of the asset.
    """
    return run_module("bench.measure", what, str(project), asset)


def run_module(module: str, *args: str, **environment: str) -> Used:
    """Run a module of the benchmark in a process of its own; it ends with ``tell``."""
    started = time.monotonic()
    said = run_apart(module, args, environment)
    seconds = time.monotonic() - started
    told = json.loads(said.splitlines()[-1])
    return Used(seconds, told.pop("peak_bytes"), told)


def run_apart(module: str, args: Sequence[str], environment: Mapping[str, str]) -> str:
    """Start the process, and return what it prints."""
    return subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=_CHECKOUT,
        env={**os.environ, **environment},
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def tell(**measured: object) -> None:
    """Print what this process has measured, and its peak resident memory, for ``run_module``."""
    print(json.dumps({"peak_bytes": peak_bytes("self"), **measured}))


def peak_bytes(process: int | str) -> int:
    """Return the resident memory of a process at its highest.

    What a parent learns of a child when it ends may be the parent's own peak, from before the child's program.
    """
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def main(what: str, project: str, name: str, *cells: str) -> None:
    """Be that process."""
    os.chdir(project)
    definitions = build_definitions(load_settings(Path(project)))
    tags = block_tags(cells[0], cells[1]) if cells else {}
    before_cpu_s, started = time.process_time(), time.time()
    with dg.DagsterInstance.from_config(project) as instance:
        if what == "job":
            definitions.resolve_job_def(name).execute_in_process(instance=instance, tags=tags, run_config=_QUIET)
        else:
            of_asset = dg.AssetSelection.assets(name)
            checks = dg.AssetSelection.checks_for_assets(name)
            chosen = checks if what == "checks" else of_asset.without_checks()
            job = dg.define_asset_job("measured", chosen)
            alone = dg.Definitions(
                assets=definitions.assets,
                asset_checks=definitions.asset_checks,
                jobs=[job],
                resources=definitions.resources,
                executor=dg.in_process_executor,
            )
            alone.resolve_job_def("measured").execute_in_process(instance=instance, run_config=_QUIET)
    tell(before_cpu_s=before_cpu_s, started=started)


def cpu_of(work: Callable[[], T]) -> tuple[float, T]:
    """Return the user and system seconds of all processes that some work starts and waits for, and its result."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result


def call(argv: Sequence[str], cwd: Path) -> None:
    """Run a program and insist that it succeeds."""
    subprocess.run(argv, cwd=cwd, check=True, stdin=subprocess.DEVNULL)


@contextmanager
def sampled(scratch: Path, every_s: float = SAMPLE_S) -> Iterator[dict[str, float]]:
    """Sample the bytes in a folder and the resident memory of all processes started from here; yield the peaks.

    Their names: "scratch", "memory", and "tools" for the memory of those that are programs of ffmpeg.
    """
    peaks = {"scratch": 0.0, "memory": 0.0, "tools": 0.0}
    done = threading.Event()

    def sample() -> None:
        while not done.wait(every_s):
            # A folder may go away between being found and being opened; the next sample sees what is left.
            with suppress(FileNotFoundError):
                peaks["scratch"] = max(peaks["scratch"], sum(map(_size, scratch.rglob("*"))))
            found = {process: _resident_bytes(process) for process in descendants(os.getpid())}
            peaks["memory"] = max(peaks["memory"], sum(found.values()))
            peaks["tools"] = max(peaks["tools"], sum(size for process, size in found.items() if _is_tool(process)))

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


def descendants(parent: int) -> Iterator[int]:
    """Yield the ids of the processes that a process has started, and those that they have."""
    try:
        children = Path(f"/proc/{parent}/task").glob("*/children")
        found = [int(child) for listing in children for child in listing.read_text().split()]
    except OSError:
        return
    for child in found:
        yield child
        yield from descendants(child)


def _resident_bytes(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _is_tool(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/comm").read_text().startswith("ffmpeg")
    except OSError:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
