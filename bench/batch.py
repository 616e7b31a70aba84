"""The cost of a batch: a Dagster run over clips, against the bare commands and the plain recipe for the same cells."""

import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from bench.commands import Facts, bare, differences, frugal, plain, side_by_side
from bench.fabricate import configure
from bench.measure import Figure, cpu_of, run_job, sampled
from bench.stage import Stage
from frnr_assets.automation import CELLS, INGEST, REFERENCES
from frnr_assets.corpus.tables import Tables
from frnr_assets.media.machine import usable_cores
from frnr_assets.partitions import CLIP
from frnr_assets.vocabulary import DEFAULT_CRF_SWEEP

CLIPS = 12
# The most frequent size of KonViD-150k. Its clips last five seconds, with which this part alone would take 20 minutes.
_SIZE, _RATE, _SECONDS = "960x540", 25, (1.5, 2.5)
_SCENES = (
    "mandelbrot=size={size}:rate={rate}:start_scale={scale}",
    "testsrc2=size={size}:rate={rate},rotate=t*{scale}",
    "gradients=size={size}:rate={rate}:seed={index}:speed=0.02",
)
_SAMPLE_S = 0.1


def make_clips(stage: Stage, number: int = CLIPS, size: str = _SIZE, seconds: Sequence[float] = _SECONDS) -> list[Path]:
    """Make clips of different scenes and lengths, with some grain, encoded as uploads are."""
    folder = stage.folder / "uploads"
    folder.mkdir()
    shortest, longest = (round(bound * _RATE) for bound in seconds)
    for index in range(number):
        scene = _SCENES[index % len(_SCENES)].format(size=size, rate=_RATE, index=index, scale=0.2 + 0.1 * index)
        frames = shortest + (longest - shortest) * index // max(1, number - 1)
        graph = f"{scene},trim=end_frame={frames},noise=alls=2:allf=t[v]"
        stage.make_clip(folder / f"clip{index:02}.mp4", graph, "-preset", "veryfast", "-crf", "27")
    return sorted(folder.iterdir())


