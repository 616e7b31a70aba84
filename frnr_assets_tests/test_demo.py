"""What a newcomer does first: the demo, Dagster on the checkout, and whatever the pages tell a reader to type."""

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from frnr_assets.demo import BROKEN_CLIP, DEMO_CLIPS
from frnr_assets_tests.pages import CHECKOUT, Block, blocks

# Its own tools, this code, and nothing that a make around the suite was told.
ENVIRONMENT = {
    **os.environ,
    "MAKEFLAGS": "",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(CHECKOUT),
}
COMMANDS = blocks("sh", "bash")


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    # What is installed is installed.
    command = ["make", "--old-file", ".venv/installed", "demo"]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A checkout in which `make demo` was done, and what that said."""
    folder = tmp_path_factory.mktemp("newcomer")
    for name in ("Makefile", "dagster.yaml", "workspace.yaml", "pyproject.toml", "requirements.lock"):
        (folder / name).symlink_to(CHECKOUT / name)
    for name in ("frnr_assets", "frnr_assets_tests", "bench", "examples", "fuzz", "tools"):
        (folder / name).symlink_to(CHECKOUT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    done = run_demo(folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_demo_shows_a_corpus_of_its_clips(demo: tuple[Path, str]) -> None:
    folder, said = demo
    corpus = pl.read_parquet(folder / "demo/data/corpus/fr_corpus/current")
    assert len(corpus) == 5 * len(DEMO_CLIPS)
    assert corpus["vmaf_score"].is_between(1, 100).all()
    assert set(corpus["pix_fmt"]) == {"yuv420p", "yuv420p10le"}
    assert {320, 240} <= set(corpus["width"]) | set(corpus["height"]), "the clip of odd size is cropped"
    for clip in DEMO_CLIPS:
        assert clip.name in said
    assert f"In quarantine: {Path(BROKEN_CLIP).stem}" in said
    assert "delta-vs-already-distorted-source" in said
    page = re.search(r"Pictures of it: (\S+)", said)
    assert page is not None
    assert "<img" in (folder / "demo" / page[1]).read_text()
    assert "Traceback" not in said


def test_the_demo_again_measures_nothing_again(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    before = pl.read_parquet(folder / "demo/data/corpus/fr_corpus/current")
    again = run_demo(folder)
    assert again.returncode == 0, again.stderr
    assert "25 reused" in again.stdout
    assert pl.read_parquet(folder / "demo/data/corpus/fr_corpus/current").equals(before)


def test_the_demo_outside_a_checkout_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "frnr_assets.cli", "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "dagster.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_command_of_a_page_is_left_untried() -> None:
    # What can only run elsewhere is a block of the language text.
    assert [str(block) for block in blocks("", "console", "shell", "zsh")] == []


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_the_commands_of_the_pages_do_what_they_say(demo: tuple[Path, str], block: Block) -> None:
    # Of make, only that it knows what it is told: the suite would be run from within itself.
    environment = {**ENVIRONMENT, "MAKEFLAGS": "n"}
    done = subprocess.run(
        ["bash", "-e", "-c", block.text], cwd=demo[0], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_the_examples_of_the_pages_run(demo: tuple[Path, str], block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    if "import torch" in block.text:
        pytest.importorskip("torch", reason="PyTorch is not installed, so its example was not run")
    monkeypatch.chdir(demo[0])
    exec(compile(block.text, block.page, "exec"), {})  # noqa: S102 - the page's own lines are what is tested


def test_the_corpus_trains_a_regressor_as_the_page_says(demo: tuple[Path, str]) -> None:
    (block,) = [block for block in COMMANDS if "examples/train_regressor.py" in block.text]
    done = subprocess.run(block.text.split(), cwd=demo[0], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, regressor, baseline = (line.split() for line in done.stdout.splitlines())
    counts = ["true", str(5 * len(DEMO_CLIPS)), str(len(DEMO_CLIPS)), str(len(DEMO_CLIPS))]
    assert regressor[:4] == baseline[:4] == counts
    assert float(regressor[-3]) > float(baseline[-3]), "PLCC"
    assert float(regressor[-1]) < float(baseline[-1]), "RMSE"


def test_dagster_loads_the_checkout_without_a_complaint_about_our_code(tmp_path: Path) -> None:
    for name in ("workspace.yaml", "dagster.yaml"):
        (tmp_path / name).write_text((CHECKOUT / name).read_text())
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Validation successful" in said
    ours = [line for line in said.splitlines() if "Warning" in line and "frnr_assets/" in line]
    assert ours == []
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept <= {"workspace.yaml", "dagster.yaml", ".dagster"}
