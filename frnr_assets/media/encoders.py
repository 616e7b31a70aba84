"""The encoders that make distortions, as data."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from frnr_assets.media.moments import mean_and_std
from frnr_assets.vocabulary import ENCODER_STATISTICS


@dataclass(frozen=True)
class EncoderStatistics:
    """Per-frame statistics of one encode, aggregated.

    Attributes:
        frames: how many frames the encoder says it coded.
        columns: one value for each of ``ENCODER_STATISTICS``.
    """

    frames: int
    columns: Mapping[str, float]


@dataclass(frozen=True)
class Encoder:
    """What this platform knows of an encoder.

    Attributes:
        name: ffmpeg's name.
        presets: accepted values of ``-preset``.
        crf_range: lowest and highest CRF, both accepted.
        version_pattern: regular expression whose first group is the library's version in ffmpeg's log.
        bit_depths: accepted bits per sample, ascending.
        chroma: accepted chroma subsamplings.
        statistics_args: arguments that make the encoder write per-frame statistics to ``encoder.stats`` without
            changing the bitstream.
        read_statistics: parser of that file.
    """

    name: str
    presets: tuple[str, ...]
    crf_range: tuple[int, int]
    version_pattern: str
    bit_depths: tuple[int, ...]
    chroma: tuple[str, ...]
    statistics_args: tuple[str, ...]
    read_statistics: Callable[[Path], EncoderStatistics]


STATISTICS_FILE = "encoder.stats"

_X264_FRAME = re.compile(
    r"^in:\d+ .*?\btype:(?P<type>\w) .*?\bq:(?P<qp>-?[\d.]+) .*?\btex:(?P<tex>\d+) mv:(?P<mv>\d+) misc:(?P<misc>\d+) "
    r"imb:(?P<imb>\d+) pmb:(?P<pmb>\d+) smb:(?P<smb>\d+) ",
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
    frames = [match.groupdict() for match in _X264_FRAME.finditer(path.read_text())]
    if not frames:
        raise ValueError("x264 wrote no statistics")
    motion = [float(frame["mv"]) for frame in frames]
    texture = [float(frame["tex"]) for frame in frames]
    bits = [tex + mv + float(frame["misc"]) for frame, tex, mv in zip(frames, texture, motion, strict=True)]
    intra = [tex for frame, tex in zip(frames, texture, strict=True) if frame["type"] in "Ii"]
    predicted = [tex for frame, tex in zip(frames, texture, strict=True) if frame["type"] not in "Ii"]
    blocks = {kind: math.fsum(float(frame[kind]) for frame in frames) for kind in ("imb", "pmb", "smb")}
    total = math.fsum(blocks.values())
    values = (
        *mean_and_std([float(frame["qp"]) for frame in frames]),
        *mean_and_std(bits),
        *mean_and_std(motion),
        fmean(intra) if intra else 0.0,
        fmean(predicted) if predicted else 0.0,
        blocks["imb"] / total if total else 0.0,
        blocks["smb"] / total if total else 0.0,
    )
    return EncoderStatistics(len(frames), dict(zip(ENCODER_STATISTICS, values, strict=True)))


LIBX264 = Encoder(
    name="libx264",
    presets=(
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
    ),
    crf_range=(0, 51),
    version_pattern=r"264 - core (\d+)",
    bit_depths=(8, 10),
    chroma=("420", "422", "444"),
    # "-pass 1" would switch to the fast settings of a first pass; inside x264-params it only writes the file.
    statistics_args=("-x264-params", f"stats={STATISTICS_FILE}:pass=1"),
    read_statistics=read_x264_statistics,
)

ENCODERS: Mapping[str, Encoder] = {encoder.name: encoder for encoder in (LIBX264,)}
