"""The graph, run through a persistent instance with the real tools."""

import math
import shutil
from collections import Counter

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.data_version import StaleStatus
from dagster._utils.test.data_versions import get_stale_status_resolver

from frnr_assets import load_corpus
from frnr_assets.assets.cells import DISTORTION, FEATURE_ROWS
from frnr_assets.assets.corpus_report import CORPUS_REPORT
from frnr_assets.assets.decoded_reference import DECODED_REFERENCE
from frnr_assets.assets.fr_corpus import FR_CORPUS
from frnr_assets.assets.source_manifest import SOURCE_MANIFEST
from frnr_assets.automation import CELLS, INGEST, PUBLISH, REFERENCES
from frnr_assets.corpus.publish import current_version
from frnr_assets.corpus.schema import ROW_SCHEMA
from frnr_assets.definitions import build_definitions
from frnr_assets.engine.attempts import MAX_ATTEMPTS
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.partitions import CLIP
from frnr_assets.settings import Settings
from frnr_assets.vocabulary import CANONICAL6_FEATURES, CAVEAT
from frnr_assets_tests.assets.conftest import Project, on_both_storages
from frnr_assets_tests.assets.tool_wrapper import wrap

ASSETS = (SOURCE_MANIFEST, DECODED_REFERENCE, DISTORTION, FEATURE_ROWS, FR_CORPUS, CORPUS_REPORT)
CELL_KEYS = {f"{clip}|{crf}" for clip in ("bars", "odd", "broken") for crf in (23, 38)}


def numbers(materialization: dg.AssetMaterialization) -> dict[str, float]:
    values = {name: value.value for name, value in materialization.metadata.items()}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def test_clips_become_a_corpus(materialized: Project) -> None:
    version = current_version(materialized.tables.corpus)
    assert version is not None
    corpus = pl.read_parquet(version)
    assert corpus.columns == ROW_SCHEMA.names
    assert corpus.select("crf", "nr_mos", "width", "height").sort("width", "crf").rows() == [
        (23, 3.5, 64, 48),
        (38, 3.5, 64, 48),
        (23, None, 66, 50),
        (38, None, 66, 50),
    ]
    assert corpus["fr_from_nr"].all()
    assert corpus["run_id"].n_unique() == 1
    (report,) = materialized.materializations(CORPUS_REPORT)
    assert report.metadata["rows"].value == 4, "the report follows its corpus"
    assert report.metadata["clips in quarantine"].value == 1
    loaded = load_corpus(materialized.settings.data_root).collect()
    assert loaded.select("dataset", "split", "weight").unique().rows() == [("tests", "train", 1.0)]
    card = materialized.tables.card.read_text()
    assert "2 clips, 4 rows, 2 sources, 1 more in quarantine" in card
    assert "-c:v libx264 -preset medium -crf 23" in card
    assert str(materialized.clips.parents[1]) not in card, (
        "a card is published: whose machine it was is nobody's business"
    )


def test_runs_are_found_by_dataset_and_by_how_they_encode_whoever_launched_them(materialized: Project) -> None:
    encoding = {"encoder": "libx264", "preset": "medium"}
    for job, wanted in ((REFERENCES, {}), (CELLS, encoding)):
        runs = materialized.instance.get_runs(dg.RunsFilter(job_name=job))
        found = [{tag: run.tags.get(tag) for tag in ("dataset", *encoding)} for run in runs]
        assert found
        assert all(tags == {"dataset": "tests", "encoder": None, "preset": None, **wanted} for tags in found)


def test_every_cell_is_recorded_once_with_numbers_to_plot(materialized: Project) -> None:
    for asset in (DISTORTION, FEATURE_ROWS):
        made = materialized.materializations(asset)
        assert Counter(materialization.partition for materialization in made) == Counter(CELL_KEYS)
    row = next(made for made in materialized.materializations(FEATURE_ROWS) if made.partition == "bars|23")
    assert {"VMAF (0 to 100)", *CANONICAL6_FEATURES, "bitrate (kbit/s)", "encode size (bytes)", "frames"} <= numbers(
        row
    ).keys()
    assert all(map(math.isfinite, numbers(row).values()))
    assert row.tags is not None
    assert row.tags["dagster/partition/clip"] == "bars"


