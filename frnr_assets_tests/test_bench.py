"""The benchmark is code too: every part runs, on a few tiny clips, and its page says what was measured."""

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.measure import Figure
from bench.memory import memory_figures
from bench.page import BEGIN, END
from bench.stage import Stage
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each measurement has a process of its own, which takes longer to start than these clips to measure."""

    def run(module: str, args: Sequence[str], environment: Mapping[str, str]) -> str:
        with monkeypatch.context() as within, contextlib.redirect_stdout(io.StringIO()) as said:
            for name, value in environment.items():
                within.setenv(name, value)
            with contextlib.chdir(Path.cwd()):
                importlib.import_module(module).main(*args)
        return said.getvalue()

    monkeypatch.setattr("bench.measure.run_apart", run)


def _run(monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *args])
    main()


def test_parts_that_run_nowhere_else_still_run_and_their_table_reaches_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_clip: MakeClip
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    for size in ("64x48", "66x50"):
        make_clip(tmp_path / "clips" / f"{size}.mp4", SMALL_SCENE.replace("64x48", size))
    output, page = tmp_path / "bench.json", tmp_path / "page.md"
    parts = ("batch", "tables", "instance", "full-recording", "recording")
    _run(monkeypatch, *parts, "--size", "4", "--clips", str(tmp_path / "clips"), "--output", str(output))
    measured = json.loads(output.read_text())
    assert [part["name"] for part in measured["parts"]] == list(parts)
    figures = [figure for part in measured["parts"] for figure in part["figures"]]
    assert all(figure["value"] is not None or figure["remark"] for figure in figures)
    values = {figure["name"]: figure["value"] for figure in figures}
    assert values["cells in the batch"] == 10
    assert values["largest difference of VMAF from the plain recipe, one encoder thread"] < 1e-5
    page.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    _run(monkeypatch, "--output", str(output), "--page", str(page))
    written = page.read_text()
    assert "stale" not in written
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert all(f"| {name} |" in written for name in values)


def test_memory_is_measured_beside_what_the_pool_reckons_with(tmp_path: Path) -> None:
    figures = list(memory_figures(Stage(tmp_path, 1), ((64, 48),)))
    ratios = [figure for figure in figures if figure.name == "... / what the pool reckons with"]
    assert len(ratios) == 3
    assert all(figure.value and figure.verdict == "met" for figure in ratios)
    assert figures[-1].verdict == "met"


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("x", 2.0, at_most=1), "missed"),
        (Figure("x", 1.0, at_most=1), "met"),
        (Figure("x", 0.5, at_least=1), "missed"),
        (Figure("x", 1.5, at_least=1), "met"),
        (Figure("x", 1.5), ""),
        (Figure("x", None, at_most=1), ""),
    ],
)
def test_a_missed_target_is_called_missed(figure: Figure, verdict: str) -> None:
    assert figure.verdict == verdict


def test_the_page_has_the_markers_that_the_table_goes_between() -> None:
    page = (CHECKOUT / "docs" / "benchmark.md").read_text()
    assert page.index(BEGIN) < page.index(END)


def test_a_page_without_markers_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench.json").write_text(json.dumps({"machine": {}, "parts": []}))
    (tmp_path / "page.md").write_text("no markers\n")
    with pytest.raises(SystemExit):
        _run(monkeypatch, "--output", str(tmp_path / "bench.json"), "--page", str(tmp_path / "page.md"))
    assert f"there is no line {BEGIN}" in capsys.readouterr().err
    assert (tmp_path / "page.md").read_text() == "no markers\n"
