"""Which files may be sources: each rule refuses by name what it does not allow, and nothing else."""

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from frnr_assets.containers import Container
from frnr_assets.media.process import ToolFailed
from frnr_assets.media.score import score_distortions
from frnr_assets.media.source import ClipUnusable, SourceRules, codec_of, fingerprint, open_source
from frnr_assets.media.toolchain import Toolchain
from frnr_assets_tests.conftest import X264_UPLOAD, MakeClip
from frnr_assets_tests.media.conftest import DecodeClip, EncodeClip

RULES = SourceRules()


@pytest.mark.parametrize(
    ("allowed", "refusing", "reason"),
    [
        (SourceRules(max_pixels=64 * 48), SourceRules(max_pixels=64 * 48 - 1), "64x48 have more pixels than the 3071"),
        (SourceRules(max_frames=12), SourceRules(max_frames=11), "more frames than the 11 that max_frames allows"),
        (SourceRules(max_gigapixels=12 * 64 * 48 / 1e9), SourceRules(max_gigapixels=3e-5), "the 9 that max_gigapixels"),
        (SourceRules(max_duration_s=0.5), SourceRules(max_duration_s=0.4), "lasts 0.5 s, more than the 0.4 that max_s"),
        (SourceRules(max_streams=1), SourceRules(max_streams=0), "it has 1 streams, more than the 0"),
        (SourceRules(min_side=48), SourceRules(min_side=49), "64x48 are too small"),
        (
            SourceRules(codecs=("h264",)),
            SourceRules(codecs=("hevc", "vp9")),
            "its video is h264; codecs allows hevc, vp9",
        ),
        (
            SourceRules(containers=("mov",)),
            SourceRules(containers=("avi", "mpegts")),
            "it is a file of the container mov; containers allows avi, mpegts",
        ),
        (SourceRules(max_bytes=1 << 20), SourceRules(max_bytes=99), "more than the 99 that max_source_gib allows"),
    ],
    ids=["pixels", "frames", "gigapixels", "duration", "streams", "side", "codec", "container", "size"],
)
def test_a_clip_beyond_a_limit_is_refused_by_name_and_one_at_the_limit_is_not(
    allowed: SourceRules, refusing: SourceRules, reason: str, make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    assert decode(clip, allowed).frames == 12
    with pytest.raises(ClipUnusable, match=reason):
        decode(clip, refusing)


def test_a_clip_that_says_nothing_of_its_duration_is_held_to_the_limit_too(
    make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mkv")
    assert decode(clip).probe.stream_duration_s is None
    with pytest.raises(ClipUnusable, match=r"^it lasts 0\.5 s, more than the 0\.4 that max_seconds allows$"):
        decode(clip, SourceRules(max_duration_s=0.4))


@pytest.mark.parametrize(
    ("name", "encode", "container"),
    [
        ("clip.mp4", X264_UPLOAD, "mov"),
        ("clip.mov", X264_UPLOAD, "mov"),
        ("fragmented.mp4", (*X264_UPLOAD, "-movflags", "frag_keyframe+empty_moov"), "mov"),
        ("clip.mkv", X264_UPLOAD, "matroska"),
        ("clip.webm", ("-c:v", "libvpx", "-threads", "1"), "matroska"),
        ("clip.avi", ("-c:v", "mpeg4"), "avi"),
        ("clip.ts", X264_UPLOAD, "mpegts"),
        ("clip.m2ts", X264_UPLOAD, "mpegts"),
    ],
)
def test_each_container_is_known_by_its_content_under_any_name(
    name: str, encode: tuple[str, ...], container: Container, make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / name, encode=encode)
    nameless = clip.rename(tmp_path / "upload")
    assert decode(nameless, replace(RULES, containers=(container,))).frames == 12
    others = tuple(other for other in RULES.containers if other != container)
    with pytest.raises(ClipUnusable, match=f"a file of the container {container}"):
        decode(nameless, replace(RULES, containers=others))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "an HLS playlist"),
        (b"\xef\xbb\xbf#EXTM3U\n", "an HLS playlist"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "an ffconcat script"),
        (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">', "a DASH manifest"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "an SVG picture"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", "an SDP session description"),
        (b"  <!DOCTYPE html>\n<html>", "a web page"),
        (b"GIF89a", "a GIF picture"),
        (b"RIFF\0\0\0\0WAVE", "a WAV sound"),
        (b"\0\0\x01\xba\x44", "an MPEG program stream"),
        (b"Not a video at all.\n", "no video of a known container"),
        (struct.pack(">I", 8) + b"zzzz", "no video of a known container"),
    ],
    ids=ascii,
)
def test_what_is_no_video_is_named_before_any_tool_sees_it(content: bytes, kind: str, tmp_path: Path) -> None:
    upload = tmp_path / "clip.mp4"
    upload.write_bytes(content)
    with pytest.raises(ClipUnusable, match=f"^it is {kind}; containers allows mov, matroska, avi, mpegts "):
        open_source(upload, RULES)


