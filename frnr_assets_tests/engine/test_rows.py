from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from frnr_assets.engine.rows import cell_identity, reference_identity, reference_of
from frnr_assets.media.process import TimeLimits, ToolRunner
from frnr_assets.media.reference import Reference, working_format
from frnr_assets.media.toolchain import Toolchain
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets_tests.corpus.rows import reference_row

SHA256 = "0" * 64
SECONDS = 8
Change = Callable[[Toolchain], Toolchain]


@pytest.fixture
def reference() -> Reference:
    """The facts of a clip of ten bits in 4:4:4, which is SECONDS long."""
    row = reference_row(source_pix_fmt="yuv444p10le", source_chroma="444", source_bit_depth=10)
    return reference_of({**row, "src_sha256": SHA256, "rate_num": 30, "rate_den": 1, "frames": 30 * SECONDS})


def _encoder(toolchain: Toolchain, **changes: object) -> Toolchain:
    encoder = replace(toolchain.settings.encoder, **changes)  # type: ignore[arg-type]
    return replace(toolchain, settings=replace(toolchain.settings, encoder=encoder))


def _params(toolchain: Toolchain, *params: str) -> Toolchain:
    return replace(toolchain, settings=replace(toolchain.settings, extra_params=params))


def _sample(toolchain: Toolchain, seconds: float) -> Toolchain:
    return replace(toolchain, settings=replace(toolchain.settings, sample_clip_seconds=seconds))


@pytest.mark.parametrize(
    "change",
    [
        lambda toolchain: _encoder(toolchain, name="libx265"),
        lambda toolchain: replace(toolchain, encoder_version="libx264-999"),
        lambda toolchain: replace(toolchain, settings=replace(toolchain.settings, preset="slow")),
        lambda toolchain: _params(toolchain, "-tune", "film"),
        lambda toolchain: replace(toolchain, ffmpeg=replace(toolchain.ffmpeg, version="n0")),
        lambda toolchain: replace(toolchain, vmaf=vmaf_settings("vmaf_4k_v0.6.1")),
        lambda toolchain: replace(toolchain, libvmaf_version="0.0.0"),
        lambda toolchain: _sample(toolchain, SECONDS - 1),
    ],
    ids=["encoder", "encoder version", "preset", "parameters", "ffmpeg", "model", "libvmaf", "sample"],
)
def test_a_row_made_with_something_else_is_never_taken_for_this_one(
    toolchain: Toolchain, reference: Reference, change: Change
) -> None:
    assert cell_identity(reference, 23, change(toolchain)) != cell_identity(reference, 23, toolchain)


@pytest.mark.parametrize(
    ("src_sha256", "crf"), [("1" * 64, 23), (SHA256, 24), (SHA256, 2), (SHA256, 3)], ids=["source", "24", "2", "3"]
)
def test_a_row_of_another_cell_is_never_taken_for_this_one(
    toolchain: Toolchain, reference: Reference, src_sha256: str, crf: int
) -> None:
    of_the_source = replace(reference, fingerprint=replace(reference.fingerprint, sha256=src_sha256))
    assert cell_identity(of_the_source, crf, toolchain) != cell_identity(reference, 23, toolchain)


def test_a_row_of_another_recipe_is_never_taken_for_this_one(
    toolchain: Toolchain, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cell_identity(reference, 23, toolchain)
    monkeypatch.setattr("frnr_assets.engine.rows.RECIPE_VERSION", "another")
    assert cell_identity(reference, 23, toolchain) != before


def test_rows_of_samples_of_different_lengths_are_never_taken_for_each_other(
    toolchain: Toolchain, reference: Reference
) -> None:
    samples = [0, 0.5, 2, 2.5, SECONDS - 1 / 30]
    assert len({cell_identity(reference, 23, _sample(toolchain, seconds)) for seconds in samples}) == len(samples)


def test_parameters_in_another_order_or_grouping_are_other_parameters(
    toolchain: Toolchain, reference: Reference
) -> None:
    spellings = [("-tune", "film"), ("film", "-tune"), ("-tune film",), ("-tune", "film", ""), ()]
    assert len({cell_identity(reference, 23, _params(toolchain, *params)) for params in spellings}) == len(spellings)


@pytest.mark.parametrize(
    "change",
    [
        lambda toolchain: replace(toolchain, ffmpeg=replace(toolchain.ffmpeg, path=Path("/elsewhere/ffmpeg"))),
        lambda toolchain: replace(toolchain, limits=TimeLimits(base_s=1.0, per_megapixel_s=9.0)),
        lambda toolchain: replace(toolchain, runner=ToolRunner()),
        lambda toolchain: _sample(toolchain, SECONDS),
        lambda toolchain: replace(toolchain, vmaf=vmaf_settings("auto")),
    ],
    ids=["place of ffmpeg", "time limits", "runner", "sample as long as the clip", "the same model chosen by size"],
)
def test_what_cannot_change_a_value_does_not_cost_a_new_measurement(
    toolchain: Toolchain, reference: Reference, change: Change
) -> None:
    assert cell_identity(reference, 23, change(toolchain)) == cell_identity(reference, 23, toolchain)
    assert reference_identity(SHA256, change(toolchain)) == reference_identity(SHA256, toolchain)


def test_a_reference_found_with_another_ffmpeg_is_decoded_again(toolchain: Toolchain) -> None:
    other = replace(toolchain, ffmpeg=replace(toolchain.ffmpeg, version="n0"))
    assert reference_identity(SHA256, other) != reference_identity(SHA256, toolchain)


@pytest.mark.parametrize(
    ("takes", "pix_fmt"),
    [({"chroma": ("420",)}, "yuv420p10le"), ({"bit_depths": (8,)}, "yuv444p")],
    ids=["chroma", "bit depth"],
)
def test_an_encoder_of_other_formats_finds_its_own_in_what_was_probed_and_decodes_no_clip_again(
    toolchain: Toolchain, reference: Reference, takes: dict[str, object], pix_fmt: str
) -> None:
    other = _encoder(toolchain, **takes)
    assert reference_identity(SHA256, other) == reference_identity(SHA256, toolchain)
    assert working_format(reference.probe, toolchain.settings.encoder).pix_fmt == "yuv444p10le"
    assert working_format(reference.probe, other.settings.encoder).pix_fmt == pix_fmt


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
