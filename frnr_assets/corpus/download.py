"""Downloading the files of a dataset so that neither a broken connection nor a kill costs what has already arrived."""

import errno
import hashlib
import logging
import os
import re
import ssl
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from http import client
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, ResponseError, SSLError
from urllib3.util import parse_url

from frnr_assets.containers import HEAD_BYTES
from frnr_assets.corpus.store import sync
from frnr_assets.words import harmless, without_secrets

CHUNK_BYTES = 64 << 10
# An attempt that gained less than this counts like one that gained nothing: a server may send a byte each time.
PROGRESS_BYTES = 64 << 10
REDIRECTS = 5
LONGEST_WAIT_S = 60.0

# Request timeout, too early, too many requests: the server says itself that a later attempt may succeed.
_TEMPORARY = frozenset({408, 425, 429})
# What the file system has against one name, and not against all.
_OF_THIS_TARGET = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP})
_CONTENT_RANGE = re.compile(r"bytes (?P<start>[0-9]{1,18})-[0-9]{1,18}/(?P<total>[0-9]{1,18}|\*)")


@dataclass(frozen=True)
class Download:
    """One file to fetch.

    Attributes:
        url: where it is; http or https.
        target: what it is called here. Until it is whole it is called ``<target>.part``.
    """

    url: str
    target: Path


@dataclass(frozen=True)
class Downloaded:
    """A file is under its final name, whole and durable.

    Attributes:
        download: what was asked for.
        size_bytes: of the file.
    """

    download: Download
    size_bytes: int


@dataclass(frozen=True)
class DownloadFailed:
    """A file could not be fetched; what arrived of it is kept for the next time.

    Attributes:
        download: what was asked for.
        reason: one sentence, without secrets, and harmless to show whatever the server said.
        permanent: whether trying again will not help.
    """

    download: Download
    reason: str
    permanent: bool


Outcome = Downloaded | DownloadFailed


def _fit_to_print(record: logging.LogRecord) -> bool:
    """Let through urllib3's warnings, without secrets: it names the URL of an answer whose headers are broken."""
    record.msg, record.args = harmless(without_secrets(record.getMessage())), ()
    return record.levelno >= logging.WARNING


# A filter is asked by the logger that it belongs to, not by those above.
for _name in ("connection", "connectionpool", "poolmanager", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_fit_to_print)


@dataclass(frozen=True)
class Patience:
    """How long to put up with a bad connection.

    Attributes:
        attempts: how many in a row may fail; one that gained at least ``PROGRESS_BYTES`` starts a new row.
        backoff_s: seconds to wait after the first of a row. They double each time, up to ``LONGEST_WAIT_S``.
        connect_timeout_s: seconds that each address of a server may take to accept a connection.
        read_timeout_s: seconds that a server may stay silent.
    """

    attempts: int = 5
    backoff_s: float = 1.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0


@dataclass(frozen=True)
class Acceptance:
    """What is taken for the file that was asked for.

    Attributes:
        max_bytes: size of the largest file.
        refusal: says of the first ``HEAD_BYTES`` of a file why it is not what was wanted; None when it is.
    """

    max_bytes: int = 4 << 30
    refusal: Callable[[bytes], str | None] = lambda _: None


