"""The two programs that run libvmaf: ffmpeg with its filter, and Netflix's ``vmaf`` executable fed through pipes."""

import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from frnr_assets.media.ffmpeg import INSPECT_TIMEOUT_S, FFmpeg, distortion_args, last_line, run_ffmpeg, source_args
from frnr_assets.media.process import TimeLimits, ToolError, ToolFailed, ToolResult, ToolRunner, refuse_without_space
from frnr_assets.media.reference import (
    FILTERED_TIMES,
    Excerpt,
    Reference,
    WorkingFormat,
    identity_args,
    index_timing,
    refuse_other_frames,
)
from frnr_assets.media.source import SourceRules, open_source
from frnr_assets.media.vmaf import CANONICAL6_EXTRACTORS, VmafModel, VmafSettings, VmafTool, is_option
from frnr_assets.vocabulary import EXTRA_FEATURES

# Encodes do not always say of range and colours what their source says: VP9 has no word for some matrices, and raw
# frames have none at all. ffmpeg would convert such a difference away on one leg, and it would be scored.
_UNCOLORED = "setparams=color_primaries=unknown:color_trc=unknown:colorspace=unknown"
_UNMARKED = f"{_UNCOLORED}:range=unspecified"
_ADVICE = "install Netflix's vmaf or set vmaf_path, or use vmaf_backend libvmaf"
# Disables AVX2 and AVX-512; what is left agrees with libvmaf's portable code.
_PORTABLE = ("--cpumask", "24")
# Widths for which libvmaf 3.2.0 is wrong with AVX2, with AVX-512, or with both.
_NOISE_WIDTHS, _NOISE_HEIGHT = (136, 200, 332, 340), 72
# The last digit of libvmaf's logs.
_ROUNDING = 1.5e-6

# Resident memory of a score with the filter: one part for the decoders of the reference, one for each distortion and
# its libvmaf. Measured at 540p, 1080p and 2160p; `make bench` prints it.
_BASE_BYTES, _FRAMES, _FRAMES_PER_CELL = 60 << 20, 14, 54
# With the executable distortions are scored one after the other, by three programs.
_TOOL_BASE_BYTES, _TOOL_FRAMES = 120 << 20, 68


@dataclass(frozen=True)
class Pairs:
    """Distortions to be scored against their reference.

    Attributes:
        source: the uploaded file.
        reference: its facts.
        part: the frames of it that were encoded.
        distortions: the encodes.
        rules: which files may be sources.
    """

    source: Path
    reference: Reference
    part: Excerpt
    distortions: tuple[Path, ...]
    rules: SourceRules

    @property
    def reference_leg(self) -> str:
        """The filters that lead from the source to the frames that are scored."""
        return f"{self.part.filters}{self.reference.working.filters},{self._ending}"

    @property
    def distortion_leg(self) -> str:
        """The filters that lead from an encode to the frames that are scored; it is in the working format already."""
        kept = "full" if self.reference.probe.color_range == "pc" else "limited"
        same = f"scale=in_range={kept}:out_range={kept},format={self.reference.working.pix_fmt}"
        return f"{_UNCOLORED},{same},{self._ending}"

    @property
    def _ending(self) -> str:
        return f"{_UNMARKED},{index_timing(self.reference.probe.rate)}"

    def open_source(self) -> tuple[int, list[str]]:
        """Open the source; return its descriptor, and the arguments with which ffmpeg reads from it.

        Raises:
            ClipUnusable: it is against the rules.
            ToolFailed: it is not the file that was decoded.
        """
        descriptor = open_source(self.source, self.rules, self.reference.fingerprint)
        return descriptor, source_args(descriptor, self.rules, damaged=bool(self.reference.decode_errors))

    def timeout_s(self, limits: TimeLimits, cells: int) -> float:
        """Return how long scoring that many of them may take, in seconds."""
        working = self.reference.working
        return limits.timeout_s(working.width, working.height, self.part.frames * cells)


def log_name(index: int) -> str:
    """Return the name of the log of a distortion."""
    return f"{index}.json"


