"""Opening an engine: the tools checked, cores and memory lent, everything that still runs ended afterwards."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.media.decode import KeptFormat
from frnr_assets.media.machine import available_memory_bytes, usable_cores
from frnr_assets.media.pool import WorkPool
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.toolchain import ToolSettings, open_toolchain

# The rest is for the caller, the page cache and estimates that are too low.
_MEMORY_SHARE = 0.7

Compute = Callable[[ToolRunner], AbstractContextManager[WorkPool]]


def memory_bytes(memory_gib: float | None) -> int:
    """Return the memory for pieces of work: as configured, or a part of what is available now."""
    return int(memory_gib * 2**30 if memory_gib else available_memory_bytes() * _MEMORY_SHARE)


@contextmanager
def local_pool(runner: ToolRunner, *, cores: int | None = None, memory_gib: float | None = None) -> Iterator[WorkPool]:
    """Lend cores of this machine; whatever still runs on them at the end is killed.

    Args:
        runner: starts the programs.
        cores: pieces of work at once; None for the cores that this process may use.
        memory_gib: memory for them in GiB; None for 70 % of what is available.
    """
    number = cores or usable_cores()
    executor = ThreadPoolExecutor(number, thread_name_prefix="cell")
    try:
        yield WorkPool(executor, cores=number, memory_bytes=memory_bytes(memory_gib))
    finally:
        runner.cancel()
        executor.shutdown(cancel_futures=True)


@contextmanager
def open_engine(
    tables: Tables,
    tools: ToolSettings,
    compute: Compute,
    *,
    keep_encodes: bool = False,
    keep_reference: KeptFormat | None = None,
    per_frame_scores: bool = False,
) -> Iterator[Engine]:
    """Check the tools and lend an engine.

    Raises:
        ToolError: a tool, an encoder or a model is missing; the message says which.
    """
    runner = ToolRunner(tools.process)
    toolchain = open_toolchain(tools, runner)
    with compute(runner) as pool:
        yield Engine(
            tables,
            toolchain,
            pool,
            keep_encodes=keep_encodes,
            keep_reference=keep_reference,
            per_frame_scores=per_frame_scores,
        )
