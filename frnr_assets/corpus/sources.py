"""The sources of a corpus, one row each: where they come from, their part of the split, and their weight."""

import hashlib
from typing import Final, Literal, get_args

import polars as pl
import pyarrow as pa

from frnr_assets.corpus.schema import SOURCES_SCHEMA

Part = Literal["train", "validation", "test"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)

# One source in so many is for validation, and one for the test.
ONE_IN: Final = 10
# From so many sources on there is one in each of these parts. They differ, so that no source is wanted for both.
_FEWEST: Final = {"test": 5, "validation": 3}
# The sources of a dataset are cut into so many quantiles of MOS, or of VMAF where they have no MOS.
QUANTILES: Final = 5
# What is the same in all rows of a source.
_TOLD_BY: Final = ("src", "src_sha256", "dataset", "clip", "fr_from_nr", "nr_mos")


def sources_of(rows: pl.DataFrame) -> pa.Table:
    """Describe the sources of some rows, with a split by source and weights by stratum.

    The split is the same for the same rows, whatever their order. The sources of each dataset, those with and those
    without a MOS apart, are cut into quantiles of MOS (of mean VMAF without one), and within each ordered by a hash of
    what they are; the first go to the test, the next to validation. As the hash of a source never changes, few change
    their part when others are added. Paths of equal content (``src_sha256``) are in the same part.

    The weight of a source's rows is such that all strata weigh the same, and rows weigh 1 on average.

    Args:
        rows: the contract's columns, and ``dataset`` and ``clip``.

    Returns:
        a table of ``SOURCES_SCHEMA``, sorted by src.
    """
    # Equal content under two paths is one source.
    identity = pl.when(pl.col("src_sha256") == "").then(pl.col("src")).otherwise(pl.col("src_sha256"))
    sources = (
        # In one order, so that the last digits of the means are the same, too.
        rows.select(*_TOLD_BY, "encoder", "preset", "crf", "vmaf_score")
        .sort("src", "src_sha256", "encoder", "preset", "crf", "vmaf_score")
        .group_by("src", maintain_order=True)
        .agg(
            pl.col(_TOLD_BY[1:]).first(),
            rows=pl.len().cast(pl.Int64),
            mean_vmaf=pl.col("vmaf_score").mean(),
        )
        .with_columns(identity=identity)
        .sort("src")
    )
    parts = _split(sources.unique("identity", keep="first", maintain_order=True))
    strata = rows.group_by("fr_from_nr").agg(weight=len(rows) / pl.len())
    weighed = strata.with_columns(pl.col("weight") / len(strata))
    described = sources.join(parts, on="identity").join(weighed, on="fr_from_nr")
    return described.select(SOURCES_SCHEMA.names).sort("src").to_arrow().cast(SOURCES_SCHEMA)


def _split(sources: pl.DataFrame) -> pl.DataFrame:
    """Return the part of each source, as columns identity and split."""
    rated = pl.col("nr_mos").is_not_null()
    # Each dataset has a MOS scale of its own.
    group = ["fr_from_nr", "dataset", "rated"]
    cell = [*group, "quantile"]
    quantile = ((pl.coalesce("nr_mos", "mean_vmaf").rank("ordinal") - 1) * QUANTILES // pl.len()).over(group)
    ranked = sources.with_columns(
        rated=rated, hash=pl.col("identity").map_elements(_hash, return_dtype=pl.String)
    ).with_columns(quantile=quantile)
    sizes = ranked.group_by(cell).len(name="size").sort(cell)
    # What is left over of one cell goes into the next: cells of five sources would otherwise have no test.
    before = (pl.col("size").cum_sum() - pl.col("size")).over(group)
    after = pl.col("size").cum_sum().over(group)
    shares = sizes.with_columns(
        **{
            part: (after + ONE_IN - fewest) // ONE_IN - (before + ONE_IN - fewest) // ONE_IN
            for part, fewest in _FEWEST.items()
        }
    )
    place = pl.col("hash").rank("ordinal").over(cell)
    split = (
        pl.when(place <= pl.col("test"))
        .then(pl.lit("test"))
        .when(place <= pl.col("test") + pl.col("validation"))
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
    )
    return ranked.join(shares, on=cell).select("identity", split=split)


def _hash(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()
