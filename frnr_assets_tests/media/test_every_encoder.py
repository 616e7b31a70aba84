"""What must be true of each encoder, with the real tools."""

import json
import math
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from frnr_assets.media.decode import decode_reference
from frnr_assets.media.encode import Distortion, EncodeSettings, encode_distortion
from frnr_assets.media.encoders import ENCODERS, LIBAOM_AV1
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.pool import WorkPool
from frnr_assets.media.probe import probe_source
from frnr_assets.media.process import ToolResult, ToolRunner
from frnr_assets.media.reference import Reference, working_format
from frnr_assets.media.source import fingerprint
from frnr_assets.media.sweep import CellMeasured, SweepRequest, measure_sweeps
from frnr_assets.media.toolchain import Toolchain, ToolSettings, encode_settings, open_toolchain
from frnr_assets.vocabulary import CANONICAL6_FEATURES, DEFAULT_VMAF_MODEL, ENCODER_STATISTICS
from frnr_assets_tests.conftest import RULES, X264_UPLOAD, MakeClip
from frnr_assets_tests.media.conftest import PlainFFmpeg

QUICK_PRESETS = {
    "libx264": "veryfast",
    "libx265": "veryfast",
    "libsvtav1": "10",
    "libvpx-vp9": "5",
    "libaom-av1": "6",
}
# The same encodes as a person would type them: nothing here is for the sake of statistics.
BY_HAND = {
    "libx264": ("-preset", "veryfast"),
    "libx265": (
        *("-preset", "veryfast", "-x265-params"),
        "pools=none:frame-threads=1:no-wpp=1:lookahead-slices=0:no-info=1",
    ),
    "libsvtav1": ("-preset", "10", "-svtav1-params", "lp=1"),
    "libvpx-vp9": ("-b:v", "0", "-cpu-used", "5", "-tile-columns", "0"),
    "libaom-av1": ("-b:v", "0", "-cpu-used", "6"),
}
VERSIONS = {
    "libx264": r"\d{3}",
    "libx265": r"\d+\.\d+\S*",
    "libsvtav1": r"\d+\.\d+\.\d+\S*",
    "libvpx-vp9": r"\d+\.\d+\.\d+\S*",
    "libaom-av1": r"\d+\.\d+\.\d+\S*",
}
NOISE = "noise=alls=8:allf=t"
# Two frames of eight: most durations in the file are far from the average.
GAPS = "select='lt(mod(n,8),2)'"
FFV1 = ("-c:v", "ffv1", "-threads", "1")
CRFS = (22, 48)

ToolchainOf = Callable[[str], Toolchain]
DecodeFor = Callable[[Path, str], Reference]
Encode = Callable[..., Distortion]

every_encoder = pytest.mark.parametrize("encoder", ENCODERS)


def scene(frames: int = 12, size: str = "64x48") -> str:
    return f"testsrc2=size={size}:rate=24,trim=end_frame={frames},{NOISE}"


