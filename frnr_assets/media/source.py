"""Which files may be sources, and how the tools get hold of one: opened once, here, and handed on as a descriptor."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from frnr_assets.containers import CONTAINERS, DEMUXERS, HEAD_BYTES, Container, container_of, kind_of
from frnr_assets.files import FileRefused, open_regular
from frnr_assets.media.process import ToolFailed

# libavcodec's names of the codecs of user-generated video.
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg")
# Its names of the decoders, where they are others.
_DECODERS = {"av1": ("libdav1d", "libaom-av1", "av1")}
# What usually stands beside the video. libavformat opens decoders also of streams that nobody asked for, to complete
# what the headers say of them, and looks further into a file whose streams it may not open.
_COMPANIONS = (
    *("aac", "mp3float", "mp3", "mp2float", "mp2", "opus", "libopus", "vorbis", "ac3", "eac3", "flac", "alac"),
    *("amrnb", "amrwb", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_u8", "pcm_alaw", "pcm_mulaw"),
    *("mov_text", "movtext", "srt", "subrip", "ass", "ssa", "webvtt", "text", "png"),
)

# libvmaf crashes on a side of 16 pixels or less, after the crop.
SMALLEST_SIDE = 17
# libvmaf's ADM of a frame and itself is less than 1 on a side of fewer pixels: 0.98 at 18, 0.996 at 32, 1 from 34 on.
DEFAULT_MIN_SIDE = 34

CHANGED = "it changed while it was read"


class ClipUnusable(Exception):  # noqa: N818 - the name says what the clip is
    """No rows can be made from this clip, and trying again will not help until its file changes.

    Attributes:
        reason: one sentence.
        tool_output: the tool's own words; empty when no tool was involved.
    """

    def __init__(self, reason: str, tool_output: str = ""):
        super().__init__(reason)
        self.reason = reason
        self.tool_output = tool_output

    def __reduce__(self) -> tuple[type["ClipUnusable"], tuple[str, str]]:
        return type(self), (self.reason, self.tool_output)


@dataclass(frozen=True)
class SourceRules:
    """Which files may be sources. Whatever is not allowed here is refused by name.

    Attributes:
        roots: the folders that sources may be in, links resolved; None for anywhere.
        max_bytes: size of the largest file.
        containers: kinds of containers.
        codecs: video codecs, by libavcodec's names.
        max_pixels: width x height of the largest frame.
        max_frames: frames of the longest clip.
        max_gigapixels: width x height x frames of the longest clip, in thousand millions.
        max_duration_s: seconds of the longest clip.
        max_streams: streams of any kind in one file.
        min_side: pixels of the shortest side after the crop, at least ``SMALLEST_SIDE``.
        accept_damaged: take clips that decode with errors, with what the decoder makes of the damage.
    """

    roots: tuple[Path, ...] | None = None
    max_bytes: int = 4 << 30
    containers: tuple[Container, ...] = CONTAINERS
    codecs: tuple[str, ...] = CODECS
    max_pixels: int = 4096 * 4096
    max_frames: int = 18_000
    max_gigapixels: float = 50.0
    max_duration_s: float = 600.0
    max_streams: int = 16
    min_side: int = DEFAULT_MIN_SIDE
    accept_damaged: bool = False

    def frames_allowed(self, width: int, height: int) -> int:
        """Return how many frames of that size a clip may have."""
        return min(self.max_frames, int(self.max_gigapixels * 1e9 / (width * height)))

    @property
    def demuxers(self) -> tuple[str, ...]:
        """Libavformat's names of the demuxers that may open a source."""
        return tuple(name for container in self.containers for name in DEMUXERS[container])

    @property
    def video_decoders(self) -> tuple[str, ...]:
        """Libavcodec's names of the decoders of the allowed codecs."""
        return tuple(name for codec in self.codecs for name in _DECODERS.get(codec, (codec,)))

    @property
    def decoders(self) -> tuple[str, ...]:
        """The same, and those of the sound, the subtitles and the cover that stand beside a video."""
        return tuple(dict.fromkeys((*self.video_decoders, *_COMPANIONS)))


def unknown_codec(codecs: Iterable[str]) -> str | None:
    """Return the first name that libavcodec has no codec of."""
    unusual = [codec for codec in codecs if codec not in CODECS]
    if not unusual:
        return None
    # It takes a while to load.
    import av  # noqa: PLC0415

    return next((codec for codec in unusual if codec not in av.codecs_available), None)


