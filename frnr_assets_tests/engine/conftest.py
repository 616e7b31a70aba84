"""An engine on a data root of its own."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.media.pool import LocalCrew, WorkPool
from frnr_assets.media.toolchain import Toolchain

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def pool(executor: ThreadPoolExecutor) -> WorkPool:
    """Its own for every test: a batch that ends early stops its pool for good."""
    return WorkPool(LocalCrew(executor, cores=2, memory_bytes=1 << 30))


@pytest.fixture
def engine(tmp_path: Path, toolchain: Toolchain, pool: WorkPool) -> Engine:
    return Engine(Tables(tmp_path / "data"), toolchain, pool)
