"""Append-only tables of Parquet parts that survive a kill at any moment."""

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from frnr_assets.corpus.locks import locked

T = TypeVar("T")

COMPACT_ABOVE_PARTS = 64
# Parts beyond this size are left alone by compaction, so that its cost does not grow with the table.
SMALL_PART_BYTES = 32 << 20
ABANDONED_AFTER_S = 3600

# Rows with values of every frame are long. In groups of so many, one clip is read without most of the others.
LONG_ROWS_IN_A_GROUP = 250


def sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a temporary name; what was written under it becomes the file, durably and at once, when the block ends well.

    Raises:
        OSError: the disk is full or the folder is not writable; the file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a Parquet file durably: under a temporary name, synced, then renamed.

    Raises:
        OSError: the disk is full or the folder is not writable; no file of the final name is left behind.
    """
    write_parquet_pieces((table,), table.schema, path)


def write_parquet_pieces(pieces: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Write tables of one schema to one Parquet file, like ``write_parquet``, without having all of them at once.

    Raises:
        OSError: the disk is full or the folder is not writable; no file of the final name is left behind.
    """
    frames = [field.name for field in schema if _is_list_of_floats(field.type)]
    # Hardly a value of a frame comes twice. Without a dictionary and with equal bytes of all values side by side, they
    # take 30 % less room, and a quarter of the time.
    split = [f"{name}.list.element" for name in frames]
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(
            temporary, schema, compression="zstd", use_dictionary=not frames, use_byte_stream_split=split
        ) as writer,
    ):
        for piece in pieces:
            writer.write_table(piece, row_group_size=LONG_ROWS_IN_A_GROUP if frames else None)


def _is_list_of_floats(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) and pa.types.is_floating(kind.value_type)


