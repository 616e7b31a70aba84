import socket
import subprocess
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from frnr_assets.media.vmaf import VmafTool
from frnr_assets.resources import Workshop, resources_from
from frnr_assets.settings import Automation, Settings, SettingsError, load_settings


def _load(folder: Path, content: str | bytes) -> Settings:
    (folder / "frnr.toml").write_bytes(content.encode() if isinstance(content, str) else content)
    return load_settings(folder)


def dataset(line: str) -> str:
    return f"[[datasets]]\nname = 'k'\nmanifest = 'm.csv'\n{line}".replace(
        "name = 'k'\n", "" if "name =" in line else "name = 'k'\n"
    )


def test_without_a_file_the_documented_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    assert settings.crf_sweep == (18, 23, 28, 33, 38)
    assert (settings.encoder, settings.preset, settings.extra_params) == ("libx264", "medium", ())
    assert (settings.vmaf_model, settings.vmaf_backend) == ("vmaf_v0.6.1", "libvmaf")
    assert (settings.vmaf_path, settings.vmaf_args, settings.extra_features) == (None, (), ())
    assert settings.sample_clip_seconds == 0
    assert settings.data_root == tmp_path / "data"
    assert (settings.scratch_dir, settings.encode_dir) == (None, None)
    assert settings.datasets == ()
    assert not settings.automation.running
    assert (settings.ffmpeg_path, settings.cores, settings.memory_gib) == (None,) * 3


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    without = load_settings(tmp_path)
    assert _load(tmp_path, "# nothing\n") == without


def test_every_value_of_the_file_is_used(tmp_path: Path) -> None:
    settings = _load(
        tmp_path,
        """
        allowed_roots = ["/archive", "more"]
        crf_sweep = [0, 20, 51]
        encoder = "libx264"
        preset = "slow"
        extra_params = ["-tune", "film"]
        sample_clip_seconds = 2.5
        vmaf_model = "vmaf_4k_v0.6.1"
        vmaf_backend = "cli"
        vmaf_path = "tools/vmaf"
        vmaf_args = ["--threads", "2"]
        extra_features = ["psnr", "cambi"]
        per_frame_scores = true
        encode_dir = "/archive/encodes"
        scratch_dir = "fast/scratch"
        cores = 3
        memory_gib = 1.5
        tool_base_seconds = 10
        tool_seconds_per_megapixel = 0.25

        [automation]
        running = true
        cron = "*/5 * * * *"
        interval_seconds = 5
        queued_blocks = 3
        retry_minutes = 0
        publish_minutes = 1.5

        [[datasets]]
        name = "konvid-150k"
        manifest = "/data/konvid"
        format = "konvid-150k"
        expected_clips = 148543

        [[datasets]]
        name = "live-vqc"
        manifest = "live/mos.csv"
        clips_root = "live/clips"
        mos_scale = [0, 100]
        columns = { src = "File", mos = "Score" }
        """,
    )
    konvid, live = settings.datasets
    assert (konvid.name, konvid.format, konvid.expected_clips) == ("konvid-150k", "konvid-150k", 148543)
    assert (konvid.manifest, konvid.clips_root, konvid.mos_scale) == (Path("/data/konvid"), None, (1.0, 5.0))
    assert (live.manifest, live.clips_root) == (tmp_path / "live/mos.csv", tmp_path / "live/clips")
    assert (live.columns.src, live.columns.mos, live.columns.url) == ("File", "Score", None)
    assert settings.mos_range == (0.0, 100.0)
    assert settings.allowed_roots == (Path("/archive"), tmp_path / "more")
    assert settings.automation == Automation(
        running=True, cron="*/5 * * * *", interval_seconds=5, queued_blocks=3, retry_minutes=0, publish_minutes=1.5
    )
    assert settings.crf_sweep == (0, 20, 51)
    vmaf = settings.vmaf_settings()
    assert [model.name for model in vmaf.models.models] == ["vmaf_4k_v0.6.1"]
    assert vmaf.tool == VmafTool(str(tmp_path / "tools/vmaf"), ("--threads", "2"))
    assert vmaf.extra_features == ("psnr", "cambi")
    assert settings.per_frame_scores
    assert settings.recipe().per_frame_scores
    assert (settings.encode_dir, settings.scratch_dir) == (Path("/archive/encodes"), tmp_path / "fast/scratch")
    assert (settings.cores, settings.memory_gib) == (3, 1.5)
    assert (settings.tool_base_seconds, settings.tool_seconds_per_megapixel) == (10.0, 0.25)
    encode = settings.encode_settings()
    assert (encode.encoder.name, encode.preset, encode.extra_params) == ("libx264", "slow", ("-tune", "film"))
    assert encode.sample_clip_seconds == 2.5


