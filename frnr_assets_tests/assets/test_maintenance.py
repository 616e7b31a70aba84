"""Fetching missing sources from a real server, and removing clips, through Dagster."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from frnr_assets.automation import INGEST
from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.download import Patience
from frnr_assets.corpus.ingest import MAX_DOWNLOAD_ATTEMPTS
from frnr_assets.definitions import build_definitions
from frnr_assets.maintenance import DOWNLOAD, REMOVE
from frnr_assets.partitions import CLIP
from frnr_assets_tests.assets.automated import Place, automated
from frnr_assets_tests.assets.conftest import on_both_storages
from frnr_assets_tests.corpus import conftest as corpus_fixtures

ENDLESS = "/endless.mp4"
small_disk = corpus_fixtures.small_disk


# Of what is no video, nothing is kept.
BEGINNING = b"\0\0\0\x10ftypisom"


@dataclass
class Server:
    """A folder, served on this machine."""

    folder: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, server: Server, *args: Any):
        self.served = server
        super().__init__(*args, directory=str(server.folder))

    def do_GET(self) -> None:
        self.served.requests.append(self.path)
        if self.path != ENDLESS:
            super().do_GET()
            return
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x" * 4096)
        except ConnectionError:
            self.served.hung_up.set()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    served = Server(tmp_path / "served")
    served.folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, served)) as http:
        served.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield served
        http.shutdown()
        thread.join()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: Mapping[str, object]) -> Iterator[Place]:
    # What is tested here is not how long a download puts up with a server.
    monkeypatch.setattr("frnr_assets.maintenance.Patience", partial(Patience, attempts=1))
    with automated(tmp_path / "place", monkeypatch, storage) as place:
        yield place


def launch(place: Place, job: str, config: Mapping[str, object]) -> str | None:
    """Run a job, and return the message of its failure, if any."""
    (op,) = build_definitions(place.settings).resolve_job_def(job).nodes
    result = (
        build_definitions(place.settings)
        .resolve_job_def(job)
        .execute_in_process(
            instance=place.instance,
            raise_on_error=False,
            run_config={
                "ops": {op.name: {"config": dict(config)}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
    )
    failures = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    assert result.success == (not failures)
    assert all(failures), "each failure has a message of its own"
    return failures[0].description if failures and failures[0] else None


def download(place: Place, *, retry_failed: bool = False) -> str | None:
    return launch(place, DOWNLOAD, {"retry_failed": retry_failed})


def known(place: Place) -> dict[str, tuple[int | None, str | None, bool, int]]:
    """Return what is recorded of downloads: size, failure, whether for good, attempts."""
    rows = place.tables.downloads.read().select("src", "size_bytes", "failure", "permanent", "attempts").iter_rows()
    return {Path(src).stem: tuple(facts) for src, *facts in rows}


class TestDownloads:
    @pytest.fixture
    def lacking(self, place: Place, server: Server) -> Place:
        """Clips a and b are on the server only."""
        for clip in "ab":
            served = place.clip(clip).rename(server.folder / f"{clip}.mp4")
            served.write_bytes(BEGINNING + served.read_bytes())
        self.list_urls(place, server.url)
        place.ingest()
        return place

    def list_urls(self, place: Place, url: str) -> None:
        lines = [f'{{"src": "{clip}.mp4", "url": "{url}/{clip}.mp4"}}\n' for clip in "abcdef"]
        place.manifest.write_text("".join(lines))

    def test_missing_sources_arrive_and_become_clips(self, lacking: Place, server: Server) -> None:
        assert "a" not in lacking.tables.listed_clips()["clip"]
        assert download(lacking) is None
        for clip in "ab":
            assert lacking.clip(clip).read_bytes() == (server.folder / f"{clip}.mp4").read_bytes()
        assert sorted(server.requests) == ["/a.mp4", "/b.mp4"], "those that are there are not fetched"
        assert known(lacking) == {"a": (13, None, False, 1), "b": (14, None, False, 1)}
        lacking.ingest()
        assert set(lacking.tables.listed_clips()["clip"]) == set("abcdef")

    def test_what_has_arrived_is_not_fetched_again_before_the_manifests_are_read(
        self, lacking: Place, server: Server
    ) -> None:
        download(lacking)
        before = lacking.clip("a").stat()
        assert download(lacking) is None
        assert download(lacking, retry_failed=True) is None
        assert len(server.requests) == 2
        assert lacking.clip("a").stat() == before

    def test_a_source_that_is_not_there_is_recorded_and_spoils_nothing(self, lacking: Place, server: Server) -> None:
        (server.folder / "a.mp4").unlink()
        assert download(lacking) is None
        assert known(lacking) == {"a": (None, "HTTP 404 Not Found", True, 1), "b": (14, None, False, 1)}
        assert not lacking.clip("a").exists()

    def test_a_source_that_failed_for_good_is_tried_again_only_when_a_person_asks(
        self, lacking: Place, server: Server
    ) -> None:
        content = (server.folder / "a.mp4").rename(server.folder / "elsewhere")
        download(lacking)
        content.rename(server.folder / "a.mp4")
        assert download(lacking) is None
        assert (server.requests.count("/a.mp4"), known(lacking)["a"][2]) == (1, True)
        assert download(lacking, retry_failed=True) is None
        assert lacking.clip("a").read_bytes() == (server.folder / "a.mp4").read_bytes()
        assert known(lacking)["a"] == (13, None, False, 1)

    def test_a_server_that_is_away_is_tried_in_three_runs(self, lacking: Place) -> None:
        self.list_urls(lacking, "http://127.0.0.1:9")
        lacking.ingest()
        for attempt in (1, 2, 3, 3):
            assert download(lacking) is None
            size, failure, permanent, attempts = known(lacking)["a"]
            assert failure is not None
            assert (size, permanent, attempts) == (None, False, attempt)
        assert attempts == MAX_DOWNLOAD_ATTEMPTS
        download(lacking, retry_failed=True)
        assert known(lacking)["a"][3] == MAX_DOWNLOAD_ATTEMPTS + 1

    def test_another_address_starts_the_count_anew(self, lacking: Place, server: Server) -> None:
        self.list_urls(lacking, "http://127.0.0.1:9")
        lacking.ingest()
        for _ in range(MAX_DOWNLOAD_ATTEMPTS):
            download(lacking)
        (server.folder / "b.mp4").unlink()
        self.list_urls(lacking, server.url)
        lacking.ingest()
        assert download(lacking) is None
        assert known(lacking) == {"a": (13, None, False, 1), "b": (None, "HTTP 404 Not Found", True, 1)}

    def test_a_source_of_two_datasets_is_fetched_once(self, lacking: Place, server: Server) -> None:
        other = lacking.folder / "other.jsonl"
        other.write_text(f'{{"src": "a.mp4", "url": "{server.url}/b.mp4"}}\n{{"src": "c.mp4"}}\n')
        (first,) = lacking.settings.datasets
        second = Dataset(name="other", manifest=other, clips_root=lacking.folder)
        lacking.choices["datasets"] = (first, second)
        lacking.ingest()
        assert download(lacking) is None
        assert sorted(server.requests) == ["/a.mp4", "/b.mp4"]
        assert lacking.clip("a").read_bytes() == (server.folder / "a.mp4").read_bytes()

    def test_a_full_disk_is_one_sentence_and_what_has_arrived_stays(
        self, lacking: Place, server: Server, small_disk: Path
    ) -> None:
        (server.folder / "large.mp4").write_bytes(bytes(2 << 20))
        (dataset,) = lacking.settings.datasets
        lacking.choices |= {"datasets": (dataset.model_copy(update={"clips_root": small_disk}),), "download_threads": 1}
        lines = [f'{{"src": "{src}.mp4", "url": "{server.url}/{src}.mp4"}}\n' for src in ("a", "large", "b")]
        lacking.manifest.write_text("".join(lines))
        lacking.ingest()
        full = "No space left on device. What was downloaded stays; mend it and launch the job again"
        assert download(lacking) == full
        assert known(lacking) == {"a": (13, None, False, 1)}
        assert (small_disk / "a.mp4").read_bytes() == (server.folder / "a.mp4").read_bytes()

    def test_a_table_that_cannot_be_written_is_one_sentence_and_no_download_goes_on(
        self, lacking: Place, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines = [f'{{"src": "{src}", "url": "{server.url}/{src}"}}\n' for src in ("a.mp4", "endless.mp4", "c.mp4")]
        lacking.manifest.write_text("".join(lines))
        lacking.ingest()
        table = lacking.settings.data_root / "tables" / "downloads"
        table.write_text("not a folder")
        monkeypatch.setattr("frnr_assets.maintenance._RECORD_EVERY_S", 0.0)
        assert download(lacking) == (
            f"File exists: {table}. What was downloaded stays; mend it and launch the job again"
        )
        assert server.hung_up.wait(timeout=10)
        assert lacking.clip("a").exists()
        assert not lacking.clip("endless").exists()

    @pytest.fixture
    def signed(self, lacking: Place, server: Server) -> Place:
        """The URLs have passwords and signatures, in rows that are clips, wait, are broken or are refused."""
        self.sign(lacking, server, "SECRET")
        return lacking

    def sign(self, place: Place, server: Server, signature: str) -> None:
        host = server.url.replace("://", f"://user:{signature}@")
        rows = [{"src": f"{clip}.mp4", "url": f"{host}/{clip}.mp4?sig={signature}"} for clip in "abcdef"]
        bad = {"src": "g.mp4", "url": f"{host}/?sig={signature}", "mos": 99}
        broken = f'{{"src": "h.mp4", "url": "{host}/?sig={signature}"'
        unfit = {"src": "i.mp4", "url": [f"{host}/?sig={signature}"]}
        place.manifest.write_text("".join(f"{line}\n" for line in (*map(json.dumps, (*rows, bad, unfit)), broken)))
        place.ingest()

    def test_no_secret_of_a_url_comes_into_a_log_an_event_a_check_or_a_table(
        self, signed: Place, server: Server, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (server.folder / "b.mp4").unlink()
        assert download(signed) is None
        assert signed.clip("a").exists(), "the URLs still work"
        assert sorted(path for path in server.requests) == ["/a.mp4?sig=SECRET", "/b.mp4?sig=SECRET"]
        signed.ingest()
        read = build_definitions(signed.settings).resolve_job_def(INGEST).execute_in_process(instance=signed.instance)
        checks = {evaluation.check_name: evaluation.description for evaluation in read.get_asset_check_evaluations()}
        assert "404" in (checks["downloads_work"] or "")
        runs = [run.run_id for run in signed.instance.get_runs()]
        events = [dg.serialize_value(event) for run in runs for event in signed.instance.all_logs(run)]
        assert any("b.mp4?sig=***: HTTP 404" in event for event in events), "the file is named all the same"
        assert [event for event in events if "SECRET" in event] == []
        tables = {path.name: pl.read_parquet(path) for path in signed.settings.data_root.rglob("*.parquet")}
        assert {"clips.parquet", "rejects.parquet"} < tables.keys()
        assert [name for name, table in tables.items() if "SECRET" in json.dumps(table.to_dicts(), default=str)] == []
        printed = capfd.readouterr()
        assert "SECRET" not in printed.out + printed.err

    def test_a_url_that_is_signed_anew_is_tried_again_without_a_person(self, signed: Place, server: Server) -> None:
        content = (server.folder / "b.mp4").rename(server.folder / "elsewhere")
        download(signed)
        assert known(signed)["b"] == (None, "HTTP 404 Not Found", True, 1)
        content.rename(server.folder / "b.mp4")
        self.sign(signed, server, "RENEWED")
        assert download(signed) is None
        assert server.requests[-1] == "/b.mp4?sig=RENEWED"
        assert signed.clip("b").exists()

    def test_a_url_that_its_manifest_has_no_longer_is_left_alone_and_the_others_are_fetched(
        self, signed: Place, server: Server
    ) -> None:
        lines = signed.manifest.read_text().splitlines(keepends=True)
        signed.manifest.write_text("".join(lines[1:]))
        assert download(signed) is None
        assert server.requests == ["/b.mp4?sig=SECRET"]

    def test_with_nothing_to_download_it_is_done(self, place: Place, server: Server) -> None:
        assert download(place) is None
        place.ingest()
        assert download(place) is None
        assert server.requests == []


class TestRemoving:
    @pytest.fixture
    def removed(self, place: Place) -> Place:
        """Clips b, c and d are listed no longer; b is measured."""
        place.ingest()
        place.decode("b")
        place.measure("b")
        place.write_manifest("aef")
        place.ingest()
        return place

    def remove(self, place: Place, **config: object) -> str | None:
        return launch(place, REMOVE, config)

    def partitions(self, place: Place) -> str:
        return "".join(place.instance.get_dynamic_partitions(CLIP))

    @pytest.mark.parametrize(
        ("config", "left"),
        [({"clips": ["b"]}, "acdef"), ({"clips": ["d", "b"]}, "acef"), ({"all_removed": True}, "aef"), ({}, "abcdef")],
    )
    def test_what_is_asked_for_is_gone_for_good(self, removed: Place, config: dict[str, object], left: str) -> None:
        rows = removed.tables.feature_rows.read()
        assert self.remove(removed, **config) is None
        assert self.partitions(removed) == left
        assert set(removed.tables.clips.read()["clip"]) == set(left)
        assert removed.tables.listed_clips()["clip"].to_list() == list("aef")
        assert removed.tables.feature_rows.read().equals(rows)
        removed.ingest()
        assert self.partitions(removed) == left

    @pytest.mark.parametrize("clips", [["a"], ["b", "a"], ["nobody"]], ids=["listed", "one of them", "unknown"])
    def test_a_clip_that_is_listed_is_refused_and_nothing_is_removed(self, removed: Place, clips: list[str]) -> None:
        before = removed.tables.clips.read()
        assert self.remove(removed, clips=clips) == (
            f"{clips[-1]}: not a clip that was removed from the manifests; take it out of its manifest and materialize "
            "source_manifest first"
        )
        assert self.partitions(removed) == "abcdef"
        assert removed.tables.clips.read().equals(before)

    @on_both_storages
    def test_a_clip_that_comes_back_has_its_rows_again(self, removed: Place) -> None:
        self.remove(removed, all_removed=True)
        removed.write_manifest("abef")
        removed.ingest()
        assert self.partitions(removed) == "aefb"
        assert set(removed.tables.current_rows()["clip"]) == {"b"}
