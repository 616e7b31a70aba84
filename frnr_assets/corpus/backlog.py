"""What is still to be done: clips without a reference, and clips without rows, in blocks."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from frnr_assets.corpus.tables import Tables
from frnr_assets.vocabulary import EXTRA_FEATURES, FULL_CLIP, UHD_LINES, extra_columns, sample_mode

_FILE = ("size_bytes", "mtime_ns")


@dataclass(frozen=True)
class Recipe:
    """The settings that the rows of a complete clip have been made with.

    Attributes:
        sweep: the CRFs.
        encoder: ffmpeg's name of the encoder.
        preset: encoder preset.
        extra_params: further encoder arguments.
        vmaf_models: the VMAF model, or that of clips of fewer than ``UHD_LINES`` lines and that of the others.
        sample_clip_seconds: how much of a clip was encoded and scored, its centre; 0 for all.
        extra_features: names of ``EXTRA_FEATURES`` that were computed as well.
        conditions: the settings under which a clip may be found unusable, as a hash.
        per_frame_scores: whether the scores of every frame were kept.
    """

    sweep: tuple[int, ...]
    encoder: str
    preset: str
    extra_params: tuple[str, ...]
    vmaf_models: tuple[str, ...]
    sample_clip_seconds: float = 0.0
    extra_features: tuple[str, ...] = ()
    conditions: str = ""
    per_frame_scores: bool = False

    def clip_mode(self) -> pl.Expr:
        """Return the clip mode of a reference's rows; one that is not longer than the sample is taken whole."""
        whole = pl.col("frames") * pl.col("rate_den") <= self.sample_clip_seconds * pl.col("rate_num")
        mode = FULL_CLIP if not self.sample_clip_seconds else sample_mode(self.sample_clip_seconds)
        return pl.when(whole).then(pl.lit(FULL_CLIP)).otherwise(pl.lit(mode)).alias("clip_mode")

    def extra_values(self) -> pl.Expr:
        """Return how many values of extra features a reference's cells have, all together."""
        shorter, longer = pl.min_horizontal("width", "height"), pl.max_horizontal("width", "height")
        wanted = [EXTRA_FEATURES[name] for name in set(self.extra_features)]
        each = [
            ((shorter >= feature.min_shorter_side) & (longer >= feature.min_longer_side)) * len(feature.columns)
            for feature in wanted
        ]
        return pl.sum_horizontal(pl.lit(0), *each) * len(self.sweep)

    def is_made(self) -> pl.Expr:
        """Return the condition that a feature row was made with these settings."""
        uhd = pl.col("height") >= UHD_LINES
        model = pl.when(uhd).then(pl.lit(self.vmaf_models[-1])).otherwise(pl.lit(self.vmaf_models[0]))
        modes = [FULL_CLIP, sample_mode(self.sample_clip_seconds)] if self.sample_clip_seconds else [FULL_CLIP]
        return (
            (pl.col("encoder") == self.encoder)
            & (pl.col("preset") == self.preset)
            & pl.col("crf").is_in(self.sweep)
            & (pl.col("vmaf_model") == model)
            & (pl.col("extra_params").list.join("\0") == "\0".join(self.extra_params))
            & pl.col("clip_mode").is_in(modes)
        )


@dataclass(frozen=True)
class Backlog:
    """What is to be done.

    Attributes:
        to_decode: keys of the clips whose file, as it was ingested, was not tried yet.
        to_measure: keys of the usable clips that lack rows.
        quarantined: keys of the clips in quarantine; neither their file nor the settings have changed since.
        complete: number of clips with all their rows.
    """

    to_decode: frozenset[str]
    to_measure: frozenset[str]
    quarantined: frozenset[str]
    complete: int


