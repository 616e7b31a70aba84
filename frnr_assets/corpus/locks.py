"""Locks between processes; the system releases one when its process ends, however it ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Busy(RuntimeError):  # noqa: N818 - the name says what is the matter
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, which is made if need be.

    Raises:
        Busy: another process holds it, and it is not to be waited for.
        OSError: the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Opened for appending: holding a lock changes nothing, not even a modification time.
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"{path} is locked by another process") from error
        yield
