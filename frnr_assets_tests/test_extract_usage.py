"""What `frnr extract` is told, on its command line and in frnr.toml."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from frnr_assets.cli import main
from frnr_assets.corpus.keys import source_key
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.settings import Settings
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip
from frnr_assets_tests.extraction import (
    MakeProject,
    Project,
    frnr,
    json_lines,
    listed,
    make_clips,
    make_projects,
)

# Settings of the assets alone.
NO_FLAGS = {"datasets", "fr_datasets", "automation", "download_threads", "download_failures_warn", "keep_versions"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips"), make_clip)


@pytest.fixture(scope="module")
def make_project(clips: Path, ffmpeg: FFmpeg) -> MakeProject:
    return make_projects(clips, ffmpeg.path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "command"),
        (["extract", "--input", "manifest.jsonl", "--output", "rows.jsonl", "--mos-scale", "5"], "1,5"),
    ],
)
def test_a_command_line_that_is_no_command_is_refused_with_its_usage(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    finished = frnr(tmp_path, *arguments)
    assert finished.returncode == 2
    assert said in finished.stderr.splitlines()[-1]
    assert "usage: frnr" in finished.stderr
    assert "Traceback" not in finished.stderr


WRONG_USAGE = [
    (["--input", "none.jsonl"], "none.jsonl"),
    (["--output", "rows.csv"], "rows.csv"),
    (["--crf-sweep", "18,52"], "52"),
    (["--encoder", "libtheora"], "libtheora"),
    (["--preset", "quick"], "quick"),
    (["--extra-features", "psnr,beauty"], "beauty"),
    (["--vmaf-backend", "cli", "--vmaf-path", "/nowhere/vmaf"], "/nowhere/vmaf"),
]


@pytest.mark.parametrize(("more", "said"), WRONG_USAGE)
def test_wrong_usage_is_one_clear_sentence(
    more: list[str], said: str, make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project(tmp_path)
    finished = project.run(*more)
    assert finished.returncode == 2, finished.stderr
    (line,) = finished.stderr.splitlines()
    assert line.startswith("frnr: ")
    assert said in line
    assert project.wrapper.encodes == 0
    assert not project.output.exists()


@pytest.fixture
def same_signals() -> Iterator[None]:
    """The command is ended by SIGTERM like by Ctrl-C; the process of the tests is not to be."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("same_signals")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--output", "rows"], ".jsonl or .parquet"),
        (["--output", "manifest.jsonl"], "manifest.jsonl"),
        (["--output", "./folder/../manifest.jsonl"], "manifest.jsonl"),
        (["--crf-sweep", "38,18"], "ascending"),
        (["--crf-sweep", ""], "crf_sweep"),
        (["--extra-params=-crf", "--extra-params=3"], "-crf"),
        (["--mos-scale", "5,1"], "mos_scale"),
        (["--mos-scale", "nan,5"], "mos_scale"),
        (["--format", "xml"], "format"),
        (["--cores", "0"], "cores"),
        (["--vmaf-backend", "cuda"], "vmaf_backend"),
        (["--vmaf-args=--threads"], "vmaf_backend"),
        (["--vmaf-model", "vmaf_v9.9.9"], "vmaf_v9.9.9"),
        (["--vmaf-model", "none.json"], "none.json"),
        (["--ffmpeg-path", "/nowhere/ffmpeg"], "/nowhere/ffmpeg"),
        (["--clips-root", "nowhere"], "nowhere"),
        (["--input", "folder"], "folder"),
    ],
)
def test_so_is_any_other_mistake_and_the_manifest_stays(
    more: list[str],
    said: str,
    make_project: MakeProject,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = make_project(tmp_path)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "manifest.jsonl").read_bytes()
    assert main(project.arguments(*more)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("frnr: ")
    assert said in line
    assert (tmp_path / "manifest.jsonl").read_bytes() == before
    assert project.wrapper.encodes == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('presset = "fast"', "presset"),
        ("crf_sweep = [18", "TOML"),
    ],
)
def test_a_mistake_in_the_file_of_settings_names_file_and_setting(
    content: str, said: str, make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project(tmp_path)
    (tmp_path / "frnr.toml").write_text(content)
    finished = frnr(tmp_path, "extract", "--input", "manifest.jsonl", "--output", project.name)
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert str(tmp_path / "frnr.toml") in line
    assert said in line


class TestSettings:
    @pytest.fixture
    def configured(self, make_project: MakeProject, tmp_path: Path) -> Project:
        project = make_project(tmp_path)
        (tmp_path / "scores.csv").write_text("id,quality,name\nclip0,75.5,a cat\nclip1,20,a dog\n")
        (tmp_path / "frnr.toml").write_text(
            'crf_sweep = [30]\npreset = "ultrafast"\nkeep_encodes = true\nencode_dir = "kept"\n'
            f'scratch_dir = "scratch"\nffmpeg_path = "{project.wrapper.path}"\ncores = 2\ndata_root = "tables"\n'
            f'[[datasets]]\nname = "ours"\nmanifest = "scores.csv"\nclips_root = "{project.clips}"\n'
            'mos_scale = [0, 100]\ncolumns = { src = "{id}.mp4", mos = "quality" }\n'
        )
        return project

    def test_those_of_the_file_are_used_and_a_flag_goes_before_them(self, configured: Project) -> None:
        folder = configured.folder
        finished = frnr(folder, "extract", "--input", "scores.csv", "--output", "rows.jsonl")
        assert finished.returncode == 0, finished.stderr
        rows = configured.rows()
        assert [(row["crf"], row["preset"], row["nr_mos"]) for row in rows] == [
            (30, "ultrafast", 75.5),
            (30, "ultrafast", 20.0),
        ]
        for row in rows:
            assert Path(row["encode_path"]).is_relative_to(folder / "kept")
            assert Path(row["encode_path"]).stat().st_size == row["encode_size_bytes"]
        assert (folder / "tables" / "extract" / source_key(Path("../scores.csv")) / "tables").is_dir()
        assert list((folder / "scratch").iterdir()) == []
        assert not (folder / ".workingdir2").exists()
        assert configured.wrapper.encodes == 2

        flags = ["--crf-sweep", "35", "--no-keep-encodes", "--extra-params=-tune", "--extra-params=film"]
        finished = frnr(folder, "extract", "--input", "scores.csv", "--output", "rows.jsonl", *flags)
        assert finished.returncode == 0, finished.stderr
        found = [(row["crf"], row["preset"], row["encode_path"], row["extra_params"]) for row in configured.rows()]
        assert found == [(35, "ultrafast", "", ["-tune", "film"])] * 2

    def test_another_manifest_is_not_read_as_that_of_the_dataset(self, configured: Project) -> None:
        (configured.folder / "scores.csv").rename(configured.folder / "others.csv")
        finished = frnr(configured.folder, "extract", "--input", "others.csv", "--output", "rows.jsonl")
        assert finished.returncode == 2
        assert "others.csv" in finished.stderr

    def test_every_setting_of_an_extraction_is_a_flag_that_says_its_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "1000")
        shown = frnr(tmp_path, "extract", "--help").stdout
        entries = [entry.partition("\n\n")[0] for entry in re.split(r"\n  --", shown)[1:]]
        flags = {re.split(r"[ ,]", entry)[0]: " ".join(entry.split()) for entry in entries}
        of_the_command = {"input", "output", "clips-root", "format", "mos-scale", "retry-quarantined"}
        wanted = {name.replace("_", "-"): field for name, field in Settings.model_fields.items()}
        assert set(flags) - of_the_command == set(wanted) - {name.replace("_", "-") for name in NO_FLAGS}
        for name, text in flags.items():
            default = wanted[name].default if name in wanted else None
            assert "default:" in text or name in of_the_command, name
            if isinstance(default, str | bool | int | float) or default:
                said = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
                assert f"(default: {said})" in text, name


