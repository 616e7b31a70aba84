"""The libvmaf inside ffmpeg and Netflix's ``vmaf``: that they say the same, and what each must not do."""

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from frnr_assets.media.encode import encode_distortion
from frnr_assets.media.ffmpeg import FFmpeg, require_vmaf_model
from frnr_assets.media.process import Cancelled, TimeLimits, ToolError, ToolFailed, ToolResult, ToolRunner
from frnr_assets.media.reference import Excerpt, Reference, WorkingFormat
from frnr_assets.media.score import Score, score_distortions
from frnr_assets.media.toolchain import Toolchain, ToolSettings, encode_settings, open_toolchain
from frnr_assets.media.vmaf import VmafModel, VmafSettings, VmafTool, choose_models, vmaf_settings
from frnr_assets.media.vmaf_backends import build_vmaf_command, open_tool
from frnr_assets.vocabulary import CANONICAL6_FEATURES, EXTRA_FEATURES, UHD_LINES, UHD_VMAF_MODEL
from frnr_assets_tests.conftest import RULES, SMALL_SCENE, X264_UPLOAD, MakeClip
from frnr_assets_tests.media.conftest import DecodeClip, EncodeClip, PlainFFmpeg
from frnr_assets_tests.media.test_process import PATIENCE_S, Mailbox

FFV1 = ("-c:v", "ffv1", "-threads", "1")
# The smallest frames that are large enough for every extra feature.
ALL_DEFINED = (216, 176)
EVERYTHING = tuple(EXTRA_FEATURES)
# As libvmaf's log rounds.
TOLERANCE = 1e-6
ODD_NAME = 'it\'s a: "name" [1],x;\\|=é'


class ScoreClip(Protocol):
    def __call__(
        self,
        source: Path,
        reference: Reference,
        distortions: Sequence[Path],
        vmaf: VmafSettings,
        *,
        part: Excerpt | None = ...,
        scratch: Path | None = ...,
        runner: ToolRunner | None = ...,
        base_s: float = ...,
    ) -> list[Score]: ...


def scene(width: int = 64, height: int = 48, frames: int = 6, then: str = "") -> str:
    return f"testsrc2=size={width}x{height}:rate=24,trim=end_frame={frames},noise=alls=8:allf=t{then}"


