"""The corpus as one file: JSON Lines or Parquet."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from frnr_assets.corpus.findings import row_errors
from frnr_assets.corpus.publish import (
    DICTIONARY_COLUMNS,
    ROW_GROUP_ROWS,
    CorpusInvalid,
    file_metadata,
    published_rows,
    version_files,
)
from frnr_assets.corpus.schema import FRAME_COLUMNS, FRAME_SCORES_SCHEMA, ROW_SCHEMA
from frnr_assets.corpus.store import PartTable, replacing, write_parquet, write_parquet_pieces

SUFFIXES = (".jsonl", ".parquet")
_BATCH_ROWS = 10_000
# What finds the row of a cell: the same columns are in both files.
_CELL = ("src", "src_sha256", "encoder", "preset", "crf")
# What JSON need not escape, and a terminal acts on when somebody looks into the file.
_UNSEEN = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def export(rows: pl.DataFrame, path: Path, *, sweep: Sequence[int], mos_scale: tuple[float, float]) -> None:
    """Write rows to one file, in their order, durably and at once; the file before stays until then.

    Args:
        rows: with at least the columns of ``ROW_SCHEMA``.
        path: the file; its suffix, one of ``SUFFIXES``, chooses the format.
        sweep: the configured CRFs, for the file metadata of Parquet.
        mos_scale: lowest and highest possible MOS.

    Raises:
        CorpusInvalid: a rule of ``row_errors`` is broken.
        OSError: the disk is full or the folder is not writable.
        ValueError: another suffix.
    """
    table = rows.select(ROW_SCHEMA.names).to_arrow().cast(ROW_SCHEMA.with_metadata(file_metadata(rows, sweep)))
    errors = row_errors(table.schema, rows.select(ROW_SCHEMA.names), published=len(rows), mos_scale=mos_scale)
    if errors:
        raise CorpusInvalid(errors)
    if path.suffix == ".parquet":
        write_parquet(table, path)
    elif path.suffix == ".jsonl":
        # Not all at once: as Python objects, rows take many times the room.
        batches = table.to_batches(max_chunksize=_BATCH_ROWS)
        write_json_lines((row for batch in batches for row in batch.to_pylist()), path)
    else:
        raise ValueError(f"{path} ends in neither {' nor '.join(SUFFIXES)}")


def export_frame_scores(rows: pl.DataFrame, frame_scores: PartTable, path: Path, *, sweep: Sequence[int]) -> None:
    """Write the scores of every frame of rows to one Parquet file, durably and at once.

    It has one row for each cell, in the order of ``rows``, with ``src``, ``src_sha256``, ``encoder``, ``preset``,
    ``crf`` and a list of float32 for VMAF and each of the canonical-6, an element a frame. Cells whose frames were not
    kept are left out.

    Args:
        rows: of the table of feature rows.
        frame_scores: the table that has the frames.
        path: the file.
        sweep: the configured CRFs, for the file metadata.

    Raises:
        OSError: the disk is full or the folder is not writable; the file is as it was.
    """
    fields = [*(ROW_SCHEMA.field(name) for name in _CELL), *(FRAME_SCORES_SCHEMA.field(name) for name in FRAME_COLUMNS)]
    schema = pa.schema(fields).with_metadata(file_metadata(rows, sweep))

    def pieces() -> Iterator[pa.Table]:
        # Not all at once: for a large dataset they take more memory than there is.
        for some in rows.iter_slices(_BATCH_ROWS):
            found = frame_scores.read(pl.col("clip").is_in(some["clip"].unique().to_list()))
            cells = some.select("clip", "identity", "src").join(found, on=["clip", "identity"], maintain_order="left")
            yield cells.select(schema.names).to_arrow().cast(schema)

    write_parquet_pieces(pieces(), schema, path)


def export_version(version: Path, path: Path) -> int:
    """Write the rows of a published version to one file, as they are, durably and at once; return how many.

    They are read and written in batches: the whole of KonViD-150k never is in memory.

    Args:
        version: the folder of the version.
        path: the file; its suffix, one of ``SUFFIXES``, chooses the format.

    Raises:
        OSError: the disk is full, the folder is not writable, or a file of the version is damaged or gone; the file is
            as it was.
        ValueError: another suffix.
    """
    schema = pq.read_schema(version_files(version)[0])
    rows = published_rows(schema)
    if path.suffix == ".parquet":
        with (
            replacing(path) as temporary,
            pq.ParquetWriter(
                temporary,
                schema,
                compression="zstd",
                use_dictionary=DICTIONARY_COLUMNS,  # type: ignore[arg-type] # the stubs know only all or none
            ) as writer,
        ):
            for batch in _batches(version, rows, ROW_GROUP_ROWS):
                writer.write_batch(batch)
    elif path.suffix == ".jsonl":
        write_json_lines((row for batch in _batches(version, rows, _BATCH_ROWS) for row in batch.to_pylist()), path)
    else:
        raise ValueError(f"{path} ends in neither {' nor '.join(SUFFIXES)}")
    return rows


def _batches(version: Path, published: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Read a version in the order of its files, and insist on all of its rows."""
    read = 0
    for file in version_files(version):
        try:
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(batch_rows):
                    read += len(batch)
                    yield batch
        except pa.ArrowInvalid as error:
            raise OSError(f"{file} is damaged; export another version, or publish the corpus again") from error
    if read != published:
        raise OSError(f"{version} has {read} rows where {published} were published; publish the corpus again")


def write_json_lines(rows: Iterable[dict[str, object]], path: Path) -> None:
    """Write one object a line, in strict JSON, durably and at once.

    Raises:
        OSError: the disk is full or the folder is not writable; the file is as it was.
        ValueError: a number is not finite, for which JSON has no word.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False)
            file.write(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n")