class FileTable:
    """A table kept as one Parquet file, which is replaced as a whole.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, schema: pa.Schema):
        self.path = path
        self._schema = schema

    def exists(self) -> bool:
        """Tell whether it was written yet."""
        return self.path.exists()

    def read(self) -> pl.DataFrame:
        """Return the table; without rows when it was not written yet."""
        return pl.read_parquet(self.path, glob=False) if self.exists() else to_polars(self._schema.empty_table())

    def schema(self) -> pa.Schema:
        """Return the schema that the table has on disk."""
        return pq.read_schema(self.path)

    def written_ns(self) -> int:
        """Return when it was written, nanoseconds since 1970; 0 when it was not written yet."""
        return self.path.stat().st_mtime_ns if self.exists() else 0

    def stamp(self) -> str:
        """Return what differs from what it was before whenever the table was replaced."""
        if not self.exists():
            return ""
        found = self.path.stat()
        return f"{found.st_ino} {found.st_mtime_ns}"

    def write(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Replace the table, atomically, unless it has these very rows; return whether it had not.

        Raises:
            OSError: the disk is full or the folder is not writable; the table is as it was.
            ValueError: a column is unknown, or a value is not of its column's type, or missing where it must not be.
        """
        table = _table(rows, self._schema)
        if self.exists() and pq.read_table(self.path).equals(table):
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(table, self.path)
        return True


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
            ValueError: a column is unknown, or a value is not of its column's type, or missing where it must not be.
        """
        now = time.time_ns()
        stamped = [{**row, "recorded_ns": now + offset} for offset, row in enumerate(rows)]
        table = _table(stamped, self._schema)
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            sync(self._folder.parent)
        write_parquet(table, self._new_part())
        if len(self._small_parts()) > COMPACT_ABOVE_PARTS:
            # The rows are durable by now; a compaction that finds no room can wait for one that does.
            with suppress(OSError):
                self.compact()

    def read(self, where: pl.Expr | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the newest row of each key, sorted by key.

        Args:
            where: a condition on key columns, for reading only some of the rows.
            columns: the columns beside the key that are wanted; None for all, in the order of the schema.
        """
        return self._retried(lambda parts: self._newest(parts, where, columns))

    def distinct(self, column: str) -> list[Any]:
        """Return the values that a key column has, ascending."""

        def values(parts: list[Path]) -> list[Any]:
            return self._scan(parts).select(pl.col(column).unique().sort()).collect()[column].to_list()

        return self._retried(lambda parts: values(parts) if parts else [])

    def newest_ns(self) -> int:
        """Return when the newest row was recorded, nanoseconds since 1970; 0 without a row."""

        def newest(parts: list[Path]) -> int:
            found = self._scan(parts).select(pl.col("recorded_ns").max()).collect()
            return int(found.item() or 0)

        return self._retried(lambda parts: newest(parts) if parts else 0)

    def stamp(self) -> str:
        """Return what differs from what it was before whenever rows were added; parts have unique names."""
        return hashlib.sha256("".join(part.name for part in self._parts()).encode()).hexdigest()

    def schemas(self) -> list[pa.Schema]:
        """Return the schemas that the parts have on disk, each once."""
        schemas = self._retried(lambda parts: [pq.read_schema(part) for part in parts])
        return list({schema.to_string(): schema for schema in schemas}.values())

    def compact(self) -> None:
        """Merge small parts into one, keeping the newest row of each key. Safe beside readers and writers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder / ".compaction.lock"):
            for unfinished in self._folder.glob(".*.tmp"):
                with suppress(FileNotFoundError):
                    if time.time() - unfinished.stat().st_mtime > ABANDONED_AFTER_S:
                        unfinished.unlink()
            parts = self._small_parts()
            if len(parts) > 1:
                write_parquet(self._newest(parts).to_arrow().cast(self._schema), self._new_part())
                for part in parts:
                    part.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("*.parquet"))

    def _small_parts(self) -> list[Path]:
        small = []
        for part in self._parts():
            # Another process may have compacted it away since it was listed.
            with suppress(FileNotFoundError):
                if part.stat().st_size < SMALL_PART_BYTES:
                    small.append(part)
        return small

    def _retried(self, read: Callable[[list[Path]], T]) -> T:
        """Read the parts, again if another process compacts them between listing and reading: it kept every row."""
        while True:
            try:
                return read(self._parts())
            except FileNotFoundError:
                continue

    def _new_part(self) -> Path:
        return self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}.parquet"

    def _scan(self, parts: list[Path]) -> pl.LazyFrame:
        """Read these very files: neither "[" nor "crf=18" in the path of the data root means anything.

        A column that is newer than a part is null in its rows.
        """
        schema = to_polars(self._schema.empty_table()).schema
        return pl.scan_parquet(parts, schema=schema, missing_columns="insert", hive_partitioning=False, glob=False)

    def _newest(
        self, parts: list[Path], where: pl.Expr | None = None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        wanted = self._schema.names if columns is None else [*self._key, *columns]
        if not parts:
            return to_polars(self._schema.empty_table()).select(wanted)
        scan = self._scan(parts)
        rows = (scan if where is None else scan.filter(where)).select({*wanted, "recorded_ns"}).collect()
        ordered = rows.sort(*self._key, "recorded_ns")
        return ordered.unique(self._key, keep="last", maintain_order=True).select(wanted)


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Make a table of rows without changing any value: pyarrow alone would truncate 640.5 to 640 on the way."""
    known = set(schema.names)
    for row in rows:
        if not row.keys() <= known:
            raise ValueError(f"there is no column {', '.join(sorted(row.keys() - known))}")
    return pa.table([_column([row.get(field.name) for row in rows], field) for field in schema], schema=schema)


def _column(values: list[Any], field: "pa.Field[pa.DataType]") -> "pa.Array[Any]":
    if not _plainly_fit(values, field):
        for value in values:
            if not fits(value, field):
                raise ValueError(f"{field.name} is {value!r}, not {field.type}")
    return pa.array(values, field.type)


def _plainly_fit(values: list[Any], field: "pa.Field[pa.DataType]") -> bool:
    """Tell whether all values fit as far as their types alone can tell, which is quick."""
    kinds = set(map(type, values))
    if field.nullable:
        kinds.discard(type(None))
    if pa.types.is_string(field.type):
        return kinds <= {str}
    if pa.types.is_floating(field.type):
        return kinds <= {float, int}
    return pa.types.is_boolean(field.type) and kinds <= {bool}


def fits(value: object, field: "pa.Field[pa.DataType]") -> bool:
    """Tell whether a value can stand in a column as it is."""
    if value is None:
        return field.nullable
    if pa.types.is_list(field.type):
        element = field.type.value_field.with_nullable(False)
        return isinstance(value, list) and all(fits(each, element) for each in value)
    if pa.types.is_boolean(field.type):
        return isinstance(value, bool)
    if pa.types.is_integer(field.type):
        limit = 2 ** (field.type.bit_width - 1)
        return isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit
    if pa.types.is_floating(field.type):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str)


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as a data frame."""
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table becomes a data frame")
    return frame
