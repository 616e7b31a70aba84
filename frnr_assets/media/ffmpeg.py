"""Finding ffmpeg, learning what it can do, and the arguments that every command shares."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from frnr_assets.media.probe import CONTAINERS
from frnr_assets.media.process import ToolError, ToolFailed, ToolResult, ToolRunner
from frnr_assets.media.vmaf import VmafModel

INSPECT_TIMEOUT_S = 60.0
VERSION_PATTERN = r"ffmpeg version (\S+)"
_INSPECT_PREFIX = "frnr-inspect-"

# "level+warning" puts the level in brackets on every line, which is how error lines are told from warnings.
GLOBAL_ARGS = ("-hide_banner", "-nostdin", "-nostats", "-y", "-v", "level+warning", "-xerror", "-filter_threads", "1")

# What comes before a file that is opened.
# -noautorotate: frames as coded. -apply_cropping codec: the size that the probe reports. -drop_changed: a stream that
# changes its size or format in the middle is noticed instead of rescaled. -err_detect explode: a damaged bitstream is
# an error instead of a guess. -format_whitelist: a playlist or a text under the name of a video opens nothing else and
# is not drawn as a picture. -threads 1: parallelism comes from cells.
INPUT_OPTIONS = (
    *("-threads", "1", "-noautorotate", "-apply_cropping", "codec", "-drop_changed", "1"),
    *("-err_detect", "explode", "-format_whitelist", ",".join(CONTAINERS)),
)

# x265 and SVT-AV1 write to standard error past ffmpeg, also what ffmpeg was told to leave out.
_LIBRARY = r"(?:x265 |Svt)"
# Only what stands before a message is looked at: the message may quote a file name.
_ERROR_LINE = re.compile(
    rf"^(?:(?:\[[^\[\]]* @ 0x[0-9a-f]+\] )*\[(?:error|fatal|panic)\] |{_LIBRARY}\[(?:error|fatal)\]: ?)"
)
# What stands before a message: the component with its address, and the level.
_PREFIX = re.compile(rf"^(?:(?:\[[^\]]*\]\s*)+|{_LIBRARY}\[[a-z]+\]:\s*)")
# With -drop_changed 1 ffmpeg drops what no longer has the size or format of the first frame and says so as a warning.
_CHANGED_LINE = re.compile(r"Avoiding reinit")


@dataclass(frozen=True)
class FFmpeg:
    """An ffmpeg executable and its version string, as it reports it."""

    path: Path
    version: str


def locate_ffmpeg(configured: str | None) -> Path:
    """Return the configured executable, or else the one inside the imageio-ffmpeg wheel.

    Raises:
        ToolError: what is configured is neither an executable file nor the name of one on PATH, or the wheel has none
            for this machine.
    """
    if configured is None:
        try:
            return Path(imageio_ffmpeg.get_ffmpeg_exe())
        except RuntimeError as error:
            raise ToolError("imageio-ffmpeg has no ffmpeg for this machine; set ffmpeg_path to one") from error
    found = shutil.which(configured)
    if found is None:
        named = Path(configured).absolute() if "/" in configured else configured
        raise ToolError(f"the configured ffmpeg, {named}, is not an executable file; correct or remove ffmpeg_path")
    return Path(found).absolute()


def inspect_ffmpeg(path: Path, runner: ToolRunner) -> FFmpeg:
    """Run ``ffmpeg -version``.

    Raises:
        ToolError: the file is not a working ffmpeg.
    """
    try:
        result = runner.run([str(path), "-version"], cwd=Path("/"), timeout_s=INSPECT_TIMEOUT_S)
    except ToolFailed as error:
        raise ToolError(f"{path} could not be run: {error.reason}") from error
    match = re.match(VERSION_PATTERN, result.stdout)
    if result.returncode != 0 or match is None:
        raise ToolError(f"{path} does not behave like ffmpeg: `{result.command}` did not print its version")
    return FFmpeg(path=path, version=match[1])


def require_encoder(ffmpeg: FFmpeg, encoder: str, version_pattern: str, runner: ToolRunner) -> str:
    """Encode one picture and return the encoder's version as its library reports it.

    Args:
        ffmpeg: the executable.
        encoder: ffmpeg's name of the encoder, such as ``libx264``.
        version_pattern: regular expression whose first group is the version, searched in ffmpeg's log.
        runner: starts the program.

    Raises:
        ToolError: this ffmpeg has no such encoder, or the encoder does not work.
    """
    args = ["-frames:v", "1", "-pix_fmt", "yuv420p", "-c:v", encoder, "-threads", "1", "probe.mp4"]
    with tempfile.TemporaryDirectory(prefix=_INSPECT_PREFIX) as folder:
        result = _try_filter(ffmpeg, runner, args, Path(folder))
    if "Unknown encoder" in result.stderr:
        raise ToolError(f"{ffmpeg.path} has no encoder {encoder}; use an ffmpeg built with it, or another encoder")
    match = re.search(version_pattern, result.stderr)
    if result.returncode != 0 or match is None:
        raise ToolError(f"the encoder {encoder} of {ffmpeg.path} does not work: {last_line(result.stderr)}")
    return match[1]


def require_vmaf_model(ffmpeg: FFmpeg, model: VmafModel, runner: ToolRunner) -> str:
    """Score one picture against itself, and return the version that libvmaf writes into its log.

    Raises:
        ToolError: this ffmpeg has no libvmaf filter, or libvmaf has no such model or cannot read it.
    """
    with tempfile.TemporaryDirectory(prefix=_INSPECT_PREFIX) as folder:
        options = f"model={model.argument(Path(folder))}:log_fmt=json:log_path=/dev/stdout"
        graph = f"split[a][b];[a][b]libvmaf={options}"
        result = _try_filter(ffmpeg, runner, ["-frames:v", "1", "-vf", graph, "-f", "null", "-"], Path(folder))
    if "No such filter: 'libvmaf'" in result.stderr:
        raise ToolError(f"{ffmpeg.path} has no libvmaf filter; use an ffmpeg built with --enable-libvmaf")
    if "could not load libvmaf model" in result.stderr:
        if model.path is not None:
            raise ToolError(f"vmaf_model: {model.path} is no model that the libvmaf inside {ffmpeg.path} can read")
        raise ToolError(f"the libvmaf inside {ffmpeg.path} has no model {model.name}; vmaf_v0.6.1 is the usual one")
    version = re.search(r'"version": "([^"]+)"', result.stdout)
    if result.returncode != 0 or version is None:
        raise ToolError(f"the libvmaf filter of {ffmpeg.path} does not work: {last_line(result.stderr)}")
    return version[1]


def input_args(source: Path) -> list[str]:
    """Arguments that open a file so that its frames come out as coded, or not at all."""
    return [*INPUT_OPTIONS, "-i", f"file:{source.absolute()}"]


def complaints(result: ToolResult) -> list[str]:
    """Return the messages in an ffmpeg log that make its output unusable, each once, without ffmpeg's prefixes.

    ffmpeg exits with status 0 after concealed damage, so the status alone does not tell.
    """
    lines = result.stderr.splitlines()
    messages = [_PREFIX.sub("", line).strip() for line in lines if _ERROR_LINE.search(line)]
    if any(_CHANGED_LINE.search(line) for line in lines):
        messages.append("the stream changes its frame size or pixel format in the middle")
    if not result.stderr_is_whole:
        messages.append("its log is too long to be read to its end")
    return list(dict.fromkeys(messages))


def run_ffmpeg(
    ffmpeg: FFmpeg,
    args: Sequence[str],
    what: str,
    *,
    runner: ToolRunner,
    cwd: Path,
    timeout_s: float,
    stdout: int | None = None,
) -> ToolResult:
    """Run ffmpeg and accept only a run with status 0 and no error in its log.

    Args:
        ffmpeg: the executable.
        args: everything after ``GLOBAL_ARGS``.
        what: the action, for the message: "decode", "encode at CRF 23".
        runner: starts the program.
        cwd: private working folder.
        timeout_s: wall-clock limit in seconds.
        stdout: where its standard output goes, see ``ToolRunner.run``.

    Raises:
        ToolFailed: anything else; the reason quotes the first error lines.
    """
    result = runner.run([str(ffmpeg.path), *GLOBAL_ARGS, *args], cwd=cwd, timeout_s=timeout_s, stdout=stdout)
    problems = complaints(result)
    if result.returncode < 0:
        raise ToolFailed(f"{what} failed: ffmpeg was ended by signal {-result.returncode}", result)
    if result.returncode != 0 or problems:
        raise ToolFailed(f"{what} failed: {'; '.join(problems[:2]) or last_line(result.stderr)}", result)
    return result


def progress_frames(result: ToolResult) -> int:
    """Return the frame count that ``-progress pipe:1`` reported last; 0 when it reported none."""
    counts = re.findall(r"^frame=(\d+)$", result.stdout, re.MULTILINE)
    return int(counts[-1]) if counts else 0


def last_line(stderr: str) -> str:
    """Return the last line of a log that is not empty."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed no reason"


def _try_filter(ffmpeg: FFmpeg, runner: ToolRunner, args: Sequence[str], folder: Path) -> ToolResult:
    source = ("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25")
    argv = [str(ffmpeg.path), "-hide_banner", "-nostdin", "-nostats", "-v", "level+info", *source, *args]
    return runner.run(argv, cwd=folder, timeout_s=INSPECT_TIMEOUT_S)
