"""One mutation on its way through the package, watched from outside."""

import contextlib
import os
import re
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from frnr_assets.media.decode import decode_reference
from frnr_assets.media.encode import encode_distortion
from frnr_assets.media.process import Cancelled, TimeLimits, ToolFailed, ToolRunner
from frnr_assets.media.sandbox import ProcessLimits
from frnr_assets.media.score import score_distortions
from frnr_assets.media.source import ClipUnusable, SourceRules, fingerprint
from frnr_assets.media.toolchain import Toolchain, ToolSettings, encode_settings, open_toolchain
from frnr_assets.media.vmaf import vmaf_settings
from fuzz.judge import Row, offences_of, plain_decode, second_opinion
from fuzz.mutations import Mutation

CRF = 28
# A clip takes a third of a second on an idle core. One that makes a tool hang is refused after the tool's limit.
TOOL_LIMIT_S, WALL_LIMIT_S = 15.0, 60.0
MEMORY_LIMIT_BYTES = 2 << 30
# Every so many mutations meet rules that accept damage.
_DAMAGE_ACCEPTED = 3
_SIGNAL = re.compile(r"ended by signal (\d+)|exit status: -(\d+)")


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation.

    Attributes:
        mutation: the mutation.
        rules: whether they accepted damage.
        stage: where it was refused; "row" for a row.
        refusal: name of the exception's class; empty for a row.
        reason: the refusal's, in one sentence; empty for a row.
        detail: command and log of the tool that refused.
        signal: what ended that tool, if a signal did.
        timed_out: whether a tool was stopped for its time limit.
        wall_s: seconds from start to end, the judge's left out.
        peak_bytes: the largest resident memory of any tool, if it was larger than ever before in this process.
        harsh: whether it was refused while a plain decode has frames and no complaint. That is no offence: a rule of
            the package may say so.
        offences: what the package did wrong, a sentence each.
    """

    mutation: Mutation
    rules: str
    stage: str = "row"
    refusal: str = ""
    reason: str = ""
    detail: str = ""
    signal: int | None = None
    timed_out: bool = False
    wall_s: float = 0.0
    peak_bytes: int = 0
    harsh: bool = False
    offences: tuple[str, ...] = ()


def open_tools(folder: Path) -> Toolchain:
    """Open the tools that every mutation goes through; sources may be in that folder only."""
    settings = ToolSettings(
        encode_settings("libx264", "ultrafast", (), (CRF,)),
        vmaf_settings(),
        limits=TimeLimits(base_s=TOOL_LIMIT_S),
        process=ProcessLimits(memory_bytes=MEMORY_LIMIT_BYTES),
        rules=SourceRules(roots=(folder.resolve(),)),
    )
    return open_toolchain(settings, ToolRunner(settings.process))


def try_mutation(mutation: Mutation, tools: Toolchain, folder: Path) -> Outcome:
    """Put a mutation through probe, decode, encode and score, and judge what comes out.

    Args:
        mutation: the mutation.
        tools: the tools.
        folder: an empty folder, which is empty again afterwards.
    """
    own = folder / "own"
    own.mkdir()
    source = own / mutation.clip
    source.write_bytes(mutation.data)
    accept_damaged = mutation.number % _DAMAGE_ACCEPTED == 0
    # Cancelling ends a runner for good.
    runner = ToolRunner(tools.runner.limits)
    tools = replace(tools, runner=runner, rules=replace(tools.rules, accept_damaged=accept_damaged))
    outcome = Outcome(mutation, "damage accepted" if accept_damaged else "no damage accepted")
    watch, stage, row = _Watch(folder, own, source), _Stage(), None
    alarm = threading.Timer(WALL_LIMIT_S, runner.cancel)
    alarm.start()
    try:
        row = make_row(source, tools, own, stage.enter)
    except (ClipUnusable, ToolFailed) as error:
        outcome = _refused(outcome, stage.name, error)
    except Cancelled:
        outcome = replace(outcome, stage=stage.name, offences=(f"it took longer than {WALL_LIMIT_S:g} s",))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is an offence
        name, offence = type(error).__name__, f"{type(error).__name__} is not a refusal: {error}"
        outcome = replace(outcome, stage=stage.name, refusal=name, reason=str(error), offences=(offence,))
    finally:
        alarm.cancel()
        alarm.join()
    outcome = watch.judge(outcome)
    judging = own / "judge"
    judging.mkdir()
    if row is not None:
        outcome = replace(outcome, offences=(*outcome.offences, *_judge(row, source, tools, judging)))
    else:
        outcome = replace(outcome, harsh=_is_faultless(source, tools, judging))
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return outcome


def make_row(source: Path, tools: Toolchain, folder: Path, enter: Callable[[str], None] = lambda _: None) -> Row:
    """Make the row of one cell.

    Args:
        source: the clip.
        tools: the tools.
        folder: where the scratch folders are made, one for each stage.
        enter: told the name of each stage as it begins.

    Raises:
        ClipUnusable: no row can be made from the clip.
        ToolFailed: a tool failed otherwise.
    """

    def scratch(name: str) -> Path:
        enter(name)
        (folder / name).mkdir()
        return folder / name

    enter("fingerprint")
    found = fingerprint(source, tools.rules)
    reference = decode_reference(
        source,
        found,
        ffmpeg=tools.ffmpeg,
        encoder=tools.settings.encoder,
        runner=tools.runner,
        limits=tools.limits,
        rules=tools.rules,
        scratch=scratch("decode"),
    )
    distortion = encode_distortion(
        source,
        reference,
        CRF,
        settings=tools.settings,
        ffmpeg=tools.ffmpeg,
        runner=tools.runner,
        limits=tools.limits,
        rules=tools.rules,
        scratch=scratch("encode"),
    )
    (score,) = score_distortions(
        source,
        reference,
        [distortion.path],
        vmaf=tools.vmaf,
        ffmpeg=tools.ffmpeg,
        runner=tools.runner,
        limits=tools.limits,
        rules=tools.rules,
        scratch=scratch("score"),
    )
    return Row(reference, distortion, score)


class _Stage:
    """Where a mutation has come to."""

    name = ""

    def enter(self, name: str) -> None:
        """Come to another stage."""
        self.name = name


def _refused(outcome: Outcome, stage: str, error: ClipUnusable | ToolFailed) -> Outcome:
    detail = error.tool_output if isinstance(error, ClipUnusable) else error.detail
    ended = _SIGNAL.search(f"{error.reason}\n{detail}")
    return replace(
        outcome,
        stage=stage,
        refusal=type(error).__name__,
        reason=error.reason,
        detail=detail,
        signal=int(ended[1] or ended[2]) if ended else None,
        timed_out="its time limit" in error.reason,
    )


def _judge(row: Row, source: Path, tools: Toolchain, folder: Path) -> list[str]:
    try:
        return offences_of(row, second_opinion(tools.ffmpeg.path, source, row, folder))
    except subprocess.CalledProcessError as error:
        return [f"a row, where a plain ffmpeg fails: {error.stderr.strip()[-300:]}"]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return [f"a row that cannot be judged: {error!r}"]


def _is_faultless(source: Path, tools: Toolchain, folder: Path) -> bool:
    try:
        frames, complaints = plain_decode(tools.ffmpeg.path, source, folder)
    except subprocess.SubprocessError:
        return False
    return frames > 0 and not complaints


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _is_worked_in(folder: Path) -> bool:
    """Tell whether another process than this one has its working folder in there."""
    for process in Path("/proc").glob("[0-9]*"):
        # Processes end, and those of others do not tell.
        with contextlib.suppress(OSError):
            if process.name != str(os.getpid()) and (process / "cwd").readlink().is_relative_to(folder):
                return True
    return False


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10


@dataclass
class _Watch:
    """What may not happen beside the work itself.

    Attributes:
        folder: the only folder that may be written to ...
        own: ... and the mutation's own inside it.
        source: the clip.
    """

    folder: Path
    own: Path
    source: Path
    _started: float = field(default_factory=time.monotonic)
    _descriptors: int = field(default_factory=_open_descriptors)
    _peak: int = field(default_factory=_peak_bytes)

    def judge(self, outcome: Outcome) -> Outcome:
        """Add time and memory to an outcome, and the offences against what may not happen."""
        wall_s, peak = time.monotonic() - self._started, _peak_bytes()
        peak = peak if peak > self._peak else 0
        found = self._offences(outcome.mutation, wall_s, peak)
        return replace(outcome, wall_s=wall_s, peak_bytes=peak, offences=(*outcome.offences, *found))

    def _offences(self, mutation: Mutation, wall_s: float, peak: int) -> Iterator[str]:
        if wall_s > WALL_LIMIT_S:
            yield f"it took {wall_s:.0f} s"
        if peak > MEMORY_LIMIT_BYTES:
            yield f"a tool used {peak >> 20} MiB"
        strays = {path.name for path in self.folder.iterdir()} - {self.own.name}
        strays |= {path.name for path in self.own.iterdir()} - {self.source.name, "decode", "encode", "score"}
        if strays:
            yield f"it left {', '.join(sorted(strays))} outside its scratch folders"
        if self.source.read_bytes() != mutation.data:
            yield "it changed the clip"
        if _open_descriptors() > self._descriptors:
            yield "it left a descriptor open"
        if _is_worked_in(self.folder.resolve()):
            yield "it left a process behind"
