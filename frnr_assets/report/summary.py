"""The figures behind the pictures, from the rows of a corpus."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from frnr_assets.corpus.schema import FEATURE_MEANS

# The tails and quartiles that stand for a distribution.
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
# A correlation of two points is 1 or -1, whatever they are.
FEWEST_CORRELATED = 3
CORRELATED = ("vmaf_score", *FEATURE_MEANS)
_MOST_KINDS = 8
_DURATIONS_S = (0, 1, 2, 5, 10, 20, 60)
_NUMBER = re.compile(r"\d+(?:[.,:/x]\d+)*")


@dataclass(frozen=True)
class Count:
    """How many clips are of one kind."""

    kind: str
    clips: int


@dataclass(frozen=True)
class Agreement:
    """How MOS and VMAF agree at one CRF.

    Attributes:
        crf: the CRF.
        clips: how many have a MOS.
        srocc: Spearman's rank correlation, -1 to 1; None when it is not defined.
        plcc: Pearson's linear correlation, -1 to 1; None when it is not defined.
    """

    crf: int
    clips: int
    srocc: float | None
    plcc: float | None


def quantiles_by_crf(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return one row for each CRF, ascending: ``crf``, ``clips``, and ``q5`` to ``q95`` of the column."""
    wanted = [pl.col(column).quantile(level, "linear").alias(f"q{level * 100:g}") for level in QUANTILES]
    return rows.group_by("crf").agg(pl.len().alias("clips"), *wanted).sort("crf")


def correlations(rows: pl.DataFrame) -> npt.NDArray[np.float64] | None:
    """Return Spearman's correlations of the columns ``CORRELATED``, a square array.

    NaN where one of the two is the same in all rows; None when there are too few rows.
    """
    if len(rows) < FEWEST_CORRELATED:
        return None
    ranks = rows.select(pl.col(CORRELATED).rank()).to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.corrcoef(ranks, rowvar=False), np.float64)


def agreement_with_mos(rows: pl.DataFrame) -> list[Agreement]:
    """Return how MOS and VMAF agree, for each CRF at which a clip has a MOS, ascending."""
    rated = rows.filter(pl.col("nr_mos").is_not_null())
    found = rated.group_by("crf").agg(
        pl.len(),
        pl.corr("nr_mos", "vmaf_score", method="spearman").alias("srocc"),
        pl.corr("nr_mos", "vmaf_score", method="pearson").alias("plcc"),
    )
    return [
        Agreement(crf, clips, *(_defined(value, clips) for value in values))
        for crf, clips, *values in found.sort("crf").iter_rows()
    ]


def _defined(correlation: float | None, clips: int) -> float | None:
    fine = clips >= FEWEST_CORRELATED and correlation is not None and math.isfinite(correlation)
    return correlation if fine else None


def rising_steps(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the steps of a sweep at which VMAF rises although CRF does, the highest first.

    Columns: ``clip``, ``from_crf``, ``crf``, ``rise`` in VMAF points.
    """
    ordered = rows.sort("src_sha256", "crf")
    before = pl.col("crf").shift().over("src_sha256").alias("from_crf")
    rise = pl.col("vmaf_score").diff().over("src_sha256").alias("rise")
    steps = ordered.select("clip", before, "crf", rise).filter(pl.col("rise") > 0)
    return steps.sort("rise", "clip", "crf", descending=[True, False, False])


def sizes(clips: pl.DataFrame) -> list[Count]:
    """Count clips by working size, the most frequent first."""
    return _most_frequent(clips.select(kind=pl.format("{} x {}", "width", "height")))


def frame_rates(clips: pl.DataFrame) -> list[Count]:
    """Count clips by nominal rate, to the hundredth of a frame per second, the most frequent first."""
    return _most_frequent(clips.select(kind=pl.col("framerate").map_elements(_rate, pl.String)))


def _rate(rate: float) -> str:
    return f"{round(rate, 2):g}"


def durations(clips: pl.DataFrame) -> list[Count]:
    """Count clips by duration in seconds, the shortest first."""
    edges = [*_DURATIONS_S, math.inf]
    labels = [f"{low} to {high}" if high < math.inf else f"{low} or more" for low, high in pairwise(edges)]
    counts = np.histogram(clips["duration_s"].to_numpy(), edges)[0]
    there = np.flatnonzero(counts)
    return [Count(labels[index], int(counts[index])) for index in range(there.min(), there.max() + 1)]


def _most_frequent(kinds: pl.DataFrame) -> list[Count]:
    counted = kinds.group_by("kind").len().sort("len", "kind", descending=[True, False])
    found = [Count(kind, clips) for kind, clips in counted.head(_MOST_KINDS).iter_rows()]
    others = counted.slice(_MOST_KINDS)
    return [*found, Count(f"{len(others)} others", int(others["len"].sum()))] if len(others) else found


def quarantine_reasons(quarantine: pl.DataFrame) -> pl.DataFrame:
    """Return the reasons, numbers left out, the most frequent first: ``reason``, ``clips``, ``clip`` (the first)."""
    reason = pl.col("quarantine_reason").map_elements(_without_numbers, pl.String).alias("reason")
    grouped = quarantine.sort("clip").group_by(reason, maintain_order=True)
    return grouped.agg(pl.len().alias("clips"), pl.col("clip").first()).sort(
        "clips", "reason", descending=[True, False]
    )


def _without_numbers(reason: str) -> str:
    return _NUMBER.sub("N", reason)


def spread(values: Sequence[int], most: int) -> list[int]:
    """Return all of some values, or as many as there may be of them at even distances, both ends included."""
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]
