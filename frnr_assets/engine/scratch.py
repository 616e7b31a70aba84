"""Scratch folders that a killed process cannot leave behind for good."""

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a folder of this call's own, locked while it is in use, and delete it afterwards.

    Folders whose process is dead, which is known from their lock, are deleted on the way.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for abandoned in parent.glob("*.lock"):
        _delete_abandoned(abandoned)
    name = uuid.uuid4().hex
    lock_path, folder = parent / f"{name}.lock", parent / name
    # The lock gets its name once it is held, so that nobody can take it for an abandoned one.
    unnamed = parent / f"{name}.new"
    with unnamed.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(lock_path)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock_path.unlink(missing_ok=True)


def _delete_abandoned(lock_path: Path) -> None:
    with suppress(FileNotFoundError), lock_path.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
        lock_path.unlink(missing_ok=True)
