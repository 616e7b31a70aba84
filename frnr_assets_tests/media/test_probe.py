"""What is read from a file's headers, and which files are turned away."""

import pickle
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.media.probe import probe_source
from frnr_assets.media.process import ToolError, ToolFailed, ToolRunner
from frnr_assets.media.source import ClipUnusable
from frnr_assets_tests.conftest import RULES, SMALL_SCENE, X264_UPLOAD, MakeClip
from frnr_assets_tests.media.conftest import PlainFFmpeg

X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:pools=1:frame-threads=1")
FFV1 = ("-c:v", "ffv1", "-threads", "1")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1")
HDR10 = "setparams=range=tv:color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc"
HLG = "setparams=range=tv:color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc"


def test_a_broken_pyav_is_no_fault_of_a_clip(
    make_clip: MakeClip, runner: ToolRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'av'\" >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(ToolError, match=r"^PyAV does not work: ModuleNotFoundError: .*; install it again$") as failure:
        probe_source(clip, runner, RULES)
    assert not isinstance(failure.value, ToolFailed)


@pytest.mark.parametrize(
    ("name", "filters", "encode", "expected"),
    [
        pytest.param(
            "clip.mp4",
            "format=yuv420p",
            X264_UPLOAD,
            {
                "container": "mov,mp4,m4a,3gp,3g2,mj2",
                "codec": "h264",
                "width": 64,
                "height": 48,
                "pix_fmt": "yuv420p",
                "chroma": "420",
                "bit_depth": 8,
                "rate": Fraction(24),
                "stream_duration_s": 0.5,
                "color_range": "unspecified",
                "color_transfer": "unspecified",
                "color_primaries": "unspecified",
                "hdr_transfer": "",
                "hdr_primaries": "",
            },
            id="plain",
        ),
        pytest.param(
            "hdr10.mp4",
            f"format=yuv420p10le,{HDR10}",
            X265,
            {
                "codec": "hevc",
                "pix_fmt": "yuv420p10le",
                "chroma": "420",
                "bit_depth": 10,
                "color_range": "tv",
                "color_transfer": "smpte2084",
                "color_primaries": "bt2020",
                "hdr_transfer": "pq",
                "hdr_primaries": "bt2020",
            },
            id="HDR10",
        ),
        pytest.param(
            "hlg.mkv",
            f"format=yuv420p10le,{HLG}",
            X265,
            {"color_transfer": "arib-std-b67", "hdr_transfer": "hlg", "hdr_primaries": "bt2020"},
            id="HLG",
        ),
        pytest.param(
            "odd.webm",
            "crop=63:47:0:0:exact=1,setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709",
            VP9,
            {
                "container": "matroska,webm",
                "codec": "vp9",
                "width": 63,
                "height": 47,
                "stream_duration_s": None,
                "color_primaries": "bt709",
                "hdr_primaries": "",
            },
            id="odd",
        ),
        pytest.param(
            "full.mp4",
            "scale=out_range=pc,format=yuv420p",
            X264_UPLOAD,
            {"chroma": "420", "color_range": "pc"},
            id="full range",
        ),
        pytest.param("422.mkv", "format=yuv422p10le", FFV1, {"chroma": "422", "bit_depth": 10}, id="422"),
        pytest.param("444.mkv", "format=yuv444p12le", FFV1, {"chroma": "444", "bit_depth": 12}, id="444"),
        pytest.param("440.mkv", "format=yuv440p", FFV1, {"chroma": "440", "bit_depth": 8}, id="440"),
        pytest.param("411.mkv", "format=yuv411p", FFV1, {"chroma": "411"}, id="411"),
        pytest.param("410.mkv", "format=yuv410p", FFV1, {"chroma": "410"}, id="410"),
        pytest.param("gray.mkv", "format=gray", FFV1, {"chroma": "gray", "bit_depth": 8}, id="gray"),
        pytest.param("rgb.mkv", "format=bgr0", FFV1, {"chroma": "rgb", "bit_depth": 8}, id="rgb"),
        pytest.param("palette.mkv", "format=pal8", ("-c:v", "png"), {"chroma": "rgb"}, id="palette"),
        pytest.param(
            "ntsc.mp4", "settb=1001/30000,setpts=N", X264_UPLOAD, {"rate": Fraction(30000, 1001)}, id="fractional rate"
        ),
    ],
)
def test_headers_are_read(
    name: str,
    filters: str,
    encode: tuple[str, ...],
    expected: dict[str, Any],
    make_clip: MakeClip,
    runner: ToolRunner,
    tmp_path: Path,
) -> None:
    rate = ("-enc_time_base", "1001:30000") if "30000" in filters else ()
    probe = probe_source(make_clip(tmp_path / name, f"{SMALL_SCENE},{filters}", (*encode, *rate)), runner, RULES)
    assert {field: getattr(probe, field) for field in expected} == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(b"Not a video at all.\n" * 100, "it is no video of a known container", id="text"),
        pytest.param(b"<!DOCTYPE html><html><body>404</body></html>", "it is a web page", id="page"),
        pytest.param(b"\0\0\0\x10ftypisom\0\0\0\0", "it could not be probed: .*moov atom not found", id="header"),
    ],
)
def test_what_is_no_video_is_unusable(content: bytes, reason: str, runner: ToolRunner, tmp_path: Path) -> None:
    file = tmp_path / "upload.mp4"
    file.write_bytes(content)
    with pytest.raises(ClipUnusable, match=f"^{reason}"):
        probe_source(file, runner, RULES)


