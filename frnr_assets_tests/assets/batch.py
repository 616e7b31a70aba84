"""A real batch of 36 cells, run in a process of its own that a test can interrupt."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import polars as pl
import yaml

from frnr_assets.automation import CELLS, INGEST, REFERENCES
from frnr_assets.corpus.tables import Tables
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets_tests.assets.run_job import main as run_job
from frnr_assets_tests.assets.tool_wrapper import wrap
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip

CHECKOUT = Path(__file__).parents[2]
CLIPS = 12
SWEEP = (18, 28, 38)
ALL_CLIPS = "clip00", f"clip{CLIPS - 1}"
FIRST, LAST = "clip00|18", f"clip{CLIPS - 1}|38"
# What differs between two measurements of the same cell.
NOT_OF_THE_CELL = {"run_id", "timestamp", "recorded_ns", "encode_time_ms", "score_time_ms", "src", "nr_source"}


class Batch:
    """A project of 36 cells in a folder of its own, beside its clips.

    Args:
        folder: where it is; there may be what another batch had recorded.
        clips: the folder of its clips.
        ffmpeg: the real one.
        data_root: where its tables are.
        storage: where Dagster's records are, as dagster.yaml says it; None for its default.
    """

    def __init__(
        self,
        folder: Path,
        clips: Path,
        ffmpeg: FFmpeg,
        data_root: Path | None = None,
        storage: Mapping[str, object] | None = None,
    ):
        self.folder = folder
        self.clips = clips
        self.wrapper = wrap(ffmpeg.path, folder / "tool")
        self.tables = Tables(data_root or folder / "data")
        self.keep_records_in(storage)
        self.log.touch()
        (folder / "manifest.jsonl").write_text("".join(f'{{"src": "clip{i:02}.mp4"}}\n' for i in range(CLIPS)))
        (folder / "frnr.toml").write_text(
            f'data_root = "{self.tables.root}"\ncrf_sweep = {list(SWEEP)}\n'
            f'cores = 2\nffmpeg_path = "{self.wrapper.path}"\n'
            f'[[datasets]]\nname = "tests"\nmanifest = "manifest.jsonl"\nclips_root = "{clips}"\n'
        )

    @property
    def log(self) -> Path:
        """What its processes said."""
        return self.folder / "log"

    def keep_records_in(self, storage: Mapping[str, object] | None) -> None:
        """Configure Dagster's storage."""
        python_logs = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())["python_logs"]
        instance = {
            "telemetry": {"enabled": False},
            "python_logs": python_logs,
            **({"storage": storage} if storage else {}),
        }
        # JSON is YAML as well.
        (self.folder / "dagster.yaml").write_text(json.dumps(instance))

    def start(self, job: str = CELLS, first: str = FIRST, last: str = LAST) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "frnr_assets_tests.assets.run_job", str(self.folder), job, first, last]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)

    def finish(self, job: str = CELLS, first: str = FIRST, last: str = LAST) -> int:
        return self.start(job, first, last).wait(timeout=300)

    def copy(
        self,
        folder: Path,
        ffmpeg: FFmpeg,
        data_root: Path | None = None,
        storage: Mapping[str, object] | None = None,
    ) -> "Batch":
        """Return a batch of its own for which the same is recorded."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("tool", "data"))
        shutil.copytree(self.tables.root, data_root or folder / "data")
        batch = Batch(folder, self.clips, ffmpeg, data_root, storage)
        if storage:
            # These records cannot be copied; what is in the tables is recorded there once more.
            assert run_job(folder, INGEST, "", "") == 0
            assert run_job(folder, REFERENCES, *ALL_CLIPS) == 0
        return batch

    def rows(self) -> pl.DataFrame:
        return self.tables.feature_rows.read()

    def recorded(self, asset: dg.AssetKey) -> list[str]:
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            records = instance.fetch_materializations(asset, limit=10_000).records
        return [str(record.partition_key) for record in records]


def same_cells(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    columns = [name for name in found.columns if name not in NOT_OF_THE_CELL]
    return found.select(columns).equals(expected.select(columns))


def make_clips(folder: Path, make_clip: MakeClip) -> Path:
    for index in range(CLIPS):
        scene = SMALL_SCENE.replace("end_frame=12", f"end_frame={12 + index}")
        make_clip(folder / f"clip{index:02}.mp4", scene)
    return folder
