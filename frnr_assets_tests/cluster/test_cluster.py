"""Whether a batch on a Dask cluster comes to the same as on this machine, whatever dies meanwhile."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import dask.config
import pytest
import yaml

from frnr_assets.assets.cells import FEATURE_ROWS
from frnr_assets.automation import CELLS, INGEST, REFERENCES
from frnr_assets.cluster.cluster import survey
from frnr_assets.doctor import examine
from frnr_assets.engine.outcomes import CellDone, CellOutcome, CellQuarantined
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.process import ToolError
from frnr_assets.media.toolchain import Toolchain
from frnr_assets.settings import Settings
from frnr_assets_tests.assets.conftest import Project, make_project, persistent_instance
from frnr_assets_tests.assets.tool_wrapper import ToolWrapper, processes_of, wrap
from frnr_assets_tests.cluster.conftest import CLIPS, SWEEP, TIMES, Lab
from frnr_assets_tests.cluster.processes import DaskCluster, dask_cluster, is_running, wait_until
from frnr_assets_tests.conftest import MakeClip

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def wrapper(ffmpeg: FFmpeg, tmp_path: Path) -> ToolWrapper:
    """A worker's own ffmpeg."""
    return wrap(ffmpeg.path, tmp_path / "tool")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler of the test's own, without workers."""
    with dask_cluster(tmp_path / "dask") as cluster:
        yield cluster


@pytest.fixture
def project(tmp_path: Path, make_clip: MakeClip) -> Iterator[Project]:
    with persistent_instance(tmp_path) as instance:
        yield make_project(tmp_path, instance, make_clip)


def once(what: Callable[[], None], when: Callable[[], bool]) -> Callable[[], None]:
    """Return what does something the first time that it is called and the moment has come."""
    done = threading.Event()

    def look() -> None:
        if not done.is_set() and when():
            done.set()
            what()

    return look


def assert_each_once(outcomes: list[CellOutcome], lab: Lab, decoded: Lab) -> None:
    assert [outcome for outcome in outcomes if not isinstance(outcome, CellDone)] == []
    assert set(Counter((outcome.clip, outcome.crf) for outcome in outcomes).values()) == {1}
    assert len(outcomes) == CLIPS * len(SWEEP)
    assert lab.rows().equals(decoded.rows())
    assert list(lab.tables.scratch.iterdir()) == []


def test_a_run_on_a_cluster_makes_the_rows_of_a_run_on_this_machine(
    project: Project, cluster: DaskCluster, tmp_path: Path
) -> None:
    jobs = ((INGEST, None, None), (REFERENCES, "bars", "broken"), (CELLS, "bars|23", "broken|38"))
    there = project.with_settings(scheduler=cluster.address, data_root=tmp_path / "there")
    for one in (project, there):
        for job, first, last in jobs:
            assert one.run(job, first=first, last=last).success
    assert len(there.tables.feature_rows.read()) == 2 * len(SWEEP)
    for name in ("feature_rows", "references"):
        ours, theirs = (getattr(one.tables, name).read() for one in (project, there))
        differing = [column for column in TIMES if column in ours.columns]
        assert theirs.drop(differing).equals(ours.drop(differing))
    assert there.tables.quarantine()["clip"].to_list() == ["broken"]


def test_a_worker_that_is_killed_loses_no_cell_and_measures_none_twice(
    lab: Lab, decoded: Lab, cluster: DaskCluster, wrapper: ToolWrapper, tmp_path: Path
) -> None:
    victim = cluster.start_worker({"ffmpeg_path": str(wrapper.path)})
    wrapper.hang(" -crf ")
    outcomes: list[CellOutcome] = []
    with lab.engine(cluster.address) as engine:
        wait_until(lambda: engine.pool.cores == 3)
        kill = once(victim.kill, lambda: wrapper.encodes > 0)
        outcomes += engine.measure_cells(dict.fromkeys(lab.clips, SWEEP), run_id="run", waiting=kill)
    assert victim.popen.returncode == -signal.SIGKILL
    assert processes_of(tmp_path) == [], "its tools died with it"
    assert_each_once(outcomes, lab, decoded)


