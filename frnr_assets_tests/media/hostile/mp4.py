"""MP4 files with edited boxes."""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from frnr_assets_tests.media.hostile import Bait

HUGE = 0xFFFFFFFF
STBL = "moov/trak/mdia/minf/stbl"
# Boxes that hold nothing but boxes.
_BRANCHES = frozenset({b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"edts"})


def box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box."""
    payload = b"".join(parts)
    return struct.pack(">I", 8 + len(payload)) + kind + payload


def numbers(*values: int) -> bytes:
    """Return 32-bit numbers, as tables are made of; the first is a table's version and flags."""
    return struct.pack(f">{len(values)}I", *values)


@dataclass(frozen=True)
class Place:
    """Where a box is.

    Attributes:
        path: its name behind those of the boxes that it is in, as in "moov/trak/mdia".
        start: offset of its size.
        end: offset behind it.
    """

    path: str
    start: int
    end: int


def places(content: bytes, start: int = 0, end: int | None = None, above: str = "") -> Iterator[Place]:
    """Yield every box of a file, the outer before the inner."""
    end = len(content) if end is None else end
    while start < end:
        size, kind = struct.unpack_from(">I4s", content, start)
        path = above + kind.decode("latin-1")
        yield Place(path, start, start + size)
        if kind in _BRANCHES:
            yield from places(content, start + 8, start + size, f"{path}/")
        start += size


def find(content: bytes, path: str) -> Place:
    """Return the first box with that path."""
    return next(place for place in places(content) if place.path == path)


def payload(content: bytes, path: str) -> bytes:
    """Return what is in the first box with that path."""
    place = find(content, path)
    return content[place.start + 8 : place.end]


def edit(content: bytes, path: str, change: Callable[[bytes], bytes]) -> bytes:
    """Replace the payload of the first box with that path, and let the boxes that it is in grow with it."""
    place = find(content, path)
    new = box(path[-4:].encode("latin-1"), change(content[place.start + 8 : place.end]))
    edited = content[: place.start] + new + content[place.end :]
    grown = len(edited) - len(content)
    for outer in places(content):
        if outer.start < place.start and outer.end >= place.end:
            size = numbers(outer.end - outer.start + grown)
            edited = edited[: outer.start] + size + edited[outer.start + 4 :]
    return edited


def put(content: bytes, tables: dict[str, bytes]) -> bytes:
    """Replace sample tables."""
    for name, table in tables.items():
        content = edit(content, f"{STBL}/{name}", lambda _, table=table: table)  # type: ignore[misc]
    return content


def samples(clip: bytes) -> list[bytes]:
    """Return the frames of a clip that keeps all of them together."""
    sizes = struct.unpack(">12I", payload(clip, f"{STBL}/stsz")[12:60])
    (at,) = struct.unpack(">I", payload(clip, f"{STBL}/stco")[8:12])
    found = []
    for size in sizes:
        found.append(clip[at : at + size])
        at += size
    return found


def avc_configuration(clip: bytes) -> bytes:
    """Return the parameter sets of an H.264 clip."""
    entry = payload(clip, f"{STBL}/stsd")
    at = entry.index(b"avcC")
    return entry[at + 4 : at - 4 + struct.unpack_from(">I", entry, at - 4)[0]]


def without_samples(clip: bytes) -> bytes:
    """Return a clip without its media data."""
    media = find(clip, "mdat")
    return clip[: media.start] + clip[media.end :]


def elsewhere(bait: Bait) -> dict[str, bytes]:
    """Return data references, each to another file."""
    name = bait.file.encode()
    path = b"/" + name
    # A Macintosh alias: volume, file name, levels up and down, and as its record of type 2 the path.
    alias = bytes(50) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + struct.pack(">2H", 1, 1) + bytes(16)
    alias += struct.pack(">2H", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">2H", 0xFFFF, 0)
    return {
        "alias": box(b"alis", bytes(4), alias),
        "relative url": box(b"url ", bytes(4), name + b"\0"),
        "url": box(b"url ", bytes(4), bait.url.encode() + b"\0"),
        "urn": box(b"urn ", bytes(4), b"x\0" + bait.url.encode() + b"\0"),
    }


def refer(clip: bytes, reference: bytes) -> bytes:
    """Return a clip whose samples are said to be where a data reference says."""
    return edit(clip, "moov/trak/mdia/minf/dinf/dref", lambda _: numbers(0, 1) + reference)


def reference_movie(bait: Bait) -> bytes:
    """Return a QuickTime movie that is nothing but the address of another."""
    url = bait.file.encode() + b"\0"
    address = box(b"rdrf", bytes(4), b"url ", numbers(len(url)), url)
    return box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + box(b"moov", box(b"rmra", box(b"rmda", address)))


