"""The first stage: which clips there are."""

import dagster as dg

from frnr_assets.assets.descriptions import COLUMN_SCHEMA, GROUP, OWNERS, ROW_COUNT, describe, table_schema
from frnr_assets.corpus.manifest import ManifestError, read_manifest
from frnr_assets.corpus.schema import MANIFEST_SCHEMA
from frnr_assets.partitions import register_clips
from frnr_assets.resources import TablesResource
from frnr_assets.settings import Settings

SOURCE_MANIFEST = dg.AssetKey("source_manifest")
# The data version that every manifest has: a clip must not show as stale because another was added. What has become
# of a clip itself is seen from its file.
MANIFEST_VERSION = "clips"


def build_source_manifest(settings: Settings) -> dg.AssetsDefinition:
    """Return the asset that reads the configured manifest and registers its clips as partitions."""

    @dg.asset(
        key=SOURCE_MANIFEST,
        description=describe(
            "The clips of the no-reference dataset: key, path, MOS. Materializing it reads the manifest file, writes "
            "the table and registers every new clip as a partition of the assets downstream."
        ),
        owners=OWNERS,
        kinds={"polars", "parquet"},
        group_name=GROUP,
        code_version="1",
        metadata={COLUMN_SCHEMA: table_schema(MANIFEST_SCHEMA)},
    )
    def source_manifest(context: dg.AssetExecutionContext, tables: TablesResource) -> dg.MaterializeResult[None]:
        try:
            rows = read_manifest(settings.manifest, clips_root=settings.clips_root, dataset=settings.dataset)
        except ManifestError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        manifest = tables.tables().write_manifest(rows)
        new = register_clips(context.instance, manifest["clip"].to_list())
        mos = manifest["mos"].drop_nulls()
        return dg.MaterializeResult(
            data_version=dg.DataVersion(MANIFEST_VERSION),
            metadata={
                ROW_COUNT: len(manifest),
                "clips": len(manifest),
                "new clips": new,
                "clips with MOS": len(mos),
                "datasets": ", ".join(sorted(manifest["dataset"].unique())),
                "manifest": dg.MetadataValue.path(settings.manifest),
            },
        )

    return source_manifest