def score_with_filter(
    pairs: Pairs, *, vmaf: VmafSettings, ffmpeg: FFmpeg, runner: ToolRunner, limits: TimeLimits, scratch: Path
) -> list[tuple[ToolResult, float]]:
    """Score all pairs in one ffmpeg, which decodes the reference once; return its run and each pair's share, in s.

    Raises:
        ClipUnusable: the source is against the rules.
        ToolFailed: the run failed.
    """
    working, count = pairs.reference.working, len(pairs.distortions)
    model = vmaf.models.of(working.height).argument(scratch)
    descriptor, from_source = pairs.open_source()
    args = filter_args(pairs, from_source, vmaf, model)
    result = run_ffmpeg(
        ffmpeg,
        args,
        "score",
        runner=runner,
        cwd=scratch,
        timeout_s=pairs.timeout_s(limits, count),
        memory_bytes=runner.limits.memory_for(score_memory_bytes(working.frame_bytes, count, vmaf)),
        inherited=(descriptor,),
        tolerated=pairs.reference.decode_errors,
    )
    refuse_other_frames(pairs.reference, scratch, result)
    return [(result, result.wall_s / count)] * count


def filter_args(pairs: Pairs, opened: Sequence[str], vmaf: VmafSettings, model: str) -> list[str]:
    """Return ffmpeg's arguments for scoring all pairs.

    Args:
        pairs: the distortions and their reference.
        opened: the arguments that open the source.
        vmaf: the features that are computed beside the model.
        model: libvmaf's model argument.
    """
    working, count = pairs.reference.working, len(pairs.distortions)
    features = "|".join(f"name={name}" for name in vmaf.extractors(working.width, working.height))
    graph = [f"[{count}:V:0]{pairs.reference_leg},split={count}" + "".join(f"[r{i}]" for i in range(count))]
    for i in range(count):
        graph.append(f"[{i}:V:0]{pairs.distortion_leg}[d{i}]")
        options = f"model={model}:feature={features}:log_fmt=json:log_path={log_name(i)}"
        graph.append(f"[d{i}][r{i}]libvmaf={options}[o{i}]")
    inputs = [*(arg for path in pairs.distortions for arg in distortion_args(path)), *opened]
    outputs = [arg for i in range(count) for arg in ("-map", f"[o{i}]", "-f", "null", "-")]
    outputs += identity_args(pairs.reference, f"{count}:V:0")
    return ["-filter_complex_threads", "1", *inputs, "-filter_complex", ";".join(graph), *outputs]


def score_with_tool(
    pairs: Pairs, *, vmaf: VmafSettings, ffmpeg: FFmpeg, runner: ToolRunner, limits: TimeLimits, scratch: Path
) -> list[tuple[ToolResult, float]]:
    """Score one pair after the other with the executable; return each pair's run and wall-clock seconds.

    Two ffmpegs decode the legs into pipes, so that no raw frame is written to disk.

    Raises:
        ClipUnusable: the source is against the rules.
        ToolFailed: a run failed.
    """
    if vmaf.tool is None:
        raise ValueError("no executable is configured")
    working = pairs.reference.working
    timeout_s = pairs.timeout_s(limits, 1)
    memory_bytes = runner.limits.memory_for(score_memory_bytes(working.frame_bytes, 1, vmaf))
    model = vmaf.models.of(working.height).argument(scratch)
    results = []
    for index, distortion in enumerate(pairs.distortions):
        # Before the pipes: it may be refused.
        source_fd, from_source = pairs.open_source()
        pipes = [os.pipe() for _ in range(2)]
        (reference_fd, distortion_fd) = (read for read, _ in pipes)
        command = build_vmaf_command(
            vmaf.tool,
            f"/dev/fd/{reference_fd}",
            f"/dev/fd/{distortion_fd}",
            working,
            model=model,
            extractors=vmaf.extractors(working.width, working.height),
            log=log_name(index),
        )
        legs = (
            _Leg(
                from_source,
                pairs.reference_leg,
                scratch / f"{index}.reference.progress",
                (source_fd,),
                pairs.reference,
            ),
            _Leg(distortion_args(distortion), pairs.distortion_leg, scratch / f"{index}.distortion.progress"),
        )
        size_bytes = pairs.part.frames * working.frame_bytes
        with ThreadPoolExecutor(len(legs)) as feeders:
            feeding = [
                feeders.submit(leg.feed, write, size_bytes, ffmpeg=ffmpeg, runner=runner, timeout_s=timeout_s)
                for leg, (_, write) in zip(legs, pipes, strict=True)
            ]
            result = runner.run(
                command,
                cwd=scratch,
                timeout_s=timeout_s,
                memory_bytes=memory_bytes,
                inherited=(reference_fd, distortion_fd),
            )
        _refuse_failure(result, feeding)
        results.append((result, result.wall_s))
    return results


