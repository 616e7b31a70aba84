"""The command `frnr doctor`: what is missing, and what to do about it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from frnr_assets import doctor
from frnr_assets.cli import main
from frnr_assets.doctor import Diagnosis, examine
from frnr_assets.media.encoders import ENCODERS
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.settings import load_settings
from frnr_assets_tests.assets.tool_wrapper import ToolWrapper, wrap

OK, MISSING, NOT_THERE = "ok", "MISSING", "not there"


@pytest.fixture(autouse=True)
def in_a_folder_with_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How full the disk of the tests is says nothing of the command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "LITTLE_SPACE_BYTES", 0)


@pytest.fixture
def wrapper(ffmpeg: FFmpeg, tmp_path: Path) -> ToolWrapper:
    return wrap(ffmpeg.path, tmp_path / "tool")


def diagnoses(**flags: object) -> dict[str, Diagnosis]:
    """What is found of each thing that is looked at, in the folder of the test."""
    found = list(examine(load_settings(Path.cwd(), flags)))
    by_name = {diagnosis.what: diagnosis for diagnosis in found}
    assert len(by_name) == len(found), "one line for each thing"
    return by_name


def examined(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run the command; return its status, and of each thing the mark and the rest of its line."""
    status = main(["doctor", *flags])
    lines = capsys.readouterr().out.splitlines()
    marks = {line[10:34].strip(): (line[:10].strip(), line[34:]) for line in lines}
    assert len(marks) == len(lines)
    assert {mark for mark, _ in marks.values()} <= {OK, MISSING, NOT_THERE}
    assert all(text.strip() for _, text in marks.values())
    return status, marks


