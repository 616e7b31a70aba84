import errno
import logging
import os
import random
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from frnr_assets.corpus import download as module
from frnr_assets.corpus.download import (
    Acceptance,
    Download,
    Downloaded,
    DownloadFailed,
    Outcome,
    Patience,
    download_all,
)

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(250_000)
CUT = 100_000
ETAG = {"ETag": '"1"'}
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
QUICK = Patience(attempts=3, backoff_s=0.001, connect_timeout_s=5.0, read_timeout_s=5.0)
ONCE = Patience(attempts=1, read_timeout_s=5.0)


DOWNLOADING = """
import sys
from pathlib import Path
from frnr_assets.corpus.download import Acceptance, Download, Patience, download_all

list(download_all([Download(sys.argv[1], Path(sys.argv[2]))], threads=1, patience=Patience()))
"""


class Source(ThreadingHTTPServer):
    """A server that gives each request the next of its answers, and the last one to all further requests."""

    daemon_threads = True

    def __init__(self, answers: "tuple[Answer, ...]", port: int, tls: ssl.SSLContext | None):
        super().__init__(("127.0.0.1", port), Exchange)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.scheme = "http" if tls is None else "https"
        self.requests: list[tuple[str, Message]] = []
        self.released = threading.Event()
        self._answers = answers
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,)).start()

    def next_answer(self, path: str, headers: Message) -> "Answer":
        with self._lock:
            self.requests.append((path, headers))
            return self._answers[min(len(self.requests), len(self._answers)) - 1]

    def url(self, path: str = "/clip.mp4") -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}{path}"

    def ranges(self) -> list[str | None]:
        return [headers["Range"] for _, headers in self.requests]

    def die(self) -> None:
        self.shutdown()
        self.server_close()


class Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Source

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self.server.next_answer(self.path, self.headers)(self)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the overridden method calls it so
        pass


Answer = Callable[[Exchange], None]
Serve = Callable[..., Source]


@pytest.fixture
def serve() -> Iterator[Serve]:
    sources: list[Source] = []

    def start(*answers: Answer, port: int = 0, tls: ssl.SSLContext | None = None) -> Source:
        sources.append(Source(answers, port, tls))
        return sources[-1]

    yield start
    for source in sources:
        source.released.set()
        source.die()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "set" / "clip.mp4"


def sends(
    content: bytes = CONTENT,
    headers: dict[str, str] = ETAG,
    *,
    size: int | None = None,
    at_most: int | None = None,
    then: Answer | None = None,
) -> Answer:
    """The whole file, or the rest that was asked for if it is still the same file.

    ``size`` is after how many bytes the connection ends, ``at_most`` how many bytes of a rest are given at once, and
    ``then`` what happens before the connection ends.
    """

    def answer(exchange: Exchange) -> None:
        start, end = 0, len(content)
        if exchange.headers["Range"] and exchange.headers["If-Range"] in headers.values():
            start = int(exchange.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            end = min(end, start + (at_most or end))
        where = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"} if start else {}
        exchange.head(206 if start else 200, {"Content-Length": str(end - start)} | where | headers)
        exchange.wfile.write(content[start:end][:size])
        exchange.close_connection = size is not None
        if then is not None:
            then(exchange)

    return answer


def says(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    def answer(exchange: Exchange) -> None:
        exchange.head(status, {"Content-Length": str(len(body))} | (headers or {}))
        exchange.wfile.write(body)

    return answer


def chunked(*, whole: bool) -> Answer:
    def answer(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "chunked"})
        half = len(CONTENT) // 2
        exchange.wfile.write(b"%x\r\n%s\r\n" % (half, CONTENT[:half]))
        if whole:
            exchange.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(CONTENT) - half, CONTENT[half:]))
        exchange.close_connection = True

    return answer


def until_closed(exchange: Exchange) -> None:
    exchange.head(200, ETAG)
    exchange.wfile.write(CONTENT)
    exchange.close_connection = True


def hang_up(exchange: Exchange) -> None:
    exchange.close_connection = True


