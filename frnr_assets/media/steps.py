"""The recipe step by step, each step one command that somebody else may run: probe, decode, encode, score.

The engine decodes, encodes and scores without a raw frame on disk. Here each tool is called on its own, on files, for
callers who start the tools themselves. The frames are the same.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from frnr_assets.media._probe import describe_pix_fmt
from frnr_assets.media.decode import MAX_RATE, MIN_RATE, shot_filters
from frnr_assets.media.encode import EncodeSettings, encoder_args
from frnr_assets.media.encoders import ENCODERS, LIBX264, Encoder
from frnr_assets.media.ffmpeg import GLOBAL_ARGS, complaints, input_options, last_line
from frnr_assets.media.probe import Probe, probe_source
from frnr_assets.media.process import ToolError, ToolFailed, ToolResult, ToolRunner
from frnr_assets.media.reference import Excerpt, WorkingFormat, working_format
from frnr_assets.media.source import ClipUnusable, SourceRules
from frnr_assets.media.vmaf import VmafTool
from frnr_assets.media.vmaf_backends import build_vmaf_command

# A frame rate that comes as a floating-point number is taken for the nearest fraction up to this denominator.
_FINEST_RATE = 1_000_000


class Completed(Protocol):
    """What a runner returns: a ``subprocess.CompletedProcess``, or what looks like one."""

    @property
    def returncode(self) -> int: ...  # noqa: D102
    @property
    def stdout(self) -> str: ...  # noqa: D102
    @property
    def stderr(self) -> str: ...  # noqa: D102


Runner = Callable[..., Completed]


@dataclass(frozen=True)
class NrSourceGeometry:
    """What the headers of a source say of its frames.

    Attributes:
        width: pixels, as coded.
        height: pixels, as coded.
        pix_fmt: ffmpeg's name of the pixel format.
        framerate: average frame rate in frames per second.
        duration_s: duration in seconds; 0.0 when the container does not say.
        color_range: "tv", "pc" or "unspecified".
        color_transfer: transfer characteristics (H.273), or "unspecified".
        color_primaries: colour primaries (H.273), or "unspecified".
    """

    width: int
    height: int
    pix_fmt: str
    framerate: float
    duration_s: float
    color_range: str = "unspecified"
    color_transfer: str = "unspecified"
    color_primaries: str = "unspecified"

    def probe(self) -> Probe:
        """Return the same as the engine's own probe has it.

        Raises:
            ToolError: the frame rate is not plausible, or there is no such pixel format.
        """
        if not MIN_RATE <= self.framerate <= MAX_RATE:
            raise ToolError(
                f"its average frame rate, {self.framerate:g}, is not within {MIN_RATE} to {MAX_RATE} per second"
            )
        try:
            chroma, bit_depth = describe_pix_fmt(self.pix_fmt)
        except ValueError as error:
            raise ToolError(f"there is no pixel format {self.pix_fmt}") from error
        return Probe(
            container="",
            codec="",
            width=self.width,
            height=self.height,
            pix_fmt=self.pix_fmt,
            chroma=chroma,
            bit_depth=bit_depth,
            rate=Fraction(self.framerate).limit_denominator(_FINEST_RATE),
            stream_duration_s=self.duration_s or None,
            color_range=self.color_range,
            color_transfer=self.color_transfer,
            color_primaries=self.color_primaries,
        )


def run_step(runner: Runner, argv: Sequence[str], what: str, source: Path) -> ToolResult:
    """Have a command run as ``subprocess.run`` would run it, and accept only status 0 without an error in the log.

    Args:
        runner: called with the command and ``capture_output=True, text=True, check=False``.
        argv: the command.
        what: tool and action, for the message: "ffmpeg decode".
        source: the uploaded file, for the message.

    Raises:
        ToolFailed: anything else.
    """
    started = time.monotonic()
    try:
        done = runner(list(argv), capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolFailed(f"{what} failed for {source}: {argv[0]} could not be started: {error.strerror}") from error
    wall_s = time.monotonic() - started
    result = ToolResult(tuple(argv), done.returncode, done.stdout or "", done.stderr or "", wall_s, 0.0)
    problems = complaints(result)
    if result.returncode != 0 or problems:
        reason = "; ".join(problems[:2]) or last_line(result.stderr)
        raise ToolFailed(f"{what} failed for {source}: status {result.returncode}: {reason}", result)
    return result


def probe_geometry(
    source: Path, *, ffprobe_bin: str = "ffprobe", runner: Runner | None = None, rules: SourceRules | None = None
) -> NrSourceGeometry:
    """Find out the geometry of a source from its headers.

    Args:
        source: the uploaded file.
        ffprobe_bin: the ffprobe that the runner is asked to start.
        runner: runs ffprobe, as ``subprocess.run`` would; None to probe without ffprobe.
        rules: which files may be sources; None for the default rules.

    Raises:
        ToolFailed: ffprobe failed.
        ToolError: what it printed is no geometry; or, without it, the file is no video or has no plausible frame rate.
    """
    if runner is None:
        try:
            found = probe_source(source, ToolRunner(), rules or SourceRules())
        except (ClipUnusable, ToolError) as error:
            raise ToolError(f"{source}: {error}") from error
        return NrSourceGeometry(
            found.width,
            found.height,
            found.pix_fmt,
            float(found.rate),
            found.stream_duration_s or 0.0,
            found.color_range,
            found.color_transfer,
            found.color_primaries,
        )
    result = run_step(runner, build_probe_command(source, ffprobe_bin=ffprobe_bin), "ffprobe", source)
    try:
        return _geometry(json.loads(result.stdout))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ToolError(f"ffprobe returned invalid geometry for {source}: {result.stdout[:500]!r}") from error


def _geometry(printed: Mapping[str, Any]) -> NrSourceGeometry:
    stream = printed["streams"][0]
    width, height = int(stream["width"]), int(stream["height"])
    if width <= 0 or height <= 0 or not stream["pix_fmt"]:
        raise ValueError("no frame has that size or format")
    colors = {
        name: str(stream[name]) for name in ("color_range", "color_transfer", "color_primaries") if name in stream
    }
    named = {name: "unspecified" if value == "unknown" else value for name, value in colors.items()}
    duration = printed.get("format", {}).get("duration", "N/A")
    return NrSourceGeometry(
        width,
        height,
        str(stream["pix_fmt"]),
        _rate(stream.get("avg_frame_rate")) or _rate(stream.get("r_frame_rate")),
        0.0 if duration == "N/A" else float(duration),
        **named,
    )


def _rate(printed: str | None) -> float:
    """Return a rate that ffprobe printed as a fraction; 0.0 for one that it does not know, which it prints as 0/0."""
    numerator, _, denominator = (printed or "0").partition("/")
    divisor = float(denominator or 1)
    return float(numerator) / divisor if divisor else 0.0


def build_probe_command(source: Path, *, ffprobe_bin: str = "ffprobe") -> list[str]:
    """Return the command that prints the geometry of a source as JSON: of its first video that is no cover picture."""
    stream = "width,height,pix_fmt,avg_frame_rate,r_frame_rate,color_range,color_transfer,color_primaries"
    return [
        *(ffprobe_bin, "-v", "error", "-select_streams", "V:0"),
        *("-show_entries", f"stream={stream}:format=duration", "-of", "json", _named(source)),
    ]


def build_decode_command(
    source: Path,
    out_yuv: Path,
    geom: NrSourceGeometry,
    *,
    ffmpeg_bin: str = "ffmpeg",
    encoder: str = LIBX264.name,
    frame_log: Path | None = None,
    rules: SourceRules | None = None,
) -> list[str]:
    """Return the command that decodes a source to raw frames in the working format: each frame once, as coded.

    Args:
        source: the uploaded file.
        out_yuv: the raw file that it writes; the last element.
        geom: the source's geometry.
        ffmpeg_bin: the ffmpeg.
        encoder: decides the working format, together with libvmaf.
        frame_log: where each frame's shot change score is written; None for nowhere.
        rules: which files may be sources; None for the default rules.

    Raises:
        ToolError: the geometry is not plausible, or the encoder is not known.
        ClipUnusable: too small for libvmaf's features.
    """
    rules = rules or SourceRules()
    working = working_format(geom.probe(), _encoder(encoder), rules.min_side)
    shots = f",{shot_filters(_in_filter(frame_log))}" if frame_log else ""
    return [
        *(ffmpeg_bin, *GLOBAL_ARGS, *input_options(rules), "-i", _named(source), "-map", "0:V:0"),
        *("-vf", f"{working.filters}{shots}", "-fps_mode", "passthrough"),
        *("-f", "rawvideo", "-pix_fmt", working.pix_fmt, str(out_yuv)),
    ]


def build_encode_command(
    reference_yuv: Path,
    out: Path,
    working: WorkingFormat,
    rate: Fraction,
    crf: int,
    settings: EncodeSettings,
    *,
    part: Excerpt,
    statistics: Path,
    ffmpeg_bin: str = "ffmpeg",
) -> list[str]:
    """Return the command that encodes raw frames at one CRF.

    Args:
        reference_yuv: the raw frames of the reference.
        out: the file that it writes; the last element.
        working: size and format of the frames.
        rate: the nominal rate.
        crf: the constant rate factor.
        settings: encoder, preset, extra parameters.
        part: the frames to encode.
        statistics: where the encoder's statistics go, if it has any.
        ffmpeg_bin: the ffmpeg.
    """
    raw = ("-pixel_format", working.pix_fmt, "-video_size", f"{working.width}x{working.height}")
    # The log has versions in it from this level on, and without -hide_banner.
    talkative = ["level+info" if arg == "level+warning" else arg for arg in GLOBAL_ARGS if arg != "-hide_banner"]
    return [
        *(ffmpeg_bin, *talkative, "-f", "rawvideo", *raw, "-framerate", str(rate), "-i", str(reference_yuv)),
        *encoder_args(settings, crf, rate, filters=part.filters, statistics=_in_list(statistics)),
        str(out),
    ]


def build_score_command(
    tool: VmafTool,
    reference_yuv: Path,
    distortion_yuv: Path,
    working: WorkingFormat,
    log: Path,
    *,
    model: str,
    extractors: Sequence[str],
    part: Excerpt,
) -> list[str]:
    """Return the command that scores raw frames with the ``vmaf`` executable; see ``build_vmaf_command``.

    Args:
        tool: the executable.
        reference_yuv: the raw frames of the reference.
        distortion_yuv: the raw frames of the distortion.
        working: size and format of the frames.
        log: the JSON log that it writes.
        model: ``version=...`` or ``path=...``.
        extractors: libvmaf's names of what is computed beside the model.
        part: the frames of the reference that were encoded.
    """
    command = build_vmaf_command(
        tool, str(reference_yuv), str(distortion_yuv), working, model=model, extractors=extractors, log=str(log)
    )
    if part.filters:
        command += ["--frame_skip_ref", str(part.first), "--frame_cnt", str(part.frames)]
    return command


def count_frames(raw: Path, working: WorkingFormat, what: str) -> int:
    """Return how many frames a raw file has.

    Raises:
        ToolError: there is no such file, no frame in it, or half of one.
    """
    size = raw.stat().st_size if raw.exists() else 0
    frames, rest = divmod(size, working.frame_bytes)
    if rest or not frames:
        raise ToolError(
            f"{what} wrote {size} bytes, which are not whole frames of {working.width}x{working.height} "
            f"{working.pix_fmt} ({working.frame_bytes} bytes each)"
        )
    return frames


def _encoder(name: str) -> Encoder:
    if name not in ENCODERS:
        raise ToolError(f"the encoder {name} is not supported; supported: {', '.join(ENCODERS)}")
    return ENCODERS[name]


def _named(path: Path) -> str:
    """Return a path such that ffmpeg takes it for neither an option nor a protocol, which may have options too."""
    name = str(path)
    return f"file:{name}" if name.startswith("-") or (":" in name and not name.startswith("/")) else name


def _in_list(path: Path) -> str:
    """Quote a path for a list of options separated by colons."""
    return "".join(f"\\{char}" if char in "\\':=" else char for char in os.fspath(path))


def _in_filter(path: Path) -> str:
    """Quote a path for an option of a filter in a graph, which is read twice."""
    return "".join(f"\\{char}" if char in "\\'[],;" else char for char in _in_list(path))
