"""The tables under one data root."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from frnr_assets.corpus.schema import (
    ATTEMPTS_KEY,
    ATTEMPTS_SCHEMA,
    CLIPS_SCHEMA,
    CONTENTS_SCHEMA,
    DOWNLOADS_KEY,
    DOWNLOADS_SCHEMA,
    EXTRA_FEATURES_KEY,
    EXTRA_FEATURES_SCHEMA,
    FEATURE_ROWS_KEY,
    FEATURE_ROWS_SCHEMA,
    FRAME_SCORES_KEY,
    FRAME_SCORES_SCHEMA,
    REFERENCES_KEY,
    REFERENCES_SCHEMA,
    REJECTS_SCHEMA,
    WATCHED_SCHEMA,
)
from frnr_assets.corpus.store import FileTable, PartTable


class NotMaterialized(RuntimeError):  # noqa: N818 - the name says what the table is
    """A table that is needed does not exist yet; the message says what makes it."""


@dataclass(frozen=True)
class Tables:
    """Where everything is.

    Attributes:
        root: the data root.
        scratch_dir: the folder for what is deleted soon; None for one in the data root.
        encode_dir: the folder of the encodes that are kept on request; None for one in the data root.
    """

    root: Path
    scratch_dir: Path | None = None
    encode_dir: Path | None = None

    @property
    def references(self) -> PartTable:
        """Facts and quarantine, by clip."""
        return PartTable(self.root / "tables" / "references", REFERENCES_SCHEMA, REFERENCES_KEY)

    @property
    def feature_rows(self) -> PartTable:
        """Rows, by clip, encoder, preset and CRF."""
        return PartTable(self.root / "tables" / "feature_rows", FEATURE_ROWS_SCHEMA, FEATURE_ROWS_KEY)

    @property
    def extra_features(self) -> PartTable:
        """What was asked for beyond the contract, by clip, encoder, preset, CRF and feature."""
        return PartTable(self.root / "tables" / "extra_features", EXTRA_FEATURES_SCHEMA, EXTRA_FEATURES_KEY)

    @property
    def frame_scores(self) -> PartTable:
        """VMAF and canonical-6 of every frame, where they were asked for, by clip, encoder, preset and CRF."""
        return PartTable(self.root / "tables" / "frame_scores", FRAME_SCORES_SCHEMA, FRAME_SCORES_KEY)

    @property
    def corpus(self) -> Path:
        """The folder of the published versions of fr_corpus."""
        return self.root / "corpus" / "fr_corpus"

    @property
    def report(self) -> Path:
        """The page of corpus_report."""
        return self.root / "corpus" / "report.html"

    @property
    def card(self) -> Path:
        """The file that says what the published fr_corpus is."""
        return self.root / "corpus" / "DATASET_CARD.md"

    @property
    def mixed_corpus(self) -> Path:
        """The folder of the published versions of mixed_corpus."""
        return self.root / "corpus" / "mixed_corpus"

    @property
    def mixed_card(self) -> Path:
        """The file that says what the published mixed_corpus is."""
        return self.root / "corpus" / "MIXED_DATASET_CARD.md"

    @property
    def kept_references(self) -> Path:
        """The folder of the references that are kept on request."""
        return self.root / "references"

    @property
    def kept_encodes(self) -> Path:
        """The folder of the encodes that are kept on request."""
        return self.encode_dir or self.root / "encodes"

    @property
    def scratch(self) -> Path:
        """The folder for what is deleted soon."""
        return self.scratch_dir or self.root / "scratch"

    @property
    def clips(self) -> FileTable:
        """The clips of all manifests, those that were removed from them included."""
        return FileTable(self.root / "tables" / "clips.parquet", CLIPS_SCHEMA)

    @property
    def rejects(self) -> FileTable:
        """The rows of the manifests that cannot be used, as of the last ingestion."""
        return FileTable(self.root / "tables" / "rejects.parquet", REJECTS_SCHEMA)

    @property
    def fr_rejects(self) -> FileTable:
        """The rows of full-reference datasets that cannot be used, as of the last publication of mixed_corpus."""
        return FileTable(self.root / "tables" / "fr_rejects.parquet", REJECTS_SCHEMA)

    @property
    def watched(self) -> FileTable:
        """The manifests and sources as the last ingestion saw them."""
        return FileTable(self.root / "tables" / "watched.parquet", WATCHED_SCHEMA)

    @property
    def contents(self) -> FileTable:
        """Hashes of the sources of equal size."""
        return FileTable(self.root / "tables" / "contents.parquet", CONTENTS_SCHEMA)

    @property
    def downloads(self) -> PartTable:
        """What became of the downloads, by source."""
        return PartTable(self.root / "tables" / "downloads", DOWNLOADS_SCHEMA, DOWNLOADS_KEY)

    @property
    def attempts(self) -> PartTable:
        """How often clips failed, by clip."""
        return PartTable(self.root / "tables" / "attempts", ATTEMPTS_SCHEMA, ATTEMPTS_KEY)

    def listed_clips(self) -> pl.DataFrame:
        """Return the clips that the manifests list.

        Raises:
            NotMaterialized: nothing was ingested yet.
        """
        if not self.clips.exists():
            raise NotMaterialized("there is no table of clips yet; materialize source_manifest first")
        return self.clips.read().filter(~pl.col("removed"))

    def removed_clips(self) -> list[str]:
        """Return the keys of the clips that the manifests list no longer."""
        return self.clips.read().filter(pl.col("removed"))["clip"].to_list()

    def quarantine(self) -> pl.DataFrame:
        """Return the listed clips that cannot be used: why, the tool's own words, file hash, attempts, and since when.

        Raises:
            NotMaterialized: nothing was ingested yet.
        """
        found = self.references.read().filter(pl.col("quarantine_reason").is_not_null())
        listed = self.listed_clips().select("clip", "dataset")
        columns = ("clip", "dataset", "src", "quarantine_reason", "tool_output", "src_sha256", "attempts")
        since = pl.from_epoch("recorded_ns", time_unit="ns").dt.replace_time_zone("UTC").alias("since")
        return found.join(listed, on="clip").select(*columns, since).sort("clip")

    def current_rows(self) -> pl.DataFrame:
        """Return the newest feature rows of the manifest's clips, made from the source as it was last decoded.

        The MOS is the manifest's: it may have been corrected since the row was measured. Of two clips of the same
        content, as when a file was renamed, the one whose file is there counts.

        Raises:
            NotMaterialized: nothing was ingested yet.
        """
        return self._rows_of(self._decoded(), self.listed_clips())

    def _decoded(self) -> pl.DataFrame:
        references = self.references.read(columns=["src_sha256", "quarantine_reason"])
        return references.filter(pl.col("quarantine_reason").is_null()).select("clip", "src_sha256")

    def _rows_of(self, decoded: pl.DataFrame, listed: pl.DataFrame, where: pl.Expr | None = None) -> pl.DataFrame:
        rows = self.feature_rows.read(where).join(decoded, on=["clip", "src_sha256"], how="semi", maintain_order="left")
        clips = listed.select("clip", pl.col("size_bytes").is_null().alias("gone"), nr_mos="mos")
        current = rows.drop("nr_mos").join(clips, on="clip", maintain_order="left")
        # Only what tells rows apart is sorted, not whole rows.
        content = ("src_sha256", *FEATURE_ROWS_KEY[1:])
        places = current.select("gone", *content).with_row_index("place").sort("gone", "place")
        one_each = places.unique(content, keep="first", maintain_order=True)["place"].sort()
        return current[one_each].select(rows.columns)

    def rows_to_publish(self) -> pl.DataFrame:
        """Return the current feature rows with the dataset of their clip, as the column ``dataset``, CRF by CRF.

        Raises:
            NotMaterialized: nothing was ingested yet.
        """
        # Read once: manifests may be read again meanwhile, and a source has one MOS in all of its rows.
        decoded, listed = self._decoded(), self.listed_clips()
        datasets = listed.select("clip", "dataset")

        def rows(where: pl.Expr | None = None) -> pl.DataFrame:
            return self._rows_of(decoded, listed, where).join(datasets, on="clip", maintain_order="left")

        # Each step of the way holds all that it is given a second time, so each is given the rows of one CRF.
        parts = [rows(pl.col("crf") == crf) for crf in self.feature_rows.distinct("crf")]
        return pl.concat(parts) if parts else rows()
