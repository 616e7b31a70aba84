"""From the rows of any manifest to entries: the same names and types whatever the format."""

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from frnr_assets.corpus.dataset import PLACEHOLDER, Columns, Dataset, ManifestFormat
from frnr_assets.corpus.manifests.csv_table import read_csv
from frnr_assets.corpus.manifests.json_lines import read_json_lines
from frnr_assets.corpus.manifests.konvid_150k import is_score_drop, score_files
from frnr_assets.corpus.manifests.records import Kind, ManifestError, Record, RowRejected

# The names of an entry, each with its spellings in published score files, the first that is there counts.
SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "src": ("src", "file_name", "video_name", "filename", "name"),
    "mos": ("mos", "MOS", "video_score"),
    "mos_std_dev": ("mos_std_dev", "mos_std", "SD_MOS", "SD", "sd"),
    "n_ratings": ("n_ratings", "num_ratings", "ratings", "n"),
    "split": ("split",),
    "url": ("url",),
}
# float() also takes 1_0, Arabic digits, 1e999 and "infinity".
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a manifest says of a clip. Values are passed through unchanged.

    Attributes:
        src: the path as it stands in the manifest, relative to the clips' folder or absolute.
        mos: crowd MOS, or None.
        mos_std_dev: standard deviation of the ratings, or None.
        n_ratings: number of ratings, or None.
        split: the dataset's own split, or None.
        url: where a missing clip can be downloaded from, or None.
        extra: all other columns, as JSON.
    """

    src: str
    mos: float | None
    mos_std_dev: float | None
    n_ratings: int | None
    split: str | None
    url: str | None
    extra: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of a manifest, understood or rejected.

    Attributes:
        record: the row as it stands there.
        clips_root: the folder that a relative source is in.
        src: the path as it stands there, as far as that can be told.
        entry: what it says, or why it cannot be used.
    """

    record: Record
    clips_root: Path
    src: str | None
    entry: Entry | RowRejected


def manifest_files(dataset: Dataset) -> list[tuple[Path, Path]]:
    """Return the manifest files of a dataset, each with the folder that its relative sources are in.

    Raises:
        ManifestError: a KonViD-150k score drop without a score file.
    """
    if _format(dataset) == "konvid-150k":
        return score_files(dataset.manifest, base_folder(dataset))
    return [(dataset.manifest, base_folder(dataset))]


def base_folder(dataset: Dataset) -> Path:
    """Return the folder that the clips of a dataset are in, and that their names start from."""
    if dataset.clips_root:
        return dataset.clips_root
    return dataset.manifest if _format(dataset) == "konvid-150k" else dataset.manifest.parent


def roots_of(datasets: Iterable[Dataset], allowed_roots: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders that sources may be in, links resolved: those of the datasets' clips, and the allowed ones."""
    folders = [*allowed_roots]
    for dataset in datasets:
        # One whose format cannot be told has no clips, which its ingestion says.
        with contextlib.suppress(ManifestError):
            folders.append(base_folder(dataset))
    return tuple(dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders))


def read_dataset(dataset: Dataset) -> Iterator[Listed]:
    """Read the manifests of a dataset, row by row.

    Raises:
        ManifestError: a manifest cannot be read, or has no column for the clips' paths.
    """
    is_json = _format(dataset) == "jsonl"
    for manifest, clips_root in manifest_files(dataset):
        if not clips_root.is_dir():
            raise ManifestError(
                f"{clips_root}: the clips' folder of {dataset.name} is not there; check clips_root, mount its disk, "
                "or make it"
            )
        # The rows of a table have the same columns, JSON objects need not.
        known: dict[tuple[str, ...], Mapping[str, str]] = {}
        for record in read_json_lines(manifest) if is_json else read_csv(manifest):
            src: str | None = None
            entry: Entry | RowRejected
            if isinstance(record.values, RowRejected):
                entry = record.values
            else:
                there = tuple(record.values)
                columns = known.get(there)
                if columns is None:
                    columns = known[there] = (_keys if is_json else _columns)(record, dataset.columns)
                try:
                    src = _source(record.values, columns.get("src"))
                    entry = _entry(src, record.values, columns)
                except RowRejected as rejected:
                    entry = rejected
            yield Listed(record, clips_root, src, entry)
        _refuse_absent(manifest, dataset.columns, known)


def _format(dataset: Dataset) -> ManifestFormat:
    if dataset.format:
        return dataset.format
    manifest = dataset.manifest
    if manifest.is_dir():
        if is_score_drop(manifest):
            return "konvid-150k"
        raise ManifestError(f"{manifest}: a folder, and no KonViD-150k score file in it; name the manifest file itself")
    return "jsonl" if manifest.suffix.lower() in {".jsonl", ".ndjson", ".json"} else "csv"


