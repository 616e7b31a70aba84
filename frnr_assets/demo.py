"""The demonstration: a few clips made on the spot, taken through the whole graph."""

import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import polars as pl

from frnr_assets.automation import CELLS, INGEST, PUBLISH, REFERENCES, block_tags
from frnr_assets.corpus.publish import current_version
from frnr_assets.corpus.tables import Tables
from frnr_assets.definitions import build_definitions
from frnr_assets.media.ffmpeg import FFmpeg, run_ffmpeg
from frnr_assets.media.process import ToolError, ToolRunner
from frnr_assets.media.toolchain import open_ffmpeg
from frnr_assets.partitions import CLIP
from frnr_assets.settings import SETTINGS_FILE, Settings, load_settings
from frnr_assets.vocabulary import CAVEAT
from frnr_assets.words import harmless_lines

SETTINGS_TEXT = """\
# The demo's configuration; every setting that is left out has its default.
data_root = "data"

[[datasets]]
name = "demo"
manifest = "manifest.jsonl"
clips_root = "clips"
"""
# Where dagster.yaml puts everything that Dagster keeps.
INSTANCE_FOLDER = ".dagster"
CLIP_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class DemoClip:
    """A clip that ffmpeg makes.

    Attributes:
        name: file name.
        mos: an invented MOS.
        scene: lavfi graph of the picture.
        encode: the "upload": codec arguments.
    """

    name: str
    mos: float | None
    scene: str
    encode: Sequence[str]


_420 = ("-pix_fmt", "yuv420p")
_X264 = (*_420, "-c:v", "libx264", "-preset", "veryfast", "-threads", "1")
_GRAIN = "noise=alls=12:allf=t"
_FIRST_HALF_SCENE = "mandelbrot=size=426x240:rate=25:start_scale=0.4,trim=duration=0.7"
DEMO_CLIPS = (
    DemoClip(
        "zoom_640x360.mp4", 3.46, f"mandelbrot=size=640x360:rate=30,trim=duration=1.5,{_GRAIN}", (*_X264, "-crf", "26")
    ),
    DemoClip(
        "phone_vfr_270x480.mp4",
        2.81,
        f"cellauto=size=270x480:rate=30:rule=110:random_seed=1,trim=duration=1.8,gblur=2,{_GRAIN},select='not(between(mod(n,9),5,6))'",
        (*_X264, "-crf", "30", "-fps_mode", "vfr"),
    ),
    DemoClip(
        "odd_321x241.webm",
        None,
        f"testsrc2=size=322x242:rate=24,trim=duration=1.25,{_GRAIN},scale=321:241",
        (
            *_420,
            "-c:v",
            "libvpx-vp9",
            "-crf",
            "36",
            "-b:v",
            "0",
            "-deadline",
            "realtime",
            "-cpu-used",
            "8",
            "-threads",
            "1",
        ),
    ),
    DemoClip(
        "hdr_10bit_480x270.mp4",
        4.12,
        "gradients=size=480x270:rate=25:speed=0.01:nb_colors=4:seed=7,format=yuv420p10le,trim=duration=1.25,"
        "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc",
        ("-c:v", "libx265", "-preset", "veryfast", "-x265-params", "log-level=error:pools=1:frame-threads=1"),
    ),
    DemoClip(
        "cuts_426x240.avi",
        2.05,
        f"{_FIRST_HALF_SCENE}[a];testsrc2=size=426x240:rate=25,trim=duration=0.7[b];[a][b]concat=n=2:v=1,{_GRAIN}",
        ("-c:v", "mpeg4", "-q:v", "7", "-threads", "1"),
    ),
)
BROKEN_CLIP = "broken_640x360.mp4"


