"""A project of any size without a pixel: sparse files, and rows that behave like measured ones."""

import hashlib
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from frnr_assets.corpus.publish import publish
from frnr_assets.corpus.schema import (
    CLIPS_SCHEMA,
    FEATURE_ROWS_KEY,
    FEATURE_ROWS_SCHEMA,
    REFERENCES_SCHEMA,
    ROW_SCHEMA,
    SCHEMA_VERSION,
)
from frnr_assets.corpus.store import to_polars, write_parquet
from frnr_assets.corpus.tables import Tables

# KonViD-150k without the clips that nobody can download any more.
FULL_SIZE = 148_543
DATASET = "bench"
# A key that is part of no other word in what Dagster records.
REAL_CLIP = "the-one-real-clip"
# Uploads of a few seconds: with sizes up to this, equal sizes are as frequent as among real ones.
_LARGEST_BYTES = 3_000_000
# As many as make a part that compaction leaves alone.
_CLIPS_IN_A_PART = 30_000
_SIZES = ((960, 540, 0.7), (540, 960, 0.12), (640, 480, 0.08), (1280, 720, 0.05), (480, 360, 0.05))
_RATES = ((30, 1, 0.4), (30000, 1001, 0.35), (25, 1, 0.15), (24000, 1001, 0.05), (60, 1, 0.05))
_QUARANTINED_ONE_IN = 200
_REASONS = (
    "it could not be probed: moov atom not found",
    "its shorter side has {} pixels, fewer than 34",
    "it has {} decode errors; set accept_damaged to take it",
)
_MADE_WITH = {
    "schema_version": SCHEMA_VERSION,
    "pix_fmt": "yuv420p",
    "encoder": "libx264",
    "encoder_version": "libx264-165",
    "preset": "medium",
    "encode_path": "",
    "vmaf_model": "vmaf_v0.6.1",
    "ffmpeg_version": "n9.0.2",
    "vmaf_binary_version": "3.0.0",
    "exit_status": 0,
    "clip_mode": "full",
    "hdr_transfer": "",
    "hdr_primaries": "",
    "hdr_forced": False,
    "fr_from_nr": True,
}


def make_project(project: Path, clips: int, *, real: Path | None = None) -> None:
    """Make a dataset of sparse files of different contents, its manifest and its configuration.

    Args:
        project: the folder, which is made.
        clips: how many clips.
        real: a clip that can be decoded, to be the first of them under the name ``REAL_CLIP``.
    """
    folder = project / "clips"
    folder.mkdir(parents=True)
    draw = random.Random(0)  # noqa: S311 - repeatable, not secret
    with (project / "manifest.jsonl").open("w") as manifest:
        for index in range(clips):
            name = f"{index:010}.mp4" if index or real is None else f"{REAL_CLIP}.mp4"
            if index or real is None:
                with (folder / name).open("wb") as file:
                    file.write(name.encode())
                    file.truncate(draw.randrange(200_000, _LARGEST_BYTES))
            else:
                shutil.copy(real, folder / name)
            mos = {} if index % 10 == 9 else {"mos": round(draw.uniform(1, 5), 2), "n_ratings": 5}
            manifest.write(json.dumps({"src": name, **mos}) + "\n")
    configure(project, "manifest.jsonl", Path("clips"))


