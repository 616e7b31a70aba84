"""Clips that keep failing: counted from run to run, and in the end put into quarantine."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from frnr_assets.corpus.tables import Tables

# A tool may be killed by chance, for memory or by a person; it is hardly chance the third time.
MAX_ATTEMPTS = 3


class AttemptLog:
    """How often the clips of a batch have failed; a batch counts once for a clip, however many of its cells failed.

    Args:
        tables: where the table of attempts is.
        clips: keys of the clips of the batch.
    """

    def __init__(self, tables: Tables, clips: Iterable[str]):
        self._table = tables.attempts
        known = self._table.read(pl.col("clip").is_in(list(clips)))
        self._before = {row["clip"]: row for row in known.iter_rows(named=True)}
        self._failed: dict[str, int] = {}
        self._condemned: set[str] = set()

    def failed(self, clip: str, file: Mapping[str, Any], reason: str) -> str | None:
        """Count a failure, durably; return why the clip goes into quarantine, or None while it does not.

        Args:
            clip: clip key.
            file: size and modification time of its file, as ``size_bytes`` and ``mtime_ns``.
            reason: one sentence.

        Raises:
            OSError: the disk is full or the table cannot be written.
        """
        if clip not in self._failed:
            state = {"size_bytes": file["size_bytes"], "mtime_ns": file["mtime_ns"]}
            before = self._before.get(clip)
            earlier = before["attempts"] if before and state.items() <= before.items() else 0
            self._failed[clip] = earlier + 1
            self._table.append([{"clip": clip, "attempts": earlier + 1, "reason": reason, **state}])
        attempts = self._failed[clip]
        return f"it failed in {attempts} runs; the last time: {reason}" if attempts >= MAX_ATTEMPTS else None

    def condemned(self, clip: str) -> bool:
        """Note that a clip goes into quarantine; return whether it is the first time in this batch."""
        is_first = clip not in self._condemned
        self._condemned.add(clip)
        return is_first

    def attempts(self, clip: str) -> int:
        """Return in how many runs a clip has failed in a row, this one included."""
        return self._failed.get(clip, 0)

    def worked(self, clips: Iterable[str]) -> None:
        """Begin to count anew for clips that have failed in an earlier run and not in this one, durably."""
        over = [clip for clip in clips if clip not in self._failed and self._before.get(clip, {}).get("attempts")]
        if over:
            self._table.append([{"clip": clip, "attempts": 0} for clip in over])
