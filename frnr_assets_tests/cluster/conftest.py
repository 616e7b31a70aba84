"""Clips, what this machine makes of them, and a cluster of two workers for tests that leave it as it is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.engine.outcomes import CellOutcome, Clip
from frnr_assets.engine.workshop import compute_on, open_engine
from frnr_assets.media.toolchain import ToolSettings, encode_settings
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets_tests.cluster.processes import DaskCluster, dask_cluster, wait_until
from frnr_assets_tests.conftest import RULES, SMALL_SCENE, MakeClip

SWEEP = (23, 38)
CLIPS = 4
# What differs between two measurements of the same cell.
TIMES = ("run_id", "timestamp", "recorded_ns", "encode_time_ms", "score_time_ms")


@dataclass
class Lab:
    """Clips, and a data root of a test's own.

    Attributes:
        clips: the clips.
        tables: where rows go.
    """

    clips: Sequence[Clip]
    tables: Tables
    tools: ToolSettings = field(
        default_factory=lambda: ToolSettings(
            encode_settings("libx264", "medium", (), SWEEP), vmaf_settings(), rules=RULES
        )
    )

    @contextmanager
    def engine(self, scheduler: str | None = None) -> Iterator[Engine]:
        with open_engine(self.tables, self.tools, compute_on(scheduler, cores=2)) as engine:
            yield engine

    def measure(self, scheduler: str | None = None, waiting: Callable[[], None] = lambda: None) -> list[CellOutcome]:
        with self.engine(scheduler) as engine:
            return list(engine.measure_cells(dict.fromkeys(self.clips, SWEEP), run_id="run", waiting=waiting))

    def rows(self) -> pl.DataFrame:
        return self.tables.feature_rows.read().drop(TIMES)


MakeLab = Callable[[Path], Lab]


@pytest.fixture(scope="session")
def decoded(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Lab:
    """Clips whose references and cells this machine has decoded and measured."""
    folder = tmp_path_factory.mktemp("here")
    scenes = [SMALL_SCENE.replace("end_frame=12", f"end_frame={12 + index}") for index in range(CLIPS)]
    clips = [make_clip(folder / f"clip{index}.mp4", scene) for index, scene in enumerate(scenes)]
    lab = Lab([Clip(clip.stem, clip, 3.5) for clip in clips], Tables(folder / "data"))
    with lab.engine() as engine:
        list(engine.decode_references(lab.clips))
    lab.measure()
    return lab


@pytest.fixture
def lab(decoded: Lab, tmp_path: Path) -> Lab:
    """The same clips, decoded and not measured."""
    lab = Lab(decoded.clips, Tables(tmp_path / "data"))
    lab.tables.references.append(decoded.tables.references.read().drop("recorded_ns").to_dicts())
    return lab


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and two workers, which no test may end."""
    with dask_cluster(tmp_path_factory.mktemp("dask")) as cluster:
        workers = [cluster.start_worker() for _ in range(2)]
        wait_until(lambda: all("Registered to" in worker.log.read_text() for worker in workers))
        yield cluster
