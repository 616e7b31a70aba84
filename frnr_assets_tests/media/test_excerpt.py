"""Which frames a sample has, and that it is measured as if the clip had only these."""

import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from frnr_assets.media.decode import decode_reference
from frnr_assets.media.encode import Distortion, EncodeSettings, encode_distortion
from frnr_assets.media.encoders import ENCODERS
from frnr_assets.media.process import ToolError, ToolFailed
from frnr_assets.media.reference import Excerpt, Reference, excerpt
from frnr_assets.media.score import Score, score_distortions
from frnr_assets.media.source import fingerprint
from frnr_assets.media.toolchain import Toolchain, encode_settings
from frnr_assets_tests.conftest import RULES, SMALL_SCENE, X264_UPLOAD, MakeClip
from frnr_assets_tests.media.conftest import PlainFFmpeg

FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)
FULL = "full"
NOISE = "noise=alls=8:allf=t"


@pytest.mark.parametrize(
    ("frames", "rate", "seconds", "expected"),
    [
        (240, Fraction(24), 0, Excerpt(0, 240, FULL)),
        (240, Fraction(24), 10, Excerpt(0, 240, FULL)),
        (240, Fraction(24), 11, Excerpt(0, 240, FULL)),
        (1, Fraction(24), 1, Excerpt(0, 1, FULL)),
        (240, Fraction(24), 2, Excerpt(96, 48, "sample_2s")),
        (241, Fraction(24), 2, Excerpt(96, 48, "sample_2s")),
        (242, Fraction(24), 2, Excerpt(97, 48, "sample_2s")),
        (240, Fraction(24), 2.5, Excerpt(90, 60, "sample_2.5s")),
        (240, FILM, 10, Excerpt(0, 240, "sample_10s")),
        (240, FILM, 10.01, Excerpt(0, 240, FULL)),
        (240, FILM, 2, Excerpt(96, 48, "sample_2s")),
        (480, FILM, 10, Excerpt(120, 240, "sample_10s")),
        (300, NTSC, 2.5, Excerpt(112, 75, "sample_2.5s")),
        (300, NTSC, 0.1, Excerpt(148, 3, "sample_0.1s")),
        (300, Fraction(25), 0.001, Excerpt(149, 1, "sample_0.001s")),
        (100, Fraction(1), 0.25, Excerpt(49, 1, "sample_0.25s")),
        (2, Fraction(1), 1, Excerpt(0, 1, "sample_1s")),
        (3, Fraction(1), 1, Excerpt(1, 1, "sample_1s")),
        (1000, Fraction(240), 1.25, Excerpt(350, 300, "sample_1.25s")),
    ],
)
def test_a_sample_is_the_centre_by_index_at_the_nominal_rate(
    frames: int, rate: Fraction, seconds: float, expected: Excerpt
) -> None:
    assert excerpt(frames, rate, seconds) == expected


def test_a_sample_is_never_outside_its_clip_nor_off_its_centre_nor_of_another_length() -> None:
    draw = random.Random(7)
    for _ in range(2000):
        frames = draw.randint(1, 2000)
        rate = Fraction(draw.choice([1000, 24000, 25000, 30000, 60000, 13131]), draw.choice([1000, 1001]))
        seconds = draw.choice([0, round(draw.uniform(0.001, 40), draw.randint(0, 3)), float(frames / rate)])
        part = excerpt(frames, rate, seconds)
        after = frames - part.first - part.frames
        assert part.frames >= 1
        assert part.first >= 0
        assert after - part.first in {0, 1}
        if abs(seconds * rate - frames) < 1e-6:
            # As long as the clip, but for the rounding of a floating-point number.
            assert part.frames == frames
        elif seconds and seconds * rate < frames:
            assert part.clip_mode == f"sample_{seconds:g}s"
            assert abs(part.frames - seconds * rate) <= 0.5 or part.frames == 1
        else:
            assert part == Excerpt(0, frames, FULL)


def test_a_clip_that_is_used_whole_is_not_filtered() -> None:
    assert excerpt(240, Fraction(24), 0).filters == ""
    assert excerpt(240, Fraction(24), 60).filters == ""
    assert excerpt(240, Fraction(24), 1).filters.endswith(",")


@pytest.mark.parametrize("impossible", [-1.0, -0.001, float("nan"), float("inf")])
def test_an_impossible_length_is_refused_by_its_name(impossible: float) -> None:
    with pytest.raises(ToolError, match=r"^sample_clip_seconds is "):
        encode_settings("libx264", "medium", (), (23,), impossible)


class Steps:
    """The package's own steps, with an encoder."""

    def __init__(self, toolchain: Toolchain, settings: EncodeSettings, folder: Callable[[str], Path]):
        self.toolchain = toolchain
        self.settings = settings
        self.folder = folder

    def decode(self, source: Path) -> Reference:
        return decode_reference(
            source,
            fingerprint(source, RULES),
            ffmpeg=self.toolchain.ffmpeg,
            encoder=self.settings.encoder,
            runner=self.toolchain.runner,
            limits=self.toolchain.limits,
            rules=RULES,
            scratch=self.folder("decode"),
        )

    def encode(self, source: Path, reference: Reference, seconds: float = 0) -> Distortion:
        return encode_distortion(
            source,
            reference,
            38,
            settings=replace(self.settings, sample_clip_seconds=seconds),
            ffmpeg=self.toolchain.ffmpeg,
            runner=self.toolchain.runner,
            limits=self.toolchain.limits,
            rules=RULES,
            scratch=self.folder("encode"),
        )

    def score(self, source: Path, reference: Reference, distortion: Path, part: Excerpt | None = None) -> Score:
        (score,) = score_distortions(
            source,
            reference,
            [distortion],
            part=part,
            vmaf=self.toolchain.vmaf,
            ffmpeg=self.toolchain.ffmpeg,
            runner=self.toolchain.runner,
            limits=self.toolchain.limits,
            rules=RULES,
            scratch=self.folder("score"),
        )
        return score