@pytest.mark.parametrize("name", ["data_root", "scratch_dir", "encode_dir", "ffmpeg_path"])
def test_a_relative_path_starts_at_the_file_wherever_the_program_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert getattr(_load(place, f'{name} = "sub/x"'), name) == place / "sub" / "x"
    assert getattr(load_settings(Path("../place")), name).resolve() == place / "sub" / "x"
    assert getattr(_load(place, f'{name} = "{tmp_path}/y"'), name) == tmp_path / "y"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("crf_sweep = [18, 23", "not TOML"),
        ("encoder = libx264", "not TOML"),
        ("cores = 1\ncores = 2", "not TOML"),
        ("crf_swep = [18]", "crf_swep"),
        ("[encode]\npreset = 'slow'", "encode"),
        ("cores = 'two'", "cores"),
        ("cores = 0", "cores"),
        ("memory_gib = -1", "memory_gib"),
        ("memory_gib = inf", "memory_gib"),
        ("datasets = 5", "datasets"),
        ("[[datasets]]\nmanifest = 'm.csv'", "datasets.0.name"),
        ("[[datasets]]\nname = 'k'", "datasets.0.manifest"),
        (dataset("name = ' '"), "datasets.0.name"),
        (dataset("format = 'xls'"), "datasets.0.format"),
        (dataset("expected_clips = 0"), "datasets.0.expected_clips"),
        (dataset("mos = 'MOS'"), "there are name, manifest, format, clips_root"),
        (dataset("columns = { MOS = 'mos' }"), "there are src, mos, mos_std_dev"),
        (dataset("columns = { src = '' }"), "datasets.0.columns.src"),
        (f"{dataset('')}\n{dataset('')}", "datasets must have different names"),
        ("[automation]\ncron = 'every night'", "automation.cron: 'every night' is no cron schedule"),
        ("[automation]\nrunning = 'yes please'", "automation.running"),
        ("[automation]\ninterval_seconds = 0", "automation.interval_seconds"),
        ("[automation]\ninterval = 5", "did you mean interval_seconds?"),
        ("download_threads = 0", "download_threads"),
        ("data_root = 5", "data_root"),
        ("extra_params = '-tune film'", "extra_params"),
        ("vmaf_model = 'path=x:y'", "vmaf_model is 'path=x:y'; it can be a version such as vmaf_v0.6.1, the path of"),
        ("vmaf_model = ''", "vmaf_model is ''"),
        ("vmaf_model = 'no.json'", "no.json: No such file or directory"),
        ("vmaf_model = 6", "vmaf_model"),
        ("vmaf_backend = 'cuda'", "vmaf_backend"),
        ("vmaf_path = '/usr/bin/vmaf'", "vmaf_path and vmaf_args are for vmaf_backend cli"),
        ("vmaf_args = ['--threads', '2']", "vmaf_path and vmaf_args are for vmaf_backend cli"),
        ("vmaf_backend = 'cli'\nvmaf_args = ['--subsample', '2']", "vmaf_args has --subsample"),
        ("extra_features = ['niqe']", "extra_features has niqe; there are psnr, "),
        ("extra_features = 'psnr'", "extra_features"),
        ("sample_clip_seconds = -1", "sample_clip_seconds"),
        ("sample_clip_seconds = inf", "sample_clip_seconds"),
        ("sample_clip_seconds = nan", "sample_clip_seconds"),
        ("scratch_dir = 5", "scratch_dir"),
        ("encode_dir = 5", "encode_dir"),
        ("tool_base_seconds = 0", "tool_base_seconds"),
        ("tool_base_seconds = inf", "tool_base_seconds"),
        ("crf_sweep = []", "crf_sweep"),
        ("crf_sweep = 18", "crf_sweep"),
        ("crf_sweep = [18.5]", "crf_sweep"),
        ("crf_sweep = ['low']", "crf_sweep"),
        ("crf_sweep = [true, 18]", "crf_sweep"),
        ("crf_sweep = [23, 18]", "crf_sweep"),
        ("crf_sweep = [18, 18]", "crf_sweep"),
        ("crf_sweep = [18, 52]", "crf_sweep"),
        ("crf_sweep = [-1, 18]", "crf_sweep"),
        ("encoder = 'libx269'", "encoder"),
        ("preset = 'mediums'", "preset"),
        (dataset("mos_scale = [5, 1]"), "mos_scale"),
        (dataset("mos_scale = [3, 3]"), "mos_scale"),
        (dataset("mos_scale = [1, 3, 5]"), "mos_scale"),
        (dataset("mos_scale = ['poor', 'good']"), "mos_scale"),
        (dataset("mos_scale = [nan, 5]"), "mos_scale"),
        (dataset("mos_scale = [1, inf]"), "mos_scale"),
    ],
)
def test_a_mistake_in_the_file_is_named_before_any_work_starts(tmp_path: Path, content: str, named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'frnr.toml'}: ")
    assert named in str(caught.value)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cores: .*download_threads: |download_threads: .*cores: "):
        _load(tmp_path, "cores = 0\ndownload_threads = 0")


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, b"encoder = 'caf\xe9'")
    assert str(tmp_path / "frnr.toml") in str(caught.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "frnr.toml").mkdir()
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path)
    assert str(tmp_path / "frnr.toml") in str(caught.value)