def configure(project: Path, manifest: str, clips: Path, *lines: str) -> None:
    """Write the configuration of a project: an instance in its own folder, one dataset, and further settings."""
    (project / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    dataset = ["[[datasets]]", f'name = "{DATASET}"', f'manifest = "{manifest}"', f'clips_root = "{clips}"']
    (project / "frnr.toml").write_text("\n".join([*lines, *dataset, ""]))


def fabricate_corpus(tables: Tables, clips: int, sweep: Sequence[int]) -> None:
    """Publish plausible rows of some clips without files, and put others into quarantine."""
    listed = _listed(clips)
    unusable = pl.DataFrame({"clip": [f"unusable-{index}" for index in range(clips // _QUARANTINED_ONE_IN)]})
    both = pl.concat([listed, unusable.with_columns(src=pl.lit(""))], how="diagonal")
    tables.clips.path.parent.mkdir(parents=True)
    dataset = both.select("clip", "src", mos="nr_mos", dataset=pl.lit(DATASET), removed=pl.lit(value=False))
    write_parquet(_filled(dataset, CLIPS_SCHEMA), tables.clips.path)
    fabricate_rows(tables, sweep, listed, unusable)
    publish(tables.rows_to_publish(), tables.corpus, sweep=sweep, mos_scale=(1.0, 5.0))


def fabricated_rows(clips: int, sweep: Sequence[int]) -> pl.DataFrame:
    """Return the contract's columns of the sweeps of some clips."""
    draw = np.random.default_rng(0)
    rows = _measured(_with_facts(_listed(clips), draw), sweep, draw)
    return to_polars(_filled(rows, FEATURE_ROWS_SCHEMA)).select(ROW_SCHEMA.names)


def _listed(clips: int) -> pl.DataFrame:
    keys = [f"{index:010}" for index in range(clips)]
    mos = [None if index % 10 == 9 else round(1 + 4 * (index * 0.618 % 1), 2) for index in range(clips)]
    return pl.DataFrame({"clip": keys, "src": [f"/clips/{key}.mp4" for key in keys], "nr_mos": mos}).with_columns(
        size_bytes=pl.lit(1), mtime_ns=pl.lit(0)
    )


def ingested(tables: Tables) -> pl.DataFrame:
    """Return the clips of a project that was ingested, as ``fabricate_rows`` takes them."""
    return tables.listed_clips().select("clip", "src", "size_bytes", "mtime_ns", nr_mos="mos")


def fabricate_rows(
    tables: Tables, sweep: Sequence[int], listed: pl.DataFrame, unusable: pl.DataFrame | None = None
) -> int:
    """Write a reference and a sweep for every clip, and a reason for every one that is in quarantine.

    Args:
        tables: where they go.
        sweep: the CRFs.
        listed: clip, src, size_bytes, mtime_ns and nr_mos of the usable clips.
        unusable: clip of those in quarantine.

    Returns:
        how many feature rows there are now.
    """
    draw = np.random.default_rng(0)
    clips = _with_facts(listed, draw)
    references = clips
    if unusable is not None:
        reasons = [_REASONS[index % len(_REASONS)].format(index) for index in range(len(unusable))]
        refused = unusable.with_columns(quarantine_reason=pl.Series(reasons, dtype=pl.String), src=pl.lit(""))
        references = pl.concat([clips, refused], how="diagonal")
    _write(references, REFERENCES_SCHEMA, tables.root / "tables" / "references", 0)
    for part, some in enumerate(clips.iter_slices(_CLIPS_IN_A_PART)):
        rows = _measured(some, sweep, draw)
        _write(rows, FEATURE_ROWS_SCHEMA, tables.root / "tables" / "feature_rows", part)
    return len(clips) * len(sweep)


def _with_facts(clips: pl.DataFrame, draw: np.random.Generator) -> pl.DataFrame:
    """Add what a decode would have found: hashes, sizes and rates as frequent as among uploads."""
    number = len(clips)
    size = draw.choice(len(_SIZES), number, p=[share for *_, share in _SIZES])
    rate = draw.choice(len(_RATES), number, p=[share for *_, share in _RATES])
    width, height = (np.array(side)[size] for side in list(zip(*_SIZES, strict=True))[:2])
    rate_num, rate_den = (np.array(part)[rate] for part in list(zip(*_RATES, strict=True))[:2])
    seconds = np.clip(draw.normal(5, 0.6, number), 0.4, 30)
    return clips.with_columns(
        src_sha256=pl.Series([hashlib.sha256(clip.encode()).hexdigest() for clip in clips["clip"]], dtype=pl.String),
        identity=pl.lit("0" * 64),
        **{name: pl.Series(width) for name in ("width", "source_width")},
        **{name: pl.Series(height) for name in ("height", "source_height")},
        rate_num=pl.Series(rate_num),
        rate_den=pl.Series(rate_den),
        frames=pl.Series(np.ceil(seconds * rate_num / rate_den).astype(np.int64)),
        complexity=pl.Series(draw.normal(0, 1, number)),
        pix_fmt=pl.lit("yuv420p"),
        shot_count=pl.lit(1),
    )


def _measured(clips: pl.DataFrame, sweep: Sequence[int], draw: np.random.Generator) -> pl.DataFrame:
    """Return rows in which quality falls with CRF (but for some clips), and easy clips need few bits."""
    crfs = pl.DataFrame({"crf": list(sweep)}, schema={"crf": pl.Int32})
    rows = clips.join(crfs, how="cross", maintain_order="left")
    crf, hard = rows["crf"].to_numpy(), rows["complexity"].to_numpy()
    loss = np.exp(0.11 * (crf - 18) + 0.35 * hard) * 2.2
    kept = np.clip(1 - loss / 160 + draw.normal(0, 0.004, len(rows)), 0, 1)
    bitrate = 2600 * np.exp(-0.12 * (crf - 18) + 0.9 * hard)
    seconds = rows["frames"].to_numpy() * rows["rate_den"].to_numpy() / rows["rate_num"].to_numpy()
    measured: dict[str, npt.NDArray[np.float64]] = {
        "vmaf_score": np.clip(100 - loss + draw.normal(0, 0.5, len(rows)), 0, 100),
        "adm2_mean": kept,
        "motion2_mean": np.exp(0.7 * hard + 0.8),
        **{f"vif_scale{scale}_mean": kept ** (4 - scale) for scale in range(4)},
        "bitrate_kbps": bitrate,
        "encode_size_bytes": np.floor(bitrate * seconds * 125),
        "duration_s": seconds,
        "framerate": rows["rate_num"].to_numpy() / rows["rate_den"].to_numpy(),
    }
    floats = [field.name for field in FEATURE_ROWS_SCHEMA if pa.types.is_floating(field.type)]
    other = {name: draw.uniform(0, 1, len(rows)) for name in floats if name not in measured and name != "nr_mos"}
    first_ns = 1_750_000_000 * 10**9
    return rows.with_columns(
        *(pl.Series(name, values) for name, values in (measured | other).items()),
        *(pl.lit(value).alias(name) for name, value in _MADE_WITH.items()),
        identity=pl.concat_str(pl.col("src_sha256").str.head(60), pl.col("crf").cast(pl.String)),
        run_id=pl.format("{}-0000-4000-8000-000000000000", pl.col("src_sha256").first().str.head(8)),
        nr_source=pl.col("src"),
        recorded_ns=first_ns + pl.int_range(pl.len()) * 1_000_000,
        timestamp=pl.from_epoch(first_ns + pl.int_range(pl.len()) * 1_000_000, time_unit="ns").dt.strftime(
            "%Y-%m-%dT%H:%M:%S%.6f+00:00"
        ),
    ).sort(FEATURE_ROWS_KEY)


def _write(rows: pl.DataFrame, schema: pa.Schema, folder: Path, part: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(_filled(rows, schema), folder / f"{part:020}-fabricated.parquet")


def _filled(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
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
