"""From partition keys to the clips of the manifest."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from frnr_assets.assets.progress import refusal
from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets.engine.outcomes import Clip


def clips_by_key(tables: Tables, keys: Iterable[str]) -> tuple[dict[str, Clip], dict[str, str]]:
    """Return the clips of a run in the order of their keys, and why the others of its keys stand for no clip.

    Raises:
        dg.Failure: there is no manifest table.
    """
    wanted = list(keys)
    try:
        listed = tables.listed_clips().filter(pl.col("clip").is_in(wanted))
    except NotMaterialized as error:
        raise refusal(str(error)) from error
    found = {key: Clip(key, Path(src), mos) for key, src, mos in listed.select("clip", "src", "mos").iter_rows()}
    gone = "it is not in the manifest any more; add it and materialize source_manifest, or leave it out"
    clips = {key: found[key] for key in wanted if key in found}
    return clips, {key: gone for key in wanted if key not in found}
