"""The cost of knowing what there is, with everything recorded: partitions, sensors, and the pages of the UI."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from bench.measure import Figure, peak_bytes, run_module, tell
from bench.stage import Stage
from frnr_assets.corpus.tables import Tables
from frnr_assets.definitions import build_definitions
from frnr_assets.partitions import register_clips
from frnr_assets.settings import Settings, load_settings
from tools.ports import free_port

SENSORS = (
    "watch_sources",
    "fetch_missing_sources",
    "decode_missing_references",
    "measure_missing_cells",
    "publish_what_is_measured",
)
# One CRF more than there are rows of: every clip lacks a cell.
_CRF_MORE = 43
_ASSET = {"path": ["feature_rows"]}
_LONGEST_ANSWER_S = 600
_LONGEST_WAIT_S = 60


def instance_figures(stage: Stage) -> Iterator[Figure]:
    """Measure registration, sensors and pages, each in a process of its own."""
    project = stage.recorded
    registered = run_module("bench.instance", "register", str(project))
    yield Figure(f"registering {stage.size:,} partitions", registered.told["seconds"], "s", at_most=5)
    yield Figure("registering: peak memory", registered.peak_bytes / 2**20, "MiB")
    planned = run_module("bench.instance", "plan", str(project))
    yield Figure("planning blocks when every clip lacks a cell", planned.told["seconds"], "s", at_most=5)
    yield Figure("planning: peak memory", planned.peak_bytes / 2**20, "MiB")
    ticks = run_module("bench.instance", "ticks", str(project))
    for name in SENSORS:
        yield Figure(f"first tick of {name}", ticks.told[f"first {name}"], "s")
        yield Figure(f"idle tick of {name}", ticks.told[f"idle {name}"], "s", at_most=2)
    yield Figure("all ticks: peak memory", ticks.peak_bytes / 2**20, "MiB")
    yield from page_figures(project)


def page_figures(project: Path) -> Iterator[Figure]:
    """Measure what the asset page asks for: the very queries that a browser sends when it opens it."""
    queries = json.loads((Path(__file__).parent / "queries.json").read_text())
    with _webserver(project) as (process, port):
        for visit in ("first visit", "again"):
            seconds = {name: _ask(port, name, query) for name, query in queries.items()}
            remark = ", ".join(f"{name} {spent:.1f}" for name, spent in seconds.items())
            yield Figure(f"the asset page, {visit}", sum(seconds.values()), "s", at_most=15, remark=remark)
        yield Figure("the webserver: peak memory", peak_bytes(process) / 2**20, "MiB")


def _ask(port: int, name: str, query: str) -> float:
    variables = {"assetKey": _ASSET} if "$assetKey:" in query else {"assetKeys": [_ASSET]}
    body = json.dumps({"operationName": name, "query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"content-type": "application/json"})
    started = time.monotonic()
    with urllib.request.urlopen(request, timeout=_LONGEST_ANSWER_S) as answered:  # noqa: S310 - likewise
        answer = json.load(answered)
    if "errors" in answer:
        raise RuntimeError(f"{name} was refused: {answer['errors'][0]['message']}")
    return time.monotonic() - started


@contextmanager
def _webserver(project: Path) -> Iterator[tuple[int, int]]:
    """Lend a webserver: its process and its port."""
    port = free_port()
    argv = [sys.executable, "-m", "dagster_webserver", "-m", "frnr_assets.definitions", "--host", "127.0.0.1"]
    # Where the checkout is not installed, it is found like this process has found it.
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "DAGSTER_HOME": str(project), "PYTHONPATH": paths}
    process = subprocess.Popen(
        [*argv, "--port", str(port)],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        if process.stdout is None or not any("Serving dagster-webserver" in line for line in process.stdout):
            raise RuntimeError("the webserver did not start")
        _wait_for(port)
        yield process.pid, port
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_LONGEST_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for(port: int) -> None:
    """Return once somebody listens: the webserver says that it serves a moment before it does."""
    deadline = time.monotonic() + _LONGEST_WAIT_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)):
                return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _register(project: Path) -> None:
    keys = Tables(project / "data").listed_clips()["clip"].to_list()
    with tempfile.TemporaryDirectory(dir=project) as name, dg.DagsterInstance.local_temp(name) as instance:
        started = time.monotonic()
        register_clips(instance, keys)
        tell(seconds=time.monotonic() - started)


def _tick(settings: Settings, instance: dg.DagsterInstance, name: str, cursor: str | None) -> tuple[float, Any]:
    definitions = build_definitions(settings)
    resources = {"tables": (definitions.resources or {})["tables"]}
    sensor = definitions.resolve_sensor_def(name)
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources)
    started = time.monotonic()
    evaluated = sensor.evaluate_tick(context)
    return time.monotonic() - started, evaluated


def _plan(project: Path) -> None:
    settings = load_settings(project)
    lacking = settings.model_copy(update={"crf_sweep": (*settings.crf_sweep, _CRF_MORE)})
    with dg.DagsterInstance.from_config(str(project)) as instance:
        seconds, evaluated = _tick(lacking, instance, "measure_missing_cells", None)
        if not evaluated.run_requests:
            raise RuntimeError(f"nothing was planned: {evaluated.skip_message}")
    tell(seconds=seconds)


def _ticks(project: Path) -> None:
    told = {}
    with dg.DagsterInstance.from_config(str(project)) as instance:
        for name in SENSORS:
            cursor = None
            for which in ("first", "idle"):
                told[f"{which} {name}"], evaluated = _tick(load_settings(project), instance, name, cursor)
                cursor = evaluated.cursor
    tell(**told)


def main(what: str, project: str) -> None:
    """Be the process that measures."""
    os.chdir(project)
    {"register": _register, "plan": _plan, "ticks": _ticks}[what](Path(project))


if __name__ == "__main__":
    main(*sys.argv[1:])
