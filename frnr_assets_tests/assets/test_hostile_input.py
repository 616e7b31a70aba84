"""What the UI is given of a manifest, clips and tools that were made to harm whoever looks at it."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from frnr_assets.automation import CELLS, INGEST, REFERENCES
from frnr_assets.corpus.dataset import Dataset
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets_tests import hostile
from frnr_assets_tests.assets.automated import WATCH, automated
from frnr_assets_tests.assets.conftest import Project
from frnr_assets_tests.assets.tool_wrapper import wrap


@pytest.fixture
def attacked(project: Project, ffmpeg: FFmpeg, tmp_path: Path) -> Project:
    """Everything that strangers write is hostile: names, values, and what the tool says when it fails."""
    (project.clips / "odd.mp4").rename(project.clips / f"{hostile.NAME}.mp4")
    (project.clips / "broken.mp4").rename(project.clips / f"broken{hostile.NAME}{hostile.REVERSED}.mp4")
    project.write_manifest(
        [
            {"src": f"{hostile.NAME}.mp4", hostile.TEXT: hostile.TEXT},
            {"src": f"broken{hostile.NAME}{hostile.REVERSED}.mp4"},
            {"src": "bars.mp4", "mos": hostile.TEXT},
            {"src": f"{hostile.NAME}{hostile.REVERSED} is away.mp4"},
            {"src": f"{hostile.TEXT}.mp4"},
        ]
    )
    wrapper = wrap(ffmpeg.path, tmp_path / "tool")
    said = wrapper.path.read_text()
    wrapper.path.write_text(said.replace("told to fail", hostile.TEXT))
    assert hostile.TEXT in wrapper.path.read_text()
    wrapper.fail(" -crf 38 ")
    (dataset,) = project.settings.datasets
    named = dataset.model_copy(update={"name": hostile.TEXT})
    return project.with_settings(datasets=(named,), ffmpeg_path=wrapper.path)


def texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield from (*texts(key), *texts(item))
        case list():
            for item in value:
                yield from texts(item)


def recorded(project: Project) -> list[str]:
    """Return every text that the instance keeps of its runs: logs, metadata, checks, failures and their causes."""
    instance = project.instance
    events = [entry for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    assert any(event.is_dagster_event for event in events)
    return [text for event in events for text in texts(json.loads(dg.serialize_value(event)))]


def markdown_of(result: dg.ExecuteInProcessResult) -> list[str]:
    """Return what a run gave the UI to render."""
    checks = [evaluation.description or "" for evaluation in result.get_asset_check_evaluations()]
    metadata = [
        value.md_str
        for event in result.all_events
        for value in (
            *(event.materialization.metadata.values() if event.is_step_materialization else ()),
            *(failure_of(event).metadata.values() if event.is_step_failure else ()),
        )
        if isinstance(value, dg.MarkdownMetadataValue)
    ]
    return [*checks, *(text or "" for text in metadata)]


def failure_of(event: dg.DagsterEvent) -> dg.Failure:
    data = event.step_failure_data.user_failure_data
    assert data is not None, "each failure has a message of its own"
    return dg.Failure(data.description, metadata=data.metadata)


def test_hostile_clips_and_tools_give_the_ui_nothing_to_render_and_logs_nothing_to_obey(attacked: Project) -> None:
    ingested = attacked.run(INGEST)
    assert ingested.success, attacked.failures(ingested)
    clips = attacked.instance.get_dynamic_partitions("clip")
    decoded = attacked.run(REFERENCES, first=clips[0], last=clips[-1])
    assert decoded.success, attacked.failures(decoded)
    measured = attacked.run(CELLS, first=f"{clips[0]}|38")
    (failure,) = attacked.failures(measured)
    assert hostile.SCRIPT in failure, "the tool's words are there to read"

    (attacked.folder / "other.csv").write_text(f"{hostile.TEXT},mos\n1,2\n")
    refused = attacked.with_settings(datasets=(Dataset(name="other", manifest=attacked.folder / "other.csv"),))
    (failure,) = attacked.failures(refused.run(INGEST))
    assert hostile.SCRIPT in failure, "and so are the columns that the manifest has"

    shown = [text for result in (ingested, decoded, measured) for text in markdown_of(result)]
    assert sum("script" in text for text in shown) >= 3, "names, reasons and the dataset are shown"
    assert [rendered for text in shown if (rendered := hostile.renders(text))] == []
    assert [text for text in recorded(attacked) if hostile.acts(text)] == []


def test_a_sensor_names_a_hostile_file_and_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with automated(tmp_path / f"place{hostile.REVERSED}", monkeypatch) as place:
        place.clip(hostile.NAME).write_bytes(b"clip")
        place.write_manifest([*"abcdef", hostile.NAME])
        place.ingest()
        place.clip(hostile.NAME).write_bytes(b"another")
        assert len(place.tick(WATCH)) == 1
        said = place.why(WATCH)
        assert hostile.LINK in said
        assert hostile.acts(said) == []
