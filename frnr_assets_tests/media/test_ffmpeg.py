"""What the person who configured ffmpeg is told, and what an ffmpeg that exits with 0 can still have got wrong."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from frnr_assets.media.encoders import ENCODERS, LIBX264, Encoder
from frnr_assets.media.ffmpeg import (
    FFmpeg,
    complaints,
    inspect_ffmpeg,
    locate_ffmpeg,
    progress_frames,
    require_encoder,
    require_vmaf_model,
    run_ffmpeg,
)
from frnr_assets.media.process import ToolError, ToolFailed, ToolResult, ToolRunner
from frnr_assets.media.toolchain import Toolchain, ToolSettings, encode_settings, open_ffmpeg, open_toolchain
from frnr_assets.media.vmaf import VmafModel, vmaf_settings
from frnr_assets.vocabulary import DEFAULT_PRESET, DEFAULT_VMAF_MODEL
from frnr_assets_tests.conftest import SMALL_SCENE, X264_UPLOAD, MakeClip

MakeScript = Callable[[str], Path]


@pytest.fixture
def script(tmp_path: Path) -> MakeScript:
    """Return a function that writes a program where an ffmpeg is expected."""

    def make(body: str) -> Path:
        path = tmp_path / "fake-ffmpeg"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return make


def log(stderr: str, stdout: str = "") -> ToolResult:
    return ToolResult(("ffmpeg",), 0, stdout, stderr, 1.0, 1.0)


def test_the_ffmpeg_of_the_wheel_is_used_unless_another_is_configured(runner: ToolRunner, script: MakeScript) -> None:
    bundled = open_ffmpeg(None, runner)
    assert bundled.path.is_absolute()
    assert re.match(r"n?\d+\.\d+", bundled.version)
    other = script("echo 'ffmpeg version 1.2.3-other Copyright'")
    assert open_ffmpeg(str(other), runner) == FFmpeg(other, "1.2.3-other")


@pytest.mark.parametrize("name", ["missing", "folder", "text"])
def test_a_configured_path_without_an_executable_is_named_with_its_setting(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("not a program")
    path = tmp_path / name
    with pytest.raises(ToolError, match=rf"^the configured ffmpeg, {path}, is not an executable file; .*ffmpeg_path$"):
        locate_ffmpeg(str(path))


@pytest.mark.parametrize("body", ["", "echo 'avconv version 9'", "echo 'ffmpeg version 9'; exit 1", "kill -SEGV $$"])
def test_a_program_that_is_not_ffmpeg_is_recognized(body: str, script: MakeScript, runner: ToolRunner) -> None:
    path = script(body)
    with pytest.raises(ToolError, match=rf"^{path} does not behave like ffmpeg: `{path} -version` did not print"):
        inspect_ffmpeg(path, runner)


def test_an_ffmpeg_that_vanished_is_named(runner: ToolRunner, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"gone could not be run: .*gone is not an executable file$"):
        inspect_ffmpeg(tmp_path / "gone", runner)


def test_what_the_toolchain_reports_are_the_versions_inside_it(toolchain: Toolchain) -> None:
    assert re.fullmatch(r"libx264-\d{3}", toolchain.encoder_version)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*|[0-9a-f]{7,}", toolchain.libvmaf_version)


def test_an_ffmpeg_without_the_encoder_is_told_from_an_encoder_that_does_not_work(
    ffmpeg: FFmpeg, script: MakeScript, runner: ToolRunner
) -> None:
    with pytest.raises(ToolError, match=rf"^{ffmpeg.path} has no encoder libx999; use an ffmpeg built with it"):
        require_encoder(ffmpeg, "libx999", r"(\d+)", runner)
    with pytest.raises(ToolError, match=r"^the encoder libx264 of .* does not work: "):
        require_encoder(ffmpeg, "libx264", r"a version that it (never) prints", runner)
    broken = FFmpeg(script("echo 'Error while opening encoder' >&2; exit 1"), "9")
    with pytest.raises(ToolError, match=r"^the encoder libx264 of .* does not work: Error while opening encoder$"):
        require_encoder(broken, "libx264", LIBX264.version_pattern, runner)


def test_an_ffmpeg_without_libvmaf_is_told_from_a_libvmaf_without_the_model(
    ffmpeg: FFmpeg, script: MakeScript, runner: ToolRunner
) -> None:
    without = FFmpeg(script("echo \"[AVFilterGraph @ 0x1] No such filter: 'libvmaf'\" >&2; exit 1"), "9")
    with pytest.raises(ToolError, match=r"has no libvmaf filter; use an ffmpeg built with --enable-libvmaf$"):
        require_vmaf_model(without, VmafModel(DEFAULT_VMAF_MODEL), runner)
    with pytest.raises(ToolError, match=r"has no model vmaf_v9\.9\.9; vmaf_v0\.6\.1 is the usual one$"):
        require_vmaf_model(ffmpeg, VmafModel("vmaf_v9.9.9"), runner)
    silent = FFmpeg(script("exit 0"), "9")
    with pytest.raises(ToolError, match=r"^the libvmaf filter of .* does not work: it printed no reason$"):
        require_vmaf_model(silent, VmafModel(DEFAULT_VMAF_MODEL), runner)


def test_a_toolchain_is_refused_as_a_whole_when_one_tool_is_missing(runner: ToolRunner) -> None:
    settings = encode_settings("libx264", "medium", (), (23,))
    with pytest.raises(ToolError, match="has no model"):
        open_toolchain(ToolSettings(settings, vmaf_settings("vmaf_v9.9.9")), runner)


@pytest.mark.parametrize(
    ("encoder", "preset", "sweep", "message"),
    [
        ("h264_nvenc", "medium", (23,), r"^the encoder h264_nvenc is not supported; supported: .*libx264"),
        ("libx264", "quick", (23,), r"^libx264 has no preset quick; it has ultrafast, .*placebo$"),
        ("libx264", "medium", (23, 52), r"CRF 52\b.* is not within libx264's range of 0 to 51$"),
        ("libx264", "medium", (-1, 23), r"CRF -1\b.* is not within libx264's range of 0 to 51$"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_before_anything_runs(
    encoder: str, preset: str, sweep: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ToolError, match=message):
        encode_settings(encoder, preset, (), sweep)


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_each_encoder_names_the_presets_and_crfs_that_it_has(encoder: Encoder) -> None:
    low, high = encoder.crf_range
    for preset in encoder.presets:
        assert encode_settings(encoder.name, preset, (), (low, high)).preset == preset
    with pytest.raises(
        ToolError, match=rf"^{encoder.name} has no preset glacial; it has {', '.join(encoder.presets)}$"
    ):
        encode_settings(encoder.name, "glacial", (), (low,))
    for crf in (low - 1, high + 1):
        message = rf"^crf_sweep has CRF {crf}, which is not within {encoder.name}'s range of {low} to {high}$"
        with pytest.raises(ToolError, match=message):
            encode_settings(encoder.name, encoder.presets[0], (), tuple(sorted((low, high, crf))))


@pytest.mark.parametrize("encoder", ["libsvtav1", "libvpx-vp9", "libaom-av1"])
def test_the_default_preset_is_refused_by_encoders_that_number_theirs(encoder: str) -> None:
    with pytest.raises(
        ToolError, match=rf"^{encoder} has no preset {DEFAULT_PRESET}; it has 0, 1, 2, 3, 4, 5(, \d+)*$"
    ):
        encode_settings(encoder, DEFAULT_PRESET, (), (23,))


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_what_a_recipe_sets_cannot_be_set_again(encoder: Encoder) -> None:
    options = [arg for arg in (encoder.preset_option, *encoder.args) if arg.startswith("-")]
    for option in (*options, *(f"{option}:v" for option in options), "-threads", "-crf", "-qp"):
        with pytest.raises(ToolError, match=rf"^extra_params has {option}, which the recipe sets itself$"):
            encode_settings(encoder.name, encoder.presets[0], ("-g", "9", option, "1"), (23,))


def test_the_ends_of_the_crf_range_are_part_of_it() -> None:
    assert encode_settings("libx264", "veryslow", ("-tune", "film"), (0, 51)).extra_params == ("-tune", "film")


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("", []),
        ("[mov,mp4 @ 0x55] [warning] stream 0, timescale not set\n", []),
        (
            "[h264 @ 0x55] [error] Invalid NAL unit size (9 > 3).\n" * 2,
            ["Invalid NAL unit size (9 > 3)."],
        ),
        ("[vist#0:0/h264 @ 0x1] [dec:h264 @ 0x2] [fatal] Decoding failed\n", ["Decoding failed"]),
        ("[panic] out of luck\n", ["out of luck"]),
        (
            "x265 [info]: tools: rd=3\nx265 [warning]: Source height < 720p; disabling lookahead-slices\n"
            "Svt[info]: SVT [version]:\tSVT-AV1 Encoder Lib v4.2.0\nSvt[warn]: Failed to set thread priority: Invalid\n"
            "encoded 12 frames in 0.01s (148.24 fps), 138.40 kb/s, Avg QP:34.50\n",
            [],
        ),
        ("x265 [error]: unable to open stats file\n", ["unable to open stats file"]),
        ("Svt[error]: Instance 1: CRF must be [0 - 70]\n", ["Instance 1: CRF must be [0 - 70]"]),
        (
            "[vf#0:0 @ 0x5] [warning] Avoiding reinit; dropping frame pts: 600000 bound for format:default\n" * 2,
            ["the stream changes its frame size, pixel format or colours in the middle"],
        ),
    ],
)
def test_the_lines_that_spoil_a_run_are_found_in_its_log(stderr: str, expected: list[str]) -> None:
    assert complaints(log(stderr)) == expected


def test_a_file_name_in_a_warning_is_no_error() -> None:
    assert complaints(log("[in#0 @ 0x5] [warning] Guessed mp4 for file:clips/my [error] clip.mp4\n")) == []


def test_a_run_that_exits_with_0_over_a_broken_file_fails(
    make_clip: MakeClip, ffmpeg: FFmpeg, runner: ToolRunner, tmp_path: Path
) -> None:
    cut = make_clip(tmp_path / "cut.mp4", encode=(*X264_UPLOAD, "-movflags", "+faststart"))
    cut.write_bytes(cut.read_bytes()[:-100])
    args = ["-i", str(cut), "-f", "null", "-"]
    by_hand = runner.run([str(ffmpeg.path), "-v", "level+warning", *args], cwd=tmp_path, timeout_s=60)
    assert by_hand.returncode == 0
    assert complaints(by_hand)
    with pytest.raises(ToolFailed, match=rf"^decode failed: .*{re.escape(complaints(by_hand)[0])}") as failure:
        run_ffmpeg(ffmpeg, args, "decode", runner=runner, cwd=tmp_path, timeout_s=60)
    assert str(ffmpeg.path) in failure.value.detail


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo 'the disk is on fire' >&2; exit 3", "^decode failed: the disk is on fire$"),
        ("exit 3", "^decode failed: it printed no reason$"),
        ("kill -SEGV $$", "^decode failed: ffmpeg was ended by signal 11$"),
    ],
)
def test_a_failed_run_says_why(body: str, reason: str, script: MakeScript, runner: ToolRunner, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match=reason) as failure:
        run_ffmpeg(FFmpeg(script(body), "9"), [], "decode", runner=runner, cwd=tmp_path, timeout_s=60)
    assert failure.value.result is not None


def test_an_error_cannot_hide_before_a_flood_of_warnings(
    script: MakeScript, runner: ToolRunner, tmp_path: Path
) -> None:
    flood = script("echo '[h264 @ 0x5] [error] concealed' >&2; yes '[x @ 0x5] [warning] odd' | head -n 5000 >&2")
    with pytest.raises(ToolFailed, match="its log is too long to be read to its end"):
        run_ffmpeg(FFmpeg(flood, "9"), [], "decode", runner=runner, cwd=tmp_path, timeout_s=60)


def test_frames_are_counted_from_the_last_report(
    ffmpeg: FFmpeg, runner: ToolRunner, make_clip: MakeClip, tmp_path: Path
) -> None:
    args = ["-i", str(make_clip(tmp_path / "clip.mp4")), "-progress", "pipe:1", "-f", "null", "-"]
    result = run_ffmpeg(ffmpeg, args, "count", runner=runner, cwd=tmp_path, timeout_s=60)
    assert f"end_frame={progress_frames(result)}" in SMALL_SCENE
    assert progress_frames(log("", "frame=3\nfps=0.0\nframe=17\nprogress=end\n")) == 17
    assert progress_frames(log("", "progress=end\n")) == 0
