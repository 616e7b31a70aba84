"""What several parts measure on, made once: tools, and a project with all clips, all rows, and what Dagster records."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dagster as dg

from bench.events import multiply, read_real
from bench.fabricate import REAL_CLIP, fabricate_rows, ingested, make_project
from bench.measure import Used, run_job
from frnr_assets.automation import CELLS, INGEST, REFERENCES
from frnr_assets.corpus.tables import Tables
from frnr_assets.media.ffmpeg import FFmpeg, run_ffmpeg
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.toolchain import open_ffmpeg
from frnr_assets.partitions import CLIP
from frnr_assets.vocabulary import DEFAULT_CRF_SWEEP

_TINY = "testsrc2=size=64x48:rate=24,trim=end_frame=12[v]"


@dataclass(frozen=True)
class Ingested:
    """A project whose manifest was read twice.

    Attributes:
        project: its folder.
        first: what the first reading took.
        again: what the second took, with nothing changed.
    """

    project: Path
    first: Used
    again: Used


class Stage:
    """Tools and projects, in a folder that goes away afterwards.

    Attributes:
        folder: the folder.
        size: how many clips the fabricated project has.
        uploads: the folder of the clips that are measured, None to make some.
        runner: starts the tools.
        ffmpeg: the ffmpeg.
    """

    def __init__(self, folder: Path, size: int, uploads: Path | None = None):
        self.folder = folder
        self.size = size
        self.uploads = uploads
        self.runner = ToolRunner()
        self.ffmpeg: FFmpeg = open_ffmpeg(None, self.runner)

    def make_clip(self, clip: Path, graph: str, *encode: str) -> Path:
        """Make a clip: from a filter graph with the output ``[v]``, with arguments for libx264."""
        args = ["-filter_complex", graph, "-map", "[v]", "-pix_fmt", "yuv420p", "-c:v", "libx264", *encode, clip.name]
        run_ffmpeg(self.ffmpeg, args, f"making {clip.name}", runner=self.runner, cwd=clip.parent, timeout_s=600)
        return clip

    @cached_property
    def ingested(self) -> Ingested:
        """All clips, ingested: sparse files, but for one that can be measured."""
        project = self.folder / "full"
        real = self.make_clip(self.folder / "real.mp4", _TINY)
        make_project(project, self.size, real=real)
        return Ingested(project, run_job(project, INGEST), run_job(project, INGEST))

    @cached_property
    def measured(self) -> Path:
        """The same project with a reference and all rows for every clip, in the tables."""
        tables = Tables(self.ingested.project / "data")
        fabricate_rows(tables, DEFAULT_CRF_SWEEP, ingested(tables))
        return self.ingested.project

    @cached_property
    def recorded(self) -> Path:
        """The same project with an event for all that was measured."""
        record_everything(self.measured)
        return self.measured


def record_everything(project: Path) -> None:
    """Measure the one real clip of a project, and write for all others what that has written."""
    run_job(project, REFERENCES, REAL_CLIP, REAL_CLIP)
    sweep = (f"{REAL_CLIP}|{DEFAULT_CRF_SWEEP[0]}", f"{REAL_CLIP}|{DEFAULT_CRF_SWEEP[-1]}")
    run_job(project, CELLS, *sweep)
    with dg.DagsterInstance.from_config(str(project)) as instance:
        others = [clip for clip in instance.get_dynamic_partitions(CLIP) if clip != REAL_CLIP]
        multiply(instance, read_real(instance, REAL_CLIP), others)
