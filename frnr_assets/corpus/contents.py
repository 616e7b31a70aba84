"""Finding sources of equal content without hashing all of them: by size, then by their ends, then as a whole."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from frnr_assets.corpus.manifests.records import RowRejected
from frnr_assets.corpus.places import SourceFile
from frnr_assets.files import FileRefused, open_regular

_END_BYTES = 64 << 10


@dataclass
class _Content:
    src: str
    file: SourceFile
    ends_sha256: str
    sha256: str | None

    def row(self) -> dict[str, Any]:
        return {
            "src": self.src,
            "size_bytes": self.file.size_bytes,
            "mtime_ns": self.file.mtime_ns,
            "ends_sha256": self.ends_sha256,
            "sha256": self.sha256,
        }


class Contents:
    """Hashes of those sources that have the size of another.

    A hash is used again while size and modification time of its file are the same.

    Args:
        known: rows of an earlier time.
        roots: the folders that sources may be in, links resolved.
    """

    def __init__(self, known: Iterable[Mapping[str, Any]], roots: Sequence[Path]):
        self._roots = roots
        self._known = {row["src"]: row for row in known}
        self._hashed: dict[str, _Content] = {}

    def equal(self, files: Sequence[tuple[str, SourceFile]]) -> tuple[list[list[int]], dict[int, RowRejected]]:
        """Return the groups of equal content, as positions, and the files that could not be read.

        Empty files are no group: they have no content to be equal in.
        """
        unreadable: dict[int, RowRejected] = {}

        def grouped(positions: Iterable[int], key: Mapping[int, object]) -> list[list[int]]:
            groups: dict[object, list[int]] = defaultdict(list)
            for position in positions:
                if position in key:
                    groups[key[position]].append(position)
            return [group for group in groups.values() if len(group) > 1]

        sizes = {index: file.size_bytes for index, (_, file) in enumerate(files) if file.size_bytes}
        found = []
        for same_size in grouped(sizes, sizes):
            ends = {
                index: content.ends_sha256
                for index in same_size
                if (content := self._content(index, *files[index], unreadable))
            }
            for same_ends in grouped(ends, ends):
                wholes = {index: self._whole(index, files[index][0], unreadable) for index in same_ends}
                found += grouped(same_ends, {index: whole for index, whole in wholes.items() if whole})
        return found, unreadable

    def rows(self) -> list[dict[str, Any]]:
        """Return the hashes of the files that were asked about, for another time."""
        return [content.row() for _, content in sorted(self._hashed.items())]

    def _content(self, index: int, src: str, file: SourceFile, unreadable: dict[int, RowRejected]) -> _Content | None:
        known = self._known.get(src)
        if known and (known["size_bytes"], known["mtime_ns"]) == (file.size_bytes, file.mtime_ns):
            content = _Content(src, file, known["ends_sha256"], known["sha256"])
        else:
            try:
                with self._open(src) as opened:
                    content = _Content(src, file, _ends_sha256(opened, file.size_bytes), None)
            except (OSError, FileRefused) as error:
                unreadable[index] = _unreadable(src, error)
                return None
        self._hashed[src] = content
        return content

    def _whole(self, index: int, src: str, unreadable: dict[int, RowRejected]) -> str | None:
        content = self._hashed[src]
        if content.sha256 is None:
            try:
                with self._open(src) as opened:
                    content.sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
            except (OSError, FileRefused) as error:
                unreadable[index] = _unreadable(src, error)
        return content.sha256

    def _open(self, src: str) -> BufferedReader:
        return os.fdopen(open_regular(Path(src), self._roots), "rb")


def _unreadable(src: str, error: OSError | FileRefused) -> RowRejected:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return RowRejected("no file", f"{src} could not be read: {why}")


def _ends_sha256(file: BufferedReader, size_bytes: int) -> str:
    ends = hashlib.sha256(file.read(_END_BYTES))
    file.seek(max(size_bytes - _END_BYTES, 0))
    ends.update(file.read(_END_BYTES))
    return ends.hexdigest()
