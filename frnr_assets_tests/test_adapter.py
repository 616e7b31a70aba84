"""The library as its callers use it, on real tools: clips in, rows out, nothing left behind."""

import hashlib
import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from frnr_assets import adapter as library
from frnr_assets.adapter import (
    CORPUS_ROW_KEYS,
    DEFAULT_CRF_SWEEP,
    DEFAULT_PRESET,
    PROVENANCE_KEYS,
    SCHEMA_VERSION,
    CorpusOptions,
    NrInputRow,
    NrToFrAdapter,
)
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.vocabulary import CANONICAL6_FEATURES
from frnr_assets_tests.assets.tool_wrapper import ToolWrapper, processes_of, wrap
from frnr_assets_tests.conftest import RULES, SMALL_SCENE, MakeClip
from frnr_assets_tests.media.test_golden import TOLERANCE, golden_rows

Row = dict[str, Any]

# Descending, because it is the caller's order that rows come in.
SWEEP = (38, 18)
OTHER_SCENE = "testsrc=size=64x48:rate=24,trim=end_frame=10,format=yuv420p"
# What differs between two measurements of the same clip.
TIMES = {"run_id", "timestamp", "encode_time_ms", "score_time_ms"}
NOT_A_VIDEO = b"not a video at all"


def measurements(rows: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def adapter_in(folder: Path, **settings: Any) -> NrToFrAdapter:
    """An adapter whose folders are below one of the test's own."""
    options = {"encode_dir": folder / "encodes", "cores": 2, "rules": RULES, **settings.pop("options", {})}
    given = {"crf_sweep": SWEEP, "scratch_dir": folder / "scratch", **settings}
    return NrToFrAdapter(options=CorpusOptions(**options), **given)


class TestInputRows:
    def test_a_manifest_row_is_taken_as_it_stands(self) -> None:
        row = NrInputRow.from_dict({"src": "clips/a.mp4", "mos": 3.25, "ratings": 12, "split": "test"})
        assert row == NrInputRow(Path("clips/a.mp4"), 3.25, {"ratings": 12, "split": "test"})

    @pytest.mark.parametrize("manifest_row", [{"src": "a.mp4"}, {"src": "a.mp4", "mos": None}])
    def test_a_clip_needs_no_mos(self, manifest_row: Row) -> None:
        assert NrInputRow.from_dict(manifest_row) == NrInputRow(Path("a.mp4"), None, {})

    def test_a_row_without_a_source_is_refused(self) -> None:
        with pytest.raises(KeyError, match="src"):
            NrInputRow.from_dict({"mos": 3.25})

    def test_a_source_is_all_that_a_caller_has_to_give(self) -> None:
        row = NrInputRow(Path("a.mp4"))
        assert (row.mos, row.extra) == (None, None)


class TestConstruction:
    def test_it_says_what_it_does_without_a_setting(self) -> None:
        adapter = NrToFrAdapter()
        assert adapter.crf_sweep == DEFAULT_CRF_SWEEP == (18, 23, 28, 33, 38)
        assert adapter.preset == DEFAULT_PRESET == "medium"
        assert adapter.scratch_dir == Path(".workingdir2/fr_from_nr_scratch")
        assert adapter.keep_intermediate_yuv is False
        assert SCHEMA_VERSION == 3
        assert not Path(adapter.scratch_dir).exists(), "constructing one touches no disk"

    def test_all_that_a_caller_imports_is_there(self) -> None:
        assert all(hasattr(library, name) for name in library.__all__)

    @pytest.mark.parametrize("sweep", [(), []])
    def test_an_empty_sweep_is_refused(self, sweep: Any) -> None:
        with pytest.raises(ValueError, match="non-empty"):
            NrToFrAdapter(crf_sweep=sweep)

    @pytest.mark.parametrize("crf", [23.0, True, "23", None])
    def test_a_crf_that_is_no_int_is_refused(self, crf: Any) -> None:
        with pytest.raises(TypeError, match="int"):
            NrToFrAdapter(crf_sweep=(18, crf))

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({"preset": ""}, "preset"),
            ({"preset": None}, "preset"),
            ({"preset": "quick"}, "quick"),
            ({"crf_sweep": (18, 52)}, "52"),
            ({"crf_sweep": (-1,)}, "-1"),
            ({"options": CorpusOptions(encoder="libtheora")}, "libtheora"),
            ({"options": CorpusOptions(encoder="libsvtav1"), "preset": "medium"}, "medium"),
            ({"options": CorpusOptions(encoder="libsvtav1"), "preset": "8", "crf_sweep": (0,)}, "CRF 0"),
            ({"options": CorpusOptions(extra_params=("-crf", "3"))}, "-crf"),
            ({"options": CorpusOptions(sample_clip_seconds=-1.0)}, "sample_clip_seconds"),
            ({"options": CorpusOptions(vmaf_model="there/is/none.json")}, "none.json"),
        ],
    )
    def test_what_the_encoder_or_vmaf_would_not_take_is_refused_by_name(self, settings: Row, named: str) -> None:
        with pytest.raises(ValueError, match=named):
            NrToFrAdapter(**settings)

    def test_a_sweep_may_be_a_list_in_any_order(self) -> None:
        assert list(NrToFrAdapter(crf_sweep=[38, 18, 23]).crf_sweep) == [38, 18, 23]


