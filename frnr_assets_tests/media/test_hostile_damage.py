"""A damaged upload is refused, or has all its frames: never fewer without a word."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from frnr_assets.media.reference import Reference
from frnr_assets.media.source import ClipUnusable
from frnr_assets_tests.conftest import MakeClip
from frnr_assets_tests.media.conftest import DecodeClip
from frnr_assets_tests.media.hostile.bitstreams import cuts, flips
from frnr_assets_tests.media.hostile.matroska import clusters
from frnr_assets_tests.media.hostile.mp4 import places

SCENE = "testsrc2=size=64x48:rate=24,trim=end_frame=12"
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-threads", "1", "-g", "4")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1", "-g", "4")
MPEG4 = ("-c:v", "mpeg4", "-threads", "1", "-g", "4")
CLUSTERS = ("-cluster_time_limit", "100")
FRAGMENTS = ("-movflags", "+frag_keyframe+empty_moov+default_base_moof")


def box_boundaries(content: bytes) -> set[int]:
    return {place.start for place in places(content)}


def top_boundaries(content: bytes) -> set[int]:
    return {place.start for place in places(content) if "/" not in place.path}


def frame_boundaries(content: bytes) -> set[int]:
    mark = b"00dc"
    return set([at for at in range(content.index(b"idx1")) if content.startswith(mark, at)][::3])


def decoded(decode: DecodeClip, file: Path, content: bytes) -> Reference | None:
    file.write_bytes(content)
    try:
        return decode(file)
    except ClipUnusable:
        return None


def check_cuts(decode: DecodeClip, whole: Path, boundaries: Iterable[int], spread: int) -> None:
    content, expected = whole.read_bytes(), decode(whole)
    short = []
    for end in cuts(content, boundaries, spread):
        found = decoded(decode, whole.with_name(f"cut_{whole.name}"), content[:end])
        if found is not None and (found.frames, found.frames_md5) != (expected.frames, expected.frames_md5):
            short.append(f"{found.frames} frames of {expected.frames} in {end} bytes of {len(content)}")
    assert not short


@pytest.mark.parametrize(
    ("name", "encode", "boundaries", "spread"),
    [
        pytest.param("clip.mp4", H264, top_boundaries, 5, id="mp4"),
        pytest.param("clip.mp4", (*H264, "-movflags", "+faststart"), box_boundaries, 20, id="mp4, index first"),
        pytest.param("clip.mkv", (*H264, *CLUSTERS), clusters, 10, id="mkv"),
        pytest.param("clip.webm", (*VP9, *CLUSTERS), clusters, 10, id="webm"),
    ],
)
def test_a_clip_that_breaks_off_anywhere_never_counts_as_a_shorter_one(
    name: str,
    encode: tuple[str, ...],
    boundaries: Callable[[bytes], Iterable[int]],
    spread: int,
    make_clip: MakeClip,
    decode: DecodeClip,
    tmp_path: Path,
) -> None:
    whole = make_clip(tmp_path / name, SCENE, encode)
    check_cuts(decode, whole, boundaries(whole.read_bytes()), spread)


def test_an_avi_that_has_fewer_frames_than_its_header_declares_never_counts_as_a_shorter_one(
    make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    whole = make_clip(tmp_path / "clip.avi", SCENE, MPEG4)
    check_cuts(decode, whole, frame_boundaries(whole.read_bytes()), 0)


@pytest.mark.parametrize(("name", "encode"), [("clip.mp4", H264), ("clip.mkv", H264)], ids=["mp4", "mkv"])
def test_a_clip_with_a_flipped_bit_has_all_its_frames_or_is_refused(
    name: str, encode: tuple[str, ...], make_clip: MakeClip, decode: DecodeClip, tmp_path: Path
) -> None:
    whole = make_clip(tmp_path / name, SCENE, encode)
    frames = decode(whole).frames
    damaged = flips(whole.read_bytes(), 12, seed=1)
    found = [decoded(decode, tmp_path / f"flipped_{name}", content) for content in damaged]
    assert {reference.frames for reference in found if reference} == {frames}
    # Both happen: a sample that was refused, or let through, from end to end would show nothing.
    assert None in found
