"""The one place where another program is started."""

import contextlib
import errno
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from frnr_assets.media.sandbox import COMPLAINTS, ProcessLimits, environment, wrapper
from frnr_assets.words import harmless_lines

STDOUT_LIMIT_BYTES = 1 << 20
STDERR_LIMIT_BYTES = 64 << 10
# How the dynamic loader ends a program, before any code of the program's own.
_LOADER_STATUS, _LIBRARY_IS_MISSING = 127, "error while loading shared libraries"


@dataclass(frozen=True)
class ToolResult:
    """What a program did.

    Attributes:
        argv: the command as it would be typed, without the wrapper this package puts around it.
        returncode: exit status; negative for the signal that ended it.
        stdout: standard output, at most ``STDOUT_LIMIT_BYTES`` from its start.
        stderr: standard error, at most ``STDERR_LIMIT_BYTES`` from its end.
        wall_s: seconds from start to exit.
        cpu_s: user and system seconds of the process.
        stderr_is_whole: whether nothing of standard error was dropped.
        files: the files that it was given as descriptors: number and path of each.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    wall_s: float
    cpu_s: float
    stderr_is_whole: bool = True
    files: tuple[tuple[int, str], ...] = ()

    @property
    def command(self) -> str:
        """The command, quoted so that it can be pasted into a shell."""
        opened = (f"{number}<{shlex.quote(path)}" for number, path in self.files)
        return " ".join([shlex.join(self.argv), *opened])


@dataclass(frozen=True)
class TimeLimits:
    """How long a program may take, in wall-clock and in CPU seconds.

    Attributes:
        base_s: seconds that any program gets.
        per_megapixel_s: seconds more for each million pixels (width x height x frames) that it works on.
    """

    base_s: float = 120.0
    per_megapixel_s: float = 2.0

    def timeout_s(self, width: int, height: int, frames: float) -> float:
        """Return the limit in seconds for that many frames."""
        return self.base_s + self.per_megapixel_s * width * height * frames / 1e6


# Signals that come from outside, and the status with which ffmpeg ends when it catches one of them.
_KILLED = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, 255})
# With less than this left, a tool's output that is cut short was cut short by the disk.
_LITTLE_SPACE_BYTES = 1 << 20


def disk_full(path: Path) -> OSError:
    """Return the error that says that the disk is full, wherever that was noticed."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def refuse_without_space(folder: Path) -> None:
    """Find out whether a full disk is why a tool's output is cut short: not every tool notices.

    Raises:
        OSError: there is next to no space left where the folder is.
    """
    if shutil.disk_usage(folder).free < _LITTLE_SPACE_BYTES:
        raise disk_full(folder)


class ToolError(RuntimeError):
    """A program could not be used; the message is one sentence for the person who configured it."""


class ToolFailed(ToolError):  # noqa: N818 - the name says what happened
    """A program ran and did not do what was asked.

    Attributes:
        reason: one sentence.
        result: the run; None when it is the file that was to be read, not a program, that failed.
        timed_out: whether it was stopped for its time limit.
    """

    def __init__(self, reason: str, result: ToolResult | None = None, *, timed_out: bool = False):
        super().__init__(reason)
        self.reason = reason
        self.result = result
        self.timed_out = timed_out

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return partial(type(self), self.reason, self.result, timed_out=self.timed_out), ()

    @property
    def disk_full(self) -> bool:
        """Whether the program complained about a full disk."""
        return self.result is not None and os.strerror(errno.ENOSPC) in self.result.stderr

    @property
    def tool_ran(self) -> bool:
        """Whether a program ran on what it was given and failed, rather than something around it."""
        return self.result is not None and not self.disk_full

    @property
    def blameless(self) -> bool:
        """Whether something else than the program's input is at fault: a full disk, or a kill from outside."""
        killed = self.result is not None and self.result.returncode in _KILLED and not self.timed_out
        return self.disk_full or killed

    @property
    def detail(self) -> str:
        """Reason, command ready to paste, exit status and the tail of standard error."""
        if self.result is None:
            return self.reason
        tail = "\n".join(self.result.stderr.splitlines()[-20:])
        return f"{self.reason}\ncommand: {self.result.command}\nexit status: {self.result.returncode}\n{tail}"


