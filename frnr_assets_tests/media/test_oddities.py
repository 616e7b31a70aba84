"""Odd uploads: every frame counts once and as it was coded, and what an encode keeps is never scored as a loss."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from frnr_assets.media.decode import KEPT_FILES, decode_reference
from frnr_assets.media.reference import Reference
from frnr_assets.media.score import Score, score_distortions
from frnr_assets.media.source import ClipUnusable, SourceRules, fingerprint
from frnr_assets.media.toolchain import Toolchain
from frnr_assets_tests.conftest import MakeClip
from frnr_assets_tests.media.conftest import DecodeClip, EncodeClip, PlainFFmpeg
from frnr_assets_tests.media.odd_clips import OddClip, make_odd_clip
from frnr_assets_tests.media.odd_table import ODD_CLIPS, REFUSED

# libvmaf reckons in whole numbers: ADM and VIF of a picture and itself come out as much as 4e-6 off one. (On frames of
# 32 pixels and less it is up to 2e-2; no clip here is so small.)
OFF_ONE = 1e-5
AS_SHIPPED = SourceRules()
LOSSLESS = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-threads", "1")
ONES = ("adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3")


@dataclass(frozen=True)
class Upload:
    """An odd clip, its facts, and its frames in the working format."""

    clip: OddClip
    first: Path
    source: Path
    reference: Reference
    raw: Path

    @property
    def raw_format(self) -> tuple[str, ...]:
        working = self.reference.working
        size = f"{working.width}x{working.height}"
        return ("-f", "rawvideo", "-pix_fmt", working.pix_fmt, "-s", size, "-r", str(self.reference.probe.rate))

    @property
    def marked(self) -> str:
        """The filter that says of raw frames what an encode of them says of its range."""
        return f"setparams=range={self.reference.probe.color_range}"


@pytest.fixture(scope="module", params=ODD_CLIPS, ids=lambda clip: clip.odd)
def upload(
    request: pytest.FixtureRequest,
    make_clip: MakeClip,
    plain_ffmpeg: PlainFFmpeg,
    toolchain: Toolchain,
    tmp_path_factory: pytest.TempPathFactory,
) -> Upload:
    clip: OddClip = request.param
    first, source = make_odd_clip(clip, tmp_path_factory.mktemp("upload"), make_clip, plain_ffmpeg)
    return decode_upload(clip, first, source, toolchain, tmp_path_factory.mktemp("decode"))


def decode_upload(clip: OddClip, first: Path, source: Path, toolchain: Toolchain, scratch: Path) -> Upload:
    reference = decode_reference(
        source,
        fingerprint(source, AS_SHIPPED),
        ffmpeg=toolchain.ffmpeg,
        encoder=toolchain.settings.encoder,
        runner=toolchain.runner,
        limits=toolchain.limits,
        rules=AS_SHIPPED,
        scratch=scratch,
        keep="yuv",
    )
    return Upload(clip, first, source, reference, scratch / KEPT_FILES["yuv"])


def uploads(*names: str) -> pytest.MarkDecorator:
    by_name = {clip.odd: clip for clip in ODD_CLIPS}
    return pytest.mark.parametrize("upload", [by_name[name] for name in names], indirect=True, ids=names)


def score(upload: Upload, distortions: Sequence[Path], toolchain: Toolchain, scratch: Path) -> list[Score]:
    return score_distortions(
        upload.source,
        upload.reference,
        distortions,
        vmaf=toolchain.vmaf,
        ffmpeg=toolchain.ffmpeg,
        runner=toolchain.runner,
        limits=toolchain.limits,
        rules=AS_SHIPPED,
        scratch=scratch,
    )


def test_every_frame_counts_once_and_as_it_was_coded(upload: Upload, plain_ffmpeg: PlainFFmpeg) -> None:
    clip, reference = upload.clip, upload.reference
    working = reference.working
    assert reference.frames == clip.frames
    assert ((working.width, working.height), working.pix_fmt) == (clip.size, clip.pix_fmt)
    assert reference.adjustments == clip.adjustments
    assert reference.variable_frame_rate == clip.variable
    assert {fact: getattr(reference.probe, fact) for fact in clip.facts} == clip.facts
    assert hashlib.md5(upload.raw.read_bytes(), usedforsecurity=False).hexdigest() == reference.frames_md5
    if clip.untouched and not clip.adjustments:
        args = ("-i", upload.first, "-pix_fmt", clip.pix_fmt, "-fps_mode", "passthrough", "-f", "md5", "-")
        assert plain_ffmpeg(*args).stdout.decode().strip() == f"MD5={reference.frames_md5}"


def test_an_encode_that_keeps_every_picture_scores_as_the_picture_itself(
    upload: Upload, encode: EncodeClip, toolchain: Toolchain, plain_ffmpeg: PlainFFmpeg, tmp_path: Path
) -> None:
    lossless, log = tmp_path / "lossless.mp4", tmp_path / "itself.json"
    itself = f"{upload.marked},split=3[a][b][kept];[a][b]libvmaf=log_fmt=json:log_path={log}[scored]"
    raw = (*upload.raw_format, "-i", upload.raw, "-filter_complex", itself)
    plain_ffmpeg(*raw, "-map", "[kept]", *LOSSLESS, lossless, "-map", "[scored]", "-f", "null", "-")
    lossy = encode(upload.source, upload.reference, 34)

    exact, worse = score(upload, (lossless, lossy), toolchain, tmp_path)

    assert all(exact.features[name] == pytest.approx((1,) * upload.clip.frames, abs=OFF_ONE) for name in ONES)
    expected = [frame["metrics"] for frame in json.loads(log.read_text())["frames"]]
    assert exact.vmaf == tuple(frame["vmaf"] for frame in expected)
    assert exact.features["motion2"] == tuple(frame["integer_motion2"] for frame in expected)
    assert len(worse.vmaf) == upload.clip.frames
    assert worse.vmaf_score < exact.vmaf_score - 5


@uploads("4:2:2 10 bits", "full range", "PQ", "open gop hevc")
@pytest.mark.parametrize("change", ["one frame late", "another range"])
def test_pictures_of_another_time_or_range_do_not_score_as_exact(
    change: str, upload: Upload, toolchain: Toolchain, plain_ffmpeg: PlainFFmpeg, tmp_path: Path
) -> None:
    frames, one = upload.raw.read_bytes(), upload.reference.working.frame_bytes
    changed, distortion = tmp_path / "changed.yuv", tmp_path / "changed.mp4"
    changed.write_bytes(frames[-one:] + frames[:-one] if change == "one frame late" else frames)
    other = "scale=in_range=limited:out_range=full," if change == "another range" else ""
    plain_ffmpeg(*upload.raw_format, "-i", changed, "-vf", f"{other}{upload.marked}", *LOSSLESS, distortion)
    (found,) = score(upload, [distortion], toolchain, tmp_path)
    # Not that it scores lower: VMAF takes more contrast for a better picture.
    assert all(abs(value - 1) > 10 * OFF_ONE for name in ONES[:2] for value in found.features[name])


@uploads("alpha vp8", "alpha vp9", "alpha hevc")
def test_a_transparent_picture_is_what_lies_beneath_its_transparency(upload: Upload, plain_ffmpeg: PlainFFmpeg) -> None:
    args = ("-i", upload.source, "-pix_fmt", "yuva420p", "-fps_mode", "passthrough", "-f", "rawvideo", "-")
    frames, one = plain_ffmpeg(*args).stdout, upload.reference.working.frame_bytes
    with_alpha = one + 64 * 48
    beneath = b"".join(frames[start : start + one] for start in range(0, len(frames), with_alpha))
    assert upload.raw.read_bytes() == beneath


@uploads("film grain")
def test_film_grain_is_part_of_the_picture_and_the_same_every_time(
    upload: Upload, decode: DecodeClip, plain_ffmpeg: PlainFFmpeg
) -> None:
    args = ("-export_side_data", "film_grain", "-i", upload.source, "-fps_mode", "passthrough", "-f", "md5", "-")
    assert plain_ffmpeg(*args).stdout.decode().strip() != f"MD5={upload.reference.frames_md5}"
    assert decode(upload.source).frames_md5 == upload.reference.frames_md5


@pytest.mark.parametrize(("clip", "reason"), [pytest.param(clip, reason, id=clip.odd) for clip, reason in REFUSED])
def test_a_clip_without_a_right_row_is_refused_with_the_reason(
    clip: OddClip, reason: str, make_clip: MakeClip, decode: DecodeClip, plain_ffmpeg: PlainFFmpeg, tmp_path: Path
) -> None:
    _, source = make_odd_clip(clip, tmp_path, make_clip, plain_ffmpeg)
    with pytest.raises(ClipUnusable) as problem:
        decode(source, AS_SHIPPED)
    assert problem.value.reason.startswith(reason)