def test_an_upload_cannot_name_other_files_to_be_read(make_clip: MakeClip, runner: ToolRunner, tmp_path: Path) -> None:
    make_clip(tmp_path / "private.mp4")
    upload = tmp_path / "upload.mp4"
    upload.write_text("ffconcat version 1.0\nfile private.mp4\n")
    with pytest.raises(ClipUnusable):
        probe_source(upload, runner, RULES)


def test_a_file_that_breaks_off_before_its_index_is_unusable(
    make_clip: MakeClip, runner: ToolRunner, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    clip.write_bytes(clip.read_bytes()[:1000])
    with pytest.raises(ClipUnusable, match=r"^it could not be probed: Invalid data"):
        probe_source(clip, runner, RULES)


def boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 0
    while start < len(content):
        (size,) = struct.unpack(">I", content[start : start + 4])
        yield content[start + 4 : start + 8], content[start : start + size]
        start += size


@pytest.fixture
def cover(make_clip: MakeClip, tmp_path: Path) -> Path:
    return make_clip(tmp_path / "cover.png", "testsrc2=size=200x200:rate=1,trim=end_frame=1", ())


def test_a_file_with_sound_only_is_unusable_with_and_without_a_cover(
    cover: Path, plain_ffmpeg: PlainFFmpeg, runner: ToolRunner, tmp_path: Path
) -> None:
    sound = tmp_path / "sound.m4a"
    plain_ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", "-c:a", "aac", sound)
    song = tmp_path / "song.m4a"
    plain_ffmpeg(
        "-i", sound, "-i", cover, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic", song
    )
    for file in (sound, song):
        with pytest.raises(ClipUnusable, match=r"^it could not be probed: it has no video stream$"):
            probe_source(file, runner, RULES)


def test_a_cover_before_the_video_is_not_taken_for_it(
    cover: Path, make_clip: MakeClip, plain_ffmpeg: PlainFFmpeg, runner: ToolRunner, tmp_path: Path
) -> None:
    clip, covered = make_clip(tmp_path / "clip.mp4"), tmp_path / "covered.mp4"
    inputs = ("-i", clip, "-i", cover, "-map", "0", "-map", "1", "-c", "copy")
    plain_ffmpeg(*inputs, "-disposition:v:1", "attached_pic", covered)
    first = tmp_path / "first.mp4"
    order = {b"mvhd": 0, b"udta": 1, b"trak": 2}
    with first.open("wb") as file:
        for name, box in boxes(covered.read_bytes()):
            parts = sorted(boxes(box[8:]), key=lambda part: order[part[0]]) if name == b"moov" else []
            file.write(box[:8] + b"".join(part for _, part in parts) if parts else box)
    probe = probe_source(first, runner, RULES)
    assert (probe.codec, probe.width, probe.height) == ("h264", 64, 48)


def test_the_reason_survives_the_way_from_another_process() -> None:
    problem: ClipUnusable = pickle.loads(pickle.dumps(ClipUnusable("it is empty", "log")))  # noqa: S301 - made right here
    assert (problem.reason, problem.tool_output, str(problem)) == ("it is empty", "log", "it is empty")
