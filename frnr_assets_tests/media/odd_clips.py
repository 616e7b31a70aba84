"""How an odd upload is made, and what is known of it from that."""

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frnr_assets_tests.conftest import MakeClip
from frnr_assets_tests.media.conftest import PlainFFmpeg

Args = tuple[str, ...]
Edit = Callable[[bytes], bytes]

FRAMES = 12
SIZE = (64, 48)
# No frame is like another.
SCENE = (
    "testsrc2=size=96x64:rate=24,trim=end_frame={frames},noise=alls=8:allf=t,"
    "crop={width}:{height}:0:0:exact=1,{filters}"
)
# Stand in the arguments of a step for the file so far and for what one pass of an encoder leaves to the next.
CLIP, PASSES = "CLIP", "PASSES"


@dataclass(frozen=True)
class OddClip:
    """An odd upload.

    Attributes:
        odd: what is odd about it.
        name: of the file that is encoded first.
        encode: ffmpeg's arguments that encode it.
        filters: what the scene goes through before.
        steps: what is done with the file then: a change of its bytes, or ffmpeg's arguments with the name of the next
            file at their end.
        coded: width and height of the scene.
        filmed: frames of the scene.
        frames: that whoever plays the file must see.
        size: width and height of the working format.
        pix_fmt: of the working format.
        adjustments: how geometry and format are changed to make a pair of it.
        variable: whether its frames do not come at a constant rate.
        facts: of the probe.
        untouched: whether the steps leave pictures, their number and their order as they were.
    """

    odd: str
    name: str
    encode: Args
    filters: str = "null"
    steps: tuple[Args | Edit, ...] = ()
    coded: tuple[int, int] = SIZE
    filmed: int = FRAMES
    frames: int = FRAMES
    size: tuple[int, int] = SIZE
    pix_fmt: str = "yuv420p"
    adjustments: tuple[str, ...] = ()
    variable: bool = False
    facts: Mapping[str, object] = field(default_factory=dict)
    untouched: bool = True


def make_odd_clip(clip: OddClip, folder: Path, make_clip: MakeClip, plain_ffmpeg: PlainFFmpeg) -> tuple[Path, Path]:
    """Return the file that was encoded, and the upload that the steps have made of it."""
    width, height = clip.coded
    scene = SCENE.format(width=width, height=height, frames=clip.filmed, filters=clip.filters)
    first = made = make_clip(folder / "first" / clip.name, scene, clip.encode)
    for number, step in enumerate(clip.steps):
        before, names = made, {CLIP: made, PASSES: folder / "passes"}
        if callable(step):
            made = folder / f"{number}-{before.name}"
            made.write_bytes(step(before.read_bytes()))
        else:
            made = folder / f"{number}-{step[-1]}"
            plain_ffmpeg(*(names.get(arg, arg) for arg in step[:-1]), made)
    return first, made


def boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Walk through the boxes of an MP4: names, and boxes with their headers."""
    start = 0
    while start < len(content):
        (size,) = struct.unpack(">I", content[start : start + 4])
        yield content[start + 4 : start + 8], content[start : start + size]
        start += size


def with_box(content: bytes, path: Sequence[bytes], new: bytes) -> bytes:
    """Replace what is in a box of an MP4 whose index is at its end."""
    changed = b""
    for name, box in boxes(content):
        if name == path[0]:
            inside = with_box(box[8:], path[1:], new) if len(path) > 1 else new
            changed += struct.pack(">I4s", 8 + len(inside), name) + inside
        else:
            changed += box
    return changed


def with_edits(content: bytes, *, frames: Sequence[tuple[int, int]]) -> bytes:
    """Make an MP4's edit list show these frames only, each range from a first one up to another, at 24 a second."""
    delay, media_scale, movie_scale = 1024, 12288, 1000
    edits = b"".join(
        struct.pack(">IiI", (end - first) * movie_scale // 24, delay + first * media_scale // 24, 1 << 16)
        for first, end in frames
    )
    return with_box(content, (b"moov", b"trak", b"edts", b"elst"), struct.pack(">II", 0, len(frames)) + edits)


def cover_first(content: bytes) -> bytes:
    """Put the cover picture of an MP4 before its tracks."""
    order = {b"mvhd": 0, b"udta": 1, b"trak": 2}
    (index,) = (box for name, box in boxes(content) if name == b"moov")
    parts = sorted(boxes(index[8:]), key=lambda part: order[part[0]])
    return with_box(content, (b"moov",), b"".join(part for _, part in parts))


def replaced(content: bytes, *, old: bytes, new: bytes) -> bytes:
    if content.count(old) != 1:
        raise ValueError(f"{old!r} is there {content.count(old)} times")
    return content.replace(old, new)


def without_durations(content: bytes) -> bytes:
    """Blank out the duration of a frame in a Matroska file; a browser that records writes none."""
    start = content.index(b"\x23\xe3\x83\x84")
    return content[:start] + b"\xec\x86" + bytes(6) + content[start + 8 :]


def with_repeated_fields(content: bytes) -> bytes:
    """Set repeat_first_field in every picture of an MPEG-2 stream, as films on DVDs have it."""
    changed = bytearray(content)
    for extension in re.finditer(rb"\x00\x00\x01\xb5[\x80-\x8f]", content):
        changed[extension.start() + 7] |= 0x02
    return bytes(changed)


def twice(content: bytes) -> bytes:
    return content + content


def shifted(by: str) -> Args:
    """Return the bitstream filter that changes all timestamps; ``T`` stands for each."""
    return ("-bsf:v", f"setts=pts='{by.replace('T', 'PTS')}':dts='{by.replace('T', 'DTS')}'")


def converted(before: str, after: str) -> str:
    return f"converted from {before} to {after}"
