from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from frnr_assets.engine.rows import cell_identity, reference_identity
from frnr_assets.media.process import TimeLimits, ToolRunner
from frnr_assets.media.toolchain import Toolchain

SHA256 = "0" * 64
Change = Callable[[Toolchain], Toolchain]


def _encoder(toolchain: Toolchain, **changes: object) -> Toolchain:
    encoder = replace(toolchain.settings.encoder, **changes)  # type: ignore[arg-type]
    return replace(toolchain, settings=replace(toolchain.settings, encoder=encoder))


def _params(toolchain: Toolchain, *params: str) -> Toolchain:
    return replace(toolchain, settings=replace(toolchain.settings, extra_params=params))


@pytest.mark.parametrize(
    "change",
    [
        lambda toolchain: _encoder(toolchain, name="libx265"),
        lambda toolchain: replace(toolchain, encoder_version="libx264-999"),
        lambda toolchain: replace(toolchain, settings=replace(toolchain.settings, preset="slow")),
        lambda toolchain: _params(toolchain, "-tune", "film"),
        lambda toolchain: replace(toolchain, ffmpeg=replace(toolchain.ffmpeg, version="n0")),
        lambda toolchain: replace(toolchain, vmaf_model="vmaf_4k_v0.6.1"),
        lambda toolchain: replace(toolchain, libvmaf_version="0.0.0"),
    ],
    ids=["encoder", "encoder version", "preset", "parameters", "ffmpeg", "model", "libvmaf"],
)
def test_a_row_made_with_something_else_is_never_taken_for_this_one(toolchain: Toolchain, change: Change) -> None:
    assert cell_identity(SHA256, 23, change(toolchain)) != cell_identity(SHA256, 23, toolchain)


@pytest.mark.parametrize(
    ("src_sha256", "crf"), [("1" * 64, 23), (SHA256, 24), (SHA256, 2), (SHA256, 3)], ids=["source", "24", "2", "3"]
)
def test_a_row_of_another_cell_is_never_taken_for_this_one(toolchain: Toolchain, src_sha256: str, crf: int) -> None:
    assert cell_identity(src_sha256, crf, toolchain) != cell_identity(SHA256, 23, toolchain)


@pytest.mark.parametrize("ingredient", ["RECIPE_VERSION", "CLIP_MODE"])
def test_a_row_of_another_recipe_is_never_taken_for_this_one(
    toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch, ingredient: str
) -> None:
    before = cell_identity(SHA256, 23, toolchain)
    monkeypatch.setattr(f"frnr_assets.engine.rows.{ingredient}", "another")
    assert cell_identity(SHA256, 23, toolchain) != before


def test_parameters_in_another_order_or_grouping_are_other_parameters(toolchain: Toolchain) -> None:
    spellings = [("-tune", "film"), ("film", "-tune"), ("-tune film",), ("-tune", "film", ""), ()]
    assert len({cell_identity(SHA256, 23, _params(toolchain, *params)) for params in spellings}) == len(spellings)


@pytest.mark.parametrize(
    "change",
    [
        lambda toolchain: replace(toolchain, ffmpeg=replace(toolchain.ffmpeg, path=Path("/elsewhere/ffmpeg"))),
        lambda toolchain: replace(toolchain, limits=TimeLimits(base_s=1.0, per_megapixel_s=9.0)),
        lambda toolchain: replace(toolchain, runner=ToolRunner()),
    ],
    ids=["place of ffmpeg", "time limits", "runner"],
)
def test_what_cannot_change_a_value_does_not_cost_a_new_measurement(toolchain: Toolchain, change: Change) -> None:
    assert cell_identity(SHA256, 23, change(toolchain)) == cell_identity(SHA256, 23, toolchain)
    assert reference_identity(SHA256, change(toolchain)) == reference_identity(SHA256, toolchain)


@pytest.mark.parametrize(
    "change",
    [
        lambda toolchain: _encoder(toolchain, chroma=("420",)),
        lambda toolchain: _encoder(toolchain, bit_depths=(8,)),
        lambda toolchain: replace(toolchain, ffmpeg=replace(toolchain.ffmpeg, version="n0")),
    ],
    ids=["chroma", "bit depth", "ffmpeg"],
)
def test_a_reference_found_with_something_else_is_decoded_again(toolchain: Toolchain, change: Change) -> None:
    assert reference_identity(SHA256, change(toolchain)) != reference_identity(SHA256, toolchain)


def test_a_reference_of_another_file_or_recipe_is_decoded_again(
    toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = reference_identity(SHA256, toolchain)
    assert reference_identity("1" * 64, toolchain) != before
    monkeypatch.setattr("frnr_assets.engine.rows.RECIPE_VERSION", "another")
    assert reference_identity(SHA256, toolchain) != before


def test_another_preset_does_not_decode_every_clip_again(toolchain: Toolchain) -> None:
    slow = replace(toolchain, settings=replace(toolchain.settings, preset="slow", extra_params=("-tune", "film")))
    assert reference_identity(SHA256, slow) == reference_identity(SHA256, toolchain)
