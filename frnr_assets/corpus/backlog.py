"""What is still to be done: clips without a reference, and clips without rows, in blocks."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from frnr_assets.corpus.tables import Tables

_FILE = ("size_bytes", "mtime_ns")


@dataclass(frozen=True)
class Recipe:
    """The settings that the rows of a complete clip have been made with.

    Attributes:
        sweep: the CRFs.
        encoder: ffmpeg's name of the encoder.
        preset: encoder preset.
        extra_params: further encoder arguments.
        vmaf_model: VMAF model.
    """

    sweep: tuple[int, ...]
    encoder: str
    preset: str
    extra_params: tuple[str, ...]
    vmaf_model: str


@dataclass(frozen=True)
class Backlog:
    """What is to be done.

    Attributes:
        to_decode: keys of the clips whose file, as it was ingested, was not decoded yet.
        to_measure: keys of the usable clips that lack rows.
        quarantined: keys of the clips in quarantine whose file has not changed since.
        complete: number of clips with all their rows.
    """

    to_decode: frozenset[str]
    to_measure: frozenset[str]
    quarantined: frozenset[str]
    complete: int


def backlog(tables: Tables, recipe: Recipe) -> Backlog:
    """Compare what the manifests list with what was decoded and measured.

    A clip whose file is not there now is left alone, and so is one in quarantine, until its file changes.

    Raises:
        NotMaterialized: nothing was ingested yet.
    """
    there = tables.listed_clips().filter(pl.col("size_bytes").is_not_null()).select("clip", *_FILE)
    references = tables.references.read(columns=[*_FILE, "src_sha256", "quarantine_reason"])
    current = there.join(references, on=["clip", *_FILE], how="inner")
    in_quarantine = pl.col("quarantine_reason").is_not_null()
    usable = current.filter(~in_quarantine)
    rows = tables.feature_rows.read(columns=["src_sha256", "extra_params", "vmaf_model"]).filter(
        (pl.col("encoder") == recipe.encoder)
        & (pl.col("preset") == recipe.preset)
        & (pl.col("vmaf_model") == recipe.vmaf_model)
        & (pl.col("extra_params").list.join("\0") == "\0".join(recipe.extra_params))
        & pl.col("crf").is_in(recipe.sweep)
    )
    counted = rows.group_by("clip", "src_sha256").agg(pl.col("crf").n_unique())
    measured = counted.filter(pl.col("crf") == len(recipe.sweep))
    lacking = usable.join(measured, on=["clip", "src_sha256"], how="anti")
    return Backlog(
        to_decode=frozenset(there.join(current, on="clip", how="anti")["clip"]),
        to_measure=frozenset(lacking["clip"]),
        quarantined=frozenset(current.filter(in_quarantine)["clip"]),
        complete=len(usable) - len(lacking),
    )


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
