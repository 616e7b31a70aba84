"""A folder that `frnr extract` is run in, with clips, a manifest and an ffmpeg that counts its encodes."""

import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frnr_assets.cli import main
from frnr_assets.corpus.keys import source_key
from frnr_assets.corpus.tables import Tables
from frnr_assets_tests.assets.tool_wrapper import ToolWrapper, wrap
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip

Row = dict[str, Any]

FRNR = (sys.executable, "-m", "frnr_assets.cli")
SWEEP = (23, 38)
# Not in alphabetical order, because the manifest's order is that of the rows.
CLIPS = ("clip2", "clip0", "clip3", "clip1")
MOS = {"clip2": 3.25, "clip0": None, "clip3": 1, "clip1": 4.0123456789012345}
CELLS = len(CLIPS) * len(SWEEP)
# What differs between two measurements of the same cell.
TIMES = {"run_id", "timestamp", "encode_time_ms", "score_time_ms"}


def no_constant(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def json_lines(path: Path) -> list[Row]:
    return [json.loads(line, parse_constant=no_constant) for line in path.read_text().splitlines()]


def measurements(rows: Sequence[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def frnr(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a folder, within this process: one of its own takes nearly a second to begin."""
    said, complained = io.StringIO(), io.StringIO()
    # The command has SIGTERM end it like Ctrl-C; the process of the tests is not to be.
    at_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with chdir(folder), redirect_stdout(said), redirect_stderr(complained):
            status = main(list(arguments))
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        signal.signal(signal.SIGTERM, at_sigterm)
    return subprocess.CompletedProcess(arguments, status, said.getvalue(), complained.getvalue())


@dataclass(frozen=True)
class Project:
    """A folder that the command is run in, with an ffmpeg that counts its encodes."""

    folder: Path
    clips: Path
    wrapper: ToolWrapper
    name: str = "rows.jsonl"

    @property
    def output(self) -> Path:
        return self.folder / self.name

    @property
    def failures(self) -> Path:
        return self.output.with_suffix(".failures.jsonl")

    @property
    def tables(self) -> Tables:
        return Tables(self.folder / "data" / "extract" / source_key(Path("../manifest.jsonl")))

    @property
    def parts(self) -> list[Path]:
        return list((self.tables.root / "tables" / "feature_rows").glob("*.parquet"))

    @property
    def scratch(self) -> list[Path]:
        return list((self.folder / ".workingdir2" / "k150k-scratch").iterdir())

    def arguments(self, *more: str) -> list[str]:
        given = ["--input", "manifest.jsonl", "--output", self.name, "--clips-root", str(self.clips)]
        given += ["--crf-sweep", ",".join(map(str, SWEEP)), "--cores", "2", "--ffmpeg-path", str(self.wrapper.path)]
        return ["extract", *given, *more]

    def run(self, *more: str) -> "subprocess.CompletedProcess[str]":
        return frnr(self.folder, *self.arguments(*more))

    def run_as_a_user_does(self) -> "subprocess.CompletedProcess[str]":
        """Run the command in a process of its own."""
        command = [*FRNR, *self.arguments()]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=120)

    def rows(self) -> list[Row]:
        return json_lines(self.output)

    def manifest(self, *lines: str) -> None:
        (self.folder / "manifest.jsonl").write_text("".join(f"{line}\n" for line in lines))


def listed(clip: str, mos: float | None = 3.0, **more: object) -> str:
    return json.dumps({"src": f"{clip}.mp4", "mos": mos, **more})


MakeProject = Callable[..., Project]


def make_clips(folder: Path, make_clip: MakeClip) -> Path:
    """Make some clips more than those of the manifest, each of a length of its own."""
    for index in range(6):
        make_clip(folder / f"clip{index}.mp4", SMALL_SCENE.replace("end_frame=12", f"end_frame={12 + index}"))
    return folder


def make_projects(clips: Path, ffmpeg: Path) -> MakeProject:
    """Return a function that makes a project in a folder, without output or as another is."""

    def make(folder: Path, like: Project | None = None, name: str = "rows.jsonl") -> Project:
        if like is None:
            folder.mkdir(exist_ok=True)
        else:
            shutil.copytree(like.folder, folder, ignore=shutil.ignore_patterns("tool"), dirs_exist_ok=True)
        project = Project(folder, clips, wrap(ffmpeg, folder / "tool"), name)
        project.manifest(*(listed(clip, MOS[clip], split="test") for clip in CLIPS))
        return project

    return make