def test_a_healthy_machine_has_one_line_for_each_thing_and_ends_well(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "frnr_assets.cli", "doctor", "--scratch-dir", "scratch"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if "only" in said and "make space" in said:
        pytest.skip("the disk of the tests is nearly full")
    assert done.returncode == 0, said
    assert done.stderr == ""
    for thing in ("ffmpeg", *(f"encoder {name}" for name in ENCODERS), "model vmaf_v0.6.1", "machine", "data_root"):
        assert len([line for line in done.stdout.splitlines() if line.startswith("ok") and f" {thing} " in line]) == 1
    assert str(tmp_path / "scratch") in done.stdout
    assert list(tmp_path.iterdir()) == [], "to look is to change nothing"


def test_it_names_versions_cores_memory_and_room(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    found = diagnoses(cores=3, memory_gib=5.5)
    assert ffmpeg.version in found["ffmpeg"].found
    assert str(ffmpeg.path) in found["ffmpeg"].found
    assert found["machine"].found.startswith("3 cores, 5.5 GiB")
    assert str(tmp_path / "data") in found["data_root"].found
    assert "GiB free" in found["data_root"].found
    assert found["encoder libx264"].found.isdigit()


@pytest.mark.parametrize("path", ["/nowhere/ffmpeg", "no-ffmpeg"])
def test_a_missing_ffmpeg_fails_and_says_which_setting_to_mend(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("no-ffmpeg").write_text("#!/bin/sh\nexit 0\n")
    Path("no-ffmpeg").chmod(0o755)
    status, marks = examined(capsys, "--ffmpeg-path", path)
    assert status == 1
    mark, text = marks["ffmpeg"]
    assert mark == MISSING
    assert path in text
    assert {"machine", "data_root"} <= set(marks), "the rest is looked at all the same"


def test_a_missing_ffmpeg_is_a_matter_of_its_setting(capsys: pytest.CaptureFixture[str]) -> None:
    _, marks = examined(capsys, "--ffmpeg-path", "/nowhere/ffmpeg")
    assert "ffmpeg_path" in marks["ffmpeg"][1]


def test_a_model_that_is_not_there_fails_and_says_which_is_the_usual_one(capsys: pytest.CaptureFixture[str]) -> None:
    status, marks = examined(capsys, "--vmaf-model", "vmaf_v9.9.9")
    assert status == 1
    mark, text = marks["model vmaf_v9.9.9"]
    assert mark == MISSING
    assert "vmaf_v0.6.1" in text
    assert marks["model vmaf_v0.6.1"][0] == OK


def test_a_model_file_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--vmaf-model", "none.json"]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "none.json" in line
    assert "vmaf_model" in line


def test_a_model_file_that_is_no_model_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    status, marks = examined(capsys, "--vmaf-model", "model.json")
    assert status == 1
    assert [text for name, (mark, text) in marks.items() if mark == MISSING and "model.json" in name]


@pytest.mark.parametrize("place", ["data_root", "scratch_dir"])
@pytest.mark.parametrize("below", ["", "/deep/er"])
def test_a_folder_that_cannot_be_written_to_fails_and_says_which_setting_to_mend(
    place: str, below: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").touch()
    status, marks = examined(capsys, f"--{place.replace('_', '-')}", f"taken{below}")
    assert status == 1
    assert marks[place][0] == MISSING
    assert f"set {place}" in marks[place][1]
    assert [name for name, (mark, _) in marks.items() if mark == MISSING] == [place]


def test_a_disk_that_is_nearly_full_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITTLE_SPACE_BYTES", 1 << 62)
    status, marks = examined(capsys)
    assert status == 1
    assert marks["data_root"][0] == MISSING
    assert "make space" in marks["data_root"][1]


class TestDatasets:
    def configure(self, manifest: str, **more: str) -> None:
        entries = "".join(f"{name} = {json.dumps(value)}\n" for name, value in more.items())
        Path("frnr.toml").write_text(f'[[datasets]]\nname = "ours"\nmanifest = "{manifest}"\n{entries}')

    def test_one_that_is_there_is_well(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("manifest.jsonl").write_text('{"src": "a.mp4"}\n')
        self.configure("manifest.jsonl")
        status, marks = examined(capsys)
        assert status == 0
        assert marks["dataset ours"][0] == OK
        assert "manifest.jsonl" in marks["dataset ours"][1]

    def test_a_manifest_that_is_not_there_fails_and_is_named(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        self.configure("manifest.jsonl")
        status, marks = examined(capsys)
        assert status == 1
        assert marks["dataset ours"][0] == MISSING
        assert str(tmp_path / "manifest.jsonl") in marks["dataset ours"][1]
        assert "frnr.toml" in marks["dataset ours"][1]

    def test_so_does_a_folder_of_clips_that_is_not_mounted(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        Path("manifest.jsonl").write_text('{"src": "a.mp4"}\n')
        self.configure("manifest.jsonl", clips_root="disk")
        status, marks = examined(capsys)
        assert status == 1
        assert str(tmp_path / "disk") in marks["dataset ours"][1]

    def test_so_does_one_without_a_column_of_paths(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("manifest.csv").write_text("film,score\na.mp4,3.5\n")
        self.configure("manifest.csv")
        status, marks = examined(capsys)
        assert status == 1
        assert "no column with the clips' paths" in marks["dataset ours"][1]

    def test_that_there_is_none_is_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, marks = examined(capsys)
        assert status == 0
        assert marks["datasets"] == (NOT_THERE, "none is configured in a frnr.toml here; frnr extract needs none")

    def test_so_does_a_score_drop_without_a_score_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("drop").mkdir()
        self.configure("drop")
        status, marks = examined(capsys)
        assert status == 1
        assert marks["dataset ours"][0] == MISSING

    @pytest.mark.parametrize("there", [True, False])
    def test_rows_of_masters_are_looked_for_as_well(self, there: bool, capsys: pytest.CaptureFixture[str]) -> None:
        Path("frnr.toml").write_text('[[fr_datasets]]\nname = "netflix"\nrows = "rows.jsonl"\n')
        if there:
            Path("rows.jsonl").touch()
        status, marks = examined(capsys)
        assert status == (0 if there else 1)
        assert marks["dataset netflix"][0] == (OK if there else MISSING)
        assert "rows.jsonl" in marks["dataset netflix"][1]


class TestWhatIsNotNeeded:
    def test_an_encoder_that_is_not_configured_may_be_missing(
        self, wrapper: ToolWrapper, capsys: pytest.CaptureFixture[str]
    ) -> None:
        wrapper.fail("libaom-av1")
        status, marks = examined(capsys, "--ffmpeg-path", str(wrapper.path))
        assert status == 0
        assert marks["encoder libaom-av1"][0] == NOT_THERE
        assert marks["encoder libx264"][0] == OK
        flags = ("--encoder", "libaom-av1", "--preset", "6", "--ffmpeg-path", str(wrapper.path))
        status, marks = examined(capsys, *flags)
        assert status == 1
        assert marks["encoder libaom-av1"][0] == MISSING

    def test_a_model_that_is_not_configured_may_be_missing(
        self, wrapper: ToolWrapper, capsys: pytest.CaptureFixture[str]
    ) -> None:
        wrapper.fail("vmaf_4k")
        status, marks = examined(capsys, "--ffmpeg-path", str(wrapper.path))
        assert status == 0
        assert marks["model vmaf_4k_v0.6.1"][0] == NOT_THERE
        status, marks = examined(capsys, "--vmaf-model", "auto", "--ffmpeg-path", str(wrapper.path))
        assert status == 1
        assert marks["model vmaf_4k_v0.6.1"][0] == MISSING

    def test_an_executable_that_nobody_scores_with_may_be_missing(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "vmaf").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "vmaf").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        status, marks = examined(capsys)
        assert status == 0
        assert marks["vmaf executable"][0] == NOT_THERE
        status, marks = examined(capsys, "--vmaf-backend", "cli")
        assert status == 1
        assert marks["vmaf executable"][0] == MISSING

    def test_an_executable_to_score_with_that_is_not_there_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, marks = examined(capsys, "--vmaf-backend", "cli", "--vmaf-path", "/nowhere/vmaf")
        assert status == 1
        assert marks["vmaf executable"][0] == MISSING
        assert "/nowhere/vmaf" in marks["vmaf executable"][1]
        assert "vmaf_path" in marks["vmaf executable"][1]

    def test_a_folder_for_encodes_that_nobody_keeps_may_be_missing(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("taken").touch()
        status, marks = examined(capsys, "--encode-dir", "taken")
        assert status == 0
        assert marks["encode_dir"][0] == NOT_THERE
        status, marks = examined(capsys, "--encode-dir", "taken", "--keep-encodes")
        assert status == 1
        assert marks["encode_dir"][0] == MISSING


def test_settings_that_cannot_be_used_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--crf-sweep", "18,52"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "52" in line