def test_what_was_configured_cannot_change_under_a_running_batch() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().preset = "slow"  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes",
    [
        {"codecs": ("h264",)},
        {"max_frames": 100},
        {"accept_damaged": True},
        {"tool_base_seconds": 1.0},
        {"tool_memory_gib": 2.0},
        {"extra_params": ("-tune", "film")},
        {"preset": "fast"},
        {"vmaf_model": "vmaf_v0.6.1neg"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_setting_that_may_have_made_a_clip_unusable_gives_it_another_try(changes: dict[str, Any]) -> None:
    before, now = Settings(), Settings.model_validate(changes)
    assert before.recipe().conditions != now.recipe().conditions
    assert now.recipe().conditions == now.tools().conditions
    assert Settings.model_validate({"cores": 1, "keep_encodes": True}).recipe().conditions == before.recipe().conditions


def test_the_assets_try_clips_under_the_conditions_of_frnr_toml() -> None:
    settings = Settings.model_validate({"extra_params": ("-tune", "film"), "max_frames": 100, "tool_file_gib": 1.0})
    with dg.build_resources(resources_from(settings)) as made:
        workshop = Workshop(made.sources, made.ffmpeg, made.vmaf, made.tables, made.compute)
        assert workshop.tools(settings.crf_sweep).conditions == settings.recipe().conditions


@pytest.mark.parametrize("codec", ["h265", "avc", "H264", ""])
def test_a_misspelt_codec_is_named_before_it_shelves_a_dataset(codec: str) -> None:
    with pytest.raises(ValidationError, match=f"codecs has {codec}, which is no codec"):
        Settings.model_validate({"codecs": ("h264", codec)})


def test_rows_of_masters_are_found_beside_the_file_that_names_them(tmp_path: Path) -> None:
    settings = _load(tmp_path, "[[fr_datasets]]\nname = 'netflix'\nrows = 'rows.parquet'\nlicence = 'CC BY 4.0'\n")
    (dataset,) = settings.fr_datasets
    assert (dataset.name, dataset.rows, dataset.licence) == ("netflix", tmp_path / "rows.parquet", "CC BY 4.0")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("rows = 'rows.csv'", "fr_datasets.0.rows: rows.csv ends in neither .jsonl nor .parquet"),
        ("rows = 'rows.jsonl'\nmos = 1", "fr_datasets.0.mos: there is no such setting; there are name, rows, licence"),
        ("rows = 'rows.jsonl'\n[[datasets]]\nname = 'netflix'\nmanifest = 'm.csv'", "must have different names"),
    ],
)
def test_a_mistake_about_rows_of_masters_is_named_before_any_work_starts(
    tmp_path: Path, content: str, sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        _load(tmp_path, f"[[fr_datasets]]\nname = 'netflix'\n{content}\n")


def make_ui(folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-o", ".venv/installed", "-C", str(Path(__file__).parents[1]), "ui", f"DIR={folder}", *settings]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_ui_is_not_started_on_settings_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "frnr.toml").write_text("data_rot = 'data'\n")
    shown = make_ui(tmp_path)
    assert shown.returncode != 0
    assert f"{tmp_path}/frnr.toml: data_rot: there is no such setting; did you mean data_root?" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not (tmp_path / ".dagster").exists(), "nothing was started"


def test_the_ui_is_not_started_without_its_page_on_a_port_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "frnr.toml").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shown = make_ui(tmp_path, f"PORT={port}")
    assert shown.returncode != 0
    assert f"port {port}: Address already in use; another UI may be there." in shown.stderr
    assert not (tmp_path / ".dagster").exists(), "nothing was started"
