"""Real tools and small clips for every test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from frnr_assets.media.ffmpeg import FFmpeg, run_ffmpeg
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.source import CODECS, SMALLEST_SIDE, SourceRules
from frnr_assets.media.toolchain import Toolchain, ToolSettings, encode_settings, open_ffmpeg, open_toolchain
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets.vocabulary import DEFAULT_CRF_SWEEP, DEFAULT_ENCODER, DEFAULT_PRESET
from tools.postgres import NoServerError, PostgresServer, postgres_server

# Clips that lose nothing, have a palette or are very small, besides those that people upload.
RULES = SourceRules(codecs=(*CODECS, "ffv1", "png"), min_side=SMALLEST_SIDE)

MakeClip = Callable[..., Path]

# 64 x 48 at 24 frames: a whole sweep takes about a second.
SMALL_SCENE = "testsrc2=size=64x48:rate=24,trim=end_frame=12,noise=alls=8:allf=t"
X264_UPLOAD = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-threads", "1")


@pytest.fixture(scope="session")
def runner() -> ToolRunner:
    return ToolRunner()


@pytest.fixture(scope="session")
def ffmpeg(runner: ToolRunner) -> FFmpeg:
    return open_ffmpeg(None, runner)


@pytest.fixture(scope="session")
def toolchain(runner: ToolRunner) -> Toolchain:
    settings = encode_settings(DEFAULT_ENCODER, DEFAULT_PRESET, (), DEFAULT_CRF_SWEEP)
    return open_toolchain(ToolSettings(settings, vmaf_settings(), rules=RULES), runner)


@pytest.fixture(scope="session")
def make_clip(ffmpeg: FFmpeg, runner: ToolRunner) -> MakeClip:
    """Return a function that makes a clip with ffmpeg: path, lavfi scene, codec arguments."""

    def make(path: Path, scene: str = SMALL_SCENE, encode: tuple[str, ...] = X264_UPLOAD) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        args = ["-filter_complex", f"{scene}[v]", "-map", "[v]", *encode, str(path)]
        run_ffmpeg(ffmpeg, args, f"making {path.name}", runner=runner, cwd=path.parent, timeout_s=120)
        return path

    return make


@pytest.fixture
def damaged(make_clip: MakeClip, tmp_path: Path) -> Path:
    """A clip of 24 frames with eight bytes of its bitstream inverted."""
    clip = make_clip(tmp_path / "damaged.mp4", SMALL_SCENE.replace("=12", "=24"), (*X264_UPLOAD, "-g", "6"))
    content = bytearray(clip.read_bytes())
    start = content.index(b"mdat")
    place = start + int((len(content) - start) * 0.18)
    content[place : place + 8] = bytes(byte ^ 0x5A for byte in content[place : place + 8])
    clip.write_bytes(content)
    return clip


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips beside the checkout; tests that need it are skipped without it."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "clips" / "golden.jsonl").exists():
        pytest.skip("the real clips are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server of our own; tests that need it are skipped where PostgreSQL is not installed."""
    try:
        with postgres_server() as running:
            yield running
    except NoServerError as error:
        pytest.skip(str(error))
