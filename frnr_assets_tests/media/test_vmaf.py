"""What may be configured about VMAF, and what a configuration stands for."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from frnr_assets.media.process import ToolError
from frnr_assets.media.vmaf import (
    AUTO_MODEL,
    VmafModel,
    VmafSettings,
    VmafTool,
    choose_models,
    vmaf_settings,
)
from frnr_assets.vocabulary import DEFAULT_VMAF_MODEL, EXTRA_FEATURES, UHD_LINES, UHD_VMAF_MODEL


def names(settings: VmafSettings, width: int, height: int) -> set[str]:
    """The settings' names of the extra features that frames of that size get."""
    got = settings.extras(width, height)
    return {name for name, feature in EXTRA_FEATURES.items() if feature in got}


@pytest.mark.parametrize("version", [DEFAULT_VMAF_MODEL, "vmaf_v0.6.1neg", "vmaf_4k_v0.6.1"])
@pytest.mark.parametrize("height", [17, UHD_LINES - 1, UHD_LINES, 8 * UHD_LINES])
def test_a_version_is_the_model_of_clips_of_every_height(version: str, height: int) -> None:
    choice = choose_models(version)
    assert choice.of(height) == VmafModel(version, None)
    assert choice.models == (VmafModel(version, None),)


@pytest.mark.parametrize(
    ("height", "model"),
    [
        (17, DEFAULT_VMAF_MODEL),
        (1080, DEFAULT_VMAF_MODEL),
        (UHD_LINES - 2, DEFAULT_VMAF_MODEL),
        (UHD_LINES - 1, DEFAULT_VMAF_MODEL),
        (UHD_LINES, UHD_VMAF_MODEL),
        (UHD_LINES + 1, UHD_VMAF_MODEL),
        (2 * UHD_LINES, UHD_VMAF_MODEL),
    ],
)
def test_auto_is_the_4k_model_from_2160_lines_up(height: int, model: str) -> None:
    assert UHD_LINES == 2160
    assert choose_models(AUTO_MODEL).of(height) == VmafModel(model)


def test_auto_may_need_both_models() -> None:
    assert [model.name for model in choose_models(AUTO_MODEL).models] == ["vmaf_v0.6.1", "vmaf_4k_v0.6.1"]


class TestModelFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "ours.json"
        file.write_text('{"one": 1}')
        return file

    def test_it_is_known_by_its_name_and_its_content(self, file: Path) -> None:
        (model,) = choose_models(str(file)).models
        assert model.path == file
        assert model.name.startswith("ours.json@")
        assert len(model.name) > len("ours.json@")

    def test_another_content_is_another_model_and_another_place_is_not(self, file: Path, tmp_path: Path) -> None:
        before = choose_models(str(file)).of(48).name
        elsewhere = tmp_path / "elsewhere" / file.name
        elsewhere.parent.mkdir()
        elsewhere.write_bytes(file.read_bytes())
        assert choose_models(str(elsewhere)).of(48).name == before
        file.write_text('{"one": 2}')
        assert choose_models(str(file)).of(48).name != before
        file.write_text('{"one": 1}')
        assert choose_models(str(file)).of(48).name == before

    def test_it_is_the_model_of_clips_of_every_height(self, file: Path) -> None:
        choice = choose_models(str(file))
        assert choice.of(UHD_LINES - 1) == choice.of(UHD_LINES)

    def test_a_relative_path_stays_that_of_the_folder_it_was_read_in(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        choice = choose_models(file.name)
        (tmp_path / "another folder").mkdir()
        monkeypatch.chdir(tmp_path / "another folder")
        assert choice.of(48).path == file

    def test_a_path_needs_no_particular_ending(self, file: Path) -> None:
        other = file.rename(file.with_suffix(".model"))
        assert choose_models(str(other)).of(48).path == other

    def test_a_program_gets_it_by_a_name_without_characters_that_mean_something(self, file: Path) -> None:
        odd = file.rename(file.with_name("it's a: model|x [1],=\\.json"))
        folder = file.parent / "scratch"
        folder.mkdir()
        model = choose_models(str(odd)).of(48)
        key, _, name = model.argument(folder).partition("=")
        assert key == "path"
        assert name.replace(".", "").isalnum()
        assert (folder / name).read_bytes() == odd.read_bytes()
        assert model.argument(folder) == f"path={name}", "a scratch folder may be used twice"

    @pytest.mark.parametrize("missing", ["no.json", "no/such/model.json", "/no/such/model", "folder.json"])
    def test_one_that_cannot_be_read_is_named_with_the_setting(
        self, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "folder.json").mkdir()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ToolError, match=rf"^vmaf_model: .*{missing}: (No such file|Is a directory)"):
            vmaf_settings(missing)


