import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from frnr_assets.engine.scratch import scratch_folder

HOLDING = """
import sys
from pathlib import Path
from frnr_assets.engine.scratch import scratch_folder

with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "encode.mp4").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@contextmanager
def _held_by_another_process(parent: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process that keeps a scratch folder until its standard input ends."""
    argv = [sys.executable, "-c", HOLDING, str(parent)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().rstrip("\n"))
        finally:
            process.kill()


def _contents(parent: Path) -> set[Path]:
    return set(parent.iterdir())


def _hold_and_fail(parent: Path) -> None:
    with scratch_folder(parent) as folder:
        (folder / "sub").mkdir()
        raise KeyboardInterrupt


def test_an_interrupted_batch_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _hold_and_fail(tmp_path / "scratch")
    assert _contents(tmp_path / "scratch") == set()


def test_batches_of_one_process_do_not_share_a_folder(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert first != second
        assert list(first.iterdir()) == list(second.iterdir()) == []
    assert _contents(tmp_path) == set()


def test_a_running_batch_keeps_its_files_when_another_starts(tmp_path: Path) -> None:
    with _held_by_another_process(tmp_path) as (process, theirs):
        with scratch_folder(tmp_path) as ours:
            assert ours != theirs
            assert (theirs / "encode.mp4").exists()
        assert (theirs / "encode.mp4").exists()
        process.communicate()
    assert process.returncode == 0
    assert _contents(tmp_path) == set()


def test_the_files_of_a_killed_batch_are_gone_once_another_starts(tmp_path: Path) -> None:
    with _held_by_another_process(tmp_path) as (killed, theirs), _held_by_another_process(tmp_path) as (_, alive):
        killed.kill()
        killed.wait()
        assert (theirs / "encode.mp4").exists()
        with scratch_folder(tmp_path) as ours:
            assert not theirs.exists()
            assert _contents(tmp_path) == {ours, ours.with_suffix(".lock"), alive, alive.with_suffix(".lock")}
        assert (alive / "encode.mp4").exists()


def test_a_lock_without_a_folder_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "0123.lock").touch()
    with scratch_folder(tmp_path) as ours:
        assert _contents(tmp_path) == {ours, ours.with_suffix(".lock")}
