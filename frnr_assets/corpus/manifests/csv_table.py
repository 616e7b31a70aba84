"""CSV manifests: a header, then one clip a row, separated by commas, semicolons or tabs."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frnr_assets.corpus.manifests.records import ManifestError, Record, RowRejected, decoded, lines_of, shown

_SEPARATORS = ",;\t"


def read_csv(manifest: Path) -> Iterator[Record]:
    """Read a CSV manifest; a quoted field may hold separators and quotes, but no line break.

    Raises:
        ManifestError: the file cannot be read, is empty, or its header cannot be read or has a name twice.
    """
    lines = lines_of(manifest)
    header_line = next(lines, None)
    if header_line is None:
        raise ManifestError(f"{manifest}: no clip in it")
    try:
        text = decoded(header_line[1])
        # What separates the names of the header separates the values.
        separator = max(_SEPARATORS, key=text.count)
        header = [name.strip() for name in _fields(text, separator)]
    except RowRejected as rejected:
        raise ManifestError(f"{manifest}: line {header_line[0]}, the header: {rejected.reason}") from rejected
    repeated = [name for name in header if header.count(name) > 1]
    if repeated:
        raise ManifestError(f"{manifest}: the header has the column {repeated[0] or 'without a name'!r} twice")
    for number, line in lines:
        try:
            values: Mapping[str, str] | RowRejected = _row(decoded(line), separator, header)
        except RowRejected as rejected:
            values = rejected
        yield Record(manifest, number, shown(line), values)


def _row(line: str, separator: str, header: Sequence[str]) -> Mapping[str, str]:
    fields = _fields(line, separator)
    if len(fields) != len(header):
        raise RowRejected("malformed", f"{len(fields)} columns where the header has {len(header)}")
    return dict(zip(header, fields, strict=True))


def _fields(line: str, separator: str) -> list[str]:
    try:
        (fields,) = csv.reader(io.StringIO(line, newline=""), delimiter=separator, strict=True)
    except (csv.Error, ValueError) as error:
        raise RowRejected("malformed", f"not CSV ({error})") from error
    return fields
