"""What a program that misbehaves can do to whoever started it."""

import copy
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pytest

from frnr_assets.media.process import (
    STDERR_LIMIT_BYTES,
    STDOUT_LIMIT_BYTES,
    Cancelled,
    TimeLimits,
    ToolError,
    ToolFailed,
    ToolResult,
    ToolRunner,
)
from frnr_assets.media.sandbox import ProcessLimits, _network_prefix, without_network

# Far beyond what any of these tests takes when the package does its part.
LONG_S = 600
PATIENCE_S = 10.0


class Mailbox:
    """A FIFO through which a program tells the test the number of a process."""

    def __init__(self, path: Path):
        os.mkfifo(path)
        self.path = path
        # Open for writing too, so that opening does not block and the end of a writer is not the end of the file.
        self._fd = os.open(path, os.O_RDWR)

    def process_number(self) -> int:
        assert select.select([self._fd], [], [], PATIENCE_S)[0], "the program did not start"
        return int(os.read(self._fd, 100).split()[0])

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    box = Mailbox(tmp_path / "mailbox")
    yield box
    box.close()


def ends(pid: int) -> bool:
    """Wait for a process, which need not be a child, to end."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], PATIENCE_S)[0])
    finally:
        os.close(pidfd)


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def test_a_time_limit_ends_the_program_and_what_it_started(
    runner: ToolRunner, mailbox: Mailbox, tmp_path: Path
) -> None:
    script = f"echo working >&2; sleep {LONG_S} & echo $! > {mailbox.path}; wait"
    with pytest.raises(ToolFailed, match=r"^sh was stopped after 1 s, its time limit$") as failure:
        runner.run(shell(script), cwd=tmp_path, timeout_s=0.6)
    assert ends(mailbox.process_number())
    assert failure.value.timed_out
    assert not failure.value.blameless
    assert failure.value.result is not None
    assert failure.value.result.returncode == -signal.SIGKILL
    assert failure.value.result.stderr == "working\n"
    assert failure.value.result.wall_s < PATIENCE_S


def test_a_program_that_leaves_a_writer_behind_is_held_to_the_time_limit(
    runner: ToolRunner, mailbox: Mailbox, tmp_path: Path
) -> None:
    with pytest.raises(ToolFailed, match="its time limit"):
        runner.run(shell(f"sleep {LONG_S} & echo $! > {mailbox.path}"), cwd=tmp_path, timeout_s=0.3)
    assert ends(mailbox.process_number())


def test_a_program_may_not_use_more_processor_time_than_its_limit(runner: ToolRunner, tmp_path: Path) -> None:
    result = runner.run(shell("ulimit -St; ulimit -Ht"), cwd=tmp_path, timeout_s=20.5)
    assert result.stdout.split() == ["21", "21"]


@pytest.mark.parametrize(
    ("option", "memory_bytes", "expected"),
    [
        pytest.param("v", None, "1048576", id="memory"),
        pytest.param("v", 512 << 20, "524288", id="memory by a limit of its own"),
        pytest.param("f", None, "2048", id="size of a file"),
        pytest.param("n", None, "80", id="open files"),
        pytest.param("c", None, "0", id="core dumps"),
    ],
)
def test_a_program_may_not_use_more_than_it_was_allowed(option: str, memory_bytes: int | None, expected: str) -> None:
    runner = ToolRunner(ProcessLimits(memory_bytes=1 << 30, file_bytes=1 << 20, open_files=80))
    script = f"ulimit -S{option}; ulimit -H{option}"
    found = runner.run(shell(script), timeout_s=LONG_S, memory_bytes=memory_bytes)
    assert found.stdout.split() == [expected] * 2


def test_what_is_reckoned_to_need_more_than_any_program_gets_more() -> None:
    limits = ProcessLimits(memory_bytes=1 << 30)
    assert [limits.memory_for(reckoned) for reckoned in (0, 1 << 29, 3 << 30)] == [1 << 30, 1 << 30, 6 << 30]


def test_a_file_that_grows_too_large_ends_its_writer_instead_of_being_cut_short(tmp_path: Path) -> None:
    runner = ToolRunner(ProcessLimits(file_bytes=1 << 20))
    writing = runner.run(["dd", "if=/dev/zero", "of=grown", "bs=64K", "count=32"], cwd=tmp_path, timeout_s=LONG_S)
    assert writing.returncode == -signal.SIGXFSZ
    assert (tmp_path / "grown").stat().st_size == 1 << 20


def test_limits_go_along_with_a_copy_to_another_worker() -> None:
    limits = ProcessLimits(open_files=80)
    assert pickle.loads(pickle.dumps(ToolRunner(limits))).limits == limits  # noqa: S301 - made right here


def test_a_program_has_no_network(runner: ToolRunner, tmp_path: Path) -> None:
    if not without_network():
        pytest.skip("this kernel lets no user leave the network")
    interfaces = runner.run(["cat", "/proc/net/dev"], cwd=tmp_path, timeout_s=LONG_S).stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_a_program_can_gain_no_rights(runner: ToolRunner) -> None:
    status = runner.run(["cat", "/proc/self/status"], timeout_s=LONG_S).stdout.splitlines()
    assert [line.split()[1] for line in status if line.startswith("NoNewPrivs")] == ["1"]


def test_a_kernel_that_gives_no_way_to_leave_the_network_is_spoken_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(os, "defpath", f"{tmp_path}:{os.defpath}")
    _network_prefix.cache_clear()
    try:
        for _ in range(2):
            assert ToolRunner().run(shell("exit 0"), timeout_s=LONG_S).returncode == 0
        assert not without_network()
    finally:
        _network_prefix.cache_clear()
    (said,) = caplog.messages
    assert "access to the network" in said
    assert "Operation not permitted" in said


def test_a_program_without_a_folder_of_its_own_gets_an_empty_one_that_goes_with_it(runner: ToolRunner) -> None:
    said = runner.run(shell("pwd; ls -A; touch left-behind"), timeout_s=LONG_S).stdout.splitlines()
    (folder,) = said
    assert not Path(folder).exists()


def test_a_command_that_reads_a_descriptor_can_still_be_pasted(runner: ToolRunner, tmp_path: Path) -> None:
    file = tmp_path / "it's a clip.txt"
    file.write_text("content")
    opened = os.open(file, os.O_RDONLY)
    result = runner.run(["cat", f"/dev/fd/{opened}"], timeout_s=LONG_S, inherited=(opened,))
    assert result.stdout == "content"
    assert subprocess.run(["bash", "-c", result.command], capture_output=True, check=True).stdout == b"content"


def test_cancel_ends_what_runs_at_once_and_starts_nothing_more(tmp_path: Path) -> None:
    runner = ToolRunner()
    boxes = [Mailbox(tmp_path / f"mailbox{number}") for number in range(2)]
    with ThreadPoolExecutor(len(boxes)) as executor:
        futures = [
            executor.submit(
                runner.run, shell(f"sleep {LONG_S} & echo $! > {box.path}; wait"), cwd=tmp_path, timeout_s=LONG_S
            )
            for box in boxes
        ]
        grandchildren = [box.process_number() for box in boxes]
        runner.cancel()
        for future in futures:
            with pytest.raises(Cancelled):
                future.result(timeout=PATIENCE_S)
    assert all(map(ends, grandchildren))
    with pytest.raises(Cancelled):
        runner.run(shell(f"touch {tmp_path / 'started'}"), cwd=tmp_path, timeout_s=LONG_S)
    assert not (tmp_path / "started").exists()
    for box in boxes:
        box.close()


def test_a_copy_in_another_worker_is_not_cancelled_with_the_original(tmp_path: Path) -> None:
    runner = ToolRunner()
    runner.cancel()
    assert copy.copy(runner).run(shell("exit 0"), cwd=tmp_path, timeout_s=LONG_S).returncode == 0


class Interrupted(BaseException):
    """As Dagster raises it in the main thread."""


def test_an_interruption_does_not_wait_for_the_program(tmp_path: Path) -> None:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    started = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupted):
            ToolRunner().run(["/bin/sleep", "3"], cwd=tmp_path, timeout_s=LONG_S)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert time.monotonic() - started < 2


PARENT = """
import sys
from pathlib import Path
from frnr_assets.media.process import ToolRunner
ToolRunner().run(["/bin/sh", "-c", sys.argv[1]], cwd=Path("/"), timeout_s=600)
"""


def test_no_program_outlives_a_killed_parent(mailbox: Mailbox) -> None:
    script = f"echo $$ > {mailbox.path}; exec sleep 100"
    with subprocess.Popen([sys.executable, "-c", PARENT, script]) as parent:
        sleeping = mailbox.process_number()
        assert Path(f"/proc/{sleeping}").exists()
        parent.kill()
    assert ends(sleeping)


@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program", "/"])
def test_a_missing_program_is_named(runner: ToolRunner, program: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=f"^{program} is not an executable file$") as failure:
        runner.run([program], cwd=tmp_path, timeout_s=LONG_S)
    assert not isinstance(failure.value, ToolFailed), "it would be taken for the fault of the clip, and of the next one"


def test_a_program_without_its_libraries_is_named_and_not_its_input(runner: ToolRunner, tmp_path: Path) -> None:
    says = "tool: error while loading shared libraries: libx.so.1: cannot open shared object file"
    with pytest.raises(ToolError, match=f"^/bin/sh does not start: {says}$") as failure:
        runner.run(["/bin/sh", "-c", f"echo '{says}' >&2; exit 127"], cwd=tmp_path, timeout_s=LONG_S)
    assert not isinstance(failure.value, ToolFailed)


def test_a_program_on_the_callers_path_is_found(
    runner: ToolRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "some-tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert runner.run(["some-tool"], cwd=tmp_path, timeout_s=LONG_S).returncode == 0


@pytest.mark.parametrize(("script", "returncode"), [("exit 0", 0), ("exit 7", 7), ("kill -SEGV $$", -signal.SIGSEGV)])
def test_how_a_program_ended_is_reported(runner: ToolRunner, script: str, returncode: int, tmp_path: Path) -> None:
    assert runner.run(shell(script), cwd=tmp_path, timeout_s=LONG_S).returncode == returncode


@pytest.mark.parametrize(
    ("script", "disk_full", "blameless"),
    [
        ("head -c 1 /dev/zero > /dev/full", True, True),
        ("kill -KILL $$", False, True),
        ("kill -SEGV $$", False, False),
        ("echo 'Invalid data' >&2; exit 1", False, False),
    ],
)
def test_a_full_disk_and_a_kill_from_outside_are_not_the_inputs_fault(
    script: str, disk_full: bool, blameless: bool, runner: ToolRunner, tmp_path: Path
) -> None:
    failure = ToolFailed("it broke", runner.run(shell(script), cwd=tmp_path, timeout_s=LONG_S))
    assert (failure.disk_full, failure.blameless) == (disk_full, blameless)


def test_a_chatty_program_cannot_fill_the_memory(runner: ToolRunner, tmp_path: Path) -> None:
    script = (
        f"echo FIRST; head -c {4 * STDOUT_LIMIT_BYTES} /dev/zero; echo LAST;"
        f"echo FIRST >&2; head -c {8 * STDERR_LIMIT_BYTES} /dev/zero >&2; echo LAST >&2"
    )
    result = runner.run(shell(script), cwd=tmp_path, timeout_s=LONG_S)
    assert result.returncode == 0
    assert len(result.stdout) == STDOUT_LIMIT_BYTES
    assert result.stdout.startswith("FIRST\n")
    assert len(result.stderr) == STDERR_LIMIT_BYTES
    assert result.stderr.endswith("LAST\n")
    assert "FIRST" not in result.stderr


def test_the_two_outputs_are_not_mixed_and_broken_text_is_kept(runner: ToolRunner, tmp_path: Path) -> None:
    result = runner.run(shell(r"printf 'out\377'; printf 'err\377' >&2"), cwd=tmp_path, timeout_s=LONG_S)
    assert (result.stdout, result.stderr) == ("out\N{REPLACEMENT CHARACTER}", "err\N{REPLACEMENT CHARACTER}")


def test_secrets_in_the_environment_stay_here(
    runner: ToolRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRNR_SECRET", "hunter2")
    variables = runner.run(["env"], cwd=tmp_path, timeout_s=LONG_S).stdout.splitlines()
    assert {variable.partition("=")[0] for variable in variables} == {"PATH", "LC_ALL"}


def test_a_program_cannot_wait_for_the_terminal(runner: ToolRunner, tmp_path: Path) -> None:
    silent, never_written = os.pipe()
    terminal = os.dup(0)
    os.dup2(silent, 0)
    try:
        result = runner.run(["cat"], cwd=tmp_path, timeout_s=PATIENCE_S)
    finally:
        os.dup2(terminal, 0)
        for descriptor in (silent, never_written, terminal):
            os.close(descriptor)
    assert (result.returncode, result.stdout) == (0, "")


def test_a_program_works_in_the_folder_it_was_given(runner: ToolRunner, tmp_path: Path) -> None:
    assert runner.run(["pwd"], cwd=tmp_path, timeout_s=LONG_S).stdout.strip() == str(tmp_path.resolve())


def test_what_a_program_used_is_reported(runner: ToolRunner, tmp_path: Path) -> None:
    script = "import time\nwhile time.process_time() < 0.2: pass"
    result = runner.run([sys.executable, "-I", "-c", script], cwd=tmp_path, timeout_s=LONG_S)
    assert result.wall_s >= result.cpu_s * 0.9
    assert result.cpu_s >= 0.2


def test_programs_run_side_by_side(runner: ToolRunner, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with ThreadPoolExecutor(2) as executor:
        reader = executor.submit(runner.run, shell("cat fifo"), cwd=tmp_path, timeout_s=PATIENCE_S)
        writer = executor.submit(runner.run, shell("echo met > fifo"), cwd=tmp_path, timeout_s=PATIENCE_S)
        assert writer.result().returncode == 0
        assert reader.result().stdout == "met\n"


def test_no_descriptor_is_left_open(runner: ToolRunner, tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the names, without opening the folder lazily
    for script in ("exit 0", "exit 1"):
        runner.run(shell(script), cwd=tmp_path, timeout_s=LONG_S)
    with pytest.raises(ToolFailed):
        runner.run(["sleep", str(LONG_S)], cwd=tmp_path, timeout_s=0.1)
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_failure_keeps_its_log_on_the_way_from_another_process() -> None:
    result = ToolResult(("ffmpeg", "-i", "a b.mp4"), 1, "", "\n".join(map(str, range(30))), 1.0, 1.0)
    failure: ToolFailed = pickle.loads(pickle.dumps(ToolFailed("it broke", result, timed_out=True)))  # noqa: S301 - made right here
    assert (failure.reason, failure.result, str(failure)) == ("it broke", result, "it broke")
    assert failure.timed_out
    assert failure.detail.splitlines() == [
        *("it broke", "command: ffmpeg -i 'a b.mp4'", "exit status: 1"),
        *map(str, range(10, 30)),
    ]


def test_a_longer_clip_gets_more_time() -> None:
    limits = TimeLimits(base_s=10, per_megapixel_s=0.5)
    assert limits.timeout_s(1000, 1000, 0) == 10
    assert limits.timeout_s(1000, 2000, 30) == 10 + 0.5 * 60
