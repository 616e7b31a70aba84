"""From partition keys to the clips of the manifest."""

from collections.abc import Iterable
from pathlib import Path

import dagster as dg
import polars as pl

from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets.engine.batch import Clip


def clips_by_key(tables: Tables, keys: Iterable[str]) -> tuple[dict[str, Clip], dict[str, str]]:
    """Return the clips of a run in the order of their keys, and why the others of its keys stand for no clip.

    Raises:
        dg.Failure: there is no manifest table.
    """
    wanted = list(keys)
    try:
        manifest = tables.manifest().filter(pl.col("clip").is_in(wanted))
    except NotMaterialized as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    found: dict[str, Clip] = {}
    problems: dict[str, str] = {}
    for row in manifest.iter_rows(named=True):
        clip = Clip(row["clip"], Path(row["src"]), row["mos"])
        other = found.setdefault(clip.key, clip)
        if other.src != clip.src:
            problems[clip.key] = (
                f"its key stands for both {other.src} and {clip.src}; rename one and materialize source_manifest"
            )
    for key in wanted:
        if key not in found:
            problems[key] = (
                "it is not in the manifest any more; add it and materialize source_manifest, or leave it out"
            )
    return {key: found[key] for key in wanted if key not in problems}, problems
