"""One encode: what must stay the same, and what must not pass for a distortion."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from frnr_assets.media.encode import Distortion, encode_distortion, encode_memory_bytes
from frnr_assets.media.encoders import ENCODERS, STATISTICS_FILE, Encoder
from frnr_assets.media.process import TimeLimits, ToolFailed
from frnr_assets.media.reference import Reference
from frnr_assets.media.toolchain import Toolchain
from frnr_assets_tests.conftest import RULES, MakeClip
from frnr_assets_tests.media.conftest import DecodeClip, PlainFFmpeg


class Encode(Protocol):
    def __call__(
        self, *, crf: int = ..., extra: tuple[str, ...] = ..., reference: Reference | None = ..., base_s: float = ...
    ) -> Distortion: ...


@pytest.fixture
def source(make_clip: MakeClip, tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4")


@pytest.fixture
def reference(source: Path, decode: DecodeClip) -> Reference:
    return decode(source)


@pytest.fixture
def encode(
    source: Path, reference: Reference, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory
) -> Encode:
    facts = reference

    def run(
        *, crf: int = 28, extra: tuple[str, ...] = (), reference: Reference | None = None, base_s: float = 60
    ) -> Distortion:
        return encode_distortion(
            source,
            reference or facts,
            crf,
            settings=replace(toolchain.settings, extra_params=extra),
            ffmpeg=toolchain.ffmpeg,
            runner=toolchain.runner,
            limits=TimeLimits(base_s=base_s, per_megapixel_s=0),
            rules=RULES,
            scratch=tmp_path_factory.mktemp("encode"),
        )

    return run


def test_the_same_encode_twice_gives_the_same_file(encode: Encode) -> None:
    first, second = encode(), encode()
    assert first.path != second.path
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.statistics == second.statistics
    assert first.size_bytes == first.path.stat().st_size


def test_a_higher_crf_gives_a_smaller_file_and_fewer_bits(encode: Encode) -> None:
    found = [encode(crf=crf) for crf in (18, 28, 38)]
    sizes = [distortion.size_bytes for distortion in found]
    bits = [distortion.statistics.columns["enc_internal_bits_mean"] for distortion in found]
    assert sizes == sorted(set(sizes), reverse=True)
    assert bits == sorted(set(bits), reverse=True)


def test_writing_statistics_does_not_change_the_pictures_or_their_bits(
    encode: Encode, source: Path, plain_ffmpeg: PlainFFmpeg, tmp_path: Path
) -> None:
    ours = encode()
    by_hand = tmp_path / "by_hand.mp4"
    x264 = ("-c:v", "libx264", "-preset", "medium", "-crf", "28", "-threads", "1")
    plain_ffmpeg("-i", source, *x264, "-map_metadata", "-1", by_hand)

    def packets(path: Path) -> bytes:
        return plain_ffmpeg("-i", path, "-c", "copy", "-f", "framemd5", "-").stdout

    assert (ours.path.parent / STATISTICS_FILE).exists()
    assert packets(ours.path) == packets(by_hand)


def test_the_statistics_are_those_of_the_file(encode: Encode, reference: Reference) -> None:
    found = encode()
    assert found.statistics.frames == reference.frames
    bits = found.statistics.columns["enc_internal_bits_mean"] * found.statistics.frames
    # The rest is the container and the encoder's own note on its settings.
    assert 0 < found.size_bytes - bits / 8 < 2500


def test_further_parameters_reach_the_encoder(encode: Encode) -> None:
    assert encode(extra=("-g", "1")).statistics.columns["enc_internal_intra_ratio"] == 1.0
    assert encode().statistics.columns["enc_internal_intra_ratio"] < 1.0


@pytest.mark.parametrize("frames", [11, 13])
def test_an_encode_with_another_number_of_frames_is_no_distortion(
    frames: int, encode: Encode, reference: Reference
) -> None:
    message = rf"^encode at CRF 28 failed: {frames} frames went in, 12 came out$"
    with pytest.raises(ToolFailed, match=message) as failure:
        encode(reference=replace(reference, frames=frames))
    assert "distortion.mp4" in failure.value.detail


def test_frames_that_the_encode_drops_are_missed(encode: Encode) -> None:
    with pytest.raises(ToolFailed, match=r"12 frames went in, 5 came out$"):
        encode(extra=("-frames:v", "5"))


def test_an_encoder_that_refuses_its_settings_is_quoted(encode: Encode) -> None:
    with pytest.raises(ToolFailed, match=r"^encode at CRF 28 failed: .*nonsense"):
        encode(extra=("-tune", "nonsense"))


def test_an_encode_that_takes_too_long_is_stopped(encode: Encode) -> None:
    with pytest.raises(ToolFailed, match=r"its time limit$"):
        encode(base_s=0.001)


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_a_larger_frame_is_expected_to_need_more_memory(encoder: Encoder) -> None:
    small, large = 320 * 240 * 3 // 2, 3840 * 2160 * 3 // 2
    for preset in encoder.presets:
        sizes = [encode_memory_bytes(frame_bytes, preset, encoder) for frame_bytes in (small, 2 * small, large)]
        assert 50 << 20 < sizes[0] < sizes[1] < sizes[2] < 6 << 30


def test_a_slow_preset_is_expected_to_need_more_memory() -> None:
    assert encode_memory_bytes(3840 * 2160, "medium") < encode_memory_bytes(3840 * 2160, "veryslow")
