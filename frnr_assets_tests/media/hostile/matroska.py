"""Matroska files, made element by element."""

import struct
from collections.abc import Callable, Mapping, Sequence

from frnr_assets_tests.media.hostile import Bait
from frnr_assets_tests.media.hostile.mp4 import avc_configuration, deflated, samples

CLUSTER = 0x1F43B675
H264 = "V_MPEG4/ISO/AVC"
# One more means that the size is not known.
_LARGEST = (1 << 56) - 2


def element(number: int, payload: bytes, size: int | None = None) -> bytes:
    """Return an element, which may lie about its size."""
    name = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return name + struct.pack(">Q", (len(payload) if size is None else size) | 1 << 56) + payload


def track(codec: str, private: bytes = b"", more: bytes = b"", number: int = 1) -> bytes:
    """Return the entry of a video track of 64x48 at 24 frames per second."""
    entry = element(0xD7, bytes([number])) + element(0x73C5, bytes([number])) + element(0x83, b"\x01")
    entry += element(0x23E383, (41_666_666).to_bytes(4, "big")) + element(0x86, codec.encode())
    entry += element(0xE0, element(0xB0, b"\x40") + element(0xBA, b"\x30"))
    return element(0xAE, entry + (element(0x63A2, private) if private else b"") + more)


def blocks(frames: Sequence[bytes], number: int = 1) -> bytes:
    """Return a cluster with these frames, the first of them a key frame."""
    found = element(0xE7, b"\0")
    for index, frame in enumerate(frames):
        head = struct.pack(">BhB", 0x80 | number, index * 1000 // 24, 0 if index else 0x80)
        found += element(0xA3, head + frame)
    return element(CLUSTER, found)


def file(tracks: bytes, after: bytes, info: bytes = b"", size: int | None = None) -> bytes:
    """Return a file: its tracks, what comes after them, more about the segment, and the size that it declares."""
    head = element(0x4282, b"matroska") + element(0x4287, b"\x04") + element(0x4285, b"\x02")
    timing = element(0x1549A966, element(0x2AD7B1, (1_000_000).to_bytes(4, "big")) + info)
    return element(0x1A45DFA3, head) + element(0x18538067, timing + element(0x1654AE6B, tracks) + after, size)


def linked(tracks: bytes, frames: Sequence[bytes], bait: Bait) -> bytes:
    """Return a file that says that it goes on in another, and that its first chapter is there."""
    name, itself, other = bait.file.encode(), b"\1" * 16, b"\2" * 16
    info = element(0x73A4, itself) + element(0x3CB923, other) + element(0x3EB923, other)
    info += element(0x3C83AB, name) + element(0x3E83BB, name)
    chapter = element(0xB6, element(0x73C4, b"\x01") + element(0x91, b"\0") + element(0x6E67, other))
    chapters = element(0x1043A770, element(0x45B9, element(0x45DD, b"\x01") + chapter))
    return file(tracks, chapters + blocks(frames), info)


def _compressed(scope: int) -> bytes:
    zlib_settings = element(0x5034, element(0x4254, b"\0"))
    return element(0x6D80, element(0x6240, element(0x5031, b"\0") + element(0x5032, bytes([scope])) + zlib_settings))


def clusters(content: bytes) -> list[int]:
    """Return the offsets of a file's clusters."""
    mark = CLUSTER.to_bytes(4, "big")
    return [at for at in range(len(content)) if content.startswith(mark, at)]


def _tags(depth: int) -> bytes:
    tags = b""
    for _ in range(depth):
        tags = element(0x67C8, element(0x45A3, b"x") + tags)
    return element(0x1254C367, element(0x7373, tags))


def _private(content: bytes, size: int) -> bytes:
    return track(H264, more=element(0x63A2, content, size))


_BOMB = deflated(b"", 300 << 20)

# Headers that declare, or unpack to, what would fill the memory, made from H.264's parameter sets and its frames.
BOMBS: Mapping[str, Callable[[bytes, Sequence[bytes]], bytes]] = {
    "a segment of 2^56 bytes": lambda private, frames: file(track(H264, private), blocks(frames), size=_LARGEST),
    "codec data of 2^56 bytes": lambda private, frames: file(_private(private, _LARGEST), blocks(frames)),
    "codec data of 1 GB": lambda private, frames: file(_private(private, 1 << 30), blocks(frames)),
    "a block of 1 GB": lambda private, frames: file(
        track(H264, private),
        blocks(frames) + element(CLUSTER, element(0xA3, b"\x81\0\0\x80", 1 << 30), 2 << 30),
    ),
    "a block of 256 laces": lambda private, frames: file(
        track(H264, private), blocks(frames) + element(CLUSTER, element(0xA3, b"\x81\0\0\x82" + b"\xff" * 2000))
    ),
    "tags in tags": lambda private, frames: file(track(H264, private), _tags(5_000) + blocks(frames)),
    "5000 tracks": lambda private, frames: file(
        track(H264, private) + track("V_VP9", number=2) * 5_000, blocks(frames)
    ),
    "codec data that unpacks to 300 MB": lambda _, frames: file(track(H264, _BOMB, _compressed(2)), blocks(frames)),
    "frames that unpack to 300 MB": lambda private, _: file(track(H264, private, _compressed(1)), blocks([_BOMB] * 12)),
    "a header of 2^56 bytes": lambda private, frames: (
        element(0x1A45DFA3, b"", _LARGEST) + file(track(H264, private), blocks(frames))
    ),
}


def bomb(name: str, clip: bytes) -> bytes:
    """Return one of the bombs, made from an MP4 clip."""
    return BOMBS[name](avc_configuration(clip), samples(clip))
