"""The frames that every row is measured against."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.media.decode import KEPT_FILES, KeptFormat, decode_reference, nominal_rate
from frnr_assets.media.encoders import LIBX264
from frnr_assets.media.probe import Probe
from frnr_assets.media.process import TimeLimits, ToolFailed, ToolResult, ToolRunner
from frnr_assets.media.reference import index_timing, working_format
from frnr_assets.media.source import ClipUnusable, Fingerprint, fingerprint
from frnr_assets.media.toolchain import Toolchain
from frnr_assets_tests.conftest import RULES, SMALL_SCENE, X264_UPLOAD, MakeClip
from frnr_assets_tests.media.conftest import DecodeClip, PlainFFmpeg

FFV1 = ("-c:v", "ffv1", "-threads", "1")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:pools=1:frame-threads=1")
RED = "color=red:size=64x48:rate=24,trim=end_frame=12[a];"
BARS = "testsrc2=size=64x48:rate=24,trim=end_frame=24[b];"

PROBE = Probe(
    container="",
    codec="",
    width=64,
    height=48,
    pix_fmt="yuv420p",
    chroma="420",
    bit_depth=8,
    rate=Fraction(24),
    stream_duration_s=None,
    color_range="unspecified",
    color_transfer="unspecified",
    color_primaries="unspecified",
)


def plain_md5(plain_ffmpeg: PlainFFmpeg, source: Path, *filters: str) -> str:
    args = ("-noautorotate", "-i", source, *filters, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "md5", "-")
    return plain_ffmpeg(*args).stdout.decode().strip().removeprefix("MD5=")


@pytest.mark.parametrize(
    ("scene", "encode", "frames", "variable"),
    [
        pytest.param("testsrc2=size=64x48:rate=24,trim=end_frame=30", X264_UPLOAD, 30, False, id="constant"),
        pytest.param("testsrc2=size=64x48:rate=30000/1001,trim=end_frame=30", X264_UPLOAD, 30, False, id="ntsc"),
        pytest.param("testsrc2=size=64x48:rate=24,trim=end_frame=1", X264_UPLOAD, 1, False, id="one frame"),
        pytest.param(
            "testsrc2=size=64x48:rate=24,trim=end_frame=30,select='not(between(mod(n,6),3,4))'",
            (*X264_UPLOAD, "-fps_mode", "vfr"),
            20,
            True,
            id="dropped frames",
        ),
        pytest.param(
            "testsrc2=size=64x48:rate=24,trim=end_frame=30,setpts='N/24/TB+gte(N,15)*2/TB'",
            (*X264_UPLOAD, "-fps_mode", "vfr"),
            30,
            True,
            id="a gap",
        ),
        pytest.param(
            "testsrc2=size=64x48:rate=24,trim=end_frame=30,settb=1/2400,setpts='N*100+gte(N,15)*30'",
            (*X264_UPLOAD, "-fps_mode", "vfr", "-enc_time_base", "1:2400"),
            30,
            True,
            id="a gap of almost a third",
        ),
    ],
)
def test_each_frame_of_the_upload_counts_once(
    scene: str,
    encode: tuple[str, ...],
    frames: int,
    variable: bool,
    make_clip: MakeClip,
    decode: DecodeClip,
    tmp_path: Path,
) -> None:
    reference = decode(make_clip(tmp_path / "clip.mp4", scene, encode))
    assert (reference.frames, reference.variable_frame_rate) == (frames, variable)
    assert reference.duration_s == pytest.approx(frames / float(reference.probe.rate))


@pytest.mark.parametrize(
    ("rate", "accepted"),
    [("1/2", False), ("1", True), ("240", True), ("241", False)],
)
def test_a_rate_that_no_camera_has_is_refused(
    rate: str, accepted: bool, make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", f"testsrc2=size=64x48:rate={rate},trim=end_frame=4")
    if accepted:
        assert decode(clip).probe.rate == Fraction(rate)
    else:
        shown = f"{float(Fraction(rate)):g}"
        with pytest.raises(
            ClipUnusable, match=rf"^its average frame rate, {shown}, is not within 1 to 240 per second$"
        ):
            decode(clip)


@pytest.mark.parametrize(
    ("stated", "times", "rate"),
    [
        pytest.param("24", [n / 24 for n in range(12)], "24", id="as stated"),
        pytest.param("30000/1001", [round(n * 0.0333667, 3) for n in range(12)], "30000/1001", id="rounded times"),
        pytest.param("2160/77", [n / 22 for n in range(8)], "2160/77", id="a few uneven frames"),
        pytest.param("24", [n / 12 for n in range(48)], "12", id="stated twice as fast"),
        pytest.param("12", [n / 24 for n in range(48)], "24", id="stated half as fast"),
        pytest.param(None, [0.0, 0.1, 0.15, 0.4], "15/2", id="not stated"),
        pytest.param(None, [0.0], "0", id="one frame"),
        pytest.param("25", [0.0], "25", id="one frame, stated"),
        pytest.param(None, [0.5, 0.5, 0.5], "0", id="all at one time"),
        pytest.param("24", [None] * 12, "24", id="no times"),
        pytest.param("24", [0.0, 0.1, None], "24", id="some without a time"),
        pytest.param("24", [0.0, 5000.0, 10_000.0], "24", id="times that no clock has"),
    ],
)
def test_the_nominal_rate_is_the_average_unless_the_frames_contradict(
    stated: str | None, times: list[float | None], rate: str
) -> None:
    assert nominal_rate(None if stated is None else Fraction(stated), times) == Fraction(rate)


@pytest.mark.parametrize(
    ("scene", "durations"),
    [
        pytest.param(f"{RED}{BARS}[a][b]concat=n=2:v=1", (0.5, 1.0), id="a cut"),
        pytest.param(BARS.removesuffix("[b];"), (1.0,), id="no cut"),
        pytest.param(
            "testsrc2=size=64x48:rate=24,trim=end_frame=24,noise=alls=60:allf=t",
            (1.0,),
            id="no cut in a restless scene",
        ),
        pytest.param(
            f"{RED}{BARS}color=blue:size=64x48:rate=24,trim=end_frame=12[c];[a][b][c]concat=n=3:v=1",
            (0.5, 1.0, 0.5),
            id="two cuts",
        ),
    ],
)
def test_shots_are_counted_and_timed(
    scene: str, durations: tuple[float, ...], make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    reference = decode(make_clip(tmp_path / "clip.mp4", scene))
    mean = sum(durations) / len(durations)
    deviation = (sum((duration - mean) ** 2 for duration in durations) / len(durations)) ** 0.5
    assert reference.shot_count == len(durations)
    assert reference.shot_avg_duration_s == pytest.approx(mean)
    assert reference.shot_duration_std_s == pytest.approx(deviation)


@pytest.mark.parametrize(
    ("name", "filters", "encode", "working", "conversion"),
    [
        pytest.param("as_is.mp4", "null", X264_UPLOAD, (64, 48, "yuv420p"), (), id="as it is"),
        pytest.param(
            "full.mp4", "scale=out_range=pc,format=yuv420p", X264_UPLOAD, (64, 48, "yuv420p"), (), id="full range"
        ),
        pytest.param(
            "full.avi", "scale=out_range=pc,format=yuvj422p", ("-c:v", "mjpeg"), (64, 48, "yuv422p"), (), id="mjpeg"
        ),
        pytest.param(
            "gaps.mkv",
            "select='not(between(mod(n,6),3,4))'",
            (*FFV1, "-fps_mode", "vfr"),
            (64, 48, "yuv420p"),
            (),
            id="variable frame rate",
        ),
        pytest.param(
            "pairs.mkv",
            "setpts='(N-mod(N,2))/24/TB'",
            (*FFV1, "-fps_mode", "passthrough", "-enc_time_base", "1:24"),
            (64, 48, "yuv420p"),
            (),
            id="two frames at the same time",
        ),
        pytest.param("ten.mp4", "format=yuv420p10le", X265, (64, 48, "yuv420p10le"), (), id="10 bits"),
        pytest.param("444.mkv", "format=yuv444p,crop=63:47:0:0:exact=1", FFV1, (63, 47, "yuv444p"), (), id="odd 444"),
        pytest.param(
            "odd.mkv",
            "crop=63:47:0:0:exact=1",
            FFV1,
            (62, 46, "yuv420p"),
            ("-vf", "crop=62:46:0:0"),
            id="odd 420",
        ),
        pytest.param(
            "422.mkv",
            "format=yuv422p,crop=63:47:0:0:exact=1",
            FFV1,
            (62, 47, "yuv422p"),
            ("-vf", "crop=62:47:0:0:exact=1"),
            id="odd 422",
        ),
        pytest.param(
            "twelve.mp4",
            "format=yuv420p12le",
            X265,
            (64, 48, "yuv420p10le"),
            ("-vf", "scale=flags=bicubic+accurate_rnd+full_chroma_int+bitexact", "-pix_fmt", "yuv420p10le"),
            id="12 bits",
        ),
        pytest.param(
            "rgb.mkv",
            "format=bgr0",
            FFV1,
            (64, 48, "yuv444p"),
            (
                *(
                    "-vf",
                    "scale=flags=bicubic+accurate_rnd+full_chroma_int+bitexact:out_color_matrix=bt709:out_range=tv",
                ),
                *("-pix_fmt", "yuv444p"),
            ),
            id="rgb",
        ),
    ],
)
def test_the_reference_is_the_decoded_upload_in_the_nearest_format_and_nothing_else(
    name: str,
    filters: str,
    encode: tuple[str, ...],
    working: tuple[int, int, str],
    conversion: tuple[str, ...],
    make_clip: MakeClip,
    decode: DecodeClip,
    plain_ffmpeg: PlainFFmpeg,
    tmp_path: Path,
) -> None:
    source = make_clip(tmp_path / name, f"{SMALL_SCENE},{filters}", encode)
    reference = decode(source)
    found = reference.working
    assert (found.width, found.height, found.pix_fmt) == working
    assert reference.frames_md5 == plain_md5(plain_ffmpeg, source, *conversion)


@pytest.mark.parametrize(
    ("name", "filters", "encode"),
    [
        pytest.param("limited.mp4", "format=gray,setparams=range=tv", X264_UPLOAD, id="limited range"),
        pytest.param(
            "full.mkv",
            "format=gray",
            FFV1,
            id="full range",
        ),
    ],
)
def test_a_gray_clip_keeps_its_luma(
    name: str,
    filters: str,
    encode: tuple[str, ...],
    make_clip: MakeClip,
    decode: DecodeClip,
    plain_ffmpeg: PlainFFmpeg,
    tmp_path: Path,
) -> None:
    source = make_clip(tmp_path / name, f"{SMALL_SCENE},{filters}", encode)
    luma = plain_ffmpeg(
        "-i", source, "-vf", "extractplanes=y", "-fps_mode", "passthrough", "-f", "rawvideo", "-"
    ).stdout
    frames = hashlib.md5(usedforsecurity=False)
    for start in range(0, len(luma), 64 * 48):
        frames.update(luma[start : start + 64 * 48] + bytes([128]) * (2 * 32 * 24))
    assert decode(source).frames_md5 == frames.hexdigest()


def test_a_turned_phone_does_not_turn_the_frames(
    make_clip: MakeClip, decode: DecodeClip, plain_ffmpeg: PlainFFmpeg, tmp_path: Path
) -> None:
    upright, turned = make_clip(tmp_path / "upright.mp4"), tmp_path / "turned.mp4"
    plain_ffmpeg("-display_rotation", "90", "-i", upright, "-c", "copy", turned)
    reference = decode(turned)
    assert (reference.working.width, reference.working.height) == (64, 48)
    assert reference.frames_md5 == decode(upright).frames_md5


@pytest.mark.parametrize(
    ("chroma", "bit_depth", "pix_fmt"),
    [
        ("410", 8, "yuv420p"),
        ("411", 8, "yuv422p"),
        ("440", 12, "yuv444p10le"),
        ("rgb", 16, "yuv444p10le"),
        ("gray", 1, "yuv420p"),
        ("420", 9, "yuv420p"),
    ],
)
def test_a_rare_format_becomes_the_nearest_that_the_encoder_takes(chroma: str, bit_depth: int, pix_fmt: str) -> None:
    probe = replace(PROBE, chroma=chroma, bit_depth=bit_depth, pix_fmt="other")
    assert working_format(probe, LIBX264).pix_fmt == pix_fmt


def test_an_encoder_with_one_subsampling_gets_that() -> None:
    encoder = replace(LIBX264, chroma=("420",), bit_depths=(8,))
    found = working_format(replace(PROBE, chroma="444", bit_depth=10, pix_fmt="yuv444p10le", width=65), encoder)
    assert (found.width, found.height, found.pix_fmt) == (64, 48, "yuv420p")


@pytest.mark.parametrize(
    ("width", "height", "chroma", "accepted"),
    [
        (16, 48, "420", False),
        (48, 16, "444", False),
        (17, 48, "420", False),
        (34, 34, "444", True),
        (33, 33, "420", False),
    ],
)
def test_what_would_crash_libvmaf_is_refused(width: int, height: int, chroma: str, accepted: bool) -> None:
    probe = replace(PROBE, width=width, height=height, chroma=chroma, pix_fmt=f"yuv{chroma}p")
    if accepted:
        assert working_format(probe, LIBX264).width == width
    else:
        with pytest.raises(ClipUnusable, match=rf"^its frames of {width}x{height} are too small for VMAF"):
            working_format(probe, LIBX264)


def test_a_clip_that_breaks_off_is_unusable_in_the_decoders_words(
    make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", encode=(*X264_UPLOAD, "-movflags", "+faststart"))
    clip.write_bytes(clip.read_bytes()[:-100])
    with pytest.raises(ClipUnusable, match=r"^decode failed: .*(NAL|access unit|partial|Invalid data)") as problem:
        decode(clip)
    assert "command: " in problem.value.tool_output
    assert "-xerror" in problem.value.tool_output


def test_a_clip_damaged_in_the_middle_is_unusable(make_clip: MakeClip, decode: DecodeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    content = bytearray(clip.read_bytes())
    middle = content.index(b"mdat") + 1500
    content[middle : middle + 40] = bytes(byte ^ 0x55 for byte in content[middle : middle + 40])
    clip.write_bytes(content)
    with pytest.raises(ClipUnusable, match=r"^decode failed: "):
        decode(clip)


@pytest.mark.parametrize("change", ["hflip,scale=96x64", "format=yuv444p"])
def test_a_clip_that_changes_its_format_midway_is_unusable(
    change: str, make_clip: MakeClip, decode: DecodeClip, plain_ffmpeg: PlainFFmpeg, tmp_path: Path
) -> None:
    first = make_clip(tmp_path / "first.ts")
    second = make_clip(tmp_path / "second.ts", f"{SMALL_SCENE},{change}")
    changing = tmp_path / "changing.ts"
    plain_ffmpeg("-i", f"concat:{first}|{second}", "-c", "copy", changing)
    with pytest.raises(ClipUnusable, match=r"^decode failed: .*(changes its frame size, pixel format or colours)"):
        decode(changing)


def test_a_decode_without_an_end_is_stopped(make_clip: MakeClip, toolchain: Toolchain, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    with pytest.raises(ClipUnusable, match=r"^ffmpeg.* was stopped after 0 s, its time limit$"):
        decode_reference(
            clip,
            fingerprint(clip, RULES),
            ffmpeg=toolchain.ffmpeg,
            encoder=LIBX264,
            runner=toolchain.runner,
            limits=TimeLimits(base_s=0.001, per_megapixel_s=0),
            rules=RULES,
            scratch=tmp_path,
        )


def test_a_decode_that_was_killed_is_not_the_clips_fault(
    make_clip: MakeClip, toolchain: Toolchain, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\nkill -KILL $$\n")
    script.chmod(0o755)
    with pytest.raises(ToolFailed, match=r"^decode failed: ffmpeg was ended by signal 9$"):
        decode_reference(
            clip,
            fingerprint(clip, RULES),
            ffmpeg=replace(toolchain.ffmpeg, path=script),
            encoder=LIBX264,
            runner=toolchain.runner,
            limits=toolchain.limits,
            rules=RULES,
            scratch=tmp_path,
        )


@pytest.mark.parametrize("keep", ["yuv", "ffv1"])
def test_kept_frames_are_the_reference(
    keep: KeptFormat,
    make_clip: MakeClip,
    decode: DecodeClip,
    toolchain: Toolchain,
    plain_ffmpeg: PlainFFmpeg,
    tmp_path: Path,
) -> None:
    gaps = f"{SMALL_SCENE},select='not(between(mod(n,6),3,4))',crop=63:47:0:0:exact=1"
    clip = make_clip(tmp_path / "clip.mkv", gaps, (*FFV1, "-fps_mode", "vfr"))
    kept = decode_reference(
        clip,
        fingerprint(clip, RULES),
        ffmpeg=toolchain.ffmpeg,
        encoder=LIBX264,
        runner=toolchain.runner,
        limits=toolchain.limits,
        rules=RULES,
        scratch=tmp_path,
        keep=keep,
    )
    assert kept == decode(clip)
    raw = ("-f", "rawvideo", "-s", "62x46", "-pix_fmt", "yuv420p") if keep == "yuv" else ()
    args = (*raw, "-i", tmp_path / KEPT_FILES[keep], "-fps_mode", "passthrough", "-f", "md5", "-")
    assert plain_ffmpeg(*args).stdout.decode().strip() == f"MD5={kept.frames_md5}"


def test_a_file_that_changes_while_it_is_decoded_fails_instead_of_being_condemned(
    make_clip: MakeClip, toolchain: Toolchain, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    with pytest.raises(ToolFailed, match=r"^it changed while it was read$"):
        decode_reference(
            clip,
            replace(fingerprint(clip, RULES), mtime_ns=0),
            ffmpeg=toolchain.ffmpeg,
            encoder=LIBX264,
            runner=toolchain.runner,
            limits=toolchain.limits,
            rules=RULES,
            scratch=tmp_path,
        )


def test_a_file_is_known_by_its_content_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(content := b"\0\0\0\x10ftypisom")
    os.utime(file, ns=(0, 10**18))
    found = fingerprint(file, RULES)
    status = file.stat()
    file_state = f"{status.st_dev}:{status.st_ino}:{status.st_ctime_ns}"
    assert found == Fingerprint(hashlib.sha256(content).hexdigest(), 12, 10**18, file_state)
    assert found.still_holds(file)
    twin = tmp_path / "twin.mp4"
    twin.write_bytes(content)
    os.utime(twin, ns=(0, 10**18))
    assert not found.still_holds(twin)
    assert replace(found, file_state=None).still_holds(twin)
    os.utime(file, ns=(0, 10**18 + 1))
    assert not found.still_holds(file)
    file.write_bytes(b"abcd")
    os.utime(file, ns=(0, 10**18))
    assert not found.still_holds(file)
    file.unlink()
    with pytest.raises(ToolFailed, match=r"^it could not be read: No such file"):
        found.still_holds(file)
    with pytest.raises(ToolFailed, match=r"^it could not be read: No such file"):
        fingerprint(file, RULES)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nul\0.mp4", "its path has a NUL in it"),
        ("folder", "it is not a regular file"),
        ("pipe", "it is not a regular file"),
        ("empty.mp4", "it is empty"),
    ],
)
def test_what_cannot_be_an_upload_is_unusable(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ClipUnusable, match=f"^{re.escape(reason)}$"):
        fingerprint(tmp_path / name, RULES)


def test_frames_are_timed_by_index_at_the_nominal_rate() -> None:
    assert index_timing(Fraction(30000, 1001)) == "settb=1001/30000,setpts=N"


def test_a_frame_log_that_is_cut_short_is_never_taken_for_the_frames(
    make_clip: MakeClip, toolchain: Toolchain, tmp_path: Path
) -> None:
    class FullDisk(ToolRunner):
        def run(self, argv: Sequence[str], **how: Any) -> ToolResult:
            result = super().run(argv, **how)
            log = tmp_path / "frames.log"
            if log.exists():
                log.write_text("".join(log.read_text().splitlines(keepends=True)[:10]))
            return result

    clip = make_clip(tmp_path / "clip.mp4")
    with pytest.raises(ToolFailed, match=r"^decode failed: 12 frames, but 5 in the log$"):
        decode_reference(
            clip,
            fingerprint(clip, RULES),
            ffmpeg=toolchain.ffmpeg,
            encoder=LIBX264,
            runner=FullDisk(),
            limits=toolchain.limits,
            rules=RULES,
            scratch=tmp_path,
        )
