"""The scores of every frame: in a table of their own, beside rows that are what they are without them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev

import polars as pl
import pytest

from frnr_assets.corpus.schema import FRAME_COLUMNS, FRAME_SCORES_SCHEMA
from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.engine.outcomes import CellDone, Clip
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets_tests.conftest import MakeClip
from frnr_assets_tests.engine.test_extra_features import contract, decode, measure, outcomes

CRFS = (24, 40)
# Half of the last of a float32's 24 bits.
FLOAT32 = 2.0**-24


@pytest.fixture
def clip(make_clip: MakeClip, tmp_path: Path) -> Clip:
    return Clip("a", make_clip(tmp_path / "a.mp4"), 3.0)


@pytest.fixture
def asked(engine: Engine, clip: Clip) -> Engine:
    """An engine that was asked for the frames, with its clip decoded."""
    decode(engine, clip)
    return replace(engine, per_frame_scores=True)


def cells_with_frames(engine: Engine) -> Sequence[int]:
    return engine.tables.frame_scores.read(columns=[])["crf"].to_list()


def test_means_and_deviations_of_a_row_are_those_of_its_frames(asked: Engine, clip: Clip) -> None:
    rows = {cell.crf: cell.row for cell in measure(asked, clip)}
    cells = asked.tables.frame_scores.read().to_dicts()
    assert [cell["crf"] for cell in cells] == list(CRFS)
    for cell in cells:
        row = rows[cell["crf"]]
        assert {len(cell[name]) for name in FRAME_COLUMNS} == {row["frames"]} == {12}
        moments = {name: (fmean(cell[name]), pstdev(cell[name])) for name in FRAME_COLUMNS}
        for name, (mean, std) in moments.items():
            rounding = max(cell[name]) * FLOAT32
            assert mean == pytest.approx(row["vmaf_score" if name == "vmaf" else f"{name}_mean"], rel=0, abs=rounding)
            if name != "vmaf":
                assert std == pytest.approx(row[f"{name}_std"], rel=0, abs=2 * rounding)
        assert moments["motion2"][1] > 0, "frames that differ, so that their order and number mean something"
    assert fmean(cells[0]["vmaf"]) > fmean(cells[1]["vmaf"])


def test_frames_say_which_row_they_belong_to_and_are_kept_in_single_precision(asked: Engine, clip: Clip) -> None:
    rows = [cell.row for cell in measure(asked, clip)]
    cells = asked.tables.frame_scores.read().to_dicts()
    for name in ("clip", "encoder", "preset", "crf", "identity", "src_sha256"):
        assert [cell[name] for cell in cells] == [row[name] for row in rows]
    assert [schema.equals(FRAME_SCORES_SCHEMA) for schema in asked.tables.frame_scores.schemas()] == [True]
    assert asked.tables.frame_scores.read().schema["adm2"] == pl.List(pl.Float32)


def test_who_does_not_ask_gets_the_same_rows_and_no_table(
    asked: Engine, clip: Clip, engine: Engine, tmp_path: Path
) -> None:
    without = replace(engine, tables=Tables(tmp_path / "without"))
    decode(without, clip)
    assert contract(measure(asked, clip)) == contract(measure(without, clip))
    assert not (tmp_path / "without" / "tables" / "frame_scores").exists()


def test_only_cells_without_frames_are_measured_again_and_none_twice(engine: Engine, asked: Engine, clip: Clip) -> None:
    first = measure(engine, clip)
    assert cells_with_frames(engine) == []
    assert outcomes(measure(asked, clip, crfs=CRFS[:1])) == {"done"}
    again = measure(asked, clip)
    assert [cell.outcome for cell in again] == ["reused", "done"]
    assert contract(again) == contract(first)
    before = asked.tables.frame_scores.read()
    for each in (asked, engine):
        assert outcomes(measure(each, clip)) == {"reused"}
    assert asked.tables.frame_scores.read().equals(before)


def test_frames_of_a_row_that_another_model_replaced_are_not_taken_for_those_of_the_row(
    engine: Engine, asked: Engine, clip: Clip
) -> None:
    other = replace(engine.toolchain, vmaf=vmaf_settings("vmaf_v0.6.1neg"))
    measure(asked, clip)
    measure(replace(engine, toolchain=other), clip)
    done: list[CellDone] = measure(replace(asked, toolchain=other), clip)
    assert outcomes(done) == {"done"}
    assert asked.tables.frame_scores.read()["identity"].to_list() == [cell.row["identity"] for cell in done]
