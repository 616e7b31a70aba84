"""Opening an engine: the tools checked, cores and memory lent, everything that still runs ended afterwards."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from frnr_assets.cluster import require_distributed
from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.media.decode import KeptFormat
from frnr_assets.media.machine import available_memory_bytes, usable_cores
from frnr_assets.media.pool import LocalCrew, WorkPool
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.toolchain import Toolchain, ToolSettings, open_toolchain

# The rest is for the caller, the page cache and estimates that are too low.
MEMORY_SHARE = 0.7

# Lends a pool to a run, given its settings and what was made of them on this machine.
Compute = Callable[[ToolSettings, Toolchain], AbstractContextManager[WorkPool]]


def memory_bytes(memory_gib: float | None) -> int:
    """Return the memory for pieces of work: as configured, or a part of what is available now."""
    return int(memory_gib * 2**30 if memory_gib else available_memory_bytes() * MEMORY_SHARE)


def compute_on(scheduler: str | None = None, *, cores: int | None = None, memory_gib: float | None = None) -> Compute:
    """Return what lends a pool: the cores of this machine or, given a scheduler, the workers of a Dask cluster.

    Args:
        scheduler: Dask's address of it, such as ``tcp://host:8786``; None for this machine.
        cores: of this machine, see ``local_pool``.
        memory_gib: of this machine, see ``local_pool``.

    Raises:
        ToolError: a scheduler is given, and the package for it is not installed.
    """
    if scheduler is None:
        return partial(local_pool, cores=cores, memory_gib=memory_gib)
    require_distributed()
    # Only those who have a cluster have the package.
    from frnr_assets.cluster.crew import cluster_pool  # noqa: PLC0415

    return partial(cluster_pool, scheduler=scheduler)


@contextmanager
def local_pool(
    _tools: ToolSettings, toolchain: Toolchain, *, cores: int | None = None, memory_gib: float | None = None
) -> Iterator[WorkPool]:
    """Lend cores of this machine; whatever still runs on them at the end is killed.

    Args:
        toolchain: its runner starts the programs.
        cores: pieces of work at once; None for the cores that this process may use.
        memory_gib: memory for them in GiB; None for 70 % of what is available.
    """
    number = cores or usable_cores()
    executor = ThreadPoolExecutor(number, thread_name_prefix="cell")
    try:
        yield WorkPool(LocalCrew(executor, cores=number, memory_bytes=memory_bytes(memory_gib)))
    finally:
        toolchain.runner.cancel()
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
    toolchain = open_toolchain(tools, ToolRunner(tools.process))
    with compute(tools, toolchain) as pool:
        yield Engine(
            tables,
            toolchain,
            pool,
            keep_encodes=keep_encodes,
            keep_reference=keep_reference,
            per_frame_scores=per_frame_scores,
        )