@pytest.mark.parametrize(
    "odd",
    [
        "",
        " ",
        "_ vmaf",
        "vmaf_v0.6.1 ",
        "vmaf_v0.6.1\n",
        "version=vmaf_v0.6.1",
        "vmaf_v0.6.1:disable_clip",
        "vmaf_v0.6.1|name=x",
        "-vmaf",
        "vmäf_v0.6.1",
        "'vmaf_v0.6.1'",
        "auto,vmaf_v0.6.1",
        "models/\0.json",
    ],
)
def test_what_is_no_model_is_refused_with_the_name_of_the_setting(odd: str) -> None:
    with pytest.raises(ToolError, match=r"^vmaf_model(: | is )"):
        vmaf_settings(odd)


def test_a_refused_model_is_told_what_it_can_be() -> None:
    with pytest.raises(
        ToolError, match=r"'4K!'; .* a version such as vmaf_v0\.6\.1, the path of a JSON model, or auto"
    ):
        vmaf_settings("4K!")


def test_without_a_wish_ffmpegs_libvmaf_scores_with_the_usual_model_and_nothing_more() -> None:
    settings = vmaf_settings()
    assert settings.tool is None
    assert settings.models.of(UHD_LINES) == VmafModel("vmaf_v0.6.1")
    assert settings.extras(4096, UHD_LINES) == ()


@pytest.mark.parametrize("unknown", ["psnr_y", "float_ssim", "PSNR", "", "psnr ", "vif", "vmaf"])
def test_an_unknown_feature_is_named_beside_those_that_there_are(unknown: str) -> None:
    with pytest.raises(ToolError, match=f"^extra_features has {unknown}; there are .*psnr.*ciede"):
        vmaf_settings(extra_features=("ssim", unknown))


@pytest.mark.parametrize(
    "size", [(216, 176), (176, 216), (1920, 1080), (1080, 1920)], ids=lambda size: "x".join(map(str, size))
)
def test_large_frames_get_every_feature_that_was_asked_for(size: tuple[int, int]) -> None:
    settings = vmaf_settings(extra_features=tuple(EXTRA_FEATURES))
    assert names(settings, *size) == set(EXTRA_FEATURES)
    assert set(settings.extra_columns(*size)) == {
        *("psnr_y", "psnr_cb", "psnr_cr", "psnr_hvs", "psnr_hvs_y", "psnr_hvs_cb", "psnr_hvs_cr"),
        *("float_ssim", "float_ms_ssim", "cambi", "ciede2000"),
    }