def _keys(record: Record, chosen: Columns) -> Mapping[str, str]:
    """Return the key of each name of an entry in a JSON object, which may leave out what it has no value for."""
    there = record.values if isinstance(record.values, Mapping) else {}

    def key(name: str) -> str:
        # The others' spellings may well be keys of something else.
        spellings = SPELLINGS[name] if name in {"src", "mos", "mos_std_dev"} else ()
        return next((spelling for spelling in spellings if spelling in there), name)

    return {name: getattr(chosen, name) or key(name) for name in SPELLINGS}


def _refuse_absent(manifest: Path, chosen: Columns, rows: Iterable[tuple[str, ...]]) -> None:
    """Refuse a manifest of which no row has a column that was named: its values would silently be missing."""
    there = {column for row in rows for column in row}
    for name in SPELLINGS:
        named: str | None = getattr(chosen, name)
        if there and named and not {*(PLACEHOLDER.findall(named) or [named])} <= there:
            raise ManifestError(f"{manifest}: no row has {named}, which is configured as columns.{name}")


def _columns(record: Record, chosen: Columns) -> Mapping[str, str]:
    """Find the column of each name of an entry in a table; src may be a pattern instead.

    Raises:
        ManifestError: a column that was named is not there, or none is the clips' paths.
    """
    there = record.values if isinstance(record.values, Mapping) else {}
    found = {}
    for name, usual in SPELLINGS.items():
        named: str | None = getattr(chosen, name)
        if named is None:
            named = next((spelling for spelling in usual if spelling in there), None)
        else:
            needed = PLACEHOLDER.findall(named) or [named]
            missing = [column for column in needed if column not in there]
            if missing:
                raise ManifestError(
                    f"{record.manifest}: there is no column {missing[0]} (columns.{name}); there are {', '.join(there)}"
                )
        if named is not None:
            found[name] = named
    if "src" not in found:
        raise ManifestError(
            f"{record.manifest}: no column with the clips' paths; there are {', '.join(there)}; "
            "name it as columns.src of the dataset"
        )
    return found


def _entry(src: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Entry:
    ratings = _number(values, columns, "n_ratings")
    if ratings is not None and not (ratings.is_integer() and 0 <= ratings < 2**53):
        raise RowRejected("bad value", "n_ratings is not a whole number of people")
    used = {*columns.values(), *PLACEHOLDER.findall(columns["src"])}
    extra = {name: value for name, value in values.items() if name not in used}
    try:
        extra_json = json.dumps(extra, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RowRejected("malformed", "NaN or a number beyond all bounds in it, which is not JSON") from error
    return Entry(
        src=src,
        mos=_number(values, columns, "mos"),
        mos_std_dev=_number(values, columns, "mos_std_dev"),
        n_ratings=None if ratings is None else int(ratings),
        split=_text(values, columns, "split"),
        url=_text(values, columns, "url"),
        extra=extra_json,
    )


def _source(values: Mapping[str, Any], pattern: str | None) -> str:
    if pattern is not None and PLACEHOLDER.search(pattern):
        parts = {name: values.get(name) for name in PLACEHOLDER.findall(pattern)}
        if not all(isinstance(part, str | int) and part != "" for part in parts.values()):
            raise RowRejected("malformed", f"a value for src, which is {pattern}, is missing")
        return PLACEHOLDER.sub(lambda match: str(parts[match[1]]), pattern)
    source = None if pattern is None else values.get(pattern)
    if not isinstance(source, str) or not source:
        raise RowRejected("malformed", "src is missing; it is the path of the clip")
    return source


def _value(values: Mapping[str, Any], columns: Mapping[str, str], name: str) -> Any:
    return values.get(columns[name]) if name in columns else None


def _text(values: Mapping[str, Any], columns: Mapping[str, str], name: str) -> str | None:
    value = _value(values, columns, name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise RowRejected("bad value", f"{name} is {value!r}, not a text")
    return value


def _number(values: Mapping[str, Any], columns: Mapping[str, str], name: str) -> float | None:
    value = _value(values, columns, name)
    kind: Kind = "bad MOS" if name == "mos" else "bad value"
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if _NOT_FINITE.fullmatch(value.strip()):
            raise RowRejected(kind, f"{name} is {value.strip()}, which is not finite")
        if not _DECIMAL.fullmatch(value.strip()):
            raise RowRejected(kind, f"{name} is {value!r}, not a number such as 3.5")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise RowRejected(kind, f"{name} is {value!r}, not a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise RowRejected(kind, f"{name} has {len(str(value))} digits") from error
    if not math.isfinite(number):
        raise RowRejected(kind, f"{name} is {value}, which is not finite")
    return number
