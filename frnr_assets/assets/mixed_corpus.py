"""The corpus of both strata: the rows of fr_corpus, and those of full-reference datasets."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from frnr_assets.assets.descriptions import (
    COLUMN_SCHEMA,
    GROUP,
    OWNERS,
    ROW_COUNT,
    describe,
    table_schema,
)
from frnr_assets.assets.fr_corpus import FR_CORPUS, background_of, unwritable, without_card
from frnr_assets.assets.progress import refusal
from frnr_assets.corpus.card import write_card
from frnr_assets.corpus.contracts import MIXED_CONTRACT
from frnr_assets.corpus.load import read_sources
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.corpus.mixed import mix, read_fr_rows
from frnr_assets.corpus.publish import CorpusInvalid, CorpusMissing, find_version, publish, read_version
from frnr_assets.corpus.store import to_polars
from frnr_assets.resources import TablesResource
from frnr_assets.settings import Settings
from frnr_assets.words import markdown

MIXED_CORPUS = dg.AssetKey("mixed_corpus")
_SHOWN = 50


def build_mixed_corpus(settings: Settings) -> dg.AssetsDefinition:
    """Return the asset that publishes the rows of fr_corpus together with those of the full-reference datasets."""

    @dg.asset(
        key=MIXED_CORPUS,
        deps=[FR_CORPUS],
        description=describe(
            "The published fr_corpus and the rows of the configured full-reference datasets, whose fr_from_nr is "
            "false, as one Parquet dataset, Hive-partitioned by crf, with a table of its sources (split, and weights "
            "with which both strata count the same) and a dataset card. Rows of those datasets that break a rule are "
            "left out and named.",
            "docs/corpus.md",
            MIXED_CONTRACT.caveat,
        ),
        owners=OWNERS,
        kinds={"polars", "parquet"},
        group_name=GROUP,
        code_version="1",
        metadata={COLUMN_SCHEMA: table_schema(MIXED_CONTRACT.schema)},
    )
    def mixed_corpus(context: dg.AssetExecutionContext, tables: TablesResource) -> dg.MaterializeResult[None]:
        store = tables.tables()
        try:
            version = find_version(store.corpus)
            read = [read_fr_rows(dataset) for dataset in settings.fr_datasets]
            rows = mix(to_polars(read_version(version)), read_sources(version), [found.rows for found in read])
            rejects = [reject for found in read for reject in found.rejects]
            store.fr_rejects.write(rejects)
            publication = publish(
                rows,
                store.mixed_corpus,
                sweep=sorted(rows["crf"].unique()),
                mos_scale=settings.mos_range,
                contract=MIXED_CONTRACT,
                keep_versions=settings.keep_versions,
            )
        except (CorpusMissing, ManifestError) as error:
            raise refusal(str(error)) from error
        except CorpusInvalid as error:
            raise refusal(f"the corpus was not published; the version before stays. {error}") from error
        except OSError as error:
            raise unwritable(error, store.mixed_corpus) from error
        background = background_of(store, rows.filter("fr_from_nr"), settings)
        try:
            write_card(publication, rows, background, store.mixed_card, MIXED_CONTRACT)
        except OSError as error:
            raise without_card(error, publication.path, store.mixed_card) from error
        if rejects:
            context.log.warning(
                f"{len(rejects)} rows were left out; each, with its reason, is in {store.fr_rejects.path}"
            )
        context.log.info(f"published {publication.rows} rows to {publication.path}")
        from_uploads = len(rows.filter("fr_from_nr"))
        return dg.MaterializeResult(
            metadata={
                ROW_COUNT: publication.rows,
                "rows": publication.rows,
                "rows from uploads": from_uploads,
                "rows of masters": publication.rows - from_uploads,
                "rows left out": len(rejects),
                "rows left out, the first": dg.MetadataValue.md(_left_out(rejects)),
                "rows left out, one by one": dg.MetadataValue.path(store.fr_rejects.path),
                "size (bytes)": publication.size_bytes,
                "path": dg.MetadataValue.path(publication.path),
                "dataset card": dg.MetadataValue.path(store.mixed_card),
            }
        )

    return mixed_corpus


def _left_out(rejects: Sequence[Mapping[str, Any]]) -> str:
    if not rejects:
        return "none"
    lines = [
        f"| {markdown(reject['dataset'])} | {reject['line']} | {markdown(reject['reason'])} |"
        for reject in rejects[:_SHOWN]
    ]
    return "\n".join(["| dataset | line | reason |", "|---|---|---|", *lines])
