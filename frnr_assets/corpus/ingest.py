"""Ingestion: from the manifests as they are now to the table of clips, without losing what is known of old ones."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from frnr_assets.corpus.contents import Contents
from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.keys import assign_keys
from frnr_assets.corpus.locks import locked
from frnr_assets.corpus.manifests.entries import manifest_files, roots_of
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.corpus.places import Places, SourceFile, look_at
from frnr_assets.corpus.reading import (
    ON_THEIR_WAY,
    Accepted,
    Reading,
    known_url,
    read_rows,
    refuse_useless,
    reject_equal_contents,
)
from frnr_assets.corpus.tables import Tables
from frnr_assets.corpus.urls import known_as

# After so many runs that could not download a source, only a person starts another.
MAX_DOWNLOAD_ATTEMPTS = 3

_CHANGES = ("new clips", "clips with another file", "clips with another MOS", "clips back", "clips removed")
# Raise it when the same manifests and files would give other tables.
_VERSION = 2
# After the mark of a configuration: with it, a dataset was refused.
_REFUSED = ", refused"


@dataclass(frozen=True)
class Ingestion:
    """What an ingestion did.

    Attributes:
        clips: keys of the clips that the manifests list, in their order.
        changes: how many clips are new, have another file or MOS, came back, or were removed.
        rejects: how many rows were rejected, by kind of reason.
        listed: how many clips the manifests list, by dataset.
    """

    clips: tuple[str, ...]
    changes: Mapping[str, int]
    rejects: Mapping[str, int]
    listed: Mapping[str, int]


class DatasetRefused(ManifestError):  # noqa: N818 - the name says what happened
    """Some dataset cannot be used as it is now; what was known of it stays. The others were ingested.

    Attributes:
        ingestion: what was done.
    """

    def __init__(self, refused: Sequence[ManifestError], ingestion: Ingestion):
        super().__init__("; ".join(map(str, refused)))
        self.ingestion = ingestion


def ingest(datasets: Sequence[Dataset], tables: Tables, allowed_roots: Sequence[Path] = ()) -> Ingestion:
    """Read the manifests of all datasets and bring the tables of clips and rejects up to date with them.

    A clip keeps its key for good. One that the manifests list no longer is marked as removed. One whose row cannot
    be used now, or whose file is not there now, keeps its last values. Nothing is written that has not changed, and
    nothing is read when neither configuration nor a manifest or source has changed.

    Args:
        datasets: the datasets.
        tables: where the tables are.
        allowed_roots: folders that sources may be in, besides those of the datasets' clips.

    Raises:
        ManifestError: there is no dataset.
        DatasetRefused: a manifest cannot be read, or none of its rows can be used; the other datasets are ingested.
        OSError: the disk is full or the folder is not writable; the table of clips is as it was.
    """
    if not datasets:
        raise ManifestError("no dataset is configured; add [[datasets]] with name and manifest to frnr.toml")
    with _alone(tables):
        mark = _mark(datasets, tables, allowed_roots)
        if _is_unchanged(mark, datasets, tables, allowed_roots):
            return _as_it_was(tables)
        known = {(row["dataset"], row["name"]): row for row in tables.clips.read().iter_rows(named=True)}
        reading = Reading(known)
        failed_downloads = _failed_downloads(tables)
        roots = roots_of(datasets, allowed_roots)
        places = Places(roots)
        for dataset in datasets:
            try:
                read_rows(dataset, reading, places, failed_downloads)
            except ManifestError as error:
                reading.refused[dataset.name] = error
                reading.forget_rows(dataset.name)
        contents = Contents(tables.contents.read().iter_rows(named=True), roots)
        reject_equal_contents(reading, contents)
        tables.rejects.write(reading.rejects)
        tables.contents.write(contents.rows())
        refuse_useless(datasets, reading)
        rows, changes = _merged(reading)
        if rows or not reading.refused:
            tables.clips.write(rows)
        # The last: what did not come into the table of clips still differs from what was seen.
        seen = {f"{mark}{_REFUSED}" if reading.refused else mark: None, **reading.watched}
        tables.watched.write([_watched(path, found) for path, found in seen.items()])
    ingestion = Ingestion(
        clips=tuple(row["clip"] for row in rows if not row["removed"]),
        changes=changes,
        rejects=Counter(reject["kind"] for reject in reading.rejects),
        listed=Counter(row["dataset"] for row in rows if not row["removed"]),
    )
    if reading.refused:
        raise DatasetRefused(list(reading.refused.values()), ingestion)
    return ingestion


def _is_unchanged(mark: str, datasets: Sequence[Dataset], tables: Tables, allowed_roots: Sequence[Path]) -> bool:
    if not tables.clips.exists() or mark not in tables.watched.read()["path"]:
        return False
    try:
        return not what_changed(datasets, tables, allowed_roots)
    except ManifestError:
        # A score drop without score files: that is one dataset's matter.
        return False


def _as_it_was(tables: Tables) -> Ingestion:
    listed = tables.listed_clips()
    return Ingestion(
        clips=tuple(listed["clip"]),
        changes=dict.fromkeys(_CHANGES, 0),
        rejects=Counter(tables.rejects.read()["kind"]),
        listed=Counter(listed["dataset"]),
    )


def _mark(datasets: Sequence[Dataset], tables: Tables, allowed_roots: Sequence[Path]) -> str:
    """Return what stands for everything besides the files that an ingestion depends on."""
    settings = [dataset.model_dump_json() for dataset in datasets]
    made_from = json.dumps([settings, list(map(str, allowed_roots)), tables.downloads.newest_ns()])
    return f"configuration {_VERSION} {hashlib.sha256(made_from.encode(errors='surrogateescape')).hexdigest()}"


def to_download(tables: Tables, *, retry_failed: bool) -> list[tuple[str, str]]:
    """Return source and URL, as the tables know it, of the clips that wait for a download.

    Args:
        tables: where the tables are.
        retry_failed: also those that failed too often, or for good.
    """
    rejected = tables.rejects.read().filter(pl.col("kind").is_in(ON_THEIR_WAY)).select("src", "url")
    clips = tables.clips.read().filter(
        ~pl.col("removed") & pl.col("size_bytes").is_null() & pl.col("url").is_not_null()
    )
    wanted = pl.concat([rejected, clips.select("src", "url")]).unique(maintain_order=True)
    failed = {} if retry_failed else _failed_downloads(tables)
    return [(src, url) for src, url in wanted.iter_rows() if (src, url) not in failed]


def _failed_downloads(tables: Tables) -> dict[tuple[str, str], str]:
    """Return why sources are not downloaded any more without a person asking, by source and URL."""
    given_up = pl.col("failure").is_not_null() & (pl.col("permanent") | (pl.col("attempts") >= MAX_DOWNLOAD_ATTEMPTS))
    found = tables.downloads.read().filter(given_up).select("src", "url", "failure")
    return {(src, url): failure for src, url, failure in found.iter_rows()}


def _alone(tables: Tables) -> AbstractContextManager[None]:
    """Let one ingestion at a time go from reading the tables to writing them."""
    return locked(tables.root / ".ingestion.lock")


def _merged(reading: Reading) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the rows of the table of clips, those listed first, and what has changed."""
    changes = dict.fromkeys(_CHANGES, 0)
    before = reading.before
    new = [name for name in reading.accepted if name not in before]
    keys = dict(zip(new, assign_keys(new, {row["clip"] for row in before.values()}), strict=True))
    rows = []
    for name, clip in reading.accepted.items():
        old = before.get(name)
        row = _row(clip, keys[name] if old is None else old["clip"])
        rows.append(row)
        if old is None:
            changes["new clips"] += 1
            continue
        changes["clips back"] += old["removed"]
        changes["clips with another MOS"] += old["mos"] != row["mos"]
        file, old_file = ((of["size_bytes"], of["mtime_ns"]) for of in (row, old))
        changes["clips with another file"] += None not in file and None not in old_file and file != old_file
    for name, old in before.items():
        if name not in reading.accepted:
            held = reading.held.get(name)
            place = {} if held is None else {"manifest": str(held.manifest), "line": held.line}
            is_kept = held is not None or name[0] in reading.refused
            url = old["url"] and known_as(old["url"])
            rows.append({**old, **place, "url": url, "removed": old["removed"] or not is_kept})
            changes["clips removed"] += not is_kept and not old["removed"]
    return rows, changes