def reset(exchange: Exchange) -> None:
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The connection ends when nothing refers to it any more.
    exchange.rfile.close()
    exchange.connection.close()


def stall(exchange: Exchange) -> None:
    exchange.server.released.wait()


def endless(exchange: Exchange) -> None:
    """More than any test waits for, but not more than a disk holds if nothing ends it."""
    exchange.head(200, {"Content-Length": str(1 << 40)} | ETAG)
    for _ in range(1000):
        exchange.wfile.write(CONTENT)
    stall(exchange)


def fetch(url: str, target: Path, patience: Patience = QUICK) -> Outcome:
    (outcome,) = download_all([Download(url, target)], threads=1, patience=patience)
    return outcome


def fetch_at_most(max_bytes: int, url: str, target: Path) -> Outcome:
    (outcome,) = download_all(
        [Download(url, target)], threads=1, patience=QUICK, acceptance=Acceptance(max_bytes=max_bytes)
    )
    return outcome


def fetched(url: str, target: Path, content: bytes = CONTENT) -> Downloaded:
    return Downloaded(Download(url, target), len(content))


def part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def files(target: Path) -> list[str]:
    return sorted(file.name for file in target.parent.iterdir())


@pytest.mark.parametrize(
    "answer", [sends(), chunked(whole=True), until_closed], ids=["with its length", "in chunks", "of unknown length"]
)
def test_a_file_arrives_whole_and_nothing_else_is_left(serve: Serve, target: Path, answer: Answer) -> None:
    source = serve(answer)
    assert fetch(source.url(), target) == fetched(source.url(), target)
    assert target.read_bytes() == CONTENT
    assert files(target) == ["clip.mp4"]
    assert [headers["Accept-Encoding"] for _, headers in source.requests] == ["identity"]
    assert source.ranges() == [None]


def test_several_files_arrive_at_the_same_time(serve: Serve, tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=10)

    def answer(exchange: Exchange) -> None:
        together.wait()
        sends(exchange.path.encode())(exchange)

    source = serve(answer)
    downloads = [Download(source.url(f"/{number}"), tmp_path / f"{number}.mp4") for number in range(9)]
    outcomes = list(download_all(downloads, threads=3, patience=QUICK))
    assert {outcome.download for outcome in outcomes} == set(downloads)
    assert len(outcomes) == 9
    assert [download.target.read_text() for download in downloads] == [f"/{number}" for number in range(9)]


def test_one_file_that_fails_does_not_keep_the_others_from_arriving(serve: Serve, tmp_path: Path) -> None:
    source = serve(says(404), sends(), says(404), sends())
    downloads = [Download(source.url(), tmp_path / f"{number}.mp4") for number in range(4)]
    outcomes = list(download_all(downloads, threads=1, patience=QUICK))
    assert [type(outcome) for outcome in outcomes] == [DownloadFailed, Downloaded, DownloadFailed, Downloaded]


def test_no_proxy_is_taken_from_the_environment(serve: Serve, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = serve(sends())
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert isinstance(fetch(source.url(), target), Downloaded)


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        (ETAG, '"1"'),
        (ETAG | {"Last-Modified": DATE}, '"1"'),
        ({"Last-Modified": DATE}, DATE),
        ({"ETag": 'W/"1"', "Last-Modified": DATE}, DATE),
        ({"ETag": 'W/"1"'}, None),
        ({"ETag": '"\xe9"'}, None),
        ({}, None),
    ],
    ids=ascii,
)
def test_an_interrupted_download_goes_on_where_it_ended_if_the_server_can_tell_that_the_file_is_the_same(
    serve: Serve, target: Path, headers: dict[str, str], validator: str | None
) -> None:
    source = serve(sends(headers=headers, size=CUT), sends(headers=headers))
    assert isinstance(fetch(source.url(), target, ONCE), DownloadFailed)
    assert part_of(target).read_bytes() == CONTENT[:CUT]
    assert not target.exists()
    assert fetch(source.url(), target, ONCE) == fetched(source.url(), target)
    assert target.read_bytes() == CONTENT
    assert files(target) == ["clip.mp4"]
    assert source.requests[1][1]["If-Range"] == validator
    assert source.ranges() == [None, None if validator is None else f"bytes={CUT}-"]