class Cancelled(RuntimeError):  # noqa: N818 - not a failure of anything
    """The work was called off before this program could finish."""


class ToolRunner:
    """Starts programs such that none of them outlives this process, or does more than work on what it was given.

    Each program is the leader of its own session, gets SIGKILL when the thread that started it dies
    (``setpriv --pdeathsig``: ``preexec_fn`` is not safe in a process with threads; in the first milliseconds, before
    setpriv has run, only its time limits bound it), reads nothing from standard input, sees an environment of two
    variables, writes no core dump, has its memory, time, files and descriptors limited and, where the kernel allows
    that, no network. ``cancel`` ends all of them and refuses new ones. Copies made by pickling start with no programs
    of their own.

    Args:
        limits: what each of them may use at most.
    """

    def __init__(self, limits: ProcessLimits | None = None) -> None:
        self.limits = limits or ProcessLimits()
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._cancelled = False
        missing = [name for name in ("setpriv", "prlimit") if shutil.which(name) is None]
        if missing:
            raise ToolError(f"{missing[0]} was not found on PATH; it belongs to the package util-linux, install that")

    def __reduce__(self) -> tuple[type["ToolRunner"], tuple[ProcessLimits]]:
        return type(self), (self.limits,)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        cwd: Path | None = None,
        memory_bytes: int | None = None,
        stdout: int | None = None,
        inherited: Sequence[int] = (),
    ) -> ToolResult:
        """Run one program to its end.

        Args:
            argv: program and arguments; the program is an absolute path or found on PATH.
            timeout_s: seconds after which the program gets SIGKILL: wall-clock seconds with all its children, CPU
                seconds of each process on its own.
            cwd: working folder; relative paths in ``argv`` are relative to it. None for an empty one that is deleted
                afterwards.
            memory_bytes: limit of its address space; None for the one of any program.
            stdout: a descriptor that becomes the program's standard output, which is then not in the result.
            inherited: descriptors that the program can open as ``/dev/fd/N``. These and ``stdout`` belong to the
                program from this call on: they are closed here, also when it cannot be started, so that whoever
                holds the other end of a pipe learns of the program's end.

        Raises:
            ToolError: the program or one of its libraries is missing, or the wrapper around it does not work.
            ToolFailed: it took longer than ``timeout_s``. An exit status other than 0 is the caller's to judge.
            Cancelled: ``cancel`` was called.
        """
        started = time.monotonic()
        with contextlib.ExitStack() as folders:
            with contextlib.ExitStack() as descriptors:
                for descriptor in (*inherited, *(() if stdout is None else (stdout,))):
                    descriptors.callback(os.close, descriptor)
                folder = cwd or Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="frnr-tool-")))
                memory_bytes = self.limits.memory_bytes if memory_bytes is None else memory_bytes
                prefix = wrapper(self.limits, cpu_s=timeout_s, memory_bytes=memory_bytes)
                files = _files(inherited)
                process = self._start(argv, prefix, folder, stdout, inherited)
            return self._finish(argv, files, process, started, timeout_s)

    def _finish(
        self,
        argv: Sequence[str],
        files: tuple[tuple[int, str], ...],
        process: subprocess.Popen[bytes],
        started: float,
        timeout_s: float,
    ) -> ToolResult:
        timed_out = False
        try:
            said, stderr, timed_out = _drain(process, started + timeout_s)
        except BaseException:
            _kill(process.pid)
            raise
        finally:
            with self._lock:
                if timed_out or self._cancelled:
                    _kill(process.pid)
                # The process is reaped while the lock is held, so cancel() cannot hit a recycled process number.
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                self._running.discard(process.pid)
                cancelled = self._cancelled
        result = ToolResult(
            argv=tuple(argv),
            returncode=process.returncode,
            stdout=said.decode(errors="replace"),
            stderr=_shown(stderr),
            stderr_is_whole=len(stderr) <= STDERR_LIMIT_BYTES,
            wall_s=time.monotonic() - started,
            cpu_s=usage.ru_utime + usage.ru_stime,
            files=files,
        )
        if cancelled:
            raise Cancelled
        if result.returncode and stderr.startswith(COMPLAINTS):
            raise ToolError(f"this system does not start programs as before: {result.stderr.strip()}")
        if result.returncode == _LOADER_STATUS and _LIBRARY_IS_MISSING in result.stderr:
            raise ToolError(f"{argv[0]} does not start: {result.stderr.strip()}")
        if timed_out:
            raise ToolFailed(
                f"{Path(argv[0]).name} was stopped after {timeout_s:.0f} s, its time limit", result, timed_out=True
            )
        if result.returncode == -signal.SIGKILL and result.cpu_s >= timeout_s:
            raise ToolFailed(
                f"{Path(argv[0]).name} was stopped after {timeout_s:.0f} s of CPU, its time limit",
                result,
                timed_out=True,
            )
        return result

    def _start(
        self, argv: Sequence[str], prefix: Sequence[str], cwd: Path, stdout: int | None, inherited: Sequence[int]
    ) -> subprocess.Popen[bytes]:
        # prlimit and setpriv would report a missing program with a status of their own.
        program = shutil.which(argv[0])
        if program is None:
            raise ToolError(f"{argv[0]} is not an executable file")
        with self._lock:
            if self._cancelled:
                raise Cancelled
            process = subprocess.Popen(
                [*prefix, program, *argv[1:]],
                cwd=cwd,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout is None else stdout,
                stderr=subprocess.PIPE,
                pass_fds=inherited,
                start_new_session=True,
            )
            self._running.add(process.pid)
        return process

    def cancel(self) -> None:
        """Send SIGKILL to every running program and its children, and refuse to start another."""
        with self._lock:
            self._cancelled = True
            for pid in self._running:
                _kill(pid)


