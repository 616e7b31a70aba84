"""What the manifests say now: which of their rows are clips, and why the others are none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frnr_assets.corpus.contents import Contents
from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.manifests.entries import Entry, Listed, base_folder, manifest_files, read_dataset
from frnr_assets.corpus.manifests.records import ManifestError, Record, RowRejected
from frnr_assets.corpus.places import Places, SourceFile, checked_path, look_at
from frnr_assets.corpus.urls import known_as
from frnr_assets.words import without_secrets

# These come to be clips without anybody mending the manifest.
ON_THEIR_WAY = frozenset({"not downloaded", "download failed"})

# What a clip is known by: its dataset, and its path in there.
Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A row of a manifest that is a clip.

    Attributes:
        name: what the clip is known by.
        src: absolute path of its source.
        listed: the row, and where it is.
        entry: what the row says.
        file: the source as the system knows it; None of a clip that was known before and whose file is not there now.
    """

    name: Name
    src: str
    listed: Listed
    entry: Entry
    file: SourceFile | None


@dataclass
class Reading:
    """What was read so far.

    Attributes:
        before: the table of clips as it was.
        accepted: the clips.
        rejects: rows of the table of rejects.
        waiting: rows that are on their way to be clips.
        held: clips whose row is rejected now: what was known of them stays.
        refused: by name, datasets that cannot be used as they are now: the same of all their clips.
        watched: manifests and sources as they were when they were looked at.
    """

    before: Mapping[Name, Mapping[str, Any]]
    accepted: dict[Name, Accepted] = field(default_factory=dict)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    waiting: dict[Name, Record] = field(default_factory=dict)
    held: dict[Name, Record] = field(default_factory=dict)
    refused: dict[str, ManifestError] = field(default_factory=dict)
    watched: dict[str, SourceFile | None] = field(default_factory=dict)

    def forget_rows(self, dataset: str) -> None:
        """Drop what was read of a dataset before the rest of it could not be."""
        self.accepted = {name: clip for name, clip in self.accepted.items() if name[0] != dataset}
        self.rejects = [reject for reject in self.rejects if reject["dataset"] != dataset]

    def reject(self, dataset: str, listed: Listed, rejected: RowRejected, src: str | None) -> None:
        """Note a row that is no clip, with the reason."""
        self.rejects.append(
            {
                "manifest": str(listed.record.manifest),
                "line": listed.record.line,
                "dataset": dataset,
                "kind": rejected.kind,
                "reason": rejected.reason,
                "src": src,
                "url": known_url(listed.entry) if isinstance(listed.entry, Entry) else None,
                "row": without_secrets(listed.record.text),
            }
        )


def read_rows(
    dataset: Dataset, reading: Reading, places: Places, failed_downloads: Mapping[tuple[str, str], str]
) -> None:
    """Read all rows of a dataset.

    Args:
        dataset: the dataset.
        reading: where they are noted.
        places: finds the sources, within the folders that they may be in.
        failed_downloads: by source and URL, why it is not downloaded any more.

    Raises:
        ManifestError: a manifest cannot be read, or has no row.
    """
    for manifest, _ in manifest_files(dataset):
        # Looked at before it is read: what is written to it meanwhile is seen the next time.
        reading.watched[str(manifest)] = look_at(manifest)
    base, rows = base_folder(dataset), 0
    # A row that went so bad that it does not say any more which clip it is about is known by its place.
    at_place = {
        (row["manifest"], row["line"]): name
        for name, row in reading.before.items()
        if name[0] == dataset.name and not row["removed"]
    }
    for listed in read_dataset(dataset):
        rows += 1
        src: str | None = None
        name: Name | None = None
        try:
            if isinstance(listed.entry, RowRejected):
                if listed.src is not None:
                    src, name = _identified(listed.src, listed.clips_root, dataset, base)
                raise listed.entry
            src, name = _identified(listed.entry.src, listed.clips_root, dataset, base)
            file = places.find(Path(src))
            reading.watched[src] = file
            _refuse_repeated(name, reading)
            _refuse_implausible(listed.entry, dataset)
            if file is None and name not in reading.before:
                raise _not_there(src, listed.entry, failed_downloads)
            reading.accepted[name] = Accepted(name, src, listed, listed.entry, file)
        except RowRejected as rejected:
            reading.reject(dataset.name, listed, rejected, src)
            if src is not None:
                # It may come to be right without the manifest being touched.
                reading.watched.setdefault(src, look_at(src))
            if name is None and not (listed.src or "\0").isprintable():
                name = at_place.get((str(listed.record.manifest), listed.record.line))
            # What lies outside the roots is no clip any more, whatever was known of it.
            if name is not None and name not in reading.accepted and rejected.kind != "outside roots":
                reading.held[name] = listed.record
                if rejected.kind in ON_THEIR_WAY:
                    reading.waiting[name] = listed.record
    if not rows:
        raise ManifestError(f"{dataset.manifest}: no clip in it")


