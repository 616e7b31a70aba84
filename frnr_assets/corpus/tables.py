"""The tables under one data root."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from frnr_assets.corpus.schema import (
    FEATURE_ROWS_KEY,
    FEATURE_ROWS_SCHEMA,
    MANIFEST_SCHEMA,
    REFERENCES_KEY,
    REFERENCES_SCHEMA,
)
from frnr_assets.corpus.store import PartTable, write_parquet


class NotMaterialized(RuntimeError):  # noqa: N818 - the name says what the table is
    """A table that is needed does not exist yet; the message says what makes it."""


@dataclass(frozen=True)
class Tables:
    """Where everything is.

    Attributes:
        root: the data root.
    """

    root: Path

    @property
    def references(self) -> PartTable:
        """Facts and quarantine, by clip."""
        return PartTable(self.root / "tables" / "references", REFERENCES_SCHEMA, REFERENCES_KEY)

    @property
    def feature_rows(self) -> PartTable:
        """Rows, by clip, encoder, preset and CRF."""
        return PartTable(self.root / "tables" / "feature_rows", FEATURE_ROWS_SCHEMA, FEATURE_ROWS_KEY)

    @property
    def corpus(self) -> Path:
        """The folder of the published versions of fr_corpus."""
        return self.root / "corpus" / "fr_corpus"

    @property
    def kept_references(self) -> Path:
        """The folder of the references that are kept on request."""
        return self.root / "references"

    @property
    def kept_encodes(self) -> Path:
        """The folder of the encodes that are kept on request."""
        return self.root / "encodes"

    @property
    def scratch(self) -> Path:
        """The folder for what is deleted soon."""
        return self.root / "scratch"

    def write_manifest(self, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        """Replace the manifest table, atomically, and return it.

        Raises:
            OSError: the disk is full or the folder is not writable; the table is as it was.
        """
        self._manifest.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(pa.Table.from_pylist(list(rows), schema=MANIFEST_SCHEMA), self._manifest)
        return self.manifest()

    def manifest(self) -> pl.DataFrame:
        """Return the manifest table.

        Raises:
            NotMaterialized: there is none.
        """
        if not self._manifest.exists():
            raise NotMaterialized("there is no manifest table yet; materialize source_manifest first")
        return pl.read_parquet(self._manifest)

    def manifest_schema(self) -> pa.Schema:
        """Return the schema that the manifest table has on disk.

        Raises:
            NotMaterialized: there is none.
        """
        self.manifest()
        return pq.read_schema(self._manifest)

    def current_rows(self) -> pl.DataFrame:
        """Return the newest feature rows of the manifest's clips, made from the source as it was last decoded.

        The MOS is the manifest's: it may have been corrected since the row was measured.

        Raises:
            NotMaterialized: there is no manifest table.
        """
        references = self.references.read().filter(pl.col("quarantine_reason").is_null())
        decoded = references.select("clip", "src_sha256")
        rows = self.feature_rows.read().join(decoded, on=["clip", "src_sha256"], how="semi")
        mos = self.manifest().unique("clip", keep="first", maintain_order=True).select("clip", nr_mos="mos")
        return rows.drop("nr_mos").join(mos, on="clip").select(rows.columns).sort(FEATURE_ROWS_KEY)

    @property
    def _manifest(self) -> Path:
        return self.root / "tables" / "manifest.parquet"