class _AttemptError(Exception):
    def __init__(self, reason: str, *, permanent: bool = False, retry_after_s: float = 0.0):
        self.reason = harmless(without_secrets(reason))
        super().__init__(self.reason)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class _Part:
    """What has arrived of a file, and beside it what tells whether the server still has that file.

    So is a hash of the URL, which may have a secret in it: files of the same age have the same validator, if that is
    their date.
    """

    download: Download

    @property
    def path(self) -> Path:
        target = self.download.target
        return target.with_name(f"{target.name}.part")

    @property
    def _sidecar(self) -> Path:
        return self.path.with_name(f"{self.path.name}.validator")

    @property
    def _origin(self) -> bytes:
        digest = hashlib.sha256(self.download.url.encode(errors="surrogatepass")).hexdigest()
        return f"\n{digest}\n".encode()

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self) -> str:
        content = self._sidecar.read_bytes() if self._sidecar.exists() else b""
        return content.removesuffix(self._origin).decode("ascii") if content.endswith(self._origin) else ""

    def discard(self) -> None:
        # The part goes first: it must never be there beside the validator of another answer.
        self.path.unlink(missing_ok=True)
        self._sidecar.unlink(missing_ok=True)

    def restart(self, validator: str) -> None:
        self.discard()
        if validator:
            self._sidecar.write_bytes(validator.encode("ascii") + self._origin)

    def head(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(HEAD_BYTES)

    def open(self) -> BinaryIO:
        # A link in its place would lead what arrives to somewhere else.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        return os.fdopen(os.open(self.path, flags, 0o666), "ab")

    def finish(self) -> Downloaded:
        sync(self.path)
        size = self.size()
        self.path.replace(self.download.target)
        self._sidecar.unlink(missing_ok=True)
        sync(self.download.target.parent)
        return Downloaded(self.download, size)


def download_all(
    downloads: Sequence[Download], *, threads: int, patience: Patience, acceptance: Acceptance | None = None
) -> Generator[Outcome, None, None]:
    """Fetch files, several at a time, and yield what became of each as soon as it is known.

    Each goes on from its part if the server can tell that the file is the same. While no outcome is taken, no further
    download starts. Closing the generator, or an exception in it such as KeyboardInterrupt, ends the running downloads
    at their next chunk and waits for that, at most ``read_timeout_s``. An exception of the consumer does not reach a
    generator by itself: use ``contextlib.closing``.

    Args:
        downloads: each with a target of its own. A file that is there already is replaced.
        threads: how many downloads to run at once.
        patience: with bad connections.
        acceptance: what is taken for the file; None for anything that is no web page.

    Raises:
        OSError: the disk is full or a folder is not writable; every other download would fail alike. A name that is
            too long, or a file where a folder should be, is the failure of its own download only.
    """
    stop, waiting, wanted = threading.Event(), iter(downloads), acceptance or Acceptance()
    timeout = Timeout(connect=patience.connect_timeout_s, read=patience.read_timeout_s)
    # Only redirects are left to urllib3. Its retries would not resume, and would sleep through a stop.
    retries = Retry(REDIRECTS, connect=0, read=0, other=0, respect_retry_after_header=False)
    with (
        PoolManager(maxsize=threads, timeout=timeout, retries=retries) as http,
        ThreadPoolExecutor(threads) as executor,
    ):

        def start(count: int) -> set[Future[Outcome]]:
            return {executor.submit(_download, http, one, patience, wanted, stop) for one in islice(waiting, count)}

        try:
            running = start(threads)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                outcomes = [future.result() for future in done]
                running |= start(len(done))
                yield from outcomes
        finally:
            stop.set()


def _download(
    http: PoolManager, download: Download, patience: Patience, wanted: Acceptance, stop: threading.Event
) -> Outcome:
    try:
        return _fetch(http, download, patience, wanted, stop)
    except OSError as error:
        if error.errno not in _OF_THIS_TARGET:
            raise
        return DownloadFailed(download, harmless(f"{error.strerror}: {error.filename}"), permanent=True)


def _fetch(
    http: PoolManager, download: Download, patience: Patience, wanted: Acceptance, stop: threading.Event
) -> Outcome:
    part = _Part(download)
    download.target.parent.mkdir(parents=True, exist_ok=True)
    failures, most = 0, part.size()
    while True:
        try:
            _attempt(http, part, wanted, stop)
            _refuse_other_kinds(part, wanted)
            return part.finish()
        except _AttemptError as caught:
            error = caught
        except HTTPError as caught:
            error = _explained(caught)
        # Progress is what no attempt had before: a server that cannot resume gives the same bytes again and again.
        if part.size() >= most + PROGRESS_BYTES:
            failures, most = 0, part.size()
        failures += 1
        if error.permanent or failures >= patience.attempts:
            times = "" if failures == 1 else f"it failed {failures} times in a row, last: "
            return DownloadFailed(download, f"{times}{error.reason}", error.permanent)
        if stop.wait(min(max(patience.backoff_s * 2 ** (failures - 1), error.retry_after_s), LONGEST_WAIT_S)):
            raise CancelledError


def _refuse_other_kinds(part: _Part, wanted: Acceptance) -> None:
    reason = wanted.refusal(part.head())
    if reason is not None:
        part.discard()
        raise _AttemptError(f"the server sent {reason}", permanent=True)


def _attempt(http: PoolManager, part: _Part, wanted: Acceptance, stop: threading.Event) -> None:
    """Fetch what is missing of a file, or raise _AttemptError, HTTPError, OSError (the disk's) or CancelledError."""
    start, validator = part.size(), part.validator()
    missing = {"Range": f"bytes={start}-", "If-Range": validator} if start and validator else {}
    with _answer(http, part.download.url, missing) as response:
        if not missing or _fits(response, start, validator):
            _refuse(response, whole=not missing)
            _receive(response, part, wanted.max_bytes, stop)
            return
    part.discard()
    _attempt(http, part, wanted, stop)


def _answer(http: PoolManager, url: str, headers: dict[str, str]) -> BaseHTTPResponse:
    try:
        if parse_url(url).scheme not in {"http", "https"}:
            raise _AttemptError("the URL is neither http nor https", permanent=True)
        return http.request("GET", url, headers={"Accept-Encoding": "identity", **headers}, preload_content=False)
    except ValueError as error:
        raise _AttemptError("the URL, or one that it redirects to, cannot be used", permanent=True) from error


def _fits(response: BaseHTTPResponse, start: int, validator: str) -> bool:
    """Return whether a part can stay there, given the answer to a request for the rest of it."""
    if response.status != 206:
        return response.status != 416
    # Some servers give a range of whatever file they have now, as if there were no If-Range.
    now = response.headers.get("ETag" if validator.startswith('"') else "Last-Modified", validator)
    answered = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return answered is not None and int(answered["start"]) == start and now == validator


def _refuse(response: BaseHTTPResponse, *, whole: bool) -> None:
    """Raise _AttemptError for an answer that is no file; what has arrived before is not touched by it."""
    status = response.status
    if status != 200 and (whole or status != 206):
        raise _AttemptError(
            f"HTTP {status} {client.responses.get(status, '')}".rstrip(),
            permanent=300 <= status < 500 and status not in _TEMPORARY,
            retry_after_s=_retry_after_s(response),
        )
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise _AttemptError(f"the server sent the file in the encoding {encoding}, unasked", permanent=True)
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
        raise _AttemptError("the server sent a web page instead of the file", permanent=True)


def _receive(response: BaseHTTPResponse, part: _Part, max_bytes: int, stop: threading.Event) -> None:
    # Only once there are bytes to replace it does an old part go.
    chunk = response.read1(CHUNK_BYTES)
    if not chunk:
        raise _AttemptError("the server sent no bytes")
    if response.status == 200:
        part.restart(_validator(response))
    with part.open() as file:
        while chunk:
            if file.tell() + len(chunk) > max_bytes:
                part.discard()
                raise _AttemptError(f"the file is larger than the {max_bytes} bytes that are allowed", permanent=True)
            file.write(chunk)
            if stop.is_set():
                raise CancelledError
            chunk = response.read1(CHUNK_BYTES)
    answered = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status == 206 and answered and answered["total"] not in {"*", str(part.size())}:
        raise _AttemptError(f"the server sent {part.size()} of {answered['total']} bytes")


def _validator(response: BaseHTTPResponse) -> str:
    etag = response.headers.get("ETag", "")
    # A weak one, W/"...", does not promise the same bytes.
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    return validator if validator.isascii() and validator.isprintable() else ""


def _retry_after_s(response: BaseHTTPResponse) -> float:
    try:
        return Retry().get_retry_after(response) or 0.0
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0


def _explained(error: HTTPError) -> _AttemptError:
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    if isinstance(cause, ResponseError):
        return _AttemptError(f"it redirects more than {REDIRECTS} times", permanent=True)
    detail = cause.args[-1] if cause.args else cause
    untrusted = isinstance(cause, SSLError) and isinstance(detail, ssl.SSLCertVerificationError)
    return _AttemptError(f"the connection failed: {detail}", permanent=untrusted)