@dataclass(frozen=True)
class _Leg:
    """One of the two videos that the executable compares.

    Attributes:
        opened: the arguments that open the file.
        filters: what leads to the frames that are scored.
        progress: where ffmpeg writes how far it is.
        inherited: descriptors that ffmpeg gets.
        reference: what its frames must be, and what ffmpeg may complain of; None for an encode.
    """

    opened: Sequence[str]
    filters: str
    progress: Path
    inherited: tuple[int, ...] = ()
    reference: Reference | None = None

    def feed(self, pipe: int, size_bytes: int, *, ffmpeg: FFmpeg, runner: ToolRunner, timeout_s: float) -> None:
        """Decode into a pipe, and insist on the number of bytes: raw frames have no other mark of their size."""
        video = (
            "-map",
            "0:V:0",
            "-vf",
            self.filters,
            "-fps_mode",
            "passthrough",
            *FILTERED_TIMES,
            "-f",
            "rawvideo",
            "pipe:1",
        )
        identity = identity_args(self.reference) if self.reference else []
        args = [*self.opened, "-progress", self.progress.name, *video, *identity]
        what = "decode for the score"
        folder = self.progress.parent
        result = run_ffmpeg(
            ffmpeg,
            args,
            what,
            runner=runner,
            cwd=folder,
            timeout_s=timeout_s,
            stdout=pipe,
            inherited=self.inherited,
            tolerated=self.reference.decode_errors if self.reference else (),
        )
        if self.reference:
            refuse_other_frames(self.reference, folder, result)
        sizes = re.findall(r"^total_size=(\d+)$", self.progress.read_text(), re.MULTILINE)
        found = int(sizes[-1]) if sizes else 0
        if found != size_bytes:
            refuse_without_space(folder)
            raise ToolFailed(f"{what} failed: {found} bytes of raw frames came out, not {size_bytes}", result)


def _refuse_failure(result: ToolResult, feeding: Sequence[Future[None]]) -> None:
    """Refuse a score of which some program failed, for the reason of the one that failed first."""
    failures = [failure for future in feeding if (failure := future.exception())]
    for failure in failures:
        # A decode whose reader is gone fails because of the reader.
        if not (isinstance(failure, ToolFailed) and "Broken pipe" in failure.detail):
            raise failure
    if result.returncode < 0:
        raise ToolFailed(f"score failed: vmaf was ended by signal {-result.returncode}", result)
    if result.returncode != 0:
        raise ToolFailed(f"score failed: {last_line(result.stderr)}", result)
    if failures:
        raise ToolFailed("score failed: vmaf stopped before the last frame", result)


def build_vmaf_command(
    tool: VmafTool,
    reference: str,
    distortion: str,
    working: WorkingFormat,
    *,
    model: str,
    extractors: Sequence[str],
    log: str,
) -> list[str]:
    """Return the command that scores raw frames with the executable.

    Args:
        tool: the executable.
        reference: path of the reference's raw frames.
        distortion: path of the distortion's raw frames.
        working: their size and format.
        model: ``version=...`` or ``path=...``; a colon would end the path.
        extractors: libvmaf's names of what is computed beside the model.
        log: path of the JSON log that it writes.
    """
    return [
        *(tool.path, "--reference", reference, "--distorted", distortion),
        *("--width", str(working.width), "--height", str(working.height)),
        *("--pixel_format", working.chroma, "--bitdepth", str(working.bit_depth), "--model", model),
        *(arg for name in extractors for arg in ("--feature", name)),
        *("--json", "--output", log, "--quiet", *tool.args, *(_PORTABLE if tool.portable else ())),
    ]


