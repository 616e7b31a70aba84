"""What a person would run instead: the bare commands, their most frugal form, and the plain recipe with YUV files."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.measure import call
from frnr_assets.vocabulary import CANONICAL6_FEATURES, DEFAULT_CRF_SWEEP, DEFAULT_PRESET, DEFAULT_VMAF_MODEL

Facts = Mapping[str, Any]
Commands = Callable[[str, Facts, Path], None]
_X264 = ("-c:v", "libx264", "-preset", DEFAULT_PRESET)
_VMAF = f"libvmaf=model=version={DEFAULT_VMAF_MODEL}:log_fmt=json"


def side_by_side(commands: Commands, ffmpeg: str, clips: Sequence[Facts], folder: Path, cores: int) -> None:
    """Run the commands of each clip in a folder of its own, as many clips at once as there are cores."""

    def run(facts: Facts) -> None:
        own = folder / facts["clip"]
        own.mkdir(parents=True)
        commands(ffmpeg, facts, own)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(run, clips))


def _start(ffmpeg: str) -> list[str]:
    return [ffmpeg, "-v", "error", "-nostdin", "-y", "-filter_complex_threads", "1"]


def _source(facts: Facts) -> list[str]:
    return ["-threads", "1", "-noautorotate", "-i", facts["src"]]


def _leg(facts: Facts) -> str:
    return f"{facts['working_filters']},settb={facts['rate_den']}/{facts['rate_num']},setpts=N"


def _encoded(facts: Facts, crf: int) -> list[str]:
    timing = ["-fps_mode", "passthrough", "-enc_time_base", f"{facts['rate_den']}:{facts['rate_num']}"]
    return ["-map", "0:V:0", "-vf", _leg(facts), *timing, *_X264, "-crf", str(crf), "-threads", "1", f"{crf}.mp4"]


def bare(ffmpeg: str, facts: Facts, folder: Path) -> None:
    """Run, for each cell of a clip, an encode and a score, each of which decodes the upload once."""
    for crf in DEFAULT_CRF_SWEEP:
        call([*_start(ffmpeg), *_source(facts), *_encoded(facts, crf)], folder)
        inputs = ["-threads", "1", "-i", f"{crf}.mp4", *_source(facts)]
        leg = _leg(facts)
        graph = f"[0:V:0]{leg}[d];[1:V:0]{leg}[r];[d][r]{_VMAF}:log_path={crf}.json"
        call([*_start(ffmpeg), *inputs, "-filter_complex", graph, "-f", "null", "-"], folder)


def frugal(ffmpeg: str, facts: Facts, folder: Path) -> None:
    """Run one command that encodes a clip at all CRFs, and one that scores all of them: two decodes in all."""
    encodes = [arg for crf in DEFAULT_CRF_SWEEP for arg in _encoded(facts, crf)]
    call([*_start(ffmpeg), *_source(facts), *encodes], folder)
    inputs = [arg for crf in DEFAULT_CRF_SWEEP for arg in ("-threads", "1", "-i", f"{crf}.mp4")]
    count, leg = len(DEFAULT_CRF_SWEEP), _leg(facts)
    graph = f"[{count}:V:0]{leg},split={count}" + "".join(f"[r{i}]" for i in range(count))
    for i, crf in enumerate(DEFAULT_CRF_SWEEP):
        graph += f";[{i}:V:0]{leg}[d{i}];[d{i}][r{i}]{_VMAF}:log_path={crf}.json[o{i}]"
    outputs = [arg for i in range(count) for arg in ("-map", f"[o{i}]", "-f", "null", "-")]
    call([*_start(ffmpeg), *inputs, *_source(facts), "-filter_complex", graph, *outputs], folder)


def plain(ffmpeg: str, facts: Facts, folder: Path, cores: int, encoder_threads: int | None = None) -> None:
    """Run the plain recipe, one command after the other: YUV files, a statistics pass, and threads inside the tools.

    Args:
        ffmpeg: the ffmpeg.
        facts: the clip's.
        folder: where the files go.
        cores: threads of the scorer.
        encoder_threads: None for ffmpeg's own choice, which is quickest; 1 for pictures that are the same everywhere.
    """
    start = [ffmpeg, "-v", "error", "-nostdin", "-y"]
    rate = f"{facts['rate_num']}/{facts['rate_den']}"
    raw = ["-f", "rawvideo", "-pix_fmt", facts["pix_fmt"], "-s", f"{facts['width']}x{facts['height']}", "-r", rate]
    to_raw = ["-fps_mode", "passthrough", "-f", "rawvideo"]
    threads = [] if encoder_threads is None else ["-threads", str(encoder_threads)]
    upload = ["-noautorotate", "-i", facts["src"], "-map", "0:V:0", "-vf", facts["working_filters"]]
    call([*start, *upload, "-pix_fmt", facts["pix_fmt"], *to_raw, "reference.yuv"], folder)
    for crf in DEFAULT_CRF_SWEEP:
        encode = [*start, *raw, "-i", "reference.yuv", *_X264, "-crf", str(crf), *threads]
        call([*encode, "-pass", "1", "-fastfirstpass", "0", "-passlogfile", f"pass{crf}", "-f", "null", "-"], folder)
        call([*encode, f"{crf}.mp4"], folder)
        call([*start, "-i", f"{crf}.mp4", *to_raw, "distortion.yuv"], folder)
        legs = [arg for file in ("distortion.yuv", "reference.yuv") for arg in (*raw, "-i", file)]
        score = f"[0:v][1:v]{_VMAF}:n_threads={cores}:log_path={crf}.json"
        call([*start, *legs, "-filter_complex", score, "-f", "null", "-"], folder)
    for file in ("reference.yuv", "distortion.yuv"):
        (folder / file).unlink()


def differences(folder: Path, rows: Sequence[Facts]) -> tuple[float, float]:
    """Return how much the means in score logs differ from rows at most: of VMAF, and of the canonical-6.

    Args:
        folder: with a log for each CRF of one clip.
        rows: the clip's.
    """
    vmaf, features = 0.0, 0.0
    for row in rows:
        pooled = json.loads((folder / f"{row['crf']}.json").read_text())["pooled_metrics"]
        vmaf = max(vmaf, abs(pooled["vmaf"]["mean"] - row["vmaf_score"]))
        means = {name.removeprefix("integer_"): values["mean"] for name, values in pooled.items()}
        features = max(features, *(abs(means[name] - row[f"{name}_mean"]) for name in CANONICAL6_FEATURES))
    return vmaf, features
