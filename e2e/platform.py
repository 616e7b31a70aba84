"""A small platform of its own folder: five clips, one of them broken and one lost, and `dagster dev` on them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from frnr_assets.media.ffmpeg import FFmpeg, run_ffmpeg
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.toolchain import open_ffmpeg
from frnr_assets_tests.assets.dagster_dev import DagsterDev

SWEEP = (23, 38)
BROKEN, LOST, NEW = "broken", "lost", "new"
SIZE = "size=96x64:rate=24"
SCENES: Mapping[str, str] = {
    "bars": f"testsrc2={SIZE}",
    "life": f"cellauto={SIZE}:rule=110:random_seed=1,scale=96:64",
    LOST: f"smptebars={SIZE}",
    "zoom": f"mandelbrot={SIZE}",
    NEW: f"testsrc={SIZE}",
}
MOS: Mapping[str, float] = {"bars": 3.4, BROKEN: 1.5, "life": 4.1, LOST: 2.2, "zoom": 2.9}
CLIP_TIMEOUT_S = 120.0
SETTINGS = f"""\
data_root = "data"
crf_sweep = {list(SWEEP)}

[[datasets]]
name = "e2e"
manifest = "manifest.jsonl"
clips_root = "clips"

[automation]
interval_seconds = 1
"""


@dataclass(frozen=True)
class Platform:
    """Where it is, what runs there, and what happens to its files without a click."""

    folder: Path
    dev: DagsterDev

    def lose(self, clip: str) -> None:
        """Take a clip's file away, as a disk does that is not mounted."""
        self._file(clip).rename(self._elsewhere(clip))

    def find_again(self, clip: str) -> None:
        self._elsewhere(clip).rename(self._file(clip))

    def list_clip(self, clip: str, mos: float) -> None:
        with (self.folder / "manifest.jsonl").open("a") as manifest:
            manifest.write(json.dumps({"src": f"{clip}.mp4", "mos": mos}) + "\n")

    def _file(self, clip: str) -> Path:
        return self.folder / "clips" / f"{clip}.mp4"

    def _elsewhere(self, clip: str) -> Path:
        return self.folder / f"{clip}.mp4"


@contextmanager
def platform(folder: Path) -> Iterator[Platform]:
    """Make the clips and start the platform; stop it in the end."""
    runner = ToolRunner()
    ffmpeg = open_ffmpeg(None, runner)
    clips = folder / "clips"
    clips.mkdir(parents=True)
    for clip, scene in SCENES.items():
        _make(clips, clip, scene, ffmpeg, runner)
    whole = (clips / "zoom.mp4").read_bytes()
    (clips / f"{BROKEN}.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "frnr.toml").write_text(SETTINGS)
    dev = DagsterDev(folder, folder / ".dagster")
    started = Platform(folder, dev)
    try:
        for clip, mos in MOS.items():
            started.list_clip(clip, mos)
        yield started
    finally:
        dev.stop()


def _make(folder: Path, clip: str, scene: str, ffmpeg: FFmpeg, runner: ToolRunner) -> None:
    graph = f"{scene},trim=end_frame=16,noise=alls=8:allf=t[v]"
    encode = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-pix_fmt", "yuv420p", "-threads", "1"]
    args = ["-filter_complex", graph, "-map", "[v]", *encode, f"{clip}.mp4"]
    run_ffmpeg(ffmpeg, args, f"making {clip}.mp4", runner=runner, cwd=folder, timeout_s=CLIP_TIMEOUT_S)
