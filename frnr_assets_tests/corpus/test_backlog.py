from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.corpus.backlog import Backlog, Recipe, backlog, blocks
from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets_tests.corpus.rows import SWEEP, feature_row, reference_row, sweep_rows

# The settings that the rows of rows.py say they were made with.
CONDITIONS = "the settings of now"
QUARANTINED = {"quarantine_reason": "it is empty", "identity": CONDITIONS}
RECIPE = Recipe(
    SWEEP,
    encoder="encoder",
    preset="preset",
    extra_params=(),
    vmaf_models=("vmaf_model",),
    conditions=CONDITIONS,
)


def clip_row(clip: str, **changes: Any) -> dict[str, Any]:
    """A clip as it was ingested, with the file that reference_row is of."""
    unknown = dict.fromkeys(("mos", "mos_std_dev", "n_ratings", "split", "url"))
    place = {"dataset": "tests", "name": f"{clip}.mp4", "src": f"/clips/{clip}.mp4", "manifest": "/m", "line": 1}
    file = {"size_bytes": 1, "mtime_ns": 1}
    return {"clip": clip, **place, **unknown, "extra": "{}", **file, "removed": False, **changes}


@pytest.fixture
def measured(tmp_path: Path) -> Tables:
    """Clips of which one is decoded and measured, one decoded, one new, one in quarantine."""
    tables = Tables(tmp_path)
    tables.clips.write([clip_row(clip) for clip in ("done", "decoded", "new", "broken")])
    tables.references.append([reference_row("done"), reference_row("decoded"), reference_row("broken", **QUARANTINED)])
    tables.feature_rows.append(sweep_rows("done"))
    return tables


def ingest_again(tables: Tables, clip: str, **changes: Any) -> None:
    tables.clips.write([{**row, **(changes if row["clip"] == clip else {})} for row in tables.clips.read().to_dicts()])


def parts(found: Backlog) -> tuple[Set[str], Set[str], Set[str], int]:
    return found.to_decode, found.to_measure, found.quarantined, found.complete


def test_each_clip_waits_for_the_stage_that_it_lacks(measured: Tables) -> None:
    assert parts(backlog(measured, RECIPE)) == ({"new"}, {"decoded"}, {"broken"}, 1)


def test_before_an_ingestion_an_operator_is_told_what_to_materialize(tmp_path: Path) -> None:
    with pytest.raises(NotMaterialized, match="materialize source_manifest first"):
        backlog(Tables(tmp_path), RECIPE)


@pytest.mark.parametrize("changes", [{"size_bytes": 2}, {"mtime_ns": 2}], ids=["size", "time"])
@pytest.mark.parametrize("clip", ["done", "decoded", "broken"])
def test_a_clip_whose_file_changed_is_decoded_again(measured: Tables, clip: str, changes: Mapping[str, int]) -> None:
    ingest_again(measured, clip, **changes)
    found = backlog(measured, RECIPE)
    assert found.to_decode == {"new", clip}
    assert clip not in found.to_measure | found.quarantined
    assert found.complete == (clip != "done")
    quarantine = QUARANTINED if clip == "broken" else {}
    measured.references.append([reference_row(clip, **changes, **quarantine)])
    assert parts(backlog(measured, RECIPE)) == ({"new"}, {"decoded"}, {"broken"}, 1)


def test_rows_of_the_file_before_are_none_of_the_file_now(measured: Tables) -> None:
    measured.references.append([reference_row("done", src_sha256="1" * 64)])
    assert backlog(measured, RECIPE).to_measure == {"done", "decoded"}
    measured.feature_rows.append([feature_row("done", crf, src_sha256="1" * 64) for crf in SWEEP[1:]])
    assert backlog(measured, RECIPE).to_measure == {"done", "decoded"}
    measured.feature_rows.append([feature_row("done", SWEEP[0], src_sha256="1" * 64)])
    assert backlog(measured, RECIPE).to_measure == {"decoded"}


def test_a_clip_that_left_quarantine_is_measured(measured: Tables) -> None:
    measured.references.append([reference_row("broken")])
    assert parts(backlog(measured, RECIPE)) == ({"new"}, {"decoded", "broken"}, set(), 1)


