"""Features beyond the contract: in a table of their own, beside rows that are what they are without them."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import polars as pl
import pytest

from frnr_assets.corpus.backlog import Recipe, backlog
from frnr_assets.corpus.schema import FEATURE_ROWS_SCHEMA
from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.engine.outcomes import CellDone, Clip, ReferenceDone
from frnr_assets.engine.rows import reference_of
from frnr_assets.media.encode import EncodeSettings
from frnr_assets.media.encoders import LIBX265
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.score import score_distortions
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets.vocabulary import EXTRA_FEATURES
from frnr_assets_tests.assets.tool_wrapper import wrap
from frnr_assets_tests.conftest import RULES, SMALL_SCENE, MakeClip
from frnr_assets_tests.corpus.test_backlog import clip_row

CRFS = (24, 40)
EVERYTHING = tuple(EXTRA_FEATURES)
LARGE_SCENE = SMALL_SCENE.replace("64x48", "216x176").replace("end_frame=12", "end_frame=3")
TOO_LARGE_FOR_SMALL = {"float_ms_ssim", "cambi"}
# What differs between two measurements of the same cell.
TIMES = {"encode_time_ms", "score_time_ms", "timestamp", "recorded_ns", "run_id"}


@pytest.fixture
def small(make_clip: MakeClip, tmp_path: Path) -> Clip:
    return Clip("small", make_clip(tmp_path / "small.mp4"), 3.0)


@pytest.fixture
def large(make_clip: MakeClip, tmp_path: Path) -> Clip:
    return Clip("large", make_clip(tmp_path / "large.mp4", LARGE_SCENE), 4.0)


def asking(engine: Engine, *features: str, model: str = "vmaf_v0.6.1") -> Engine:
    return replace(engine, toolchain=replace(engine.toolchain, vmaf=vmaf_settings(model, features)))


def decode(engine: Engine, *clips: Clip) -> None:
    assert {type(done) for done in engine.decode_references(clips)} == {ReferenceDone}


def measure(engine: Engine, *clips: Clip, crfs: Sequence[int] = CRFS) -> list[CellDone]:
    cells = list(engine.measure_cells(dict.fromkeys(clips, crfs), run_id="run"))
    done = [cell for cell in cells if isinstance(cell, CellDone)]
    assert done == cells
    return sorted(done, key=lambda cell: (cell.clip, cell.crf))


def outcomes(cells: Sequence[CellDone]) -> set[str]:
    return {cell.outcome for cell in cells}


def columns_of(*features: str) -> set[str]:
    return {column for name in features for column in EXTRA_FEATURES[name].columns}


def stored(tables: Tables, clip: str, crf: int, **more: str) -> dict[str, tuple[float | None, float | None]]:
    """Mean and deviation of each value of a cell, as the table has them."""
    found = tables.extra_features.read().filter(pl.col("clip") == clip, pl.col("crf") == crf)
    for name, value in more.items():
        found = found.filter(pl.col(name) == value)
    return {row["feature"]: (row["mean"], row["std"]) for row in found.iter_rows(named=True)}


def contract(cells: Sequence[CellDone]) -> list[dict[str, Any]]:
    return [{name: value for name, value in cell.row.items() if name not in TIMES} for cell in cells]


def recipe(engine: Engine) -> Recipe:
    settings, vmaf = engine.toolchain.settings, engine.toolchain.vmaf
    return Recipe(
        sweep=CRFS,
        encoder=settings.encoder.name,
        preset=settings.preset,
        extra_params=settings.extra_params,
        vmaf_models=tuple(model.name for model in vmaf.models.models),
        extra_features=vmaf.extra_features,
    )


def to_measure(engine: Engine, *clips: Clip) -> frozenset[str]:
    """What the backlog says of some clips, as they were ingested."""
    files = {clip: clip.src.stat() for clip in clips}
    engine.tables.clips.write(
        [clip_row(clip.key, size_bytes=file.st_size, mtime_ns=file.st_mtime_ns) for clip, file in files.items()]
    )
    return backlog(engine.tables, recipe(engine)).to_measure


def test_the_table_has_the_moments_of_the_frames(engine: Engine, large: Clip, tmp_path: Path) -> None:
    engine = replace(asking(engine, *EVERYTHING), keep_encodes=True)
    decode(engine, large)
    cells = measure(engine, large)
    toolchain = engine.toolchain
    for cell in cells:
        scratch = tmp_path / f"score{cell.crf}"
        scratch.mkdir()
        (score,) = score_distortions(
            large.src,
            reference_of(engine.tables.references.read().row(0, named=True)),
            [Path(cell.row["encode_path"])],
            vmaf=toolchain.vmaf,
            ffmpeg=toolchain.ffmpeg,
            runner=toolchain.runner,
            limits=toolchain.limits,
            rules=RULES,
            scratch=scratch,
        )
        found = stored(engine.tables, "large", cell.crf)
        assert set(found) == set(score.extras) == columns_of(*EVERYTHING)
        for name, frames in score.extras.items():
            assert len(frames) == cell.row["frames"] == 3
            assert found[name] == pytest.approx((fmean(frames), pstdev(frames)), rel=1e-12, abs=1e-12)
    better, worse = ({name: mean for name, (mean, _) in stored(engine.tables, "large", crf).items()} for crf in CRFS)
    for name in columns_of(*EVERYTHING) - {"cambi"}:
        assert (better[name] or 0) > (worse[name] or 0) > 0


def test_psnr_is_what_ffmpegs_own_filter_says(
    engine: Engine, small: Clip, runner: ToolRunner, ffmpeg: FFmpeg, tmp_path: Path
) -> None:
    engine = replace(asking(engine, "psnr"), keep_encodes=True)
    decode(engine, small)
    (cell,) = measure(engine, small, crfs=(40,))
    inputs = ("-i", cell.row["encode_path"], "-i", str(small.src))
    argv = [str(ffmpeg.path), "-v", "error", *inputs, "-lavfi", "psnr=stats_file=psnr.log", "-f", "null", "-"]
    assert runner.run(argv, cwd=tmp_path, timeout_s=60).returncode == 0
    log = (tmp_path / "psnr.log").read_text()
    for plane, column in (("y", "psnr_y"), ("u", "psnr_cb"), ("v", "psnr_cr")):
        frames = [float(value) for value in re.findall(rf"psnr_{plane}:([\d.]+)", log)]
        assert len(frames) == 12
        # ffmpeg prints two digits.
        assert stored(engine.tables, "small", 40)[column] == pytest.approx((fmean(frames), pstdev(frames)), abs=0.01)


def test_a_value_says_which_row_it_belongs_to(engine: Engine, small: Clip) -> None:
    engine = asking(engine, "psnr", "ssim")
    decode(engine, small)
    rows = {cell.crf: cell.row for cell in measure(engine, small)}
    table = engine.tables.extra_features.read()
    assert len(table) == len(CRFS) * len(columns_of("psnr", "ssim"))
    for extra in table.iter_rows(named=True):
        row = rows[extra["crf"]]
        for name in ("clip", "encoder", "preset", "identity", "src_sha256"):
            assert extra[name] == row[name]
    joined = engine.tables.feature_rows.read().join(table, on=["clip", "identity"])
    assert len(joined) == len(table)


def test_the_rows_of_the_contract_are_those_without_extra_features(
    engine: Engine, small: Clip, large: Clip, tmp_path: Path
) -> None:
    without = replace(engine, tables=Tables(tmp_path / "without"))
    asked = asking(engine, *EVERYTHING)
    for each in (without, asked):
        decode(each, small, large)
    expected = measure(without, small, large)
    assert contract(measure(asked, small, large)) == contract(expected)
    assert asked.tables.feature_rows.read().columns == FEATURE_ROWS_SCHEMA.names
    assert asked.tables.feature_rows.schemas() == without.tables.feature_rows.schemas()
    assert without.tables.extra_features.read().is_empty()


def test_asking_later_measures_again_and_asking_the_same_again_reuses(engine: Engine, small: Clip) -> None:
    decode(engine, small)
    first = measure(engine, small)
    psnr = asking(engine, "psnr")
    asked = measure(psnr, small)
    assert outcomes(asked) == {"done"}
    assert contract(asked) == contract(first)
    before = engine.tables.extra_features.read()
    rows = engine.tables.feature_rows.read()
    assert outcomes(measure(psnr, small)) == {"reused"}
    assert engine.tables.extra_features.read().equals(before)
    assert engine.tables.feature_rows.read().equals(rows)


def test_asking_for_more_keeps_what_was_there_and_asking_for_less_measures_nothing(engine: Engine, small: Clip) -> None:
    decode(engine, small)
    measure(asking(engine, "psnr"), small)
    psnr = stored(engine.tables, "small", 24)
    assert outcomes(measure(asking(engine, "ssim"), small)) == {"done"}
    both = stored(engine.tables, "small", 24)
    assert set(both) == columns_of("psnr", "ssim")
    assert {name: both[name] for name in psnr} == psnr
    for features in (("psnr", "ssim"), ("ssim", "psnr"), ("psnr",), ("ssim",), ()):
        assert outcomes(measure(asking(engine, *features), small)) == {"reused"}


def test_only_the_cells_that_lack_values_are_measured_again(engine: Engine, small: Clip) -> None:
    decode(engine, small)
    measure(engine, small)
    asked = asking(engine, "ssim")
    measure(asked, small, crfs=CRFS[:1])
    assert [cell.outcome for cell in measure(asked, small)] == ["reused", "done"]


def test_values_of_another_model_belong_to_rows_that_are_not_there_any_more(engine: Engine, small: Clip) -> None:
    decode(engine, small)
    asked, other = asking(engine, "ssim"), asking(engine, model="vmaf_v0.6.1neg")
    measure(asked, small)
    measure(other, small)
    with_both = asking(engine, "ssim", model="vmaf_v0.6.1neg")
    assert to_measure(with_both, small) == {"small"}
    assert outcomes(measure(with_both, small)) == {"done"}
    assert to_measure(with_both, small) == set()
    assert outcomes(measure(with_both, small)) == {"reused"}
    rows = engine.tables.feature_rows.read()
    assert set(engine.tables.extra_features.read()["identity"]) == set(rows["identity"])


def test_kept_encodes_are_scored_again_and_not_made_again(
    engine: Engine, small: Clip, ffmpeg: FFmpeg, tmp_path: Path
) -> None:
    wrapper = wrap(ffmpeg.path, tmp_path / "tool")
    counted = replace(engine.toolchain, ffmpeg=replace(ffmpeg, path=wrapper.path))
    keeping = replace(engine, keep_encodes=True, toolchain=counted)
    decode(keeping, small)
    measure(keeping, small)
    assert outcomes(measure(asking(keeping, "psnr", "ssim"), small)) == {"done"}
    assert wrapper.encodes == len(CRFS)
    assert set(stored(keeping.tables, "small", 24)) == columns_of("psnr", "ssim")


def test_a_clip_that_is_too_small_for_some_is_complete_with_the_others(
    engine: Engine, small: Clip, large: Clip
) -> None:
    asked = asking(engine, *EVERYTHING)
    decode(asked, small, large)
    assert to_measure(asked, small, large) == {"small", "large"}
    assert outcomes(measure(asked, small, large)) == {"done"}
    for crf in CRFS:
        assert set(stored(asked.tables, "small", crf)) == columns_of(*EVERYTHING) - TOO_LARGE_FOR_SMALL
        assert set(stored(asked.tables, "large", crf)) == columns_of(*EVERYTHING)
    assert outcomes(measure(asked, small, large)) == {"reused"}
    assert to_measure(asked, small, large) == set()


def test_a_clip_that_is_too_small_for_all_is_not_measured_again_for_them(engine: Engine, small: Clip) -> None:
    decode(engine, small)
    measure(engine, small)
    asked = asking(engine, "ms_ssim", "cambi")
    assert to_measure(asked, small) == set()
    assert outcomes(measure(asked, small)) == {"reused"}
    assert asked.tables.extra_features.read().is_empty()


def test_each_encoder_has_its_own(engine: Engine, small: Clip) -> None:
    asked = asking(engine, "psnr")
    x265 = replace(asked, toolchain=replace(asked.toolchain, settings=EncodeSettings(LIBX265, "ultrafast")))
    decode(asked, small)
    for each in (asked, x265):
        measure(each, small)
    tables = engine.tables
    found = [stored(tables, "small", 24, encoder=encoder) for encoder in ("libx264", "libx265")]
    assert set(found[0]) == set(found[1]) == columns_of("psnr")
    assert found[0] != found[1]
    for each in (asked, x265):
        assert outcomes(measure(each, small)) == {"reused"}


@pytest.mark.parametrize(
    "scene",
    [
        "testsrc2=size=64x48:rate=24,trim=end_frame=8,hue=s=0",
        "color=black:size=64x48:rate=24,trim=end_frame=8",
        SMALL_SCENE + ",fade=in:2:8",
    ],
    ids=["without colour", "black", "fades in"],
)
def test_a_clip_with_nothing_to_lose_is_complete_like_any_other(
    scene: str, engine: Engine, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = Clip("a", make_clip(tmp_path / "a.mp4", f"{scene},format=yuv420p"), 3.0)
    asked = asking(engine, *EVERYTHING)
    decode(asked, clip)
    assert outcomes(measure(asked, clip)) == {"done"}
    assert set(stored(asked.tables, "a", 24)) == columns_of(*EVERYTHING) - TOO_LARGE_FOR_SMALL
    values = [value for moments in stored(asked.tables, "a", 24).values() for value in moments]
    assert None in values, "what the encode keeps exactly has no PSNR-HVS"
    assert all(math.isfinite(value) for value in values if value is not None)
    assert to_measure(asked, clip) == set()