def backlog(tables: Tables, recipe: Recipe) -> Backlog:
    """Compare what the manifests list with what was decoded and measured.

    A clip whose file is not there now is left alone, and so is one in quarantine, until its file or a setting changes.

    Raises:
        NotMaterialized: nothing was ingested yet.
    """
    there = tables.listed_clips().filter(pl.col("size_bytes").is_not_null()).select("clip", *_FILE)
    facts = ("src_sha256", "identity", "quarantine_reason", "frames", "rate_num", "rate_den", "width", "height")
    references = tables.references.read(columns=[*_FILE, *facts])
    in_quarantine = pl.col("quarantine_reason").is_not_null()
    tried = references.filter(~in_quarantine | (pl.col("identity") == recipe.conditions)).drop("identity")
    current = there.join(tried, on=["clip", *_FILE], how="inner")
    usable = current.filter(~in_quarantine).with_columns(recipe.clip_mode())
    made_with = ("src_sha256", "identity", "extra_params", "vmaf_model", "height", "clip_mode")
    rows = tables.feature_rows.read(columns=made_with).filter(recipe.is_made())
    counted = rows.group_by("clip", "src_sha256", "clip_mode").agg(pl.col("crf").n_unique())
    measured = counted.filter(pl.col("crf") == len(recipe.sweep))
    lacking = usable.join(measured, on=["clip", "src_sha256", "clip_mode"], how="anti")
    if recipe.extra_features:
        lacking = pl.concat([lacking, _lacking_extras(usable, rows, tables, recipe)]).unique("clip")
    if recipe.per_frame_scores:
        lacking = pl.concat([lacking, _lacking_frames(usable, rows, tables, recipe)]).unique("clip")
    return Backlog(
        to_decode=frozenset(there.join(current, on="clip", how="anti")["clip"]),
        to_measure=frozenset(lacking["clip"]),
        quarantined=frozenset(current.filter(in_quarantine)["clip"]),
        complete=len(usable) - len(lacking),
    )


def _lacking_extras(usable: pl.DataFrame, rows: pl.DataFrame, tables: Tables, recipe: Recipe) -> pl.DataFrame:
    """Return the usable clips whose rows lack values of the extra features."""
    is_wanted = pl.col("feature").is_in(extra_columns(recipe.extra_features))
    there = tables.extra_features.read(columns=["identity"]).filter(is_wanted)
    found = rows.select("clip", "src_sha256", "identity").join(there, on=["clip", "identity"])
    counted = found.group_by("clip", "src_sha256").agg(pl.len().alias("values"))
    judged = usable.join(counted, on=["clip", "src_sha256"], how="left")
    return judged.filter(pl.col("values").fill_null(0) < recipe.extra_values()).select(usable.columns)


def _lacking_frames(usable: pl.DataFrame, rows: pl.DataFrame, tables: Tables, recipe: Recipe) -> pl.DataFrame:
    """Return the usable clips of whose rows some lack the scores of their frames."""
    there = tables.frame_scores.read(columns=["identity"])
    found = rows.join(there, on=["clip", "identity"], how="semi")
    counted = found.group_by("clip", "src_sha256").agg(pl.col("crf").n_unique())
    complete = counted.filter(pl.col("crf") == len(recipe.sweep))
    return usable.join(complete, on=["clip", "src_sha256"], how="anti")


def blocks(
    order: Sequence[str], wanted: Container[str], size: int, between: Container[str] = frozenset()
) -> Iterator[tuple[str, ...]]:
    """Cut clips into contiguous blocks, none longer than ``size``.

    Args:
        order: all clips, in the order of their partitions.
        wanted: the clips that a block is for.
        size: most clips in a block.
        between: clips that cost nothing: a block may hold them, but is not made for them.
    """
    block: list[str] = []
    for clip in order:
        fits = clip in wanted or clip in between
        if block and (not fits or len(block) == size):
            yield from _without_idle(block, wanted)
            block = []
        if fits:
            block.append(clip)
    yield from _without_idle(block, wanted)


def _without_idle(block: list[str], wanted: Container[str]) -> Iterator[tuple[str, ...]]:
    if any(clip in wanted for clip in block):
        yield tuple(block)
