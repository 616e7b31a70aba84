"""Partitions: clips, CRFs, and the cells between them."""

from collections.abc import Iterable, Sequence

import dagster as dg

CLIP, CRF = "clip", "crf"

# Kept well below what SQLite takes in one statement.
_REGISTER_CHUNK = 10_000


def clip_partitions() -> dg.DynamicPartitionsDefinition:
    """Return the partitions by clip; the keys are registered when the manifest is materialized."""
    return dg.DynamicPartitionsDefinition(name=CLIP)


def cell_partitions(crf_sweep: Sequence[int]) -> dg.MultiPartitionsDefinition:
    """Return the partitions by clip and CRF."""
    return dg.MultiPartitionsDefinition(
        {CLIP: clip_partitions(), CRF: dg.StaticPartitionsDefinition([str(crf) for crf in crf_sweep])}
    )


def cell_key(clip: str, crf: int) -> dg.MultiPartitionKey:
    """Return the partition key of a cell."""
    return dg.MultiPartitionKey({CLIP: clip, CRF: str(crf)})


def cells_by_clip(keys: Iterable[str]) -> dict[str, list[int]]:
    """Group the partition keys of a run by clip, clips in the order in which they come, CRFs ascending."""
    cells: dict[str, list[int]] = {}
    for key in keys:
        if not isinstance(key, dg.MultiPartitionKey):
            raise TypeError(f"{key} is not a cell")
        dimensions = key.keys_by_dimension
        cells.setdefault(dimensions[CLIP], []).append(int(dimensions[CRF]))
    return {clip: sorted(crfs) for clip, crfs in cells.items()}


def register_clips(instance: dg.DagsterInstance, clips: Sequence[str]) -> int:
    """Add the clips that are not partitions yet, in order, and return how many those were."""
    known = set(instance.get_dynamic_partitions(CLIP))
    new = [clip for clip in dict.fromkeys(clips) if clip not in known]
    for start in range(0, len(new), _REGISTER_CHUNK):
        instance.add_dynamic_partitions(CLIP, new[start : start + _REGISTER_CHUNK])
    return len(new)
