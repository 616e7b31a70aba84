"""Datasets on disk, for tests that ingest them."""

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.ingest import Ingestion, ingest
from frnr_assets.corpus.manifests.entries import Listed, read_dataset
from frnr_assets.corpus.tables import Tables


@dataclass(frozen=True)
class Disk:
    """A folder with manifests, clips and tables.

    Whatever is written has its own modification time: two writes within a tick of the clock would have the same.
    """

    root: Path
    _seconds: Iterator[int] = field(default_factory=lambda: itertools.count(1_700_000_000))

    @property
    def tables(self) -> Tables:
        return Tables(self.root / "data")

    def write(self, path: str, content: bytes | str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        second = next(self._seconds)
        os.utime(file, (second, second))
        return file

    def clips(self, *paths: str) -> None:
        """Write clips, no two with the same content."""
        for path in paths:
            self.write(path, f"content of {path}")

    def jsonl(self, *entries: Mapping[str, Any] | str, path: str = "k/manifest.jsonl") -> Dataset:
        """Write a manifest, in which a mere text is a source, and return its dataset."""
        rows = [{"src": entry} if isinstance(entry, str) else entry for entry in entries]
        return self.dataset(path, "".join(f"{json.dumps(row)}\n" for row in rows))

    def dataset(self, path: str, content: bytes | str, **declared: Any) -> Dataset:
        """Write a manifest and return its dataset, which has the name of the manifest's folder."""
        manifest = self.write(path, content)
        return Dataset(**{"name": manifest.parent.name, "manifest": manifest, **declared})

    def ingest(self, *datasets: Dataset, allowed_roots: Sequence[Path] = ()) -> Ingestion:
        return ingest(datasets, self.tables, allowed_roots)

    def listed(self) -> dict[str, dict[str, Any]]:
        """The rows of the clips that the manifests list, by their names."""
        return {row["name"]: row for row in self.tables.listed_clips().iter_rows(named=True)}

    def keys(self) -> dict[str, str]:
        """The keys of all clips that are known, by their names."""
        return dict(self.tables.clips.read().select("name", "clip").iter_rows())

    def rejects(self) -> list[tuple[int, str]]:
        """Line and kind of what was rejected."""
        return list(self.tables.rejects.read().select("line", "kind").iter_rows())

    def reasons(self) -> list[str]:
        return self.tables.rejects.read()["reason"].to_list()


def read(dataset: Dataset) -> list[Listed]:
    return list(read_dataset(dataset))
