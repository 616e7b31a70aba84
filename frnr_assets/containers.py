"""Telling what a file is by its first bytes: the containers of video, and what may be taken for one."""

import re
from collections.abc import Mapping
from typing import Literal

Container = Literal["mov", "matroska", "avi", "mpegts"]

# libavformat's demuxers for each kind of container.
DEMUXERS: Mapping[Container, tuple[str, ...]] = {
    "mov": ("mov", "mp4", "m4a", "3gp", "3g2", "mj2"),
    "matroska": ("matroska", "webm"),
    "avi": ("avi",),
    "mpegts": ("mpegts",),
}
CONTAINERS: tuple[Container, ...] = tuple(DEMUXERS)
# How much of the beginning of a file tells what it is.
HEAD_BYTES = 4096
# The boxes that an ISO base media or QuickTime file may begin with.
_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"sidx", b"moof"})
_EBML = b"\x1aE\xdf\xa3"
_SYNC, _PACKET_BYTES = 0x47, (188, 192, 204)
# Kinds of files that somebody may take for a video, by the pattern that they begin with, for the message.
_OTHERS = (
    (rb"#EXTM3U", "an HLS playlist"),
    (rb"ffconcat version", "an ffconcat script"),
    (rb"v=0\r?\n", "an SDP session description"),
    (rb"(?s)(?:<\?xml.*)?<(?:\w+:)?MPD\b", "a DASH manifest"),
    (rb"(?s)(?:<\?xml.*)?<(?:\w+:)?svg\b", "an SVG picture"),
    (rb"(?s)(?:<\?xml.*)?<(?:\w+:)?(?:CompositionPlaylist|AssetMap)\b", "an IMF playlist"),
    (rb"<\?xml", "an XML document"),
    (rb"(?i)<(?:!doctype )?html", "a web page"),
    (rb";FFMETADATA", "ffmpeg metadata"),
    (rb"#!", "a script"),
    (rb"GIF8", "a GIF picture"),
    (rb"\x89PNG", "a PNG picture"),
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"(?s)RIFF....WAVE", "a WAV sound"),
    (rb"ID3|\xff[\xfb\xf3\xf2]", "an MP3 sound"),
    (rb"OggS", "an Ogg file"),
    (rb"FLV\x01", "a Flash video"),
    (rb"\x30\x26\xb2\x75", "a Windows Media file"),
    (rb"\x00\x00\x01\xba", "an MPEG program stream"),
    (rb"\x06\x0e\x2b\x34", "an MXF file"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"%PDF", "a PDF document"),
)


def container_of(head: bytes) -> Container | None:
    """Tell the kind of container by the first bytes of a file."""
    if head[4:8] in _FIRST_BOXES:
        return "mov"
    if head.startswith(_EBML):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    for size in _PACKET_BYTES:
        # Recordings begin in the middle of a packet, and some have a time code before each.
        if any(head[start : start + 3 * size : size] == bytes([_SYNC] * 3) for start in range(size)):
            return "mpegts"
    return None


def kind_of(head: bytes) -> str:
    """Name what a file is by its first bytes, such as "a web page" or "a file of the container mov"."""
    container = container_of(head)
    if container is not None:
        return f"a file of the container {container}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    kinds = (kind for pattern, kind in _OTHERS if re.match(pattern, head) or re.match(pattern, text))
    return next(kinds, "no video of a known container")