def test_a_kill_in_the_middle_of_a_file_leaves_nothing_under_its_name_and_does_no_harm(
    serve: Serve, target: Path
) -> None:
    begun = threading.Event()

    def answer(exchange: Exchange) -> None:
        sends(size=CUT)(exchange)
        begun.set()
        stall(exchange)

    source = serve(answer, sends())
    argv = [sys.executable, "-c", DOWNLOADING, source.url(), str(target)]
    with subprocess.Popen(argv, cwd=Path(__file__).parents[2]) as process:
        assert begun.wait(60)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not target.exists()
    assert fetch(source.url(), target) == fetched(source.url(), target)
    assert target.read_bytes() == CONTENT
    assert files(target) == ["clip.mp4"]


def _range_of_the_other_file(content_range: str, headers: dict[str, str]) -> Answer:
    return says(206, {"Content-Range": content_range} | headers, OTHER[CUT:])


@pytest.mark.parametrize("validators", [ETAG, {"Last-Modified": DATE}], ids=["ETag", "Last-Modified"])
@pytest.mark.parametrize(
    ("answer", "asked_again"),
    [
        (sends(OTHER, {"ETag": '"2"'}), False),
        (
            _range_of_the_other_file(
                f"bytes {CUT}-{len(OTHER) - 1}/{len(OTHER)}", {"ETag": '"2"', "Last-Modified": DATE.replace("21", "22")}
            ),
            True,
        ),
        (_range_of_the_other_file(f"bytes {CUT + 1}-{len(OTHER)}/{len(OTHER) + 1}", {}), True),
        (_range_of_the_other_file(f"bytes */{len(OTHER)}", {}), True),
        (_range_of_the_other_file("", {}), True),
        (says(416), True),
    ],
    ids=["200", "206 of another file", "206 from elsewhere", "206 of nothing", "206 without a range", "416"],
)
def test_a_file_that_changed_on_the_server_is_never_mixed_with_the_old_one(
    serve: Serve, target: Path, validators: dict[str, str], answer: Answer, asked_again: bool
) -> None:
    source = serve(sends(headers=validators, size=CUT), answer, sends(OTHER, {"ETag": '"2"'}))
    fetch(source.url(), target, ONCE)
    assert fetch(source.url(), target, ONCE) == fetched(source.url(), target, OTHER)
    assert target.read_bytes() == OTHER
    assert files(target) == ["clip.mp4"]
    assert source.ranges() == [None, f"bytes={CUT}-", None][: 3 if asked_again else 2]


def test_a_file_of_another_url_is_never_mixed_with_this_one_although_both_have_the_same_date(
    serve: Serve, target: Path
) -> None:
    same = {"Last-Modified": DATE}
    source = serve(sends(headers=same, size=CUT), sends(OTHER, same))
    fetch(source.url("/a"), target, ONCE)
    assert isinstance(fetch(source.url("/b"), target, ONCE), Downloaded)
    assert target.read_bytes() == OTHER


def test_what_arrived_of_a_file_is_not_taken_for_a_part_of_the_file_that_was_there_before(
    serve: Serve, target: Path
) -> None:
    source = serve(sends(size=CUT), sends(OTHER, {}, size=CUT), sends())
    for _ in range(2):
        assert isinstance(fetch(source.url(), target, ONCE), DownloadFailed)
    assert part_of(target).read_bytes() == OTHER[:CUT]
    assert isinstance(fetch(source.url(), target, ONCE), Downloaded)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("sidecar", [None, b"", b'"1"', b'"1"\nhttp://elsewhere/\n'], ids=ascii)
