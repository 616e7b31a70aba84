"""Jobs: what is materialized together."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from frnr_assets.assets.cells import DISTORTION, FEATURE_ROWS
from frnr_assets.assets.decoded_reference import DECODED_REFERENCE
from frnr_assets.assets.fr_corpus import FR_CORPUS
from frnr_assets.assets.source_manifest import SOURCE_MANIFEST

INGEST, REFERENCES, CELLS, PUBLISH = "read_manifest", "decode_references", "measure_cells", "publish_corpus"


def build_jobs() -> list[UnresolvedAssetJobDefinition]:
    """Return one job for each stage.

    A downstream asset, or a check, in the same run as a batch would be skipped, because a batch yields nothing; so
    the corpus, and the checks of the tables it is made from, have a run of their own.
    """
    measured = dg.AssetSelection.checks_for_assets(DECODED_REFERENCE, FEATURE_ROWS)
    return [
        dg.define_asset_job(INGEST, dg.AssetSelection.assets(SOURCE_MANIFEST), description="Read the manifest."),
        dg.define_asset_job(
            REFERENCES,
            dg.AssetSelection.assets(DECODED_REFERENCE).without_checks(),
            description="Decode the references of some clips.",
        ),
        dg.define_asset_job(
            CELLS,
            dg.AssetSelection.assets(DISTORTION, FEATURE_ROWS).without_checks(),
            description="Encode and score some cells.",
        ),
        dg.define_asset_job(
            PUBLISH,
            dg.AssetSelection.assets(FR_CORPUS) | measured,
            description="Check the tables, publish the corpus, check the corpus.",
        ),
    ]
