"""What is kept on request: encodes with their rows' paths, and references that are the frames of the facts."""

import errno
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from frnr_assets.engine.batch import Engine
from frnr_assets.engine.outcomes import CellDone, Clip, ReferenceDone, ReferenceFailed
from frnr_assets.media.decode import KEPT_FILES, KeptFormat
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.process import ToolRunner
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets_tests.assets.tool_wrapper import ToolWrapper, wrap
from frnr_assets_tests.conftest import MakeClip

CRFS = (23, 38)


@pytest.fixture
def clip(make_clip: MakeClip, tmp_path: Path) -> Clip:
    return Clip("bars", make_clip(tmp_path / "bars.mp4"), 3.0)


@pytest.fixture
def wrapper(ffmpeg: FFmpeg, tmp_path: Path) -> ToolWrapper:
    return wrap(ffmpeg.path, tmp_path / "tool")


@pytest.fixture
def keeping(engine: Engine, wrapper: ToolWrapper, clip: Clip) -> Engine:
    """An engine that keeps encodes, whose encodes are counted, with the reference decoded."""
    ffmpeg = replace(engine.toolchain.ffmpeg, path=wrapper.path)
    made = replace(engine, keep_encodes=True, toolchain=replace(engine.toolchain, ffmpeg=ffmpeg))
    assert [type(done) for done in made.decode_references([clip])] == [ReferenceDone]
    return made


def measure(engine: Engine, clip: Clip, crfs: Sequence[int] = CRFS) -> list[CellDone]:
    cells = list(engine.measure_cells({clip: crfs}, run_id="run"))
    assert all(isinstance(cell, CellDone) for cell in cells), cells
    return sorted((cell for cell in cells if isinstance(cell, CellDone)), key=lambda cell: cell.crf)


def kept(engine: Engine) -> list[str]:
    root = engine.tables.kept_encodes
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.mp4"))


def test_kept_encodes_are_where_their_rows_say(keeping: Engine, clip: Clip) -> None:
    cells = measure(keeping, clip)
    assert kept(keeping) == ["libx264-medium/bars/crf23.mp4", "libx264-medium/bars/crf38.mp4"]
    for cell in cells:
        assert Path(cell.row["encode_path"]).stat().st_size == cell.row["encode_size_bytes"]
    assert list(keeping.tables.scratch.iterdir()) == []


def test_without_the_setting_no_encode_is_left(engine: Engine, clip: Clip) -> None:
    list(engine.decode_references([clip]))
    assert [cell.row["encode_path"] for cell in measure(engine, clip)] == ["", ""]
    assert not engine.tables.kept_encodes.exists()


def test_another_vmaf_model_scores_the_kept_encodes_without_encoding_again(
    keeping: Engine, wrapper: ToolWrapper, clip: Clip
) -> None:
    first = measure(keeping, clip)
    another = replace(keeping, toolchain=replace(keeping.toolchain, vmaf=vmaf_settings("vmaf_v0.6.1neg")))
    second = measure(another, clip)
    assert wrapper.encodes == len(CRFS)
    assert [cell.row["vmaf_model"] for cell in second] == ["vmaf_v0.6.1neg"] * 2
    assert kept(keeping) == ["libx264-medium/bars/crf23.mp4", "libx264-medium/bars/crf38.mp4"]
    of_the_encode = ("encode_path", "encode_size_bytes", "encode_time_ms", "enc_internal_bits_mean")
    for before, after in zip(first, second, strict=True):
        assert [after.row[name] for name in of_the_encode] == [before.row[name] for name in of_the_encode]


@pytest.mark.parametrize("damage", ["file changed", "file gone", "note gone", "note broken", "note of another encode"])
def test_a_kept_encode_that_is_not_the_one_of_the_row_is_made_again(
    keeping: Engine, wrapper: ToolWrapper, clip: Clip, damage: str
) -> None:
    before = measure(keeping, clip)
    encode = Path(before[0].row["encode_path"])
    note = encode.with_suffix(".json")
    if damage == "file changed":
        encode.write_bytes(encode.read_bytes()[:-1] + b"\0")
    elif damage == "file gone":
        encode.unlink()
    elif damage == "note gone":
        note.unlink()
    elif damage == "note broken":
        note.write_text('{"identity"')
    else:
        note.write_text(json.dumps({**json.loads(note.read_text()), "identity": "another"}))
    after = measure(keeping, clip)
    assert wrapper.encodes == len(CRFS) + 1
    assert [cell.reused for cell in after] == [False, True]
    assert encode.stat().st_size == after[0].row["encode_size_bytes"]