def test_the_reference_facts_are_there_to_read(materialized: Project) -> None:
    facts = {made.partition: made.metadata for made in materialized.materializations(DECODED_REFERENCE)}
    bars = {name: value.value for name, value in facts["bars"].items()}
    assert (bars["frames"], bars["width (px)"], bars["height (px)"], bars["frame rate (exact)"]) == (12, 64, 48, "24/1")
    assert bars["variable frame rate"] is False
    assert (bars["adjustments"], bars["concealed damage"]) == ("none", "none")


def test_a_broken_clip_says_why_and_spoils_nothing(materialized: Project) -> None:
    (broken,) = [made for made in materialized.materializations(DECODED_REFERENCE) if made.partition == "broken"]
    assert broken.metadata["quarantined"].value is True
    assert "probed" in str(broken.metadata["quarantine reason"].value)
    cells = [made for made in materialized.materializations(FEATURE_ROWS) if str(made.partition).startswith("broken|")]
    assert [made.metadata["dagster/partition_row_count"].value for made in cells] == [0, 0]


@pytest.mark.parametrize(
    ("first", "last", "recorded"),
    [("bars|38", "bars|38", {"bars|38"}), ("bars|23", "odd|23", {"bars|23", "odd|23"})],
    ids=["one partition", "a range"],
)
def test_part_of_the_cells_can_be_asked_for(decoded: Project, first: str, last: str, recorded: set[str]) -> None:
    assert decoded.run(CELLS, first=first, last=last).success
    assert {made.partition for made in decoded.materializations(FEATURE_ROWS)} == recorded
    assert decoded.run(PUBLISH).success
    assert len(decoded.tables.current_rows()) == len(recorded)


def test_a_second_run_measures_nothing_again_and_says_so(materialized: Project) -> None:
    before = materialized.tables.feature_rows.read()
    materialized.run_everything()
    after = materialized.tables.feature_rows.read()
    assert after.equals(before)
    reused = [
        made.metadata["reused"].value
        for made in materialized.materializations(FEATURE_ROWS)
        if "reused" in made.metadata
    ]
    assert reused == [False] * 4 + [True] * 4


def test_recompute_measures_again_with_the_same_values(materialized: Project) -> None:
    before = materialized.tables.feature_rows.read()
    config = {"ops": {"cells": {"config": {"recompute": True}}}}
    assert materialized.run(CELLS, first="bars|23", last="odd|38", config=config).success
    after = materialized.tables.feature_rows.read()
    assert (after["recorded_ns"] > before["recorded_ns"]).all()
    same = [name for name in after.columns if not name.endswith(("_ms", "_ns")) and name not in {"run_id", "timestamp"}]
    assert after.select(same).equals(before.select(same))


def test_failed_cells_are_named_and_the_others_kept(project: Project) -> None:
    project.run(INGEST)
    project.run(REFERENCES, first="bars", last="bars")
    result = project.run(CELLS, first="bars|23", last="odd|38")
    assert not result.success
    (message,) = project.failures(result)
    assert message.startswith("2 of 4 cells failed; the others are recorded.")
    assert "odd|23: its reference was not decoded yet; materialize decoded_reference" in message
    assert {made.partition for made in project.materializations(FEATURE_ROWS)} == {"bars|23", "bars|38"}


@on_both_storages
def test_nothing_shows_as_stale_after_a_run_nor_when_a_clip_is_added(project: Project) -> None:
    project.run_everything()
    (project.clips / "new.mp4").write_bytes(b"not looked into yet")
    project.write_manifest([{"src": f"{name}.mp4"} for name in ("bars", "odd", "broken", "new")])
    project.run(INGEST)
    assets = [
        asset for asset in build_definitions(project.settings).assets or () if isinstance(asset, dg.AssetsDefinition)
    ]
    resolver = get_stale_status_resolver(project.instance, assets)
    partitions: dict[dg.AssetKey, set[str]] = {
        DECODED_REFERENCE: {"bars", "odd", "broken"},
        DISTORTION: CELL_KEYS,
        FEATURE_ROWS: CELL_KEYS,
    }
    for asset, keys in partitions.items():
        stale = {key: resolver.get_stale_causes(asset, key) for key in keys}
        assert {key: resolver.get_status(asset, key) for key in keys} == dict.fromkeys(keys, StaleStatus.FRESH), stale


