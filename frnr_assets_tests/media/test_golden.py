"""The real clips against figures that were made once, in two steps through raw YUV, and kept beside them."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.media.moments import mean_and_std
from frnr_assets.media.pool import WorkPool
from frnr_assets.media.sweep import CellMeasured, SweepRequest, measure_sweeps
from frnr_assets.media.toolchain import Toolchain
from frnr_assets.vocabulary import CANONICAL6_FEATURES
from frnr_assets_tests.media.conftest import DecodeClip, PlainFFmpeg

CLIPS = (
    "ugc_192x144.mp4",
    "ugc_340x256.mp4",
    "ugc_480x360.mp4",
    "konvid_10053703034.mp4",
    "portrait_406x720.mp4",
    "vfr_1080p.mp4",
)
# What is small enough for the whole sweep, and the CRFs of the others: a large clip goes wrong for reasons of its own,
# such as its size, its rate or its length, and two CRFs show these.
WHOLE_SWEEP = ("ugc_192x144.mp4",)
TWO_CRFS = (28, 38)
# The figures are rounded to six digits.
TOLERANCE = 1e-5


def golden_rows(shared: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shared / "clips" / "golden.jsonl").read_text().splitlines()]


def test_no_golden_clip_is_left_out(shared: Path) -> None:
    assert {row["clip"] for row in golden_rows(shared)} == set(CLIPS)


@pytest.mark.parametrize("clip", CLIPS)
def test_a_sweep_over_a_real_clip_gives_the_golden_frames_and_scores(
    clip: str,
    shared: Path,
    decode: DecodeClip,
    toolchain: Toolchain,
    pool: WorkPool,
    plain_ffmpeg: PlainFFmpeg,
    tmp_path: Path,
) -> None:
    rows = (row for row in golden_rows(shared) if row["clip"] == clip)
    golden = {row["crf"]: row for row in rows if clip in WHOLE_SWEEP or row["crf"] in TWO_CRFS}
    source = shared / "clips" / clip
    reference = decode(source)
    request = SweepRequest(clip, source, reference, tuple(golden))

    measured: dict[int, dict[str, Any]] = {}
    for outcomes in measure_sweeps([request], toolchain=toolchain, pool=pool, scratch=tmp_path):
        for cell in outcomes:
            assert isinstance(cell, CellMeasured), cell
            assert cell.crf not in measured
            decoded = plain_ffmpeg(
                *("-noautorotate", "-i", cell.distortion.path, "-fps_mode", "passthrough", "-f", "md5", "-")
            )
            vmaf_mean, vmaf_std = mean_and_std(cell.score.vmaf)
            assert cell.score.vmaf_score == vmaf_mean
            measured[cell.crf] = {
                "clip": cell.clip,
                "crf": cell.crf,
                "width": reference.working.width,
                "height": reference.working.height,
                "rate": reference.probe.rate,
                "frames": reference.frames,
                "dist_frames": cell.distortion.statistics.frames,
                "scored_frames": len(cell.score.vmaf),
                "ref_md5": reference.frames_md5,
                "dist_md5": decoded.stdout.decode().strip().removeprefix("MD5="),
                "vmaf_mean": vmaf_mean,
                "vmaf_std": vmaf_std,
                **cell.score.feature_moments(),
            }

    assert set(measured) == set(golden)
    scores = [f"{name}_{moment}" for name in ("vmaf", *CANONICAL6_FEATURES) for moment in ("mean", "std")]
    for crf, expected in golden.items():
        found = measured[crf]
        exact = {name: value for name, value in expected.items() if name not in {*scores, "encode_size_bytes", "rate"}}
        assert {name: found[name] for name in exact} == exact
        assert found["rate"] == Fraction(expected["rate"])
        assert found["scored_frames"] == expected["frames"]
        assert {name: found[name] for name in scores} == pytest.approx(
            {name: expected[name] for name in scores}, abs=TOLERANCE, rel=0
        )
