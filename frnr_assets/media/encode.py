"""Making one distortion: the reference re-encoded at one CRF."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from frnr_assets.media.encoders import STATISTICS_FILE, Encoder, EncoderStatistics
from frnr_assets.media.ffmpeg import FFmpeg, input_args, progress_frames, run_ffmpeg
from frnr_assets.media.process import TimeLimits, ToolFailed, ToolRunner, refuse_without_space
from frnr_assets.media.reference import Reference, index_timing

# Resident memory of one encode: x264 keeps some fifty frames for look-ahead and references. Measured at 540p, 1080p
# and 2160p with preset medium; `make bench` prints it.
_BASE_BYTES, _FRAMES, _FRAMES_OF_SLOW_PRESETS = 80 << 20, 134, 268
_SLOW_PRESETS = frozenset({"slower", "veryslow", "placebo"})


@dataclass(frozen=True)
class EncodeSettings:
    """How distortions are made.

    Attributes:
        encoder: the encoder.
        preset: one of its presets.
        extra_params: further arguments of ffmpeg's encoder, such as ``("-tune", "film")``.
    """

    encoder: Encoder
    preset: str
    extra_params: tuple[str, ...] = ()


@dataclass(frozen=True)
class Distortion:
    """One encode.

    Attributes:
        path: the file.
        size_bytes: of the file, container included.
        encode_time_ms: wall-clock milliseconds of the encode alone.
        statistics: the encoder's own, of this very encode.
    """

    path: Path
    size_bytes: int
    encode_time_ms: float
    statistics: EncoderStatistics


def encode_distortion(
    source: Path,
    reference: Reference,
    crf: int,
    *,
    settings: EncodeSettings,
    ffmpeg: FFmpeg,
    runner: ToolRunner,
    limits: TimeLimits,
    scratch: Path,
) -> Distortion:
    """Re-encode a reference at one CRF, with one encoder thread, straight from the source.

    One thread makes the bitstream the same on every machine and costs no more CPU; on frames timed by index the
    result is bit-identical to that of encoding a raw decode of the reference.

    Args:
        source: the uploaded file.
        reference: its facts.
        crf: the constant rate factor.
        settings: encoder, preset, extra parameters.
        ffmpeg: the executable.
        runner: starts the program.
        limits: how long it may take.
        scratch: an empty folder of this call's own; the encode is left in it.

    Raises:
        OSError: a full disk cut the statistics short.
        ToolFailed: the encode failed, or does not have as many frames as the reference.
    """
    output = "distortion.mp4"
    rate = reference.probe.rate
    args = [
        *input_args(source),
        *("-map", "0:V:0", "-vf", f"{reference.working.filters},{index_timing(rate)}"),
        *("-fps_mode", "passthrough", "-enc_time_base", str(Fraction(1) / rate).replace("/", ":")),
        *("-c:v", settings.encoder.name, "-preset", settings.preset, "-crf", str(crf), "-threads", "1"),
        *settings.encoder.statistics_args,
        *settings.extra_params,
        *("-map_metadata", "-1", "-progress", "pipe:1", output),
    ]
    what = f"encode at CRF {crf}"
    timeout_s = limits.timeout_s(reference.working.width, reference.working.height, reference.frames)
    result = run_ffmpeg(ffmpeg, args, what, runner=runner, cwd=scratch, timeout_s=timeout_s)
    try:
        statistics = settings.encoder.read_statistics(scratch / STATISTICS_FILE)
    except (OSError, ValueError) as error:
        refuse_without_space(scratch)
        raise ToolFailed(f"{what} failed: {error}", result) from error
    written = {progress_frames(result), statistics.frames}
    if written != {reference.frames}:
        came_out = " or ".join(map(str, sorted(written)))
        raise ToolFailed(f"{what} failed: {reference.frames} frames went in, {came_out} came out", result)
    path = scratch / output
    return Distortion(path, path.stat().st_size, result.wall_s * 1000, statistics)


def encode_memory_bytes(frame_bytes: int, preset: str) -> int:
    """Estimate the peak resident memory of one encode."""
    return _BASE_BYTES + (_FRAMES_OF_SLOW_PRESETS if preset in _SLOW_PRESETS else _FRAMES) * frame_bytes