def test_recompute_makes_kept_encodes_again(keeping: Engine, wrapper: ToolWrapper, clip: Clip) -> None:
    measure(keeping, clip)
    list(keeping.measure_cells({clip: CRFS}, run_id="again", recompute=True))
    assert wrapper.encodes == 2 * len(CRFS)


def test_rows_forget_the_paths_of_encodes_that_are_not_kept_any_more(keeping: Engine, clip: Clip) -> None:
    measure(keeping, clip)
    after = measure(replace(keeping, keep_encodes=False), clip)
    assert [(cell.reused, cell.row["encode_path"]) for cell in after] == [(True, ""), (True, "")]


@pytest.mark.parametrize("form", ["yuv", "ffv1"])
def test_a_kept_reference_has_the_frames_of_the_facts(
    engine: Engine, clip: Clip, runner: ToolRunner, form: KeptFormat, tmp_path: Path
) -> None:
    keeping = replace(engine, keep_reference=form)
    (done,) = keeping.decode_references([clip])
    assert isinstance(done, ReferenceDone)
    path = Path(done.row["kept_path"])
    assert path == keeping.tables.kept_references / f"bars{Path(KEPT_FILES[form]).suffix}"
    raw = ("-f", "rawvideo", "-s", "64x48", "-pix_fmt", "yuv420p") if form == "yuv" else ()
    ffmpeg = str(engine.toolchain.ffmpeg.path)
    decoded = runner.run(
        [ffmpeg, "-v", "error", *raw, "-i", str(path), "-fps_mode", "passthrough", "-f", "md5", "-"],
        cwd=tmp_path,
        timeout_s=60,
    )
    assert decoded.stdout.strip() == f"MD5={done.row['frames_md5']}"
    (again,) = keeping.decode_references([clip])
    assert isinstance(again, ReferenceDone)
    assert again.reused
    path.unlink()
    (restored,) = keeping.decode_references([clip])
    assert path.exists()
    assert isinstance(restored, ReferenceDone)
    assert not restored.reused


def test_half_a_copy_of_a_reference_is_never_taken_for_the_reference(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A full disk ends all that the runner does, for good.
    toolchain = replace(engine.toolchain, runner=ToolRunner())
    keeping = replace(engine, keep_reference="yuv", toolchain=toolchain)

    def copy_half(source: Path, target: Path) -> None:
        whole = source.read_bytes()
        target.write_bytes(whole[: len(whole) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full_disk:
        full_disk.setattr(shutil, "move", copy_half)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            list(keeping.decode_references([clip]))
    assert list(keeping.tables.kept_references.iterdir()) == []


def test_a_decode_killed_from_outside_fails_instead_of_condemning_the_clip(
    engine: Engine, clip: Clip, tmp_path: Path
) -> None:
    killed = tmp_path / "ffmpeg"
    killed.write_text("#!/bin/sh\nkill -KILL $$\n")
    killed.chmod(0o755)
    ffmpeg = replace(engine.toolchain.ffmpeg, path=killed)
    (outcome,) = replace(engine, toolchain=replace(engine.toolchain, ffmpeg=ffmpeg)).decode_references([clip])
    assert isinstance(outcome, ReferenceFailed)
    assert outcome.reason == "decode failed: ffmpeg was ended by signal 9"
    assert engine.tables.references.read().is_empty()


def test_a_kept_reference_of_a_small_clip_that_is_allowed_serves_again(
    engine: Engine, make_clip: MakeClip, tmp_path: Path
) -> None:
    small = Clip("small", make_clip(tmp_path / "small.mp4", "testsrc2=size=20x20:rate=24,trim=end_frame=3"), 3.0)
    assert engine.toolchain.rules.min_side < 20
    keeping = replace(engine, keep_reference="yuv")
    outcomes = [done for _ in range(2) for done in keeping.decode_references([small])]
    assert [done.outcome for done in outcomes if isinstance(done, ReferenceDone)] == ["done", "reused"]
