"""The valid clips that are damaged: every container and codec that uploads come in, a few kilobytes each."""

from dataclasses import dataclass
from pathlib import Path

from frnr_assets.media.ffmpeg import FFmpeg, run_ffmpeg
from frnr_assets.media.process import ToolRunner

FRAMES = 8
# It moves, so that frames paired wrongly score differently.
_SCENE = "testsrc2=size={size}:rate=24,scroll=h=0.05:v=0.03,noise=alls=8:allf=t,trim=end_frame={frames},format=yuv420p"
_X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-threads", "1")
_X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:pools=1:frame-threads=1")
# The same bytes whenever the same ffmpeg makes them: a mutation is known by its seed and number alone.
_REPEATABLE = ("-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1")
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Recipe:
    """How one clip is made.

    Attributes:
        name: file name; its suffix says which container it is.
        encode: arguments of ffmpeg.
        size: of its frames.
        sound: whether it has an audio stream.
    """

    name: str
    encode: tuple[str, ...]
    size: str = "64x48"
    sound: bool = False


# Of the two in MPEG-TS and the two in MP4 fragments one is of another size: spliced, they change in the middle.
RECIPES = (
    Recipe("h264.mp4", (*_X264, "-bf", "2")),
    Recipe("fragments.mp4", (*_X264, "-g", "4", "-movflags", "frag_keyframe+empty_moov+default_base_moof")),
    Recipe("fragments.mov", (*_X264, "-g", "4", "-movflags", "frag_keyframe+empty_moov"), size="80x64"),
    Recipe("sound.mp4", (*_X264, "-c:a", "aac", "-flags:a", "+bitexact", "-movflags", "faststart"), sound=True),
    Recipe("hevc.mp4", (*_X265, "-tag:v", "hvc1")),
    Recipe(
        "vp9.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "40", "-threads", "1")
    ),
    Recipe("av1.mkv", ("-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-crf", "40", "-threads", "1")),
    Recipe("mpeg4.avi", ("-c:v", "mpeg4", "-q:v", "8", "-threads", "1")),
    Recipe("mjpeg.avi", ("-c:v", "mjpeg", "-q:v", "12", "-threads", "1", "-pix_fmt", "yuvj420p")),
    Recipe("mpeg2.ts", ("-c:v", "mpeg2video", "-q:v", "8", "-g", "4", "-threads", "1")),
    Recipe("h264.ts", (*_X264, "-g", "4"), size="80x64"),
)


def make_clips(folder: Path, ffmpeg: FFmpeg, runner: ToolRunner) -> dict[str, bytes]:
    """Make every clip in a folder; return their contents by name."""
    for recipe in RECIPES:
        graph = f"{_SCENE.format(size=recipe.size, frames=FRAMES)}[v]"
        streams = ["-map", "[v]"]
        if recipe.sound:
            graph += ";sine=440:duration=0.3[a]"
            streams += ["-map", "[a]"]
        args = ["-filter_complex", graph, *streams, *recipe.encode, *_REPEATABLE, recipe.name]
        run_ffmpeg(ffmpeg, args, f"making {recipe.name}", runner=runner, cwd=folder, timeout_s=TIMEOUT_S)
    return {recipe.name: (folder / recipe.name).read_bytes() for recipe in RECIPES}
