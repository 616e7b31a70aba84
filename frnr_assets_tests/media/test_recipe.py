"""The commands that a dataset card shows: typed into a shell, they make what the platform has made."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from frnr_assets.media.encode import DISTORTION_FILE
from frnr_assets.media.recipe import recipe_commands
from frnr_assets.media.score import read_vmaf_log, score_distortions
from frnr_assets.media.toolchain import Toolchain
from frnr_assets.media.vmaf import VmafTool
from frnr_assets_tests.conftest import RULES, MakeClip
from frnr_assets_tests.media.conftest import DecodeClip, EncodeClip


@pytest.fixture
def source(make_clip: MakeClip, tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4")


def test_the_commands_of_a_card_make_the_encode_and_the_score_of_the_rows(
    source: Path, decode: DecodeClip, encode: EncodeClip, toolchain: Toolchain, tmp_path: Path
) -> None:
    reference = decode(source)
    commands = recipe_commands(reference, [(toolchain.settings, 28)], toolchain.vmaf, RULES)
    assert len(commands) == 3
    path, scratch, ours = tmp_path / "bin", tmp_path / "scratch", tmp_path / "ours"
    for folder in (path, scratch, ours):
        folder.mkdir()
    (path / "ffmpeg").symlink_to(toolchain.ffmpeg.path)
    said = ""
    for command in commands:
        done = subprocess.run(
            ["bash", "-ec", command.replace("< SOURCE", f"< {source}").replace("/SCRATCH", str(scratch))],
            cwd=scratch,
            env={**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout
    assert f"MD5={reference.frames_md5}" in said
    made = encode(source, reference, 28)
    assert (scratch / DISTORTION_FILE).read_bytes() == made.read_bytes()
    (score,) = score_distortions(
        source,
        reference,
        [made],
        vmaf=toolchain.vmaf,
        ffmpeg=toolchain.ffmpeg,
        runner=toolchain.runner,
        limits=toolchain.limits,
        rules=RULES,
        scratch=ours,
    )
    assert read_vmaf_log(scratch / "0.json", reference.frames).vmaf == score.vmaf


def test_each_recipe_of_a_clip_has_its_command(source: Path, decode: DecodeClip, toolchain: Toolchain) -> None:
    film = replace(toolchain.settings, extra_params=("-tune", "film"))
    _, plain, tuned, _ = recipe_commands(decode(source), [(toolchain.settings, 18), (film, 38)], toolchain.vmaf, RULES)
    assert " -crf 18 " in plain
    assert " -crf 38 " in tuned
    assert "-tune film" in tuned


def test_a_score_with_the_vmaf_executable_is_shown_as_it_is_run(
    source: Path, decode: DecodeClip, toolchain: Toolchain
) -> None:
    vmaf = replace(toolchain.vmaf, tool=VmafTool("/opt/tools/vmaf", ("--threads", "2")))
    score = recipe_commands(decode(source), [(toolchain.settings, 18)], vmaf, RULES)[-1]
    assert score.startswith("vmaf --reference REFERENCE --distorted DISTORTION --width 64 --height 48")
    assert "--threads 2" in score
    assert "/opt" not in score