@pytest.fixture(params=[("libx264", "medium"), ("libsvtav1", "10")], ids=lambda param: str(param[0]))
def steps(request: pytest.FixtureRequest, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    encoder, preset = request.param
    return Steps(toolchain, EncodeSettings(ENCODERS[encoder], preset), tmp_path_factory.mktemp)


SECONDS = 0.5
CONSTANT = f"testsrc2=size=64x48:rate=24000/1001,trim=end_frame=31,{NOISE}"
# Four frames of six: most are at other times than their index says.
VARIABLE = f"testsrc2=size=64x48:rate=24,trim=end_frame=45,{NOISE},select='not(between(mod(n,6),3,4))'"
ODD = f"testsrc2=size=66x50:rate=25,trim=end_frame=31,{NOISE},crop=65:49:0:0:exact=1,format=yuv444p"


@pytest.mark.parametrize(
    ("scene", "upload"),
    [
        (CONSTANT, X264_UPLOAD),
        (VARIABLE, (*X264_UPLOAD, "-fps_mode", "vfr")),
        (ODD, X264_UPLOAD),
    ],
    ids=["constant rate", "variable rate", "odd 4:4:4"],
)
def test_a_sample_is_encoded_and_scored_as_if_the_clip_had_only_its_frames(
    scene: str,
    upload: tuple[str, ...],
    steps: Steps,
    make_clip: MakeClip,
    plain_ffmpeg: PlainFFmpeg,
    tmp_path: Path,
) -> None:
    source = make_clip(tmp_path / "clip.mp4", scene, upload)
    reference = steps.decode(source)
    rate = reference.probe.rate
    part = excerpt(reference.frames, rate, SECONDS)
    assert (scene == VARIABLE) == reference.variable_frame_rate
    assert 0 < part.first < part.first + part.frames < reference.frames

    # By another filter than the package's, without loss, and at the times that an index means.
    only = tmp_path / "only.mp4"
    cut = f"select='between(n,{part.first},{part.first + part.frames - 1})',settb={1 / rate},setpts=N"
    lossless = ("-enc_time_base", str(1 / rate).replace("/", ":"), "-c:v", "libx264", "-qp", "0")
    plain_ffmpeg("-noautorotate", "-i", source, "-vf", cut, "-fps_mode", "passthrough", *lossless, only)
    only_reference = steps.decode(only)
    assert (only_reference.frames, only_reference.probe.rate) == (part.frames, rate)
    assert only_reference.working == reference.working

    sample, alone = steps.encode(source, reference, SECONDS), steps.encode(only, only_reference)

    def frames(path: Path) -> bytes:
        return plain_ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "framemd5", "-").stdout

    assert frames(sample.path) == frames(alone.path)
    assert (sample.size_bytes, sample.statistics) == (alone.size_bytes, alone.statistics)
    assert sample.statistics.frames == part.frames

    of_sample = steps.score(source, reference, sample.path, part)
    of_clip = steps.score(only, only_reference, alone.path)
    assert (of_sample.vmaf, of_sample.features) == (of_clip.vmaf, of_clip.features)
    assert len(of_sample.vmaf) == part.frames


def test_the_sample_is_what_the_settings_say(toolchain: Toolchain, make_clip: MakeClip, tmp_path: Path) -> None:
    steps = Steps(toolchain, toolchain.settings, lambda _: tmp_path)
    reference = steps.decode(make_clip(tmp_path / "clip.mp4", SMALL_SCENE.replace("=12", "=24")))
    parts = [replace(toolchain.settings, sample_clip_seconds=seconds).part_of(reference) for seconds in (0, 0.25, 1, 9)]
    whole = Excerpt(0, 24, FULL)
    assert parts == [whole, Excerpt(9, 6, "sample_0.25s"), whole, whole]


def test_a_sample_longer_than_what_can_be_decoded_is_no_distortion(
    steps: Steps, make_clip: MakeClip, tmp_path: Path
) -> None:
    source = make_clip(tmp_path / "clip.mp4")
    facts = replace(steps.decode(source), frames=18)
    with pytest.raises(ToolFailed, match=r"^encode at CRF 38 failed: 12 frames went in, 9 came out$"):
        steps.encode(source, facts, 0.5)


def test_a_real_clips_sample_has_the_frames_of_its_centre(
    shared: Path, steps: Steps, plain_ffmpeg: PlainFFmpeg
) -> None:
    source = shared / "clips" / "ugc_192x144.mp4"
    reference = steps.decode(source)
    part = excerpt(reference.frames, reference.probe.rate, 0.25)
    sample = steps.encode(source, reference, 0.25)
    assert steps.score(source, reference, sample.path, part).vmaf_score > 20
    # Against any other frames the score is another.
    beside = replace(part, first=part.first + part.frames)
    assert (
        steps.score(source, reference, sample.path, beside).vmaf
        != steps.score(source, reference, sample.path, part).vmaf
    )
    assert plain_ffmpeg("-i", sample.path, "-f", "framemd5", "-").stdout.count(b"\n0,") == part.frames
