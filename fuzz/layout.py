"""Where the parts of a file are: boxes of MP4, elements of Matroska, chunks of AVI, packets of MPEG-TS.

Readers take any bytes, damaged ones too: they stop where nothing makes sense any more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

ByteOrder = Literal["big", "little"]


@dataclass(frozen=True)
class Part:
    """One box, element, chunk or packet.

    Attributes:
        name: as the format calls it.
        start: offset of its header.
        body: offset of what follows its header.
        end: offset of what follows it.
        leaf: whether it has no parts of its own.
        size_at: offset of its size field; None for a part without one.
        size_bytes: length of that field.
        order: byte order of its numbers.
        size_counts: offset from which the size counts.
        vint: whether the size field is one of Matroska's, whose first bit that is set tells its length.
    """

    name: str
    start: int
    body: int
    end: int
    leaf: bool
    size_at: int | None
    size_bytes: int
    order: ByteOrder
    size_counts: int
    vint: bool = False

    @property
    def is_media(self) -> bool:
        """Whether it holds coded frames, rather than what is said of them."""
        return self.name in _MEDIA

    @property
    def largest_size(self) -> int:
        """The largest number that its size field can hold."""
        return (1 << self.size_bytes * (7 if self.vint else 8)) - 1

    def write_size(self, data: bytearray, size: int) -> None:
        """Write another number into its size field, within what the field can hold."""
        if self.size_at is None:
            return
        value = min(max(size, 0), self.largest_size)
        if self.vint:
            value |= 1 << self.size_bytes * 7
        data[self.size_at : self.size_at + self.size_bytes] = value.to_bytes(self.size_bytes, self.order)


_VIDEO_PACKET, _TABLE_PACKET = "packet", "table"
_MEDIA = frozenset({"mdat", "a3", "a1", "00dc", "01dc", "01wb", _VIDEO_PACKET})
# MP4 boxes with boxes in them, and how far into the body these start.
_BOXES = dict.fromkeys("moov trak mdia minf stbl edts dinf udta mvex moof traf mfra".split(), 0) | {  # noqa: SIM905 - words read better than quotes
    **dict.fromkeys(("stsd", "dref"), 8),
    "meta": 4,
    **dict.fromkeys(("avc1", "hvc1", "hev1"), 78),
    "mp4a": 28,
}
# The same of Matroska: EBML, Segment, SeekHead, Seek, Info, Tracks, TrackEntry, Video, Colour, Cluster, BlockGroup,
# Cues, CuePoint, CueTrackPositions, Tags, Tag, Targets, SimpleTag.
_ELEMENTS = frozenset(
    "1a45dfa3 18538067 114d9b74 4dbb 1549a966 1654ae6b ae e0 55b0 "  # noqa: SIM905
    "1f43b675 a0 1c53bb6b bb b7 1254c367 7373 63c0 67c8".split()
)
_LISTS = frozenset({"RIFF", "LIST"})
_PACKET_BYTES = 188
_FIRST_STREAM = 0x100


def parts_of(name: str, data: bytes | bytearray) -> list[Part]:
    """Return the parts of a file, each before its own parts; the suffix of its name says of which format it is."""
    return list(_READERS[PurePath(name).suffix](data, 0, len(data)))


def _boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[Part]:
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        name = data[start + 4 : start + 8].decode("latin-1")
        stop = start + size
        if size < 8 or stop > end:
            return
        inner = _BOXES.get(name)
        yield Part(name, start, start + 8, stop, inner is None, start, 4, "big", start)
        if inner is not None:
            yield from _boxes(data, start + 8 + inner, stop)
        start = stop


def _elements(data: bytes | bytearray, start: int, end: int) -> Iterator[Part]:
    while start < end:
        size_at = start + _vint_bytes(data[start])
        if size_at >= end:
            return
        size_bytes = _vint_bytes(data[size_at])
        body = size_at + size_bytes
        mask = (1 << size_bytes * 7) - 1
        stop = body + (int.from_bytes(data[size_at:body], "big") & mask)
        if size_bytes > 8 or stop > end:
            return
        name = data[start:size_at].hex()
        inner = name in _ELEMENTS
        yield Part(name, start, body, stop, not inner, size_at, size_bytes, "big", body, vint=True)
        if inner:
            yield from _elements(data, body, stop)
        start = stop


def _vint_bytes(first: int) -> int:
    return 9 - first.bit_length()


def _chunks(data: bytes | bytearray, start: int, end: int) -> Iterator[Part]:
    while start + 8 <= end:
        name = data[start : start + 4].decode("latin-1")
        body = start + 8
        stop = body + int.from_bytes(data[start + 4 : body], "little")
        if stop > end:
            return
        inner = name in _LISTS
        yield Part(name, start, body, stop, not inner, start + 4, 4, "little", body)
        if inner:
            yield from _chunks(data, body + 4, stop)
        start = stop + stop % 2


def _packets(data: bytes | bytearray, start: int, end: int) -> Iterator[Part]:
    for packet in range(start, end - _PACKET_BYTES + 1, _PACKET_BYTES):
        stream = int.from_bytes(data[packet + 1 : packet + 3], "big") & 0x1FFF
        # Tables are on the numbers below the first stream's and, ffmpeg's choice, from 4096 on.
        name = _VIDEO_PACKET if _FIRST_STREAM <= stream < 0x1000 else _TABLE_PACKET
        body = packet + 4
        has_adaptation = bool(data[packet + 3] & 0x20)
        size_at = body if has_adaptation else None
        yield Part(name, packet, body, packet + _PACKET_BYTES, True, size_at, 1, "big", body + 1)


_READERS: dict[str, Callable[[bytes | bytearray, int, int], Iterator[Part]]] = {
    **dict.fromkeys((".mp4", ".mov"), _boxes),
    **dict.fromkeys((".webm", ".mkv"), _elements),
    ".avi": _chunks,
    ".ts": _packets,
}