def test_a_part_of_unknown_origin_is_not_trusted(serve: Serve, target: Path, sidecar: bytes | None) -> None:
    source = serve(sends())
    target.parent.mkdir()
    part_of(target).write_bytes(OTHER[:CUT])
    if sidecar is not None:
        target.with_name(f"{target.name}.part.validator").write_bytes(sidecar)
    assert isinstance(fetch(source.url(), target, ONCE), Downloaded)
    assert target.read_bytes() == CONTENT
    assert files(target) == ["clip.mp4"]


@pytest.mark.parametrize(
    "answer",
    [sends(size=CUT), sends(size=0), sends(size=CUT, then=reset), chunked(whole=False), hang_up],
    ids=["truncated", "truncated to nothing", "reset", "broken chunks", "hung up"],
)
def test_a_connection_that_breaks_once_costs_no_file(serve: Serve, target: Path, answer: Answer) -> None:
    source = serve(answer, sends())
    assert fetch(source.url(), target) == fetched(source.url(), target)
    assert target.read_bytes() == CONTENT
    assert files(target) == ["clip.mp4"]
    assert len(source.requests) == 2


@pytest.mark.parametrize("answer", [sends(size=CUT, then=stall), stall], ids=["in the middle", "from the start"])
def test_a_server_that_falls_silent_is_asked_again_as_soon_as_was_configured(
    serve: Serve, target: Path, answer: Answer
) -> None:
    source = serve(answer, sends())
    started = time.monotonic()
    assert isinstance(fetch(source.url(), target, Patience(backoff_s=0.001, read_timeout_s=0.2)), Downloaded)
    assert 0.2 <= time.monotonic() - started < 4
    assert target.read_bytes() == CONTENT


def test_a_file_that_is_always_truncated_is_given_up_and_its_part_kept(serve: Serve, target: Path) -> None:
    source = serve(sends(size=CUT), sends(size=0))
    outcome = fetch(source.url(), target)
    assert isinstance(outcome, DownloadFailed)
    assert not outcome.permanent
    assert outcome.reason.startswith("it failed 3 times in a row, last: the connection failed: ")
    assert source.ranges() == [None, f"bytes={CUT}-", f"bytes={CUT}-"]
    assert part_of(target).read_bytes() == CONTENT[:CUT]
    assert not target.exists()


def test_a_large_file_over_a_connection_that_breaks_often_arrives(serve: Serve, target: Path) -> None:
    source = serve(sends(size=module.PROGRESS_BYTES))
    assert isinstance(fetch(source.url(), target, Patience(attempts=2, backoff_s=0.001)), Downloaded)
    assert target.read_bytes() == CONTENT
    assert len(source.requests) == 5


@pytest.mark.parametrize(
    ("answer", "kept"),
    [(sends(size=1), 3), (sends(headers={}, size=CUT), CUT), (hang_up, 0)],
    ids=["a byte each time", "the same bytes each time", "nothing"],
)
def test_a_server_that_never_gets_anywhere_is_given_up(serve: Serve, target: Path, answer: Answer, kept: int) -> None:
    source = serve(answer)
    assert isinstance(fetch(source.url(), target), DownloadFailed)
    assert len(source.requests) == 3
    assert not kept or part_of(target).read_bytes() == CONTENT[:kept]


def test_a_server_in_trouble_is_given_more_time_after_each_failure(serve: Serve, target: Path) -> None:
    source = serve(says(503))
    started = time.monotonic()
    assert isinstance(fetch(source.url(), target, Patience(attempts=4, backoff_s=0.1)), DownloadFailed)
    assert time.monotonic() - started >= 0.1 + 0.2 + 0.4


def test_a_server_that_gives_only_pieces_of_the_rest_gives_the_whole_file_in_the_end(
    serve: Serve, target: Path
) -> None:
    source = serve(sends(size=CUT), sends(at_most=CUT))
    assert isinstance(fetch(source.url(), target, Patience(attempts=2, backoff_s=0.001)), Downloaded)
    assert target.read_bytes() == CONTENT
    assert source.ranges() == [None, f"bytes={CUT}-", f"bytes={2 * CUT}-"]