class RecordingRunner(ToolRunner):
    """A runner that remembers what its programs used."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[ToolResult] = []

    def run(self, argv: Sequence[str], **how: Any) -> ToolResult:
        self.results.append(super().run(argv, **how))
        return self.results[-1]


@pytest.fixture(scope="module")
def toolchain_of(toolchain: Toolchain) -> ToolchainOf:
    """Return a function that gives the tools with another encoder, without asking ffmpeg for it."""

    def of(encoder: str) -> Toolchain:
        settings = encode_settings(encoder, QUICK_PRESETS[encoder], (), CRFS)
        return replace(toolchain, settings=settings)

    return of


@pytest.fixture(scope="module")
def decode_for(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> DecodeFor:
    """Return a function that decodes a source into the facts that an encoder needs."""

    def decode(source: Path, encoder: str) -> Reference:
        return decode_reference(
            source,
            fingerprint(source, RULES),
            ffmpeg=toolchain.ffmpeg,
            encoder=ENCODERS[encoder],
            runner=toolchain.runner,
            limits=toolchain.limits,
            rules=RULES,
            scratch=tmp_path_factory.mktemp("decode"),
        )

    return decode


@pytest.fixture(scope="module")
def encode(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Encode:
    """Return a function that encodes a source: path, facts, encoder, and what else matters."""

    def run(
        source: Path,
        reference: Reference,
        encoder: str,
        *,
        crf: int = 35,
        preset: str | None = None,
        ffmpeg: FFmpeg = toolchain.ffmpeg,
        runner: ToolRunner = toolchain.runner,
    ) -> Distortion:
        return encode_distortion(
            source,
            reference,
            crf,
            settings=EncodeSettings(ENCODERS[encoder], preset or QUICK_PRESETS[encoder]),
            ffmpeg=ffmpeg,
            runner=runner,
            limits=toolchain.limits,
            rules=RULES,
            scratch=tmp_path_factory.mktemp("encode"),
        )

    return run


def measure(source: Path, reference: Reference, toolchain: Toolchain, pool: WorkPool, scratch: Path) -> dict[int, Any]:
    request = SweepRequest("clip", source, reference, CRFS)
    cells = {}
    for outcomes in measure_sweeps([request], toolchain=toolchain, pool=pool, scratch=scratch):
        for cell in outcomes:
            assert isinstance(cell, CellMeasured), cell
            kept = cell.distortion.path.rename(scratch / f"{cell.crf}.mp4")
            cells[cell.crf] = replace(cell, distortion=replace(cell.distortion, path=kept))
    assert set(cells) == set(CRFS)
    return cells


def frame_hashes(plain_ffmpeg: PlainFFmpeg, path: Path, *args: str) -> list[bytes]:
    log = plain_ffmpeg("-i", path, *args, "-f", "framemd5", "-").stdout
    return [line.split(b",")[-1].strip() for line in log.splitlines() if not line.startswith(b"#")]


@every_encoder
@pytest.mark.parametrize(
    "shot",
    [
        pytest.param(scene(), id="twelve frames"),
        pytest.param(scene(1), id="one frame"),
        pytest.param(scene(2), id="two frames"),
        pytest.param(f"{scene(6, '32x32')},format=yuv420p10le,crop=19:18:exact=1", id="18 x 18 of ten bits"),
    ],
)
def test_a_cell_of_each_encoder_is_whole(
    encoder: str,
    shot: str,
    make_clip: MakeClip,
    decode_for: DecodeFor,
    toolchain_of: ToolchainOf,
    pool: WorkPool,
    plain_ffmpeg: PlainFFmpeg,
    tmp_path: Path,
) -> None:
    source = make_clip(tmp_path / "clip.mkv", shot, FFV1)
    reference = decode_for(source, encoder)
    cells = measure(source, reference, toolchain_of(encoder), pool, tmp_path / "scratch")
    fine, coarse = (cells[crf] for crf in CRFS)
    assert fine.score.vmaf_score > coarse.score.vmaf_score + 1
    assert fine.distortion.size_bytes > coarse.distortion.size_bytes
    for cell in (fine, coarse):
        assert len(cell.score.vmaf) == cell.distortion.statistics.frames == reference.frames
        assert len(frame_hashes(plain_ffmpeg, cell.distortion.path, "-fps_mode", "passthrough")) == reference.frames
        assert all(map(math.isfinite, cell.score.feature_moments().values()))
        columns = cell.distortion.statistics.columns
        assert tuple(columns) == ENCODER_STATISTICS
        assert any(columns.values()) == (ENCODERS[encoder].read_statistics is not None)


@pytest.mark.parametrize("encoder", sorted(set(ENCODERS) - {"libx264"}))
@pytest.mark.parametrize(
    "shot",
    [
        pytest.param(
            f"{scene(80)},{GAPS},format=yuv420p,setparams=range=unspecified",
            id="variable rate, no range",
        ),
        pytest.param(f"{scene(size='66x50')},scale=out_range=pc,format=yuv420p10le", id="full range, ten bits"),
    ],
)
def test_a_cell_is_what_separate_steps_through_raw_video_give(
    encoder: str,
    shot: str,
    make_clip: MakeClip,
    decode_for: DecodeFor,
    toolchain_of: ToolchainOf,
    pool: WorkPool,
    plain_ffmpeg: PlainFFmpeg,
    tmp_path: Path,
) -> None:
    source = make_clip(tmp_path / "clip.mp4", shot, (*X264_UPLOAD, "-fps_mode", "vfr"))
    reference = decode_for(source, encoder)
    working = reference.working
    layout = ("-s", f"{working.width}x{working.height}", "-pix_fmt", working.pix_fmt)
    raw = ("-f", "rawvideo", *layout, "-r", str(reference.probe.rate))
    reference_yuv, by_hand, distortion_yuv = (tmp_path / name for name in ("reference.yuv", "hand.mp4", "hand.yuv"))
    decoding = ("-fps_mode", "passthrough", "-f", "rawvideo")
    plain_ffmpeg("-i", source, *decoding, reference_yuv)
    cells = measure(source, reference, toolchain_of(encoder), pool, tmp_path / "scratch")
    for crf, cell in cells.items():
        command = ("-c:v", encoder, *BY_HAND[encoder], "-crf", str(crf), "-threads", "1")
        plain_ffmpeg(*raw, "-i", reference_yuv, *command, by_hand)
        plain_ffmpeg("-i", by_hand, *decoding, distortion_yuv)
        assert plain_ffmpeg("-i", cell.distortion.path, *decoding, "-").stdout == distortion_yuv.read_bytes()

        libvmaf = f"libvmaf=model=version={DEFAULT_VMAF_MODEL}:log_fmt=json:log_path={tmp_path / 'log.json'}"
        plain_ffmpeg(*raw, "-i", distortion_yuv, *raw, "-i", reference_yuv, "-lavfi", libvmaf, "-f", "null", "-")
        metrics = [frame["metrics"] for frame in json.loads((tmp_path / "log.json").read_text())["frames"]]
        assert len(metrics) == reference.frames
        assert cell.score.vmaf == tuple(metric["vmaf"] for metric in metrics)
        expected = {name: tuple(metric[f"integer_{name}"] for metric in metrics) for name in CANONICAL6_FEATURES}
        assert cell.score.features == expected


@every_encoder
def test_an_encode_is_the_same_every_time_with_and_without_statistics(
    encoder: str,
    make_clip: MakeClip,
    decode_for: DecodeFor,
    encode: Encode,
    plain_ffmpeg: PlainFFmpeg,
    tmp_path: Path,
) -> None:
    source = make_clip(tmp_path / "clip.mp4")
    reference = decode_for(source, encoder)
    first, second = (encode(source, reference, encoder) for _ in range(2))
    assert first.path != second.path
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.statistics == second.statistics

    by_hand = tmp_path / "by_hand.mp4"
    command = ("-c:v", encoder, *BY_HAND[encoder], "-crf", "35", "-threads", "1", "-map_metadata", "-1")
    plain_ffmpeg("-i", source, *command, by_hand)
    packets = frame_hashes(plain_ffmpeg, first.path, "-c", "copy")
    assert len(packets) == reference.frames
    assert packets == frame_hashes(plain_ffmpeg, by_hand, "-c", "copy")
    assert first.size_bytes == by_hand.stat().st_size


@every_encoder
def test_an_encode_uses_one_core_and_does_not_depend_on_their_number(
    encoder: str,
    make_clip: MakeClip,
    decode_for: DecodeFor,
    encode: Encode,
    ffmpeg: FFmpeg,
    tmp_path: Path,
) -> None:
    source = make_clip(tmp_path / "clip.mp4", scene(24, "320x192"))
    reference = decode_for(source, encoder)
    runner = RecordingRunner()
    with_all = encode(source, reference, encoder, runner=runner)
    # ffmpeg's decoder and muxer have threads of their own beside the encoder's.
    assert runner.results[0].cpu_s < 1.25 * runner.results[0].wall_s

    script = tmp_path / "ffmpeg"
    core = min(os.sched_getaffinity(0))
    script.write_text(f'#!/bin/sh\nexec taskset --cpu-list {core} {shlex.quote(str(ffmpeg.path))} "$@"\n')
    script.chmod(0o755)
    with_one = encode(source, reference, encoder, ffmpeg=replace(ffmpeg, path=script))
    assert with_one.path.read_bytes() == with_all.path.read_bytes()


@every_encoder
def test_the_ends_of_what_an_encoder_accepts_work(
    encoder: str, make_clip: MakeClip, decode_for: DecodeFor, encode: Encode, tmp_path: Path
) -> None:
    source = make_clip(tmp_path / "clip.mp4", scene(4))
    reference = decode_for(source, encoder)
    presets, (low, high) = ENCODERS[encoder].presets, ENCODERS[encoder].crf_range
    first, *last = (encode(source, reference, encoder, crf=low, preset=presets[i]) for i in (0, -2, -1))
    assert len({distortion.path.read_bytes() for distortion in (first, *last)}) == 3
    coarse = encode(source, reference, encoder, crf=high, preset=presets[0])
    assert first.size_bytes > 2 * coarse.size_bytes


@pytest.mark.parametrize("bit_depth", [8, 10, 12])
@pytest.mark.parametrize("chroma", ["420", "422", "444"])
def test_each_format_reaches_the_encoders_that_take_it_unchanged(
    bit_depth: int,
    chroma: str,
    make_clip: MakeClip,
    decode_for: DecodeFor,
    encode: Encode,
    toolchain: Toolchain,
    tmp_path: Path,
) -> None:
    pix_fmt = f"yuv{chroma}p" if bit_depth == 8 else f"yuv{chroma}p{bit_depth}le"
    source = make_clip(tmp_path / "clip.mkv", f"{scene(1)},format={pix_fmt}", FFV1)
    reference = decode_for(source, LIBAOM_AV1.name)
    takers = [name for name, known in ENCODERS.items() if chroma in known.chroma and bit_depth in known.bit_depths]
    refusers = {"libx264"} if bit_depth == 12 else set()
    refusers |= {"libsvtav1"} if bit_depth == 12 or chroma != "420" else set()
    assert takers == [name for name in ENCODERS if name not in refusers]
    for name in takers:
        assert working_format(reference.probe, ENCODERS[name]) == reference.working
        distortion = encode(source, reference, name)
        assert probe_source(distortion.path, toolchain.runner, RULES).pix_fmt == pix_fmt


@every_encoder
def test_the_version_is_the_librarys(encoder: str, toolchain: Toolchain) -> None:
    settings = encode_settings(encoder, QUICK_PRESETS[encoder], (), CRFS)
    tools = ToolSettings(settings, toolchain.vmaf, toolchain.limits, ffmpeg_path=str(toolchain.ffmpeg.path))
    opened = open_toolchain(tools, toolchain.runner)
    assert re.fullmatch(f"{encoder}-{VERSIONS[encoder]}", opened.encoder_version)


def test_key_frames_are_set_by_the_nominal_rate(
    make_clip: MakeClip, decode_for: DecodeFor, encode: Encode, tmp_path: Path
) -> None:
    # SVT-AV1 sets one after 81 frames at 6 frames per second, after 161 at the 24 that ffmpeg guesses.
    source = make_clip(tmp_path / "clip.mp4", f"{scene(340)},{GAPS}", (*X264_UPLOAD, "-fps_mode", "vfr"))
    reference = decode_for(source, "libsvtav1")
    distortion = encode(source, reference, "libsvtav1", preset="11")
    with av.open(str(distortion.path)) as container:
        packets = list(container.demux(video=0))
    assert [index for index, packet in enumerate(packets) if packet.is_keyframe] == [0, 81]


def test_a_rate_finer_than_a_time_base_can_be(
    make_clip: MakeClip, decode_for: DecodeFor, encode: Encode, tmp_path: Path
) -> None:
    source = make_clip(tmp_path / "clip.mp4")
    reference = decode_for(source, "libvpx-vp9")
    fine = replace(reference, probe=replace(reference.probe, rate=Fraction(2_000_000_011, 66_733_333)))
    for name in ("libvpx-vp9", "libaom-av1"):
        assert encode(source, fine, name).statistics.frames == reference.frames