@pytest.fixture
def score(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> ScoreClip:
    """Return a function that scores distortions; scratch folder, runner and time limit can be given."""

    def run(
        source: Path,
        reference: Reference,
        distortions: Sequence[Path],
        vmaf: VmafSettings,
        *,
        part: Excerpt | None = None,
        scratch: Path | None = None,
        runner: ToolRunner | None = None,
        base_s: float = 120.0,
    ) -> list[Score]:
        return score_distortions(
            source,
            reference,
            distortions,
            part=part,
            vmaf=vmaf,
            ffmpeg=toolchain.ffmpeg,
            runner=runner or toolchain.runner,
            limits=TimeLimits(base_s=base_s, per_megapixel_s=0),
            rules=RULES,
            scratch=scratch or tmp_path_factory.mktemp("score"),
        )

    return run


@pytest.fixture(scope="session")
def executable(runner: ToolRunner) -> VmafTool:
    """Netflix's vmaf with the arguments that it needs here."""
    if shutil.which("vmaf") is None:
        pytest.skip("Netflix's vmaf is not on PATH")
    return open_tool(VmafTool("vmaf"), choose_models("auto").models, runner)[0]


def with_tool(executable: VmafTool, *, model: str = "vmaf_v0.6.1", extras: Sequence[str] = ()) -> VmafSettings:
    """Settings that score with the executable as it was opened, not with the one that a name stands for."""
    return replace(vmaf_settings(model, extras, "cli"), tool=executable)


def values(score: Score) -> dict[str, Sequence[float]]:
    return {"vmaf": score.vmaf, **score.features, **score.extras}


def assert_same_scores(found: Sequence[Score], expected: Sequence[Score]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.model == other.model
        assert list(values(one)) == list(values(other))
        for name, of_frames in values(other).items():
            assert values(one)[name] == pytest.approx(of_frames, abs=TOLERANCE, rel=0), name


class TestTheExecutableAndTheFilterAgree:
    @pytest.mark.parametrize(
        ("size", "then", "pix_fmt"),
        [
            (ALL_DEFINED, ",format=yuv420p", "yuv420p"),
            (ALL_DEFINED, ",format=yuv420p10le", "yuv420p10le"),
            (ALL_DEFINED, ",format=yuv422p", "yuv422p"),
            (ALL_DEFINED, ",format=yuv422p10le", "yuv422p10le"),
            ((217, 177), ",format=yuv444p", "yuv444p"),
            ((217, 177), ",format=yuv420p", "yuv420p"),
            (ALL_DEFINED, ",format=gbrp", "yuv444p"),
        ],
        ids=["8 bit", "10 bit", "4:2:2", "4:2:2 in 10 bit", "odd 4:4:4", "odd, cropped", "RGB"],
    )
    def test_about_every_value_of_several_distortions_in_every_format(
        self,
        size: tuple[int, int],
        then: str,
        pix_fmt: str,
        make_clip: MakeClip,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        source = make_clip(tmp_path / "clip.mkv", scene(*size, frames=3, then=then), FFV1)
        reference = decode(source)
        assert reference.working.pix_fmt == pix_fmt
        distortions = [encode(source, reference, crf) for crf in (20, 40)]
        by_tool = score(source, reference, distortions, with_tool(executable, extras=EVERYTHING))
        by_filter = score(source, reference, distortions, vmaf_settings(extra_features=EVERYTHING))
        assert_same_scores(by_tool, by_filter)
        assert by_tool[0].vmaf_score > by_tool[1].vmaf_score
        assert len(by_tool[0].vmaf) == reference.frames
        assert set(by_tool[0].extras) == {column for name in EVERYTHING for column in EXTRA_FEATURES[name].columns}
        # It is the encodes that are distorted, and not the reference.
        assert by_tool[0].extras["psnr_y"] > by_tool[1].extras["psnr_y"]

    @pytest.mark.parametrize("width", [64, 136, 140, 196, 200, 332, 340])
    def test_at_widths_for_which_the_executables_fast_code_is_wrong(
        self,
        width: int,
        make_clip: MakeClip,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        source = make_clip(tmp_path / "clip.mkv", scene(width, 72, frames=3), FFV1)
        reference = decode(source)
        distortions = [encode(source, reference, 40)]
        expected = score(source, reference, distortions, vmaf_settings())
        assert_same_scores(score(source, reference, distortions, with_tool(executable)), expected)

    @pytest.mark.parametrize("model", ["vmaf_v0.6.1neg", "vmaf_4k_v0.6.1"])
    def test_with_another_model(
        self,
        model: str,
        make_clip: MakeClip,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        source = make_clip(tmp_path / "clip.mkv", scene(), FFV1)
        reference = decode(source)
        distortions = [encode(source, reference, 40)]
        (by_filter,) = score(source, reference, distortions, vmaf_settings(model))
        assert_same_scores(score(source, reference, distortions, with_tool(executable, model=model)), [by_filter])
        (usual,) = score(source, reference, distortions, vmaf_settings())
        assert by_filter.model == model
        assert by_filter.vmaf != usual.vmaf
        assert by_filter.features == usual.features

    def test_about_a_sample_of_the_centre(
        self,
        make_clip: MakeClip,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        executable: VmafTool,
        plain_ffmpeg: PlainFFmpeg,
        tmp_path: Path,
    ) -> None:
        source = make_clip(tmp_path / "clip.mkv", scene(frames=12), FFV1)
        reference = decode(source)
        distortion = tmp_path / "centre.mp4"
        plain_ffmpeg(
            "-i", encode(source, reference, 36), "-vf", "trim=start_frame=4:end_frame=9", "-qp", "0", distortion
        )
        part = Excerpt(4, 5, "sample_0.2s")
        by_tool = score(source, reference, [distortion], with_tool(executable), part=part)
        assert_same_scores(by_tool, score(source, reference, [distortion], vmaf_settings(), part=part))
        assert len(by_tool[0].vmaf) == 5
        (whole,) = score(source, reference, [encode(source, reference, 36)], vmaf_settings())
        # Only motion looks at other frames than its own.
        assert by_tool[0].features["vif_scale0"] == whole.features["vif_scale0"][4:9]

    @pytest.mark.parametrize("clip", ["ugc_192x144.mp4", "ugc_340x256.mp4"])
    def test_about_real_clips(
        self,
        clip: str,
        shared: Path,
        decode: DecodeClip,
        toolchain: Toolchain,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        source = shared / "clips" / clip
        reference = decode(source)
        settings = replace(toolchain.settings, preset="ultrafast", sample_clip_seconds=0.2)
        part = settings.part_of(reference)
        distortion = encode_distortion(
            source,
            reference,
            33,
            settings=settings,
            ffmpeg=toolchain.ffmpeg,
            runner=toolchain.runner,
            limits=toolchain.limits,
            rules=RULES,
            scratch=tmp_path,
        ).path
        by_tool = score(source, reference, [distortion], with_tool(executable), part=part)
        assert_same_scores(by_tool, score(source, reference, [distortion], vmaf_settings(), part=part))
        assert len(by_tool[0].vmaf) == part.frames > 1

    def test_about_a_clip_of_a_variable_rate(
        self,
        make_clip: MakeClip,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        upload = (*X264_UPLOAD, "-fps_mode", "vfr")
        source = make_clip(tmp_path / "clip.mp4", scene(frames=24, then=",select='lt(mod(n,8),2)'"), upload)
        reference = decode(source)
        assert reference.variable_frame_rate
        distortions = [encode(source, reference, 30)]
        by_tool = score(source, reference, distortions, with_tool(executable))
        assert_same_scores(by_tool, score(source, reference, distortions, vmaf_settings()))
        assert len(by_tool[0].vmaf) == reference.frames == 6

    def test_in_folders_with_names_that_mean_something_to_a_tool(
        self,
        make_clip: MakeClip,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        source = make_clip(tmp_path / ODD_NAME / f"{ODD_NAME}.mkv", scene(), FFV1)
        reference = decode(source)
        distortion = encode(source, reference, 30).rename(source.with_suffix(".mp4"))
        model = write_model(source.with_suffix(".json"))
        scores = []
        for name, settings in {"t": with_tool(executable, model=str(model)), "f": vmaf_settings(str(model))}.items():
            scratch = source.parent / f"{name}{ODD_NAME}"
            scratch.mkdir()
            scores.append(score(source, reference, [distortion], settings, scratch=scratch))
            assert scores[-1][0].model == choose_models(str(model)).of(48).name
        assert_same_scores(*scores)


class TestPipes:
    def test_nothing_but_logs_is_written_to_the_scratch_folder(
        self,
        make_clip: MakeClip,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        seen: dict[str, int] = {}

        class Watching(ToolRunner):
            """Looks into the folder whenever a program ends: the others run, or have just ended."""

            def run(self, argv: Sequence[str], **how: Any) -> ToolResult:
                result = super().run(argv, **how)
                seen.update({path.name: path.stat().st_size for path in scratch.iterdir()})
                return result

        source = make_clip(tmp_path / "clip.mkv", scene(200, 200, frames=12), FFV1)
        reference = decode(source)
        distortions = [encode(source, reference, crf) for crf in (20, 40)]
        scores = score(source, reference, distortions, with_tool(executable), scratch=scratch, runner=Watching())
        assert [len(each.vmaf) for each in scores] == [12, 12]
        progress = {f"{pair}.{leg}.progress" for pair in (0, 1) for leg in ("reference", "distortion")}
        assert set(seen) == {path.name for path in scratch.iterdir()} == {"0.json", "1.json", *progress}
        assert max(seen.values()) < reference.working.frame_bytes

    def test_scoring_leaves_no_descriptor_open_whether_it_works_or_not(
        self,
        make_clip: MakeClip,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        source = make_clip(tmp_path / "clip.mkv", scene(), FFV1)
        reference = decode(source)
        distortion = encode(source, reference, 30)
        before = descriptors()
        score(source, reference, [distortion], with_tool(executable))
        for broken, blamed in (("/no/such/vmaf", ToolError), ("/bin/true", ToolFailed), ("/bin/false", ToolFailed)):
            with pytest.raises(blamed):
                score(source, reference, [distortion], with_tool(VmafTool(broken)))
        with pytest.raises(ToolFailed):
            score(source, reference, [tmp_path / "gone.mp4"], with_tool(executable))
        assert descriptors() == before

    def test_pairs_are_scored_side_by_side(
        self,
        make_clip: MakeClip,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        # A pipe whose end another program inherits never ends.
        source = make_clip(tmp_path / "clip.mkv", scene(200, 200), FFV1)
        reference = decode(source)
        distortions = [encode(source, reference, crf) for crf in (20, 30, 40)]
        settings = with_tool(executable)
        with ThreadPoolExecutor(len(distortions)) as executor:
            found = list(executor.map(lambda path: score(source, reference, [path], settings)[0], distortions))
        assert_same_scores(found, score(source, reference, distortions, vmaf_settings()))


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the names, without opening the folder lazily


def working_in(folder: Path) -> list[str]:
    """The commands of the processes whose working folder it is; those that have ended have none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


class TestFailures:
    """What fails says why, at once, and leaves nothing running."""

    @pytest.fixture
    def scratch(self, tmp_path: Path) -> Path:
        folder = tmp_path / "scratch"
        folder.mkdir()
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
        # Its frames are more than a pipe holds, so that a program that nobody reads from would wait for ever.
        return make_clip(tmp_path_factory.mktemp("failures") / "clip.mkv", scene(200, 200, frames=12), FFV1)

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls, source: Path, decode: DecodeClip) -> Reference:
        return decode(source)

    @pytest.fixture(scope="class")
    @classmethod
    def distortion(cls, source: Path, reference: Reference, encode: EncodeClip, plain_ffmpeg: PlainFFmpeg) -> Path:
        """An encode with its index at the beginning, so that half of it is still the beginning of a video."""
        made = source.with_name("distortion.mp4")
        plain_ffmpeg("-i", encode(source, reference, 20), "-c", "copy", "-movflags", "+faststart", made)
        return made

    @pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "missing"])
    @pytest.mark.parametrize("place", ["first", "last"])
    def test_a_distortion_that_cannot_be_decoded_is_the_reason(
        self,
        damage: str,
        place: str,
        source: Path,
        reference: Reference,
        distortion: Path,
        scratch: Path,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        content = distortion.read_bytes()
        broken = tmp_path / "broken.mp4"
        if damage != "missing":
            damaged = {"truncated": content[: len(content) // 2], "garbage": b"<html>\n" * 9999, "empty": b""}
            broken.write_bytes(damaged[damage])
        distortions = [broken, distortion] if place == "first" else [distortion, broken]
        started = time.monotonic()
        with pytest.raises(ToolFailed, match=r"^decode for the score failed: ") as failure:
            score(source, reference, distortions, with_tool(executable), scratch=scratch, base_s=600)
        assert time.monotonic() - started < PATIENCE_S
        assert working_in(scratch) == []
        assert not failure.value.timed_out
        assert not failure.value.blameless
        assert str(broken) in failure.value.detail
        assert ("No such file" in failure.value.reason) == (damage == "missing")
        assert "Broken pipe" not in failure.value.reason

    def test_a_source_that_went_away_is_the_reason(
        self,
        reference: Reference,
        distortion: Path,
        scratch: Path,
        score: ScoreClip,
        executable: VmafTool,
        tmp_path: Path,
    ) -> None:
        gone = tmp_path / "gone.mkv"
        with pytest.raises(ToolFailed, match=r"^it could not be read: No such file"):
            score(gone, reference, [distortion], with_tool(executable), scratch=scratch, base_s=600)
        assert working_in(scratch) == []

    @pytest.mark.parametrize("backend", ["libvmaf", "cli"])
    @pytest.mark.parametrize(
        "other",
        [scene(200, 200, frames=13), scene(200, 200, frames=40), scene(208, 200, frames=12)],
        ids=["one frame more", "many frames more", "another size"],
    )
    def test_a_video_that_is_no_distortion_of_the_reference_has_no_score(
        self,
        backend: str,
        other: str,
        source: Path,
        reference: Reference,
        scratch: Path,
        score: ScoreClip,
        make_clip: MakeClip,
        tmp_path: Path,
        request: pytest.FixtureRequest,
    ) -> None:
        settings = vmaf_settings() if backend == "libvmaf" else with_tool(request.getfixturevalue("executable"))
        wrong = make_clip(tmp_path / "wrong.mkv", other, FFV1)
        with pytest.raises(ToolFailed, match=r"^(decode for the )?score failed: "):
            score(source, reference, [wrong], settings, scratch=scratch)
        assert working_in(scratch) == []

    def test_an_executable_that_refuses_is_quoted(
        self,
        source: Path,
        reference: Reference,
        distortion: Path,
        scratch: Path,
        score: ScoreClip,
        executable: VmafTool,
    ) -> None:
        with pytest.raises(ToolFailed, match=r"^score failed: .*model.*v9") as failure:
            score(source, reference, [distortion], with_tool(executable, model="vmaf_v9"), scratch=scratch, base_s=600)
        assert "--model version=vmaf_v9" in failure.value.detail
        assert working_in(scratch) == []

    @pytest.mark.parametrize(
        ("script", "reason"),
        [
            ("echo 'out of luck' >&2; exit 3", r"^score failed: out of luck$"),
            ("kill -SEGV $$", r"^score failed: vmaf was ended by signal 11$"),
            ("exit 0", r"^score failed: vmaf stopped before the last frame$"),
            ('cat "$2" >/dev/null & cat "$4" >/dev/null; wait', r"^score failed: .*No such file.*0\.json"),
        ],
        ids=["says why", "crashes", "gives up silently", "writes no log"],
    )
    def test_an_executable_that_fails_is_the_reason_and_nobody_waits_for_it(
        self,
        script: str,
        reason: str,
        source: Path,
        reference: Reference,
        distortion: Path,
        scratch: Path,
        score: ScoreClip,
        tmp_path: Path,
    ) -> None:
        tool = VmafTool(str(write_script(tmp_path / "vmaf", script)))
        with pytest.raises(ToolFailed, match=reason) as failure:
            score(source, reference, [distortion], with_tool(tool), scratch=scratch, base_s=600)
        assert failure.value.result is not None
        assert failure.value.result.argv[0] == tool.path
        assert working_in(scratch) == []

    @pytest.fixture
    def hanging(self, tmp_path: Path) -> Iterator[tuple[VmafTool, Mailbox]]:
        """A vmaf that reads a little of both pipes, says so, and then never ends."""
        mailbox = Mailbox(tmp_path / "mailbox")
        script = f'head -c 9 "$2" >/dev/null; head -c 9 "$4" >/dev/null; echo $$ > {shlex.quote(str(mailbox.path))}; '
        yield VmafTool(str(write_script(tmp_path / "vmaf", f"{script} exec sleep 600"))), mailbox
        mailbox.close()

    def test_cancel_ends_all_three_programs_of_a_score(
        self,
        hanging: tuple[VmafTool, Mailbox],
        source: Path,
        reference: Reference,
        distortion: Path,
        scratch: Path,
        score: ScoreClip,
    ) -> None:
        tool, mailbox = hanging
        runner = ToolRunner()
        before = descriptors()
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(
                score, source, reference, [distortion] * 2, with_tool(tool), scratch=scratch, runner=runner, base_s=600
            )
            mailbox.process_number()
            running = working_in(scratch)
            runner.cancel()
            with pytest.raises(Cancelled):
                future.result(timeout=PATIENCE_S)
        assert len(running) == 3, running
        assert working_in(scratch) == []
        assert descriptors() == before

    def test_a_time_limit_ends_all_three_programs_of_a_score(
        self,
        hanging: tuple[VmafTool, Mailbox],
        source: Path,
        reference: Reference,
        distortion: Path,
        scratch: Path,
        score: ScoreClip,
    ) -> None:
        tool, _ = hanging
        with pytest.raises(ToolFailed, match=r"its time limit$") as failure:
            score(source, reference, [distortion], with_tool(tool), scratch=scratch, base_s=0.5)
        assert failure.value.timed_out
        assert working_in(scratch) == []


def write_script(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# A vmaf that computes another ADM where its fast code is wrong: unless --cpumask leaves only the portable one.
FAKE_VMAF = """
import json, sys
args = sys.argv[1:]
width = int(args[args.index("--width") + 1])
adm2 = 0.9 if "24" in args or not ({wrong}) else 0.9 - {error}
frames = [{{"frameNum": number, "metrics": {{"integer_adm2": adm2, "vmaf": 50.0}}}} for number in range(2)]
with open(args[args.index("--output") + 1], "w") as log:
    json.dump({{"version": "3.2.0-fake", "fps": None, "frames": frames}}, log)
"""


def further_arguments(tool: VmafTool) -> list[str]:
    """What a score passes to the executable beside what it passes to every one."""
    working = WorkingFormat(64, 48, "yuv420p", "")
    of_any, of_this = (
        build_vmaf_command(each, "r", "d", working, model="version=m", extractors=("adm",), log="l")
        for each in (VmafTool(tool.path), tool)
    )
    assert of_this[: len(of_any)] == of_any
    return of_this[len(of_any) :]


class TestOpening:
    @pytest.fixture
    def fake(self, tmp_path: Path) -> Callable[..., VmafTool]:
        """Return a function that makes a fake vmaf: for which widths its fast code is wrong, by how much, arguments."""

        def make(wrong: str, error: float = 0.01, args: Sequence[str] = ()) -> VmafTool:
            program = tmp_path / "fake.py"
            program.write_text(FAKE_VMAF.format(wrong=wrong, error=error))
            script = f'exec {shlex.quote(sys.executable)} -IS {shlex.quote(str(program))} "$@"'
            return VmafTool(str(write_script(tmp_path / "vmaf", script)), tuple(args))

        return make

    @pytest.mark.parametrize("wrong", ["True", "width % 64 == 8", "width % 64 in (12, 20)", "width > 333"])
    def test_one_whose_fast_code_is_wrong_at_some_widths_has_to_do_without_it(
        self, wrong: str, fake: Callable[..., VmafTool], runner: ToolRunner
    ) -> None:
        opened, version = open_tool(fake(wrong), choose_models("vmaf_v0.6.1").models, runner)
        assert further_arguments(opened) == ["--cpumask", "24"]
        assert version == "3.2.0-fake"

    def test_the_arguments_that_were_configured_stay(self, fake: Callable[..., VmafTool], runner: ToolRunner) -> None:
        tool = fake("True", args=("--threads", "2"))
        opened, _ = open_tool(tool, choose_models("vmaf_v0.6.1").models, runner)
        assert further_arguments(opened) == ["--threads", "2", "--cpumask", "24"]

    @pytest.mark.parametrize(("wrong", "error"), [("False", 0.0), ("True", 1e-6)], ids=["exact", "to the last digit"])
    def test_one_whose_fast_code_agrees_may_use_it(
        self, wrong: str, error: float, fake: Callable[..., VmafTool], runner: ToolRunner
    ) -> None:
        tool = fake(wrong, error, ("--threads=2",))
        opened, _ = open_tool(tool, choose_models("vmaf_v0.6.1").models, runner)
        assert further_arguments(opened) == list(tool.args)

    @pytest.mark.parametrize(
        "args",
        [
            *(("--cpumask", "0"), ("--cpumask=0",), ("--cpum", "0"), ("--threads", "2", "--cpumask", "8")),
            *(("--backend", "cuda"), ("--backend=cuda",), ("--back", "cuda")),
        ],
        ids=" ".join,
    )
    def test_who_chooses_the_code_gets_it(
        self, args: Sequence[str], fake: Callable[..., VmafTool], runner: ToolRunner
    ) -> None:
        tool = fake("True", args=args)
        opened, _ = open_tool(tool, choose_models("vmaf_v0.6.1").models, runner)
        assert further_arguments(opened) == list(tool.args)

    @pytest.mark.parametrize("path", ["/no/such/vmaf", "no-such-vmaf", "/"])
    def test_a_missing_one_is_named_with_what_to_do(self, path: str, runner: ToolRunner) -> None:
        with pytest.raises(
            ToolError,
            match=rf"^{path} is not an executable file; install Netflix's vmaf or set vmaf_path, or use vmaf_backend",
        ):
            open_tool(VmafTool(path), choose_models("vmaf_v0.6.1").models, runner)

    @pytest.mark.parametrize(
        "script",
        [
            "exit 0",
            "exit 1",
            "echo '{}' > 0.json",
            "echo nonsense > 0.json",
            "echo '[]' > 0.json",
            """echo '{"version": "3.2.0", "frames": []}' > 0.json""",
            """echo '{"version": "3.2.0", "frames": [{"frameNum": 0, "metrics": {}}]}' > 0.json; exit 1""",
        ],
        ids=["nothing", "status 1", "empty", "no JSON", "a list", "no frame", "status 1 after all"],
    )
    def test_another_program_of_that_name_is_not_taken_for_it(
        self, script: str, runner: ToolRunner, tmp_path: Path
    ) -> None:
        tool = VmafTool(str(write_script(tmp_path / "vmaf", script)))
        with pytest.raises(ToolError, match=rf"^{tool.path} does not work as vmaf: .*--reference"):
            open_tool(tool, choose_models("vmaf_v0.6.1").models, runner)

    def test_another_program_is_refused_with_what_to_do(self, runner: ToolRunner) -> None:
        with pytest.raises(ToolError, match=r"^/bin/true does not work as vmaf: .*vmaf_path"):
            open_tool(VmafTool("/bin/true"), choose_models("vmaf_v0.6.1").models, runner)

    def test_one_that_hangs_holds_nobody_up_for_ever(
        self, runner: ToolRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("frnr_assets.media.vmaf_backends.INSPECT_TIMEOUT_S", 0.3)
        tool = VmafTool(str(write_script(tmp_path / "vmaf", "exec sleep 600")))
        with pytest.raises(ToolError, match="its time limit"):
            open_tool(tool, choose_models("vmaf_v0.6.1").models, runner)

    def test_a_model_or_an_argument_that_it_does_not_know_is_named(
        self, executable: VmafTool, runner: ToolRunner, tmp_path: Path
    ) -> None:
        with pytest.raises(ToolError, match=r"/vmaf has no model vmaf_v9\.9\.9, or cannot read it: "):
            open_tool(executable, choose_models("vmaf_v9.9.9").models, runner)
        nonsense = tmp_path / "nonsense.json"
        nonsense.write_text("{}")
        with pytest.raises(ToolError, match=r"/vmaf has no model nonsense\.json@[0-9a-f]{8}, or cannot read it: "):
            open_tool(executable, choose_models(str(nonsense)).models, runner)
        with pytest.raises(ToolError, match=r"^vmaf_args: .*--no-such-option"):
            open_tool(VmafTool("vmaf", ("--no-such-option",)), choose_models("vmaf_v0.6.1").models, runner)

    def test_all_models_that_may_be_used_are_tried(self, executable: VmafTool, runner: ToolRunner) -> None:
        models = (*choose_models("vmaf_v0.6.1").models, VmafModel("vmaf_v9"), *choose_models("auto").models)
        with pytest.raises(ToolError, match=r"has no model vmaf_v9"):
            open_tool(executable, models, runner)

    def test_a_toolchain_scores_with_the_executable_as_it_was_opened(
        self, fake: Callable[..., VmafTool], runner: ToolRunner
    ) -> None:
        tool = fake("True")
        settings = ToolSettings(
            encode_settings("libx264", "medium", (), (23,)), vmaf_settings(backend="cli", path=tool.path)
        )
        opened = open_toolchain(settings, runner)
        assert opened.vmaf.tool is not None
        assert further_arguments(opened.vmaf.tool) == ["--cpumask", "24"]
        assert opened.libvmaf_version == "3.2.0-fake"


# Two features of the usual model and one that it has not, each with a weight; the score is their sum.
MODEL_WEIGHTS = {"adm2": 60.0, "vif_scale0": 30.0, "vif_scale3": -10.0}
MODEL_OFFSET = 12.0
# A term of a rounded feature is off by half of its last digit times the weight.
MODEL_TOLERANCE = sum(map(abs, MODEL_WEIGHTS.values())) * TOLERANCE


def write_model(path: Path, prefix: str = "integer_feature", offset: float = MODEL_OFFSET) -> Path:
    """A VMAF model whose score is a sum that can be worked out by hand; a regression with one support vector."""
    vector = " ".join(f"{place}:{weight}" for place, weight in enumerate(MODEL_WEIGHTS.values(), 1))
    svm = f"svm_type nu_svr\nkernel_type linear\nnr_class 2\ntotal_sv 1\nrho {-offset}\nSV\n1 {vector} \n"
    model = {
        "model": svm,
        "model_type": "LIBSVMNUSVR",
        "norm_type": "linear_rescale",
        # The first is the score's.
        "slopes": [1.0] * (len(MODEL_WEIGHTS) + 1),
        "intercepts": [0.0] * (len(MODEL_WEIGHTS) + 1),
        "score_clip": [0.0, 100.0],
        "feature_names": [f"VMAF_{prefix}_{name}_score" for name in MODEL_WEIGHTS],
        "feature_dict": {},
    }
    path.write_text(json.dumps({"param_dict": {}, "model_dict": model}))
    return path


def expected_of_model(features: Score) -> list[float]:
    frames = range(len(features.vmaf))
    terms = {name: features.features[name] for name in MODEL_WEIGHTS}
    return [MODEL_OFFSET + sum(weight * terms[name][i] for name, weight in MODEL_WEIGHTS.items()) for i in frames]


class TestModelFiles:
    @pytest.fixture
    def source(self, make_clip: MakeClip, tmp_path: Path) -> Path:
        return make_clip(tmp_path / "clip.mp4", scene(frames=8))

    @pytest.fixture
    def reference(self, source: Path, decode: DecodeClip) -> Reference:
        return decode(source)

    @pytest.fixture
    def distortions(self, source: Path, reference: Reference, encode: EncodeClip) -> list[Path]:
        return [encode(source, reference, crf) for crf in (24, 44)]

    @pytest.mark.parametrize("backend", ["libvmaf", "cli"])
    def test_a_score_is_what_the_model_says_and_the_features_are_what_they_were(
        self,
        backend: str,
        source: Path,
        reference: Reference,
        distortions: list[Path],
        score: ScoreClip,
        tmp_path: Path,
        request: pytest.FixtureRequest,
    ) -> None:
        model = str(write_model(tmp_path / "ours.json"))
        settings = vmaf_settings(model)
        if backend == "cli":
            settings = with_tool(request.getfixturevalue("executable"), model=model)
        usual = score(source, reference, distortions, vmaf_settings())
        for ours, other in zip(score(source, reference, distortions, settings), usual, strict=True):
            assert ours.vmaf == pytest.approx(expected_of_model(other), abs=MODEL_TOLERANCE, rel=0)
            assert ours.vmaf != other.vmaf
            assert ours.features == other.features
            assert ours.model.startswith("ours.json@")

    @pytest.mark.parametrize("prefix", ["integer_feature", "feature"], ids=["fixed point", "floating point"])
    def test_a_rows_features_do_not_depend_on_how_the_model_computes_its_own(
        self,
        prefix: str,
        source: Path,
        reference: Reference,
        distortions: list[Path],
        score: ScoreClip,
        tmp_path: Path,
    ) -> None:
        model = write_model(tmp_path / "ours.json", prefix)
        usual = score(source, reference, distortions, vmaf_settings())
        ours = score(source, reference, distortions, vmaf_settings(str(model)))
        assert [dict(each.features) for each in ours] == [dict(each.features) for each in usual]

    def test_a_changed_file_gives_other_scores_under_another_name(
        self, source: Path, reference: Reference, distortions: list[Path], score: ScoreClip, tmp_path: Path
    ) -> None:
        path = tmp_path / "ours.json"
        before, after = (
            score(source, reference, distortions, vmaf_settings(str(write_model(path, offset=offset))))[1]
            for offset in (MODEL_OFFSET, MODEL_OFFSET - 5)
        )
        assert before.model != after.model
        assert before.vmaf == pytest.approx([value + 5 for value in after.vmaf], abs=2 * TOLERANCE, rel=0)

    def test_scores_stay_within_the_bounds_that_the_model_has(
        self, source: Path, reference: Reference, distortions: list[Path], score: ScoreClip, tmp_path: Path
    ) -> None:
        model = write_model(tmp_path / "ours.json", offset=500.0)
        assert score(source, reference, distortions[:1], vmaf_settings(str(model)))[0].vmaf == (100.0,) * 8

    @pytest.mark.parametrize(
        "damage",
        [
            lambda _: "",
            lambda _: "{}",
            lambda _: "no JSON",
            lambda _: '{"encoder": "libx264"}',
            lambda model: model.replace("nu_svr", "svr"),
            lambda model: model[: len(model) // 4],
            # libvmaf itself takes what it has read so far for the model.
            lambda model: model[: len(model) // 2],
            lambda model: model[:-9],
        ],
        ids=["empty", "{}", "text", "other JSON", "misspelt", "a quarter", "half", "all but the end"],
    )
    def test_a_file_that_is_no_model_is_named_before_anything_is_scored(
        self, damage: Callable[[str], str], ffmpeg: FFmpeg, runner: ToolRunner, tmp_path: Path
    ) -> None:
        bad = write_model(tmp_path / "ours.json")
        assert require_vmaf_model(ffmpeg, choose_models(str(bad)).of(48), runner)
        bad.write_text(damage(bad.read_text()))
        with pytest.raises(ToolError, match=rf"^vmaf_model: {bad}"):
            require_vmaf_model(ffmpeg, choose_models(str(bad)).of(48), runner)

    def test_auto_scores_each_clip_with_the_model_of_its_height(
        self, make_clip: MakeClip, decode: DecodeClip, encode: EncodeClip, score: ScoreClip, tmp_path: Path
    ) -> None:
        models = []
        for lines in (UHD_LINES - 2, UHD_LINES):
            source = make_clip(tmp_path / f"{lines}.mkv", scene(32, lines, frames=2), FFV1)
            reference = decode(source)
            distortion = encode(source, reference, 35)
            (auto,) = score(source, reference, [distortion], vmaf_settings("auto"))
            models.append(auto.model)
            (explicit,) = score(source, reference, [distortion], vmaf_settings(auto.model))
            assert auto.vmaf == explicit.vmaf
        assert models == ["vmaf_v0.6.1", UHD_VMAF_MODEL]


class TestExtraFeatures:
    @pytest.fixture
    def source(self, make_clip: MakeClip, tmp_path: Path) -> Path:
        return make_clip(tmp_path / "clip.mkv", scene(*ALL_DEFINED, frames=3), FFV1)

    @pytest.mark.parametrize("backend", ["libvmaf", "cli"])
    @pytest.mark.parametrize("feature", EVERYTHING)
    def test_a_distortion_that_is_identical_has_the_best_value_of_each_or_none(
        self,
        feature: str,
        backend: str,
        source: Path,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        request: pytest.FixtureRequest,
    ) -> None:
        settings = vmaf_settings(extra_features=(feature,))
        if backend == "cli":
            settings = with_tool(request.getfixturevalue("executable"), extras=(feature,))
        reference = decode(source)
        identical, worse = score(source, reference, [source, encode(source, reference, 40)], settings)
        assert tuple(identical.extras) == EXTRA_FEATURES[feature].columns
        if feature in {"psnr_hvs", "ciede"}:
            # Their logarithms have no bound where nothing differs, and none is made up.
            assert set(identical.extra_moments().values()) == {(None, None)}
            return
        for column, of_frames in identical.extras.items():
            # CAMBI counts banding, of which a clip has as much as it has.
            if feature != "cambi":
                assert min(of_frames) > max(worse.extras[column]), column
        for mean, std in identical.extra_moments().values():
            assert mean is not None
            assert abs(mean) < 1000
            assert std == 0

    @pytest.mark.parametrize(
        "look",
        ["testsrc2=size=64x48:rate=24,hue=s=0", "color=black:size=64x48:rate=24", SMALL_SCENE + ",fade=in:2:6"],
        ids=["without colour", "black", "fades in"],
    )
    def test_a_clip_with_planes_that_the_encode_keeps_exactly_has_all_its_values(
        self, look: str, make_clip: MakeClip, decode: DecodeClip, encode: EncodeClip, score: ScoreClip, tmp_path: Path
    ) -> None:
        source = make_clip(tmp_path / "clip.mkv", f"{look},trim=end_frame=8,format=yuv420p", FFV1)
        reference = decode(source)
        defined = ("psnr", "psnr_hvs", "ssim", "ciede")
        (found,) = score(source, reference, [encode(source, reference, 28)], vmaf_settings(extra_features=defined))
        assert set(found.extras) == {column for name in defined for column in EXTRA_FEATURES[name].columns}

    def test_they_change_nothing_about_the_score(
        self, source: Path, decode: DecodeClip, encode: EncodeClip, score: ScoreClip
    ) -> None:
        reference = decode(source)
        distortions = [encode(source, reference, 30)]
        (without,) = score(source, reference, distortions, vmaf_settings())
        (with_all,) = score(source, reference, distortions, vmaf_settings(extra_features=EVERYTHING))
        assert (with_all.vmaf, with_all.features) == (without.vmaf, without.features)
        assert without.extras == {}

    @pytest.mark.parametrize("backend", ["libvmaf", "cli"])
    @pytest.mark.parametrize(
        ("size", "left_out"),
        [
            ((64, 48), {"float_ms_ssim", "cambi"}),
            ((17, 17), {"float_ms_ssim", "cambi"}),
            ((214, 176), {"cambi"}),
            ((216, 174), {"float_ms_ssim"}),
            ((174, 216), {"float_ms_ssim"}),
            ((176, 216), set[str]()),
        ],
        ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else None,
    )
    def test_a_clip_that_is_too_small_for_some_has_the_others_and_its_score(
        self,
        size: tuple[int, int],
        left_out: set[str],
        backend: str,
        make_clip: MakeClip,
        decode: DecodeClip,
        encode: EncodeClip,
        score: ScoreClip,
        tmp_path: Path,
        request: pytest.FixtureRequest,
    ) -> None:
        settings = vmaf_settings(extra_features=EVERYTHING)
        if backend == "cli":
            settings = with_tool(request.getfixturevalue("executable"), extras=EVERYTHING)
        source = make_clip(tmp_path / "clip.mkv", scene(*size, frames=2, then=",format=yuv444p"), FFV1)
        reference = decode(source)
        (found,) = score(source, reference, [encode(source, reference, 35)], settings)
        columns = {column for name in EVERYTHING for column in EXTRA_FEATURES[name].columns}
        assert set(found.extras) == columns - left_out
        assert set(found.features) == set(CANONICAL6_FEATURES)
        assert found.vmaf_score > 0
