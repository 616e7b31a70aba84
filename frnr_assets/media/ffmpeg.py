"""Finding ffmpeg, learning what it can do, and the arguments that every command shares."""

import re
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from frnr_assets.media.process import ToolError, ToolFailed, ToolResult, ToolRunner
from frnr_assets.media.source import CODECS, SMALLEST_SIDE, SourceRules
from frnr_assets.media.vmaf import VmafModel

INSPECT_TIMEOUT_S = 60.0
VERSION_PATTERN = r"ffmpeg version (\S+)"
_INSPECT_PREFIX = "frnr-inspect-"

# "level+warning" puts the level in brackets on every line, which is how error lines are told from warnings.
GLOBAL_ARGS = ("-hide_banner", "-nostdin", "-nostats", "-y", "-v", "level+warning", "-xerror", "-filter_threads", "1")
# Those with which ffmpeg goes on after an error.
_TOLERANT_ARGS = tuple(arg for arg in GLOBAL_ARGS if arg != "-xerror")

# What this package makes itself: encodes, and references without loss.
OWN_FILES = SourceRules(
    containers=("mov", "matroska"), codecs=(*CODECS, "ffv1"), max_pixels=2**31 - 1, min_side=SMALLEST_SIDE
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
# A decoder that may not be opened, of a stream that nobody asked for. Without that of the video ffmpeg fails.
_NOT_OPENED_LINE = re.compile(r"\[error\] Codec \(\S+\) not on whitelist '")

# Warnings of demuxers that leave out what they cannot make sense of.
_LEFT_OUT_LINE = re.compile(
    r"\[warning\] (?:STSC entry \d+ is invalid|Packet corrupt|corrupt (?:input packet|decoded frame))"
)

FORMAT_CHANGES = "the stream changes its frame size, pixel format or colours in the middle"
LOG_TOO_LONG = "its log is too long to be read to its end"


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
        result = runner.run([str(path), "-version"], timeout_s=INSPECT_TIMEOUT_S)
    except ToolError as error:
        raise ToolError(f"{path} could not be run: {error}") from error
    match = re.match(VERSION_PATTERN, result.stdout)
    if result.returncode != 0 or match is None:
        raise ToolError(
            f"{path} does not behave like ffmpeg: `{result.command}` did not print its version; correct or remove "
            "ffmpeg_path"
        )
    return FFmpeg(path=path, version=match[1])


def require_encoder(
    ffmpeg: FFmpeg, encoder: str, version_pattern: str, runner: ToolRunner, extra_params: Sequence[str] = ()
) -> str:
    """Encode one picture and return the encoder's version as its library reports it.

    Args:
        ffmpeg: the executable.
        encoder: ffmpeg's name of the encoder, such as ``libx264``.
        version_pattern: regular expression whose first group is the version, searched in ffmpeg's log.
        runner: starts the program.
        extra_params: further arguments of the encoder.

    Raises:
        ToolError: this ffmpeg has no such encoder, or the encoder does not work, or not with these arguments.
    """
    args = ["-frames:v", "1", "-pix_fmt", "yuv420p", "-c:v", encoder, "-threads", "1", *extra_params, "probe.mp4"]
    with tempfile.TemporaryDirectory(prefix=_INSPECT_PREFIX) as folder:
        result = _try_filter(ffmpeg, runner, args, Path(folder))
    if "Unknown encoder" in result.stderr:
        raise ToolError(f"{ffmpeg.path} has no encoder {encoder}; use an ffmpeg built with it, or another encoder")
    match = re.search(version_pattern, result.stderr)
    if result.returncode != 0 or match is None:
        problem = "; ".join(complaints(result)[:2]) or last_line(result.stderr)
        given = f" with extra_params {' '.join(extra_params)}" if extra_params else ""
        raise ToolError(f"the encoder {encoder} of {ffmpeg.path} does not work{given}: {problem}")
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


def input_options(rules: SourceRules, *, damaged: bool = False) -> list[str]:
    """Return the options before a file that is opened, with which its frames come out as coded, or not at all.

    Args:
        rules: which files may be sources.
        damaged: whether the decoder may make something up where the bitstream is damaged.
    """
    return [
        # Parallelism comes from cells.
        *("-threads", "1"),
        # Frames as coded, in the size that the probe reports.
        *("-noautorotate", "-apply_cropping", "codec"),
        # A stream that changes its size or format in the middle is noticed instead of rescaled.
        *("-drop_changed", "1"),
        # A damaged bitstream is an error instead of a guess.
        *(() if damaged else ("-err_detect", "explode")),
        # A playlist under the name of a video opens nothing else, and a text is not drawn as a picture.
        *("-format_whitelist", ",".join(rules.demuxers), "-codec_whitelist", ",".join(rules.decoders)),
        *("-max_pixels", str(rules.max_pixels)),
    ]


def source_args(descriptor: int, rules: SourceRules, *, damaged: bool = False) -> list[str]:
    """Return the arguments that open a source, which comes as a descriptor; see ``open_source``."""
    options = input_options(rules, damaged=damaged)
    return [*options, "-protocol_whitelist", "fd", "-fd", str(descriptor), "-i", "fd:"]


def distortion_args(path: Path) -> list[str]:
    """Return the arguments that open an encode of this package's own."""
    return [*input_options(OWN_FILES), "-protocol_whitelist", "file", "-i", f"file:{path.absolute()}"]


def complaints(result: ToolResult) -> list[str]:
    """Return the messages in an ffmpeg log that make its output unusable, each once, without ffmpeg's prefixes.

    ffmpeg exits with status 0 after concealed damage, so the status alone does not tell.
    """
    lines = result.stderr.splitlines()
    errors = (
        line
        for line in lines
        if (_ERROR_LINE.search(line) and not _NOT_OPENED_LINE.search(line)) or _LEFT_OUT_LINE.search(line)
    )
    messages = [_PREFIX.sub("", line).strip() for line in errors]
    if any(_CHANGED_LINE.search(line) for line in lines):
        messages.append(FORMAT_CHANGES)
    if not result.stderr_is_whole:
        messages.append(LOG_TOO_LONG)
    return list(dict.fromkeys(messages))


def run_ffmpeg(
    ffmpeg: FFmpeg,
    args: Sequence[str],
    what: str,
    *,
    runner: ToolRunner,
    cwd: Path,
    timeout_s: float,
    memory_bytes: int | None = None,
    stdout: int | None = None,
    inherited: Sequence[int] = (),
    tolerated: Collection[str] | None = (),
) -> ToolResult:
    """Run ffmpeg and accept only a run with status 0 and no error in its log.

    Args:
        ffmpeg: the executable.
        args: everything after the global arguments.
        what: the action, for the message: "decode", "encode at CRF 23".
        runner: starts the program.
        cwd: private working folder.
        timeout_s: wall-clock limit in seconds.
        memory_bytes: limit of its address space, see ``ToolRunner.run``.
        stdout: where its standard output goes, see ``ToolRunner.run``.
        inherited: descriptors that it gets, see ``ToolRunner.run``.
        tolerated: complaints that are accepted; None for all that a damaged bitstream may give rise to.

    Raises:
        ToolFailed: anything else; the reason quotes the first error lines.
    """
    global_args = _TOLERANT_ARGS if tolerated is None or tolerated else GLOBAL_ARGS
    result = runner.run(
        [str(ffmpeg.path), *global_args, *args],
        cwd=cwd,
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
        stdout=stdout,
        inherited=inherited,
    )
    problems = [complaint for complaint in complaints(result) if not _is_tolerated(complaint, tolerated)]
    if result.returncode < 0:
        raise ToolFailed(f"{what} failed: ffmpeg was ended by signal {-result.returncode}", result)
    if result.returncode != 0 or problems:
        raise ToolFailed(f"{what} failed: {'; '.join(problems[:2]) or last_line(result.stderr)}", result)
    return result


def _is_tolerated(complaint: str, tolerated: Collection[str] | None) -> bool:
    return complaint not in {FORMAT_CHANGES, LOG_TOO_LONG} if tolerated is None else complaint in tolerated


def progress_frames(result: ToolResult) -> int:
    """Return the frame count that ``-progress pipe:1`` reported last; 0 when it reported none."""
    counts = re.findall(r"^frame=(\d+)$", result.stdout, re.MULTILINE)
    return int(counts[-1]) if counts else 0


def last_line(stderr: str) -> str:
    """Return the last line of a log that is not empty, without ffmpeg's prefixes."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return _PREFIX.sub("", lines[-1]) if lines else "it printed no reason"


def _try_filter(ffmpeg: FFmpeg, runner: ToolRunner, args: Sequence[str], folder: Path) -> ToolResult:
    source = ("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25")
    argv = [str(ffmpeg.path), "-hide_banner", "-nostdin", "-nostats", "-v", "level+info", *source, *args]
    return runner.run(argv, cwd=folder, timeout_s=INSPECT_TIMEOUT_S)
