"""Putting uploads through what the engine does with them, in a process of its own that knows what that cost."""

import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from frnr_assets.media.decode import decode_reference
from frnr_assets.media.encoders import LIBX264
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.process import TimeLimits, ToolRunner
from frnr_assets.media.source import ClipUnusable, SourceRules, fingerprint
from frnr_assets.media.toolchain import open_ffmpeg


@dataclass(frozen=True)
class Attempt:
    """What became of an upload.

    Attributes:
        refusal: why it is unusable; None for one that was decoded.
        frames: decoded frames.
        frames_md5: their MD5.
        cpu_s: CPU seconds of all programs.
        peak_bytes: the largest resident memory of any program in this process.
    """

    refusal: str | None
    frames: int
    frames_md5: str
    cpu_s: float
    peak_bytes: int


def attempt(source: Path, ffmpeg: FFmpeg, runner: ToolRunner, rules: SourceRules) -> Attempt:
    """Fingerprint and decode an upload. Only a clip that is unusable is expected to fail."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    refusal, frames, frames_md5 = None, 0, ""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = fingerprint(source, rules)
            reference = decode_reference(
                source,
                found,
                ffmpeg=ffmpeg,
                encoder=LIBX264,
                runner=runner,
                limits=TimeLimits(),
                rules=rules,
                scratch=Path(scratch),
            )
            frames, frames_md5 = reference.frames, reference.frames_md5
        except ClipUnusable as error:
            refusal = error.reason
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Attempt(refusal, frames, frames_md5, cpu_s, after.ru_maxrss << 10)


def attempt_alone(source: Path, ffmpeg: FFmpeg, runner: ToolRunner, rules: SourceRules) -> Attempt:
    """Do the same in a new process, so that the peak of memory is of this attempt alone."""
    # The server has everything imported, and a process forked from it has had no programs yet.
    context = get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(attempt, source, ffmpeg, runner, rules).result()


if __name__ == "__main__":
    runner = ToolRunner()
    ffmpeg = open_ffmpeg(None, runner)
    for name in sys.argv[1:]:
        attempt(Path(name), ffmpeg, runner, SourceRules())
