"""From partition keys to the clips of the manifest."""

from collections.abc import Iterable
from pathlib import Path

import dagster as dg
import polars as pl

from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets.engine.batch import Clip


def clips_by_key(tables: Tables, keys: Iterable[str]) -> dict[str, Clip]:
    """Return the clips of a run, in the order of their keys.

    Raises:
        dg.Failure: there is no manifest table, or a key is not in it, or more than once.
    """
    wanted = list(keys)
    try:
        manifest = tables.manifest().filter(pl.col("clip").is_in(wanted))
    except NotMaterialized as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    found: dict[str, Clip] = {}
    for row in manifest.iter_rows(named=True):
        clip = Clip(row["clip"], Path(row["src"]), row["mos"])
        if found.setdefault(clip.key, clip).src != clip.src:
            raise dg.Failure(
                description=f"the clip key {clip.key} stands for both {found[clip.key].src} and {clip.src}; "
                "rename one of the files and materialize source_manifest",
                allow_retries=False,
            )
    missing = [key for key in wanted if key not in found]
    if missing:
        raise dg.Failure(
            description=f"{len(missing)} of {len(wanted)} clips are not in the manifest any more, such as "
            f"{missing[0]}; leave them out, or add them and materialize source_manifest",
            allow_retries=False,
        )
    return {key: found[key] for key in wanted}