@pytest.mark.parametrize(
    ("size", "left_out"),
    [
        ((64, 48), {"ms_ssim", "cambi"}),
        ((175, 175), {"ms_ssim", "cambi"}),
        ((176, 176), {"cambi"}),
        ((215, 215), {"cambi"}),
        ((215, 176), {"cambi"}),
        ((216, 175), {"ms_ssim"}),
        ((175, 216), {"ms_ssim"}),
        ((1920, 18), {"ms_ssim"}),
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_frames_that_are_too_small_for_a_feature_go_without_it(size: tuple[int, int], left_out: set[str]) -> None:
    settings = vmaf_settings(extra_features=tuple(EXTRA_FEATURES))
    assert names(settings, *size) == set(EXTRA_FEATURES) - left_out
    columns = {column for name in left_out for column in EXTRA_FEATURES[name].columns}
    assert columns.isdisjoint(settings.extra_columns(*size))
    assert not {f"float_{name}" for name in left_out} & set(settings.extractors(*size))
    assert not left_out & set(settings.extractors(*size))


def test_only_what_was_asked_for_is_computed_and_each_once() -> None:
    settings = vmaf_settings(extra_features=("ssim", "psnr", "ssim"))
    assert settings.extra_columns(640, 360) == ("float_ssim", "psnr_y", "psnr_cb", "psnr_cr")
    assert settings.extractors(640, 360) == ("adm", "vif", "motion", "float_ssim", "psnr")


@pytest.mark.parametrize(
    "args",
    [
        *(["--out", "x"], ["--out=x"], ["--output=x"], ["-o", "x"], ["-ox"], ["-qo", "x"]),
        *(["--sub"], ["--subsample=2"], ["--subs", "2"], ["--json"], ["--j"], ["--xml"], ["--csv"]),
        *(["--model=version=vmaf_v0.6.1"], ["--mod", "path=x"], ["-m", "path=x"], ["-mpath=x"]),
        *(["--feature", "psnr"], ["--fea=psnr"], ["--reference", "x"], ["--ref=x"], ["-r", "x"], ["--dist=x"]),
        *(["-d", "x"], ["--width=1"], ["-w", "1"], ["--height=1"], ["-h1"], ["--pixel=420"], ["-p", "444"]),
        *(["--bitdepth=8"], ["-b", "8"], ["--frame_cnt=3"], ["--frame_skip_ref=1"], ["--frame_skip_d", "1"]),
        *(["--no_prediction"], ["--no"], ["-n"], ["--version"], ["-v"], ["--aom_ctc=v1.0"], ["--nflx_ctc=v1.0"]),
        *(["--"], ["--f"]),
    ],
    ids=" ".join,
)
def test_an_argument_that_would_undo_the_recipe_is_refused(args: Sequence[str]) -> None:
    with pytest.raises(ToolError, match=f"^vmaf_args has {args[0]}, "):
        vmaf_settings(backend="cli", args=("--threads", "2", *args))


@pytest.mark.parametrize(
    "args",
    [
        *(["--cpumask", "24"], ["--cpumask=-1"], ["--cpum", "24"], ["--gpumask", "1"], ["--gpumask=1"]),
        *(["--backend", "cuda"], ["--backend=sycl"], ["--threads", "4"], ["--threads=4"], ["--thr=4"], ["--quiet"]),
        *(["-q"], ["--sycl_device=0", "--vulkan_device", "1"]),
    ],
    ids=" ".join,
)
def test_arguments_that_choose_how_the_same_is_computed_are_passed_on(args: Sequence[str]) -> None:
    assert vmaf_settings(backend="cli", args=args).tool == VmafTool("vmaf", tuple(args))


def test_the_executable_is_the_one_on_path_unless_another_is_named() -> None:
    assert vmaf_settings(backend="cli").tool == VmafTool("vmaf")
    assert vmaf_settings(backend="cli", path="/opt/vmaf").tool == VmafTool("/opt/vmaf")


@pytest.mark.parametrize(("path", "args"), [("/usr/bin/vmaf", ()), (None, ("--threads", "4")), ("vmaf", ("--quiet",))])
def test_settings_of_the_executable_are_not_ignored_silently(path: str | None, args: Sequence[str]) -> None:
    with pytest.raises(ToolError, match=r"^vmaf_path and vmaf_args are for vmaf_backend cli"):
        vmaf_settings(path=path, args=args)


@pytest.mark.parametrize("backend", ["", "CLI", "vmaf", "ffmpeg"])
def test_an_unknown_backend_is_named_beside_those_that_there_are(backend: str) -> None:
    with pytest.raises(ToolError, match=f"^vmaf_backend is {backend}; it can be libvmaf or cli$"):
        vmaf_settings(backend=backend)
