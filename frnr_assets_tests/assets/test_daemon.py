"""What an operator sees in the UI, through the real webserver, daemon and code server."""

import os
import re
import signal
import socket
import struct
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, suppress
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from frnr_assets.automation import CELLS, INGEST, REFERENCES
from frnr_assets.corpus.publish import current_version
from frnr_assets.corpus.tables import Tables
from frnr_assets.definitions import build_definitions
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.settings import load_settings
from frnr_assets_tests.assets.dagster_dev import CHECKOUT, DagsterDev
from frnr_assets_tests.assets.tool_wrapper import ToolWrapper, processes_of, wrap
from frnr_assets_tests.assets.ui import LAUNCH_BACKFILL, REEXECUTE_BACKFILL, TERMINATE, Ui, partition_range, until
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip

CLIPS = ("bars", "odd", "plain")
SWEEP = (23, 38)

CORES = 2
SENSORS = ("watch_sources", "decode_missing_references", "measure_missing_cells", "publish_what_is_measured")


# As the kernel's table of sockets writes that state.
LISTEN = "0A"

ALL_CELLS = partition_range("bars|23", "plain|38")


def listening(session: int) -> list[tuple[str, int]]:
    """Return address and port of all TCP sockets that the processes of a session listen on."""
    sockets = set()
    for process in Path("/proc").glob("[0-9]*"):
        # Processes end, and files are closed, while this looks at them.
        with suppress(OSError):
            if os.getsid(int(process.name)) == session:
                sockets |= {descriptor.readlink().name for descriptor in (process / "fd").iterdir()}
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTEN and f"socket:[{inode}]" in sockets:
                host, port = local.split(":")
                words = [struct.pack("=I", int(host[start : start + 8], 16)) for start in range(0, len(host), 8)]
                found.append((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


class Stack(Ui):
    """A project that is spoken to as the UI speaks to it."""

    def __init__(self, folder: Path, wrapper: ToolWrapper):
        self.folder = folder
        self.wrapper = wrapper
        self.tables = Tables(folder / "data")
        self.dev = DagsterDev(folder, folder / "home")
        self.port = self.dev.port


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip, ffmpeg: FFmpeg) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    make_clip(folder / "clips" / "bars.mp4")
    make_clip(folder / "clips" / "odd.mp4", SMALL_SCENE.replace("64x48", "66x50"))
    make_clip(folder / "clips" / "plain.mp4", SMALL_SCENE.replace("end_frame=12", "end_frame=9"))
    wrapper = wrap(ffmpeg.path, folder / "tool")
    (folder / "manifest.jsonl").write_text("".join(f'{{"src": "clips/{clip}.mp4"}}\n' for clip in CLIPS))
    (folder / "frnr.toml").write_text(
        f'cores = {CORES}\ncrf_sweep = {list(SWEEP)}\nffmpeg_path = "{wrapper.path}"\n'
        '[[datasets]]\nname = "tests"\nmanifest = "manifest.jsonl"\n'
        "[automation]\ninterval_seconds = 1\n"
    )
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text())
    # Dagster puts what it keeps where it is started.
    with chdir(folder), dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        definitions = build_definitions(load_settings(folder))
        for job, tags in ((INGEST, {}), (REFERENCES, partition_range("bars", "plain"))):
            assert definitions.resolve_job_def(job).execute_in_process(instance=instance, tags=tags).success
    running = Stack(folder, wrapper)
    try:
        until(running.loaded, "the code location to load")
        yield running
    finally:
        running.dev.stop()


def test_nobody_on_another_machine_reaches_what_make_ui_runs(stack: Stack) -> None:
    found = listening(stack.dev.process.pid)
    assert stack.dev.port in [port for _, port in found]
    assert {address for address, _ in found} <= {"127.0.0.1", "::1"}


def test_nothing_of_what_is_done_here_is_told_to_dagsters_makers(stack: Stack) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.dev.port}/", timeout=60) as page:
        (setting,) = re.findall(r'"telemetryEnabled": *(\w+)', page.read().decode())
    assert setting == "false"
    assert not list((stack.folder / "home").glob("logs/event.log*")), "where Dagster keeps what it is to send"


