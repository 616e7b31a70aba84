"""Rows of every table, complete and valid, for tests that change one thing about them."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from frnr_assets.corpus.schema import FEATURE_ROWS_SCHEMA, FRAME_COLUMNS, REFERENCES_SCHEMA, ROW_SCHEMA
from frnr_assets.corpus.store import to_polars

SWEEP = (18, 23, 28)
MOS_SCALE = (1.0, 5.0)


def feature_row(clip: str = "a", crf: int = 18, **changes: Any) -> dict[str, Any]:
    """A row as the feature_rows table takes it."""
    columns = (field for field in FEATURE_ROWS_SCHEMA if field.name != "recorded_ns")
    source = f"/clips/{clip}.mp4"
    return {
        **{field.name: _value(field) for field in columns},
        "clip": clip,
        "identity": f"{clip}-{crf}",
        "schema_version": 3,
        "src": source,
        "nr_source": source,
        "src_sha256": hashlib.sha256(clip.encode()).hexdigest(),
        "crf": crf,
        "vmaf_score": 100.0 - crf,
        "exit_status": 0,
        "clip_mode": "full",
        "nr_mos": 3.25,
        "extra_params": [],
        **changes,
    }


def sweep_rows(*clips: str, sweep: Sequence[int] = SWEEP) -> list[dict[str, Any]]:
    """The rows of some clips' sweeps."""
    return [feature_row(clip, crf) for clip in clips for crf in sweep]


def reference_row(clip: str = "a", **changes: Any) -> dict[str, Any]:
    """A row of a usable clip as the references table takes it."""
    columns = (field for field in REFERENCES_SCHEMA if field.name != "recorded_ns")
    size = {"source_width": 641, "source_height": 360, "width": 640, "height": 360}
    return {
        **{field.name: _value(field) for field in columns},
        **size,
        "clip": clip,
        "src": f"/clips/{clip}.mp4",
        "src_sha256": hashlib.sha256(clip.encode()).hexdigest(),
        "rate_num": 30000,
        "rate_den": 1001,
        "frames": 240,
        "adjustments": [],
        "decode_errors": [],
        "quarantine_reason": None,
        "tool_output": None,
        **changes,
    }


def frame_scores_row(clip: str = "a", crf: int = 18, *, frames: int = 3, **changes: Any) -> dict[str, Any]:
    """The scores of the frames of a ``feature_row``, as the frame_scores table takes them."""
    row = feature_row(clip, crf)
    names = ("clip", "encoder", "preset", "crf", "identity", "src_sha256")
    scores = {name: [crf + frame / 4 for frame in range(frames)] for name in FRAME_COLUMNS}
    return {**{name: row[name] for name in names}, **scores, **changes}


def corpus_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as they are judged and published, nulls where a row has none, whatever the schema says of nulls."""
    return to_polars(pa.Table.from_pylist(list(rows), schema=ROW_SCHEMA))


def stored_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as the feature_rows table returns them, nulls where a row has none."""
    return to_polars(pa.Table.from_pylist(list(rows), schema=FEATURE_ROWS_SCHEMA))


def rows_to_publish(rows: Sequence[Mapping[str, Any]], dataset: str = "tests") -> pl.DataFrame:
    """Rows as they are handed over to be published, of one dataset."""
    return labelled(corpus_frame(rows), dataset)


def labelled(rows: pl.DataFrame, dataset: str = "tests") -> pl.DataFrame:
    """Rows of the contract with clip, which is the stem of src, and dataset."""
    return rows.with_columns(clip=pl.col("src").str.extract(r"([^/]*?)(?:\.[^./]*)?$"), dataset=pl.lit(dataset))


def references_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as the references table returns them."""
    return to_polars(pa.Table.from_pylist(list(rows), schema=REFERENCES_SCHEMA))


def _value(field: "pa.Field[pa.DataType]") -> Any:
    if pa.types.is_integer(field.type):
        return 1
    if pa.types.is_floating(field.type):
        return 0.5
    if pa.types.is_boolean(field.type):
        return field.name == "fr_from_nr"
    return field.name
