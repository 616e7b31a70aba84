"""The cost of knowing what there is to do, at the size of KonViD-150k: fabricated files and rows, no pixels."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from bench.measure import Figure, run_job, sampled
from frnr_assets.automation import INGEST
from frnr_assets.corpus.schema import FEATURE_ROWS_SCHEMA, REFERENCES_SCHEMA
from frnr_assets.corpus.store import to_polars
from frnr_assets.corpus.tables import Tables
from frnr_assets.definitions import build_definitions
from frnr_assets.settings import load_settings

CLIPS = 148_543
# Uploads of a few seconds: with sizes up to this, equal sizes are as frequent as among real ones.
LARGEST_BYTES = 3_000_000
IDLE_SENSORS = (
    "watch_sources",
    "decode_missing_references",
    "measure_missing_cells",
    "publish_what_is_measured",
    "fetch_missing_sources",
)


def ingestion_figures(folder: Path) -> Iterator[Figure]:
    """Measure ingestion, ingestion of what has not changed, and what sensors cost that find nothing to do."""
    project = folder / "ingestion"
    make_project(project)
    for what, target in (("ingesting", "under 30"), ("ingesting again, unchanged,", "under 10")):
        started = time.monotonic()
        with sampled(project / "data" / "scratch") as peaks:
            run_job(project, INGEST)
        yield Figure(f"{what} {CLIPS} clips, the whole run", time.monotonic() - started, "s", target)
        yield Figure("... peak resident memory", peaks["memory"] / 2**20, "MiB", "under 1024")
    fabricate_rows(Tables(project / "data"))
    settings = load_settings(project)
    definitions = build_definitions(settings)
    resources = {"tables": (definitions.resources or {})["tables"]}
    with dg.DagsterInstance.from_config(str(project)) as instance:
        for name in IDLE_SENSORS:
            cursor = None
            for tick in ("first", "idle"):
                context = dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources)
                started = time.monotonic()
                tick_data = definitions.resolve_sensor_def(name).evaluate_tick(context)
                yield Figure(f"{tick} tick of {name}", time.monotonic() - started, "s", "under 2")
                cursor = tick_data.cursor


def make_project(project: Path) -> None:
    """Make a dataset of sparse files of different contents, and its manifest."""
    clips = project / "clips"
    clips.mkdir(parents=True)
    draw = random.Random(0)  # noqa: S311 - repeatable, not secret
    with (project / "manifest.jsonl").open("w") as manifest:
        for index in range(CLIPS):
            name = f"{index:010}.mp4"
            with (clips / name).open("wb") as file:
                file.write(name.encode())
                file.truncate(draw.randrange(200_000, LARGEST_BYTES))
            manifest.write(json.dumps({"src": name, "mos": round(draw.uniform(1, 5), 2), "n_ratings": 5}) + "\n")
    (project / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (project / "frnr.toml").write_text(
        '[[datasets]]\nname = "bench"\nmanifest = "manifest.jsonl"\nclips_root = "clips"\n'
    )


def fabricate_rows(tables: Tables) -> None:
    """Write a reference and a sweep for every clip: values of no meaning, keys that fit together."""
    clips = (
        tables.listed_clips().select("clip", "src", "size_bytes", "mtime_ns").with_columns(src_sha256=pl.col("clip"))
    )
    references = filled(clips, REFERENCES_SCHEMA)
    crfs = pl.DataFrame({"crf": [18, 23, 28, 33, 38]}, schema={"crf": pl.Int32})
    made_with = {"encoder": "libx264", "preset": "medium", "vmaf_model": "vmaf_v0.6.1", "clip_mode": "full"}
    rows = clips.select("clip", "src_sha256").join(crfs, how="cross")
    rows = rows.with_columns(pl.lit(value).alias(name) for name, value in made_with.items())
    for name, table in (
        ("references", references),
        ("feature_rows", filled(rows, FEATURE_ROWS_SCHEMA)),
    ):
        folder = tables.root / "tables" / name
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "0.parquet", compression="zstd")


def filled(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Give a frame all columns of a schema: null where that is allowed, else the simplest value of the type."""
    empty = to_polars(schema.empty_table())
    columns = []
    for field in schema:
        kind = empty.schema[field.name]
        if field.name in frame.columns:
            columns.append(pl.col(field.name).cast(kind))
        elif field.nullable:
            columns.append(pl.lit(None, kind).alias(field.name))
        else:
            simplest: object = [] if kind == pl.List else "" if kind == pl.String else 1
            columns.append(pl.lit(simplest).cast(kind).alias(field.name))
    return frame.select(columns).to_arrow().cast(schema)
