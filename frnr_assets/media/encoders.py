"""The encoders that make distortions, as data."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from frnr_assets.media.moments import mean_and_std
from frnr_assets.vocabulary import ENCODER_STATISTICS


@dataclass(frozen=True)
class EncoderStatistics:
    """Per-frame statistics of one encode, aggregated.

    Attributes:
        frames: how many frames the encoder says it coded; ffmpeg's count for an encoder that says nothing.
        columns: one value for each of ``ENCODER_STATISTICS``.
    """

    frames: int
    columns: Mapping[str, float]


@dataclass(frozen=True)
class EncodeMemory:
    """Peak resident memory of one encode, its decoder included: a part of its own, and as many frames.

    The figures are fitted, from above, to peaks measured at 540p, 1080p and 2160p with a middling preset and, at the
    smaller sizes, slow ones; on clips longer than the encoder looks ahead, of 8 bits and, at 540p, of 10.

    Attributes:
        base_bytes: the part that does not depend on the frame size.
        frames: frames that it holds.
        frames_of: the same for presets that hold another number.
    """

    base_bytes: int
    frames: int
    frames_of: Mapping[str, int] = field(default_factory=dict)

    def estimate_bytes(self, frame_bytes: int, preset: str) -> int:
        """Return the memory of an encode with frames of that size."""
        return self.base_bytes + self.frames_of.get(preset, self.frames) * frame_bytes


@dataclass(frozen=True)
class Encoder:
    """What this platform knows of an encoder.

    Attributes:
        name: ffmpeg's name.
        presets: accepted presets, each with a bitstream of its own.
        preset_option: ffmpeg's option that takes the preset.
        crf_range: lowest and highest CRF, both accepted.
        version_pattern: regular expression whose first group is the library's version in ffmpeg's log.
        bit_depths: accepted bits per sample, ascending.
        chroma: accepted chroma subsamplings.
        args: further arguments of every encode: what makes it one thread, constant quality and the same on every
            machine; and, with ``read_statistics``, what writes per-frame statistics to ``encoder.stats`` without
            changing the bitstream.
        memory: what an encode needs.
        declared_rate: whether its input must carry the nominal rate, as frame rate and as duration of every frame,
            and not in timestamps alone. x265 reckons with that rate, SVT-AV1 takes the distance of key frames from
            it, and libvpx and libaom refuse a frame whose duration in the source rounds to nothing.
        read_statistics: parser of ``encoder.stats``; None for an encoder that writes none.
    """

    name: str
    presets: tuple[str, ...]
    preset_option: str
    crf_range: tuple[int, int]
    version_pattern: str
    bit_depths: tuple[int, ...]
    chroma: tuple[str, ...]
    args: tuple[str, ...]
    memory: EncodeMemory
    declared_rate: bool = True
    read_statistics: Callable[[Path], EncoderStatistics] | None = None


STATISTICS_FILE = "encoder.stats"

# Both write a line for each frame, with other names for the blocks.
_X264_FRAME = re.compile(
    r"^in:\d+ .*?\btype:(?P<type>\w) .*?\bq:(?P<qp>-?[\d.]+) .*?\btex:(?P<tex>\d+) mv:(?P<mv>\d+) misc:(?P<misc>\d+) "
    r"imb:(?P<intra>\d+) pmb:(?P<predicted>\d+) smb:(?P<skipped>\d+) ",
    re.MULTILINE,
)
_X265_FRAME = re.compile(
    r"^in:\d+ .*?\btype:(?P<type>\w) q:(?P<qp>-?[\d.]+) .*?\btex:(?P<tex>\d+) mv:(?P<mv>\d+) misc:(?P<misc>\d+) "
    r"icu:(?P<intra>[\d.]+) pcu:(?P<predicted>[\d.]+) scu:(?P<skipped>[\d.]+) ",
    re.MULTILINE,
)


def read_x264_statistics(path: Path) -> EncoderStatistics:
    """Aggregate the statistics that x264 writes with ``pass=1``.

    Bits of a frame are texture + motion vectors + miscellaneous. ``itex`` and ``ptex`` are the texture bits of intra
    frames (types I, i) and of predicted frames (P, B, b). The ratios are of macroblocks over the whole encode.
    These are vmaf-tune's definitions; deviations are population standard deviations.

    Raises:
        ValueError: the file has no frame in it.
    """
    return _aggregate("x264", _X264_FRAME, path)


def read_x265_statistics(path: Path) -> EncoderStatistics:
    """Aggregate the statistics that x265 writes with ``pass=1``: the columns of x264, with two differences.

    The ratios are of blocks of 8x8 pixels. Bits are those that x265 reckoned with when it chose its blocks, without
    headers. With medium and slow at CRF 18 to 38 their sum was within 3 % of the coded frames' on clips of 480x360
    and more; it was as little as 0.8 of it at 192x144, and with ultrafast up to 1.5 times as much.

    Raises:
        ValueError: the file has no frame in it.
    """
    return _aggregate("x265", _X265_FRAME, path)


def no_statistics(frames: int) -> EncoderStatistics:
    """Return the statistics of an encoder that has none: all 0.0."""
    return EncoderStatistics(frames, dict.fromkeys(ENCODER_STATISTICS, 0.0))


def _aggregate(encoder: str, line: re.Pattern[str], path: Path) -> EncoderStatistics:
    frames = [match.groupdict() for match in line.finditer(path.read_text())]
    if not frames:
        raise ValueError(f"{encoder} wrote no statistics")
    motion = [float(frame["mv"]) for frame in frames]
    texture = [float(frame["tex"]) for frame in frames]
    bits = [tex + mv + float(frame["misc"]) for frame, tex, mv in zip(frames, texture, motion, strict=True)]
    intra = [tex for frame, tex in zip(frames, texture, strict=True) if frame["type"] in "Ii"]
    predicted = [tex for frame, tex in zip(frames, texture, strict=True) if frame["type"] not in "Ii"]
    blocks = {kind: math.fsum(float(frame[kind]) for frame in frames) for kind in ("intra", "predicted", "skipped")}
    total = math.fsum(blocks.values())
    values = (
        *mean_and_std([float(frame["qp"]) for frame in frames]),
        *mean_and_std(bits),
        *mean_and_std(motion),
        fmean(intra) if intra else 0.0,
        fmean(predicted) if predicted else 0.0,
        blocks["intra"] / total if total else 0.0,
        blocks["skipped"] / total if total else 0.0,
    )
    return EncoderStatistics(len(frames), dict(zip(ENCODER_STATISTICS, values, strict=True)))


_PRESETS_OF_X264_AND_X265 = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)

LIBX264 = Encoder(
    name="libx264",
    presets=_PRESETS_OF_X264_AND_X265,
    preset_option="-preset",
    crf_range=(0, 51),
    version_pattern=r"264 - core (\d+)",
    bit_depths=(8, 10),
    chroma=("420", "422", "444"),
    # "-pass 1" would switch to the fast settings of a first pass; inside x264-params it only writes the file.
    args=("-x264-params", f"stats={STATISTICS_FILE}:pass=1"),
    memory=EncodeMemory(80 << 20, 134, dict.fromkeys(("slower", "veryslow", "placebo"), 268)),
    # It takes durations from timestamps.
    declared_rate=False,
    read_statistics=read_x264_statistics,
)

LIBX265 = Encoder(
    name="libx265",
    presets=_PRESETS_OF_X264_AND_X265,
    preset_option="-preset",
    crf_range=(0, 51),
    version_pattern=r"x265 \[info\]: HEVC encoder version (\S+)",
    bit_depths=(8, 10, 12),
    chroma=("420", "422", "444"),
    # Without a pool of threads there are no wavefronts and no slices in the look-ahead, both of which change the
    # bitstream. The note on the settings ("info") names the processor's instruction sets. A fast first pass would be
    # another encode.
    args=(
        "-x265-params",
        f"pools=none:frame-threads=1:wpp=0:lookahead-slices=0:info=0:stats={STATISTICS_FILE}:pass=1:slow-firstpass=1",
    ),
    memory=EncodeMemory(80 << 20, 134, {"slower": 270, "veryslow": 270, "placebo": 360}),
    read_statistics=read_x265_statistics,
)

LIBSVTAV1 = Encoder(
    name="libsvtav1",
    # ffmpeg takes 12 and 13 too, which SVT-AV1 maps to 11, and below 0 what is meant for its debugging.
    presets=tuple(str(preset) for preset in range(12)),
    preset_option="-preset",
    # ffmpeg takes 0 for "not given", which is 35.
    crf_range=(1, 63),
    version_pattern=r"SVT-AV1 Encoder Lib v(\S+)",
    bit_depths=(8, 10),
    chroma=("420",),
    # At this level of parallelism SVT-AV1 has a single thread.
    args=("-svtav1-params", "lp=1"),
    memory=EncodeMemory(140 << 20, 115, {str(preset): 200 for preset in range(8)}),
)

LIBVPX_VP9 = Encoder(
    name="libvpx-vp9",
    # From 5 on, up to ffmpeg's 8, the bitstream is the same; below 0 it is that of the positive number.
    presets=tuple(str(preset) for preset in range(6)),
    preset_option="-cpu-used",
    crf_range=(0, 63),
    version_pattern=r"\[libvpx-vp9 @ 0x[0-9a-f]+\] \[info\] v(\S+)",
    bit_depths=(8, 10, 12),
    chroma=("420", "422", "444"),
    args=("-deadline", "good", "-b:v", "0", "-row-mt", "0", "-tile-columns", "0"),
    memory=EncodeMemory(72 << 20, 98),
)

LIBAOM_AV1 = Encoder(
    name="libaom-av1",
    # From 6 on, up to ffmpeg's 8, the bitstream is the same.
    presets=tuple(str(preset) for preset in range(7)),
    preset_option="-cpu-used",
    crf_range=(0, 63),
    version_pattern=r"\[libaom-av1 @ 0x[0-9a-f]+\] \[info\] v(\S+)",
    bit_depths=(8, 10, 12),
    chroma=("420", "422", "444"),
    args=("-usage", "good", "-b:v", "0", "-row-mt", "0", "-tile-columns", "0"),
    memory=EncodeMemory(110 << 20, 175),
)

ENCODERS: Mapping[str, Encoder] = {
    encoder.name: encoder for encoder in (LIBX264, LIBX265, LIBSVTAV1, LIBVPX_VP9, LIBAOM_AV1)
}
