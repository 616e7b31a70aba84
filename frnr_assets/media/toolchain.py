"""Everything that a measurement is made with, checked once at start-up."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace

from frnr_assets.media.encode import EncodeSettings
from frnr_assets.media.encoders import ENCODERS
from frnr_assets.media.ffmpeg import FFmpeg, inspect_ffmpeg, locate_ffmpeg, require_encoder, require_vmaf_model
from frnr_assets.media.process import TimeLimits, ToolError, ToolRunner
from frnr_assets.media.sandbox import ProcessLimits
from frnr_assets.media.source import SourceRules
from frnr_assets.media.vmaf import VmafSettings
from frnr_assets.media.vmaf_backends import open_tool

# ffmpeg's options, without stream specifiers, that the recipes set, their other names, and the lists of options that
# could hold them. A second one would win over the recipe, and the row would say something else than what was done.
RECIPE_OPTIONS = frozenset(
    "b c codec vcodec crf qp preset pass passlogfile stats x264-params x264opts threads vf filter pix_fmt s r vsync "  # noqa: SIM905 - words read better than quotes
    "fps_mode enc_time_base map map_metadata progress t to ss frames fs i f n y "
    "x265-params x265-stats svtav1-params aom-params cpu-used speed deadline quality usage lossless row-mt "
    "tile-columns tiles".split()
)


@dataclass(frozen=True)
class ToolSettings:
    """Which tools to use, and how.

    Attributes:
        encode: how distortions are made.
        vmaf: how they are scored.
        limits: how long a program may take.
        process: what a program may use.
        rules: which files may be sources.
        ffmpeg_path: an ffmpeg to use; None for the one that imageio-ffmpeg brings.
    """

    encode: EncodeSettings
    vmaf: VmafSettings
    limits: TimeLimits = field(default_factory=TimeLimits)
    process: ProcessLimits = field(default_factory=ProcessLimits)
    rules: SourceRules = field(default_factory=SourceRules)
    ffmpeg_path: str | None = None

    @property
    def conditions(self) -> str:
        """A hash of all settings under which a clip may be found unusable: with others it is worth another try."""
        encode, vmaf = self.encode, self.vmaf
        tool = None if vmaf.tool is None else (vmaf.tool.path, vmaf.tool.args)
        rules = {name: value for name, value in asdict(self.rules).items() if name != "roots"}
        made_of = {
            "rules": rules,
            "limits": [asdict(self.limits), asdict(self.process)],
            "encode": [encode.encoder.name, encode.preset, encode.extra_params, encode.sample_clip_seconds],
            "vmaf": [[model.name for model in vmaf.models.models], vmaf.extra_features, tool],
            "ffmpeg": self.ffmpeg_path,
        }
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Toolchain:
    """The tools and settings of a measurement.

    Attributes:
        ffmpeg: the executable.
        settings: encoder, preset and extra parameters.
        encoder_version: encoder and version of its library, such as ``libx264-165``.
        vmaf: how distortions are scored.
        libvmaf_version: as libvmaf reports it.
        limits: how long a program may take.
        rules: which files may be sources.
        runner: starts the programs.
        conditions: see ``ToolSettings.conditions``.
    """

    ffmpeg: FFmpeg
    settings: EncodeSettings
    encoder_version: str
    vmaf: VmafSettings
    libvmaf_version: str
    limits: TimeLimits
    rules: SourceRules
    runner: ToolRunner
    conditions: str


def encode_settings(
    encoder: str,
    preset: str,
    extra_params: tuple[str, ...],
    sweep: tuple[int, ...],
    sample_clip_seconds: float = 0.0,
) -> EncodeSettings:
    """Check an encoder's configuration against what is known of the encoder.

    Raises:
        ToolError: unknown encoder, unknown preset, a CRF outside its range, a parameter that would undo the recipe, or
            an impossible sample.
    """
    known = ENCODERS.get(encoder)
    if known is None:
        raise ToolError(f"the encoder {encoder} is not supported; supported: {', '.join(ENCODERS)}")
    if preset not in known.presets:
        raise ToolError(f"{encoder} has no preset {preset}; it has {', '.join(known.presets)}")
    low, high = known.crf_range
    outside = [crf for crf in sweep if not low <= crf <= high]
    if outside:
        raise ToolError(f"crf_sweep has CRF {outside[0]}, which is not within {encoder}'s range of {low} to {high}")
    options = (param for param in extra_params if param.startswith("-"))
    taken = [option for option in options if option[1:].partition(":")[0] in RECIPE_OPTIONS]
    if taken:
        raise ToolError(f"extra_params has {taken[0]}, which the recipe sets itself")
    if not (math.isfinite(sample_clip_seconds) and sample_clip_seconds >= 0):
        raise ToolError(f"sample_clip_seconds is {sample_clip_seconds}; it can be a number of seconds, or 0 for all")
    return EncodeSettings(known, preset, extra_params, float(sample_clip_seconds))


def open_ffmpeg(configured: str | None, runner: ToolRunner) -> FFmpeg:
    """Find ffmpeg and check that it runs.

    Raises:
        ToolError: it is missing or does not work.
    """
    return inspect_ffmpeg(locate_ffmpeg(configured), runner)


def open_toolchain(tools: ToolSettings, runner: ToolRunner) -> Toolchain:
    """Check that ffmpeg has the encoder, and ffmpeg or the executable the VMAF models, and learn their versions.

    Raises:
        ToolError: one of them is missing; the message says which.
    """
    ffmpeg = open_ffmpeg(tools.ffmpeg_path, runner)
    encoder, tool = tools.encode.encoder, tools.vmaf.tool
    version = require_encoder(ffmpeg, encoder.name, encoder.version_pattern, runner, tools.encode.extra_params)
    vmaf, models = tools.vmaf, tools.vmaf.models.models
    if tool is None:
        for model in models:
            libvmaf_version = require_vmaf_model(ffmpeg, model, runner)
    else:
        tool, libvmaf_version = open_tool(tool, models, runner)
        vmaf = replace(vmaf, tool=tool)
    return Toolchain(
        ffmpeg=ffmpeg,
        settings=tools.encode,
        encoder_version=f"{encoder.name}-{version}",
        vmaf=vmaf,
        libvmaf_version=libvmaf_version,
        limits=tools.limits,
        rules=tools.rules,
        runner=runner,
        conditions=tools.conditions,
    )
