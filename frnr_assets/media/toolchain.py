"""Everything that a measurement is made with, checked once at start-up."""

from dataclasses import dataclass

from frnr_assets.media.encode import EncodeSettings
from frnr_assets.media.encoders import ENCODERS
from frnr_assets.media.ffmpeg import FFmpeg, inspect_ffmpeg, locate_ffmpeg, require_encoder, require_vmaf_model
from frnr_assets.media.process import TimeLimits, ToolError, ToolRunner

# ffmpeg's options, without stream specifiers, that the recipes set, their other names, and the lists of options that
# could hold them. A second one would win over the recipe, and the row would say something else than what was done.
RECIPE_OPTIONS = frozenset(
    "b c codec vcodec crf qp preset pass passlogfile stats x264-params x264opts threads vf filter pix_fmt s r vsync "  # noqa: SIM905 - words read better than quotes
    "fps_mode enc_time_base map map_metadata progress t to ss frames fs i f n y "
    "x265-params x265-stats svtav1-params aom-params cpu-used speed deadline quality usage lossless row-mt "
    "tile-columns tiles".split()
)


@dataclass(frozen=True)
class Toolchain:
    """The tools and settings of a measurement.

    Attributes:
        ffmpeg: the executable.
        settings: encoder, preset and extra parameters.
        encoder_version: encoder and version of its library, such as ``libx264-165``.
        vmaf_model: model built into libvmaf.
        libvmaf_version: as libvmaf reports it.
        limits: how long a program may take.
        runner: starts the programs.
    """

    ffmpeg: FFmpeg
    settings: EncodeSettings
    encoder_version: str
    vmaf_model: str
    libvmaf_version: str
    limits: TimeLimits
    runner: ToolRunner


def encode_settings(encoder: str, preset: str, extra_params: tuple[str, ...], sweep: tuple[int, ...]) -> EncodeSettings:
    """Check an encoder's configuration against what is known of the encoder.

    Raises:
        ToolError: unknown encoder, unknown preset, a CRF outside its range, or a parameter that would undo the recipe.
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
    return EncodeSettings(known, preset, extra_params)


def open_ffmpeg(configured: str | None, runner: ToolRunner) -> FFmpeg:
    """Find ffmpeg and check that it runs.

    Raises:
        ToolError: it is missing or does not work.
    """
    return inspect_ffmpeg(locate_ffmpeg(configured), runner)


def open_toolchain(
    ffmpeg: FFmpeg, settings: EncodeSettings, *, vmaf_model: str, limits: TimeLimits, runner: ToolRunner
) -> Toolchain:
    """Check that this ffmpeg has the encoder, the libvmaf filter and the model, and learn their versions.

    Raises:
        ToolError: one of them is missing; the message says which.
    """
    encoder = settings.encoder
    version = require_encoder(ffmpeg, encoder.name, encoder.version_pattern, runner)
    libvmaf_version = require_vmaf_model(ffmpeg, vmaf_model, runner)
    return Toolchain(
        ffmpeg=ffmpeg,
        settings=settings,
        encoder_version=f"{encoder.name}-{version}",
        vmaf_model=vmaf_model,
        libvmaf_version=libvmaf_version,
        limits=limits,
        runner=runner,
    )
