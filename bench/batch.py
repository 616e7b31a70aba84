"""The cost of a batch: a Dagster run over a batch of clips, against the bare ffmpeg commands for the same cells."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg

from bench.measure import Figure, call, cpu_of, run_job, sampled
from frnr_assets.automation import CELLS, INGEST, REFERENCES
from frnr_assets.corpus.tables import Tables
from frnr_assets.media.decode import decode_reference
from frnr_assets.media.encode import EncodeSettings, encode_distortion, encode_memory_bytes
from frnr_assets.media.encoders import LIBX264
from frnr_assets.media.ffmpeg import FFmpeg, run_ffmpeg
from frnr_assets.media.process import TimeLimits, ToolRunner
from frnr_assets.media.score import score_distortions
from frnr_assets.media.source import SourceRules, fingerprint
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets.media.vmaf_backends import score_memory_bytes
from frnr_assets.vocabulary import DEFAULT_CRF_SWEEP, DEFAULT_PRESET, DEFAULT_VMAF_MODEL

CLIPS = 12
FRAME_SIZES = ((960, 540), (1920, 1080), (3840, 2160))
SCENES = (
    "mandelbrot=size=480x270:rate=30:start_scale={scale}",
    "testsrc2=size=480x270:rate=30,rotate=t*{scale}",
    "gradients=size=480x270:rate=30:seed={index}:speed=0.02",
)


def make_clips(folder: Path, ffmpeg: FFmpeg, runner: ToolRunner) -> list[Path]:
    """Make clips of different scenes and lengths, 3 to 5 seconds of 480 x 270."""
    clips = folder / "clips"
    clips.mkdir()
    for index in range(CLIPS):
        scene = SCENES[index % len(SCENES)].format(index=index, scale=0.2 + 0.1 * index)
        graph = f"{scene},trim=end_frame={90 + 5 * index},noise=alls=10:allf=t[v]"
        encode = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-crf", "27", f"clip{index:02}.mp4")
        args = ["-filter_complex", graph, "-map", "[v]", *encode]
        run_ffmpeg(ffmpeg, args, f"making clip {index}", runner=runner, cwd=clips, timeout_s=600)
    return sorted(clips.iterdir())


def batch_figures(folder: Path, clips: Sequence[Path], ffmpeg: FFmpeg) -> Iterator[Figure]:
    """Measure one batch with the whole sweep, through Dagster and bare, turn about."""
    project = folder / "project"
    project.mkdir()
    (project / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (project / "manifest.jsonl").write_text("".join(json.dumps({"src": str(clip)}) + "\n" for clip in clips))
    dataset = f'[[datasets]]\nname = "bench"\nmanifest = "manifest.jsonl"\nclips_root = "{clips[0].parent}"\n'
    (project / "frnr.toml").write_text(dataset)
    start_up = cpu_of(lambda: run_job(project, INGEST))
    with dg.DagsterInstance.from_config(str(project)) as instance:
        keys = list(instance.get_dynamic_partitions("clip"))
    run_job(project, REFERENCES, keys[0], keys[-1])
    first, last = f"{keys[0]}|{DEFAULT_CRF_SWEEP[0]}", f"{keys[-1]}|{DEFAULT_CRF_SWEEP[-1]}"
    with sampled(project / "data" / "scratch") as peaks:
        whole = cpu_of(lambda: run_job(project, CELLS, first, last))
    seconds = step_seconds(project)
    bare = cpu_of(lambda: bare_commands(project, folder / "bare", clips, ffmpeg))
    rows = Tables(project / "data").feature_rows.read()
    cells = len(rows)
    raw_bytes = sum(row["frames"] * row["width"] * row["height"] * 3 // 2 for row in rows.filter(crf=18).to_dicts())
    cores = len(os.sched_getaffinity(0))
    yield Figure("cells", cells, "")
    yield Figure("CPU of the bare commands", bare, "s")
    yield Figure("CPU of the Dagster run, start-up included", whole, "s")
    yield Figure("CPU of start-up", start_up, "s")
    yield Figure("CPU of the run / CPU of the bare commands", whole / bare, "", "at most 1.08")
    yield Figure("... start-up left out", (whole - start_up) / bare, "")
    yield Figure("cores busy, from first cell to last", (whole - start_up) / (seconds * cores), "", "at least 0.90")
    yield Figure("rows per second", cells / seconds, "1/s")
    yield Figure("peak scratch", peaks["scratch"] / 2**20, "MiB")
    yield Figure("peak scratch / raw YUV of the clips", peaks["scratch"] / raw_bytes, "", "grainy clips")
    yield Figure("peak resident memory of the run and its tools", peaks["memory"] / 2**20, "MiB")


def bare_commands(project: Path, folder: Path, clips: Sequence[Path], ffmpeg: FFmpeg) -> None:
    """Run, one after the other, decode + encode for each cell and one scoring for each clip, as a person would."""
    references = {row["src"]: row for row in Tables(project / "data").references.read().to_dicts()}
    folder.mkdir()
    start = [str(ffmpeg.path), "-v", "error", "-nostdin", "-y"]
    for clip in clips:
        facts = references[str(clip)]
        leg = f"{facts['working_filters']},settb={facts['rate_den']}/{facts['rate_num']},setpts=N"
        source = ("-threads", "1", "-noautorotate", "-i", str(clip))
        for crf in DEFAULT_CRF_SWEEP:
            timing = ("-fps_mode", "passthrough", "-enc_time_base", f"{facts['rate_den']}:{facts['rate_num']}")
            encoder = ("-c:v", "libx264", "-preset", DEFAULT_PRESET, "-crf", str(crf), "-threads", "1")
            call([*start, *source, "-map", "0:V:0", "-vf", leg, *timing, *encoder, f"{crf}.mp4"], folder)
        inputs = [arg for crf in DEFAULT_CRF_SWEEP for arg in ("-threads", "1", "-i", f"{crf}.mp4")]
        count = len(DEFAULT_CRF_SWEEP)
        graph = f"[{count}:V:0]{leg},split={count}" + "".join(f"[r{i}]" for i in range(count))
        for i in range(count):
            model = f"libvmaf=model=version={DEFAULT_VMAF_MODEL}:log_fmt=json:log_path={i}.json"
            graph += f";[{i}:V:0]{leg}[d{i}];[d{i}][r{i}]{model}[o{i}]"
        outputs = [arg for i in range(count) for arg in ("-map", f"[o{i}]", "-f", "null", "-")]
        call([*start, "-filter_complex_threads", "1", *inputs, *source, "-filter_complex", graph, *outputs], folder)


def memory_figures(folder: Path, ffmpeg: FFmpeg, runner: ToolRunner) -> Iterator[Figure]:
    """Measure the peak resident memory of the two kinds of work by frame size, beside what the pool reckons with."""
    settings, vmaf, limits = EncodeSettings(LIBX264, DEFAULT_PRESET), vmaf_settings(), TimeLimits()
    for width, height in FRAME_SIZES:
        scratch = folder / f"memory{height}"
        scratch.mkdir()
        scene = f"testsrc2=size={width}x{height}:rate=30,trim=end_frame=60[v]"
        upload = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "30", "clip.mp4")
        args = ["-filter_complex", scene, "-map", "[v]", *upload]
        run_ffmpeg(ffmpeg, args, "making a clip", runner=runner, cwd=scratch, timeout_s=600)
        clip = scratch / "clip.mp4"
        reference = decode_reference(
            clip,
            fingerprint(clip, SourceRules()),
            ffmpeg=ffmpeg,
            encoder=LIBX264,
            runner=runner,
            limits=limits,
            rules=SourceRules(),
            scratch=scratch,
        )
        frame_bytes = reference.working.frame_bytes
        with sampled(scratch) as peaks:
            encode = encode_distortion(
                clip,
                reference,
                28,
                settings=settings,
                ffmpeg=ffmpeg,
                runner=runner,
                limits=limits,
                rules=SourceRules(),
                scratch=scratch,
            )
        yield from _beside(f"an encode, {height}p", peaks["memory"], encode_memory_bytes(frame_bytes, DEFAULT_PRESET))
        for cells in (1, len(DEFAULT_CRF_SWEEP)):
            logs = scratch / f"score{cells}"
            logs.mkdir()
            with sampled(scratch) as peaks:
                score_distortions(
                    clip,
                    reference,
                    [encode.path] * cells,
                    vmaf=vmaf,
                    ffmpeg=ffmpeg,
                    runner=runner,
                    limits=limits,
                    rules=SourceRules(),
                    scratch=logs,
                )
            what = f"scoring {cells} at once, {height}p"
            yield from _beside(what, peaks["memory"], score_memory_bytes(frame_bytes, cells, vmaf))


def _beside(what: str, used_bytes: float, reckoned_bytes: int) -> Iterator[Figure]:
    yield Figure(f"memory of {what}", used_bytes / 2**20, "MiB")
    yield Figure("... / what the pool reckons with", used_bytes / reckoned_bytes, "", "under 1")


def step_seconds(project: Path) -> float:
    """Return the wall-clock seconds of the newest run's step."""
    with dg.DagsterInstance.from_config(str(project)) as instance:
        (run,) = instance.get_runs(limit=1)
        (statistics,) = instance.get_run_step_stats(run.run_id)
    if statistics.start_time is None or statistics.end_time is None:
        raise RuntimeError("the run has no finished step")
    return statistics.end_time - statistics.start_time
