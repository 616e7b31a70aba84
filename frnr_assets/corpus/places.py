"""Where sources may be: only regular files inside the allowed roots, whatever a manifest says."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Self

from frnr_assets.corpus.manifests.records import RowRejected
from frnr_assets.files import forbidden_character


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A source that is there.

    Attributes:
        size_bytes: size in bytes.
        mtime_ns: modification time, nanoseconds since 1970.
        ctime_ns: when its name, place or rights changed, nanoseconds since 1970; it tells files of equal size and
            modification time apart.
        inode: the same.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """Take it from what the system says of the file."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    @property
    def content(self) -> dict[str, int]:
        """What changes with the content: ``size_bytes`` and ``mtime_ns``."""
        return {"size_bytes": self.size_bytes, "mtime_ns": self.mtime_ns}


def look_at(path: Path | str) -> SourceFile | None:
    """Return the state of a manifest or source, following links; None when it is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 - making a path of each of 148,543 strings costs more than the look
    except (OSError, ValueError):
        # ValueError: a name that no file can have.
        return None
    return SourceFile.of(found)


class Places:
    """The allowed roots, and what is in them.

    Args:
        roots: the folders.
    """

    def __init__(self, roots: Iterable[Path]):
        self._roots = [Path(os.path.realpath(root)) for root in roots]
        # Clips share folders: each is resolved, and compared with the roots, once.
        self._resolved: dict[str, str] = {}
        self._inside: dict[str, bool] = {}

    def find(self, source: Path) -> SourceFile | None:
        """Return the state of a source, or None when there is no such file. Links are followed within the roots.

        Raises:
            RowRejected: outside the roots, not a regular file, or it cannot be looked at.
        """
        # A hundred thousand sources come through here: strings, because paths cost more than the look at the file.
        parent, name = os.path.split(source)
        folder = self._resolved.get(parent)
        if folder is None:
            folder = self._resolved[parent] = os.path.realpath(parent)
        try:
            found = os.lstat(f"{folder}/{name}")
            if stat.S_ISLNK(found.st_mode):
                real = os.path.realpath(f"{folder}/{name}")
                self._refuse_outside(os.path.split(real)[0])
                found = os.lstat(real)
            else:
                self._refuse_outside(folder)
        except (FileNotFoundError, NotADirectoryError):
            self._refuse_outside(folder)
            return None
        except OSError as error:
            raise RowRejected("bad path", f"{source} cannot be looked at: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            raise RowRejected("no file", f"{source} is not a regular file")
        return SourceFile.of(found)

    def _refuse_outside(self, folder: str) -> None:
        inside = self._inside.get(folder)
        if inside is None:
            inside = self._inside[folder] = any(Path(folder).is_relative_to(root) for root in self._roots)
        if not inside:
            raise RowRejected(
                "outside roots",
                f"it is in {folder}, outside the allowed roots; if that is right, add the folder to allowed_roots",
            )


def checked_path(src: str, clips_root: Path) -> Path:
    """Return the absolute path of a source as a manifest names it.

    Raises:
        RowRejected: it has a NUL, a control character, a line break or "..", or names no file.
    """
    bad = forbidden_character(src)
    if bad is not None:
        raise RowRejected("bad path", f"its path has {bad} in it")
    if ".." in src and ".." in PurePath(src).parts:
        raise RowRejected("bad path", f"{src} has .. in it; write the path without")
    path = clips_root / src
    if not path.name or path == clips_root:
        raise RowRejected("bad path", f"{src!r} is no path of a clip")
    return path
