"""Opening a file that somebody else named: a regular file inside the allowed folders, or not at all."""

import errno
import os
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path

_LINE_BREAKS = "\u2028\u2029"


class FileRefused(Exception):  # noqa: N818 - the name says what happened
    """The file must not be opened, and trying again will not help; the message is one sentence."""


def forbidden_character(name: str) -> str | None:
    """Name the first character that no path of a source may have: a NUL, a control character or a line break."""
    if name.isascii() and name.isprintable():
        return None
    bad = next((char for char in name if unicodedata.category(char) == "Cc" or char in _LINE_BREAKS), None)
    if bad is None:
        return None
    return "a NUL" if bad == "\0" else f"the control character U+{ord(bad):04X}"


def open_regular(path: Path, roots: Iterable[Path] | None) -> int:
    """Open a regular file for reading and return its descriptor, which is the caller's to close.

    Links are followed. What counts is where the opened file is, which the system tells of the descriptor: a link that
    is exchanged meanwhile cannot change that.

    Args:
        path: the file.
        roots: the folders that it may be in, themselves without links; None for anywhere.

    Raises:
        FileRefused: a character that no path may have, no regular file, a loop of links, or outside the roots.
        OSError: missing, or not readable.
    """
    bad = forbidden_character(str(path))
    if bad is not None:
        raise FileRefused(f"its path has {bad} in it")
    try:
        # Opening is an act on devices: looked at before, and again at what was opened.
        _require_regular(path.stat())
        # Without O_NONBLOCK a FIFO that has taken the file's place would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENAMETOOLONG}:
            raise FileRefused(f"it cannot be opened: {error.strerror}") from error
        raise
    try:
        _require_regular(os.fstat(descriptor))
        if roots is not None:
            _require_inside(Path(f"/proc/self/fd/{descriptor}").readlink(), roots)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise FileRefused("it is not a regular file")


def _require_inside(found: Path, roots: Iterable[Path]) -> None:
    if not any(found.is_relative_to(root) for root in roots):
        raise FileRefused(
            f"it is in {found.parent}, outside the allowed roots; if that is right, add the folder to allowed_roots"
        )
