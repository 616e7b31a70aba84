"""What a batch loses when it is killed, and when the disk is full: nothing that was recorded."""

import contextlib
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from frnr_assets.assets.cells import DISTORTION, FEATURE_ROWS
from frnr_assets.assets.decoded_reference import DECODED_REFERENCE
from frnr_assets.automation import CELLS, REFERENCES
from frnr_assets.corpus.schema import FEATURE_ROWS_SCHEMA
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets_tests.assets.batch import ALL_CLIPS, CLIPS, FIRST, SWEEP, Batch, same_cells
from frnr_assets_tests.assets.run_job import main as run_job
from frnr_assets_tests.assets.tool_wrapper import processes_of

# Cells of two clips may be encoded but not yet scored when two cores work.
IN_FLIGHT = 2 * len(SWEEP)


def wait_until_no_process(folder: Path, seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


# What the storage has to do with it shows in one.
@pytest.mark.parametrize(("storage", "most_kills"), [("sqlite", 6), ("postgres", 1)], indirect=["storage"])
def test_a_batch_killed_at_any_moment_loses_nothing_and_repeats_only_what_was_in_flight(
    tmp_path: Path,
    ffmpeg: FFmpeg,
    decoded_batch: Batch,
    uninterrupted: Batch,
    storage: Mapping[str, object],
    most_kills: int,
) -> None:
    batch = decoded_batch.copy(tmp_path / "killed", ffmpeg, storage=storage)
    moments = random.Random(7)
    kills = 0
    while kills < most_kills:
        run = batch.start()
        encoded = batch.wrapper.encodes
        # A moment within the batch, wherever start-up leaves it: after some more encodes and a random while.
        wanted = encoded + moments.randrange(1, 8)
        while run.poll() is None and batch.wrapper.encodes < wanted:
            time.sleep(0.01)
        time.sleep(moments.random() * 0.2)
        if run.poll() is not None:
            break
        run.kill()
        run.wait()
        kills += 1
        assert wait_until_no_process(tmp_path, 5) == []
        rows = batch.rows()
        assert rows.to_arrow().cast(FEATURE_ROWS_SCHEMA).num_rows == len(rows)
        there = {f"{clip}|{crf}" for clip, crf in rows.select("clip", "crf").iter_rows()}
        assert set(batch.recorded(FEATURE_ROWS)) <= there
        assert set(batch.recorded(FEATURE_ROWS)) <= set(batch.recorded(DISTORTION))
    assert kills >= (most_kills + 1) // 2, "the batch must outlast most of the kills for them to mean something"
    assert batch.finish() == 0
    assert same_cells(batch.rows(), uninterrupted.rows())
    assert len(batch.rows()) == CLIPS * len(SWEEP)
    assert batch.wrapper.encodes <= CLIPS * len(SWEEP) + kills * IN_FLIGHT
    assert list(batch.tables.scratch.iterdir()) == [], "what the killed runs left behind is gone"


def test_decoding_that_is_killed_keeps_the_references_it_has(
    tmp_path: Path, ffmpeg: FFmpeg, ingested_batch: Batch, decoded_batch: Batch
) -> None:
    batch = ingested_batch.copy(tmp_path / "killed", ffmpeg)
    batch.wrapper.hang("clip0[79][.]mp4")
    run = batch.start(REFERENCES, *ALL_CLIPS)
    deadline = time.monotonic() + 120
    with dg.DagsterInstance.from_config(str(batch.folder)) as instance:
        # Both cores hang before the last two clips are reached.
        while len(instance.fetch_materializations(DECODED_REFERENCE, limit=CLIPS).records) < 8:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    run.kill()
    run.wait()
    assert wait_until_no_process(tmp_path, 5) == []
    there = batch.tables.references.read()["clip"].to_list()
    assert there == [f"clip{index:02}" for index in (*range(7), 8)]
    assert set(batch.recorded(DECODED_REFERENCE)) == set(there)
    batch.wrapper.hang(None)
    assert batch.finish(REFERENCES, *ALL_CLIPS) == 0
    ours, theirs = (one.tables.references.read().drop("recorded_ns") for one in (batch, decoded_batch))
    assert ours.equals(theirs)


def test_a_batch_records_each_cell_once_per_asset_and_run(uninterrupted: Batch) -> None:
    for asset in (DISTORTION, FEATURE_ROWS):
        assert set(Counter(uninterrupted.recorded(asset)).values()) == {1}
    assert uninterrupted.wrapper.encodes == CLIPS * len(SWEEP)


def test_two_runs_over_the_same_cells_at_once_do_no_harm(
    tmp_path: Path, ffmpeg: FFmpeg, decoded_batch: Batch, uninterrupted: Batch
) -> None:
    batch = decoded_batch.copy(tmp_path / "twice", ffmpeg)
    runs = [batch.start(last="clip03|38"), batch.start(last="clip03|38")]
    assert [run.wait(timeout=300) for run in runs] == [0, 0]
    assert same_cells(batch.rows(), uninterrupted.rows().filter(pl.col("clip") <= "clip03"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_batch_completes_after_space_is_made(
    small_disk: Path, ffmpeg: FFmpeg, decoded_batch: Batch, uninterrupted: Batch, tmp_path: Path
) -> None:
    batch = decoded_batch.copy(tmp_path / "batch", ffmpeg, small_disk / "data")
    assert run_job(batch.folder, CELLS, FIRST, "clip02|38") == 0
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    assert batch.finish(last="clip05|38") == 1
    assert len(batch.rows()) == 3 * len(SWEEP), "the table is readable, and what was in it still is"
    log = batch.log.read_text(errors="replace")
    assert "No space left on device" in log
    assert "What is recorded stays; make space and launch the rest again" in log
    ballast.unlink()
    assert batch.finish(last="clip05|38") == 0
    assert same_cells(batch.rows(), uninterrupted.rows().filter(pl.col("clip") <= "clip05"))
