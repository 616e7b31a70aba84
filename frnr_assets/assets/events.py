"""Recording partitions one by one, as each becomes durable, with all that the framework would have put on them.

The framework records a step's partitions when the step ends, so a killed step would lose them all. The batches
therefore yield nothing and log their materializations themselves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterEventType

from frnr_assets.words import harmless_lines

# Tag names that Dagster gives to its own materializations (dagster/_core/definitions/data_version.py).
_CODE_VERSION, _DATA_VERSION = "dagster/code_version", "dagster/data_version"
_BY_USER = "dagster/data_version_is_user_provided"
_INPUT_VERSION, _INPUT_POINTER = "dagster/input_data_version", "dagster/input_event_pointer"
# What stands for a parent whose event does not matter, as when nothing of it was used but its existence.
_ANY_EVENT = "NULL"


@dataclass(frozen=True)
class Parent:
    """The version of a parent's partition that a materialization was made from.

    Attributes:
        asset: the parent.
        data_version: of the parent's partition.
        event: storage id of the parent's materialization, or "NULL" when the parent is recorded together with it.
    """

    asset: dg.AssetKey
    data_version: str
    event: str = _ANY_EVENT


def latest_parents(context: dg.AssetExecutionContext, asset: dg.AssetKey, keys: Iterable[str]) -> dict[str, Parent]:
    """Look up the newest materializations of a parent, by partition key, with two queries for the whole batch."""
    wanted = set(keys)
    materialization = DagsterEventType.ASSET_MATERIALIZATION
    events = context.instance.get_latest_storage_id_by_partition(asset, materialization, wanted)
    tags = context.instance.event_log_storage.get_latest_tags_by_partition(
        asset, materialization, [_DATA_VERSION], asset_partitions=list(wanted)
    )
    return {
        key: Parent(asset, tags.get(key, {}).get(_DATA_VERSION, "INITIAL"), str(events.get(key, _ANY_EVENT)))
        for key in wanted
    }


def record(
    context: dg.AssetExecutionContext,
    asset: dg.AssetKey,
    partition: str,
    *,
    data_version: str,
    code_version: str,
    parents: Iterable[Parent],
    metadata: Mapping[str, dg.MetadataValue | str | int | float | bool],
) -> None:
    """Log the materialization of one partition; it is in the event log when this returns.

    Code version and parents go together: with one and without the other the partition would show as stale.
    """
    tags = {_CODE_VERSION: code_version, _DATA_VERSION: data_version, _BY_USER: "true"}
    if isinstance(partition, dg.MultiPartitionKey):
        tags |= {f"dagster/partition/{name}": key for name, key in partition.keys_by_dimension.items()}
    for parent in parents:
        name = parent.asset.to_user_string()
        tags |= {f"{_INPUT_VERSION}/{name}": parent.data_version, f"{_INPUT_POINTER}/{name}": parent.event}
    shown = {name: _harmless(value) for name, value in metadata.items()}
    context.log_event(dg.AssetMaterialization(asset, partition=partition, metadata=shown, tags=tags))


def _harmless(value: dg.MetadataValue | str | float) -> dg.MetadataValue | str | float:
    """Names of files and words of tools are shown, not obeyed; numbers are what they are."""
    match value:
        case str():
            return harmless_lines(value)
        case dg.TextMetadataValue(text=text):
            return dg.MetadataValue.text(harmless_lines(text or ""))
        case dg.PathMetadataValue(path=path):
            return dg.MetadataValue.path(harmless_lines(path or ""))
        case _:
            return value