def test_a_backfill_with_failing_cells_keeps_the_others_and_repairs_only_the_failed(stack: Stack) -> None:
    stack.wrapper.fail("odd.mp4.* -crf 38 ")
    everything = [f"{clip}|{crf}" for clip in CLIPS for crf in SWEEP]
    both = [{"path": ["distortion"]}, {"path": ["feature_rows"]}]
    launched = stack.ask(LAUNCH_BACKFILL, p={"assetSelection": both, "partitionNames": everything})
    status, runs = stack.backfill_to_its_end(launched)
    assert status == "COMPLETED_FAILED"
    assert stack.cells("feature_rows") == (5, 1)
    assert stack.cells("distortion") == (5, 1)
    (message,) = [message for run in runs for message in stack.failures(run)]
    assert message.startswith(
        "1 of 3 cells failed; the others are recorded.\nodd|38: encode at CRF 38 failed: told to fail"
    )

    stack.wrapper.fail(None)
    before = stack.wrapper.encodes
    again = stack.ask(REEXECUTE_BACKFILL, p={"parentRunId": launched["backfillId"], "strategy": "FROM_FAILURE"})
    status, _ = stack.backfill_to_its_end(again)
    assert status == "COMPLETED_SUCCESS"
    assert stack.cells("feature_rows") == (6, 0)
    assert stack.wrapper.encodes == before + 1, "only the failed cell is made again"


def start_a_run_that_hangs(stack: Stack) -> str:
    """Launch all cells anew, with encodes that never end, and return the run once they are under way."""
    stack.wrapper.hang(" -crf ")
    config = {"ops": {"cells": {"config": {"recompute": True}}}}
    run = stack.launch(CELLS, ALL_CELLS, config)
    until(lambda: len(processes_of(stack.folder)) == CORES, "the encodes to hang")
    return run


def test_terminating_a_run_leaves_no_program_and_no_file_behind_and_keeps_what_was_done(stack: Stack) -> None:
    rows = len(stack.tables.feature_rows.read())
    run = start_a_run_that_hangs(stack)
    stack.ask(TERMINATE, id=run)
    until(lambda: processes_of(stack.folder) == [], "the programs to end", 5)
    until(lambda: list(stack.tables.scratch.iterdir()) == [], "the scratch files to go", 5)
    until(lambda: stack.status(run) == "CANCELED", "the run to be cancelled")
    assert len(stack.tables.feature_rows.read()) == rows
    stack.wrapper.hang(None)


def test_killing_the_run_worker_ends_its_programs_and_the_cells_can_be_launched_again(stack: Stack) -> None:
    run = start_a_run_that_hangs(stack)
    program = processes_of(stack.folder)[0]
    status = Path(f"/proc/{program}/status").read_text()
    worker = int(status.split("PPid:")[1].split()[0])
    os.kill(worker, signal.SIGKILL)
    until(lambda: processes_of(stack.folder) == [], "the programs to end", 5)
    until(lambda: stack.status(run) == "FAILURE", "the run to be shown as failed")
    assert stack.cells("feature_rows") == (0, 6), "what was planned and not done is red"
    stack.wrapper.hang(None)
    before = stack.wrapper.encodes
    assert stack.run_to_its_end(CELLS, ALL_CELLS) == "SUCCESS"
    assert stack.cells("feature_rows") == (6, 0)
    assert stack.wrapper.encodes == before, "the rows were there all the time"
    assert list(stack.tables.scratch.iterdir()) == [], "the next run removes what the killed one left"


def test_a_clip_that_is_added_to_the_manifest_comes_into_the_corpus_without_a_hand(
    stack: Stack, make_clip: MakeClip
) -> None:
    for sensor in SENSORS:
        stack.start_sensor(sensor)
    make_clip(stack.folder / "clips" / "new.mp4", SMALL_SCENE.replace("testsrc2", "testsrc"))
    with (stack.folder / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"src": "clips/new.mp4", "mos": 4.25}\n')

    def published() -> bool:
        version = current_version(stack.tables.corpus)
        if version is None:
            return False
        new = pl.read_parquet(version).filter(pl.col("src").str.ends_with("/new.mp4"))
        return sorted(new["crf"]) == list(SWEEP) and set(new["nr_mos"]) == {4.25}

    until(published, "the new clip's rows to be published")
