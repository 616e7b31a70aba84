"""Append-only tables of Parquet parts that survive a kill at any moment."""

import fcntl
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

COMPACT_ABOVE_PARTS = 64
# Parts beyond this size are left alone by compaction, so that its cost does not grow with the table.
SMALL_PART_BYTES = 32 << 20
ABANDONED_AFTER_S = 3600


def sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a Parquet file durably: under a temporary name, synced, then renamed.

    Raises:
        OSError: the disk is full or the folder is not writable; no file of the final name is left behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


class PartTable:
    """A table kept as Parquet parts in one folder, of which the newest row of each key counts.

    Any number of processes may append at once: parts have unique names. A reader never sees a part that is not
    complete. Rows are never changed; a newer row with the same key hides an older one.
    """

    def __init__(self, folder: Path, schema: pa.Schema, key: Sequence[str]):
        self._folder = folder
        self._schema = schema
        self._key = list(key)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; when this returns they are durable.

        Args:
            rows: values for every column except ``recorded_ns``, which is set here.

        Raises:
            OSError: the disk is full or the folder is not writable; the table is as it was.
            pyarrow.ArrowInvalid: a value does not fit the schema.
        """
        now = time.time_ns()
        stamped = [{**row, "recorded_ns": now + offset} for offset, row in enumerate(rows)]
        table = pa.Table.from_pylist(stamped, schema=self._schema)
        table.validate(full=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        write_parquet(table, self._new_part())
        if len(self._small_parts()) > COMPACT_ABOVE_PARTS:
            self.compact()

    def read(self, where: pl.Expr | None = None) -> pl.DataFrame:
        """Return the newest row of each key, sorted by key.

        Args:
            where: a condition on key columns, for reading only some of the rows.
        """
        while True:
            parts = self._parts()
            if not parts:
                return to_polars(self._schema.empty_table())
            try:
                return self._newest(parts, where)
            except FileNotFoundError:
                # Another process compacted between the listing and the reading; its merged part has the rows.
                continue

    def schemas(self) -> list[pa.Schema]:
        """Return the schemas that the parts have on disk, each once."""
        return list({schema.to_string(): schema for schema in map(pq.read_schema, self._parts())}.values())

    def compact(self) -> None:
        """Merge small parts into one, keeping the newest row of each key. Safe beside readers and writers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".compaction.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for abandoned in self._folder.glob(".*.tmp"):
                if time.time() - abandoned.stat().st_mtime > ABANDONED_AFTER_S:
                    abandoned.unlink(missing_ok=True)
            parts = self._small_parts()
            if len(parts) > 1:
                write_parquet(self._newest(parts).to_arrow().cast(self._schema), self._new_part())
                for part in parts:
                    part.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("*.parquet"))

    def _small_parts(self) -> list[Path]:
        return [part for part in self._parts() if part.stat().st_size < SMALL_PART_BYTES]

    def _new_part(self) -> Path:
        return self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}.parquet"

    def _newest(self, parts: list[Path], where: pl.Expr | None = None) -> pl.DataFrame:
        scan = pl.scan_parquet(parts, hive_partitioning=False)
        rows = (scan if where is None else scan.filter(where)).collect()
        return rows.sort("recorded_ns").unique(self._key, keep="last", maintain_order=True).sort(self._key)


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as a data frame."""
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table becomes a data frame")
    return frame