def _nested(clip: bytes) -> bytes:
    boxes = box(b"free")
    for _ in range(20_000):
        boxes = box(b"moov", boxes)
    return clip[: find(clip, "moov").start] + boxes


def _tracks(clip: bytes, count: int) -> bytes:
    trak = find(clip, "moov/trak")
    return edit(clip, "moov", lambda movie: movie + clip[trak.start : trak.end] * count)


def _fragment(clip: bytes, samples: int) -> bytes:
    """Append a fragment whose samples all have the same size and duration, so that none needs a word of its own."""
    extends = box(b"mvex", box(b"trex", numbers(0, 1, 1, 512, 1, 0)))
    run = box(b"traf", box(b"tfhd", numbers(0x18, 1, 512, 1)), box(b"trun", numbers(0, samples)))
    return edit(clip, "moov", lambda movie: movie + extends) + box(b"moof", box(b"mfhd", numbers(0, 1)), run)


def _entries(clip: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return edit(clip, f"{STBL}/stsd", change)


def repeating(clip: bytes, times: int) -> bytes:
    """Return a clip whose edit list plays all of it so many times."""
    once = struct.pack(">IiI", 500, 0, 1 << 16)
    return edit(clip, "moov/trak/edts/elst", lambda _: numbers(0, times) + once * times)


def inflating(clip: bytes, size: int) -> bytes:
    """Return a clip whose movie header is compressed, with so many zeros behind it, a multiple of a MiB."""
    moov = find(clip, "moov")
    movie = clip[moov.start + 8 : moov.end]
    unpacked = numbers(8 + len(movie) + 8 + size) + b"moov" + movie + numbers(8 + size) + b"free"
    packed = numbers(len(unpacked) + size) + deflated(unpacked, size)
    return clip[: moov.start] + box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", packed)))


def deflated(head: bytes, zeros: int) -> bytes:
    """Compress ``head`` and so many zeros, a multiple of a MiB, at the price of one MiB."""
    first, mebibyte = (_deflated_part(part) for part in (head, bytes(1 << 20)))
    # Adler-32 of what ends in zeros: each adds the lower sum to the upper one.
    check = zlib.adler32(head)
    low, high = check & 0xFFFF, check >> 16
    check = (high + low * zeros) % 65521 << 16 | low
    return b"\x78\xda" + first + mebibyte * (zeros >> 20) + b"\x03\x00" + numbers(check)


def _deflated_part(part: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH)


def rename_codec(clip: bytes, fourcc: bytes) -> bytes:
    """Return a clip whose sample entry has another name."""
    return edit(clip, f"{STBL}/stsd", lambda entry: entry[:12] + fourcc + entry[16:])


# Headers that declare what would fill the memory, made from the clip that is given.
HEADER_BOMBS: Mapping[str, Callable[[bytes], bytes]] = {
    "boxes in boxes": _nested,
    "5000 tracks": lambda clip: _tracks(clip, 5_000),
    "2^32-1 equal samples": lambda clip: put(clip, {"stsz": numbers(0, 1, HUGE), "stts": numbers(0, 1, HUGE, 1)}),
    "2^32-1 samples without sizes": lambda clip: put(clip, {"stsz": numbers(0, 0, HUGE)}),
    "2^32-1 entries of time": lambda clip: put(clip, {"stts": numbers(0, HUGE, 12, 512)}),
    "one time for 2^31-1 samples": lambda clip: put(clip, {"stts": numbers(0, 1, 2**31 - 1, 512)}),
    "2^31-1 samples in a chunk": lambda clip: put(clip, {"stsc": numbers(0, 1, 1, 2**31 - 1, 1)}),
    "2^32-1 samples in a chunk": lambda clip: put(clip, {"stsc": numbers(0, 1, 1, HUGE, 1)}),
    "2^32-1 chunks": lambda clip: put(clip, {"stco": numbers(0, HUGE, 48)}),
    "2^32-1 sample entries": lambda clip: _entries(clip, lambda entry: numbers(0, HUGE) + entry[8:]),
    "sample entry of 1 GB": lambda clip: _entries(clip, lambda entry: entry[:8] + numbers(1 << 30) + entry[12:]),
    "2^31-1 offsets of time": lambda clip: edit(
        clip, STBL, lambda tables: tables + box(b"ctts", numbers(0, 1, 2**31 - 1, 0))
    ),
    "9 million equal samples in one chunk": lambda clip: put(
        clip,
        {
            "stsz": numbers(0, 1, 9_000_000),
            "stts": numbers(0, 1, 9_000_000, 1),
            "stsc": numbers(0, 1, 1, 9_000_000, 1),
        },
    ),
    "20 million samples in one fragment": lambda clip: _fragment(clip, 20_000_000),
    "a header that unpacks to 550 MB": lambda clip: inflating(clip, 550 << 20),
}