def test_a_server_that_dies_in_the_middle_of_a_file_can_finish_it_when_it_is_back(serve: Serve, target: Path) -> None:
    source = serve(sends(size=CUT, then=lambda exchange: exchange.server.die()))
    outcome = fetch(source.url(), target)
    assert isinstance(outcome, DownloadFailed)
    assert not outcome.permanent
    assert "Connection refused" in outcome.reason
    assert part_of(target).read_bytes() == CONTENT[:CUT]
    revived = serve(sends(), port=source.server_port)
    assert fetch(source.url(), target) == fetched(source.url(), target)
    assert target.read_bytes() == CONTENT
    assert revived.ranges() == [f"bytes={CUT}-"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says(404), "HTTP 404 Not Found"),
        (says(401), "HTTP 401 Unauthorized"),
        (says(499), "HTTP 499"),
        (says(304), "HTTP 304 Not Modified"),
        (says(302), "HTTP 302 Found"),
        (says(200, {"Content-Type": "Text/HTML; charset=utf-8"}, b"<html>Log in"), "web page"),
        (says(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), "encoding gzip"),
        (says(302, {"Location": "ftp://127.0.0.1/clip.mp4"}), "redirects to"),
        (says(302, {"Location": "file:///etc/hostname"}), "redirects to"),
        (says(302, {"Location": "http://[::1"}), "redirects to"),
    ],
    ids=[
        "404",
        "401",
        "499",
        "304",
        "302 to nowhere",
        "page",
        "gzip",
        "302 to ftp",
        "302 to a file",
        "302 to nonsense",
    ],
)
@pytest.mark.parametrize("resumed", [False, True], ids=["at first", "after an interruption"])
def test_an_answer_that_will_stay_the_same_is_asked_for_only_once_and_costs_nothing_that_is_there(
    serve: Serve, target: Path, answer: Answer, reason: str, resumed: bool
) -> None:
    source = serve(*([sends(size=CUT)] if resumed else []), answer)
    if resumed:
        fetch(source.url(), target, ONCE)
    outcome = fetch(source.url(), target)
    assert isinstance(outcome, DownloadFailed)
    assert outcome.permanent
    assert reason in outcome.reason
    assert len(source.requests) == 1 + resumed
    assert not target.exists()
    assert not resumed or part_of(target).read_bytes() == CONTENT[:CUT]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 202, 206])
def test_a_server_that_is_only_busy_is_asked_again(serve: Serve, target: Path, status: int) -> None:
    source = serve(says(status), sends())
    assert isinstance(fetch(source.url(), target), Downloaded)
    busy = serve(says(status))
    outcome = fetch(busy.url(), target.with_name("other.mp4"))
    assert isinstance(outcome, DownloadFailed)
    assert not outcome.permanent
    assert f"HTTP {status}" in outcome.reason
    assert len(busy.requests) == 3


@pytest.mark.parametrize("answer", [says(200), says(200, {"Content-Type": "video/mp4"}), says(200, ETAG)])
def test_an_empty_answer_is_no_file_and_costs_nothing_that_is_there(serve: Serve, target: Path, answer: Answer) -> None:
    source = serve(sends(size=CUT), answer)
    fetch(source.url(), target, ONCE)
    outcome = fetch(source.url(), target, ONCE)
    assert outcome == DownloadFailed(Download(source.url(), target), "the server sent no bytes", permanent=False)
    assert not target.exists()
    assert part_of(target).read_bytes() == CONTENT[:CUT]


def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(serve: Serve, target: Path) -> None:
    source = serve(says(503, {"Retry-After": "1"}), sends())
    started = time.monotonic()
    assert isinstance(fetch(source.url(), target), Downloaded)
    assert time.monotonic() - started >= 1
    assert len(source.requests) == 2


