"""The fifth stage: the corpus, published."""

from pathlib import Path
from statistics import fmean

import dagster as dg
import polars as pl

from frnr_assets.assets.cells import FEATURE_ROWS
from frnr_assets.assets.descriptions import (
    COLUMN_SCHEMA,
    GROUP,
    OWNERS,
    ROW_COUNT,
    describe,
    rounded,
    table_schema,
)
from frnr_assets.assets.progress import refusal
from frnr_assets.corpus.card import Background, write_card
from frnr_assets.corpus.publish import CorpusInvalid, publish
from frnr_assets.corpus.schema import ROW_SCHEMA
from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets.engine.recipes import commands_of
from frnr_assets.resources import TablesResource
from frnr_assets.settings import Settings

FR_CORPUS = dg.AssetKey("fr_corpus")


def build_fr_corpus(settings: Settings) -> dg.AssetsDefinition:
    """Return the asset that publishes all current rows."""

    @dg.asset(
        key=FR_CORPUS,
        deps=[FEATURE_ROWS],
        description=describe(
            "The corpus: all current feature rows as one Parquet dataset, Hive-partitioned by crf, in the vmaf-tune "
            "row schema plus nr_source, nr_mos and fr_from_nr, with a table of its sources (split and weight) and a "
            "dataset card beside it. A broken corpus is not published; readers see the "
            "version before or the new one, never half.",
            "docs/corpus.md",
        ),
        owners=OWNERS,
        kinds={"polars", "parquet"},
        group_name=GROUP,
        code_version="2",
        metadata={COLUMN_SCHEMA: table_schema(ROW_SCHEMA)},
    )
    def fr_corpus(context: dg.AssetExecutionContext, tables: TablesResource) -> dg.MaterializeResult[None]:
        store = tables.tables()
        store.feature_rows.compact()
        try:
            rows = store.rows_to_publish()
        except NotMaterialized as error:
            raise refusal(str(error)) from error
        if rows.is_empty():
            raise refusal("there are no feature rows to publish; materialize feature_rows first")
        background = background_of(store, rows, settings)
        try:
            publication = publish(
                rows,
                store.corpus,
                sweep=settings.crf_sweep,
                mos_scale=settings.mos_range,
                keep_versions=settings.keep_versions,
            )
        except CorpusInvalid as error:
            raise refusal(f"the corpus was not published; the version before stays. {error}") from error
        except OSError as error:
            raise unwritable(error, store.corpus) from error
        try:
            write_card(publication, rows, background, store.card)
        except OSError as error:
            raise without_card(error, publication.path, store.card) from error
        context.log.info(f"published {publication.rows} rows to {publication.path}")
        return dg.MaterializeResult(
            metadata={
                ROW_COUNT: publication.rows,
                "rows": publication.rows,
                "clips": rows["clip"].n_unique(),
                "size (bytes)": publication.size_bytes,
                "mean VMAF (0 to 100)": rounded(fmean(rows["vmaf_score"])),
                "path": dg.MetadataValue.path(publication.path),
                "dataset card": dg.MetadataValue.path(store.card),
            }
        )

    return fr_corpus


def unwritable(error: OSError, folder: Path) -> dg.Failure:
    """Return the failure of a publication that the disk did not take."""
    what = f"{error.filename or folder}: {error.strerror or error}"
    return refusal(f"{what}. What was published before is still there; mend it and launch publish_corpus again")


def without_card(error: OSError, version: Path, card: Path) -> dg.Failure:
    """Return the failure of a publication that is whole, but for its card."""
    return refusal(
        f"{version} is published, but {card} could not be written: {error.strerror or error}. It describes an earlier "
        "version; mend it and launch publish_corpus again"
    )


def background_of(tables: Tables, rows: pl.DataFrame, settings: Settings) -> Background:
    """Return what a dataset card says beside what rows tell: licences, quarantine, commands."""
    declared = {dataset.name: dataset.licence for dataset in settings.datasets}
    declared |= {dataset.name: dataset.licence for dataset in settings.fr_datasets}
    quarantined = tables.quarantine()["dataset"].value_counts()
    return Background(
        licences={name: licence for name, licence in declared.items() if licence},
        quarantined=dict(quarantined.iter_rows()),
        commands=commands_of(
            rows,
            tables.references.read(),
            vmaf=settings.vmaf_settings(),
            rules=settings.source_rules(),
            sample_clip_seconds=settings.sample_clip_seconds,
        ),
    )