def test_a_clip_put_into_quarantine_is_not_measured_any_more(measured: Tables) -> None:
    measured.references.append([reference_row(clip, **QUARANTINED) for clip in ("done", "decoded")])
    assert parts(backlog(measured, RECIPE)) == ({"new"}, set(), {"done", "decoded", "broken"}, 0)


@pytest.mark.parametrize(
    "changes", [{"removed": True}, {"size_bytes": None, "mtime_ns": None}], ids=["removed", "without a file"]
)
@pytest.mark.parametrize("clip", ["done", "decoded", "new", "broken"])
def test_a_clip_that_cannot_be_worked_on_is_left_alone(measured: Tables, clip: str, changes: Mapping[str, Any]) -> None:
    before = backlog(measured, RECIPE)
    ingest_again(measured, clip, **changes)
    expected = (before.to_decode - {clip}, before.to_measure - {clip}, before.quarantined - {clip}, int(clip != "done"))
    assert parts(backlog(measured, RECIPE)) == expected
    ingest_again(measured, clip, removed=False, size_bytes=1, mtime_ns=1)
    assert backlog(measured, RECIPE) == before


@pytest.mark.parametrize(
    "recipe",
    [
        replace(RECIPE, preset="slow"),
        replace(RECIPE, vmaf_models=("vmaf_v0.6.1neg",)),
        replace(RECIPE, encoder="libx265"),
        replace(RECIPE, extra_params=("-g", "9")),
        replace(RECIPE, sample_clip_seconds=2.5),
        replace(RECIPE, sweep=(*SWEEP, 33)),
        replace(RECIPE, sweep=(17, *SWEEP[1:])),
    ],
    ids=["preset", "model", "encoder", "parameters", "sample", "one CRF more", "another CRF"],
)
def test_a_changed_setting_makes_every_measured_clip_lack_rows(measured: Tables, recipe: Recipe) -> None:
    assert parts(backlog(measured, recipe)) == ({"new"}, {"done", "decoded"}, {"broken"}, 0)
    made_with = {
        "encoder": recipe.encoder,
        "preset": recipe.preset,
        "vmaf_model": recipe.vmaf_models[0],
        "extra_params": list(recipe.extra_params),
        "clip_mode": "sample_2.5s" if recipe.sample_clip_seconds else "full",
    }
    measured.feature_rows.append([feature_row("done", crf, **made_with) for crf in recipe.sweep])
    assert parts(backlog(measured, recipe)) == ({"new"}, {"decoded"}, {"broken"}, 1)


def test_a_smaller_sweep_is_complete_with_the_rows_that_are_there(measured: Tables) -> None:
    assert parts(backlog(measured, replace(RECIPE, sweep=SWEEP[:1]))) == ({"new"}, {"decoded"}, {"broken"}, 1)


def test_parameters_split_otherwise_are_other_parameters(measured: Tables) -> None:
    measured.feature_rows.append([feature_row("done", crf, extra_params=["-tune film"]) for crf in SWEEP])
    assert "done" in backlog(measured, replace(RECIPE, extra_params=("-tune", "film"))).to_measure
    assert "done" not in backlog(measured, replace(RECIPE, extra_params=("-tune film",))).to_measure


@pytest.mark.parametrize(
    ("wanted", "size", "between", "expected"),
    [
        ("abcdef", 10, "", ["abcdef"]),
        ("abcdef", 4, "", ["abcd", "ef"]),
        ("abcdef", 3, "", ["abc", "def"]),
        ("abcdef", 1, "", ["a", "b", "c", "d", "e", "f"]),
        ("abdf", 10, "", ["ab", "d", "f"]),
        ("f", 10, "", ["f"]),
        ("", 10, "abcdef", []),
        ("af", 10, "bcde", ["abcdef"]),
        ("ac", 10, "b", ["abc"]),
        ("ae", 2, "bcd", ["ab", "e"]),
        ("xyz", 10, "", []),
    ],
)
def test_blocks_are_contiguous_and_none_is_too_long(wanted: str, size: int, between: str, expected: list[str]) -> None:
    found = ["".join(block) for block in blocks("abcdef", set(wanted), size, set(between))]
    assert found == expected


def test_a_clip_in_quarantine_is_tried_again_when_a_setting_has_changed(measured: Tables) -> None:
    assert backlog(measured, RECIPE).quarantined == {"broken"}
    found = backlog(measured, replace(RECIPE, conditions="other settings"))
    assert found.quarantined == frozenset()
    assert "broken" in found.to_decode
