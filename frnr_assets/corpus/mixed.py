"""Rows of full-reference datasets: read strictly, and put beside those of fr_corpus."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from frnr_assets.corpus.dataset import FrDataset
from frnr_assets.corpus.findings import sources_in_two_datasets
from frnr_assets.corpus.manifests.json_lines import parse_object
from frnr_assets.corpus.manifests.records import ROW_TEXT_LIMIT, ManifestError, Record, RowRejected, decoded, lines_of
from frnr_assets.corpus.manifests.records import shown as shown_line
from frnr_assets.corpus.publish import CorpusInvalid
from frnr_assets.corpus.schema import (
    CORPUS_ROW_KEYS,
    FEATURE_MEANS,
    FEATURE_STDS,
    MIXED_ROW_SCHEMA,
    PROVENANCE_KEYS,
    SCHEMA_VERSION,
)
from frnr_assets.corpus.store import fits, to_polars
from frnr_assets.vocabulary import CANONICAL6_FEATURES, FEATURE_LIMITS

_FIELDS = [MIXED_ROW_SCHEMA.field(name) for name in CORPUS_ROW_KEYS]
_FLOATS = [field.name for field in _FIELDS if pa.types.is_floating(field.type)]
_FIXED = {"schema_version": SCHEMA_VERSION, "exit_status": 0}
_HIGHEST = {"vmaf_score": 100.0} | {
    name: FEATURE_LIMITS[feature]
    for names in (FEATURE_MEANS, FEATURE_STDS)
    for name, feature in zip(names, CANONICAL6_FEATURES, strict=True)
}
_PROVENANCE_OF_MASTERS = {"nr_source": None, "nr_mos": None, "fr_from_nr": False}
# Empty where nobody has hashed the source.
_SHA256 = re.compile("(?:[0-9a-f]{64})?")
_QUOTED = 60


@dataclass(frozen=True)
class FrRows:
    """What a full-reference dataset has.

    Attributes:
        rows: those that can be used, in their order: the columns of ``MIXED_ROW_SCHEMA``, ``dataset`` and ``clip``.
        rejects: the others, as rows of ``REJECTS_SCHEMA``.
    """

    rows: pl.DataFrame
    rejects: tuple[dict[str, Any], ...]


def read_fr_rows(dataset: FrDataset) -> FrRows:
    """Read the rows of a full-reference dataset; those that break a rule are left out, each with its reason.

    A row has exactly ``CORPUS_ROW_KEYS``, with values of their types, all numbers finite, scores in their ranges,
    exit_status 0, and is the only one of its cell.

    Raises:
        ManifestError: the file cannot be read, or none of its rows can be used.
    """
    records = _parquet_rows if dataset.rows.suffix == ".parquet" else _json_rows
    rows: list[Mapping[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    lines: dict[tuple[object, ...], int] = {}
    hashes: dict[str, str] = {}
    for record in records(dataset.rows):
        try:
            row = _checked(record.values)
            if hashes.setdefault(row["src"], row["src_sha256"]) != row["src_sha256"]:
                # Two hashes would be two sources, in two parts of the split.
                raise RowRejected("bad value", "src_sha256 is another than in an earlier row of the same src")  # noqa: TRY301 - one reason
            first = lines.setdefault(_cell(row), record.line)
            if first != record.line:
                raise RowRejected("listed twice", f"it is of the same cell as line {first}")  # noqa: TRY301 - one reason
            rows.append(row)
        except RowRejected as rejected:
            rejects.append(_reject(dataset, record, rejected))
    if not rows:
        why = f"; line {rejects[0]['line']}: {rejects[0]['reason']}" if rejects else ""
        raise ManifestError(f"{dataset.rows}: {'none of its rows can be used' if why else 'it has no rows'}{why}")
    table = to_polars(pa.Table.from_pylist(rows, schema=MIXED_ROW_SCHEMA))
    return FrRows(table.with_columns(dataset=pl.lit(dataset.name), clip=pl.lit("")), tuple(rejects))


def mix(uploads: pl.DataFrame, sources: pl.DataFrame, masters: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put the rows of a published fr_corpus and those of full-reference datasets together.

    Args:
        uploads: the rows of fr_corpus.
        sources: the table of its sources.
        masters: rows of ``FrRows``.

    Raises:
        CorpusInvalid: rows of several datasets have the same path of a source.
    """
    labelled = uploads.join(sources.select("src", "dataset", "clip"), on="src", maintain_order="left")
    mixed = pl.concat([labelled, *(rows.select(labelled.columns) for rows in masters)])
    findings = sources_in_two_datasets(mixed)
    if findings:
        raise CorpusInvalid(findings)
    return mixed


