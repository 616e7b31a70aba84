"""Decoding a source once, from its first frame to its last: its frames, rate and shots, or why it has none."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from frnr_assets.media.encoders import Encoder
from frnr_assets.media.ffmpeg import FFmpeg, complaints, progress_frames, run_ffmpeg, source_args
from frnr_assets.media.moments import mean_and_std
from frnr_assets.media.probe import Probe, probe_source
from frnr_assets.media.process import TimeLimits, ToolFailed, ToolResult, ToolRunner, refuse_without_space
from frnr_assets.media.reference import FILTERED_TIMES, Reference, WorkingFormat, index_timing, working_format
from frnr_assets.media.source import CHANGED, ClipUnusable, Fingerprint, SourceRules, open_source

# The threshold that ffmpeg's scdet documents as a good one, in per cent of the largest possible frame difference.
SHOT_CHANGE_SCORE = 10.0
# x264's CRF and libvmaf's motion both assume a plausible frame rate. Outside these frames per second a rate is the
# artefact of a broken header, or of a broken clock.
MIN_RATE, MAX_RATE = 1, 240
# How far the duration by the stated rate may be from that by the frames' times: this part of it, and so many frames.
_RATE_TOLERANCE, _RATE_SLACK_FRAMES = 0.1, 2
# For a decode whose rate is not known before its end.
_RATE_GUESS = Fraction(25)
# For the time limit of a decode whose container does not say how long it is.
DURATION_GUESS_S = 60.0

KeptFormat = Literal["yuv", "ffv1"]
KEPT_FILES: Mapping[KeptFormat, str] = {"yuv": "reference.yuv", "ffv1": "reference.mkv"}
_KEPT_ARGS: Mapping[KeptFormat, tuple[str, ...]] = {
    "yuv": ("-f", "rawvideo"),
    "ffv1": ("-c:v", "ffv1", "-level", "3", "-g", "1", "-slicecrc", "1", "-threads", "1"),
}

_FRAME_LOG = "frames.log"
_OTHER_SIZE = "decode failed: its frames are not of the size that its container declares"
# What the crop filter says of a size that cannot be; see where it is used.
_OTHER_SIZE_ERROR = "Invalid too big or non positive size"
_ADVICE = "the file is damaged or breaks off; with accept_damaged it is taken as far as it can be decoded"
_FRAME_LINE = re.compile(
    r"^frame:\d+\s+pts:\S+\s+pts_time:(?P<time>\S+)\nlavfi\.scd\.score=(?P<score>\S+)$", re.MULTILINE
)


def decode_reference(
    source: Path,
    found: Fingerprint,
    *,
    ffmpeg: FFmpeg,
    encoder: Encoder,
    runner: ToolRunner,
    limits: TimeLimits,
    rules: SourceRules,
    scratch: Path,
    keep: KeptFormat | None = None,
) -> Reference:
    """Probe and decode a source once, from its first frame to its last.

    Args:
        source: the uploaded file.
        found: its fingerprint.
        ffmpeg: the executable.
        encoder: decides the working format, together with libvmaf.
        runner: starts the programs.
        limits: how long the decode may take.
        rules: which files may be sources. Where they accept damage, a clip that does not decode without an error is
            decoded once more, with what the decoder makes of it.
        scratch: an empty folder of this call's own.
        keep: leave the frames, in the working format, as ``KEPT_FILES[keep]`` in the scratch folder; None writes no
            frame to disk.

    Raises:
        ClipUnusable: against the rules, not decodable from end to end, or without a frame.
        ToolFailed: a kill from outside, a change while it was read, or a full disk that the tool noticed.
        OSError: a full disk that it did not notice.
    """
    with _unless_replaced(source, found):
        probe = probe_source(source, runner, rules, found)
        working = working_format(probe, encoder, rules.min_side)
        stated = probe.rate if MIN_RATE <= probe.rate <= MAX_RATE else None
        decode = _Decode(
            source, found, probe, working, stated or _RATE_GUESS, ffmpeg, runner, limits, rules, scratch, keep
        )
        decoded = decode.run()
        rate = nominal_rate(stated, decoded.times)
        if not MIN_RATE <= rate <= MAX_RATE:
            shown = float(probe.rate or rate)
            raise ClipUnusable(f"its average frame rate, {shown:g}, is not within {MIN_RATE} to {MAX_RATE} per second")
        if keep and rate != decode.rate:
            decoded = replace(decode, rate=rate).run()
        probe = replace(probe, rate=rate)
        if not found.still_holds(source):
            raise ToolFailed(CHANGED)
        shots = shot_durations(decoded.scores, rate)
        shot_avg, shot_std = mean_and_std(shots)
        reference = Reference(
            fingerprint=found,
            probe=probe,
            working=working,
            frames=len(decoded.times),
            frames_md5=decoded.md5,
            variable_frame_rate=_is_variable(decoded.times, rate),
            shot_count=len(shots),
            shot_avg_duration_s=shot_avg,
            shot_duration_std_s=shot_std,
            decode_errors=decoded.errors,
        )
        if reference.duration_s > rules.max_duration_s:
            raise ClipUnusable(
                f"it lasts {reference.duration_s:g} s, more than the {rules.max_duration_s:g} that max_seconds allows"
            )
        return reference


@contextmanager
def _unless_replaced(source: Path, found: Fingerprint) -> Iterator[None]:
    """Do not blame a clip whose file went away, or is being written: it looks as broken as a broken one."""
    try:
        yield
    except ClipUnusable as error:
        if not found.holds_if_there(source):
            raise ToolFailed(CHANGED) from error
        raise


def nominal_rate(stated: Fraction | None, times: Sequence[float | None]) -> Fraction:
    """Return the nominal rate R of a clip, in frames per second: its average frame rate; 0 when nothing tells it.

    That is what the container states. Matroska and MPEG-TS state a guess, or nothing, where the frames come unevenly;
    then it is the average by the times of the frames, in thousandths.

    Args:
        stated: the average rate by the headers; None when they state none that is plausible.
        times: when each frame is shown, in seconds; None for one that does not say.
    """
    known = [time for time in times if time is not None]
    span = max(known) - min(known) if len(known) == len(times) > 1 else 0.0
    if not span:
        return stated or Fraction(0)
    measured = Fraction(round((len(times) - 1) / span * 1000), 1000)
    if stated is None:
        return measured
    duration, by_times = float(len(times) / stated), span * len(times) / (len(times) - 1)
    tolerance = _RATE_TOLERANCE * by_times + float(_RATE_SLACK_FRAMES / stated)
    plausible = MIN_RATE <= measured <= MAX_RATE
    return measured if plausible and abs(duration - by_times) > tolerance else stated


@dataclass(frozen=True)
class _Decoded:
    """What a decode found: the MD5 of all frames, their times and shot change scores, and ffmpeg's complaints."""

    md5: str
    times: tuple[float | None, ...]
    scores: tuple[float, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True)