def test_the_command_needs_no_orchestrator(make_project: MakeProject, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from frnr_assets.cli import main\n"
        "for arguments in (['extract', '--help'], ['doctor', '--help'], sys.argv[1:]):\n"
        "    try:\n"
        "        status = main(arguments)\n"
        "    except SystemExit as ended:\n"
        "        status = ended.code\n"
        "    assert status == 0, arguments\n"
        "    loaded = sorted(name for name in sys.modules if name.partition('.')[0].startswith('dagster'))\n"
        "    assert not loaded, loaded\n"
    )
    project = make_project(tmp_path)
    project.manifest(listed("clip0"))
    command = [sys.executable, "-c", script, *project.arguments("--crf-sweep", "38")]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert len(project.rows()) == 1


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--output", "file/rows.jsonl"], "output: "),
        (["--data-root", "file"], "data_root: "),
        (["--scratch-dir", "file/x"], "scratch_dir: "),
        (["--keep-encodes", "--encode-dir", "file"], "encode_dir: "),
    ],
    ids=["output", "data root", "scratch", "encodes"],
)
def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_measured(
    flags: list[str], named: str, make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project(tmp_path)
    (tmp_path / "file").touch()
    finished = project.run(*flags)
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith(f"frnr: {named}")
    assert "choose another" in line
    assert project.wrapper.encodes == 0


def test_a_manifest_whose_mos_has_another_name_is_remarked_on(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(tmp_path)
    project.manifest('{"src": "clip0.mp4", "moss": 3.5}')
    finished = project.run("--crf-sweep", "38")
    assert finished.returncode == 0
    assert "no clip has a MOS" in finished.stderr


def test_the_file_of_failures_of_another_time_is_no_input_that_would_be_deleted(
    make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project(tmp_path)
    project.failures.write_text(f"{listed('clip0')}\n")
    finished = project.run("--input", project.failures.name)
    assert finished.returncode == 2
    assert project.failures.exists()


def test_the_encodes_of_two_inputs_with_clips_of_one_name_are_two(
    make_project: MakeProject, make_clip: MakeClip, tmp_path: Path
) -> None:
    project = make_project(tmp_path)
    project.manifest(listed("clip0"))
    make_clip(tmp_path / "others" / "clip0.mp4", SMALL_SCENE.replace("testsrc2", "testsrc"))
    (tmp_path / "others" / "more.jsonl").write_text(f"{listed('clip0')}\n")
    for flags in ([], ["--input", "others/more.jsonl", "--clips-root", "others", "--output", "more.jsonl"]):
        assert project.run("--keep-encodes", "--crf-sweep", "38", *flags).returncode == 0
    for row in (*project.rows(), *json_lines(tmp_path / "more.jsonl")):
        assert Path(row["encode_path"]).stat().st_size == row["encode_size_bytes"]


def test_encodes_that_are_asked_for_later_are_made(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(tmp_path)
    project.manifest(listed("clip0"))
    for flags in ([], ["--keep-encodes", "--keep-reference", "yuv"]):
        assert project.run("--crf-sweep", "38", *flags).returncode == 0
    (row,) = project.rows()
    assert Path(row["encode_path"]).stat().st_size == row["encode_size_bytes"]
    assert list((project.tables.root / "references").glob("*.yuv"))


@pytest.mark.skipif(shutil.which("vmaf") is None, reason="Netflix's vmaf is not on PATH")
def test_rows_of_another_backend_are_not_passed_off_as_its_own(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(tmp_path)
    project.manifest(listed("clip0"))
    runs = []
    for flags in ([], ["--vmaf-backend", "cli"], ["--vmaf-backend", "cli"]):
        assert project.run("--crf-sweep", "38", *flags).returncode == 0
        runs += [row["run_id"] for row in project.rows()]
    assert runs[0] != runs[1] == runs[2]


def test_a_file_that_was_replaced_or_is_gone_does_not_pass_for_what_it_was(
    make_project: MakeProject, make_clip: MakeClip, tmp_path: Path
) -> None:
    clips = tmp_path / "mine"
    for name in ("kept", "gone"):
        make_clip(clips / f"{name}.mp4")
    project = make_project(tmp_path)
    flags = ["--clips-root", str(clips), "--crf-sweep", "38"]
    project.manifest(listed("kept"))
    assert project.run(*flags).returncode == 0
    (before,) = project.rows()
    (clips / "kept.mp4").write_bytes(b"no video any more")
    finished = project.run(*flags)
    assert finished.returncode == 1
    assert "no row" in finished.stderr
    (failure,) = json_lines(project.failures)
    assert failure["src"] == before["src"]


def test_folders_of_the_output_are_made(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(tmp_path)
    project.manifest(listed("clip0"))
    finished = project.run("--output", "deep/er/rows.jsonl", "--crf-sweep", "38")
    assert finished.returncode == 0, finished.stderr
    assert len(json_lines(tmp_path / "deep/er/rows.jsonl")) == 1


def test_a_sample_says_so_in_its_rows(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(tmp_path)
    project.manifest(listed("clip0"))
    finished = project.run("--crf-sweep", "38", "--sample-clip-seconds", "0.25")
    assert finished.returncode == 0, finished.stderr
    assert [row["clip_mode"] for row in project.rows()] == ["sample_0.25s"]
