"""The probing process: opens one file with PyAV and prints what it is as JSON.

It runs on its own, because a demuxer that crashes or hangs must not take the caller with it. It imports nothing of
this package, so that it starts fast. Exit status 2 means that the file cannot be used; the reason is on stdout.
"""

import json
import logging
import os
import sys
from enum import IntEnum

import av
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorTrc
from av.video.stream import VideoStream

# H.273, by the names that ffmpeg has for them. PyAV has names of swscale's own.
_MATRICES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
}


def describe_pix_fmt(name: str) -> tuple[str, int]:
    """Return the chroma subsampling, as in "420", "gray" or "rgb", and the bits per sample of a pixel format.

    Raises:
        ValueError: there is no such format.
    """
    pix_fmt = av.VideoFormat(name, 64, 64)
    bit_depth = max(component.bits for component in pix_fmt.components)
    if pix_fmt.is_rgb or pix_fmt.has_palette:
        return "rgb", bit_depth
    if len(pix_fmt.components) < 3:
        return "gray", bit_depth
    chroma = pix_fmt.components[1]
    names = {(2, 2): "420", (2, 1): "422", (1, 1): "444", (1, 2): "440", (4, 1): "411", (4, 4): "410"}
    return names[64 // chroma.width, 64 // chroma.height], bit_depth


def _name(code_points: type[IntEnum], value: int) -> str:
    """Name an H.273 code point the way ffmpeg spells it; "unspecified" for one that has no name."""
    names = {code_point.value: code_point.name for code_point in code_points}
    return names.get(value, "unspecified").lower().replace("_", "-")


def _probe(options: str, max_streams: str, *decoders: str) -> dict[str, object]:
    # The file comes as a descriptor, which is one of the options.
    with av.open("fd:", options=json.loads(options), metadata_errors="replace") as container:
        if len(container.streams) > int(max_streams):
            raise ValueError(
                f"it has {len(container.streams)} streams, more than the {max_streams} that max_streams allows"
            )
        pictures = Disposition.attached_pic | Disposition.timed_thumbnails
        streams = [
            stream
            for stream in container.streams
            if isinstance(stream, VideoStream) and not stream.disposition & pictures
        ]
        if not streams:
            raise ValueError("it has no video stream")
        stream = streams[0]
        codec = stream.codec_context
        if codec is None:
            raise ValueError("its video has a codec that libavcodec does not know")
        if codec.name not in decoders:
            # Named here, and judged there.
            return {"decoder": codec.name}
        if codec.pix_fmt is None or not codec.width or not codec.height:
            raise ValueError("its video stream cannot be decoded")
        _refuse_contradictions(container.format.name, stream, json.loads(options))
        chroma, bit_depth = describe_pix_fmt(codec.pix_fmt)
        rate = stream.average_rate
        duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        return {
            "container": container.format.name,
            "decoder": codec.name,
            "width": codec.width,
            "height": codec.height,
            "pix_fmt": codec.pix_fmt,
            "chroma": chroma,
            "bit_depth": bit_depth,
            "rate_num": rate.numerator if rate else 0,
            "rate_den": rate.denominator if rate else 1,
            "stream_duration_s": float(duration) if duration is not None else None,
            "color_range": {1: "tv", 2: "pc"}.get(codec.color_range, "unspecified"),
            "color_transfer": _name(ColorTrc, codec.color_trc),
            "color_primaries": _name(ColorPrimaries, codec.color_primaries),
            "color_matrix": _MATRICES.get(codec.colorspace, "unspecified"),
        }


def _frames_without_edits(options: dict[str, str], index: int) -> int:
    """Count the frames of a stream's index, also those that lie outside of its edit list."""
    os.lseek(int(options["fd"]), 0, os.SEEK_SET)
    with av.open("fd:", options={**options, "ignore_editlist": "1"}, metadata_errors="replace") as container:
        stream = container.streams[index]
        return len(stream.index_entries) if isinstance(stream, VideoStream) else 0


def _refuse_contradictions(demuxer: str, stream: VideoStream, options: dict[str, str]) -> None:
    """Compare what the header declares with the index, of the containers that have both.

    Raises:
        ValueError: there are fewer frames than declared, or some are to be shown more than once.
    """
    entries = list(stream.index_entries)
    shown = [entry for entry in entries if not entry.is_discard]
    if "mov" in demuxer and len({entry.pos for entry in shown}) < len(shown):
        raise ValueError("its edit list shows some frames more than once")
    # An AVI declares its length in frames of its rate, of which some may be left out.
    found = len(entries) if "mov" in demuxer else max((entry.timestamp for entry in entries), default=-1) + 1
    if "mov" in demuxer and found < stream.frames:
        # libavformat drops whole groups of pictures that lie outside of the edit list.
        found = _frames_without_edits(options, stream.index)
    if demuxer != "matroska,webm" and found < stream.frames:
        raise ValueError(f"its header declares {stream.frames} frames, its index has {found}")


def _reason(error: av.FFmpegError) -> str:
    """Return what libav says of an error, with the last line that it logged, which says more."""
    _, last = av.logging.get_last_error()
    return f"{error.strerror}: {last[2].strip()}" if last else str(error.strerror)


if __name__ == "__main__":
    av.logging.set_level(av.logging.ERROR)
    # Kept for the reason; not printed.
    logging.getLogger("libav").addHandler(logging.NullHandler())
    logging.getLogger("libav").propagate = False
    try:
        print(json.dumps(_probe(*sys.argv[1:])))  # noqa: T201 - this is the process's result
    except (av.FFmpegError, ValueError) as error:
        reason = _reason(error) if isinstance(error, av.FFmpegError) else str(error)
        print(json.dumps({"unusable": reason}))  # noqa: T201
        sys.exit(2)