def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_not_opened(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"\0\0\0\x10ftypisom")
    found = fingerprint(clip, RULES)
    other = tmp_path / "other.mp4"
    other.write_bytes(b"\0\0\0\x10ftypmp42")
    stat = clip.stat()
    other.rename(clip)
    os.utime(clip, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ToolFailed, match=r"^it changed while it was read$"):
        open_source(clip, RULES, found)


def test_the_codec_of_every_decoder_is_known() -> None:
    assert {codec_of(decoder) for decoder in RULES.video_decoders} == set(RULES.codecs)


ACCEPTING = SourceRules(accept_damaged=True)


def test_a_damaged_clip_is_refused_in_the_decoders_own_words(damaged: Path, decode: DecodeClip) -> None:
    with pytest.raises(ClipUnusable, match="error while decoding MB"):
        decode(damaged)


def test_concealed_damage_can_be_accepted_and_marks_the_reference(
    damaged: Path, decode: DecodeClip, encode: EncodeClip, toolchain: Toolchain, tmp_path: Path
) -> None:
    reference = decode(damaged, ACCEPTING)
    assert reference.frames == 24
    assert any("error while decoding MB" in error for error in reference.decode_errors)
    assert decode(damaged, ACCEPTING).frames_md5 == reference.frames_md5
    distortion = encode(damaged, reference, 28, ACCEPTING)
    (score,) = score_distortions(
        damaged,
        reference,
        [distortion],
        vmaf=toolchain.vmaf,
        ffmpeg=toolchain.ffmpeg,
        runner=toolchain.runner,
        limits=toolchain.limits,
        rules=ACCEPTING,
        scratch=tmp_path,
    )
    assert len(score.vmaf) == 24
    assert score.vmaf_score > 60


def test_a_whole_clip_is_not_marked_where_damage_is_accepted(
    make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    assert decode(clip, ACCEPTING) == decode(clip, RULES)
    assert decode(clip, ACCEPTING).decode_errors == ()


def test_errors_that_the_decode_did_not_have_are_not_accepted_in_an_encode(
    damaged: Path, decode: DecodeClip, encode: EncodeClip
) -> None:
    reference = replace(decode(damaged, ACCEPTING), decode_errors=("another error",))
    with pytest.raises(ToolFailed, match="error while decoding MB"):
        encode(damaged, reference, 28, ACCEPTING)


def test_a_file_is_the_same_on_a_machine_that_numbers_its_file_systems_otherwise(tmp_path: Path) -> None:
    source = tmp_path / "clip.mp4"
    source.write_bytes(b"\0\0\0\x18ftypisom")
    found = fingerprint(source, RULES)
    assert found.file_state is not None
    device, _, rest = found.file_state.partition(":")
    assert replace(found, file_state=f"{int(device) + 1}:{rest}").still_holds(source)
    assert not replace(found, file_state=f"{device}:1{rest}").still_holds(source)