@pytest.mark.parametrize(
    "changes", [{"vmaf_model": "vmaf_v0.6.1neg"}, {"preset": "fast"}, {"extra_params": ("-g", "9")}]
)
def test_cells_show_as_stale_when_a_setting_of_their_identity_changes(
    materialized: Project, changes: dict[str, object]
) -> None:
    changed = build_definitions(materialized.with_settings(**changes).settings)
    assets = [asset for asset in changed.assets or () if isinstance(asset, dg.AssetsDefinition)]
    resolver = get_stale_status_resolver(materialized.instance, assets)
    assert resolver.get_status(FEATURE_ROWS, "bars|23") == StaleStatus.STALE
    assert resolver.get_status(DECODED_REFERENCE, "bars") == StaleStatus.FRESH


def test_frames_that_are_asked_for_later_come_to_stand_beside_the_same_rows(materialized: Project) -> None:
    before = materialized.tables.feature_rows.read()
    assert materialized.with_settings(per_frame_scores=True).run(CELLS, first="bars|23", last="broken|38").success
    assert materialized.tables.frame_scores.read()["identity"].to_list() == before["identity"].to_list()
    values = ["clip", "crf", "identity", "vmaf_score", *(f"{feature}_mean" for feature in CANONICAL6_FEATURES)]
    assert materialized.tables.feature_rows.read().select(values).equals(before.select(values))


@on_both_storages
def test_a_new_clip_becomes_a_partition_and_the_old_ones_stay(project: Project) -> None:
    project.run(INGEST)
    (project.clips / "new.mp4").write_bytes(b"not looked into yet")
    project.write_manifest([{"src": "new.mp4"}, {"src": "bars.mp4"}])
    project.run(INGEST)
    assert list(project.instance.get_dynamic_partitions(CLIP)) == ["bars", "odd", "broken", "new"]


def test_a_broken_corpus_is_not_published_over_a_good_one(materialized: Project) -> None:
    good = current_version(materialized.tables.corpus)
    rows = materialized.tables.feature_rows.read().filter(pl.col("clip") == "bars")
    materialized.tables.feature_rows.append(rows.with_columns(vmaf_score=pl.lit(math.nan)).to_dicts())
    result = materialized.run(PUBLISH)
    assert not result.success
    assert any("VMAF is not in 0..100" in message for message in materialized.failures(result))
    assert current_version(materialized.tables.corpus) == good


def test_a_disk_that_takes_no_corpus_is_one_sentence(published: Project) -> None:
    shutil.rmtree(published.tables.corpus)
    published.tables.corpus.write_text("in the way")
    (message,) = published.failures(published.run(PUBLISH))
    assert message.startswith(
        f"{published.tables.corpus}/versions: Not a directory. What was published before is still"
    )
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ffmpeg_path": "/nowhere/ffmpeg"}, "the configured ffmpeg, /nowhere/ffmpeg, is not an executable file"),
        ({"vmaf_model": "vmaf_v9"}, "has no model vmaf_v9"),
        ({"preset": "glacial"}, "libx264 has no preset glacial"),
    ],
)
def test_a_missing_tool_is_one_sentence_and_records_nothing(
    project: Project, changes: dict[str, object], sentence: str
) -> None:
    project.run(INGEST)
    result = project.with_settings(**changes).run(REFERENCES, first="bars")
    assert not result.success
    (message,) = project.failures(result)
    assert sentence in message
    assert "\n" not in message
    assert project.materializations(DECODED_REFERENCE) == []


def test_a_manifest_that_cannot_be_used_is_one_sentence_with_its_line(project: Project) -> None:
    project.run(INGEST)
    before = project.tables.clips.read()
    project.manifest.write_text('{"mos": 3}\n{"mos": 2}\n')
    result = project.run(INGEST)
    assert not result.success
    (message,) = project.failures(result)
    reason = "src is missing; it is the path of the clip"
    assert message == f"{project.manifest}: none of its rows can be used; line 1: {reason}"
    assert project.tables.clips.read().equals(before)


def test_without_a_dataset_a_newcomer_is_told_what_to_write(project: Project) -> None:
    (message,) = project.failures(project.with_settings(datasets=()).run(INGEST))
    assert message == "no dataset is configured; add [[datasets]] with name and manifest to frnr.toml"