def codec_of(decoder: str) -> str:
    """Return libavcodec's name of the codec that a decoder, by its name, is for."""
    return next((codec for codec, decoders in _DECODERS.items() if decoder in decoders), decoder)


@dataclass(frozen=True)
class Fingerprint:
    """What tells one file's content from another's.

    Attributes:
        sha256: of the content.
        size_bytes: of the file.
        mtime_ns: modification time when it was hashed, nanoseconds since 1970.
        file_state: its device, inode and time of change when it was hashed; None when that does not matter. The time of
            change, unlike that of modification, cannot be set back.
    """

    sha256: str
    size_bytes: int
    mtime_ns: int
    file_state: str | None = None

    def still_holds(self, source: Path) -> bool:
        """Tell whether it is still the file that was hashed, of that size and modification time.

        Raises:
            ToolFailed: the file is gone.
        """
        try:
            return self.is_of(source.stat())
        except OSError as error:
            raise _unreadable(error) from error

    def holds_if_there(self, source: Path) -> bool:
        """Tell the same, and false of a file that is gone."""
        try:
            return self.still_holds(source)
        except ToolFailed:
            return False

    def is_of(self, found: os.stat_result) -> bool:
        """Tell whether it is of the file that the system says this of."""
        same_file = self.file_state is None or _on_any_machine(self.file_state) == _on_any_machine(_file_state(found))
        return same_file and (found.st_size, found.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


def fingerprint(source: Path, rules: SourceRules) -> Fingerprint:
    """Hash a source.

    Raises:
        ClipUnusable: a name that no source may have, outside the roots, not a regular file, empty, or too large.
        ToolFailed: missing, not readable, or changed while it was hashed.
    """
    with os.fdopen(_open(source, rules), "rb") as file:
        before = os.fstat(file.fileno())
        try:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(error) from error
    found = Fingerprint(sha256, before.st_size, before.st_mtime_ns, _file_state(before))
    if not found.still_holds(source):
        raise ToolFailed(CHANGED)
    return found


def open_source(source: Path, rules: SourceRules, found: Fingerprint | None = None) -> int:
    """Open a source and return its descriptor, which is the caller's to close or to hand to a tool.

    A tool that gets a descriptor cannot take a name for an option, a protocol or a pattern, and reads the very file
    that was looked at here.

    Args:
        source: the uploaded file.
        rules: which files may be sources.
        found: its fingerprint, if it has one already.

    Raises:
        ClipUnusable: as ``fingerprint``, or not a container of an allowed kind.
        ToolFailed: missing, not readable, or not the file that the fingerprint is of.
    """
    descriptor = _open(source, rules)
    try:
        if found is not None and not found.is_of(os.fstat(descriptor)):
            raise ToolFailed(CHANGED)  # noqa: TRY301 - closed here, whatever happens
        _refuse_other_containers(descriptor, rules)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open(source: Path, rules: SourceRules) -> int:
    try:
        descriptor = open_regular(source, rules.roots)
    except FileRefused as error:
        raise ClipUnusable(str(error)) from error
    except OSError as error:
        # A file that is not there may be back when its disk is.
        raise _unreadable(error) from error
    size = os.fstat(descriptor).st_size
    if 0 < size <= rules.max_bytes:
        return descriptor
    os.close(descriptor)
    if size == 0:
        raise ClipUnusable("it is empty")
    raise ClipUnusable(f"it has {size} bytes, more than the {rules.max_bytes} that max_source_gib allows")


def _refuse_other_containers(descriptor: int, rules: SourceRules) -> None:
    try:
        head = os.pread(descriptor, HEAD_BYTES, 0)
    except OSError as error:
        raise _unreadable(error) from error
    if container_of(head) not in rules.containers:
        raise ClipUnusable(f"it is {kind_of(head)}; containers allows {', '.join(rules.containers)} (mov is mp4 too)")


def _file_state(found: os.stat_result) -> str:
    return f"{found.st_dev}:{found.st_ino}:{found.st_ctime_ns}"


def _on_any_machine(file_state: str) -> str:
    """Return what machines that share a file system agree on: each has a number of its own for the device."""
    return file_state.partition(":")[2]


def _unreadable(error: OSError) -> ToolFailed:
    return ToolFailed(f"it could not be read: {error.strerror}")
