"""The two things a newcomer does first: the demo, and opening Dagster on the checkout."""

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from pydantic import BaseModel

from frnr_assets.corpus.dataset import Dataset, FrDataset
from frnr_assets.definitions import build_definitions
from frnr_assets.demo import BROKEN_CLIP, DEMO_CLIPS
from frnr_assets.settings import Automation, Settings, load_settings

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text()


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "frnr_assets.cli", "demo", "--instance-config", str(CHECKOUT / "dagster.yaml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("newcomer")
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


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_readme_reads_the_corpus_as_it_says(
    demo: tuple[Path, str], block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "import torch" in block:
        pytest.importorskip("torch", reason="PyTorch is not installed, so its example was not run")
    monkeypatch.chdir(demo[0])
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - the README's own lines are what is tested


def test_the_corpus_trains_a_regressor_as_the_readme_says(demo: tuple[Path, str]) -> None:
    (command,) = re.findall(r"^\.venv/bin/(python examples/.*)$", README, re.MULTILINE)
    python, script, *rows = command.split()
    done = subprocess.run(
        [Path(sys.executable).with_name(python), CHECKOUT / script, *rows],
        cwd=demo[0],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _, regressor, baseline = (line.split() for line in done.stdout.splitlines())
    counts = ["true", str(5 * len(DEMO_CLIPS)), str(len(DEMO_CLIPS)), str(len(DEMO_CLIPS))]
    assert regressor[:4] == baseline[:4] == counts
    assert float(regressor[-3]) > float(baseline[-3]), "PLCC"
    assert float(regressor[-1]) < float(baseline[-1]), "RMSE"


@pytest.mark.parametrize(("table", "model"), [(0, Settings), (1, Dataset), (2, FrDataset), (3, Automation)])
def test_the_readme_lists_every_setting_with_its_default(table: int, model: type[BaseModel]) -> None:
    section = README.split("## Settings")[1].split("## ")[0].split("| setting |")[1:]
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\|", section[table], re.MULTILINE))
    assert set(listed) == set(model.model_fields)
    for name, field in model.model_fields.items():
        if isinstance(field.default, str | int | float | tuple) and field.default != ():
            shown = field.default if not isinstance(field.default, tuple) else list(field.default)
            assert listed[name].strip("`").replace('"', "'") == str(shown), name


def test_the_readme_configures_datasets_as_it_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "frnr.toml").write_text("\n".join(blocks))
    names = [dataset.name for dataset in load_settings(tmp_path).datasets]
    assert names == ["konvid-150k", "konvid-1k", "live-vqc", "our-uploads"]


def test_the_readme_lists_what_can_be_switched_on() -> None:
    definitions = build_definitions(Settings())
    switches = [*(definitions.sensors or ()), *(definitions.schedules or ())]
    table = README.split("| automation |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {switch.name for switch in switches}


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
