"""Dagster's web page, spoken to as a browser speaks to it."""

import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

PATIENCE_S = 180.0

REPOSITORY = {"repositoryLocationName": "frnr_assets.definitions", "repositoryName": "__repository__"}

CODE_LOCATIONS = """query { workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
  __typename ... on PythonError { message } } } } } }"""
LAUNCH_RUN = """mutation($p: ExecutionParams!) { launchRun(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
LAUNCH_BACKFILL = """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
REEXECUTE_BACKFILL = """mutation($p: ReexecutionParams) { reexecutePartitionBackfill(reexecutionParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
TERMINATE = """mutation($id: String!) { terminateRun(runId: $id) { __typename } }"""
RUN = """query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"""
RUN_FAILURES = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  __typename ... on ExecutionStepFailureEvent { failureMetadata { description } } } } } }"""
START_SENSOR = """mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) {
  __typename ... on Sensor { name } ... on PythonError { message } } }"""
BACKFILL = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status runs { runId status } } } }"""
STATISTICS = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  partitionStats { numMaterialized numFailed numPartitions } } } }"""


class Ui:
    """A web page on this machine."""

    port: int

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - the address is this machine's
            answer: dict[str, Any] = json.load(response)
        assert "errors" not in answer, answer
        (found,) = answer["data"].values()
        return dict(found)

    def loaded(self) -> bool:
        try:
            entries = self.ask(CODE_LOCATIONS)["locationEntries"]
        except OSError:
            return False
        found = [entry["locationOrLoadError"] for entry in entries]
        assert not any(location and "message" in location for location in found), found
        return bool(found) and all(found)

    def start_sensor(self, name: str) -> None:
        """Do what the switch beside the sensor does."""
        answer = self.ask(START_SENSOR, s={**REPOSITORY, "sensorName": name})
        assert answer["__typename"] == "Sensor", answer

    def launch(self, job: str, tags: Mapping[str, str], config: Mapping[str, object] | None = None) -> str:
        selector = {**REPOSITORY, "jobName": job}
        metadata = {"tags": [{"key": key, "value": value} for key, value in tags.items()]}
        parameters = {"selector": selector, "mode": "default", "executionMetadata": metadata}
        answer = self.ask(LAUNCH_RUN, p={**parameters, "runConfigData": json.dumps(config or {})})
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def run_to_its_end(self, job: str, tags: Mapping[str, str]) -> str:
        run = self.launch(job, tags)
        until(lambda: self.status(run) in {"SUCCESS", "FAILURE"}, f"{job} to end")
        return self.status(run)

    def status(self, run: str) -> str:
        return str(self.ask(RUN, id=run)["status"])

    def backfill_to_its_end(self, answer: Mapping[str, Any]) -> tuple[str, list[str]]:
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        backfill = answer["backfillId"]
        until(lambda: self.ask(BACKFILL, id=backfill)["status"] not in {"REQUESTED", "FAILING"}, "the backfill to end")
        ended = self.ask(BACKFILL, id=backfill)
        return str(ended["status"]), [run["runId"] for run in ended["runs"]]

    def cells(self, asset: str) -> tuple[int, int]:
        """Return how many partitions are green and how many are red."""
        found = self.ask(STATISTICS, key={"path": [asset]})["partitionStats"]
        return found["numMaterialized"], found["numFailed"]

    def failures(self, run: str) -> list[str]:
        events = self.ask(RUN_FAILURES, id=run)["events"]
        return [event["failureMetadata"]["description"] for event in events if event.get("failureMetadata")]


def partition_range(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.2)
