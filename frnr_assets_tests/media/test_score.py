"""Which logs of libvmaf become a score, and which must not."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.media.process import TimeLimits, ToolFailed
from frnr_assets.media.reference import Reference
from frnr_assets.media.score import Score, read_vmaf_log, score_distortions
from frnr_assets.media.toolchain import Toolchain
from frnr_assets.media.vmaf import VmafSettings, vmaf_settings
from frnr_assets.media.vmaf_backends import score_memory_bytes
from frnr_assets.vocabulary import CANONICAL6_FEATURES, DEFAULT_VMAF_MODEL
from frnr_assets_tests.conftest import RULES, MakeClip
from frnr_assets_tests.media.conftest import DecodeClip, EncodeClip

Log = dict[str, Any]
FRAMES = 3


def vmaf_log(prefix: str = "integer_") -> Log:
    return {
        "version": "3.0.0",
        "frames": [
            {
                "frameNum": frame,
                "metrics": {
                    "vmaf": 90.0 + frame,
                    **{f"{prefix}{name}": (frame + place) / 10 for place, name in enumerate(CANONICAL6_FEATURES)},
                },
            }
            for frame in range(FRAMES)
        ],
        "pooled_metrics": {"vmaf": {"mean": -1.0}},
    }


def without_frame(log: Log) -> None:
    del log["frames"][1]


def cut_short(log: Log) -> None:
    del log["frames"][-1]


def one_too_many(log: Log) -> None:
    log["frames"].append({**log["frames"][-1], "frameNum": FRAMES})


def out_of_order(log: Log) -> None:
    log["frames"].reverse()


def no_frames(log: Log) -> None:
    del log["frames"]


def no_motion(log: Log) -> None:
    for frame in log["frames"]:
        del frame["metrics"]["integer_motion2"]


def no_vif_in_one_frame(log: Log) -> None:
    del log["frames"][2]["metrics"]["integer_vif_scale3"]


def nan_vmaf(log: Log) -> None:
    log["frames"][1]["metrics"]["vmaf"] = math.nan


def infinite_adm(log: Log) -> None:
    log["frames"][0]["metrics"]["integer_adm2"] = math.inf


def huge_vif(log: Log) -> None:
    log["frames"][1]["metrics"]["integer_vif_scale0"] = 1e30


def negative_motion(log: Log) -> None:
    log["frames"][2]["metrics"]["integer_motion2"] = -0.5


def vmaf_above_100(log: Log) -> None:
    log["frames"][0]["metrics"]["vmaf"] = 101.0


def no_frame_number(log: Log) -> None:
    del log["frames"][1]["frameNum"]


def no_metrics(log: Log) -> None:
    del log["frames"][1]["metrics"]


def null_vmaf(log: Log) -> None:
    log["frames"][1]["metrics"]["vmaf"] = None


def no_version(log: Log) -> None:
    del log["version"]


@pytest.mark.parametrize("prefix", ["integer_", ""])
def test_both_spellings_of_the_features_are_read(prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(vmaf_log(prefix)))
    found = read_vmaf_log(path, FRAMES)
    assert found.vmaf == (90.0, 91.0, 92.0)
    assert found.features == {
        name: tuple((frame + place) / 10 for frame in range(FRAMES)) for place, name in enumerate(CANONICAL6_FEATURES)
    }
    assert found.extras == {}
    assert found.version == "3.0.0"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_frame, "libvmaf scored 2 frames of 3"),
        (cut_short, "libvmaf scored 2 frames of 3"),
        (one_too_many, "libvmaf scored 4 frames of 3"),
        (out_of_order, "libvmaf scored 3 frames of 3"),
        (no_frames, "libvmaf"),
        (no_motion, "libvmaf did not report motion2"),
        (no_vif_in_one_frame, "vif_scale3 of every frame"),
        (nan_vmaf, "a value of vmaf that is not finite"),
        (infinite_adm, "a value of adm2 that is not finite"),
        (huge_vif, "1e\\+30 as vif_scale0 of a frame"),
        (negative_motion, "-0.5 as motion2 of a frame"),
        (vmaf_above_100, "101 as vmaf of a frame"),
        pytest.param(no_frame_number, "libvmaf"),
        pytest.param(no_metrics, "libvmaf"),
        pytest.param(null_vmaf, "libvmaf"),
        pytest.param(no_version, "libvmaf"),
    ],
)
def test_an_incomplete_log_is_no_score(damage: Callable[[Log], None], reason: str, tmp_path: Path) -> None:
    log = vmaf_log()
    damage(log)
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    with pytest.raises(ValueError, match=reason):
        read_vmaf_log(path, FRAMES)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "nan",
        '{"frames": [',
        json.dumps(vmaf_log())[:-40],
        "[]",
    ],
)
def test_a_log_that_broke_off_is_no_score(content: str, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r".+"):
        read_vmaf_log(path, FRAMES)


def test_deviations_are_those_of_the_population() -> None:
    features = dict.fromkeys(CANONICAL6_FEATURES, (1.0, 2.0, 6.0))
    score = Score((80.0, 90.0, 97.0), features, {}, DEFAULT_VMAF_MODEL, "3.0.0", 1.0)
    moments = score.feature_moments()
    assert score.vmaf_score == pytest.approx(89)
    assert list(moments) == [f"{name}_{moment}" for moment in ("mean", "std") for name in CANONICAL6_FEATURES]
    assert moments["adm2_mean"] == pytest.approx(3)
    assert moments["motion2_std"] == pytest.approx(math.sqrt((4 + 1 + 9) / 3))


@pytest.fixture
def source(make_clip: MakeClip, tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4")


@pytest.fixture
def reference(source: Path, decode: DecodeClip) -> Reference:
    return decode(source)


@pytest.fixture
def distortions(source: Path, reference: Reference, encode: EncodeClip) -> list[Path]:
    return [encode(source, reference, crf) for crf in (20, 40)]


def score(
    source: Path,
    reference: Reference,
    distortions: list[Path],
    toolchain: Toolchain,
    scratch: Path,
    *,
    base_s: float = 60.0,
    vmaf: VmafSettings | None = None,
) -> list[Score]:
    scratch.mkdir()
    return score_distortions(
        source,
        reference,
        distortions,
        vmaf=vmaf or toolchain.vmaf,
        ffmpeg=toolchain.ffmpeg,
        runner=toolchain.runner,
        limits=TimeLimits(base_s=base_s, per_megapixel_s=0),
        rules=RULES,
        scratch=scratch,
    )


def test_scores_come_in_the_order_of_their_distortions(
    source: Path, reference: Reference, distortions: list[Path], toolchain: Toolchain, tmp_path: Path
) -> None:
    good, bad = score(source, reference, distortions, toolchain, tmp_path / "a")
    assert good.vmaf_score > bad.vmaf_score + 5
    assert len(good.vmaf) == len(bad.vmaf) == reference.frames
    assert good.libvmaf_version == toolchain.libvmaf_version
    assert score(source, reference, distortions[::-1], toolchain, tmp_path / "b")[0].vmaf == bad.vmaf
    assert good.score_time_ms == bad.score_time_ms > 0


def test_a_distortion_with_more_frames_than_its_reference_has_no_score(
    make_clip: MakeClip, decode: DecodeClip, distortions: list[Path], toolchain: Toolchain, tmp_path: Path
) -> None:
    short = make_clip(tmp_path / "short.mp4", "testsrc2=size=64x48:rate=24,trim=end_frame=11")
    with pytest.raises(ToolFailed, match=r"^score failed: libvmaf scored 12 frames of 11$"):
        score(short, decode(short), distortions, toolchain, tmp_path / "score")


@pytest.mark.parametrize("what", ["distortion", "source"])
def test_a_file_that_went_away_is_named(
    what: str, source: Path, reference: Reference, distortions: list[Path], toolchain: Toolchain, tmp_path: Path
) -> None:
    missing = source if what == "source" else distortions[1]
    missing.unlink()
    reason = "it could not be read: " if what == "source" else "score failed: "
    with pytest.raises(ToolFailed, match=f"^{reason}.*No such file"):
        score(source, reference, distortions, toolchain, tmp_path / "score")


def test_an_unknown_model_and_a_time_limit_are_reported(
    source: Path, reference: Reference, distortions: list[Path], toolchain: Toolchain, tmp_path: Path
) -> None:
    with pytest.raises(ToolFailed, match=r"^score failed: could not load libvmaf model"):
        score(source, reference, distortions, toolchain, tmp_path / "a", vmaf=vmaf_settings("vmaf_v9.9.9"))
    with pytest.raises(ToolFailed, match=r"its time limit$"):
        score(source, reference, distortions, toolchain, tmp_path / "b", base_s=0.001)


def test_more_cells_at_once_are_expected_to_need_more_memory() -> None:
    small, large, vmaf = 640 * 360 * 3 // 2, 1920 * 1080 * 3, vmaf_settings()
    expected = [score_memory_bytes(*work, vmaf) for work in ((small, 1), (small, 5), (large, 5))]
    assert expected[0] < expected[1] < expected[2]
