"""Scoring distortions against their reference with VMAF and its canonical-6 features."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frnr_assets.media.ffmpeg import FFmpeg, input_args, run_ffmpeg
from frnr_assets.media.moments import mean_and_std
from frnr_assets.media.process import TimeLimits, ToolFailed, ToolRunner, refuse_without_space
from frnr_assets.media.reference import Reference, index_timing
from frnr_assets.vocabulary import CANONICAL6_FEATURES

# Asked for by name, because some models (the NEG ones) compute them with options of their own. A model that computes
# them as they are shares them, at no cost.
_FEATURES = "name=adm|name=vif|name=motion"

# Resident memory of a score: one part for the decoders of the reference, one for each distortion and its libvmaf.
# Measured at 540p, 1080p and 2160p; `make bench` prints it.
_BASE_BYTES, _FRAMES, _FRAMES_PER_CELL = 60 << 20, 14, 54


@dataclass(frozen=True)
class Score:
    """The scores of one distortion.

    Attributes:
        vmaf: per-frame VMAF.
        features: per-frame values of each of ``CANONICAL6_FEATURES``.
        libvmaf_version: as libvmaf writes it into its log.
        score_time_ms: wall-clock milliseconds, the clip's scoring divided by the distortions scored together.
    """

    vmaf: tuple[float, ...]
    features: Mapping[str, tuple[float, ...]]
    libvmaf_version: str
    score_time_ms: float

    @property
    def vmaf_score(self) -> float:
        """Mean over frames."""
        return mean_and_std(self.vmaf)[0]

    def feature_moments(self) -> dict[str, float]:
        """Return ``<feature>_mean`` and ``<feature>_std`` (population) of every feature."""
        moments = {name: mean_and_std(values) for name, values in self.features.items()}
        means = {f"{name}_mean": moments[name][0] for name in CANONICAL6_FEATURES}
        return means | {f"{name}_std": moments[name][1] for name in CANONICAL6_FEATURES}


def score_distortions(
    source: Path,
    reference: Reference,
    distortions: Sequence[Path],
    *,
    vmaf_model: str,
    ffmpeg: FFmpeg,
    runner: ToolRunner,
    limits: TimeLimits,
    scratch: Path,
) -> list[Score]:
    """Score distortions of one reference together, decoding the reference once.

    Both legs get the working-format step and are paired by frame index, which is safe because the frame counts are
    compared before (the encode) and after (the log).

    Args:
        source: the uploaded file.
        reference: its facts.
        distortions: encodes of it.
        vmaf_model: a model built into libvmaf, such as ``vmaf_v0.6.1``.
        ffmpeg: the executable.
        runner: starts the program.
        limits: how long it may take.
        scratch: an empty folder of this call's own.

    Raises:
        OSError: a full disk cut a log short.
        ToolFailed: the run failed, or a log is missing, incomplete, or has a value that is not finite.
    """
    leg = f"{reference.working.filters},{index_timing(reference.probe.rate)}"
    count = len(distortions)
    graph = [f"[{count}:V:0]{leg},split={count}" + "".join(f"[r{i}]" for i in range(count))]
    for i in range(count):
        graph.append(f"[{i}:V:0]{leg}[d{i}]")
        options = f"model=version={vmaf_model}:feature={_FEATURES}:log_fmt=json:log_path={i}.json"
        graph.append(f"[d{i}][r{i}]libvmaf={options}[o{i}]")
    inputs = [arg for path in (*distortions, source) for arg in input_args(path)]
    outputs = [arg for i in range(count) for arg in ("-map", f"[o{i}]", "-f", "null", "-")]
    args = ["-filter_complex_threads", "1", *inputs, "-filter_complex", ";".join(graph), *outputs]
    timeout_s = limits.timeout_s(reference.working.width, reference.working.height, reference.frames * count)
    result = run_ffmpeg(ffmpeg, args, "score", runner=runner, cwd=scratch, timeout_s=timeout_s)
    try:
        logs = [read_vmaf_log(scratch / f"{i}.json", reference.frames) for i in range(count)]
    except (OSError, ValueError) as error:
        refuse_without_space(scratch)
        raise ToolFailed(f"score failed: {error}", result) from error
    share_ms = result.wall_s * 1000 / count
    return [Score(vmaf, features, version, share_ms) for vmaf, features, version in logs]


def read_vmaf_log(path: Path, frames: int) -> tuple[tuple[float, ...], Mapping[str, tuple[float, ...]], str]:
    """Read per-frame VMAF, canonical-6 features and the libvmaf version from a JSON log.

    libvmaf prefixes the names of its fixed-point features with ``integer_``; both spellings are read.

    Raises:
        ValueError: not JSON, not ``frames`` frames in order, a feature missing, or a value that is not finite.
    """
    log: dict[str, Any] = json.loads(path.read_text())
    try:
        entries = log["frames"]
        if [entry["frameNum"] for entry in entries] != list(range(frames)):
            raise ValueError(f"libvmaf scored {len(entries)} frames of {frames}")
        metrics: list[dict[str, float]] = [entry["metrics"] for entry in entries]
        columns = {name: _column(metrics, name) for name in ("vmaf", *CANONICAL6_FEATURES)}
        return columns.pop("vmaf"), columns, str(log["version"])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"libvmaf's log is not one: {error!r}") from error


def _column(metrics: Sequence[Mapping[str, float]], name: str) -> tuple[float, ...]:
    spelling = next((key for key in (name, f"integer_{name}") if key in metrics[0]), None)
    if spelling is None:
        raise ValueError(f"libvmaf did not report {name}")
    values = tuple(float(metric.get(spelling, math.nan)) for metric in metrics)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"libvmaf reported a value of {name} that is not finite")
    return values


def score_memory_bytes(frame_bytes: int, cells: int) -> int:
    """Estimate the peak resident memory of scoring that many distortions together."""
    return _BASE_BYTES + (_FRAMES + _FRAMES_PER_CELL * cells) * frame_bytes
