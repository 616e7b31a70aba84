"""The statistics that x264 and x265 write, aggregated, and what the encoders are said to be."""

from pathlib import Path

import pytest

from frnr_assets.media.encoders import ENCODERS, Encoder, no_statistics, read_x264_statistics, read_x265_statistics
from frnr_assets.vocabulary import DEFAULT_CRF_SWEEP, DEFAULT_ENCODER, DEFAULT_PRESET, ENCODER_STATISTICS

# From a real encode, its options shortened.
HEADER = "#options: 64x48 fps=24/1 timebase=1/24 bitdepth=8 cabac=1 ref=3 keyint=250 rc_lookahead=40 crf=23.0\n"
FRAMES = """\
in:0 out:0 type:I dur:2 cpbdur:2 q:20.00 aq:25.08 tex:6979 mv:343 misc:86 imb:12 pmb:0 smb:0 d:- ref:;
in:4 out:1 type:P dur:2 cpbdur:2 q:24.00 aq:28.00 tex:449 mv:3 misc:100 imb:0 pmb:1 smb:11 d:- ref:4 ;
in:2 out:2 type:B dur:2 cpbdur:2 q:26.00 aq:33.00 tex:2 mv:4 misc:98 imb:1 pmb:1 smb:10 d:s ref:4 ;
in:1 out:3 type:b dur:2 cpbdur:2 q:-3.50 aq:-2.00 tex:0 mv:0 misc:96 imb:0 pmb:0 smb:12 d:- ref:0 w:6,33,0;
in:3 out:4 type:i dur:2 cpbdur:2 q:28.00 aq:34.00 tex:21 mv:2 misc:9 imb:11 pmb:0 smb:1 d:- ref:;
"""
QP = (20.0, 24.0, 26.0, -3.5, 28.0)
BITS = (6979.0 + 343 + 86, 449.0 + 3 + 100, 2.0 + 4 + 98, 96.0, 21.0 + 2 + 9)
MOTION = (343.0, 3.0, 4.0, 0.0, 2.0)

X265_HEADER = "#options: cpuid=1111039 frame-threads=1 numa-pools=none bitdepth=8 rc=crf crf=28.0 stats-write=1\n"
X265_FRAMES = """\
in:0 out:0 type:I q:33.40 q-aq:29.00 q-noVbv:33.40 q-Rceq:1.00 tex:22180 mv:3402 misc:679 icu:690.00 pcu:0.00 scu:0.00 sc:0 ;
in:4 out:1 type:P q:33.40 q-aq:30.39 q-noVbv:33.40 q-Rceq:1.00 tex:16757 mv:2814 misc:898 icu:329.92 pcu:155.63 scu:204.45 sc:1 ;
in:2 out:2 type:B q:-1.50 q-aq:-2.16 q-noVbv:34.54 q-Rceq:1.00 tex:9761 mv:3258 misc:871 icu:89.70 pcu:366.21 scu:234.09 sc:0 ;
in:1 out:3 type:b q:35.67 q-aq:34.41 q-noVbv:35.67 q-Rceq:1.00 tex:0 mv:18 misc:212 icu:0.00 pcu:16.36 scu:673.64 sc:0 ;
in:3 out:4 type:i q:51.00 q-aq:34.45 q-noVbv:35.67 q-Rceq:1.00 tex:4956 mv:3946 misc:990 icu:690.00 pcu:0.00 scu:0.00 sc:0 ;
"""  # noqa: E501 - as x265 writes it


def population(values: tuple[float, ...]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5


def test_statistics_are_aggregated_over_all_frames(tmp_path: Path) -> None:
    log = tmp_path / "encoder.stats"
    log.write_text(HEADER + FRAMES)
    found = read_x264_statistics(log)
    expected = (
        *population(QP),
        *population(BITS),
        *population(MOTION),
        (6979 + 21) / 2,
        (449 + 2 + 0) / 3,
        (12 + 1 + 11) / 60,
        (11 + 10 + 12 + 1) / 60,
    )
    assert found.frames == len(QP)
    assert tuple(found.columns) == ENCODER_STATISTICS
    assert tuple(found.columns.values()) == pytest.approx(expected)


def test_statistics_of_x265_are_aggregated_the_same_way(tmp_path: Path) -> None:
    log = tmp_path / "encoder.stats"
    log.write_text(X265_HEADER + X265_FRAMES)
    found = read_x265_statistics(log)
    expected = (
        *population((33.4, 33.4, -1.5, 35.67, 51.0)),
        *population((22180.0 + 3402 + 679, 16757.0 + 2814 + 898, 9761.0 + 3258 + 871, 18.0 + 212, 4956.0 + 3946 + 990)),
        *population((3402.0, 2814.0, 3258.0, 18.0, 3946.0)),
        (22180 + 4956) / 2,
        (16757 + 9761 + 0) / 3,
        (690 + 329.92 + 89.7 + 0 + 690) / (5 * 690),
        (0 + 204.45 + 234.09 + 673.64 + 0) / (5 * 690),
    )
    assert found.frames == 5
    assert tuple(found.columns) == ENCODER_STATISTICS
    assert tuple(found.columns.values()) == pytest.approx(expected)


def test_an_encoder_without_statistics_has_zeros() -> None:
    found = no_statistics(7)
    assert found.frames == 7
    assert found.columns == dict.fromkeys(ENCODER_STATISTICS, 0.0)


@pytest.mark.parametrize(("index", "column"), [(0, "enc_internal_ptex_mean"), (1, "enc_internal_itex_mean")])
def test_a_clip_with_one_kind_of_frame_has_no_texture_of_the_other(index: int, column: str, tmp_path: Path) -> None:
    log = tmp_path / "encoder.stats"
    log.write_text(HEADER + FRAMES.splitlines(keepends=True)[index])
    assert read_x264_statistics(log).columns[column] == 0


@pytest.mark.parametrize("content", ["", HEADER, X265_HEADER, "not statistics\n"])
def test_a_log_without_frames_is_refused(content: str, tmp_path: Path) -> None:
    log = tmp_path / "encoder.stats"
    log.write_text(content)
    with pytest.raises(ValueError, match="x264 wrote no statistics"):
        read_x264_statistics(log)
    with pytest.raises(ValueError, match="x265 wrote no statistics"):
        read_x265_statistics(log)


def test_a_line_that_breaks_off_is_not_counted_as_a_frame(tmp_path: Path) -> None:
    log = tmp_path / "encoder.stats"
    log.write_text(HEADER + FRAMES[: FRAMES.rindex(" imb:")])
    assert read_x264_statistics(log).frames == len(QP) - 1
    log.write_text(X265_HEADER + X265_FRAMES[: X265_FRAMES.rindex(" scu:")])
    assert read_x265_statistics(log).frames == 4


def test_the_defaults_are_possible() -> None:
    encoder = ENCODERS[DEFAULT_ENCODER]
    assert DEFAULT_PRESET in encoder.presets
    assert encoder.crf_range[0] <= min(DEFAULT_CRF_SWEEP) <= max(DEFAULT_CRF_SWEEP) <= encoder.crf_range[1]


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_the_default_sweep_is_within_the_range_of_each_encoder(encoder: Encoder) -> None:
    assert encoder.crf_range[0] <= min(DEFAULT_CRF_SWEEP) <= max(DEFAULT_CRF_SWEEP) <= encoder.crf_range[1]


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_only_presets_that_exist_have_a_memory_of_their_own(encoder: Encoder) -> None:
    assert set(encoder.memory.frames_of) <= set(encoder.presets)
    assert all(frames > encoder.memory.frames for frames in encoder.memory.frames_of.values())
