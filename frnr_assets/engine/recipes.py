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
    usable = references.filter(pl.col("quarantine_reason").is_null()).join(rows, on="clip", how="semi")
    if usable.is_empty():
        return []
    # One without damage, if there is any: it is measured as nearly all are.
    reference = usable.sort(pl.col("decode_errors").list.len().fill_null(0), "clip").row(0, named=True)
    of_clip = rows.filter(pl.col("clip") == reference["clip"]).sort("encoder", "preset", "crf")
    recipes = of_clip.unique(("encoder", "preset", "extra_params"), keep="first", maintain_order=True)
    encodes = [
        (EncodeSettings(ENCODERS[encoder], preset, tuple(params), sample_clip_seconds), crf)
        for encoder, preset, params, crf in recipes.select("encoder", "preset", "extra_params", "crf").iter_rows()
    ]
    return recipe_commands(reference_of(reference), encodes, vmaf, rules)
