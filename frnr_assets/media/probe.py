"""What a source file says it is, read without decoding it."""

import json
import signal
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from frnr_assets.media.process import ToolFailed, ToolRunner

PROBE_TIMEOUT_S = 60.0
# libavformat's demuxers that may open a source: mov and mp4, matroska and webm, avi, mpegts.
CONTAINERS = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts")
# x264's CRF and libvmaf's motion both assume a plausible frame rate. Outside these frames per second a rate is the
# artefact of a broken header.
MIN_RATE, MAX_RATE = 1, 240

_HDR_TRANSFERS = {"smpte2084": "pq", "arib-std-b67": "hlg"}


class ClipUnusable(Exception):  # noqa: N818 - the name says what the clip is
    """No rows can be made from this clip, and trying again will not help until its file changes.

    Attributes:
        reason: one sentence.
        tool_output: the tool's own words; empty when no tool was involved.
    """

    def __init__(self, reason: str, tool_output: str = ""):
        super().__init__(reason)
        self.reason = reason
        self.tool_output = tool_output

    def __reduce__(self) -> tuple[type["ClipUnusable"], tuple[str, str]]:
        return type(self), (self.reason, self.tool_output)


@dataclass(frozen=True)
class Probe:
    """The first video stream of a file that is not a cover picture, as its headers describe it.

    Attributes:
        container: libavformat's name of the demuxer.
        codec: libavcodec's name of the decoder.
        width: frame width in pixels, as coded.
        height: frame height in pixels, as coded.
        pix_fmt: ffmpeg's name of the pixel format.
        chroma: "420", "422", "444", "440", "411", "410", "gray" or "rgb".
        bit_depth: bits per sample.
        rate: average frame rate in frames per second, the clip's nominal rate R.
        stream_duration_s: duration of the video stream in seconds; None when the container does not say.
        color_range: "tv", "pc" or "unspecified".
        color_transfer: transfer characteristics (H.273), or "unspecified".
        color_primaries: colour primaries (H.273), or "unspecified".
    """

    container: str
    codec: str
    width: int
    height: int
    pix_fmt: str
    chroma: str
    bit_depth: int
    rate: Fraction
    stream_duration_s: float | None
    color_range: str
    color_transfer: str
    color_primaries: str

    @property
    def hdr_transfer(self) -> str:
        """Return "pq" (SMPTE ST 2084), "hlg" (ARIB STD-B67), or "" for standard dynamic range."""
        return _HDR_TRANSFERS.get(self.color_transfer, "")

    @property
    def hdr_primaries(self) -> str:
        """Return the colour primaries of an HDR source; "" for standard dynamic range."""
        return self.color_primaries if self.hdr_transfer else ""


def probe_source(source: Path, runner: ToolRunner) -> Probe:
    """Read the headers of a file in a process of its own.

    Raises:
        ClipUnusable: not a video file, no video stream, no plausible frame rate, or the demuxer crashed or hung.
        ToolFailed: the probe was killed from outside.
    """
    script = Path(__file__).with_name("_probe.py")
    argv = [sys.executable, "-I", str(script), ",".join(CONTAINERS), str(source.absolute())]
    try:
        result = runner.run(argv, cwd=Path("/"), timeout_s=PROBE_TIMEOUT_S)
    except ToolFailed as error:
        raise ClipUnusable(f"it could not be probed: {error.reason}", error.detail) from error
    if result.returncode in {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}:
        raise ToolFailed("the probe was killed", result)
    try:
        found: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        detail = ToolFailed(f"the probe ended with status {result.returncode}", result).detail
        raise ClipUnusable("it could not be probed: the demuxer crashed", detail) from None
    if "unusable" in found:
        raise ClipUnusable(f"it could not be probed: {found['unusable']}")
    rate = Fraction(found.pop("rate_num"), found.pop("rate_den"))
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ClipUnusable(
            f"its average frame rate, {float(rate):g}, is not within {MIN_RATE} to {MAX_RATE} per second"
        )
    return Probe(rate=rate, **found)
