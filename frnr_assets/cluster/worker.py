"""What a worker does for a batch: it shows that its tools are the right ones, and runs pieces of work with them."""

import asyncio
import io
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import dask.config
from distributed import Worker, WorkerPlugin, get_worker

from frnr_assets.cluster.versions import code_versions, differences, versions_of
from frnr_assets.engine.workshop import MEMORY_SHARE
from frnr_assets.media.machine import available_memory_bytes
from frnr_assets.media.process import Cancelled, ToolError, ToolRunner
from frnr_assets.media.sandbox import ProcessLimits
from frnr_assets.media.toolchain import Toolchain, ToolSettings, open_toolchain

# Longer than a killed tool needs to go away, so that nothing works in a scratch folder that is deleted next.
_GONE_S = 10.0
_TOOLCHAIN = "toolchain"


@dataclass(frozen=True)
class Capacity:
    """What a worker has for a batch.

    Attributes:
        cores: pieces of work at once, its threads.
        memory_bytes: memory for them.
    """

    cores: int
    memory_bytes: int


@dataclass(frozen=True)
class NotJoined:
    """The answer of a worker that does not take part in the batch: another one, at the address of one that did."""


class Bench(WorkerPlugin):
    """A worker's own tools for one batch, and the programs that run there for it.

    A piece of work that nobody waits for any more, because it was called off or because its run died, has its programs
    killed.

    Args:
        toolchain: the tools.
    """

    def __init__(self, toolchain: Toolchain):
        self._toolchain = toolchain
        self._runners: dict[str, ToolRunner] = {}
        self._given_up: set[str] = set()
        self._changed = threading.Condition()
        self._is_over = False

    @contextmanager
    def tools(self, key: str) -> Iterator[Toolchain]:
        """Lend the tools to one piece of work.

        Args:
            key: Dask's name of the piece.

        Raises:
            Cancelled: the batch is over, or the piece was given up before it got here.
        """
        runner = ToolRunner(self._toolchain.runner.limits)
        with self._changed:
            if self._is_over or key in self._given_up:
                raise Cancelled
            self._runners[key] = runner
        try:
            yield replace(self._toolchain, runner=runner)
        finally:
            with self._changed:
                del self._runners[key]
                self._changed.notify_all()

    def transition(self, key: Any, start: str, finish: str, **_: object) -> None:
        """End the programs of a piece of work that Dask gives up while it runs."""
        if (start, finish) in {("executing", "released"), ("long-running", "released")}:
            with self._changed:
                # Its thread may not have come for its tools yet.
                self._given_up.add(key)
                runner = self._runners.get(key)
            if runner is not None:
                runner.cancel()

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's signature
        """End everything that runs, and wait until it is gone."""
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        with self._changed:
            self._is_over = True
            for runner in self._runners.values():
                runner.cancel()
            self._changed.wait_for(lambda: not self._runners, _GONE_S)


def bench_of(batch: str) -> str:
    """Return the name under which a worker has the tools of a batch."""
    return f"frnr-{batch}"


async def examine(versions: Mapping[str, str], tools: bytes, dask_worker: Worker) -> Capacity | str:
    """Run on a worker: tell what it has for work, or why it cannot be used.

    Args:
        versions: those of the run.
        tools: the run's ``ToolSettings``, pickled. They are looked at only by the same code.
        dask_worker: the worker.
    """
    opened = await asyncio.to_thread(_open, versions, tools)
    return opened if isinstance(opened, str) else _capacity(dask_worker)


async def join(batch: str, versions: Mapping[str, str], tools: bytes, dask_worker: Worker) -> Capacity | str:
    """Run on a worker: do the same, and open the tools for a batch.

    Args:
        batch: name of the batch.
        versions: those of the run.
        tools: the run's ``ToolSettings``, pickled.
        dask_worker: the worker.
    """
    opened = await asyncio.to_thread(_open, versions, tools)
    if isinstance(opened, str):
        # It may have been of the batch before.
        await leave(batch, dask_worker)
        return opened
    await dask_worker.plugin_add(Bench(opened), name=bench_of(batch), catch_errors=False)
    return _capacity(dask_worker)