@dataclass(frozen=True)
class Measured:
    """Five clips measured together on two cores, not to be changed."""

    folder: Path
    inputs: tuple[NrInputRow, ...]
    rows: list[Row]
    while_it_ran: set[str]

    def of(self, source: Path) -> list[Row]:
        return [row for row in self.rows if row["src"] == str(source)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Measured:
    folder = tmp_path_factory.mktemp("measured")
    ten_bits = "testsrc2=size=64x48:rate=30000/1001,trim=end_frame=8,format=yuv420p10le"
    inputs = (
        # The first is the longest: those after it are done before.
        NrInputRow(make_clip(folder / "clips" / "long.mp4", SMALL_SCENE.replace("=12", "=60")), 3.0123456789012345),
        NrInputRow(make_clip(folder / "clips" / "a" / "clip.mp4"), None, {"split": "test"}),
        NrInputRow(make_clip(folder / "clips" / "b" / "clip.mp4", OTHER_SCENE), 5),
        NrInputRow(make_clip(folder / "clips" / "ten bits é.mkv", ten_bits, ("-c:v", "ffv1")), 1.0),
        NrInputRow(make_clip(folder / "clips" / "odd.mkv", f"{OTHER_SCENE},crop=63:47:0:0:exact=1", ("-c:v", "ffv1"))),
    )
    rows, while_it_ran = [], set()
    for row in adapter_in(folder).run_many(row for row in inputs):
        rows.append(row)
        while_it_ran |= {path.suffix for path in folder.rglob("*") if path.is_file()}
    return Measured(folder, inputs, rows, while_it_ran)


class TestRows:
    def test_they_come_in_the_order_of_the_clips_and_of_the_sweep(self, measured: Measured) -> None:
        expected = [(str(row.src), crf) for row in measured.inputs for crf in SWEEP]
        assert [(row["src"], row["crf"]) for row in measured.rows] == expected

    def test_their_keys_are_the_contracts_in_its_order(self, measured: Measured) -> None:
        for row in measured.rows:
            assert tuple(row) == (*CORPUS_ROW_KEYS, *PROVENANCE_KEYS)

    def test_they_say_which_upload_they_were_made_from(self, measured: Measured) -> None:
        for given in measured.inputs:
            digest = hashlib.sha256(given.src.read_bytes()).hexdigest()
            for row in measured.of(given.src):
                assert row["fr_from_nr"] is True
                assert row["nr_source"] == row["src"] == str(given.src)
                assert row["src_sha256"] == digest
                assert row["nr_mos"] == given.mos
                assert type(row["nr_mos"]) is type(given.mos)

    def test_every_number_is_finite_and_they_are_strict_json(self, measured: Measured) -> None:
        for row in measured.rows:
            assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
            assert json.loads(json.dumps(row, allow_nan=False)) == row

    def test_nothing_is_missing_but_a_mos_that_there_never_was(self, measured: Measured) -> None:
        for row in measured.rows:
            assert {name for name, value in row.items() if value is None} <= {"nr_mos"}
            assert (row["exit_status"], row["clip_mode"], row["encode_path"]) == (0, "full", "")
            assert (row["schema_version"], row["encoder"], row["preset"]) == (3, "libx264", "medium")
            assert row["ffmpeg_version"] != "unknown"
            assert row["encoder_version"].startswith("libx264-1")

    def test_quality_falls_with_crf(self, measured: Measured) -> None:
        for worse, better in zip(measured.rows[::2], measured.rows[1::2], strict=True):
            assert 0 <= worse["vmaf_score"] < better["vmaf_score"] <= 100
            assert worse["encode_size_bytes"] < better["encode_size_bytes"]

    def test_each_clip_keeps_its_own_format(self, measured: Measured) -> None:
        found = [(row["width"], row["height"], row["pix_fmt"], row["framerate"]) for row in measured.rows[::2]]
        assert found[3] == (64, 48, "yuv420p10le", pytest.approx(30000 / 1001))
        assert found[0] == found[1] == found[2] == (64, 48, "yuv420p", 24.0)
        assert found[4] == (62, 46, "yuv420p", 24.0), "an odd size is cropped"

    def test_two_sources_of_one_stem_are_two_clips(self, measured: Measured) -> None:
        one, other = (measured.of(given.src) for given in measured.inputs[1:3])
        assert [row["duration_s"] for row in (*one, *other)] == [0.5, 0.5, 10 / 24, 10 / 24]
        assert one[0]["vmaf_score"] != other[0]["vmaf_score"]

    def test_a_clip_that_comes_twice_has_its_rows_twice(self, measured: Measured, tmp_path: Path) -> None:
        given = measured.inputs[2]
        rows = list(adapter_in(tmp_path, options={"keep_encodes": True}).run_many([given, replace(given, mos=1.5)]))
        assert [(row["nr_mos"], row["crf"]) for row in rows] == [(mos, crf) for mos in (5, 1.5) for crf in SWEEP]
        assert all(Path(row["encode_path"]).is_file() for row in rows)
        unlike = {"nr_mos": None, "encode_path": ""}
        expected = [{**row, **unlike} for row in measurements(measured.of(given.src))]
        assert [{**row, **unlike} for row in measurements(rows)] == expected * 2

    def test_a_clip_that_comes_twice_by_different_paths_has_its_rows_by_both(
        self, measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        absolute = measured.inputs[2].src
        monkeypatch.chdir(absolute.parent)
        paths = (Path(absolute.name), absolute, Path("..", absolute.parent.name, absolute.name))
        rows = list(adapter_in(tmp_path, crf_sweep=(38,)).run_many(map(NrInputRow, (*paths, measured.inputs[1].src))))
        assert [row["src"] for row in rows] == [*map(str, paths), str(measured.inputs[1].src)]

    def test_nothing_is_left_and_no_raw_frame_was_written(self, measured: Measured) -> None:
        assert list((measured.folder / "scratch").iterdir()) == []
        assert not (measured.folder / "encodes").exists()
        assert ".yuv" not in measured.while_it_ran

    def test_one_clip_alone_gives_the_rows_that_it_gives_among_many(self, measured: Measured, tmp_path: Path) -> None:
        given = measured.inputs[2]
        assert measurements(list(adapter_in(tmp_path).run(given))) == measurements(measured.of(given.src))


@pytest.mark.parametrize("clip", ["ugc_192x144.mp4"])
def test_a_real_clip_gives_the_golden_scores(clip: str, shared: Path, tmp_path: Path) -> None:
    golden = {row["crf"]: row for row in golden_rows(shared) if row["clip"] == clip}
    rows = list(adapter_in(tmp_path, crf_sweep=tuple(golden)).run(NrInputRow(shared / "clips" / clip, 2.11)))
    assert [row["crf"] for row in rows] == list(golden)
    for row in rows:
        expected = golden[row["crf"]]
        features = [f"{name}_{moment}" for name in CANONICAL6_FEATURES for moment in ("mean", "std")]
        assert {name: row[name] for name in features} == pytest.approx(
            {name: expected[name] for name in features}, abs=TOLERANCE, rel=0
        )
        assert row["vmaf_score"] == pytest.approx(expected["vmaf_mean"], abs=TOLERANCE, rel=0)
        assert (row["width"], row["height"]) == (expected["width"], expected["height"])


def not_a_video(good: Path, path: Path) -> None:
    del good
    path.write_bytes(NOT_A_VIDEO)


def cut_short(good: Path, path: Path) -> None:
    path.write_bytes(good.read_bytes()[:-2000])


def empty(good: Path, path: Path) -> None:
    del good
    path.touch()


def a_folder(good: Path, path: Path) -> None:
    del good
    path.mkdir()


def missing(good: Path, path: Path) -> None:
    del good, path


class TestWhatCannotBeMeasured:
    @pytest.mark.parametrize("spoil", [not_a_video, cut_short, empty, a_folder, missing])
    def test_a_broken_clip_ends_it_by_name_after_the_rows_of_those_before(
        self, spoil: Any, measured: Measured, tmp_path: Path
    ) -> None:
        good, after = measured.inputs[2], measured.inputs[1]
        broken = tmp_path / "brøken.mp4"
        spoil(good.src, broken)
        rows: list[Row] = []
        with pytest.raises(RuntimeError) as failure:
            rows.extend(adapter_in(tmp_path).run_many([good, NrInputRow(broken), after]))
        # extend() has taken what came before the failure.
        assert measurements(rows) == measurements(measured.of(good.src))
        assert str(broken) in str(failure.value)
        assert list((tmp_path / "scratch").iterdir()) == []

    def test_the_failure_of_a_cell_is_the_clips(self, measured: Measured, ffmpeg: FFmpeg, tmp_path: Path) -> None:
        wrapper = wrap(ffmpeg.path, tmp_path / "tool")
        wrapper.fail("b/clip.mp4 .*-crf 18 ")
        adapter = adapter_in(tmp_path, options={"ffmpeg_bin": str(wrapper.path)})
        rows: list[Row] = []
        with pytest.raises(RuntimeError, match="told to fail") as failure:
            rows.extend(adapter.run_many(measured.inputs[1:3]))
        assert {row["src"] for row in rows} == {str(measured.inputs[1].src)}
        assert str(measured.inputs[2].src) in str(failure.value)

    @pytest.mark.parametrize("mos", [math.nan, math.inf])
    def test_a_mos_that_is_not_finite_never_gets_into_a_row(
        self, mos: float, measured: Measured, tmp_path: Path
    ) -> None:
        good, spoilt = measured.inputs[1], replace(measured.inputs[2], mos=mos)
        rows: list[Row] = []
        with pytest.raises(RuntimeError) as failure:
            rows.extend(adapter_in(tmp_path).run_many([good, spoilt]))
        assert str(spoilt.src) in str(failure.value)
        assert measurements(rows) == measurements(measured.of(good.src)), "after the rows of the clips before"

    def test_a_tool_that_goes_away_is_named_with_the_clip(
        self, measured: Measured, ffmpeg: FFmpeg, tmp_path: Path
    ) -> None:
        wrapper = wrap(ffmpeg.path, tmp_path / "tool")
        wrapper.vanish("-crf 18 ")
        adapter = adapter_in(tmp_path, options={"ffmpeg_bin": str(wrapper.path)})
        source = measured.inputs[0].src
        with pytest.raises(RuntimeError, match=f"^{source}: {wrapper.path} is not an executable file$"):
            list(adapter.run(measured.inputs[0]))

    def test_no_clip_is_no_row(self, tmp_path: Path) -> None:
        assert list(adapter_in(tmp_path).run_many([])) == []

    def test_an_ffmpeg_that_is_not_there_is_named(self, measured: Measured, tmp_path: Path) -> None:
        adapter = adapter_in(tmp_path, options={"ffmpeg_bin": "/nowhere/ffmpeg"})
        with pytest.raises(RuntimeError, match="/nowhere/ffmpeg"):
            list(adapter.run(measured.inputs[1]))

    def test_a_name_on_path_is_an_ffmpeg_too(
        self, measured: Measured, ffmpeg: FFmpeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrapper = wrap(ffmpeg.path, tmp_path / "tool")
        monkeypatch.setenv("PATH", str(wrapper.folder), prepend=":")
        given = measured.inputs[1]
        rows = list(adapter_in(tmp_path, options={"ffmpeg_bin": "ffmpeg"}).run(given))
        assert measurements(rows) == measurements(measured.of(given.src))
        assert wrapper.encodes == len(SWEEP)


class _ConsumerFailedError(Exception):
    pass


def close(rows: Iterator[Row], wait: Any) -> None:
    next(rows)
    wait()
    rows.close()  # type: ignore[attr-defined]


def raise_in_the_loop(rows: Iterator[Row], wait: Any) -> None:
    with pytest.raises(_ConsumerFailedError):
        _fail_at_the_first_row(rows, wait)


def _fail_at_the_first_row(rows: Iterator[Row], wait: Any) -> None:
    for _ in rows:
        wait()
        raise _ConsumerFailedError


def let_go(rows: Iterator[Row], wait: Any) -> None:
    next(rows)
    wait()


@pytest.mark.parametrize("stop", [close, raise_in_the_loop, let_go])
@pytest.mark.parametrize("keep", [False, True])
def test_a_caller_that_stops_early_leaves_no_scratch_file_and_no_process(
    stop: Any, keep: bool, measured: Measured, ffmpeg: FFmpeg, tmp_path: Path
) -> None:
    wrapper = wrap(ffmpeg.path, tmp_path / "tool")
    # The rows of the first clip come while the second is being measured.
    wrapper.hang("b/clip.mp4 .*-crf 18 ")
    adapter = adapter_in(
        tmp_path, keep_intermediate_yuv=keep, options={"ffmpeg_bin": str(wrapper.path), "keep_encodes": keep}
    )

    def wait_for_the_hanging_encode() -> None:
        deadline = time.monotonic() + 30
        while not processes_of(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    # Nothing else here holds the generator: to let go of it is to end it.
    stop(adapter.run_many(measured.inputs[1:3]), wait_for_the_hanging_encode)
    assert processes_of(tmp_path) == []
    left = {path.suffix for path in (tmp_path / "scratch").iterdir()}
    assert left == ({".yuv"} if keep else set())


@pytest.fixture
def recorder(ffmpeg: FFmpeg, tmp_path: Path) -> ToolWrapper:
    """An ffmpeg that writes down all its commands."""
    wrapper = wrap(ffmpeg.path, tmp_path / "tool")
    wrapper.path.write_text(f'#!/bin/sh\necho "$*" >> {wrapper.folder}/encodes.log\nexec {ffmpeg.path} "$@"\n')
    return wrapper


@pytest.fixture(scope="module")
def raw_frames(measured: Measured, ffmpeg: FFmpeg) -> dict[Path, bytes]:
    """The frames of the measured clips as a plain ffmpeg decodes them."""
    decoded = {}
    for source in (given.src for given in measured.inputs):
        command = [str(ffmpeg.path), "-v", "error", "-i", str(source)]
        command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-"]
        decoded[source] = subprocess.run(command, check=True, capture_output=True).stdout
    return decoded


class TestKeptReferences:
    def test_they_are_the_raw_frames_under_the_stem_of_the_source(
        self, measured: Measured, raw_frames: dict[Path, bytes], tmp_path: Path
    ) -> None:
        adapter = adapter_in(tmp_path, crf_sweep=(38,), keep_intermediate_yuv=True)
        for given in (measured.inputs[1], measured.inputs[3]):
            list(adapter.run(given))
            assert (adapter.scratch_dir / f"{given.src.stem}.yuv").read_bytes() == raw_frames[given.src]
        assert len(list(adapter.scratch_dir.iterdir())) == 2

    def test_those_of_one_stem_do_not_overwrite_each_other(
        self, measured: Measured, raw_frames: dict[Path, bytes], tmp_path: Path
    ) -> None:
        adapter = adapter_in(tmp_path, crf_sweep=(38,), keep_intermediate_yuv=True)
        namesakes = measured.inputs[1:3]
        list(adapter.run_many(namesakes))
        # Again, in another order: they keep their names.
        list(adapter.run_many(namesakes[::-1]))
        kept = [path.read_bytes() for path in adapter.scratch_dir.glob("clip*.yuv")]
        assert sorted(kept) == sorted(raw_frames[given.src] for given in namesakes)
        assert (adapter.scratch_dir / "clip.yuv").exists()

    def test_without_being_asked_for_no_raw_file_is_ever_written(
        self, measured: Measured, recorder: ToolWrapper, tmp_path: Path
    ) -> None:
        list(adapter_in(tmp_path, options={"ffmpeg_bin": str(recorder.path)}).run(measured.inputs[1]))
        commands = (recorder.folder / "encodes.log").read_text()
        assert "-crf 18" in commands
        assert ".yuv" not in commands
        assert "rawvideo" not in commands


class TestKeptEncodes:
    def test_the_rows_say_where_they_are(self, measured: Measured, tmp_path: Path) -> None:
        adapter = adapter_in(tmp_path, options={"keep_encodes": True})
        rows = list(adapter.run_many(measured.inputs[1:3]))
        assert len({row["encode_path"] for row in rows}) == 4
        for row in rows:
            encode = Path(row["encode_path"])
            assert encode.is_relative_to(tmp_path / "encodes")
            assert encode.stat().st_size == row["encode_size_bytes"]
        assert list((tmp_path / "scratch").iterdir()) == []
        without_path = [{**row, "encode_path": ""} for row in measurements(rows)]
        assert without_path == measurements([row for given in measured.inputs[1:3] for row in measured.of(given.src)])

    def test_those_of_a_clip_stay_when_another_is_measured(self, measured: Measured, tmp_path: Path) -> None:
        adapter = adapter_in(tmp_path, options={"keep_encodes": True})
        rows = [row for given in measured.inputs[1:4] for row in adapter.run(given)]
        assert len({row["encode_path"] for row in rows}) == 6
        for row in rows:
            assert Path(row["encode_path"]).stat().st_size == row["encode_size_bytes"]


class TestOptions:
    def test_a_sample_is_the_centre_of_a_clip_and_a_shorter_clip_is_taken_whole(
        self, measured: Measured, tmp_path: Path
    ) -> None:
        long, short = measured.inputs[:2]
        rows = list(adapter_in(tmp_path, options={"sample_clip_seconds": 1.0}).run_many([long, short]))
        assert [row["clip_mode"] for row in rows] == ["sample_1s"] * 2 + ["full"] * 2
        for row, whole in zip(rows, measured.of(long.src), strict=False):
            assert row["duration_s"] == whole["duration_s"] == 2.5
            assert row["encode_size_bytes"] < whole["encode_size_bytes"]
            assert row["bitrate_kbps"] == pytest.approx(row["encode_size_bytes"] * 8 / 1000)
        assert measurements(rows[2:]) == measurements(measured.of(short.src))

    def test_a_hash_that_nobody_wants_is_left_empty(self, measured: Measured, tmp_path: Path) -> None:
        given = measured.inputs[1]
        rows = list(adapter_in(tmp_path, options={"src_sha256": False}).run(given))
        assert [row["src_sha256"] for row in rows] == ["", ""]
        expected = [{**row, "src_sha256": ""} for row in measured.of(given.src)]
        assert measurements(rows) == measurements(expected)

    def test_encoder_preset_and_parameters_are_those_of_the_options(self, measured: Measured, tmp_path: Path) -> None:
        options = {"encoder": "libx265", "extra_params": ("-tune", "psnr")}
        (row,) = adapter_in(tmp_path, crf_sweep=(30,), preset="ultrafast", options=options).run(measured.inputs[1])
        made_with = (row["encoder"], row["preset"], row["extra_params"])
        assert made_with == ("libx265", "ultrafast", ["-tune", "psnr"])
        assert row["encoder_version"].startswith("libx265-")

    def test_relative_paths_start_where_the_caller_is(
        self, measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        given = measured.inputs[1]
        shutil.copy(given.src, "here.mp4")
        adapter = NrToFrAdapter(
            crf_sweep=SWEEP, keep_intermediate_yuv=True, options=CorpusOptions(keep_encodes=True, cores=2)
        )
        rows = list(adapter.run(NrInputRow(Path("here.mp4"))))
        assert [row["src"] for row in rows] == ["here.mp4", "here.mp4"]
        assert all(Path(row["encode_path"]).is_file() for row in rows)
        assert Path(".workingdir2/fr_from_nr_scratch/here.yuv").is_file()
        assert [row["vmaf_score"] for row in rows] == [row["vmaf_score"] for row in measured.of(given.src)]


def test_clips_are_asked_for_as_they_are_needed(measured: Measured, tmp_path: Path) -> None:
    def inputs() -> Iterator[NrInputRow]:
        yield measured.inputs[1]
        raise _ConsumerFailedError

    with pytest.raises(_ConsumerFailedError):
        list(adapter_in(tmp_path).run_many(inputs()))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_upload_itself_is_only_read(measured: Measured, tmp_path: Path) -> None:
    source = tmp_path / "clips" / "clip.mp4"
    source.parent.mkdir()
    shutil.copy(measured.inputs[1].src, source)
    before = source.stat()
    list(adapter_in(tmp_path, keep_intermediate_yuv=True, options={"keep_encodes": True}).run(NrInputRow(source)))
    assert [path.name for path in source.parent.iterdir()] == ["clip.mp4"]
    after = source.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