def _shown(stderr: bytearray | bytes) -> str:
    """Return the end of what a program said, without what would steer a terminal."""
    # Cut once more, because escapes are longer than what they stand for.
    return harmless_lines(stderr[-STDERR_LIMIT_BYTES:].decode(errors="replace"))[-STDERR_LIMIT_BYTES:]


def _files(descriptors: Sequence[int]) -> tuple[tuple[int, str], ...]:
    """Return number and path of those descriptors that are files."""
    paths = ((number, os.readlink(f"/proc/self/fd/{number}")) for number in descriptors)  # noqa: PTH115 - a pipe has none
    return tuple((number, path) for number, path in paths if path.startswith("/"))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _drain(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes, bool]:
    """Keep bounded parts of what is piped here until it ends and the process exits, or until the deadline."""
    stdout, stderr = bytearray(), bytearray()
    exit_fd = os.pidfd_open(process.pid)
    try:
        with contextlib.ExitStack() as opened:
            selector = opened.enter_context(selectors.DefaultSelector())
            for pipe, kept in ((process.stdout, stdout), (process.stderr, stderr)):
                if pipe is not None:
                    selector.register(opened.enter_context(pipe), selectors.EVENT_READ, kept)
            selector.register(exit_fd, selectors.EVENT_READ, None)
            while selector.get_map():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return bytes(stdout), bytes(stderr), True
                for key, _ in selector.select(remaining):
                    chunk = b"" if key.data is None else os.read(key.fd, 1 << 16)
                    if chunk:
                        key.data.extend(chunk)
                    else:
                        selector.unregister(key.fileobj)
                del stdout[STDOUT_LIMIT_BYTES:]
                # One byte more than is kept, to know that something was dropped.
                del stderr[: -STDERR_LIMIT_BYTES - 1]
    finally:
        os.close(exit_fd)
    return bytes(stdout), bytes(stderr), False
