"""The pages under docs: what they tell a reader to type works, on the demo's clips."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from frnr_assets.adapter import CorpusOptions
from frnr_assets.demo import BROKEN_CLIP, DEMO_CLIPS, make_clips
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.process import ToolRunner

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def demo_clips(tmp_path_factory: pytest.TempPathFactory, ffmpeg: FFmpeg, runner: ToolRunner) -> Path:
    """A folder as `make demo` leaves it, as far as clips and manifest go."""
    folder = tmp_path_factory.mktemp("reader")
    make_clips(folder / "demo" / "clips", ffmpeg, runner)
    clips = [*((clip.name, clip.mos) for clip in DEMO_CLIPS), (BROKEN_CLIP, 1.5)]
    lines = [json.dumps({"src": name, "mos": mos}) + "\n" for name, mos in clips]
    (folder / "demo" / "manifest.jsonl").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("block", blocks("command.md", "sh"))
def test_the_commands_of_the_page_do_what_it_says(demo_clips: Path, block: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", block],
        cwd=demo_clips,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("block", blocks("api.md", "python"))
def test_the_examples_of_the_page_run(demo_clips: Path, block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo_clips)
    exec(compile(block, "api.md", "exec"), {})  # noqa: S102 - the page's own lines are what is tested


def test_the_page_lists_every_option_of_the_adapter() -> None:
    table = (DOCS / "api.md").read_text().split("| `CorpusOptions` |")[1].split("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert listed == set(CorpusOptions.__dataclass_fields__)