def _row(clip: Accepted, key: str) -> dict[str, Any]:
    record, entry = clip.listed.record, clip.entry
    return {
        "clip": key,
        "dataset": clip.name[0],
        "name": clip.name[1],
        "src": clip.src,
        "mos": entry.mos,
        "mos_std_dev": entry.mos_std_dev,
        "n_ratings": entry.n_ratings,
        "split": entry.split,
        "url": known_url(entry),
        "extra": entry.extra,
        "manifest": str(record.manifest),
        "line": record.line,
        "size_bytes": clip.file and clip.file.size_bytes,
        "mtime_ns": clip.file and clip.file.mtime_ns,
        "removed": False,
    }


def _watched(path: str, found: SourceFile | None) -> dict[str, Any]:
    return {"path": path, **(asdict(found) if found else {})}


def what_changed(datasets: Sequence[Dataset], tables: Tables, allowed_roots: Sequence[Path] = ()) -> list[str]:
    """Return the manifests and sources that differ from what the last ingestion saw, manifests first.

    Before them comes the configuration, if it differs, or if downloads have ended since.

    Raises:
        ManifestError: the folder of a KonViD-150k score drop has no score file.
    """
    manifests = {str(manifest): None for dataset in datasets for manifest, _ in manifest_files(dataset)}
    seen = {
        path: None if state[0] is None else SourceFile(*state) for path, *state in tables.watched.read().iter_rows()
    }
    mark = _mark(datasets, tables, allowed_roots)
    marked = seen.keys() & {mark, f"{mark}{_REFUSED}"}
    seen = {path: found for path, found in seen.items() if not path.startswith("configuration ")}
    configuration = [] if marked else ["the configuration of the datasets"]
    unseen = [manifest for manifest in manifests if manifest not in seen]
    changed = [path for path, found in seen.items() if look_at(path) != found]
    return [*configuration, *unseen, *sorted(changed, key=lambda path: path not in manifests)]


def was_refused(tables: Tables) -> bool:
    """Tell whether a dataset could not be used when the manifests were read."""
    return any(path.startswith("configuration ") and path.endswith(_REFUSED) for path in tables.watched.read()["path"])


@contextmanager
def forgetting(tables: Tables, clips: Sequence[str] | None) -> Iterator[list[str]]:
    """Take clips that the manifests list no longer out of the table of clips when the block ends well.

    Args:
        tables: where the tables are.
        clips: their keys; None for all of them.

    Yields:
        their keys.

    Raises:
        ManifestError: a clip is still listed, or there is none of that key; none is taken out.
    """
    with _alone(tables):
        known = tables.clips.read()
        removed = tables.removed_clips()
        wanted = removed if clips is None else list(clips)
        if not_removed := sorted(set(wanted) - set(removed)):
            raise ManifestError(
                f"{', '.join(not_removed[:5])}: not a clip that was removed from the manifests; take it out of its "
                "manifest and materialize source_manifest first"
            )
        yield wanted
        if wanted:
            tables.clips.write(known.filter(~pl.col("clip").is_in(wanted)).to_dicts())