@pytest.mark.parametrize(
    "retry_after",
    [
        "86400",
        "9" * 5000,
        "-1",
        "soon",
        "",
        *(f"Fri, 31 Dec {year} 23:59:59 GMT" for year in (1999, 2999, 99999, 10**12)),
    ],
    ids=lambda value: value[:24],
)
def test_a_server_that_says_to_come_back_in_a_day_or_nonsense_does_not_hold_up_the_work(
    serve: Serve, target: Path, monkeypatch: pytest.MonkeyPatch, retry_after: str
) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.01)
    source = serve(*[says(503, {"Retry-After": retry_after})] * 2, sends())
    outcome = fetch(source.url(), target, ONCE)
    assert isinstance(outcome, DownloadFailed)
    assert outcome.reason == "HTTP 503 Service Unavailable"
    assert isinstance(fetch(source.url(), target), Downloaded)


def test_a_file_that_moved_is_found_and_resumed_there(serve: Serve, target: Path) -> None:
    elsewhere = serve(sends(size=CUT), sends())
    source = serve(*[says(302, {"Location": "/b"}), says(308, {"Location": elsewhere.url("/c")})] * 2)
    assert fetch(source.url("/a"), target) == fetched(source.url("/a"), target)
    assert target.read_bytes() == CONTENT
    assert [path for path, _ in source.requests] == ["/a", "/b"] * 2
    assert elsewhere.ranges() == [None, f"bytes={CUT}-"]


def test_servers_that_send_each_other_round_in_circles_are_not_followed_for_ever(serve: Serve, target: Path) -> None:
    source = serve(says(302, {"Location": "/clip.mp4"}))
    outcome = fetch(source.url(), target)
    assert outcome == DownloadFailed(Download(source.url(), target), "it redirects more than 5 times", permanent=True)
    assert len(source.requests) == 6


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/clip.mp4",
        "file:///etc/hostname",
        "clips/clip.mp4",
        "",
        "http://",
        "http:///clip.mp4",
        "http://[::1",
        "http://127.0.0.1:99999/clip.mp4",
        "http://a b/clip.mp4",
        f"http://{'a' * 70}.invalid/clip.mp4",
        "http://\ud800/clip.mp4",
    ],
    ids=ascii,
)
def test_a_url_that_nothing_can_be_downloaded_from_fails_for_good(target: Path, url: str) -> None:
    outcome = fetch(url, target)
    assert isinstance(outcome, DownloadFailed)
    assert outcome.permanent
    assert outcome.reason.startswith("the URL")
    assert files(target) == []