def _identified(written: str, clips_root: Path, dataset: Dataset, base: Path) -> tuple[str, Name]:
    """Return the absolute path of a source as a manifest names it, and what its clip is known by."""
    src = str(checked_path(written, clips_root))
    return src, (dataset.name, src.removeprefix(f"{base}/"))


def _refuse_repeated(name: Name, reading: Reading) -> None:
    accepted = reading.accepted.get(name)
    first = accepted.listed.record if accepted else reading.waiting.get(name)
    if first is not None:
        raise RowRejected("listed twice", f"the clip is listed already, in line {first.line} of {first.manifest}")


def _refuse_implausible(entry: Entry, dataset: Dataset) -> None:
    low, high = dataset.mos_scale
    if entry.mos is not None and not low <= entry.mos <= high:
        raise RowRejected("bad MOS", f"MOS is {entry.mos}, not within the declared scale {low:g} to {high:g}")


def _not_there(src: str, entry: Entry, failed_downloads: Mapping[tuple[str, str], str]) -> RowRejected:
    if entry.url is None:
        return RowRejected("no file", f"there is no file {src}")
    failure = failed_downloads.get((src, known_as(entry.url)))
    if failure is None:
        return RowRejected("not downloaded", "its file is not downloaded yet")
    return RowRejected("download failed", f"{failure}; when that is mended, launch download_sources with retry_failed")


def reject_equal_contents(reading: Reading, contents: Contents) -> None:
    """Keep one clip of each content: one that had it before, else one that was there, else the one listed first."""
    there = [(clip, clip.file) for clip in reading.accepted.values() if clip.file is not None]

    def rank(found: tuple[Accepted, SourceFile]) -> int:
        old = reading.before.get(found[0].name)
        if old is None or old["removed"]:
            return 2
        return 0 if found[1].content.items() <= old.items() else 1

    there.sort(key=rank)
    groups, unreadable = contents.equal([(clip.src, file) for clip, file in there])
    rejected = {
        position: RowRejected("same content", f"its content is that of {there[group[0]][0].src}")
        for group in groups
        for position in group[1:]
    }
    for position, reason in {**rejected, **unreadable}.items():
        clip = there[position][0]
        del reading.accepted[clip.name]
        reading.reject(clip.name[0], clip.listed, reason, clip.src)
        if position in unreadable:
            reading.held[clip.name] = clip.listed.record


def refuse_useless(datasets: Sequence[Dataset], reading: Reading) -> None:
    """Refuse the datasets of which no row can be used: they are not the ones that were declared."""
    usable = {name[0] for name in reading.accepted}
    for dataset in datasets:
        rejects = [reject for reject in reading.rejects if reject["dataset"] == dataset.name]
        if dataset.name not in usable and rejects and not any(reject["kind"] in ON_THEIR_WAY for reject in rejects):
            first = rejects[0]
            reading.refused[dataset.name] = ManifestError(
                f"{first['manifest']}: none of its rows can be used; line {first['line']}: {first['reason']}"
            )


def known_url(entry: Entry) -> str | None:
    """Return what the tables call the URL of an entry; None of one without."""
    return None if entry.url is None else known_as(entry.url)