class _Decode:
    """One decode from the first frame to the last."""

    source: Path
    found: Fingerprint
    probe: Probe
    working: WorkingFormat
    rate: Fraction
    ffmpeg: FFmpeg
    runner: ToolRunner
    limits: TimeLimits
    rules: SourceRules
    scratch: Path
    keep: KeptFormat | None

    def run(self) -> _Decoded:
        """Decode; a clip with errors only where the rules accept damage.

        Raises:
            ClipUnusable: not decodable, without a frame or with too many.
            ToolFailed: something else than the clip is at fault.
            OSError: a full disk.
        """
        errors: list[str] = []
        try:
            try:
                result = self._run(damaged=False)
            except ToolFailed as error:
                if error.blameless or error.timed_out or not self.rules.accept_damaged:
                    raise
                result = self._run(damaged=True)
                # Some of what ends a strict decode is no word of in one that goes on.
                errors = complaints(result) or [error.reason]
        except ToolFailed as error:
            if error.blameless or error.result is None:
                raise
            if _OTHER_SIZE_ERROR in error.reason:
                raise ClipUnusable(_OTHER_SIZE, error.detail) from error
            advice = "" if error.timed_out or self.rules.accept_damaged else f"; {_ADVICE}"
            raise ClipUnusable(f"{error.reason}{advice}", error.detail) from error
        log = read_frame_log(self.scratch / _FRAME_LOG)
        md5 = re.search(r"^MD5=([0-9a-f]{32})$", result.stdout, re.MULTILINE)
        allowed = self._frames_allowed
        if len(log) > allowed:
            # The log may have frames more than came out in the end.
            limit = "max_frames allows" if allowed == self.rules.max_frames else "max_gigapixels allows at its size"
            raise ClipUnusable(f"it has more frames than the {allowed} that {limit}")
        if progress_frames(result) != len(log):
            # The metadata filter says nothing of a log that it could not write.
            refuse_without_space(self.scratch)
            raise ToolFailed(f"decode failed: {progress_frames(result)} frames, but {len(log)} in the log", result)
        if not log or md5 is None:
            raise ClipUnusable("decode failed: it has no frame", result.stderr)
        times, scores = zip(*log, strict=True)
        return _Decoded(md5[1], times, scores, tuple(errors))

    @property
    def _frames_allowed(self) -> int:
        return self.rules.frames_allowed(self.probe.width, self.probe.height)

    def _run(self, *, damaged: bool) -> ToolResult:
        rules = self.rules
        # Headers lie about the number of frames; a wrong guess only makes the limit more or less generous.
        frames = min(float(self.rate) * (self.probe.stream_duration_s or DURATION_GUESS_S), self._frames_allowed)
        descriptor = open_source(self.source, rules, self.found)
        opened = source_args(descriptor, rules, damaged=damaged)
        return run_ffmpeg(
            self.ffmpeg,
            decode_args(opened, self.probe, self.working, self.rate, frames=self._frames_allowed, keep=self.keep),
            "decode",
            runner=self.runner,
            cwd=self.scratch,
            timeout_s=self.limits.timeout_s(self.probe.width, self.probe.height, frames),
            inherited=(descriptor,),
            tolerated=None if damaged else (),
        )


