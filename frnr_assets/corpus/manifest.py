"""Reading manifests: which clips there are, where, and what people thought of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from frnr_assets.corpus.keys import clip_key

_KNOWN_KEYS = {"src", "mos", "mos_std_dev", "n_ratings"}


class ManifestError(ValueError):
    """A manifest cannot be read; the message names file, line and reason."""


def read_manifest(path: Path, *, clips_root: Path | None, dataset: str) -> list[dict[str, Any]]:
    """Read a JSON Lines manifest of ``{"src": ..., "mos": ..., ...}`` objects.

    Args:
        path: the manifest, UTF-8, with or without a byte-order mark; empty lines are skipped.
        clips_root: the folder that relative ``src`` are relative to; None for the manifest's own.
        dataset: the name of the dataset, for rows that do not carry one.

    Returns:
        One mapping per clip with the columns of ``MANIFEST_SCHEMA``. Values are passed through: whether sources
        exist, keys are unique and MOS lie in range is the checks' to say.

    Raises:
        ManifestError: no such file, not UTF-8, not JSON, ``src`` missing, a value of the wrong type, or no clip.
    """
    root = (clips_root or path.parent).absolute()
    try:
        # Split at line feeds only: splitlines() would also split inside a JSON string at U+2028.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}; check the setting `manifest` in frnr.toml") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: byte {error.start} is not UTF-8; save the manifest as UTF-8") from error
    rows = [
        _row(line, root=root, dataset=dataset, manifest=path, number=number)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not rows:
        raise ManifestError(f"{path}: no clip in it")
    return rows


def _row(line: str, *, root: Path, dataset: str, manifest: Path, number: int) -> dict[str, Any]:
    where = f"{manifest}, line {number}"
    try:
        entry = json.loads(line)
        json.dumps(entry, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ManifestError(f"{where}: src or another text has half a character (a lone surrogate)") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error})") from error
    if not isinstance(entry, dict):
        raise ManifestError(f'{where}: not a JSON object such as {{"src": "clip.mp4", "mos": 3.2}}')
    source = entry.get("src")
    if not isinstance(source, str) or not source:
        raise ManifestError(f"{where}: src is missing; it is the path of the clip")
    if "\0" in source or not clip_key(root / source):
        raise ManifestError(f"{where}: src is {source!r}, which is no path of a clip")
    ratings = _number(entry, "n_ratings", where)
    if ratings is not None and not (ratings.is_integer() and 0 <= ratings < 2**53):
        raise ManifestError(f"{where}: n_ratings is not a whole number of people")
    path = root / source
    return {
        "clip": clip_key(path),
        "src": str(path),
        "mos": _number(entry, "mos", where),
        "mos_std_dev": _number(entry, "mos_std_dev", where),
        "n_ratings": None if ratings is None else int(ratings),
        "dataset": str(entry.get("corpus") or entry.get("dataset") or dataset),
        "extra": json.dumps(dict(_extra(entry)), ensure_ascii=False),
        "manifest": str(manifest),
        "line": number,
    }


def _number(entry: Mapping[str, Any], key: str, where: str) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ManifestError(f"{where}: {key} is {value!r}, not a number")
    try:
        return float(value)
    except OverflowError as error:
        raise ManifestError(f"{where}: {key} has {len(str(value))} digits") from error


def _extra(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in entry.items() if key not in _KNOWN_KEYS)
