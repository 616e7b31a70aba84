"""From partition keys to the clips of the manifest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import polars as pl

from frnr_assets.assets.progress import refusal
from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets.engine.outcomes import Clip
from frnr_assets.words import harmless, harmless_lines


@dataclass(frozen=True)
class WantedClips:
    """What the keys of a run stand for.

    Attributes:
        clips: by key, in the order of the keys.
        problems: by key, why it stands for no clip.
        datasets: names of the datasets that the clips are from.
    """

    clips: Mapping[str, Clip]
    problems: Mapping[str, str]
    datasets: frozenset[str]


def clips_by_key(tables: Tables, keys: Iterable[str]) -> WantedClips:
    """Look up the clips of a run.

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
    return WantedClips(
        clips={key: found[key] for key in wanted if key in found},
        problems={key: gone for key in wanted if key not in found},
        datasets=frozenset(listed["dataset"].to_list()),
    )


def tag_run(context: dg.AssetExecutionContext, datasets: Iterable[str], **how: str) -> None:
    """Add the tags by which the page of runs finds a run, whoever launched it; a run without them is no worse.

    Args:
        context: of the run.
        datasets: what its clips are from; a run may have clips of several.
        how: further tags, such as the encoder.
    """
    tags = {"dataset": harmless(", ".join(sorted(datasets))), **how}
    try:
        context.instance.add_run_tags(context.run.run_id, tags)
    except Exception as error:  # noqa: BLE001 - of any database; it is no reason to measure nothing
        context.log.warning(harmless_lines(f"the run could not be tagged: {error}"))