def test_an_operator_sees_what_an_ingestion_did(project: Project) -> None:
    project.run(INGEST)
    (project.clips / "copy.mp4").write_bytes((project.clips / "bars.mp4").read_bytes())
    project.write_manifest(
        [{"src": "bars.mp4", "mos": 2}, {"src": "odd.mp4"}, {"src": "copy.mp4"}, {"src": "gone.mp4"}]
    )
    project.run(INGEST)
    metadata = project.materializations(SOURCE_MANIFEST)[-1].metadata
    numbers_now = {name: value.value for name, value in metadata.items() if isinstance(value.value, int)}
    assert numbers_now == {
        "dagster/row_count": 2,
        "clips": 2,
        "clips with MOS": 1,
        "clips without a file": 0,
        "new clips": 0,
        "clips with another file": 0,
        "clips with another MOS": 1,
        "clips back": 0,
        "clips removed": 1,
        "new partitions": 0,
        "rejected rows": 2,
    }
    assert metadata["rejected rows by reason"].value == (
        "| reason | count |\n|---|---|\n| no file | 1 |\n| same content | 1 |"
    )


def test_two_clips_of_one_name_are_two_partitions(project: Project) -> None:
    (project.clips / "elsewhere").mkdir()
    (project.clips / "elsewhere" / "bars.mp4").write_bytes(b"another")
    project.run(INGEST)
    project.write_manifest([{"src": "bars.mp4"}, {"src": "elsewhere/bars.mp4"}])
    project.run(INGEST)
    keys = list(project.instance.get_dynamic_partitions(CLIP))
    assert keys[:3] == ["bars", "odd", "broken"]
    assert len(keys) == 4
    assert keys[3].startswith("bars~")


def test_a_clip_that_left_the_manifest_costs_only_its_own_cells(materialized: Project) -> None:
    materialized.write_manifest([{"src": "bars.mp4"}])
    materialized.run(INGEST)
    result = materialized.run(CELLS, first="bars|23", last="odd|38")
    (message,) = materialized.failures(result)
    assert message.startswith(
        "2 of 4 cells failed; the others are recorded.\nodd|23: it is not in the manifest any more"
    )
    assert {made.partition for made in materialized.materializations(FEATURE_ROWS)[-2:]} == {"bars|23", "bars|38"}


@pytest.mark.parametrize("asset", ASSETS, ids=lambda asset: str(asset.to_user_string()))
def test_an_asset_tells_a_newcomer_what_it_is(asset: dg.AssetKey) -> None:
    spec = build_definitions(Settings()).resolve_asset_graph().get(asset)
    assert spec.description is not None
    assert CAVEAT in spec.description
    assert spec.owners
    assert spec.kinds
    assert asset in {DISTORTION, CORPUS_REPORT} or "dagster/column_schema" in spec.metadata


def test_a_tool_that_goes_away_ends_the_run_in_a_sentence_and_blames_no_clip(decoded: Project, ffmpeg: FFmpeg) -> None:
    wrapper = wrap(ffmpeg.path, decoded.folder / "tool")
    there = decoded.with_settings(ffmpeg_path=wrapper.path)
    wrapper.vanish("odd.mp4.* -crf 38 ")
    failed = there.run(CELLS, first="bars|23", last="odd|38")
    assert there.failures(failed) == [f"{wrapper.path} is not an executable file"]
    assert set(there.tables.quarantine()["clip"]) == {"broken"}
    assert decoded.run(CELLS, first="bars|23", last="odd|38").success
    assert len(there.tables.current_rows()) == 2 * 2


def test_a_clip_that_keeps_failing_shows_its_quarantine_where_a_person_looks_for_it(
    decoded: Project, ffmpeg: FFmpeg
) -> None:
    wrapper = wrap(ffmpeg.path, decoded.folder / "tool")
    failing = decoded.with_settings(ffmpeg_path=wrapper.path)
    wrapper.fail("odd.mp4.* -crf 38 ")
    succeeded = [failing.run(CELLS, first="bars|23", last="odd|38").success for _ in range(MAX_ATTEMPTS)]
    assert succeeded == [False, False, True], "a clip that keeps failing does not keep a backfill red for ever"
    metadata = {name: value.value for name, value in failing.materializations(DECODED_REFERENCE)[-1].metadata.items()}
    assert metadata["quarantined"]
    assert metadata["attempts"] == MAX_ATTEMPTS
    assert metadata["quarantine reason"] == (
        "it failed in 3 runs; the last time: encode at CRF 38 failed: told to fail"
    )
    assert "exit status: 1" in str(metadata["tool output"])
    assert len(str(metadata["source SHA-256"])) == 64
    assert set(failing.tables.current_rows()["clip"]) == {"bars"}
