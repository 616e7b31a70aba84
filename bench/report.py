"""The cost of the report, at the size of KonViD-150k: fabricated rows that behave like measured ones."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from bench.ingestion import CLIPS, filled
from bench.measure import Figure, call, sampled
from frnr_assets.corpus.publish import publish
from frnr_assets.corpus.schema import CLIPS_SCHEMA, REFERENCES_SCHEMA, ROW_SCHEMA
from frnr_assets.corpus.store import to_polars, write_parquet
from frnr_assets.corpus.tables import Tables
from frnr_assets.report.make import make_report
from frnr_assets.vocabulary import DEFAULT_CRF_SWEEP

QUARANTINED_PER_THOUSAND = 5
_SIZES = ((960, 540, 0.7), (540, 960, 0.12), (640, 480, 0.08), (1280, 720, 0.05), (480, 360, 0.05))
_RATES = ((30.0, 0.4), (30000 / 1001, 0.35), (25.0, 0.15), (24000 / 1001, 0.05), (60.0, 0.05))
_DATASET = "bench"
_REASONS = (
    "it could not be probed: moov atom not found",
    "its shorter side has {} pixels, fewer than 34",
    "it has {} decode errors; set accept_damaged to take it",
)


def report_figures(folder: Path) -> Iterator[Figure]:
    """Measure making the report of a whole corpus, from its files to the page."""
    tables = Tables(folder / "report")
    fabricate_corpus(tables, CLIPS, DEFAULT_CRF_SWEEP)
    started = time.monotonic()
    with sampled(tables.scratch) as peaks:
        call([sys.executable, "-m", "bench.report", str(tables.root)], Path(__file__).parents[1])
    rows = CLIPS * len(DEFAULT_CRF_SWEEP)
    yield Figure(f"report of {rows} rows, in a process of its own", time.monotonic() - started, "s", "under 60")
    yield Figure("... peak resident memory", peaks["memory"] / 2**20, "MiB", "under 2048")
    yield Figure("... size of its page", tables.report.stat().st_size / 2**10, "KiB")


def fabricate_corpus(tables: Tables, clips: int, sweep: Sequence[int]) -> None:
    """Publish plausible rows of some clips, and put others into quarantine."""
    rows = fabricated_rows(clips, sweep)
    keys = rows.unique("src_sha256").sort("src_sha256").select("src", "src_sha256", clip=pl.col("src").str.slice(7, 10))
    reasons = [_REASONS[index % 3].format(index) for index in range(clips * QUARANTINED_PER_THOUSAND // 1000)]
    unusable = pl.DataFrame(
        {"clip": [f"unusable-{index}" for index in range(len(reasons))], "quarantine_reason": reasons},
        schema={"clip": pl.String, "quarantine_reason": pl.String},
    )
    references = pl.concat([keys, unusable], how="diagonal").with_columns(src=pl.col("src").fill_null(""))
    (tables.root / "tables" / "references").mkdir(parents=True)
    write_parquet(filled(references, REFERENCES_SCHEMA), tables.root / "tables" / "references" / "0.parquet")
    listed = references.select("clip", "src", dataset=pl.lit(_DATASET), removed=pl.lit(value=False))
    write_parquet(filled(listed, CLIPS_SCHEMA), tables.clips.path)
    to_publish = rows.join(keys.select("src", "clip"), on="src").with_columns(dataset=pl.lit(_DATASET))
    publish(to_publish, tables.corpus, sweep=sweep, mos_scale=(1.0, 5.0))


def fabricated_rows(clips: int, sweep: Sequence[int]) -> pl.DataFrame:
    """Return rows in which quality falls with CRF (but for some clips), and easy clips need few bits.

    Args:
        clips: how many clips; every tenth has no MOS.
        sweep: the CRFs.
    """
    draw = np.random.default_rng(0)
    size = draw.choice(len(_SIZES), clips, p=[share for *_, share in _SIZES])
    rate = draw.choice(len(_RATES), clips, p=[share for _, share in _RATES])
    complexity = draw.normal(0, 1, clips)
    names = [f"/clips/{index:010}.mp4" for index in range(clips)]
    mos = np.clip(3.2 - 0.25 * complexity + draw.normal(0, 0.6, clips), 1, 5).round(2)
    per_clip = pl.DataFrame(
        {
            "src": names,
            "nr_source": names,
            "src_sha256": names,
            "width": np.array([width for width, *_ in _SIZES])[size],
            "height": np.array([height for _, height, _ in _SIZES])[size],
            "framerate": np.array([value for value, _ in _RATES])[rate],
            "duration_s": np.clip(draw.normal(5, 0.6, clips), 0.4, 30),
            "nr_mos": [None if index % 10 == 9 else value for index, value in enumerate(mos)],
            "complexity": complexity,
        }
    )
    rows = per_clip.join(pl.DataFrame({"crf": list(sweep)}), how="cross", maintain_order="left")
    crf, hard = rows["crf"].to_numpy(), rows["complexity"].to_numpy()
    noise = draw.normal(0, 0.5, len(rows))
    loss = np.exp(0.11 * (crf - 18) + 0.35 * hard) * 2.2
    vmaf = np.clip(100 - loss + noise, 0, 100)
    kept = 1 - loss / 160 + draw.normal(0, 0.004, len(rows))
    features = {"adm2_mean": kept, "motion2_mean": np.exp(0.7 * hard + 0.8)}
    features |= {f"vif_scale{scale}_mean": kept ** (4 - scale) for scale in range(4)}
    measured = {
        **features,
        "vmaf_score": vmaf,
        "bitrate_kbps": 2600 * np.exp(-0.12 * (crf - 18) + 0.9 * hard),
        "exit_status": np.zeros(len(rows)),
    }
    constant = {
        "encoder": "libx264",
        "preset": "medium",
        "vmaf_model": "vmaf_v0.6.1",
        "clip_mode": "full",
        "fr_from_nr": True,
    }
    rows = rows.with_columns(
        *(pl.Series(name, np.clip(values, 0, None)) for name, values in measured.items()),
        *(pl.lit(value).alias(name) for name, value in constant.items()),
    )
    return to_polars(filled(rows, ROW_SCHEMA))


if __name__ == "__main__":
    make_report(Tables(Path(sys.argv[1])))
