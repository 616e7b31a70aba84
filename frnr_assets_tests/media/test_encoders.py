"""The statistics that x264 writes, aggregated."""

from pathlib import Path

import pytest

from frnr_assets.media.encoders import ENCODERS, read_x264_statistics
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


@pytest.mark.parametrize(("index", "column"), [(0, "enc_internal_ptex_mean"), (1, "enc_internal_itex_mean")])
def test_a_clip_with_one_kind_of_frame_has_no_texture_of_the_other(index: int, column: str, tmp_path: Path) -> None:
    log = tmp_path / "encoder.stats"
    log.write_text(HEADER + FRAMES.splitlines(keepends=True)[index])
    assert read_x264_statistics(log).columns[column] == 0


@pytest.mark.parametrize("content", ["", HEADER, "not statistics\n"])
def test_a_log_without_frames_is_refused(content: str, tmp_path: Path) -> None:
    log = tmp_path / "encoder.stats"
    log.write_text(content)
    with pytest.raises(ValueError, match="x264 wrote no statistics"):
        read_x264_statistics(log)


def test_a_line_that_breaks_off_is_not_counted_as_a_frame(tmp_path: Path) -> None:
    log = tmp_path / "encoder.stats"
    log.write_text(HEADER + FRAMES[: FRAMES.rindex(" imb:")])
    assert read_x264_statistics(log).frames == len(QP) - 1


def test_the_defaults_are_possible() -> None:
    encoder = ENCODERS[DEFAULT_ENCODER]
    assert DEFAULT_PRESET in encoder.presets
    assert encoder.crf_range[0] <= min(DEFAULT_CRF_SWEEP) <= max(DEFAULT_CRF_SWEEP) <= encoder.crf_range[1]