def batch_figures(stage: Stage, clips: Sequence[Path] | None = None) -> Iterator[Figure]:
    """Measure one batch with the whole sweep, between two halves of the bare commands."""
    chosen = clips or (stage.uploads and sorted(stage.uploads.absolute().iterdir())) or make_clips(stage)
    project = _project(stage.folder / "batch", chosen)
    ingesting_s, _ = cpu_of(lambda: run_job(project, INGEST))
    with dg.DagsterInstance.from_config(str(project)) as instance:
        keys = list(instance.get_dynamic_partitions(CLIP))
    decoding_s, _ = cpu_of(lambda: run_job(project, REFERENCES, keys[0], keys[-1]))
    references = Tables(project / "data").references.read().filter(pl.col("quarantine_reason").is_null()).to_dicts()
    cores, ffmpeg = usable_cores(), str(stage.ffmpeg.path)
    by_hand = partial(side_by_side, bare, ffmpeg, cores=cores)
    halves = references[::2], references[1::2]
    bare_s, _ = cpu_of(lambda: by_hand(clips=halves[0], folder=stage.folder / "bare"))
    with sampled(project / "data" / "scratch", every_s=_SAMPLE_S) as peaks:
        first, last = f"{keys[0]}|{DEFAULT_CRF_SWEEP[0]}", f"{keys[-1]}|{DEFAULT_CRF_SWEEP[-1]}"
        whole_s, used = cpu_of(lambda: run_job(project, CELLS, first, last))
    other_half_s, _ = cpu_of(lambda: by_hand(clips=halves[1], folder=stage.folder / "bare"))
    bare_s += other_half_s
    rows = Tables(project / "data").feature_rows.read()
    step_from, step_to = _step(project)
    step_s = step_to - step_from
    # Planning, before the step, has one thread: it used no more CPU time than it lasted.
    outside_s = used.told["before_cpu_s"] + step_from - used.told["started"]
    yield Figure("cells in the batch", len(rows))
    yield Figure("CPU of the bare commands, an encode and a score for each cell", bare_s, "s")
    yield Figure("CPU of the run / of the bare commands", whole_s / bare_s, at_most=1.05, remark="start-up included")
    yield Figure("... with ingestion and decoding in runs of their own", (whole_s + ingesting_s + decoding_s) / bare_s)
    busy = (whole_s - outside_s) / (step_s * cores)
    yield Figure("cores busy, from first cell to last", busy, at_least=0.95, remark=f"{cores} cores")
    yield Figure("rows per second", len(rows) / step_s, "1/s")
    raw_bytes = sum(facts["frames"] * facts["width"] * facts["height"] * 3 / 2 for facts in references)
    yield Figure("peak scratch / raw YUV of the clips", peaks["scratch"] / raw_bytes, at_most=0.05)
    yield Figure("peak memory of the run and its tools", peaks["memory"] / 2**20, "MiB")
    # Each scene once, and short and long ones.
    few = references[:: max(1, len(references) // 3)]
    yield from _frugal(stage, few, whole_s / _work(references))
    yield from _plain(stage, few, rows, step_s / _work(references))


def _project(project: Path, clips: Sequence[Path]) -> Path:
    project.mkdir()
    (project / "manifest.jsonl").write_text("".join(json.dumps({"src": str(clip)}) + "\n" for clip in clips))
    configure(project, "manifest.jsonl", clips[0].parent)
    return project


def _work(clips: Sequence[Facts]) -> float:
    """Return the pixels of some clips, all frames together: what encodes and scores take their time for."""
    return float(sum(facts["frames"] * facts["width"] * facts["height"] for facts in clips))


def _frugal(stage: Stage, clips: Sequence[Facts], run_cpu_s: float) -> Iterator[Figure]:
    ffmpeg = str(stage.ffmpeg.path)
    frugal_s, _ = cpu_of(lambda: side_by_side(frugal, ffmpeg, clips, stage.folder / "frugal", usable_cores()))
    remark = f"one decode for five encodes, one for five scores; {len(clips)} of the clips"
    yield Figure("CPU of the run / of the most frugal commands", run_cpu_s * _work(clips) / frugal_s, remark=remark)


def _plain(stage: Stage, clips: Sequence[Facts], rows: pl.DataFrame, run_s: float) -> Iterator[Figure]:
    ffmpeg, cores = str(stage.ffmpeg.path), usable_cores()
    started = time.monotonic()
    side_by_side(partial(plain, cores=cores), ffmpeg, clips, stage.folder / "plain", 1)
    plain_s = time.monotonic() - started
    speed = plain_s / (run_s * _work(clips))
    remark = f"encoder threads as ffmpeg chooses, {cores} scorer threads; {len(clips)} of the clips"
    yield Figure("rows per second / of the plain recipe", speed, at_least=1.5, remark=remark)
    yield from _differences("threads as ffmpeg chooses", stage.folder / "plain", clips, rows)
    one_thread = partial(plain, cores=cores, encoder_threads=1)
    side_by_side(one_thread, ffmpeg, clips[:1], stage.folder / "plain1", 1)
    yield from _differences("one encoder thread", stage.folder / "plain1", clips[:1], rows)


def _differences(what: str, folder: Path, clips: Sequence[Facts], rows: pl.DataFrame) -> Iterator[Figure]:
    found = [differences(folder / facts["clip"], _of_clip(rows, facts["clip"])) for facts in clips]
    yield Figure(f"largest difference of VMAF from the plain recipe, {what}", max(vmaf for vmaf, _ in found))
    yield Figure(f"... of a feature's mean, {what}", max(feature for _, feature in found))


def _of_clip(rows: pl.DataFrame, clip: str) -> list[dict[str, Any]]:
    return rows.filter(pl.col("clip") == clip).to_dicts()


def _step(project: Path) -> tuple[float, float]:
    """Return when the newest run's step started and ended, in seconds since 1970."""
    with dg.DagsterInstance.from_config(str(project)) as instance:
        (run,) = instance.get_runs(limit=1)
        (statistics,) = instance.get_run_step_stats(run.run_id)
    if statistics.start_time is None or statistics.end_time is None:
        raise RuntimeError("the run has no finished step")
    return statistics.start_time, statistics.end_time
