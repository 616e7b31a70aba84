"""Damaged clips give right rows or refusals; and whoever says so can be relied on."""

import math
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.process import TimeLimits, ToolRunner
from frnr_assets.media.toolchain import Toolchain
from fuzz import __main__ as command
from fuzz.__main__ import main
from fuzz.clips import FRAMES, make_clips
from fuzz.judge import Row, SecondOpinion, offences_of, second_opinion
from fuzz.layout import parts_of
from fuzz.mutations import KINDS, Mutation, mutate
from fuzz.trial import Outcome, make_row, open_tools, try_mutation

Clips = dict[str, bytes]

SEED, MUTATIONS = 0, 60


def unharmed(name: str, clips: Clips) -> Mutation:
    return Mutation(SEED, 1, name, (), (), clips[name])


@pytest.fixture(scope="module")
def clips(ffmpeg: FFmpeg, runner: ToolRunner, tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return make_clips(tmp_path_factory.mktemp("clips"), ffmpeg, runner)


@pytest.fixture
def tools(tmp_path: Path) -> Toolchain:
    return open_tools(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that nothing may be left in."""
    path = tmp_path / "trial"
    path.mkdir()
    return path


def test_damaged_clips_give_right_rows_or_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", str(SEED), "--mutations", str(MUTATIONS), "--output", str(tmp_path / "offenders")]) == 0
    totals = re.search(r"^all +(\d+) \(.*?\) +(\d+) ", capsys.readouterr().out, re.MULTILINE)
    assert totals, "there is a table"
    rows, refusals = map(int, totals.groups())
    assert min(rows, refusals) >= MUTATIONS // 4, "damage of both sorts: found early, and not found at all"


def test_every_clip_that_is_damaged_is_a_good_one_before(clips: Clips, tools: Toolchain, folder: Path) -> None:
    outcomes = [try_mutation(unharmed(name, clips), tools, folder) for name in clips]
    assert [(outcome.stage, outcome.offences, outcome.reason) for outcome in outcomes] == [("row", (), "")] * len(clips)
    assert not list(folder.iterdir())


def test_a_mutation_can_be_made_again_from_its_seed_and_number(
    clips: Clips, ffmpeg: FFmpeg, runner: ToolRunner, tmp_path: Path
) -> None:
    again = make_clips(tmp_path, ffmpeg, runner)
    mutations = [mutate(clips, SEED, number) for number in range(100)]
    assert [mutate(again, SEED, number) for number in range(100)] == mutations
    others = [mutate(clips, SEED + 1, number).data for number in range(100)]
    assert sum(one.data == other for one, other in zip(mutations, others, strict=True)) < 5


def test_all_kinds_of_damage_are_done(clips: Clips) -> None:
    harmed = [
        mutation for number in range(400) if (mutation := mutate(clips, SEED, number)).data != clips[mutation.clip]
    ]
    assert len(harmed) > 380
    assert {kind for mutation in harmed for kind in mutation.kinds} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        pytest.param("h264.mp4", {"ftyp": 1, "mdat": 1, "avcC": 1, "stsz": 1}, id="mp4"),
        pytest.param("fragments.mp4", {"moof": 3, "trun": 3, "mdat": 3, "tfra": 1}, id="fragments"),
        pytest.param("vp9.webm", {"18538067": 1, "1f43b675": 1, "a3": FRAMES}, id="matroska"),
        pytest.param("mjpeg.avi", {"RIFF": 1, "strf": 1, "00dc": FRAMES, "idx1": 1}, id="avi"),
        pytest.param("mpeg2.ts", {"table": 9}, id="mpegts"),
    ],
)
def test_damage_is_done_to_the_parts_of_a_file_and_not_blindly(name: str, parts: dict[str, int], clips: Clips) -> None:
    found = parts_of(name, clips[name])
    assert parts.items() <= Counter(part.name for part in found).items()
    assert any(part.is_media for part in found)
    assert max(part.end for part in found) == len(clips[name]), "to the end of the file"


@pytest.fixture(scope="module")
def judged(clips: Clips, tmp_path_factory: pytest.TempPathFactory) -> tuple[Row, SecondOpinion]:
    """A right row, and what a plain ffmpeg says of it."""
    folder = tmp_path_factory.mktemp("judged")
    source = folder / "h264.mp4"
    source.write_bytes(clips["h264.mp4"])
    tools = open_tools(folder)
    row = make_row(source, tools, folder)
    (folder / "judge").mkdir()
    return row, second_opinion(tools.ffmpeg.path, source, row, folder / "judge")


def with_frames(row: Row, frames: int) -> Row:
    return replace(row, reference=replace(row.reference, frames=frames))


def with_vmaf(row: Row, *values: float) -> Row:
    return replace(row, score=replace(row.score, vmaf=(*values, *row.score.vmaf[len(values) :])))


def with_feature(row: Row, name: str, values: tuple[float, ...]) -> Row:
    return replace(row, score=replace(row.score, features={**row.score.features, name: values}))


def with_encoded_frames(row: Row, frames: int) -> Row:
    statistics = replace(row.distortion.statistics, frames=frames)
    return replace(row, distortion=replace(row.distortion, statistics=statistics))


@pytest.mark.parametrize(
    ("change", "offence"),
    [
        pytest.param(lambda row: with_frames(row, FRAMES - 1), "7 frames, a plain decode 8", id="a frame lost"),
        pytest.param(
            lambda row: replace(row, reference=replace(row.reference, frames_md5="0" * 32)), "not those", id="pictures"
        ),
        pytest.param(lambda row: with_encoded_frames(row, FRAMES + 1), "the encode 9", id="an encode of other length"),
        pytest.param(lambda row: with_vmaf(row, math.nan), "vmaf has a value outside", id="not a number"),
        pytest.param(lambda row: with_vmaf(row, 100.1), "vmaf has a value outside", id="better than perfect"),
        pytest.param(lambda row: with_vmaf(row, 50.0), "vmaf is different", id="another score"),
        pytest.param(lambda row: with_feature(row, "adm2", (0.9,) * 7), "adm2 has 7 values for 8", id="a value lost"),
        pytest.param(
            lambda row: with_feature(row, "motion2", row.score.features["motion2"][::-1]),
            "motion2 is different",
            id="frames out of order",
        ),
    ],
)
def test_a_wrong_row_is_found(change: Callable[[Row], Row], offence: str, judged: tuple[Row, SecondOpinion]) -> None:
    row, opinion = judged
    assert offences_of(row, opinion) == []
    assert any(offence in found for found in offences_of(change(row), opinion))


def test_damage_that_nobody_was_told_of_is_found(judged: tuple[Row, SecondOpinion]) -> None:
    row, opinion = judged
    complaining = replace(opinion, complaints=("concealing 12 errors",))
    (offence,) = offences_of(row, complaining)
    assert "concealing 12 errors" in offence
    told = replace(row, reference=replace(row.reference, decode_errors=("concealing 12 errors",)))
    assert offences_of(told, complaining) == []


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param("touch ../stray", "it left stray outside its scratch folders", id="a file elsewhere"),
        pytest.param("sleep 5 > /dev/null 2>&1 &", "it left a process behind", id="a process that stays"),
        pytest.param("printf x >> ../h264.mp4", "it changed the clip", id="a clip that is written to"),
    ],
)
def test_a_tool_that_does_more_than_its_work_is_found(
    before: str, expected: str, clips: Clips, tools: Toolchain, folder: Path, tmp_path: Path
) -> None:
    tools = replace(tools, ffmpeg=around(tools.ffmpeg, before, tmp_path))
    assert expected in try_mutation(unharmed("h264.mp4", clips), tools, folder).offences


def around(ffmpeg: FFmpeg, before: str, folder: Path) -> FFmpeg:
    """An ffmpeg that does something before it encodes."""
    script = folder / "ffmpeg"
    script.write_text(f'#!/bin/sh\ncase "$*" in *" -crf "*) {before} ;; esac\nexec {ffmpeg.path} "$@"\n')
    script.chmod(0o755)
    return replace(ffmpeg, path=script)


def test_a_tool_that_crashes_is_counted_and_no_offence(
    clips: Clips, tools: Toolchain, folder: Path, tmp_path: Path
) -> None:
    tools = replace(tools, ffmpeg=around(tools.ffmpeg, "kill -SEGV $$", tmp_path))
    outcome = try_mutation(unharmed("h264.mp4", clips), tools, folder)
    assert (outcome.stage, outcome.refusal, outcome.signal, outcome.offences) == ("encode", "ToolFailed", 11, ())


def test_an_exception_that_is_no_refusal_is_found(clips: Clips, tools: Toolchain, folder: Path) -> None:
    outcome = try_mutation(unharmed("h264.mp4", clips), replace(tools, limits=TimeLimits(math.nan)), folder)
    assert outcome.stage == "decode"
    assert "ValueError is not a refusal" in outcome.offences[0]


def test_a_descriptor_that_is_left_open_is_found(
    clips: Clips, tools: Toolchain, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    def leak(source: Path, *_: object) -> None:
        opened.append(os.open(source, os.O_RDONLY))
        raise OSError

    monkeypatch.setattr("fuzz.trial.fingerprint", leak)
    outcome = try_mutation(unharmed("h264.mp4", clips), tools, folder)
    os.close(opened[0])
    assert "it left a descriptor open" in outcome.offences


def test_offenders_are_kept_and_end_the_command_with_a_failure(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [Outcome(mutate(clips, 5, number), "no damage accepted", stage="row") for number in range(3)]
    outcomes[1] = replace(outcomes[1], offences=("it is wrong",))
    monkeypatch.setattr(command, "campaign", lambda *_: iter(outcomes))
    assert main(["--seed", "5", "--mutations", "3", "--output", str(tmp_path)]) == 1
    (kept,) = tmp_path.glob(f"5-1-{outcomes[1].mutation.clip}")
    assert kept.read_bytes() == outcomes[1].mutation.data
    assert "it is wrong" in kept.with_name(f"{kept.name}.txt").read_text()
    assert "1 offenders" in capsys.readouterr().out
