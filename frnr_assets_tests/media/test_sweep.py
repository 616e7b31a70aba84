"""Cells measured straight from the upload against separate steps through raw YUV, and what a failure takes along."""

import json
import re
import shlex
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.pool import LocalCrew, WorkPool
from frnr_assets.media.process import Cancelled, ToolRunner
from frnr_assets.media.sweep import CellFailed, CellMeasured, CellOutcome, SweepRequest, measure_sweeps
from frnr_assets.media.toolchain import Toolchain
from frnr_assets.vocabulary import CANONICAL6_FEATURES, DEFAULT_VMAF_MODEL
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip
from frnr_assets_tests.media.conftest import POOL_MEMORY_BYTES, DecodeClip, PlainFFmpeg

CRFS = (22, 38)
NOISE = "noise=alls=8:allf=t"
CONVERSION = "scale=flags=bicubic+accurate_rnd+full_chroma_int+bitexact"


class Upload(NamedTuple):
    name: str
    scene: str
    encode: tuple[str, ...]
    working_filters: str
    size: str
    pix_fmt: str
    rate: Fraction


X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "26", "-threads", "1")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:pools=1:frame-threads=1")
VP9 = ("-c:v", "libvpx-vp9", "-crf", "36", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1")
FFV1 = ("-c:v", "ffv1", "-threads", "1")

UPLOADS = (
    Upload("constant.mp4", SMALL_SCENE, X264, "format=yuv420p", "64x48", "yuv420p", Fraction(24)),
    Upload(
        "variable.mp4",
        f"testsrc2=size=64x48:rate=24,trim=end_frame=18,{NOISE},select='not(between(mod(n,6),3,4))'",
        (*X264, "-fps_mode", "vfr"),
        "format=yuv420p",
        "64x48",
        "yuv420p",
        Fraction(18),
    ),
    Upload(
        "odd.webm",
        f"testsrc2=size=66x50:rate=25,trim=end_frame=12,{NOISE},crop=65:49:0:0:exact=1",
        VP9,
        "crop=64:48:0:0",
        "64x48",
        "yuv420p",
        Fraction(25),
    ),
    Upload(
        "ten_bits.mp4",
        f"gradients=size=96x64:rate=30000/1001:seed=7,trim=end_frame=12,{NOISE},format=yuv420p10le",
        X265,
        "format=yuv420p10le",
        "96x64",
        "yuv420p10le",
        Fraction(30000, 1001),
    ),
    Upload(
        "full_range.mp4",
        f"testsrc2=size=64x48:rate=24,trim=end_frame=12,{NOISE},scale=out_range=pc,format=yuv420p",
        X264,
        "null",
        "64x48",
        "yuv420p",
        Fraction(24),
    ),
    Upload(
        "rgb.mkv",
        f"testsrc2=size=64x48:rate=24,trim=end_frame=12,{NOISE},format=bgr0",
        FFV1,
        f"{CONVERSION}:out_color_matrix=bt709:out_range=tv,format=yuv444p",
        "64x48",
        "yuv444p",
        Fraction(24),
    ),
    Upload(
        "gray.mkv",
        f"testsrc2=size=64x48:rate=24,trim=end_frame=12,{NOISE},format=gray",
        FFV1,
        f"{CONVERSION}:in_range=full:out_range=full,format=yuv420p",
        "64x48",
        "yuv420p",
        Fraction(24),
    ),
    Upload(
        "once_a_second.mp4",
        f"testsrc2=size=64x48:rate=1,trim=end_frame=5,{NOISE}",
        X264,
        "format=yuv420p",
        "64x48",
        "yuv420p",
        Fraction(1),
    ),
)


@pytest.mark.parametrize("upload", UPLOADS, ids=lambda upload: upload.name)
def test_a_cell_is_what_separate_steps_through_raw_video_give(
    upload: Upload,
    make_clip: MakeClip,
    decode: DecodeClip,
    toolchain: Toolchain,
    pool: WorkPool,
    plain_ffmpeg: PlainFFmpeg,
    tmp_path: Path,
) -> None:
    source = make_clip(tmp_path / upload.name, upload.scene, upload.encode)
    reference = decode(source)
    working = reference.working
    assert (f"{working.width}x{working.height}", working.pix_fmt) == (upload.size, upload.pix_fmt)
    assert reference.probe.rate == upload.rate
    raw = ("-f", "rawvideo", "-s", upload.size, "-pix_fmt", upload.pix_fmt, "-r", str(upload.rate))
    reference_yuv = tmp_path / "reference.yuv"
    decoding = ("-fps_mode", "passthrough", "-f", "rawvideo")
    plain_ffmpeg("-noautorotate", "-i", source, "-vf", upload.working_filters, *decoding, reference_yuv)

    request = SweepRequest("clip", source, reference, CRFS)
    measured = set()
    for outcomes in measure_sweeps([request], toolchain=toolchain, pool=pool, scratch=tmp_path / "scratch"):
        for cell in outcomes:
            assert isinstance(cell, CellMeasured), cell
            measured.add(cell.crf)
            by_hand, distortion_yuv, log = (tmp_path / f"{cell.crf}.{ending}" for ending in ("mp4", "yuv", "json"))
            x264 = ("-c:v", "libx264", "-preset", "medium", "-crf", str(cell.crf), "-threads", "1")
            plain_ffmpeg(*raw, "-i", reference_yuv, *x264, by_hand)
            plain_ffmpeg("-noautorotate", "-i", by_hand, *decoding, distortion_yuv)
            ours = plain_ffmpeg("-noautorotate", "-i", cell.distortion.path, *decoding, "-").stdout
            assert ours == distortion_yuv.read_bytes()

            libvmaf = f"libvmaf=model=version={DEFAULT_VMAF_MODEL}:log_fmt=json:log_path={log}"
            inputs = (*raw, "-i", distortion_yuv, *raw, "-i", reference_yuv)
            plain_ffmpeg(*inputs, "-lavfi", libvmaf, "-f", "null", "-")
            metrics: list[dict[str, Any]] = [frame["metrics"] for frame in json.loads(log.read_text())["frames"]]
            assert len(metrics) == reference.frames
            assert cell.score.vmaf == tuple(metric["vmaf"] for metric in metrics)
            expected = {name: tuple(metric[f"integer_{name}"] for metric in metrics) for name in CANONICAL6_FEATURES}
            assert cell.score.features == expected
    assert measured == set(CRFS)


def test_a_lossless_encode_scores_as_identical(
    make_clip: MakeClip,
    decode: DecodeClip,
    toolchain: Toolchain,
    pool: WorkPool,
    plain_ffmpeg: PlainFFmpeg,
    tmp_path: Path,
) -> None:
    source = make_clip(tmp_path / "clip.mp4")
    reference = decode(source)
    request = SweepRequest("clip", source, reference, (0,))
    cells = []
    for outcomes in measure_sweeps([request], toolchain=toolchain, pool=pool, scratch=tmp_path / "scratch"):
        for cell in outcomes:
            assert isinstance(cell, CellMeasured), cell
            decoded = plain_ffmpeg("-i", cell.distortion.path, "-fps_mode", "passthrough", "-f", "md5", "-")
            assert decoded.stdout.decode().strip() == f"MD5={reference.frames_md5}"
            cells.append(cell)
    (cell,) = cells
    moments = cell.score.feature_moments()
    for feature in ("adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3"):
        assert moments[f"{feature}_mean"] == pytest.approx(1, abs=1e-4)
        assert moments[f"{feature}_std"] == pytest.approx(0, abs=1e-4)
    assert cell.score.vmaf_score > 95


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def by_cell(outcomes: Iterable[CellOutcome]) -> dict[tuple[str, int], CellOutcome]:
    found = list(outcomes)
    cells = {(outcome.clip, outcome.crf): outcome for outcome in found}
    assert len(cells) == len(found), "a cell was yielded twice"
    return cells


def followed_by(ffmpeg: FFmpeg, when: str, then: str, folder: Path) -> FFmpeg:
    """Make an ffmpeg after whose runs with arguments like ``when`` a shell command is carried out."""
    script = folder / "ffmpeg"
    script.write_text(
        f'#!/bin/sh\n{shlex.quote(str(ffmpeg.path))} "$@"\nstatus=$?\n'
        f'case " $* " in *{when}*) {then};; esac\nexit $status\n'
    )
    script.chmod(0o755)
    return replace(ffmpeg, path=script)


@pytest.fixture
def source(make_clip: MakeClip, tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4")


@pytest.fixture
def request_two(source: Path, decode: DecodeClip) -> SweepRequest:
    return SweepRequest("clip", source, decode(source), (23, 38))


def test_a_cell_that_cannot_be_encoded_leaves_the_others_of_its_clip_and_of_other_clips(
    make_clip: MakeClip, decode: DecodeClip, toolchain: Toolchain, pool: WorkPool, tmp_path: Path
) -> None:
    first, second = make_clip(tmp_path / "first.mp4"), make_clip(tmp_path / "second.mp4", f"{SMALL_SCENE},hflip")
    requests = [
        SweepRequest("first", first, decode(first), (23, -2, 38)),
        SweepRequest("second", second, decode(second), (23,)),
    ]
    scratch = tmp_path / "scratch"
    outcomes: list[CellOutcome] = []
    for together in measure_sweeps(requests, toolchain=toolchain, pool=pool, scratch=scratch):
        assert all(cell.distortion.path.exists() for cell in together if isinstance(cell, CellMeasured))
        outcomes.extend(together)
    cells = by_cell(outcomes)
    assert set(cells) == {("first", 23), ("first", -2), ("first", 38), ("second", 23)}
    failed = cells.pop(("first", -2))
    assert isinstance(failed, CellFailed)
    assert failed.reason.startswith("encode at CRF -2 failed: ")
    assert "out of range" in failed.reason
    assert f"<{first}\n" in failed.detail
    assert all(isinstance(cell, CellMeasured) for cell in cells.values())
    assert files_in(scratch) == []


def test_a_damaged_encode_does_not_take_the_cells_scored_with_it_along(
    request_two: SweepRequest, ffmpeg: FFmpeg, toolchain: Toolchain, tmp_path: Path
) -> None:
    damaging = replace(toolchain, ffmpeg=followed_by(ffmpeg, '" -crf 38 "', ": > distortion.mp4", tmp_path))
    scratch = tmp_path / "scratch"
    # With one core, both cells are scored together first.
    with ThreadPoolExecutor(1) as executor:
        one = WorkPool(LocalCrew(executor, cores=1, memory_bytes=POOL_MEMORY_BYTES))
        sweep = measure_sweeps([request_two], toolchain=damaging, pool=one, scratch=scratch)
        cells = by_cell(outcome for together in sweep for outcome in together)
    assert isinstance(cells["clip", 23], CellMeasured)
    failed = cells["clip", 38]
    assert isinstance(failed, CellFailed)
    assert failed.reason.startswith("score failed: ")
    assert files_in(scratch) == []


@pytest.mark.parametrize(
    ("when", "then", "reason"),
    [
        pytest.param("never", ":", "^it could not be read: No such file", id="before"),
        pytest.param('" -crf 38 "', "rm -f {source}", "No such file", id="after the last encode"),
        pytest.param("libvmaf", "rm -f {source}", "^the source changed while it was measured$", id="during the score"),
        pytest.param("libvmaf", "touch {source}", "^the source changed while it was measured$", id="only touched"),
    ],
)
def test_cells_fail_with_a_reason_when_the_upload_goes_away(
    when: str,
    then: str,
    reason: str,
    request_two: SweepRequest,
    ffmpeg: FFmpeg,
    toolchain: Toolchain,
    tmp_path: Path,
) -> None:
    source = request_two.source
    if when == "never":
        source.unlink()
    command = then.format(source=shlex.quote(str(source)))
    losing = replace(toolchain, ffmpeg=followed_by(ffmpeg, when, command, tmp_path))
    scratch = tmp_path / "scratch"
    # One core makes the order of the runs certain.
    with ThreadPoolExecutor(1) as executor:
        one = WorkPool(LocalCrew(executor, cores=1, memory_bytes=POOL_MEMORY_BYTES))
        sweep = measure_sweeps([request_two], toolchain=losing, pool=one, scratch=scratch)
        cells = by_cell(outcome for together in sweep for outcome in together)
    assert set(cells) == {("clip", 23), ("clip", 38)}
    for cell in cells.values():
        assert isinstance(cell, CellFailed)
        assert re.search(reason, cell.reason)
    assert files_in(scratch) == []


def test_an_encode_that_was_kept_is_scored_again_and_stays(
    request_two: SweepRequest, toolchain: Toolchain, pool: WorkPool, tmp_path: Path
) -> None:
    before = {}
    kept_folder = tmp_path / "kept"
    kept_folder.mkdir()
    for outcomes in measure_sweeps([request_two], toolchain=toolchain, pool=pool, scratch=tmp_path / "before"):
        for cell in outcomes:
            assert isinstance(cell, CellMeasured), cell
            kept = cell.distortion.path.rename(kept_folder / f"{cell.crf}.mp4")
            before[cell.crf] = replace(cell, distortion=replace(cell.distortion, path=kept))
    for crfs in ((38,), (23, 38)):
        again = replace(request_two, kept={crf: before[crf].distortion for crf in crfs})
        scratch = tmp_path / "again" / str(len(crfs))
        sweep = measure_sweeps([again], toolchain=toolchain, pool=pool, scratch=scratch)
        cells = by_cell(outcome for together in sweep for outcome in together)
        assert set(cells) == {("clip", 23), ("clip", 38)}
        for cell in cells.values():
            assert isinstance(cell, CellMeasured)
            assert cell.score.vmaf == before[cell.crf].score.vmaf
            assert (cell.distortion == before[cell.crf].distortion) == (cell.crf in crfs)
        assert files_in(scratch) == []
    assert sorted(path.name for path in files_in(kept_folder)) == ["23.mp4", "38.mp4"]


def test_a_full_disk_is_told_from_a_bad_clip(
    request_two: SweepRequest, ffmpeg: FFmpeg, toolchain: Toolchain, pool: WorkPool, tmp_path: Path
) -> None:
    script = tmp_path / "ffmpeg"
    real = shlex.quote(str(ffmpeg.path))
    full = "ln -s /dev/full distortion.mp4"
    script.write_text(f'#!/bin/sh\ncase " $* " in *" -crf 38 "*) {full};; esac\nexec {real} "$@"\n')
    script.chmod(0o755)
    filling = replace(toolchain, ffmpeg=replace(ffmpeg, path=script))
    sweep = measure_sweeps([request_two], toolchain=filling, pool=pool, scratch=tmp_path / "scratch")
    cells = by_cell(outcome for together in sweep for outcome in together)
    assert isinstance(cells["clip", 23], CellMeasured)
    failed = cells["clip", 38]
    assert isinstance(failed, CellFailed)
    assert failed.disk_full
    assert "No space left on device" in failed.detail


def test_scores_do_not_depend_on_how_many_cores_share_a_scoring(
    source: Path, decode: DecodeClip, toolchain: Toolchain, tmp_path: Path
) -> None:
    request = SweepRequest("clip", source, decode(source), (18, 28, 38))
    scores = []
    for cores in (1, 3):
        with ThreadPoolExecutor(cores) as executor:
            some = WorkPool(LocalCrew(executor, cores=cores, memory_bytes=POOL_MEMORY_BYTES))
            sweep = measure_sweeps([request], toolchain=toolchain, pool=some, scratch=tmp_path / str(cores))
            steps = list(sweep)
        assert len(steps) == (1 if cores == 1 else 3)
        cells = [cell for together in steps for cell in together if isinstance(cell, CellMeasured)]
        scores.append({cell.crf: (cell.score.vmaf, cell.score.features) for cell in cells})
    assert set(scores[0]) == set(request.crfs)
    assert scores[0] == scores[1]


def test_work_that_was_called_off_is_not_reported_as_failed_cells(
    request_two: SweepRequest, toolchain: Toolchain, pool: WorkPool, tmp_path: Path
) -> None:
    runner = ToolRunner()
    runner.cancel()
    called_off = replace(toolchain, runner=runner)
    with pytest.raises(Cancelled):
        list(measure_sweeps([request_two], toolchain=called_off, pool=pool, scratch=tmp_path / "scratch"))


def test_nothing_to_measure_is_no_error(toolchain: Toolchain, pool: WorkPool, tmp_path: Path) -> None:
    assert list(measure_sweeps([], toolchain=toolchain, pool=pool, scratch=tmp_path)) == []
