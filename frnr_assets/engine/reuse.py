"""Which rows are there already, complete with everything that is wanted beside them."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.outcomes import Clip
from frnr_assets.media.vmaf import VmafSettings

RowsByIdentity = Mapping[tuple[str, str], Mapping[str, Any]]


def of_clips(clips: Iterable[Clip]) -> pl.Expr:
    """Return the condition that a row is of one of some clips."""
    return pl.col("clip").is_in([clip.key for clip in clips])


def known_rows(tables: Tables, clips: Iterable[Clip], vmaf: VmafSettings, *, per_frame_scores: bool) -> RowsByIdentity:
    """Return the feature rows that need not be measured again, by clip and identity.

    Args:
        tables: where they are.
        clips: the clips.
        vmaf: with the extra features that are wanted; a row that lacks one of them is left out.
        per_frame_scores: whether a row that lacks the scores of its frames is left out.
    """
    wanted = of_clips(clips)
    known = {(row["clip"], row["identity"]): row for row in tables.feature_rows.read(wanted).iter_rows(named=True)}
    if vmaf.extra_features:
        there: dict[tuple[str, str], set[str]] = {}
        extras = tables.extra_features.read(wanted, columns=["identity"])
        for clip, identity, feature in extras.select("clip", "identity", "feature").iter_rows():
            there.setdefault((clip, identity), set()).add(feature)
        known = {
            key: row
            for key, row in known.items()
            if there.get(key, set()).issuperset(vmaf.extra_columns(row["width"], row["height"]))
        }
    if per_frame_scores:
        scored = tables.frame_scores.read(wanted, columns=["identity"]).select("clip", "identity")
        with_frames = set(scored.iter_rows())
        known = {key: row for key, row in known.items() if key in with_frames}
    return known
