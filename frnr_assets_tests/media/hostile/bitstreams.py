"""Coded pictures whose headers are edited, and files that are damaged."""

import random
import struct
from collections.abc import Iterable, Iterator

from frnr_assets_tests.media.hostile.mp4 import STBL, edit, numbers

# Those that say in their parameter sets how colours are sampled.
_HIGH_PROFILES = frozenset({100, 110, 122, 244})


def put_bits(content: bytes, at: int, count: int, value: int) -> bytes:
    """Overwrite ``count`` bits from bit offset ``at``."""
    first, last = at // 8, (at + count + 7) // 8
    shift = last * 8 - at - count
    mask = ((1 << count) - 1) << shift
    number = int.from_bytes(content[first:last], "big") & ~mask | value << shift
    return content[:first] + number.to_bytes(last - first, "big") + content[last:]


def resize_vp9(content: bytes, width: int, height: int) -> bytes:
    """Change the size in the header of the first key frame, and leave the container's alone."""
    start = (content.index(b"\x49\x83\x42") + 3) * 8 + 4
    return put_bits(put_bits(content, start, 16, width - 1), start + 16, 16, height - 1)


def resize_vp8(content: bytes, width: int, height: int) -> bytes:
    """Change the size in the header of the first key frame, and leave the container's alone."""
    at = content.index(b"\x9d\x01\x2a") + 3
    return content[:at] + struct.pack("<2H", width, height) + content[at + 4 :]


def resize_h264(clip: bytes, width: int, height: int) -> bytes:
    """Change the size in the sequence parameter set, and leave the container's alone."""

    def change(entry: bytes) -> bytes:
        record = entry.index(b"avcC")
        at = record + 10
        (size,) = struct.unpack_from(">H", entry, at)
        new = _resized(entry[at + 2 : at + 2 + size], width, height)
        changed = entry[:at] + struct.pack(">H", len(new)) + new + entry[at + 2 + size :]
        for start in (8, record - 4):
            old = struct.unpack_from(">I", entry, start)[0]
            changed = changed[:start] + numbers(old + len(new) - size) + changed[start + 4 :]
        return changed

    return edit(clip, f"{STBL}/stsd", change)


class _Bits:
    """The bits of a parameter set, read from the first to the last."""

    def __init__(self, content: bytes):
        self.all = "".join(f"{byte:08b}" for byte in content)
        self.at = 0

    def code(self) -> int:
        """Read a number in the code whose length its zeros tell."""
        zeros = self.all.index("1", self.at) - self.at
        start, self.at = self.at + zeros, self.at + 2 * zeros + 1
        return int(self.all[start : self.at], 2) - 1


def _resized(parameters: bytes, width: int, height: int) -> bytes:
    """Change the size in a sequence parameter set without scaling lists."""
    bits = _Bits(parameters.replace(b"\0\0\3", b"\0\0"))
    # NAL header, profile, constraints and level.
    bits.at = 32
    bits.code()
    if parameters[1] in _HIGH_PROFILES:
        if bits.code() == 3:
            # Whether the planes are coded on their own.
            bits.at += 1
        bits.code()
        bits.code()
        # Lossless transform, and scaling lists.
        bits.at += 2
    bits.code()
    if bits.code() == 0:
        bits.code()
    bits.code()
    # Whether frame numbers may have gaps.
    bits.at += 1
    start = bits.at
    bits.code()
    bits.code()
    new = bits.all[:start] + _code(width // 16 - 1) + _code(height // 16 - 1) + bits.all[bits.at :].rstrip("0")
    new += "0" * (-len(new) % 8)
    return int(new, 2).to_bytes(len(new) // 8, "big")


def _code(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def jpeg(width: int, height: int) -> bytes:
    """Return the beginning of a gray picture of any size."""
    tables = b"\xff\xdb\0\x43\0" + bytes([1]) * 64
    for kind in (0, 0x10):
        tables += b"\xff\xc4\0\x15" + bytes([kind, 0, 2]) + bytes(14) + b"\0\1"
    frame = b"\xff\xc0\0\x0b\x08" + struct.pack(">2H", height, width) + b"\1\1\x11\0"
    return b"\xff\xd8" + tables + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(2000) + b"\xff\xd9"


def cuts(content: bytes, boundaries: Iterable[int], count: int) -> list[int]:
    """Return offsets to cut a file at: its boundaries, and so many more spread over it."""
    spread = {len(content) * step // (count + 1) for step in range(1, count + 1)}
    return sorted({*boundaries, *spread} - {0, len(content)})


def flips(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield a file with one bit turned, so many times, each time another bit."""
    for at in random.Random(seed).sample(range(len(content) * 8), count):
        yield put_bits(content, at, 1, ~(content[at // 8] >> (7 - at % 8)) & 1)
