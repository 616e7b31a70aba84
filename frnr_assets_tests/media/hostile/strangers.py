"""What is no video at all: playlists, manifests, documents, pictures, sound, archives."""

import struct
import zipfile
import zlib
from io import BytesIO

from frnr_assets_tests.media.hostile import Bait


def scripts(bait: Bait) -> dict[str, bytes]:
    """Return playlists, manifests and documents that name other files, each by what it is."""
    file, url = bait.file, bait.url
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n%s#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n"
    xml = '<?xml version="1.0"?>'
    dash = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-main:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="0" '
        'bandwidth="1" codecs="avc1.42c00a" width="64" height="48"><BaseURL>%s</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    imf = f'<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>{file}</Id></CompositionPlaylist>'
    texts = {
        "HLS, file": hls % ("", file),
        "HLS, url": hls % ("", url),
        "HLS, unix socket": hls % ("", f"unix:{bait.unix}"),
        "HLS, key": hls % (f'#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n', file),
        "HLS, map": hls % (f'#EXT-X-MAP:URI="{file}"\n', url),
        "HLS, variants": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n#EXT-X-STREAM-INF:BANDWIDTH=2\n{file}\n",
        "DASH, file": xml + dash % file,
        "DASH, url": xml + dash % url,
        # libavformat looks for this manifest anywhere in the beginning of a file.
        "DASH after Matroska's first bytes": "\x1aE\xdf\xa3" + dash % file,
        "DASH after AVI's first bytes": "RIFF    AVI " + dash % file,
        "DASH after a transport stream's first byte": "G" + dash % file,
        "DASH after MP4's first bytes": "####ftypisom" + dash % file,
        "ffconcat, file": f"ffconcat version 1.0\nfile {file}\n",
        "ffconcat, url": f"ffconcat version 1.0\nfile {url}\n",
        "SDP": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\na=control:{url}\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "IMF composition": xml + imf,
        "IMF composition after Matroska's first bytes": "\x1aE\xdf\xa3" + imf,
        "IMF asset map": f"{xml}<AssetMap><AssetList><Asset><ChunkList><Chunk><Path>{file}</Path></Chunk></ChunkList>"
        "</Asset></AssetList></AssetMap>",
        "SVG": f'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><image href="{file}"/>'
        f'<image href="{url}"/></svg>',
        "VobSub index": f"# VobSub index file, v7 (do not modify this line!)\nlangidx: 0\n# {file}\n",
        "RTSP redirect": f"RTSPtextRTSP{url.removeprefix('http')}\r\n",
        "AviSynth script": f'FFVideoSource("{file}")\n',
        "ASX": f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
        "SMIL": f'<smil><body><video src="{file}"/></body></smil>',
        "smooth streaming": f'<SmoothStreamingMedia><StreamIndex Url="{url}"/></SmoothStreamingMedia>',
        "ffmetadata": f";FFMETADATA1\ntitle={file}\n",
        "plain text": f"{file}\n{url}\n" * 100,
    }
    return {name: text.encode("latin-1") for name, text in texts.items()}


def documents(clip: bytes) -> dict[str, bytes]:
    """Return pictures, sound and archives, and a clip without its container."""
    return {
        "GIF": _gif(),
        "PNG": _png(),
        "WAV": _wav(),
        "zip": _zip(clip),
        "zip with a clip after it": _zip(clip) + clip,
        "raw H.264": b"\x00\x00\x00\x01" + clip[clip.index(b"mdat") + 8 :],
    }


def _gif() -> bytes:
    screen = struct.pack("<2H3B", 64, 48, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<4HB", 0, 0, 64, 48, 0) + b"\x02\x02\x4c\x01\x00;"


def _png() -> bytes:
    head = struct.pack(">2I5B", 64, 48, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(65) * 48)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _wav() -> bytes:
    samples = bytes(2000)
    layout = struct.pack("<I2H2I2H", 16, 1, 1, 8000, 16000, 2, 16)
    head = b"RIFF" + struct.pack("<I", 36 + len(samples)) + b"WAVEfmt " + layout
    return head + b"data" + struct.pack("<I", len(samples)) + samples


def _zip(clip: bytes) -> bytes:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("clip.mp4", clip)
    return archive.getvalue()