def open_tool(tool: VmafTool, models: Sequence[VmafModel], runner: ToolRunner) -> tuple[VmafTool, str]:
    """Try the executable; return it as it has to be run, and the version of its libvmaf.

    The vmaf of libvmaf 3.2.0 computes ADM wrongly with AVX2 and AVX-512, by up to 8 VMAF points, for about a third of
    all frame widths. So it is compared with its own portable code, and has to use that where they differ. Arguments
    that choose the code (``--cpumask``, ``--backend``) are left alone.

    Raises:
        ToolError: there is no such executable, it does not work, or it has no such model.
    """
    found = shutil.which(tool.path)
    if found is None:
        raise ToolError(f"{tool.path} is not an executable file; {_ADVICE}")
    tool = replace(tool, path=str(Path(found).absolute()))
    for model in models:
        log = _score_noise(tool, model, _NOISE_WIDTHS[0], runner)
    version = str(log["version"])
    chosen = any(is_option(arg, ("cpumask", "backend")) for arg in tool.args)
    portable = replace(tool, portable=True)
    for width in () if chosen else _NOISE_WIDTHS:
        runs = [_score_noise(each, models[0], width, runner)["frames"] for each in (tool, portable)]
        if not _agree(*([frame["metrics"] for frame in frames] for frames in runs)):
            return portable, version
    return tool, version


def _agree(found: Sequence[Mapping[str, float]], expected: Sequence[Mapping[str, float]]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(abs(one[name] - other[name]) <= _ROUNDING for one, other in pairs for name in one.keys() & other.keys())


def _score_noise(tool: VmafTool, model: VmafModel, width: int, runner: ToolRunner) -> dict[str, Any]:
    """Score noise against other noise of that width, and return the log."""
    working = WorkingFormat(width, _NOISE_HEIGHT, "yuv420p", "")
    noise = random.Random(width)  # noqa: S311 - a picture, the same every time
    with tempfile.TemporaryDirectory(prefix="frnr-inspect-") as name:
        folder = Path(name)
        for leg in ("reference.yuv", "distortion.yuv"):
            (folder / leg).write_bytes(noise.randbytes(2 * working.frame_bytes))
        command = build_vmaf_command(
            tool,
            "reference.yuv",
            "distortion.yuv",
            working,
            model=model.argument(folder),
            extractors=CANONICAL6_EXTRACTORS,
            log=log_name(0),
        )
        try:
            result = runner.run(command, cwd=folder, timeout_s=INSPECT_TIMEOUT_S)
        except ToolError as error:
            raise ToolError(f"{error}; {_ADVICE}") from error
        if "unrecognized option" in result.stderr:
            raise ToolError(f"vmaf_args: {result.stderr.splitlines()[0]}")
        if "loading model" in result.stderr:
            raise ToolError(f"{tool.path} has no model {model.name}, or cannot read it: {last_line(result.stderr)}")
        try:
            log: dict[str, Any] = json.loads((folder / log_name(0)).read_text())
            if result.returncode == 0 and "version" in log and log["frames"]:
                return log
        except (OSError, ValueError, KeyError):
            pass
    raise ToolError(f"{tool.path} does not work as vmaf: `{result.command}`: {last_line(result.stderr)}; {_ADVICE}")


def score_memory_bytes(frame_bytes: int, cells: int, vmaf: VmafSettings) -> int:
    """Estimate the peak resident memory of scoring that many distortions together."""
    extra_frames = sum(EXTRA_FEATURES[name].memory_frames for name in vmaf.extra_features)
    if vmaf.tool is not None:
        return _TOOL_BASE_BYTES + (_TOOL_FRAMES + extra_frames) * frame_bytes
    return _BASE_BYTES + (_FRAMES + (_FRAMES_PER_CELL + extra_frames) * cells) * frame_bytes