@pytest.mark.parametrize("path", ["/a clip é.mp4?x=1&y=\n#z", "/\ud800.mp4"], ids=ascii)
def test_a_url_with_odd_characters_is_downloaded_and_resumed(serve: Serve, target: Path, path: str) -> None:
    source = serve(sends(size=CUT), sends())
    assert isinstance(fetch(source.url(path), target), Downloaded)
    assert source.ranges() == [None, f"bytes={CUT}-"]


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    output = ("-nodes", "-keyout", str(key), "-out", str(certificate))
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *output, *subject]
    try:
        subprocess.run(argv, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("a certificate is made with openssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_a_server_that_nobody_vouches_for_is_not_trusted(
    serve: Serve, target: Path, self_signed: ssl.SSLContext
) -> None:
    source = serve(sends(), tls=self_signed)
    outcome = fetch(source.url(), target)
    assert isinstance(outcome, DownloadFailed)
    assert outcome.permanent
    assert "certificate verify failed" in outcome.reason
    assert source.requests == []


def test_a_full_disk_ends_the_whole_work(serve: Serve, small_disk: Path) -> None:
    source = serve(sends(CONTENT * 8), sends())
    downloads = [Download(source.url(), small_disk / name) for name in ("large.mp4", "small.mp4")]
    with pytest.raises(OSError, match="No space left"):
        list(download_all(downloads, threads=1, patience=QUICK))
    assert len(source.requests) == 1
    assert not downloads[0].target.exists()


def test_a_folder_that_cannot_be_made_ends_the_whole_work(serve: Serve) -> None:
    # The kernel lets nobody, root included, make a folder there.
    downloads = [Download(serve(sends()).url(), Path("/proc/1/nowhere/clip.mp4"))]
    with pytest.raises(OSError, match="/proc/1/nowhere"):
        list(download_all(downloads, threads=1, patience=QUICK))


@pytest.mark.parametrize("name", ["a" * 250 + ".mp4", "taken/clip.mp4"], ids=["a long name", "a file in the way"])
def test_a_name_that_the_disk_does_not_take_costs_only_its_own_file(serve: Serve, tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_bytes(b"a file")
    source = serve(sends(), sends())
    wanted = [Download(source.url(), tmp_path / name), Download(source.url(), tmp_path / "fine.mp4")]
    outcomes = {outcome.download: outcome for outcome in download_all(wanted, threads=1, patience=QUICK)}
    failed = outcomes[wanted[0]]
    assert isinstance(failed, DownloadFailed)
    assert failed.permanent
    assert isinstance(outcomes[wanted[1]], Downloaded)


@pytest.mark.parametrize("broken", ["clip.mp4.part", "set"], ids=["the file", "its folder"])
def test_a_file_that_the_disk_did_not_take_is_not_reported_as_there(
    serve: Serve, target: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(path: Path) -> None:
        if path.name == broken:
            raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(module, "sync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        fetch(serve(sends()).url(), target)
    assert target.exists() == (broken == "set")


def test_a_consumer_that_stops_ends_the_running_downloads_and_starts_no_other(serve: Serve, tmp_path: Path) -> None:
    begun = threading.Barrier(3, timeout=10)

    def answer(exchange: Exchange) -> None:
        if exchange.path == "/quick":
            sends()(exchange)
        else:
            begun.wait()
            endless(exchange)

    source = serve(answer)
    paths = ("/quick", "/endless-1", "/endless-2", "/never")
    downloads = [Download(source.url(path), tmp_path / path[1:]) for path in paths]
    with closing(download_all(downloads, threads=2, patience=Patience(read_timeout_s=30.0))) as outcomes:
        assert next(outcomes) == Downloaded(downloads[0], len(CONTENT))
        begun.wait()
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 15
    assert sorted(path for path, _ in source.requests) == ["/endless-1", "/endless-2", "/quick"]
    for download in downloads[1:3]:
        assert part_of(download.target).stat().st_size > 0
        assert not download.target.exists()


def test_a_consumer_that_stops_does_not_wait_until_a_busy_server_is_to_be_asked_again(
    serve: Serve, tmp_path: Path
) -> None:
    def answer(exchange: Exchange) -> None:
        (sends() if exchange.path == "/quick" else says(503))(exchange)

    source = serve(answer)
    downloads = [Download(source.url(path), tmp_path / path[1:]) for path in ("/quick", "/busy")]
    started = time.monotonic()
    with closing(download_all(downloads, threads=2, patience=Patience(backoff_s=60.0))) as outcomes:
        assert next(outcomes) == Downloaded(downloads[0], len(CONTENT))
    assert time.monotonic() - started < 30
    assert [path for path, _ in source.requests].count("/busy") <= 1


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handler of SIGINT, which a process started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_from_the_keyboard_ends_the_running_downloads_and_starts_no_other(
    serve: Serve, tmp_path: Path
) -> None:
    def interrupted(exchange: Exchange) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        endless(exchange)

    # The first is whole before the interrupt comes, because a pool that is starting a thread just then forgets it.
    # The second may be asked for again: Python notices no signal that comes just before it begins to wait.
    source = serve(sends(), interrupted)
    downloads = [Download(source.url(path), tmp_path / path[1:]) for path in ("/first", "/second", "/never")]
    with pytest.raises(KeyboardInterrupt), closing(download_all(downloads, threads=1, patience=QUICK)) as outcomes:
        list(outcomes)
    assert {path for path, _ in source.requests} == {"/first", "/second"}
    assert part_of(downloads[1].target).stat().st_size > 0
    assert not downloads[1].target.exists()


def broken_headers(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nno header at all\r\n\r\nCONTENT")
    exchange.close_connection = True


def redirects_to_itself(exchange: Exchange) -> None:
    says(302, {"Location": exchange.path})(exchange)


@pytest.mark.parametrize(
    "answer",
    [
        sends(size=CUT),
        says(404),
        redirects_to_itself,
        says(302, {"Location": "https://user:SECRET@[/clip.mp4"}),
        says(302, {"Location": "ftp://user:SECRET@127.0.0.1/clip.mp4?sig=SECRET"}),
        broken_headers,
        hang_up,
    ],
    ids=["truncated", "not found", "redirects", "redirect to nowhere", "redirect to FTP", "broken headers", "hung up"],
)
def test_no_secret_of_a_url_is_in_what_a_failed_download_says_logs_and_leaves(
    serve: Serve, target: Path, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    address = serve(answer).url("/clip.mp4?sig=SECRET").replace("://", "://user:SECRET@")
    outcome = fetch(address, target, ONCE)
    assert isinstance(outcome, DownloadFailed)
    assert "SECRET" not in outcome.reason
    assert "SECRET" not in caplog.text
    left = [path.read_bytes() for path in target.parent.iterdir()]
    assert [content for content in left if b"SECRET" in content] == []


def test_what_a_hostile_server_says_is_a_reason_that_can_be_shown(serve: Serve, target: Path) -> None:
    outcome = fetch(serve(says(200, {"Content-Encoding": "\x1b[2J\x9b2J"})).url(), target, ONCE)
    assert isinstance(outcome, DownloadFailed)
    assert outcome.reason == r"the server sent the file in the encoding \x1b[2J\x9b2J, unasked"


def test_a_part_goes_on_only_from_the_same_query_although_queries_are_kept_nowhere(serve: Serve, target: Path) -> None:
    source = serve(sends(size=CUT), sends())
    assert isinstance(fetch(source.url("/get?id=1"), target, ONCE), DownloadFailed)
    assert isinstance(fetch(source.url("/get?id=2"), target, ONCE), Downloaded)
    assert source.ranges() == [None, None]


@pytest.mark.parametrize(
    "answer", [sends(), chunked(whole=True), endless], ids=["with its length", "in chunks", "endless"]
)
def test_a_file_that_is_too_large_does_not_fill_the_disk(serve: Serve, target: Path, answer: Answer) -> None:
    outcome = fetch_at_most(len(CONTENT) - 1, serve(answer).url(), target)
    assert isinstance(outcome, DownloadFailed)
    assert (outcome.reason, outcome.permanent) == (
        f"the file is larger than the {len(CONTENT) - 1} bytes that are allowed",
        True,
    )
    assert files(target) == []


def test_a_file_of_the_largest_size_arrives(serve: Serve, target: Path) -> None:
    source = serve(sends())
    assert fetch_at_most(len(CONTENT), source.url(), target) == fetched(source.url(), target)


def test_what_is_no_video_never_gets_the_name_of_one(serve: Serve, target: Path) -> None:
    refused = Acceptance(refusal=lambda head: "a script" if head.startswith(b"#!") else None)
    source = serve(sends(b"#!/bin/sh\n"), sends())
    downloads = [Download(source.url(), target), Download(source.url(), target.with_name("other.mp4"))]
    failed, arrived = download_all(downloads, threads=1, patience=QUICK, acceptance=refused)
    assert isinstance(failed, DownloadFailed)
    assert (failed.reason, failed.permanent) == ("the server sent a script", True)
    assert isinstance(arrived, Downloaded)
    assert files(target) == ["other.mp4"]


def test_a_link_in_the_place_of_a_part_leads_nowhere(serve: Serve, target: Path, tmp_path: Path) -> None:
    source = serve(sends(size=CUT), sends())
    assert isinstance(fetch(source.url(), target, ONCE), DownloadFailed)
    elsewhere = part_of(target).rename(tmp_path / "elsewhere")
    before = elsewhere.read_bytes()
    part_of(target).symlink_to(elsewhere)
    outcome = fetch(source.url(), target)
    assert isinstance(outcome, DownloadFailed)
    assert "Too many levels of symbolic links" in outcome.reason
    assert elsewhere.read_bytes() == before