def run_demo(folder: Path, instance_config: Path) -> None:
    """Make the demo's clips, manifest and configuration, materialize the graph, and show the corpus.

    Args:
        folder: where everything goes; what is there already is used again.
        instance_config: the dagster.yaml to use.

    Raises:
        ToolError: ffmpeg is missing or cannot make a clip.
        OSError: there is no such dagster.yaml, or the folder cannot be written.
    """
    (folder / INSTANCE_FOLDER).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(instance_config, folder / INSTANCE_FOLDER / "dagster.yaml")
    (folder / SETTINGS_FILE).write_text(SETTINGS_TEXT)
    _say(f"Making clips in {folder / 'clips'}")
    runner = ToolRunner()
    make_clips(folder / "clips", open_ffmpeg(None, runner), runner)
    clips = [*((clip.name, clip.mos) for clip in DEMO_CLIPS), (BROKEN_CLIP, 1.5)]
    lines = [json.dumps({"src": name, "mos": mos}) for name, mos in clips]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    # The paths in dagster.yaml are relative to the folder that Dagster is started in.
    os.chdir(folder)
    settings = load_settings(Path.cwd())
    with dg.DagsterInstance.from_config(str(Path.cwd() / INSTANCE_FOLDER)) as instance:
        materialize_everything(settings, instance)
    _show(Tables(settings.data_root))


def make_clips(folder: Path, ffmpeg: FFmpeg, runner: ToolRunner) -> None:
    """Make the clips that are not there yet, and one that breaks off in the middle."""
    folder.mkdir(parents=True, exist_ok=True)
    for clip in DEMO_CLIPS:
        if not (folder / clip.name).exists():
            unfinished = f"unfinished-{clip.name}"
            args = ["-filter_complex", f"{clip.scene}[v]", "-map", "[v]", *clip.encode, unfinished]
            run_ffmpeg(ffmpeg, args, f"making {clip.name}", runner=runner, cwd=folder, timeout_s=CLIP_TIMEOUT_S)
            (folder / unfinished).rename(folder / clip.name)
    whole = (folder / DEMO_CLIPS[0].name).read_bytes()
    (folder / BROKEN_CLIP).write_bytes(whole[: len(whole) // 2])


def materialize_everything(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Materialize the graph stage by stage, for all clips and the whole sweep.

    Raises:
        dg.DagsterError: a stage failed.
    """
    definitions = dg.Definitions.merge(
        build_definitions(settings), dg.Definitions(loggers={"console": dg.LoggerDefinition(_console_logger)})
    )

    def execute(job: str, tags: Mapping[str, str]) -> None:
        definitions.resolve_job_def(job).execute_in_process(
            instance=instance, tags=dict(tags), run_config={"loggers": {"console": {}}}
        )

    _say("source_manifest")
    execute(INGEST, {})
    clips = instance.get_dynamic_partitions(CLIP)
    first, last = clips[0], clips[-1]
    _say("decoded_reference")
    execute(REFERENCES, block_tags(first, last))
    _say("distortion, feature_rows")
    execute(CELLS, block_tags(first, last, settings.crf_sweep))
    _say("fr_corpus, corpus_report")
    execute(PUBLISH, {})


def _console_logger(_: dg.InitLoggerContext) -> logging.Logger:
    """Print only what a person at a terminal wants to read."""
    logger = logging.Logger("frnr demo", level=logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_OwnWords())
    logger.addHandler(handler)
    return logger


class _OwnWords(logging.Formatter):
    """The message as it was logged, without the run and step that Dagster puts before it."""

    def format(self, record: logging.LogRecord) -> str:
        meta: Mapping[str, str] = getattr(record, "dagster_meta", {})
        return harmless_lines(f"  {meta.get('orig_message') or record.getMessage()}")


def _show(tables: Tables) -> None:
    version = current_version(tables.corpus)
    if version is None:
        raise ToolError(f"nothing was published under {tables.corpus}")
    corpus = pl.read_parquet(version).with_columns(clip=pl.col("src").str.split("/").list.last())
    columns = ["clip", "crf", "vmaf_score", "bitrate_kbps", "adm2_mean", "vif_scale0_mean", "motion2_mean", "nr_mos"]
    shown = corpus.select(columns).sort("clip", "crf")
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        float_precision=3,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        fmt_str_lengths=40,
        tbl_width_chars=140,
    ):
        _say(f"\n{shown}")
    for clip, reason in tables.quarantine().select("clip", "quarantine_reason").iter_rows():
        _say(f"In quarantine: {clip}: {reason}")
    _say(f"\n{len(corpus)} rows. {CAVEAT}\n\nThe corpus: {version}")
    _say(f"Pictures of it: {tables.report}\nOpen the UI on it: make ui")


def _say(line: str) -> None:
    print(harmless_lines(line), flush=True)  # noqa: T201 - the demo talks to a person at a terminal
