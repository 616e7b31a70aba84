"""JSON Lines manifests: one object such as {"src": "clip.mp4", "mos": 3.2} a line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from frnr_assets.corpus.manifests.records import Record, RowRejected, decoded, lines_of, shown


def read_json_lines(manifest: Path) -> Iterator[Record]:
    """Read a JSON Lines manifest.

    Raises:
        ManifestError: the file cannot be read.
    """
    for number, line in lines_of(manifest):
        try:
            values: Mapping[str, Any] | RowRejected = parse_object(decoded(line))
        except RowRejected as rejected:
            values = rejected
        yield Record(manifest, number, shown(line), values)


def parse_object(line: str) -> Mapping[str, Any]:
    """Parse a line.

    Raises:
        RowRejected: not a JSON object, a key that is there twice, or half a character.
    """
    try:
        value = json.loads(line, object_pairs_hook=_without_repetition)
        # Only an escape can bring half a character into a line that was decoded.
        if "\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RowRejected("malformed", "src or another text has half a character (a lone surrogate)") from error
    except RowRejected:
        raise
    except (ValueError, RecursionError) as error:
        raise RowRejected("malformed", f"not JSON ({error})") from error
    if not isinstance(value, dict):
        raise RowRejected("malformed", 'not a JSON object such as {"src": "clip.mp4", "mos": 3.2}')
    return value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        # Quoted: it may have half a character, which no table takes as it is.
        raise RowRejected("malformed", f"{repeated!r} is there twice")
    return values
