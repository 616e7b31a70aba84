"""The four seams of the adapter: tools that the caller runs, faked and real."""

import json
import math
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import imageio_ffmpeg
import pytest

from frnr_assets.adapter import CORPUS_ROW_KEYS, PROVENANCE_KEYS, CorpusOptions, NrInputRow, NrToFrAdapter
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.process import ToolRunner
from frnr_assets.vocabulary import CANONICAL6_FEATURES
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip
from frnr_assets_tests.fake_tools import (
    FAKE_FRAME_BYTES,
    FAKE_FRAMES,
    FAKE_PROBE,
    FAKE_STREAM,
    Completed,
    FakeTools,
    RealTool,
    vmaf_log,
)
from frnr_assets_tests.test_adapter import adapter_in, measurements

Row = dict[str, Any]

SWEEP = (38, 18)
TOOLS = ("probe", "decode", "encode", "score")
# What is said of each tool when it fails, in the order in which they are first needed.
FAILURES = {
    "probe": "ffprobe failed",
    "decode": "ffmpeg decode failed",
    "encode": "ffmpeg encode failed",
    "score": "vmaf failed",
}


@pytest.fixture
def no_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this platform's own may be started."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a real tool was started")

    # It tries its ffmpeg once and remembers that it works.
    imageio_ffmpeg.get_ffmpeg_exe()
    monkeypatch.setattr(ToolRunner, "run", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An upload that no real tool could read."""
    path = tmp_path / "clips" / "upload.mp4"
    path.parent.mkdir()
    path.write_bytes(b"an upload")
    return path


def fail_to_measure(adapter: NrToFrAdapter, given: NrInputRow, runners: Mapping[str, Any]) -> str:
    """Return why a clip gave no row at all."""
    rows: list[Row] = []
    with pytest.raises(RuntimeError) as failure:
        rows.extend(adapter.run(given, **runners))
    assert rows == []
    assert list(adapter.scratch_dir.iterdir()) == []
    assert str(given.src) in str(failure.value)
    return str(failure.value)


@pytest.mark.usefixtures("no_tool")
class TestFakedTools:
    def test_one_complete_row_for_each_crf_in_the_order_of_the_sweep(self, source: Path, tmp_path: Path) -> None:
        rows = list(adapter_in(tmp_path).run(NrInputRow(source, 3.25), **FakeTools().runners()))
        assert [row["crf"] for row in rows] == list(SWEEP)
        for row in rows:
            assert tuple(row) == (*CORPUS_ROW_KEYS, *PROVENANCE_KEYS)
            assert None not in row.values()
            assert json.loads(json.dumps(row, allow_nan=False)) == row
            assert row["src"] == row["nr_source"] == str(source)
            assert (row["nr_mos"], row["fr_from_nr"], row["exit_status"]) == (3.25, True, 0)

    def test_rows_have_what_the_tools_said(self, source: Path, tmp_path: Path) -> None:
        row = next(adapter_in(tmp_path).run(NrInputRow(source), **FakeTools().runners()))
        assert (row["width"], row["height"], row["pix_fmt"], row["framerate"]) == (64, 48, "yuv420p", 24.0)
        assert row["duration_s"] == FAKE_FRAMES / 24
        assert row["encode_size_bytes"] == len(b"an encode")
        assert row["vmaf_score"] == fmean(range(90, 90 + FAKE_FRAMES))
        for place, name in enumerate(CANONICAL6_FEATURES):
            assert row[f"{name}_mean"] == pytest.approx(place / 10, abs=1e-12)
            assert row[f"{name}_std"] == pytest.approx(0, abs=1e-12)
        assert (row["nr_mos"], row["encode_path"], row["clip_mode"]) == (None, "", "full")
        versions = (row["ffmpeg_version"], row["encoder_version"], row["vmaf_binary_version"])
        assert versions == ("6.1.1", "libx264-164", "3.0.0")

    def test_each_tool_is_called_as_often_as_it_is_needed_and_in_order(self, source: Path, tmp_path: Path) -> None:
        tools = FakeTools()
        list(adapter_in(tmp_path).run(NrInputRow(source), **tools.runners()))
        assert tools.order == ["probe", "decode", *("encode", "decode", "score") * len(SWEEP)]
        crfs = [argv[argv.index("-crf") + 1] for argv in tools.argv("encode")]
        assert crfs == list(map(str, SWEEP))

    def test_a_tool_runs_no_sooner_than_its_row_is_asked_for(self, source: Path, tmp_path: Path) -> None:
        tools = FakeTools()
        rows = adapter_in(tmp_path).run(NrInputRow(source), **tools.runners())
        assert tools.order == []
        next(rows)
        assert tools.order == ["probe", "decode", "encode", "decode", "score"]

    def test_commands_name_the_executables_and_files_that_were_given(self, source: Path, tmp_path: Path) -> None:
        tools = FakeTools()
        options = {"ffmpeg_bin": "ffmpeg", "ffprobe_bin": "our-ffprobe", "vmaf_bin": "our-vmaf"}
        list(adapter_in(tmp_path, options=options).run(NrInputRow(source), **tools.runners()))
        started = {tool: {argv[0] for argv in tools.argv(tool)} for tool in TOOLS}
        assert started == {"probe": {"our-ffprobe"}, "decode": {"ffmpeg"}, "encode": {"ffmpeg"}, "score": {"our-vmaf"}}
        (probe,), (decode, *_) = tools.argv("probe"), tools.argv("decode")
        assert str(source) in probe
        assert decode[decode.index("-i") + 1] == str(source)

    def test_the_scorer_gets_raw_frames_and_never_the_encode(self, source: Path, tmp_path: Path) -> None:
        tools = FakeTools()
        list(adapter_in(tmp_path).run(NrInputRow(source), **tools.runners()))
        encodes = {argv[-1] for argv in tools.argv("encode")}
        decoded = [argv[-1] for argv in tools.argv("decode")]
        for call in (call for call in tools.calls if call.tool == "score"):
            reference, distorted = (call.argv[call.argv.index(leg) + 1] for leg in ("--reference", "--distorted"))
            assert encodes.isdisjoint(call.argv)
            assert reference == decoded[0]
            assert distorted in decoded[1:]
            assert call.raw_bytes == (FAKE_FRAME_BYTES * FAKE_FRAMES,) * 2
        # Each encode is what the decode after it reads.
        assert [argv[argv.index("-i") + 1] for argv in tools.argv("decode")[1:]] == [
            argv[-1] for argv in tools.argv("encode")
        ]

    @pytest.mark.parametrize("prefix", ["", "integer_"])
    def test_both_spellings_of_the_features_are_read(self, prefix: str, source: Path, tmp_path: Path) -> None:
        tools = FakeTools(log=json.dumps(vmaf_log(prefix=prefix)))
        row = next(adapter_in(tmp_path).run(NrInputRow(source), **tools.runners()))
        assert row["motion2_mean"] == pytest.approx(0.5)

    def test_the_features_of_a_row_are_moments_over_frames(self, source: Path, tmp_path: Path) -> None:
        log = vmaf_log()
        for frame in log["frames"]:
            frame["metrics"]["integer_adm2"] = frame["frameNum"] % 2
        row = next(adapter_in(tmp_path).run(NrInputRow(source), **FakeTools(log=json.dumps(log)).runners()))
        assert (row["adm2_mean"], row["adm2_std"]) == (0.5, 0.5)

    def test_an_hdr_upload_is_known_by_its_transfer(self, source: Path, tmp_path: Path) -> None:
        colors = {"color_transfer": "smpte2084", "color_primaries": "bt2020", "color_range": "tv"}
        probe = {**FAKE_PROBE, "streams": [{**FAKE_STREAM, "r_frame_rate": "24/1", **colors}]}
        tools = FakeTools(probe_stdout=json.dumps(probe))
        row = next(adapter_in(tmp_path).run(NrInputRow(source), **tools.runners()))
        assert (row["hdr_transfer"], row["hdr_primaries"], row["hdr_forced"]) == ("pq", "bt2020", False)

    def test_versions_that_nobody_printed_are_unknown(self, source: Path, tmp_path: Path) -> None:
        row = next(adapter_in(tmp_path).run(NrInputRow(source), **FakeTools(encode_stderr="").runners()))
        assert (row["ffmpeg_version"], row["encoder_version"]) == ("unknown", "libx264-unknown")

    def test_nothing_is_left_and_no_reference_is_kept(self, source: Path, tmp_path: Path) -> None:
        adapter = adapter_in(tmp_path)
        list(adapter.run(NrInputRow(source), **FakeTools().runners()))
        assert list(adapter.scratch_dir.iterdir()) == []

    @pytest.mark.parametrize("taken", [1, 2])
    def test_a_caller_that_stops_early_leaves_nothing_either(self, taken: int, source: Path, tmp_path: Path) -> None:
        adapter = adapter_in(tmp_path)
        rows = adapter.run(NrInputRow(source), **FakeTools().runners())
        for _ in range(taken):
            next(rows)
        rows.close()  # type: ignore[attr-defined]
        assert list(adapter.scratch_dir.iterdir()) == []

    def test_a_hash_that_nobody_wants_is_left_empty(self, source: Path, tmp_path: Path) -> None:
        adapter = adapter_in(tmp_path, options={"src_sha256": False})
        rows = list(adapter.run(NrInputRow(source), **FakeTools().runners()))
        assert [row["src_sha256"] for row in rows] == ["", ""]

    def test_references_that_are_kept_do_not_overwrite_each_other(self, source: Path, tmp_path: Path) -> None:
        adapter = adapter_in(tmp_path, keep_intermediate_yuv=True)
        namesake = tmp_path / "more clips" / source.name
        namesake.parent.mkdir()
        namesake.write_bytes(b"another upload")
        one, other = FakeTools(), FakeTools(reference=b"\x10" * FAKE_FRAME_BYTES * FAKE_FRAMES)
        list(adapter.run(NrInputRow(source), **one.runners()))
        assert (adapter.scratch_dir / "upload.yuv").read_bytes() == one.reference
        list(adapter.run(NrInputRow(namesake), **other.runners()))
        assert {path.read_bytes() for path in adapter.scratch_dir.iterdir()} == {one.reference, other.reference}
        assert (adapter.scratch_dir / "upload.yuv").read_bytes() == one.reference

    def test_encodes_that_are_kept_do_not_overwrite_each_other(self, source: Path, tmp_path: Path) -> None:
        adapter = adapter_in(tmp_path, options={"keep_encodes": True})
        namesake = tmp_path / "more clips" / source.name
        namesake.parent.mkdir()
        namesake.write_bytes(b"another upload")
        rows = list(adapter.run(NrInputRow(source), **FakeTools().runners()))
        rows += adapter.run(NrInputRow(namesake), **FakeTools(encode=b"another encode").runners())
        kept = [Path(row["encode_path"]) for row in rows]
        assert all(path.is_relative_to(tmp_path / "encodes") for path in kept)
        assert [path.read_bytes() for path in kept] == [b"an encode"] * 2 + [b"another encode"] * 2


@pytest.mark.usefixtures("no_tool")
class TestManyClipsWithFakedTools:
    def test_they_come_in_order_and_the_first_that_fails_ends_it(self, tmp_path: Path) -> None:
        sources = [tmp_path / f"{name}.mp4" for name in "cab"]
        for source in sources:
            source.write_bytes(source.name.encode())
        tools = FakeTools()
        given = [NrInputRow(source, float(place)) for place, source in enumerate(sources)]
        rows = list(adapter_in(tmp_path).run_many(given, **tools.runners()))
        expected = [(str(row.src), row.mos, crf) for row in given for crf in SWEEP]
        assert [(row["src"], row["nr_mos"], row["crf"]) for row in rows] == expected

        sources[1].unlink()
        rows = []
        with pytest.raises(RuntimeError, match=str(sources[1])):
            rows.extend(adapter_in(tmp_path).run_many(given, **tools.runners()))
        assert [row["src"] for row in rows] == [str(sources[0])] * 2

    @pytest.mark.parametrize("mos", [math.nan, -math.inf])
    def test_a_mos_that_is_not_finite_never_gets_into_a_row(self, mos: float, source: Path, tmp_path: Path) -> None:
        rows: list[Row] = []
        with pytest.raises(RuntimeError, match=str(source)):
            rows.extend(adapter_in(tmp_path).run(NrInputRow(source, mos), **FakeTools().runners()))
        assert rows == []


def only_pooled() -> str:
    return json.dumps({"version": "3.0.0", "pooled_metrics": vmaf_log()["pooled_metrics"]})


def with_nan() -> str:
    log = vmaf_log()
    log["frames"][2]["metrics"]["integer_vif_scale1"] = math.nan
    return json.dumps(log)


def with_vmaf_nan() -> str:
    log = vmaf_log()
    log["frames"][-1]["metrics"]["vmaf"] = math.nan
    return json.dumps(log)


def without_feature() -> str:
    log = vmaf_log()
    for frame in log["frames"]:
        del frame["metrics"]["integer_motion2"]
    return json.dumps(log)


def feature_missing_once() -> str:
    log = vmaf_log()
    del log["frames"][3]["metrics"]["integer_adm2"]
    return json.dumps(log)


def null_score() -> str:
    log = vmaf_log()
    log["frames"][0]["metrics"]["vmaf"] = None
    return json.dumps(log)


def too_few() -> str:
    return json.dumps(vmaf_log(frames=FAKE_FRAMES - 1))


def too_many() -> str:
    return json.dumps(vmaf_log(frames=FAKE_FRAMES + 1))


def no_version() -> str:
    log = vmaf_log()
    del log["version"]
    return json.dumps(log)


def no_json() -> str:
    return "<VMAF/>"


def a_list() -> str:
    return "[]"


def no_log() -> None:
    return None


@pytest.mark.usefixtures("no_tool")
class TestWhatIsNeverARow:
    @pytest.mark.parametrize(
        "made",
        [
            only_pooled,
            with_nan,
            with_vmaf_nan,
            without_feature,
            feature_missing_once,
            null_score,
            too_few,
            too_many,
            no_version,
            no_json,
            a_list,
            no_log,
        ],
    )
    def test_a_score_log_that_does_not_have_every_value_of_every_frame(
        self, made: Callable[[], str | None], source: Path, tmp_path: Path
    ) -> None:
        tools = FakeTools(log=made())
        said = fail_to_measure(adapter_in(tmp_path), NrInputRow(source), tools.runners())
        assert "vmaf failed" in said
        assert tools.order.count("encode") == 1, "the failure ends the clip"

    @pytest.mark.parametrize(
        "written",
        [
            None,
            b"",
            b"\x80" * (FAKE_FRAME_BYTES // 2),
            b"\x80" * (FAKE_FRAME_BYTES * FAKE_FRAMES - 1),
            b"\x80" * (FAKE_FRAME_BYTES * FAKE_FRAMES + 1),
        ],
    )
    def test_a_reference_that_is_not_whole_frames(self, written: bytes | None, source: Path, tmp_path: Path) -> None:
        tools = FakeTools(reference=written)
        said = fail_to_measure(adapter_in(tmp_path), NrInputRow(source), tools.runners())
        assert "ffmpeg decode" in said
        assert tools.order == ["probe", "decode"]

    @pytest.mark.parametrize(
        "written",
        [
            None,
            b"",
            b"\x80" * (FAKE_FRAME_BYTES // 2),
            b"\x80" * (FAKE_FRAME_BYTES * FAKE_FRAMES + 1),
            b"\x80" * (FAKE_FRAME_BYTES * (FAKE_FRAMES - 1)),
            b"\x80" * (FAKE_FRAME_BYTES * (FAKE_FRAMES + 1)),
        ],
    )
    def test_an_encode_that_does_not_have_the_frames_of_the_reference(
        self, written: bytes | None, source: Path, tmp_path: Path
    ) -> None:
        tools = FakeTools(distortion=written)
        fail_to_measure(adapter_in(tmp_path), NrInputRow(source), tools.runners())
        assert "score" not in tools.order

    def test_an_encode_that_was_not_written(self, source: Path, tmp_path: Path) -> None:
        tools = FakeTools(encode=None)
        said = fail_to_measure(adapter_in(tmp_path), NrInputRow(source), tools.runners())
        assert "ffmpeg encode" in said
        assert tools.order == ["probe", "decode", "encode"]

    @pytest.mark.parametrize("tool", TOOLS)
    @pytest.mark.parametrize("status", [1, 255, -9])
    def test_whatever_comes_after_a_tool_that_failed(
        self, tool: str, status: int, source: Path, tmp_path: Path
    ) -> None:
        answer = Completed(returncode=status, stderr="[error] no such luck\n")
        tools = FakeTools(answers={tool: answer})
        said = fail_to_measure(adapter_in(tmp_path), NrInputRow(source), tools.runners())
        assert FAILURES[tool] in said
        assert "no such luck" in said
        assert tools.order[-1] == tool
        assert tools.order.count(tool) == 1

    @pytest.mark.parametrize("tool", ["decode", "encode"])
    @pytest.mark.parametrize(
        "line",
        [
            "[error] corrupt macroblock",
            "[h264 @ 0x55d0] [error] corrupt macroblock",
            "[fatal] corrupt macroblock",
            "[in#0/mov @ 0x1] [h264 @ 0x55d0] [error] corrupt macroblock",
        ],
    )
    def test_what_ffmpeg_made_although_it_complained_of_an_error(
        self, tool: str, line: str, source: Path, tmp_path: Path
    ) -> None:
        tools = FakeTools(answers={tool: Completed(returncode=0, stderr=f"ffmpeg version 6.1.1\n{line}\n")})
        said = fail_to_measure(adapter_in(tmp_path), NrInputRow(source), tools.runners())
        assert FAILURES[tool] in said
        assert "corrupt macroblock" in said
        for argv in (*tools.argv("decode"), *tools.argv("encode")):
            # Without the level in front of each line an error could not be told from a remark.
            assert argv[argv.index("-v") + 1] in {"level+warning", "level+info"}

    def test_but_a_warning_is_no_error(self, source: Path, tmp_path: Path) -> None:
        remark = "[swscaler @ 0x1] [warning] deprecated pixel format used, no [error] at all\n"
        tools = FakeTools(answers={"decode": Completed(stderr=remark)})
        assert len(list(adapter_in(tmp_path).run(NrInputRow(source), **tools.runners()))) == len(SWEEP)

    @pytest.mark.parametrize(
        "printed",
        [
            "",
            "not JSON",
            "[]",
            "{}",
            json.dumps({"streams": [], "format": {}}),
            json.dumps({"streams": [{**FAKE_STREAM, "width": 0}], "format": {}}),
            json.dumps({"streams": [{**FAKE_STREAM, "height": -48}], "format": {}}),
            json.dumps({"streams": [{**FAKE_STREAM, "width": "N/A"}], "format": {}}),
            json.dumps({"streams": [{"width": 64, "pix_fmt": "yuv420p"}], "format": {}}),
            json.dumps({"streams": [{**FAKE_STREAM, "pix_fmt": ""}], "format": {}}),
            json.dumps({"streams": [{**FAKE_STREAM, "r_frame_rate": "fast"}], "format": {}}),
        ],
    )
    def test_what_has_an_invalid_geometry(self, printed: str, source: Path, tmp_path: Path) -> None:
        tools = FakeTools(probe_stdout=printed)
        said = fail_to_measure(adapter_in(tmp_path), NrInputRow(source), tools.runners())
        assert "invalid geometry" in said
        assert tools.order == ["probe"]

    @pytest.mark.parametrize(
        ("stream", "said"),
        [
            ({"r_frame_rate": "0/0"}, "frame rate"),
            ({"r_frame_rate": "90000/1"}, "frame rate"),
            ({"r_frame_rate": "24/1", "pix_fmt": "yuv999p"}, "yuv999p"),
            ({"r_frame_rate": "24/1", "width": 16}, "too small"),
        ],
    )
    def test_what_cannot_be_encoded_or_scored(self, stream: Row, said: str, source: Path, tmp_path: Path) -> None:
        tools = FakeTools(probe_stdout=json.dumps({"streams": [{**FAKE_STREAM, **stream}], "format": {}}))
        assert said in fail_to_measure(adapter_in(tmp_path), NrInputRow(source), tools.runners())
        assert tools.order == ["probe"]

    def test_an_upload_that_is_not_there(self, tmp_path: Path) -> None:
        tools = FakeTools()
        fail_to_measure(adapter_in(tmp_path), NrInputRow(tmp_path / "gone.mp4"), tools.runners())
        assert "encode" not in tools.order


# What ffprobe would say of the clips below, which are as they are made.
CLIPS: Mapping[str, tuple[str, tuple[str, ...] | None, Row]] = {
    "plain.mp4": (SMALL_SCENE, None, {**FAKE_STREAM, "avg_frame_rate": "24/1"}),
    "ten bits.mkv": (
        "testsrc2=size=64x48:rate=30000/1001,trim=end_frame=8,format=yuv420p10le",
        ("-c:v", "ffv1"),
        {**FAKE_STREAM, "pix_fmt": "yuv420p10le", "avg_frame_rate": "0/0", "r_frame_rate": "30000/1001"},
    ),
    "full range.mp4": (
        "testsrc2=size=192x144:rate=24,trim=end_frame=8,scale=out_range=full,format=yuv420p,setparams=range=pc",
        None,
        {"width": 192, "height": 144, "pix_fmt": "yuv420p", "r_frame_rate": "24/1", "color_range": "pc"},
    ),
    # As nearly every upload: whoever decodes it knows its matrix, and nobody knows that of raw frames.
    "colours named.mp4": (
        "testsrc2=size=192x144:rate=24,trim=end_frame=8,format=yuv420p,"
        "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709",
        None,
        {"width": 192, "height": 144, "pix_fmt": "yuv420p", "r_frame_rate": "24/1", "color_range": "tv"},
    ),
    "gray, odd.mkv": (
        "testsrc=size=192x144:rate=25,trim=end_frame=8,format=gray,crop=191:143:0:0:exact=1",
        ("-c:v", "ffv1"),
        {"width": 191, "height": 143, "pix_fmt": "gray", "r_frame_rate": "25/1"},
    ),
}
# Raw frames carry neither colours nor the shape of a pixel, so the headers of an encode of them are shorter.
HEADERS = {"encode_size_bytes", "bitrate_kbps", "encode_path"}
HEADER_BYTES = 64
AWKWARD = ["plain", "a b", "a:b", "it's", "a,b", "a[b]c", "a=b;c", "-x", "a\\b", "à %d"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name, (scene, encode, _) in CLIPS.items():
        make_clip(folder / name, scene, *([encode] if encode else []))
    return folder


@pytest.fixture(scope="module")
def by_engine(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Row]]:
    """The rows that the clips have without a runner."""
    rows = list(adapter_in(tmp_path_factory.mktemp("engine")).run_many(NrInputRow(clips / name, 3.0) for name in CLIPS))
    return {name: [row for row in rows if row["src"] == str(clips / name)] for name in CLIPS}


def probe_of(name: str) -> Callable[..., Completed]:
    printed = json.dumps({"streams": [CLIPS[name][2]], "format": {"duration": "0.5"}})
    return FakeTools(probe_stdout=printed).run_probe


def assert_same(rows: list[Row], expected: list[Row]) -> None:
    """Compare all that is measured."""
    for one, other in zip(measurements(rows), measurements(expected), strict=True):
        numbers = {name for name, value in other.items() if isinstance(value, float)} - HEADERS
        assert {name: one[name] for name in numbers} == pytest.approx(
            {name: other[name] for name in numbers}, rel=0, abs=1e-9
        )
        rest = other.keys() - numbers - HEADERS
        assert {name: one[name] for name in rest} == {name: other[name] for name in rest}
        assert abs(one["encode_size_bytes"] - other["encode_size_bytes"]) <= HEADER_BYTES


def vmaf_bin() -> str:
    found = shutil.which("vmaf")
    if found is None:
        pytest.skip("there is no vmaf executable here")
    return found


class TestRealTools:
    @pytest.mark.parametrize("name", CLIPS)
    def test_step_by_step_gives_the_rows_of_the_engine(
        self, name: str, clips: Path, by_engine: dict[str, list[Row]], tmp_path: Path
    ) -> None:
        decode, encode = RealTool(), RealTool()
        adapter = adapter_in(tmp_path)
        given = NrInputRow(clips / name, 3.0)
        rows = adapter.run(given, probe_runner=probe_of(name), decode_runner=decode, encode_runner=encode)
        assert_same(list(rows), by_engine[name])
        assert (len(decode.calls), len(encode.calls)) == (1, len(SWEEP)), "this platform's own score reads the encode"
        assert list(adapter.scratch_dir.iterdir()) == []

    def test_a_source_that_is_replaced_meanwhile_has_no_row(self, make_clip: MakeClip, tmp_path: Path) -> None:
        source = make_clip(tmp_path / "clip.mp4")

        def replacing(argv: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
            source.write_bytes(source.read_bytes() + b"more")
            return subprocess.run(argv, capture_output=True, text=True, check=False)

        with pytest.raises(RuntimeError, match=r"changed while it was (measured|read)"):
            list(adapter_in(tmp_path).run(NrInputRow(source), encode_runner=replacing))

    def test_kept_encodes_of_a_callers_own_are_not_those_of_the_engine(
        self, make_clip: MakeClip, tmp_path: Path
    ) -> None:
        source = make_clip(tmp_path / "clip.mp4")
        adapter = adapter_in(tmp_path, options={"keep_encodes": True})
        own = list(adapter.run(NrInputRow(source), encode_runner=subprocess.run))
        engine = list(adapter.run(NrInputRow(source)))
        assert {row["encode_path"] for row in own}.isdisjoint(row["encode_path"] for row in engine)

    def test_of_an_rgb_source_too(self, make_clip: MakeClip, tmp_path: Path) -> None:
        upload = ("-pix_fmt", "gbrp", "-c:v", "ffv1")
        given = NrInputRow(make_clip(tmp_path / "rgb.mkv", encode=upload), 3.0)
        adapter = adapter_in(tmp_path)
        assert_same(list(adapter.run(given, encode_runner=subprocess.run)), list(adapter.run(given)))

    @pytest.mark.parametrize("name", ["plain.mp4", "ten bits.mkv"])
    def test_the_executable_gives_the_scores_of_the_engine(
        self, name: str, clips: Path, by_engine: dict[str, list[Row]], tmp_path: Path
    ) -> None:
        adapter = adapter_in(tmp_path, options={"vmaf_bin": vmaf_bin()})
        decode, encode, score = RealTool(), RealTool(), RealTool()
        runners = {"decode_runner": decode, "encode_runner": encode, "score_runner": score}
        rows = list(adapter.run(NrInputRow(clips / name, 3.0), probe_runner=probe_of(name), **runners))
        # It may be another libvmaf.
        version = {"vmaf_binary_version": rows[0]["vmaf_binary_version"]}
        assert_same(rows, [{**row, **version} for row in by_engine[name]])
        counts = (len(decode.calls), len(encode.calls), len(score.calls))
        assert counts == (1 + len(SWEEP), len(SWEEP), len(SWEEP))

    @pytest.mark.parametrize("folder", AWKWARD)
    def test_any_scratch_folder_does(
        self, folder: str, clips: Path, by_engine: dict[str, list[Row]], tmp_path: Path
    ) -> None:
        adapter = adapter_in(tmp_path, scratch_dir=tmp_path / folder / "scratch")
        given = NrInputRow(clips / "plain.mp4", 3.0)
        rows = adapter.run(given, decode_runner=subprocess.run, encode_runner=subprocess.run)
        assert_same(list(rows), by_engine["plain.mp4"])

    @pytest.mark.parametrize("folder", ["a b", "a:b", "it's", "-x"])
    def test_any_scratch_folder_does_for_the_executable(
        self, folder: str, clips: Path, by_engine: dict[str, list[Row]], tmp_path: Path
    ) -> None:
        options = {"vmaf_bin": vmaf_bin()}
        adapter = adapter_in(tmp_path, crf_sweep=SWEEP[:1], scratch_dir=tmp_path / folder / "scratch", options=options)
        (row,) = adapter.run(NrInputRow(clips / "plain.mp4", 3.0), score_runner=subprocess.run)
        assert row["vmaf_score"] == pytest.approx(by_engine["plain.mp4"][0]["vmaf_score"], rel=0, abs=1e-9)

    @pytest.mark.parametrize("folder", ["-x", "a:b", "a b"])
    def test_a_relative_scratch_folder_is_never_an_option_or_a_protocol(
        self,
        folder: str,
        clips: Path,
        by_engine: dict[str, list[Row]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        adapter = adapter_in(tmp_path, scratch_dir=Path(folder))
        given = NrInputRow(clips / "plain.mp4", 3.0)
        rows = adapter.run(given, decode_runner=subprocess.run, encode_runner=subprocess.run)
        assert_same(list(rows), by_engine["plain.mp4"])
        assert list(Path(folder).iterdir()) == []

    @pytest.mark.parametrize(("encoder", "preset"), [("libx265", "ultrafast"), ("libsvtav1", "11")])
    def test_any_encoder_does(self, encoder: str, preset: str, clips: Path, tmp_path: Path) -> None:
        settings: Row = {"crf_sweep": (35,), "preset": preset, "options": {"encoder": encoder}}
        given = NrInputRow(clips / "plain.mp4", 3.0)
        expected = list(adapter_in(tmp_path, **settings).run(given))
        adapter = adapter_in(tmp_path, **settings, scratch_dir=tmp_path / "it's a:b, [c]")
        assert_same(list(adapter.run(given, encode_runner=subprocess.run)), expected)

    @pytest.mark.parametrize("tool", TOOLS)
    def test_one_tool_of_the_callers_own_and_the_rest_as_it_is(
        self, tool: str, clips: Path, by_engine: dict[str, list[Row]], tmp_path: Path
    ) -> None:
        name = "plain.mp4"
        options = {"vmaf_bin": vmaf_bin()} if tool == "score" else {}
        runner = probe_of(name) if tool == "probe" else RealTool()
        adapter = adapter_in(tmp_path, options=options)
        rows = list(adapter.run(NrInputRow(clips / name, 3.0), **{f"{tool}_runner": runner}))
        version = {"vmaf_binary_version": rows[0]["vmaf_binary_version"]} if tool == "score" else {}
        assert_same(rows, [{**row, **version} for row in by_engine[name]])
        if isinstance(runner, RealTool):
            programs = {Path(argv[0]).name for argv in runner.calls}
            assert len(programs) == 1
            assert ("vmaf" in programs) == (tool == "score")

    def test_a_reference_that_is_kept_is_that_of_a_plain_ffmpeg(
        self, clips: Path, ffmpeg: FFmpeg, tmp_path: Path
    ) -> None:
        source = clips / "plain.mp4"
        adapter = adapter_in(tmp_path, crf_sweep=(38,), keep_intermediate_yuv=True)
        list(adapter.run(NrInputRow(source), decode_runner=subprocess.run))
        command = [str(ffmpeg.path), "-v", "error", "-i", str(source), "-fps_mode", "passthrough", "-f", "rawvideo"]
        plain = subprocess.run([*command, "-"], capture_output=True, check=True).stdout
        assert (adapter.scratch_dir / "plain.yuv").read_bytes() == plain
        assert len(list(adapter.scratch_dir.iterdir())) == 1

    def test_encodes_are_kept_where_the_rows_say(self, clips: Path, tmp_path: Path) -> None:
        adapter = adapter_in(tmp_path, options={"keep_encodes": True})
        for row in adapter.run(NrInputRow(clips / "plain.mp4"), encode_runner=subprocess.run):
            assert Path(row["encode_path"]).stat().st_size == row["encode_size_bytes"]
            assert Path(row["encode_path"]).is_relative_to(tmp_path / "encodes")


SAMPLE: Row = {"options": {"sample_clip_seconds": 0.25}}


class TestSamples:
    def test_the_encode_has_the_centre_and_the_scorer_skips_to_it(self, source: Path, tmp_path: Path) -> None:
        # Six frames of twelve, from the fourth on.
        tools = FakeTools(reference=b"\x80" * FAKE_FRAME_BYTES * 12)
        rows = list(adapter_in(tmp_path, **SAMPLE).run(NrInputRow(source), **tools.runners()))
        assert [row["clip_mode"] for row in rows] == ["sample_0.25s"] * 2
        assert [row["duration_s"] for row in rows] == [0.5] * 2
        for argv in tools.argv("encode"):
            assert argv[argv.index("-vf") + 1].startswith("trim=start_frame=3:end_frame=9,")
        for argv in tools.argv("score"):
            assert argv[argv.index("--frame_skip_ref") + 1] == "3"
            assert argv[argv.index("--frame_cnt") + 1] == "6"

    def test_a_clip_that_is_no_longer_is_taken_whole(self, source: Path, tmp_path: Path) -> None:
        tools = FakeTools()
        rows = list(adapter_in(tmp_path, **SAMPLE).run(NrInputRow(source), **tools.runners()))
        assert [row["clip_mode"] for row in rows] == ["full"] * 2
        assert not any("trim=" in argument for argv in tools.argv("encode") for argument in argv)
        assert not any("--frame_skip_ref" in argv or "--frame_cnt" in argv for argv in tools.argv("score"))

    @pytest.mark.parametrize("with_executable", [False, True])
    def test_step_by_step_gives_the_sample_of_the_engine(
        self, with_executable: bool, clips: Path, tmp_path: Path
    ) -> None:
        given = NrInputRow(clips / "plain.mp4")
        expected = list(adapter_in(tmp_path, **SAMPLE).run(given))
        assert [row["clip_mode"] for row in expected] == ["sample_0.25s"] * 2
        options = {**SAMPLE["options"], **({"vmaf_bin": vmaf_bin()} if with_executable else {})}
        runners: Row = {"decode_runner": subprocess.run, "encode_runner": subprocess.run}
        if with_executable:
            runners["score_runner"] = subprocess.run
        rows = list(adapter_in(tmp_path, options=options).run(given, **runners))
        version = {"vmaf_binary_version": rows[0]["vmaf_binary_version"]}
        assert_same(rows, [{**row, **version} for row in expected])


def test_a_step_that_is_stopped_leaves_nothing(clips: Path, tmp_path: Path) -> None:
    def interrupt(*_: object, **__: object) -> Completed:
        raise KeyboardInterrupt

    adapter = adapter_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        list(adapter.run(NrInputRow(clips / "plain.mp4"), encode_runner=interrupt))
    assert list(adapter.scratch_dir.iterdir()) == []


def test_the_default_options_are_those_of_a_local_run() -> None:
    options = CorpusOptions()
    assert (options.ffprobe_bin, options.vmaf_bin, options.encoder) == ("ffprobe", "vmaf", "libx264")
    assert (options.keep_encodes, options.src_sha256, options.sample_clip_seconds) == (False, True, 0.0)