def decode_args(
    opened: Sequence[str],
    probe: Probe,
    working: WorkingFormat,
    rate: Fraction,
    *,
    frames: int,
    keep: KeptFormat | None = None,
) -> list[str]:
    """Return ffmpeg's arguments of a decode: the MD5 of all frames, and a log of their times and shot changes.

    Args:
        opened: the arguments that open the source.
        probe: what was probed of it.
        working: the working format.
        rate: frames per second that the frames are timed by.
        frames: how many the source may have.
        keep: leave the frames in a file, too.
    """
    # Times of the source's own may stand still or go back, which no muxer takes; the log has them from before.
    timing = index_timing(rate)
    # One frame more than allowed, to know that there are more.
    every = ("-fps_mode", "passthrough", *FILTERED_TIMES, "-frames:v", str(frames + 1))
    # VP8 and its container may differ in what they say of the size of the frames.
    coded = f"crop=w='if(eq(iw,{probe.width})*eq(ih,{probe.height}),iw,-1)':h=ih:exact=1"
    outputs = ["-map", "0:V:0", "-vf", f"{coded},{working.filters},{shot_filters(_FRAME_LOG)},{timing}", *every]
    outputs += ["-f", "md5", "-"]
    if keep:
        outputs += ["-map", "0:V:0", "-vf", f"{working.filters},{timing}", *every]
        outputs += [*_KEPT_ARGS[keep], KEPT_FILES[keep]]
    return ["-progress", "pipe:1", *opened, *outputs]


def shot_filters(frame_log: str) -> str:
    """Return the filters that write down time and shot change score of every frame.

    They come after the working format, so that no conversion can be inserted for their sake.
    """
    return f"scdet,metadata=mode=print:key=lavfi.scd.score:file={frame_log}"


def read_frame_log(path: Path) -> list[tuple[float | None, float]]:
    """Return time, in seconds, and shot change score of every frame that ``shot_filters`` wrote down.

    Nothing without a log; a frame that does not say when it is shown has no time.
    """
    lines = _FRAME_LINE.finditer(path.read_text() if path.exists() else "")
    return [(None if line["time"] == "NOPTS" else float(line["time"]), float(line["score"])) for line in lines]


def shot_durations(scores: Sequence[float], rate: Fraction) -> list[float]:
    """Split the frames into shots, each starting at a frame that scores as a change; durations in seconds."""
    # scdet scores the change of the change, so the second frame has nothing to be compared with.
    starts = [0, *(index for index, score in enumerate(scores) if index > 1 and score >= SHOT_CHANGE_SCORE)]
    ends = [*starts[1:], len(scores)]
    return [float((end - start) / rate) for start, end in zip(starts, ends, strict=True)]


def _is_variable(times: Sequence[float | None], rate: Fraction) -> bool:
    seconds = [time for time in times if time is not None]
    nominal = float(1 / rate)
    return len(seconds) < len(times) or any(
        abs(later - earlier - nominal) > nominal / 4 for earlier, later in itertools.pairwise(seconds)
    )