async def leave(batch: str, dask_worker: Worker) -> None:
    """Run on a worker: end everything that runs there for a batch."""
    if bench_of(batch) in dask_worker.plugins:
        await dask_worker.plugin_remove(name=bench_of(batch))


def run_piece(batch: str, task: bytes) -> bytes:
    """Run on a worker: do a piece of work with the worker's tools.

    Args:
        batch: name of the batch.
        task: see ``dump_task``.

    Returns:
        Pickled: what the task returned and None, None and what it raised, or ``NotJoined`` twice.
    """
    worker = get_worker()
    bench = worker.plugins.get(bench_of(batch))
    if not isinstance(bench, Bench):
        return pickle.dumps((NotJoined(), NotJoined()))
    try:
        with bench.tools(str(worker.get_current_task())) as toolchain:
            return pickle.dumps((_TaskUnpickler(task, toolchain).load()(), None))
    except Exception as error:  # noqa: BLE001 - it is for the run to judge
        return pickle.dumps((None, error))


def dump_task(task: Callable[[], Any]) -> bytes:
    """Pickle a piece of work; its toolchain stays behind, because each worker has its own."""
    buffer = io.BytesIO()
    _TaskPickler(buffer, pickle.HIGHEST_PROTOCOL).dump(task)
    return buffer.getvalue()


class _TaskPickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> str | None:
        return _TOOLCHAIN if isinstance(obj, Toolchain) else None


class _TaskUnpickler(pickle.Unpickler):
    def __init__(self, task: bytes, toolchain: Toolchain):
        super().__init__(io.BytesIO(task))
        self._toolchain = toolchain

    def persistent_load(self, pid: str) -> Toolchain:
        if pid != _TOOLCHAIN:
            raise pickle.UnpicklingError(f"there is no {pid} on a worker")
        return self._toolchain


def _open(versions: Mapping[str, str], tools: bytes) -> Toolchain | str:
    """Return this worker's toolchain, or why it is not the run's."""
    code = code_versions()
    # Other code may look for other things, so it is compared alone and first.
    wrong = differences({what: versions[what] for what in code if what in versions}, code)
    if wrong:
        return wrong
    try:
        wanted: ToolSettings = pickle.loads(tools)  # noqa: S301 - a worker runs what it is sent, see docs/cluster.md
        own = _with_own_tools(wanted)
        # A clip is unusable under the run's conditions, whatever the tools are called here.
        toolchain = replace(open_toolchain(own, ToolRunner(own.process)), conditions=wanted.conditions)
        return differences(versions, versions_of(toolchain)) or toolchain
    except ToolError as error:
        return str(error)


def _with_own_tools(tools: ToolSettings) -> ToolSettings:
    """Replace what this worker's Dask configuration says of its own tools and their limits."""
    limits = tools.process
    tool, path = tools.vmaf.tool, dask.config.get("frnr.vmaf-path", None)
    return replace(
        tools,
        ffmpeg_path=dask.config.get("frnr.ffmpeg-path", tools.ffmpeg_path),
        vmaf=tools.vmaf if tool is None or path is None else replace(tools.vmaf, tool=replace(tool, path=path)),
        process=ProcessLimits(
            memory_bytes=_gib("frnr.tool-memory-gib", limits.memory_bytes),
            file_bytes=_gib("frnr.tool-file-gib", limits.file_bytes),
            open_files=int(dask.config.get("frnr.tool-open-files", limits.open_files)),
        ),
    )


def _gib(setting: str, otherwise_bytes: int) -> int:
    configured = dask.config.get(setting, None)
    return otherwise_bytes if configured is None else int(float(configured) * 2**30)


def _capacity(worker: Worker) -> Capacity:
    # Dask counts the memory of its own process only; the programs that it starts have to fit into the same.
    limit = worker.memory_manager.memory_limit or available_memory_bytes()
    return Capacity(worker.state.nthreads, _gib("frnr.memory-gib", int(limit * MEMORY_SHARE)))
