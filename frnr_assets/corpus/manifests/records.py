"""What every reader of manifests gives."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from frnr_assets.words import harmless, without_secrets

# Why a row of a manifest is rejected, in a word or two that can be counted.
Kind = Literal[
    "undecodable",
    "malformed",
    "bad value",
    "bad MOS",
    "bad path",
    "outside roots",
    "no file",
    "listed twice",
    "same content",
    "not downloaded",
    "download failed",
]

ROW_TEXT_LIMIT = 2000


class ManifestError(ValueError):
    """A manifest cannot be used at all; the message names the file and the reason.

    It may quote the manifest, and goes to terminals and logs: it is made harmless for both.
    """

    def __init__(self, message: str):
        super().__init__(_fit_to_print(message))


class RowRejected(ValueError):  # noqa: N818 - the name says what happened
    """One row of a manifest cannot be used.

    Attributes:
        kind: the kind of reason.
        reason: one sentence, harmless like that of a ManifestError.
    """

    def __init__(self, kind: Kind, reason: str):
        self.kind: Kind = kind
        self.reason = _fit_to_print(reason)
        super().__init__(self.reason)


def _fit_to_print(message: str) -> str:
    return harmless(without_secrets(message))


@dataclass(frozen=True, slots=True)
class Record:
    """One row as a manifest has it, names and values as they stand there.

    Attributes:
        manifest: the file.
        line: its first line, from 1.
        text: the row itself, for whoever has to mend it.
        values: by column, or why there are none.
    """

    manifest: Path
    line: int
    text: str
    values: Mapping[str, Any] | RowRejected


def lines_of(manifest: Path, setting: str = "manifest") -> Iterator[tuple[int, bytes]]:
    """Read the lines of a manifest with their numbers, without byte-order mark and line ends; blank ones are skipped.

    Lines end at line feeds only: ``splitlines`` would also split inside a value, at U+2028.

    Args:
        manifest: the file.
        setting: what names it in frnr.toml.

    Raises:
        ManifestError: no such file, or UTF-16.
    """
    try:
        with manifest.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise ManifestError(f"{manifest}: it is UTF-16; save it as UTF-8")
                content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if content.strip():
                    yield number, content.rstrip(b"\r\n")
    except OSError as error:
        raise ManifestError(f"{manifest}: {error.strerror}; check `{setting}` of the dataset in frnr.toml") from error


def decoded(line: bytes) -> str:
    """Decode a line.

    Raises:
        RowRejected: it is not UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise RowRejected(
            "undecodable", f"byte {error.start + 1} of the line is not UTF-8; save the manifest as UTF-8"
        ) from error


def shown(line: bytes) -> str:
    """Return a line as it can be shown and stored, however broken it is."""
    return line[:ROW_TEXT_LIMIT].decode(errors="backslashreplace").replace("\0", "\\0")
