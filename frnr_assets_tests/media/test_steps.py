"""The commands of the steps, and what ffprobe prints, one by one."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.media.encoders import LIBX264
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.process import ToolError, ToolFailed
from frnr_assets.media.reference import WorkingFormat, working_format
from frnr_assets.media.source import ClipUnusable
from frnr_assets.media.steps import (
    NrSourceGeometry,
    build_decode_command,
    build_probe_command,
    count_frames,
    probe_geometry,
    run_step,
)
from frnr_assets_tests.conftest import RULES, SMALL_SCENE, MakeClip
from frnr_assets_tests.fake_tools import Completed, FakeTools

SOURCE = Path("in.mp4")
GEOMETRY = NrSourceGeometry(64, 48, "yuv420p", 24.0, 0.5)
STREAM: Mapping[str, Any] = {"width": 640, "height": 360, "pix_fmt": "yuv420p"}
# Names that ffmpeg would take for something else: an option, a protocol, a pattern, a list.
AWKWARD = ["-x.mp4", "a:b.mp4", "http:b.mp4", "concat:a|b.mp4", "-:.mp4", "a%03d.mp4", "it's [a] b,c.mp4", "a\\b.mp4"]
AWKWARD_FOLDERS = ["-x", "a:b", "sub", "subfile,x"]


def decode_command(source: Path = SOURCE, geometry: NrSourceGeometry = GEOMETRY, **settings: Any) -> list[str]:
    return build_decode_command(source, Path("out.yuv"), geometry, **settings)


def probed(stream: Mapping[str, Any], container: Mapping[str, Any] | None = None) -> NrSourceGeometry:
    """The geometry that is made of what an ffprobe printed."""
    printed = json.dumps({"streams": [{**STREAM, **stream}], "format": container or {}})
    return probe_geometry(SOURCE, runner=FakeTools(probe_stdout=printed).run_probe)


class TestDecodeCommand:
    def test_it_reads_the_path_as_given_and_writes_raw_frames_to_the_last_element(self) -> None:
        argv = decode_command(geometry=NrSourceGeometry(64, 48, "yuv422p", 24.0, 0.5), ffmpeg_bin="our-ffmpeg")
        assert argv[0] == "our-ffmpeg"
        assert argv[argv.index("-i") + 1] == "in.mp4"
        assert argv[-1] == "out.yuv"
        assert argv[argv.index("rawvideo") - 1] == "-f"
        # An option in front of the input would be about the source.
        for option, value in (("-f", "rawvideo"), ("-pix_fmt", "yuv422p"), ("-fps_mode", "passthrough")):
            assert argv.count(option) == 1
            assert argv[argv.index(option) + 1] == value
            assert argv.index(option) > argv.index("-i")

    def test_it_takes_ffmpeg_from_path_unless_told_otherwise(self) -> None:
        assert decode_command()[0] == "ffmpeg"

    @pytest.mark.parametrize(
        ("pix_fmt", "encoder", "working"),
        [
            ("yuv420p", "libx264", "yuv420p"),
            ("yuv422p10le", "libx264", "yuv422p10le"),
            ("yuv420p12le", "libx264", "yuv420p10le"),
            ("yuv420p12le", "libx265", "yuv420p12le"),
            ("yuv444p", "libsvtav1", "yuv420p"),
            ("gray", "libx264", "yuv420p"),
            ("rgb24", "libx264", "yuv444p"),
        ],
    )
    def test_frames_come_out_as_the_encoder_takes_them(self, pix_fmt: str, encoder: str, working: str) -> None:
        argv = decode_command(geometry=NrSourceGeometry(64, 48, pix_fmt, 24.0, 0.5), encoder=encoder)
        assert argv[argv.index("-pix_fmt") + 1] == working
        assert f"format={working}" in argv[argv.index("-vf") + 1]

    def test_an_odd_size_is_cropped(self) -> None:
        argv = decode_command(geometry=NrSourceGeometry(65, 49, "yuv420p", 24.0, 0.5))
        assert argv[argv.index("-vf") + 1].startswith("crop=64:48:0:0")

    @pytest.mark.parametrize("name", AWKWARD)
    @pytest.mark.parametrize("folder", ["", *AWKWARD_FOLDERS])
    def test_no_name_of_a_source_is_an_option_or_a_protocol(
        self, name: str, folder: str, clip: Path, ffmpeg: FFmpeg, tmp_path: Path
    ) -> None:
        source = Path(folder) / name
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / source)
        argv = build_decode_command(source, Path("out.yuv"), GEOMETRY, ffmpeg_bin=str(ffmpeg.path))
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out.yuv").stat().st_size == 12 * 64 * 48 * 3 // 2

    @pytest.mark.parametrize("name", AWKWARD)
    def test_an_absolute_path_is_named_as_it_is(self, name: str, tmp_path: Path) -> None:
        argv = decode_command(tmp_path / name)
        assert argv[argv.index("-i") + 1] == str(tmp_path / name)

    def test_an_encoder_that_is_not_known_is_named(self) -> None:
        with pytest.raises(ToolError, match="libtheora"):
            decode_command(encoder="libtheora")

    def test_frames_that_are_too_small_to_be_scored_are_refused(self) -> None:
        with pytest.raises(ClipUnusable, match="too small"):
            decode_command(geometry=NrSourceGeometry(16, 48, "yuv420p", 24.0, 0.5))


@pytest.fixture(scope="module")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


class TestProbeCommand:
    def test_it_asks_for_the_first_video_that_is_no_cover_picture(self) -> None:
        argv = build_probe_command(SOURCE, ffprobe_bin="our-ffprobe")
        assert (argv[0], argv[-1]) == ("our-ffprobe", "in.mp4")
        assert argv[argv.index("-select_streams") + 1] == "V:0"
        assert argv[argv.index("-of") + 1] == "json"

    @pytest.mark.parametrize("name", ["-x.mp4", "a:b.mp4", "a:b/c.mp4"])
    def test_no_name_of_a_source_is_an_option_or_a_protocol(self, name: str) -> None:
        assert build_probe_command(Path(name))[-1] == f"file:{name}"

    def test_every_field_that_is_read_is_asked_for(self) -> None:
        argv = build_probe_command(SOURCE)
        asked = argv[argv.index("-show_entries") + 1]
        for name in (*STREAM, "avg_frame_rate", "r_frame_rate", "color_range", "color_transfer", "color_primaries"):
            assert name in asked
        assert "format=duration" in asked


class TestProbeGeometry:
    @pytest.mark.parametrize(
        ("rates", "expected"),
        [
            ({"r_frame_rate": "24000/1001"}, 24000 / 1001),
            ({"avg_frame_rate": "0/0", "r_frame_rate": "25/1"}, 25.0),
            ({"avg_frame_rate": "30000/1001", "r_frame_rate": "90000/1"}, 30000 / 1001),
            ({"avg_frame_rate": "30", "r_frame_rate": "60/1"}, 30.0),
            ({"avg_frame_rate": None, "r_frame_rate": "25/1"}, 25.0),
            ({"avg_frame_rate": "0/0", "r_frame_rate": "0/0"}, 0.0),
        ],
    )
    def test_the_average_rate_goes_before_the_nominal_one(self, rates: dict[str, Any], expected: float) -> None:
        assert probed(rates).framerate == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(
        ("container", "expected"), [({"duration": "8.04"}, 8.04), ({"duration": "N/A"}, 0.0), ({}, 0.0)]
    )
    def test_a_container_need_not_know_its_duration(self, container: dict[str, Any], expected: float) -> None:
        assert probed({"r_frame_rate": "24/1"}, container).duration_s == expected

    def test_all_that_ffprobe_prints_is_taken(self) -> None:
        colors = {"color_range": "pc", "color_transfer": "smpte2084", "color_primaries": "bt2020"}
        found = probed({"pix_fmt": "yuv420p10le", "avg_frame_rate": "24/1", **colors}, {"duration": "2.5"})
        assert found == NrSourceGeometry(640, 360, "yuv420p10le", 24.0, 2.5, "pc", "smpte2084", "bt2020")

    def test_colors_that_are_unknown_are_unspecified(self) -> None:
        found = probed({"r_frame_rate": "24/1", "color_range": "unknown", "color_transfer": "unknown"})
        assert (found.color_range, found.color_transfer, found.color_primaries) == ("unspecified",) * 3

    def test_a_failure_of_ffprobe_is_one(self) -> None:
        tools = FakeTools(answers={"probe": Completed(1, stderr="in.mp4: No such file or directory\n")})
        with pytest.raises(ToolFailed, match=r"ffprobe failed for in\.mp4.*No such file"):
            probe_geometry(SOURCE, runner=tools.run_probe)

    def test_without_a_runner_no_ffprobe_is_needed(
        self, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("setpriv", "prlimit"):
            (tmp_path / name).symlink_to(str(shutil.which(name)))
        monkeypatch.setenv("PATH", str(tmp_path))
        assert probe_geometry(clip) == NrSourceGeometry(64, 48, "yuv420p", 24.0, 0.5)

    def test_without_a_runner_the_path_may_be_relative(self, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(clip.parent)
        assert probe_geometry(Path(clip.name)) == probe_geometry(clip)

    def test_without_a_runner_an_odd_rate_and_a_silent_container_are_found_too(
        self, make_clip: MakeClip, tmp_path: Path
    ) -> None:
        scene = SMALL_SCENE.replace("rate=24", "rate=30000/1001") + ",format=yuv444p10le"
        found = probe_geometry(make_clip(tmp_path / "clip.mkv", scene, ("-c:v", "ffv1")), rules=RULES)
        assert (found.pix_fmt, found.duration_s) == ("yuv444p10le", 0.0)
        assert found.probe().rate == Fraction(30000, 1001)

    @pytest.mark.parametrize("content", [b"not a video", b""])
    def test_without_a_runner_what_is_no_video_is_named(self, content: bytes, tmp_path: Path) -> None:
        source = tmp_path / "broken.mp4"
        source.write_bytes(content)
        with pytest.raises(ToolError, match=str(source)):
            probe_geometry(source)

    def test_without_a_runner_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ToolError, match=r"gone\.mp4"):
            probe_geometry(tmp_path / "gone.mp4")


class TestGeometry:
    @pytest.mark.parametrize(
        ("rate", "expected"),
        [(30000 / 1001, Fraction(30000, 1001)), (25.0, Fraction(25)), (10.009, Fraction(10009, 1000))],
    )
    def test_a_rate_that_came_as_a_number_is_the_fraction_that_it_was(self, rate: float, expected: Fraction) -> None:
        assert NrSourceGeometry(64, 48, "yuv420p", rate, 1.0).probe().rate == expected

    @pytest.mark.parametrize("rate", [0.0, 0.5, 241.0, float("inf"), float("nan"), -24.0])
    def test_an_implausible_rate_is_refused(self, rate: float) -> None:
        with pytest.raises(ToolError, match="frame rate"):
            NrSourceGeometry(64, 48, "yuv420p", rate, 1.0).probe()

    def test_a_pixel_format_that_there_is_not_is_named(self) -> None:
        with pytest.raises(ToolError, match="yuv999p"):
            NrSourceGeometry(64, 48, "yuv999p", 24.0, 1.0).probe()

    def test_it_leads_to_the_working_format_of_the_engine(self, clip: Path) -> None:
        assert working_format(probe_geometry(clip).probe(), LIBX264) == working_format(GEOMETRY.probe(), LIBX264)


class TestCountFrames:
    WORKING = WorkingFormat(4, 2, "yuv420p", "format=yuv420p")

    def test_whole_frames_are_counted(self, tmp_path: Path) -> None:
        (tmp_path / "raw").write_bytes(bytes(36))
        assert count_frames(tmp_path / "raw", self.WORKING, "ffmpeg decode") == 3

    @pytest.mark.parametrize("size", [0, 6, 13, None])
    def test_anything_else_is_refused_with_its_size(self, size: int | None, tmp_path: Path) -> None:
        if size is not None:
            (tmp_path / "raw").write_bytes(bytes(size))
        with pytest.raises(ToolError, match=f"ffmpeg decode wrote {size or 0} bytes"):
            count_frames(tmp_path / "raw", self.WORKING, "ffmpeg decode")


class TestRunStep:
    def test_a_runner_may_leave_out_what_it_did_not_capture(self) -> None:
        done: subprocess.CompletedProcess[str] = subprocess.CompletedProcess(["true"], 0, None, None)
        result = run_step(lambda *_, **__: done, ["true"], "ffmpeg decode", SOURCE)
        assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)

    def test_subprocess_run_is_one(self) -> None:
        result = run_step(subprocess.run, ["sh", "-c", "echo out; echo aside >&2"], "ffmpeg decode", SOURCE)
        assert (result.stdout, result.stderr) == ("out\n", "aside\n")
        assert result.wall_s > 0

    def test_a_failure_says_tool_source_status_and_reason(self) -> None:
        with pytest.raises(ToolFailed, match=r"^vmaf failed for in\.mp4: status 3: no such model$") as failure:
            run_step(subprocess.run, ["sh", "-c", "echo no such model >&2; exit 3"], "vmaf", SOURCE)
        assert "command: sh -c" in failure.value.detail

    def test_a_program_that_is_missing_is_named(self) -> None:
        with pytest.raises(ToolFailed, match=r"^vmaf failed for .*: /nowhere could not be started: No such file"):
            run_step(subprocess.run, [f"{os.sep}nowhere"], "vmaf", SOURCE)
