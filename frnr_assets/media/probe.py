"""What a source file says it is, read without decoding it."""

import json
import signal
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from frnr_assets.media.ffmpeg import last_line
from frnr_assets.media.process import ToolError, ToolFailed, ToolRunner
from frnr_assets.media.source import ClipUnusable, Fingerprint, SourceRules, codec_of, open_source

PROBE_TIMEOUT_S = 60.0
# Address space of the process that probes: with frames of 4096x4096 and 12 bits in 4:4:4 it needs half a gigabyte.
_PROBE_BASE_BYTES, _PROBE_BYTES_PER_PIXEL = 256 << 20, 16
_HDR_TRANSFERS = {"smpte2084": "pq", "arib-std-b67": "hlg"}


@dataclass(frozen=True)
class Probe:
    """The first video stream of a file that is not a cover picture, as its headers describe it.

    Attributes:
        container: libavformat's name of the demuxer.
        codec: libavcodec's name of the codec.
        width: frame width in pixels, as coded.
        height: frame height in pixels, as coded.
        pix_fmt: ffmpeg's name of the pixel format.
        chroma: "420", "422", "444", "440", "411", "410", "gray" or "rgb".
        bit_depth: bits per sample.
        rate: average frame rate in frames per second; 0 when the container does not say.
        stream_duration_s: duration of the video stream in seconds; None when the container does not say.
        color_range: "tv", "pc" or "unspecified".
        color_transfer: transfer characteristics (H.273), or "unspecified".
        color_primaries: colour primaries (H.273), or "unspecified".
        color_matrix: matrix coefficients (H.273), or "unspecified".
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
    color_matrix: str = "unspecified"

    @property
    def hdr_transfer(self) -> str:
        """Return "pq" (SMPTE ST 2084), "hlg" (ARIB STD-B67), or "" for standard dynamic range."""
        return _HDR_TRANSFERS.get(self.color_transfer, "")

    @property
    def hdr_primaries(self) -> str:
        """Return the colour primaries of an HDR source; "" for standard dynamic range."""
        return self.color_primaries if self.hdr_transfer else ""


def probe_source(source: Path, runner: ToolRunner, rules: SourceRules, found: Fingerprint | None = None) -> Probe:
    """Read the headers of a file in a process of its own.

    Args:
        source: the uploaded file.
        runner: starts the process.
        rules: which files may be sources.
        found: its fingerprint, if it has one already.

    Raises:
        ClipUnusable: it may not be a source, is no video, has no video stream or more streams, pixels or seconds than
            the rules allow, a codec that they do not; or the demuxer crashed or hung.
        ToolError: PyAV does not work.
        ToolFailed: the probe was killed from outside, or the file is missing or another one.
    """
    descriptor = open_source(source, rules, found)
    options = {
        "fd": str(descriptor),
        "protocol_whitelist": "fd",
        "format_whitelist": ",".join(rules.demuxers),
        "codec_whitelist": ",".join(rules.decoders),
    }
    script = Path(__file__).with_name("_probe.py")
    argv = [sys.executable, "-I", str(script), json.dumps(options), str(rules.max_streams), *rules.video_decoders]
    try:
        memory_bytes = _PROBE_BASE_BYTES + _PROBE_BYTES_PER_PIXEL * rules.max_pixels
        result = runner.run(argv, timeout_s=PROBE_TIMEOUT_S, memory_bytes=memory_bytes, inherited=(descriptor,))
    except ToolFailed as error:
        raise ClipUnusable(f"it could not be probed: {error.reason}", error.detail) from error
    if result.returncode in {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}:
        raise ToolFailed("the probe was killed", result)
    try:
        told: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        if "ImportError" in result.stderr or "ModuleNotFoundError" in result.stderr:
            raise ToolError(f"PyAV does not work: {last_line(result.stderr)}; install it again") from None
        failure = ToolFailed(f"the probe ended with status {result.returncode}", result)
        raise ClipUnusable(
            "it could not be probed: the demuxer crashed or took too much memory", failure.detail
        ) from None
    if "unusable" in told:
        raise ClipUnusable(f"it could not be probed: {told['unusable']}")
    codec = codec_of(told.pop("decoder"))
    if codec not in rules.codecs:
        raise ClipUnusable(f"its video is {codec}; codecs allows {', '.join(rules.codecs)}")
    rate = Fraction(told.pop("rate_num"), told.pop("rate_den"))
    probe = Probe(codec=codec, rate=rate, **told)
    _refuse_implausible(probe, rules)
    return probe


def _refuse_implausible(probe: Probe, rules: SourceRules) -> None:
    if probe.width * probe.height > rules.max_pixels:
        raise ClipUnusable(
            f"its frames of {probe.width}x{probe.height} have more pixels than the {rules.max_pixels} that max_pixels "
            "allows"
        )
    if (probe.stream_duration_s or 0) > rules.max_duration_s:
        raise ClipUnusable(
            f"it lasts {probe.stream_duration_s:g} s, more than the {rules.max_duration_s:g} that max_seconds allows"
        )