def test_a_worker_that_loses_its_ffmpeg_is_used_no_longer_and_fails_no_cell(
    lab: Lab, decoded: Lab, cluster: DaskCluster, wrapper: ToolWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    worker = cluster.start_worker({"ffmpeg_path": str(wrapper.path)})
    try:
        with lab.engine(cluster.address) as engine:
            wait_until(lambda: engine.pool.cores == 3)
            wrapper.path.unlink()
            outcomes = list(engine.measure_cells(dict.fromkeys(lab.clips, SWEEP), run_id="run"))
    finally:
        worker.kill()
    assert_each_once(outcomes, lab, decoded)
    (said,) = [record.message for record in caplog.records if "used no longer" in record.message]
    assert said.endswith(
        f"is used no longer: {wrapper.path} is not an executable file; what it was doing is done again"
    )


# Refuses four encodes, three of them one after the other; those of clip0 wait until it has done so.
SICK = """\
#!/bin/sh
files=$(for number in /proc/$$/fd/*; do readlink "$number"; done)
refused() {{ wc -l < {count}; }}
case "$* $files" in
*" -crf "*clip0.mp4*) while [ "$(refused)" -lt 5 ]; do sleep 0.05; done ;;
*" -crf "*)
    echo >> {count}
    case "$(refused)" in 1|2|3|5) echo "prlimit: failed to set the AS resource limit" >&2; exit 1 ;; esac ;;
esac
exec {ffmpeg} "$@"
"""


def test_a_worker_that_was_sick_for_a_while_goes_on_and_what_it_dropped_meanwhile_is_not_to_blame(
    lab: Lab, alone: DaskCluster, ffmpeg: FFmpeg, tmp_path: Path
) -> None:
    sick, count = tmp_path / "ffmpeg", tmp_path / "count"
    sick.write_text(SICK.format(ffmpeg=ffmpeg.path, count=count))
    sick.chmod(0o755)
    count.touch()
    alone.start_worker({"ffmpeg_path": str(sick)}, threads=2)
    with lab.engine(alone.address) as engine:
        outcomes = list(engine.measure_cells({lab.clips[0]: (38,), lab.clips[1]: SWEEP}, run_id="run"))
    assert [type(outcome) for outcome in outcomes] == [CellDone] * 3
    assert len(count.read_text()) >= 5


def test_tools_that_no_worker_can_use_for_a_clip_end_the_run_in_a_sentence_and_blame_no_clip(
    lab: Lab, alone: DaskCluster, wrapper: ToolWrapper
) -> None:
    refuse = 'case "$*" in *" -crf "*) echo "prlimit: failed to set the AS resource limit" >&2; exit 1 ;; esac'
    wrapper.path.write_text(wrapper.path.read_text().replace("\nexec /", f"\n{refuse}\nexec /"))
    alone.start_worker({"ffmpeg_path": str(wrapper.path)})
    with pytest.raises(ToolError, match=r"^4 times a worker could not use its tools, the last was tcp://"):
        lab.measure(alone.address)
    assert lab.tables.attempts.read().is_empty()


DEADLY = """\
#!/bin/sh
files=$(for number in /proc/$$/fd/*; do readlink "$number"; done)
case "$* $files" in *" -crf "*clip0.mp4*) kill -9 $PPID ;; esac
exec {ffmpeg} "$@"
"""


def test_a_clip_that_kills_its_workers_fails_and_goes_into_quarantine_and_those_their_nanny_brings_back_go_on(
    lab: Lab, decoded: Lab, alone: DaskCluster, ffmpeg: FFmpeg, tmp_path: Path
) -> None:
    deadly = tmp_path / "ffmpeg"
    deadly.write_text(DEADLY.format(ffmpeg=ffmpeg.path))
    deadly.chmod(0o755)
    alone.start_worker({"ffmpeg_path": str(deadly)}, nanny=True)
    # It has failed in two runs before.
    reference = lab.tables.references.read().row(0, named=True)
    file = {name: reference[name] for name in ("size_bytes", "mtime_ns")}
    lab.tables.attempts.append([{"clip": "clip0", "attempts": 2, "reason": "it failed", **file}])
    with lab.engine(alone.address) as engine:
        bad, good = engine.measure_cells({lab.clips[0]: (38,), lab.clips[1]: (38,)}, run_id="run")
    assert isinstance(bad, CellQuarantined)
    assert bad.clip == "clip0"
    assert bad.reason.startswith("it failed in 3 runs; the last time: 4 workers died while they worked on it")
    assert isinstance(good, CellDone)
    assert lab.rows().equals(decoded.rows().filter(clip="clip1", crf=38))


def test_a_scheduler_that_dies_ends_the_run_in_a_sentence_and_the_rest_is_measured_when_it_is_back(
    project: Project, alone: DaskCluster, wrapper: ToolWrapper, tmp_path: Path
) -> None:
    there = project.with_settings(scheduler=alone.address)
    for job, first, last in ((INGEST, None, None), (REFERENCES, "bars", "broken")):
        assert project.run(job, first=first, last=last).success
    (scheduler,) = alone.processes
    worker = alone.start_worker({"ffmpeg_path": str(wrapper.path)}, threads=2)
    wrapper.hang("odd.mp4")

    def kill_it() -> None:
        wait_until(lambda: processes_of(tmp_path) and len(there.tables.feature_rows.read()))
        scheduler.kill()

    killer = threading.Thread(target=kill_it, daemon=True)
    killer.start()
    failed = there.run(CELLS, first="bars|23", last="broken|38")
    killer.join()
    (said,) = there.failures(failed)
    assert said == (
        f"the Dask scheduler {alone.address} is gone. What is recorded stays; start it and its workers, and launch the "
        "rest again"
    )
    wait_until(lambda: not processes_of(tmp_path), 20)
    wait_until(lambda: not is_running(worker.popen.pid) or worker.popen.poll() is not None)
    rows = there.tables.feature_rows.read()
    assert 0 < len(rows) < 2 * len(SWEEP)
    wrapper.hang(None)
    alone.start_scheduler()
    alone.start_worker()
    assert there.run(CELLS, first="bars|23", last="broken|38").success
    now = there.tables.feature_rows.read()
    assert len(now) == 2 * len(SWEEP)
    assert rows["run_id"].unique().to_list()[0] in now["run_id"], "what was recorded was not measured again"
    recorded = Counter(event.partition for event in there.materializations(FEATURE_ROWS))
    assert len(recorded) == 3 * len(SWEEP)


def test_tools_end_on_the_workers_when_a_batch_is_called_off(
    lab: Lab, alone: DaskCluster, wrapper: ToolWrapper, tmp_path: Path
) -> None:
    alone.start_worker({"ffmpeg_path": str(wrapper.path)})
    wrapper.hang(" -crf ")

    def call_off() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.measure(alone.address, once(call_off, lambda: bool(processes_of(tmp_path))))
    assert processes_of(tmp_path) == []
    assert list(lab.tables.scratch.iterdir()) == []


def test_tools_end_on_the_workers_when_the_run_is_killed(
    project: Project, alone: DaskCluster, wrapper: ToolWrapper, tmp_path: Path
) -> None:
    for job, first, last in ((INGEST, None, None), (REFERENCES, "bars", "broken")):
        assert project.run(job, first=first, last=last).success
    alone.start_worker({"ffmpeg_path": str(wrapper.path)})
    wrapper.hang(" -crf ")
    (project.folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (project.folder / "frnr.toml").write_text(
        f'scheduler = "{alone.address}"\ncrf_sweep = [23, 38]\n'
        '[[datasets]]\nname = "tests"\nmanifest = "manifest.jsonl"\nclips_root = "clips"\n'
    )
    command = [sys.executable, "-m", "frnr_assets_tests.assets.run_job", str(project.folder)]
    run = subprocess.Popen([*command, CELLS, "bars|23", "broken|38"], cwd=REPOSITORY)
    wait_until(lambda: processes_of(tmp_path))
    run.kill()
    run.wait()
    wait_until(lambda: not processes_of(tmp_path), 10)


def other_code(folder: Path) -> Path:
    """Make a copy of the package with another recipe."""
    shutil.copytree(REPOSITORY / "frnr_assets", folder / "frnr_assets", ignore=shutil.ignore_patterns("__pycache__"))
    sweep = folder / "frnr_assets" / "media" / "sweep.py"
    changed = re.sub(r'RECIPE_VERSION = "\d+"', 'RECIPE_VERSION = "other"', sweep.read_text())
    assert changed != sweep.read_text()
    sweep.write_text(changed)
    return folder


def test_workers_of_other_versions_are_named_and_never_measure_and_one_that_comes_later_does(
    lab: Lab, decoded: Lab, alone: DaskCluster, wrapper: ToolWrapper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    real = wrapper.path.read_text()
    wrapper.path.write_text(
        real.replace("exec ", 'case "$*" in *-version*) echo "ffmpeg version 0.1-other"; exit;; esac\nexec ')
    )
    alone.start_worker({"ffmpeg_path": str(wrapper.path)})
    alone.start_worker(code=other_code(tmp_path / "other"))

    def come() -> None:
        alone.start_worker()

    def are_refused() -> bool:
        return caplog.text.count("is not used") >= 2

    outcomes = lab.measure(alone.address, once(come, are_refused))
    assert_each_once(outcomes, lab, decoded)
    # The word that a run waits for a worker names them once more.
    refused = [record.message for record in caplog.records if record.message.startswith("the worker ")]
    refused = [message for message in refused if "is not used" in message]
    assert len(refused) == 2, "each is said once"
    assert any("ffmpeg is 0.1-other there and " in said for said in refused)
    assert any("the recipe of frnr_assets is other there and " in said for said in refused)
    assert all(said.startswith("the worker tcp://127.0.0.1:") for said in refused)
    assert wrapper.encodes == 0


def test_a_cluster_without_workers_is_waited_for_and_then_a_sentence(
    tmp_path: Path, make_clip: MakeClip, alone: DaskCluster
) -> None:
    configuration = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    overrides = {"telemetry": {"enabled": False}, "python_logs": configuration["python_logs"]}
    with (
        dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as instance,
        dask.config.set({"frnr.wait-for-workers": "1s"}),
    ):
        project = make_project(tmp_path, instance, make_clip).with_settings(scheduler=alone.address)
        assert project.run(INGEST).success
        failed = project.run(REFERENCES, first="bars", last="broken")
        nobody = f"the Dask scheduler {alone.address} has no worker for this run"
        what_to_do = f"start workers with `dask worker {alone.address}`"
        assert project.failures(failed) == [
            f"{nobody}, and there was none for 1 s. What is recorded stays; {what_to_do} and launch the rest again"
        ]
        log = [entry.user_message for entry in instance.all_logs(failed.run_id)]
        assert f"{nobody}; the run waits up to 1 s for one. What to do: {what_to_do}" in log


@pytest.fixture
def nobody() -> str:
    """An address at which nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def test_a_scheduler_that_is_not_there_is_a_sentence_in_bounded_time(project: Project, nobody: str) -> None:
    there = project.with_settings(scheduler=nobody)
    assert there.run(INGEST).success
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        (said,) = there.failures(there.run(REFERENCES, first="bars", last="broken"))
    assert said.startswith(f"no Dask scheduler answers at {nobody} ")
    assert said.endswith("start it with `dask scheduler`, or correct scheduler in frnr.toml")


def test_a_worker_that_hangs_is_named_and_hides_no_other(
    cluster: DaskCluster, lab: Lab, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frnr_assets.cluster.cluster.ANSWER_S", 8.0)
    _, hanging, _ = cluster.processes[:3]
    hanging.popen.send_signal(signal.SIGSTOP)
    try:
        answers = survey(cluster.address, lab.tools, toolchain)
    finally:
        hanging.popen.send_signal(signal.SIGCONT)
    said = [answer for answer in answers.values() if isinstance(answer, str)]
    assert said == ["it does not answer within 8 s; look at its log, or end it"]
    assert len(answers) == 2


def test_the_doctor_says_whether_the_scheduler_answers_and_who_works_there(cluster: DaskCluster, nobody: str) -> None:
    found = {each.what: each for each in examine(Settings(scheduler=cluster.address))}["scheduler"]
    assert found.works
    assert "workers with the versions of this machine: 2, with 2 cores and 2.8 GiB of memory to use" in found.found
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        missing = {each.what: each for each in examine(Settings(scheduler=nobody))}["scheduler"]
    assert not missing.works
    assert "no Dask scheduler answers" in missing.found