def _json_rows(path: Path) -> Iterator[Record]:
    for number, line in lines_of(path, "rows"):
        try:
            values: Mapping[str, Any] | RowRejected = parse_object(decoded(line))
        except RowRejected as rejected:
            values = rejected
        yield Record(path, number, shown_line(line), values)


def _parquet_rows(path: Path) -> Iterator[Record]:
    """Read a Parquet file; the lines of its records are the numbers of its rows, from 1."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise ManifestError(f"{path}: it has a column twice")
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield Record(path, number, json.dumps(row, default=str)[:ROW_TEXT_LIMIT], row)
    except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        raise ManifestError(f"{path}: not a whole Parquet file; write it again, or correct `rows`") from error
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror or error}; check `rows` of the dataset in frnr.toml") from error


def _checked(row: Mapping[str, Any] | RowRejected) -> dict[str, Any]:
    """Return a row with the provenance of a master.

    Raises:
        RowRejected: it breaks a rule.
    """
    if isinstance(row, RowRejected):
        raise row
    missing = [name for name in CORPUS_ROW_KEYS if name not in row]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RowRejected("malformed", f"{missing[0]} is missing{more}")
    extra = sorted(row.keys() - set(CORPUS_ROW_KEYS))
    if extra:
        advice = "; rows that were made from uploads are no full-reference rows" if extra[0] in PROVENANCE_KEYS else ""
        raise RowRejected("malformed", f"{extra[0]} is no column of vmaf-tune's rows{advice}")
    for field in _FIELDS:
        if not fits(row[field.name], field):
            raise RowRejected("bad value", f"{field.name} is {_quoted(row[field.name])}, not {field.type}")
    numbers = {name: _finite(name, row[name]) for name in _FLOATS}
    for name, value in _FIXED.items():
        if row[name] != value:
            raise RowRejected("bad value", f"{name} is {row[name]}, not {value}")
    _refuse_impossible(row)
    for name, highest in _HIGHEST.items():
        if not 0 <= numbers[name] <= highest:
            raise RowRejected("bad value", f"{name} is {numbers[name]:g}, not within 0 to {highest:g}")
    return {**row, **numbers, **_PROVENANCE_OF_MASTERS}


def _refuse_impossible(row: Mapping[str, Any]) -> None:
    for name in ("src", "encoder"):
        if not row[name]:
            raise RowRejected("bad value", f"{name} is empty")
    if not _SHA256.fullmatch(row["src_sha256"]):
        raise RowRejected("bad value", "src_sha256 is no SHA-256 in lower case")
    for name in ("width", "height", "framerate", "duration_s", "bitrate_kbps"):
        if row[name] <= 0:
            raise RowRejected("bad value", f"{name} is {row[name]}, not above 0")
    if row["crf"] < 0:
        raise RowRejected("bad value", f"crf is {row['crf']}, below 0")


def _finite(name: str, value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RowRejected("bad value", f"{name} is not finite")
    return number


def _cell(row: Mapping[str, Any]) -> tuple[object, ...]:
    made_with = (row[name] for name in ("encoder", "preset", "crf", "clip_mode", "vmaf_model"))
    return (row["src_sha256"] or row["src"], *made_with, *row["extra_params"])


def _quoted(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


def _reject(dataset: FrDataset, record: Record, rejected: RowRejected) -> dict[str, Any]:
    src = None if isinstance(record.values, RowRejected) else record.values.get("src")
    return {
        "manifest": str(record.manifest),
        "line": record.line,
        "dataset": dataset.name,
        "kind": rejected.kind,
        "reason": rejected.reason,
        "src": src if isinstance(src, str) else None,
        "url": None,
        "row": record.text,
    }
