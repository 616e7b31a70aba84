"""The first stage: which clips there are."""

from collections.abc import Mapping, Sequence

import dagster as dg

from frnr_assets.assets.descriptions import (
    COLUMN_SCHEMA,
    GROUP,
    OWNERS,
    ROW_COUNT,
    describe,
    table_schema,
)
from frnr_assets.assets.progress import refusal
from frnr_assets.corpus.ingest import DatasetRefused, ingest
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.corpus.schema import CLIPS_SCHEMA
from frnr_assets.partitions import register_clips
from frnr_assets.resources import TablesResource
from frnr_assets.settings import Settings
from frnr_assets.words import code_span, markdown

SOURCE_MANIFEST = dg.AssetKey("source_manifest")
# The data version that every manifest has: a clip must not show as stale because another was added. What has become
# of a clip itself is seen from its file.
MANIFEST_VERSION = "clips"
_SHOWN = 50


def build_source_manifest(settings: Settings) -> dg.AssetsDefinition:
    """Return the asset that reads the configured manifests and registers its clips as partitions."""

    @dg.asset(
        key=SOURCE_MANIFEST,
        description=describe(
            "The clips of the no-reference datasets: key, path, MOS. Materializing it reads the manifests, updates the "
            "table and registers every new clip as a partition of the assets downstream. Rows that cannot be used are "
            "kept in a table of rejects, with file, line and reason.",
            "docs/configuration.md",
        ),
        owners=OWNERS,
        kinds={"polars", "parquet"},
        group_name=GROUP,
        code_version="1",
        metadata={COLUMN_SCHEMA: table_schema(CLIPS_SCHEMA)},
    )
    def source_manifest(context: dg.AssetExecutionContext, tables: TablesResource) -> dg.MaterializeResult[None]:
        store = tables.tables()
        try:
            ingested = ingest(settings.datasets, store, settings.allowed_roots)
        except DatasetRefused as error:
            register_clips(context.instance, error.ingestion.clips)
            others = ". The other datasets are up to date" if len(settings.datasets) > 1 else ""
            raise refusal(f"{error}{others}") from error
        except ManifestError as error:
            raise refusal(str(error)) from error
        except OSError as error:
            raise refusal(
                f"{error.filename or store.root}: {error.strerror}. The table of clips is as it was; mend it and "
                "materialize source_manifest again"
            ) from error
        partitions = register_clips(context.instance, ingested.clips)
        if ingested.rejects:
            context.log.warning(f"{sum(ingested.rejects.values())} rows were rejected: {_counted(ingested.rejects)}")
        clips = store.listed_clips()
        return dg.MaterializeResult(
            data_version=dg.DataVersion(MANIFEST_VERSION),
            metadata={
                ROW_COUNT: len(clips),
                "clips": len(clips),
                "clips with MOS": clips["mos"].count(),
                "clips without a file": clips["size_bytes"].null_count(),
                **ingested.changes,
                "new partitions": partitions,
                "rejected rows": sum(ingested.rejects.values()),
                "rejected rows by reason": dg.MetadataValue.md(_table("reason", ingested.rejects)),
                "rejected rows, one by one": dg.MetadataValue.path(store.rejects.path),
                "clips not listed any more": dg.MetadataValue.md(_some(store.removed_clips())),
                "clips by dataset": dg.MetadataValue.md(_table("dataset", ingested.listed)),
            },
        )

    return source_manifest


def _some(clips: Sequence[str]) -> str:
    more = f" and {len(clips) - _SHOWN} more" if len(clips) > _SHOWN else ""
    return ", ".join(code_span(clip) for clip in clips[:_SHOWN]) + more or "none"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def _table(of: str, counts: Mapping[str, int]) -> str:
    """Return counts as a Markdown table, the highest first."""
    lines = [f"| {markdown(what)} | {count} |" for what, count in sorted(counts.items(), key=lambda found: -found[1])]
    return "\n".join([f"| {of} | count |", "|---|---|", *lines]) if lines else "none"
