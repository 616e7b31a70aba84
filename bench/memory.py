"""Memory: what encodes and scores use by frame size, what the pool reckons with, and what a mixed batch takes."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg

from bench.fabricate import configure
from bench.measure import Figure, run_job, sampled
from bench.stage import Stage
from frnr_assets.automation import CELLS, INGEST, REFERENCES
from frnr_assets.engine.workshop import memory_bytes
from frnr_assets.media.decode import decode_reference
from frnr_assets.media.encode import EncodeSettings, encode_distortion, encode_memory_bytes
from frnr_assets.media.encoders import LIBX264
from frnr_assets.media.machine import usable_cores
from frnr_assets.media.process import TimeLimits
from frnr_assets.media.score import score_distortions
from frnr_assets.media.source import SourceRules, fingerprint
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets.media.vmaf_backends import score_memory_bytes
from frnr_assets.partitions import CLIP
from frnr_assets.vocabulary import DEFAULT_CRF_SWEEP, DEFAULT_PRESET

FRAME_SIZES = ((960, 540), (1920, 1080), (3840, 2160))
# More than the lookahead of the encoder, which is what fills its memory.
_FRAMES = 50
# Room for one encode of 2160p, and hardly anything beside it.
_BOUND_GIB = 1.8
_SMALL_CLIPS = 6
_FAST_UPLOAD = ("-preset", "ultrafast", "-crf", "30")


def memory_figures(stage: Stage, sizes: Sequence[tuple[int, int]] = FRAME_SIZES) -> Iterator[Figure]:
    """Measure the peak resident memory of the two kinds of work by frame size, then that of a mixed batch."""
    vmaf, limits, rules = vmaf_settings(), TimeLimits(), SourceRules()
    for width, height in sizes:
        scratch = stage.folder / f"memory{height}"
        scratch.mkdir()
        scene = f"testsrc2=size={width}x{height}:rate=30,trim=end_frame={_FRAMES}[v]"
        clip = stage.make_clip(scratch / "clip.mp4", scene, *_FAST_UPLOAD)
        reference = decode_reference(
            clip,
            fingerprint(clip, rules),
            ffmpeg=stage.ffmpeg,
            encoder=LIBX264,
            runner=stage.runner,
            limits=limits,
            rules=rules,
            scratch=scratch,
        )
        frame_bytes = reference.working.frame_bytes
        with sampled(scratch) as peaks:
            encode = encode_distortion(
                clip,
                reference,
                28,
                settings=EncodeSettings(LIBX264, DEFAULT_PRESET),
                ffmpeg=stage.ffmpeg,
                runner=stage.runner,
                limits=limits,
                rules=rules,
                scratch=scratch,
            )
        encoding = encode_memory_bytes(frame_bytes, DEFAULT_PRESET)
        yield from _beside(f"an encode, {height}p", peaks["tools"], encoding)
        for cells in (1, len(DEFAULT_CRF_SWEEP)):
            logs = scratch / f"score{cells}"
            logs.mkdir()
            with sampled(scratch) as peaks:
                score_distortions(
                    clip,
                    reference,
                    [encode.path] * cells,
                    vmaf=vmaf,
                    ffmpeg=stage.ffmpeg,
                    runner=stage.runner,
                    limits=limits,
                    rules=rules,
                    scratch=logs,
                )
            reckoned = score_memory_bytes(frame_bytes, cells, vmaf)
            yield from _beside(f"scoring {cells} at once, {height}p", peaks["tools"], reckoned)
        in_flight = max(1, min(usable_cores(), memory_bytes(None) // encoding))
        yield Figure(f"encodes in flight on this machine, {height}p", in_flight)
    yield from _mixed_batch(stage, sizes[-1])


def _mixed_batch(stage: Stage, large: tuple[int, int]) -> Iterator[Figure]:
    """Measure small clips, a large one, and small clips again, with little memory to use."""
    project = stage.folder / "mixed"
    uploads = project / "clips"
    uploads.mkdir(parents=True)
    names = [f"small{index}.mp4" for index in range(_SMALL_CLIPS)]
    names.insert(_SMALL_CLIPS // 2, "large.mp4")
    for name in names:
        width, height = large if name == "large.mp4" else (480, 270)
        scene = f"testsrc2=size={width}x{height}:rate=25,trim=end_frame={_FRAMES}[v]"
        stage.make_clip(uploads / name, scene, *_FAST_UPLOAD)
    (project / "manifest.jsonl").write_text("".join(json.dumps({"src": name}) + "\n" for name in names))
    configure(project, "manifest.jsonl", Path("clips"), f"memory_gib = {_BOUND_GIB}")
    run_job(project, INGEST)
    with dg.DagsterInstance.from_config(str(project)) as instance:
        keys = instance.get_dynamic_partitions(CLIP)
    run_job(project, REFERENCES, keys[0], keys[-1])
    with sampled(project / "data" / "scratch") as peaks:
        run_job(project, CELLS, f"{keys[0]}|{DEFAULT_CRF_SWEEP[0]}", f"{keys[-1]}|{DEFAULT_CRF_SWEEP[-1]}")
    what = f"a clip of {large[1]}p among {_SMALL_CLIPS} small ones, tools / the bound of {_BOUND_GIB:g} GiB"
    yield Figure(what, peaks["tools"] / (_BOUND_GIB * 2**30), at_most=1)


def _beside(what: str, used_bytes: float, reckoned_bytes: int) -> Iterator[Figure]:
    yield Figure(f"memory of {what}", used_bytes / 2**20, "MiB")
    yield Figure("... / what the pool reckons with", used_bytes / reckoned_bytes, at_most=1)
