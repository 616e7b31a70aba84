"""The files under deploy: what a team starts from, started."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from frnr_assets.automation import INGEST, REFERENCES
from frnr_assets.corpus.tables import Tables
from frnr_assets_tests.assets.ui import CODE_LOCATIONS, LAUNCH_BACKFILL, Ui, partition_range, until
from frnr_assets_tests.conftest import SMALL_SCENE, MakeClip
from tools.ports import free_port
from tools.postgres import PostgresServer

CHECKOUT = Path(__file__).parents[1]
DEPLOY = CHECKOUT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SERVICES = ("code", "webserver", "daemon")
BIN = Path(sys.executable).parent
# Empty at first: Dagster makes its tables in it.
DATABASE = "deployed"


def command_of(service: str) -> list[str]:
    """Return the command of a unit, with the programs of this environment."""
    (line,) = re.findall(
        r"^ExecStart=(.*)$", (DEPLOY / "systemd" / f"frnr-{service}.service").read_text(), re.MULTILINE
    )
    program, *arguments = shlex.split(line)
    return [str(BIN / Path(program).name), *arguments]


def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return read


def environment(server: PostgresServer, folder: Path) -> dict[str, str]:
    """Return what frnr.env says, with the places of the test."""
    lines = [line.split("=", 1) for line in (DEPLOY / "frnr.env.example").read_text().splitlines() if line[:1] != "#"]
    chosen = {
        "POSTGRES_PORT": str(server.port),
        "POSTGRES_DB": DATABASE,
        "POSTGRES_PASSWORD": server.password,
        "DAGSTER_HOME": str(folder / "home"),
    }
    assert chosen.keys() <= dict(lines).keys()
    return {**dict(lines), **chosen}


class Deployed(Ui):
    """The services as plain processes, started by the commands of the units, on ports that are free."""

    def __init__(self, folder: Path, server: PostgresServer):
        self.folder = folder
        self.tables = Tables(folder / "site" / "data")
        self.port, code_port = free_port(), free_port()
        places = {"/etc/frnr": str(folder / "etc"), "4000": str(code_port), "3000": str(self.port)}
        shutil.copy(DEPLOY / "dagster.yaml", folder / "home")
        (folder / "etc" / "workspace.yaml").write_text(replaced((DEPLOY / "workspace.yaml").read_text(), places))
        self._processes: list[subprocess.Popen[bytes]] = []
        for service in SERVICES:
            with (folder / f"{service}.log").open("wb") as log:
                process = subprocess.Popen(
                    [replaced(argument, places) for argument in command_of(service)],
                    # Its environment is what the file says, as with systemd; and where this checkout is.
                    env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), **environment(server, folder)},
                    cwd=folder / ("site" if service == "code" else "home"),
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._processes.append(process)

    def loaded(self) -> bool:
        """Say whether the web page has found the code server, which may come up after it."""
        try:
            entries = self.ask(CODE_LOCATIONS)["locationEntries"]
        except OSError:
            return False
        found = [entry["locationOrLoadError"] for entry in entries]
        return [location and location["__typename"] for location in found] == ["RepositoryLocation"]

    def logs(self) -> str:
        return "".join((self.folder / f"{service}.log").read_text(errors="replace") for service in SERVICES)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def replaced(text: str, places: Mapping[str, str]) -> str:
    for place, ours in places.items():
        text = text.replace(place, ours)
    return text


@pytest.fixture
def deployed(tmp_path: Path, make_clip: MakeClip, postgres: PostgresServer) -> Iterator[Deployed]:
    for name in ("etc", "home", "site"):
        (tmp_path / name).mkdir()
    make_clip(tmp_path / "site" / "bars.mp4")
    make_clip(tmp_path / "site" / "odd.mp4", SMALL_SCENE.replace("64x48", "66x50"))
    (tmp_path / "site" / "manifest.jsonl").write_text('{"src": "bars.mp4"}\n{"src": "odd.mp4"}\n')
    (tmp_path / "site" / "frnr.toml").write_text(
        'cores = 2\ncrf_sweep = [23]\n[[datasets]]\nname = "tests"\nmanifest = "manifest.jsonl"\n'
    )
    postgres.ask(f"CREATE DATABASE {DATABASE}")
    running = Deployed(tmp_path, postgres)
    yield running
    running.stop()


def test_the_services_as_they_are_started_take_two_clips_through_the_queue_and_a_backfill(deployed: Deployed) -> None:
    until(deployed.loaded, "the code server to be reached")
    assert deployed.run_to_its_end(INGEST, {}) == "SUCCESS", deployed.logs()
    assert deployed.run_to_its_end(REFERENCES, partition_range("bars", "odd")) == "SUCCESS", deployed.logs()
    assert deployed.cells("decoded_reference") == (2, 0)
    both = [{"path": ["distortion"]}, {"path": ["feature_rows"]}]
    keys = ["bars|23", "odd|23"]
    launched = deployed.ask(LAUNCH_BACKFILL, p={"assetSelection": both, "partitionNames": keys})
    status, _ = deployed.backfill_to_its_end(launched)
    assert status == "COMPLETED_SUCCESS", deployed.logs()
    assert deployed.cells("feature_rows") == (2, 0)
    assert len(deployed.tables.current_rows()) == 2
    assert list((deployed.folder / "home").rglob("*.err")), "what a run printed is where the web page looks for it"


def test_the_units_are_what_systemd_understands(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here; install the Debian package systemd")
    units = [*UNITS, DEPLOY / "systemd" / "frnr.target"]
    for unit in units:
        # A program that is not there would be complained of.
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/frnr/.venv/bin", str(BIN)))
    done = subprocess.run(
        ["systemd-analyze", "verify", *[str(tmp_path / unit.name) for unit in units]],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "frnr" in line]
    assert (done.returncode, complaints) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_no_service_runs_with_more_rights_than_it_needs(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    assert {"User=frnr", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict"} <= set(lines)
    (namespaces,) = [line for line in lines if line.startswith("RestrictNamespaces=")]
    # Tools are started in namespaces of their own, so that they have no network.
    assert namespaces == ("RestrictNamespaces=user net" if unit.stem == "frnr-code" else "RestrictNamespaces=yes")


def test_a_tool_that_runs_out_of_memory_does_not_take_every_run_with_it() -> None:
    assert "OOMPolicy=continue" in (DEPLOY / "systemd" / "frnr-code.service").read_text().splitlines()


@pytest.mark.parametrize("name", sorted(compose()["services"]))
def test_no_container_is_open_to_others_or_runs_as_root(name: str) -> None:
    service = compose()["services"][name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert service["user"] not in {"root", "0", "0:0"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert not any("PASSWORD" in variable for variable in service.get("environment", ())), "it comes from frnr.env"


def test_containers_and_units_run_the_same_commands() -> None:
    for service in SERVICES:
        ours, theirs = command_of(service), compose()["services"][service]["command"]
        # A container is reached by its own address.
        assert [Path(ours[0]).name, *ours[1:]] == [word.replace("0.0.0.0", "127.0.0.1") for word in theirs]  # noqa: S104


def test_what_a_compose_file_refers_to_is_there() -> None:
    read = compose()
    volumes = [volume.split(":")[0] for service in read["services"].values() for volume in service["volumes"]]
    named = {volume for volume in volumes if not volume.startswith((".", "$"))}
    assert named == set(read["volumes"])
    files = {volume for volume in volumes if volume.startswith(".")}
    assert {(DEPLOY / file).exists() for file in files} == {True}
    networks = {network for service in read["services"].values() for network in service["networks"]}
    assert networks == set(read["networks"])
    assert read["networks"]["inside"] == {"internal": True}
    for service in read["services"].values():
        assert set(service.get("depends_on", ())) <= set(read["services"])
    copied = re.findall(r"^COPY (.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    sent = set(re.findall(r"^!(.*)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert {name for line in copied for name in line.split()} == sent
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"]} <= sent, "the package cannot be built without them"
