"""Making one distortion: the reference re-encoded at one CRF."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from frnr_assets.media.encoders import LIBX264, STATISTICS_FILE, Encoder, EncoderStatistics, no_statistics
from frnr_assets.media.ffmpeg import FFmpeg, progress_frames, run_ffmpeg, source_args
from frnr_assets.media.process import TimeLimits, ToolFailed, ToolRunner, refuse_without_space
from frnr_assets.media.reference import Excerpt, Reference, excerpt, identity_args, index_timing, refuse_other_frames
from frnr_assets.media.source import SourceRules, open_source

# Denominator of a frame rate: with it, at up to 240 frames per second, a time base is within libvpx's and libaom's
# limit of a nanosecond.
_FINEST_RATE = 1_000_000
DISTORTION_FILE = "distortion.mp4"


@dataclass(frozen=True)
class EncodeSettings:
    """How distortions are made.

    Attributes:
        encoder: the encoder.
        preset: one of its presets.
        extra_params: further arguments of ffmpeg's encoder, such as ``("-tune", "film")``.
        sample_clip_seconds: encode and score only the centre of a clip, so long; 0 for all of it.
    """

    encoder: Encoder
    preset: str
    extra_params: tuple[str, ...] = ()
    sample_clip_seconds: float = 0.0

    def part_of(self, reference: Reference) -> Excerpt:
        """Return the frames of a clip that are encoded and scored."""
        return excerpt(reference.frames, reference.probe.rate, self.sample_clip_seconds)


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
    rules: SourceRules,
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
        rules: which files may be sources.
        scratch: an empty folder of this call's own; the encode is left in it.

    Raises:
        ClipUnusable: the source is against the rules.
        OSError: a full disk cut the statistics short.
        ToolFailed: the encode failed, or does not have as many frames as went in.
    """
    part = settings.part_of(reference)
    descriptor = open_source(source, rules, reference.fingerprint)
    opened = source_args(descriptor, rules, damaged=bool(reference.decode_errors))
    args = encode_args(opened, reference, crf, settings)
    what = f"encode at CRF {crf}"
    timeout_s = limits.timeout_s(reference.working.width, reference.working.height, part.frames)
    result = run_ffmpeg(
        ffmpeg,
        args,
        what,
        runner=runner,
        cwd=scratch,
        timeout_s=timeout_s,
        memory_bytes=runner.limits.memory_for(
            encode_memory_bytes(reference.working.frame_bytes, settings.preset, settings.encoder)
        ),
        inherited=(descriptor,),
        tolerated=reference.decode_errors,
    )
    refuse_other_frames(reference, scratch, result)
    frames = progress_frames(result)
    try:
        read = settings.encoder.read_statistics
        statistics = read(scratch / STATISTICS_FILE) if read else no_statistics(frames)
    except (OSError, ValueError) as error:
        refuse_without_space(scratch)
        raise ToolFailed(f"{what} failed: {error}", result) from error
    written = {frames, statistics.frames}
    if written != {part.frames}:
        refuse_without_space(scratch)
        came_out = " or ".join(map(str, sorted(written)))
        raise ToolFailed(f"{what} failed: {part.frames} frames went in, {came_out} came out", result)
    path = scratch / DISTORTION_FILE
    return Distortion(path, path.stat().st_size, result.wall_s * 1000, statistics)


def encode_args(opened: Sequence[str], reference: Reference, crf: int, settings: EncodeSettings) -> list[str]:
    """Return ffmpeg's arguments of an encode.

    Args:
        opened: the arguments that open the source.
        reference: its facts.
        crf: the constant rate factor.
        settings: encoder, preset, extra parameters.
    """
    filters = f"{settings.part_of(reference).filters}{reference.working.filters},"
    return [
        *opened,
        *encoder_args(settings, crf, reference.probe.rate, filters=filters),
        *("-progress", "pipe:1", DISTORTION_FILE),
        *identity_args(reference),
    ]


def encoder_args(
    settings: EncodeSettings, crf: int, rate: Fraction, *, filters: str, statistics: str = STATISTICS_FILE
) -> list[str]:
    """Return ffmpeg's arguments between input and output of an encode: frames timed by index, one thread, no metadata.

    Args:
        settings: encoder, preset, extra parameters.
        crf: the constant rate factor.
        rate: the nominal rate.
        filters: what comes before the timing: empty, or ending in a comma.
        statistics: where the encoder's statistics go, if it has any.
    """
    encoder = settings.encoder
    timing = index_timing(rate)
    if encoder.declared_rate:
        rate = rate.limit_denominator(_FINEST_RATE)
        # On frames timed by index this filter only declares the rate. Without it ffmpeg declares a guess, and passes
        # on the durations that the frames have in the source.
        timing = f"{index_timing(rate)},fps={rate}"
    return [
        *("-map", "0:V:0", "-vf", f"{filters}{timing}"),
        *("-fps_mode", "passthrough", "-enc_time_base", str(Fraction(1) / rate).replace("/", ":")),
        *("-c:v", encoder.name, encoder.preset_option, settings.preset, "-crf", str(crf), "-threads", "1"),
        *(arg.replace(STATISTICS_FILE, statistics) for arg in encoder.args),
        *settings.extra_params,
        *("-map_metadata", "-1", "-map_chapters", "-1"),
    ]


def encode_memory_bytes(frame_bytes: int, preset: str, encoder: Encoder = LIBX264) -> int:
    """Estimate the peak resident memory of one encode."""
    return encoder.memory.estimate_bytes(frame_bytes, preset)
