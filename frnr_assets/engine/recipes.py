"""The commands that rows were made with, for whoever is to trust them."""

import polars as pl

from frnr_assets.engine.rows import reference_of
from frnr_assets.media.encode import EncodeSettings
from frnr_assets.media.encoders import ENCODERS
from frnr_assets.media.recipe import recipe_commands
from frnr_assets.media.source import SourceRules
from frnr_assets.media.vmaf import VmafSettings


def commands_of(
    rows: pl.DataFrame,
    references: pl.DataFrame,
    *,
    vmaf: VmafSettings,
    rules: SourceRules,
    sample_clip_seconds: float,
) -> list[str]:
    """Return the commands for the first clip of some rows: its decode, an encode of each recipe, its score.

    None when no clip of them is usable any more.

    Args:
        rows: of uploads, with the columns of the contract and clip.
        references: the references table.
        vmaf: how distortions are scored.
        rules: which files may be sources.
        sample_clip_seconds: how much of a clip is encoded and scored, its centre; 0 for all.
    """
    is_usable = pl.col("quarantine_reason").is_null() & pl.col("clip").is_in(rows["clip"].unique().implode())
    usable = references.filter(is_usable)
    if usable.is_empty():
        return []
    # One without damage, if there is any: it is measured as nearly all are.
    damage = usable.select("clip", errors=pl.col("decode_errors").list.len().fill_null(0))
    clip = damage.sort("errors", "clip")["clip"][0]
    reference = usable.row(by_predicate=pl.col("clip") == clip, named=True)
    of_clip = rows.filter(pl.col("clip") == clip).sort("encoder", "preset", "crf")
    recipes = of_clip.unique(("encoder", "preset", "extra_params"), keep="first", maintain_order=True)
    encodes = [
        (EncodeSettings(ENCODERS[encoder], preset, tuple(params), sample_clip_seconds), crf)
        for encoder, preset, params, crf in recipes.select("encoder", "preset", "extra_params", "crf").iter_rows()
    ]
    return recipe_commands(reference_of(reference), encodes, vmaf, rules)
