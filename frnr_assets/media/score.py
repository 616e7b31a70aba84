"""Scoring distortions against their reference with VMAF and its canonical-6 features."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.moments import mean_and_std
from frnr_assets.media.process import TimeLimits, ToolFailed, ToolRunner, refuse_without_space
from frnr_assets.media.reference import Excerpt, Reference
from frnr_assets.media.source import SourceRules
from frnr_assets.media.vmaf import VmafSettings
from frnr_assets.media.vmaf_backends import Pairs, log_name, score_with_filter, score_with_tool
from frnr_assets.vocabulary import CANONICAL6_FEATURES, FEATURE_LIMITS

# libvmaf's models end at 0 and 100.
_HIGHEST = {**FEATURE_LIMITS, "vmaf": 100.0}


@dataclass(frozen=True)
class Score:
    """The scores of one distortion.

    Attributes:
        vmaf: per-frame VMAF.
        features: per-frame values of each of ``CANONICAL6_FEATURES``.
        extras: per-frame values of the extra features that were asked for, by their names in libvmaf's log; NaN where
            one has no value, because the pictures do not differ.
        model: name of the VMAF model.
        libvmaf_version: as libvmaf writes it into its log.
        score_time_ms: wall-clock milliseconds, the clip's scoring divided by the distortions scored together.
    """

    vmaf: tuple[float, ...]
    features: Mapping[str, tuple[float, ...]]
    extras: Mapping[str, tuple[float, ...]]
    model: str
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

    def extra_moments(self) -> dict[str, tuple[float, float] | tuple[None, None]]:
        """Return mean and population standard deviation of every value of the extra features.

        PSNR-HVS and CIEDE2000 have no finite value for a frame, or a plane of it, that the encode has kept exactly.
        Then there is no mean either.
        """
        return {
            name: mean_and_std(values) if all(map(math.isfinite, values)) else (None, None)
            for name, values in self.extras.items()
        }


@dataclass(frozen=True)
class VmafLog:
    """What libvmaf wrote about one pair.

    Attributes:
        vmaf: per-frame VMAF.
        features: per-frame values of each of ``CANONICAL6_FEATURES``.
        extras: per-frame values of what was asked for besides, NaN where there is none.
        version: of libvmaf.
    """

    vmaf: tuple[float, ...]
    features: Mapping[str, tuple[float, ...]]
    extras: Mapping[str, tuple[float, ...]]
    version: str


def score_distortions(
    source: Path,
    reference: Reference,
    distortions: Sequence[Path],
    *,
    part: Excerpt | None = None,
    vmaf: VmafSettings,
    ffmpeg: FFmpeg,
    runner: ToolRunner,
    limits: TimeLimits,
    rules: SourceRules,
    scratch: Path,
) -> list[Score]:
    """Score distortions of one reference.

    Both legs get the working-format step and are paired by frame index, which is safe because the frame counts are
    compared before (the encode) and after (the log).

    Args:
        source: the uploaded file.
        reference: its facts.
        distortions: encodes of it.
        part: the frames of the reference that were encoded; None for all.
        vmaf: model, features, and whether ffmpeg's libvmaf or the ``vmaf`` executable computes them.
        ffmpeg: the executable.
        runner: starts the program.
        limits: how long it may take.
        rules: which files may be sources.
        scratch: an empty folder of this call's own.

    Raises:
        ClipUnusable: the source is against the rules.
        OSError: a full disk cut a log short.
        ToolFailed: the run failed, or a log is missing, incomplete, or has a value that no frame can have.
    """
    pairs = Pairs(source, reference, part or Excerpt(0, reference.frames), tuple(distortions), rules)
    score = score_with_filter if vmaf.tool is None else score_with_tool
    runs = score(pairs, vmaf=vmaf, ffmpeg=ffmpeg, runner=runner, limits=limits, scratch=scratch)
    width, height = reference.working.width, reference.working.height
    scores = []
    for index, (result, wall_s) in enumerate(runs):
        try:
            log = read_vmaf_log(scratch / log_name(index), pairs.part.frames, vmaf.extra_columns(width, height))
        except (OSError, ValueError) as error:
            refuse_without_space(scratch)
            raise ToolFailed(f"score failed: {error}", result) from error
        model = vmaf.models.of(height).name
        scores.append(Score(log.vmaf, log.features, log.extras, model, log.version, wall_s * 1000))
    return scores


def read_vmaf_log(path: Path, frames: int, extra_columns: Sequence[str] = ()) -> VmafLog:
    """Read per-frame values and the libvmaf version from a JSON log.

    libvmaf prefixes the names of its fixed-point features with ``integer_``; these count where a model has the
    floating-point ones computed as well.

    Raises:
        OSError: there is no log.
        ValueError: not JSON, not ``frames`` frames in order, a feature missing, or a value of VMAF or the canonical-6
            that no frame can have.
    """
    log: dict[str, Any] = json.loads(path.read_text())
    try:
        entries = log["frames"]
        if [entry["frameNum"] for entry in entries] != list(range(frames)):
            raise ValueError(f"libvmaf scored {len(entries)} frames of {frames}")
        metrics: list[dict[str, float | None]] = [entry["metrics"] for entry in entries]
        return VmafLog(
            vmaf=_plausible(metrics, "vmaf"),
            features={name: _plausible(metrics, name) for name in CANONICAL6_FEATURES},
            extras={name: _column(metrics, name) for name in extra_columns},
            version=str(log["version"]),
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"libvmaf's log is not one: {error!r}") from error


def _plausible(metrics: Sequence[Mapping[str, float | None]], name: str) -> tuple[float, ...]:
    values = _column(metrics, name)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"libvmaf reported a value of {name} that is not finite")
    outside = [value for value in values if not 0 <= value <= _HIGHEST[name]]
    if outside:
        raise ValueError(f"libvmaf reported {outside[0]:g} as {name} of a frame; it can be 0 to {_HIGHEST[name]:g}")
    return values


def _column(metrics: Sequence[Mapping[str, float | None]], name: str) -> tuple[float, ...]:
    spelling = next((key for key in (f"integer_{name}", name) if key in metrics[0]), None)
    if spelling is None:
        raise ValueError(f"libvmaf did not report {name}")
    if not all(spelling in metric for metric in metrics):
        raise ValueError(f"libvmaf did not report {name} of every frame")
    # It writes null for what is not finite.
    values = (metric[spelling] for metric in metrics)
    return tuple(math.nan if value is None else float(value) for value in values)
