"""Uploads that attack whoever opens them are refused by name, soon, and at a small price."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.source import ClipUnusable, SourceRules
from frnr_assets_tests.conftest import SMALL_SCENE, X264_UPLOAD, MakeClip
from frnr_assets_tests.media.conftest import DecodeClip, PlainFFmpeg
from frnr_assets_tests.media.hostile import Bait, bitstreams, matroska, mp4, strangers
from frnr_assets_tests.media.hostile.attempt import attempt_alone

BASELINE = ("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "baseline", "-crf", "28", "-threads", "1")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:pools=1:frame-threads=1")
MPEG2 = ("-c:v", "mpeg2video", "-threads", "1")
FRAMES = 12

RULES = SourceRules()
BAIT = Bait("private.mp4", "http://127.0.0.1:9/private.mp4", "/nowhere/socket")
# What a file of a few kB may cost, more than ten times what a clip of that size does.
QUICK_CPU_S = 2.0
SMALL_BYTES = 512 << 20

ALLOWED = "; containers allows mov, matroska, avi, mpegts (mov is mp4 too)"
KINDS = {
    "HLS": "it is an HLS playlist",
    "DASH": "it is a DASH manifest",
    "ffconcat": "it is an ffconcat script",
    "SDP": "it is an SDP session description",
    "IMF composition": "it is an IMF playlist",
    "IMF asset map": "it is an IMF playlist",
    "SVG": "it is an SVG picture",
    "ffmetadata": "it is ffmpeg metadata",
    "GIF": "it is a GIF picture",
    "PNG": "it is a PNG picture",
    "WAV": "it is a WAV sound",
    "zip": "it is a ZIP archive",
    "zip with a clip after it": "it is a ZIP archive",
    "DASH after Matroska's first bytes": "it could not be probed: ",
    "DASH after AVI's first bytes": "it could not be probed: ",
    "DASH after MP4's first bytes": "it could not be probed: ",
    "IMF composition after Matroska's first bytes": "it could not be probed: ",
}


@pytest.fixture(scope="module")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", encode=BASELINE).read_bytes()


def refusal(decode: DecodeClip, file: Path, content: bytes, rules: SourceRules = RULES) -> str:
    file.write_bytes(content)
    with pytest.raises(ClipUnusable) as problem:
        decode(file, rules)
    return problem.value.reason


@pytest.mark.parametrize("name", strangers.scripts(BAIT))
def test_a_script_under_the_name_of_a_video_is_refused_for_what_it_is(
    name: str, decode: DecodeClip, tmp_path: Path
) -> None:
    reason = refusal(decode, tmp_path / "clip.mp4", strangers.scripts(BAIT)[name])
    expected = KINDS.get(name) or KINDS.get(name.partition(",")[0]) or "it is no video of a known container"
    assert reason.startswith(expected)
    assert "probed" in expected or reason == f"{expected}{ALLOWED}"


@pytest.mark.parametrize("name", ["GIF", "PNG", "WAV", "zip", "zip with a clip after it", "raw H.264"])
def test_a_picture_a_sound_or_an_archive_under_the_name_of_a_video_is_refused_for_what_it_is(
    name: str, clip: bytes, decode: DecodeClip, tmp_path: Path
) -> None:
    reason = refusal(decode, tmp_path / "clip.mp4", strangers.documents(clip)[name])
    assert reason == KINDS.get(name, "it is no video of a known container") + ALLOWED


@pytest.mark.parametrize("name", mp4.elsewhere(BAIT))
def test_samples_in_another_file_are_not_fetched(
    name: str, clip: bytes, make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    make_clip(tmp_path / BAIT.file, encode=BASELINE)
    outside = mp4.refer(mp4.without_samples(clip), mp4.elsewhere(BAIT)[name])
    assert "video stream cannot be decoded" in refusal(decode, tmp_path / "clip.mov", outside)


def test_a_movie_that_is_nothing_but_an_address_is_refused(decode: DecodeClip, tmp_path: Path) -> None:
    assert "no video stream" in refusal(decode, tmp_path / "clip.mov", mp4.reference_movie(BAIT))


def test_a_file_that_says_it_goes_on_in_another_has_its_own_frames_only(
    clip: bytes, make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip)
    make_clip(tmp_path / BAIT.file, "testsrc=size=64x48:rate=24,trim=end_frame=3,format=yuv420p", BASELINE)
    tracks, frames = matroska.track(matroska.H264, mp4.avc_configuration(clip)), mp4.samples(clip)
    (tmp_path / "clip.mkv").write_bytes(matroska.linked(tracks, frames, BAIT))
    itself, whole = decode(tmp_path / "clip.mkv"), decode(tmp_path / "clip.mp4")
    assert (itself.frames, itself.frames_md5) == (FRAMES, whole.frames_md5)


BOMBS: dict[str, Callable[[bytes], bytes]] = {
    **{f"mp4, {name}": make for name, make in mp4.HEADER_BOMBS.items()},
    **{f"mkv, {name}": partial(matroska.bomb, name) for name in matroska.BOMBS},
}


# Those that are not refused yet, or at too high a price.
@pytest.mark.parametrize("name", BOMBS)
def test_a_header_that_declares_too_much_costs_next_to_nothing_and_no_frame(
    name: str, clip: bytes, ffmpeg: FFmpeg, tmp_path: Path
) -> None:
    file = tmp_path / "clip"
    file.write_bytes(BOMBS[name](clip))
    found = attempt_alone(file, ffmpeg, ToolRunner(), RULES)
    # What is declared and not there may do no harm; then all frames that are there count.
    assert found.refusal or found.frames == FRAMES
    assert found.cpu_s < QUICK_CPU_S
    assert found.peak_bytes < SMALL_BYTES


def deep(make_clip: MakeClip, folder: Path) -> bytes:
    return make_clip(folder / "deep.mp4", f"{SMALL_SCENE},format=yuv444p10le").read_bytes()


def webm(make_clip: MakeClip, folder: Path, encode: tuple[str, ...]) -> bytes:
    return make_clip(folder / "plain.webm", encode=encode).read_bytes()


@pytest.mark.parametrize(
    "codec",
    [
        *("h264", "vp8", "vp9", "mjpeg"),
        "h264, 4:4:4 of 10 bits",
    ],
)
def test_a_picture_of_200_megapixels_in_a_file_of_a_few_kb_is_refused_undecoded(
    codec: str,
    clip: bytes,
    make_clip: MakeClip,
    ffmpeg: FFmpeg,
    tmp_path: Path,
) -> None:
    side = 15_008
    make: dict[str, Callable[[], bytes]] = {
        "h264": lambda: bitstreams.resize_h264(clip, side, side),
        "h264, 4:4:4 of 10 bits": lambda: bitstreams.resize_h264(deep(make_clip, tmp_path), side, side),
        "vp8": lambda: bitstreams.resize_vp8(webm(make_clip, tmp_path, VP8), side, side),
        "vp9": lambda: bitstreams.resize_vp9(webm(make_clip, tmp_path, VP9), side, side),
        "mjpeg": lambda: matroska.file(matroska.track("V_MJPEG"), matroska.blocks([bitstreams.jpeg(side, side)] * 2)),
    }
    (tmp_path / "clip").write_bytes(make[codec]())
    found = attempt_alone(tmp_path / "clip", ffmpeg, ToolRunner(), RULES)
    assert found.refusal is not None
    assert re.search(r"15008x15008 (have more pixels than|exceeds)|video stream cannot be decoded", found.refusal)
    # The probe makes room for one picture before it is known how large they are.
    assert found.cpu_s < 2 * QUICK_CPU_S
    assert found.peak_bytes < 1 << 30


@pytest.mark.parametrize(
    "codec",
    [
        "h264",
        "vp9",
        "vp8",
    ],
)
def test_the_size_that_counts_is_that_of_the_frames_and_not_the_containers(
    codec: str, make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    large = "testsrc2=size=128x96:rate=24,trim=end_frame=4"
    if codec == "h264":
        content = make_clip(tmp_path / "large.mp4", large, BASELINE).read_bytes()
        content = mp4.edit(content, f"{mp4.STBL}/stsd", lambda entry: entry[:40] + b"\0\x40\0\x30" + entry[44:])
    else:
        content = make_clip(tmp_path / "large.webm", large, VP8 if codec == "vp8" else VP9).read_bytes()
        content = content.replace(b"\xb0\x81\x80\xba\x81\x60", b"\xb0\x81\x40\xba\x81\x30")
    (tmp_path / "clip").write_bytes(content)
    assert b"\x40" in content
    if codec == "vp8":
        with pytest.raises(ClipUnusable, match="its frames are not of the size that its container declares"):
            decode(tmp_path / "clip")
    else:
        probe = decode(tmp_path / "clip").probe
        assert (probe.width, probe.height) == (128, 96)


@pytest.mark.parametrize(
    "most",
    [
        FRAMES - 1,
        FRAMES // 2,
    ],
)
def test_a_clip_with_more_frames_than_allowed_is_refused_for_that(
    most: int, clip: bytes, decode: DecodeClip, tmp_path: Path
) -> None:
    reason = refusal(decode, tmp_path / "clip.mp4", clip, SourceRules(max_frames=most))
    assert reason == f"it has more frames than the {most} that max_frames allows"


def test_twelve_frames_played_five_thousand_times_by_an_edit_list_are_refused_before_they_are_decoded(
    clip: bytes, ffmpeg: FFmpeg, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").write_bytes(mp4.repeating(clip, 5_000))
    found = attempt_alone(tmp_path / "clip.mp4", ffmpeg, ToolRunner(), SourceRules(max_frames=1000))
    assert found.refusal
    assert "its edit list shows some frames more than once" in found.refusal
    assert found.cpu_s < QUICK_CPU_S


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (SourceRules(max_pixels=64 * 48 - 1), "its frames of 64x48 have more pixels than the 3071 "),
        (SourceRules(max_duration_s=0.4), "it lasts 0.5 s, more than the 0.4 "),
        (SourceRules(max_bytes=1000), r"it has \d+ bytes, more than the 1000 "),
        (
            SourceRules(containers=("matroska",)),
            "it is a file of the container mov; containers allows matroska ",
        ),
        (SourceRules(codecs=("vp9",)), "its video is h264; codecs allows vp9"),
        (SourceRules(max_streams=0), "it could not be probed: it has 1 streams, more than the 0 "),
    ],
)
def test_what_a_person_does_not_allow_is_refused_for_that(
    rules: SourceRules, reason: str, clip: bytes, decode: DecodeClip, tmp_path: Path
) -> None:
    assert re.match(reason, refusal(decode, tmp_path / "clip.mp4", clip, rules))


@pytest.mark.parametrize(
    ("name", "encode", "codec"),
    [
        ("clip.mkv", ("-c:v", "ffv1"), "ffv1"),
        ("clip.mov", ("-c:v", "prores_ks"), "prores"),
        ("clip.mov", ("-c:v", "png"), "png"),
        ("clip.avi", ("-c:v", "rawvideo"), "rawvideo"),
        ("clip.mkv", ("-c:v", "gif"), "gif"),
        ("clip.mkv", ("-c:v", "flv1"), "flv"),
    ],
)
def test_a_codec_that_nobody_asked_for_is_not_opened(
    name: str, encode: tuple[str, ...], codec: str, make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    content = make_clip(tmp_path / "made" / name, encode=(*encode, "-threads", "1")).read_bytes()
    assert refusal(decode, tmp_path / name, content).startswith(f"its video is {codec}; codecs allows h264, ")


def test_an_unknown_codec_is_refused_for_that(clip: bytes, decode: DecodeClip, tmp_path: Path) -> None:
    reason = refusal(decode, tmp_path / "clip.mp4", mp4.rename_codec(clip, b"zzzz"))
    assert reason == "it could not be probed: its video has a codec that libavcodec does not know"


@pytest.mark.parametrize("fourcc", [b"encv", b"avc1"])
def test_an_encrypted_clip_is_no_reference(
    fourcc: bytes, make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    key = ("-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb", "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8")
    # Noise differs with each random start of the cipher, and some noise is refused by the probe already.
    encode = (*BASELINE, "-encryption_scheme", "cenc-aes-ctr", *key, "-fflags", "+bitexact")
    encrypted = make_clip(tmp_path / "encrypted.mp4", encode=encode).read_bytes()
    reason = refusal(decode, tmp_path / "clip.mp4", mp4.rename_codec(encrypted, fourcc))
    assert reason.startswith("decode failed: ")


CHANGES = {"size": "scale=96x64", "chroma": "format=yuv444p", "depth": "format=yuv420p10le", "gray": "format=gray"}
FULL_RANGE = "scale=out_range=pc,format=yuv420p,setparams=range=pc"


@pytest.mark.parametrize(
    ("name", "encode", "change"),
    [
        *(pytest.param("clip.ts", X264_UPLOAD, change, id=f"h264, {what}") for what, change in CHANGES.items()),
        pytest.param("clip.mp4", X264_UPLOAD, CHANGES["size"], id="h264 in mp4, size"),
        pytest.param("clip.mkv", X264_UPLOAD, FULL_RANGE, id="h264 in mkv, range"),
        pytest.param("clip.ts", X265, CHANGES["size"], id="hevc, size"),
        pytest.param("clip.webm", VP8, CHANGES["size"], id="vp8, size"),
        pytest.param("clip.webm", VP9, CHANGES["size"], id="vp9, size"),
        pytest.param("clip.webm", VP9, CHANGES["chroma"], id="vp9, chroma"),
        pytest.param("clip.ts", MPEG2, CHANGES["size"], id="mpeg2, size"),
    ],
)
def test_a_clip_that_becomes_another_in_the_middle_is_refused(
    name: str,
    encode: tuple[str, ...],
    change: str,
    make_clip: MakeClip,
    plain_ffmpeg: PlainFFmpeg,
    decode: DecodeClip,
    tmp_path: Path,
) -> None:
    scene = "testsrc2=size=64x48:rate=24,trim=end_frame=3"
    make_clip(tmp_path / f"first_{name}", scene, encode)
    make_clip(tmp_path / f"second_{name}", f"{scene},{change}", encode)
    if name.endswith(".ts"):
        args: tuple[str | Path, ...] = ("-i", f"concat:{tmp_path}/first_{name}|{tmp_path}/second_{name}")
    else:
        (tmp_path / "list").write_text(f"ffconcat version 1.0\nfile first_{name}\nfile second_{name}\n")
        args = ("-f", "concat", "-i", tmp_path / "list")
    plain_ffmpeg(*args, "-c", "copy", tmp_path / name)
    with pytest.raises(ClipUnusable, match=r"^decode failed: .*changes its frame size, pixel format or colours"):
        decode(tmp_path / name)


def test_a_transport_stream_whose_codec_changes_in_the_middle_is_refused(
    make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    scene = "testsrc2=size=64x48:rate=24,trim=end_frame=6"
    parts = [make_clip(tmp_path / f"{index}.ts", scene, encode) for index, encode in enumerate((X264_UPLOAD, MPEG2))]
    refusal(decode, tmp_path / "clip.ts", b"".join(part.read_bytes() for part in parts))
