"""The benchmark's copies of Dagster's records are what Dagster itself would have written."""

import json
import re
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log import SqlEventLogStorage

from bench.events import multiply, read_real
from frnr_assets.automation import CELLS, INGEST, REFERENCES
from frnr_assets_tests.assets.conftest import Project
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip

REAL, OTHER, COPY = "bars", "other", "broken"


def _written(instance: dg.DagsterInstance, clip: str) -> list[Any]:
    """What is recorded of a clip, without what is measured or counted: numbers, times, ids, hashes."""
    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    with storage.index_connection() as connection:
        events = connection.execute(
            sa.text("SELECT * FROM event_logs WHERE partition = :one OR partition LIKE :cells ORDER BY id"),
            {"one": clip, "cells": f"{clip}|%"},
        ).mappings()
        tags = sa.text('SELECT asset_key, "key", value FROM asset_event_tags WHERE event_id = :id ORDER BY "key"')
        found = [
            (
                event["dagster_event_type"],
                event["asset_key"],
                event["step_key"],
                event["partition"].replace(clip, "CLIP"),
                _shape(json.loads(event["event"]), clip),
                [
                    (tag.asset_key, tag.key, _shape(tag.value, clip))
                    for tag in connection.execute(tags, {"id": event["id"]})
                ],
            )
            for event in events
        ]
        # The order of the cells of a clip is that in which they were done.
        return sorted(found, key=repr)


def _shape(value: Any, clip: str) -> Any:
    match value:
        case dict():
            return {name: _shape(each, clip) for name, each in value.items()}
        case list():
            return [_shape(each, clip) for each in value]
        case bool() | None:
            return value
        case int() | float():
            return "number"
        case _:
            return re.sub(r"[0-9a-f]{16,}|[0-9a-f-]{36}|\b\d+(x\d+|/\d+)?\b", "#", value.replace(clip, "CLIP"))


def _measure(project: Project, clip: str) -> None:
    assert project.run(REFERENCES, first=clip).success
    assert project.run(CELLS, first=f"{clip}|23", last=f"{clip}|38").success


def test_figures_of_a_full_instance_are_of_records_that_dagster_would_have_written(
    project: Project, make_clip: MakeClip
) -> None:
    make_clip(project.clips / f"{OTHER}.mp4", SMALL_SCENE.replace("alls=8", "alls=9"))
    project.write_manifest([{"src": f"{clip}.mp4"} for clip in (REAL, OTHER, COPY)])
    project.run(INGEST)
    _measure(project, OTHER)
    _measure(project, REAL)
    real = read_real(project.instance, REAL)
    # Planned and done: the reference, and two cells for two assets.
    assert len(real.events) == 2 + 2 * 2 * 2
    runs = {run.run_id for run in project.instance.get_runs()}
    assert multiply(project.instance, real, [COPY]) == len(real.events)
    assert _written(project.instance, COPY) == _written(project.instance, OTHER)
    found = project.instance.get_materialized_partitions(dg.AssetKey("feature_rows"))
    assert found == {f"{clip}|{crf}" for clip in (REAL, OTHER, COPY) for crf in (23, 38)}
    assert len(project.instance.get_runs()) == len(runs) + 2
