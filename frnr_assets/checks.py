"""Asset checks: the rules of corpus/findings.py, applied to what is on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from frnr_assets.assets.cells import FEATURE_ROWS
from frnr_assets.assets.decoded_reference import DECODED_REFERENCE
from frnr_assets.assets.fr_corpus import FR_CORPUS
from frnr_assets.assets.mixed_corpus import MIXED_CORPUS
from frnr_assets.assets.source_manifest import SOURCE_MANIFEST
from frnr_assets.corpus import findings
from frnr_assets.corpus.findings import Finding
from frnr_assets.corpus.publish import published_rows, read_version, require_version, version_files
from frnr_assets.corpus.schema import CLIPS_SCHEMA, FEATURE_ROWS_SCHEMA, MIXED_ROW_SCHEMA, REFERENCES_SCHEMA, ROW_SCHEMA
from frnr_assets.corpus.store import PartTable, to_polars
from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets.resources import TablesResource
from frnr_assets.settings import Settings
from frnr_assets.words import markdown

Rule = Callable[[Tables], Sequence[Finding]]
_WARN, _ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def build_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Return every check. What is an error on fr_corpus has also been ruled out before it was published."""
    mixed = _mixed_checks(settings) if settings.fr_datasets else []
    return [*_manifest_checks(settings), *_reference_checks(), *_row_checks(), *_corpus_checks(settings), *mixed]


def _manifest_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    scales = {dataset.name: dataset.mos_scale for dataset in settings.datasets}
    expected = {dataset.name: dataset.expected_clips for dataset in settings.datasets}

    def mos_in_scale(tables: Tables) -> list[Finding]:
        by_dataset = tables.listed_clips().partition_by("dataset", as_dict=True)
        return [
            finding
            for (dataset,), clips in by_dataset.items()
            for finding in findings.mos_implausible(clips, scales.get(dataset, settings.mos_range))
        ]

    def schema(tables: Tables) -> list[Finding]:
        tables.listed_clips()
        return findings.schema_differs(tables.clips.schema(), CLIPS_SCHEMA)

    return [
        _check(
            SOURCE_MANIFEST,
            "manifest_schema",
            "The table of clips has exactly the documented columns.",
            schema,
        ),
        _check(
            SOURCE_MANIFEST,
            "clip_keys_unique",
            "No two clips have the same key.",
            lambda tables: findings.duplicate_keys(tables.listed_clips()),
        ),
        _check(
            SOURCE_MANIFEST,
            "mos_in_scale",
            "Every MOS is finite and within the scale that its dataset declares.",
            mos_in_scale,
        ),
        _check(
            SOURCE_MANIFEST,
            "sources_present",
            "The source of every clip is a file.",
            lambda tables: findings.sources_missing(tables.listed_clips()),
        ),
        _check(
            SOURCE_MANIFEST,
            "rows_accepted",
            "No row of a manifest was rejected. A warning: rejected rows are no clips; the table of rejects has all of "
            "them, with file, line and reason.",
            lambda tables: findings.rows_rejected(tables.rejects.read()),
            severity=_WARN,
        ),
        _check(
            SOURCE_MANIFEST,
            "clip_count_expected",
            "Every dataset has as many rows as it was declared to have clips (expected_clips). A warning: a file that "
            "has not may be of another dataset, or cut short.",
            lambda tables: findings.clip_count_differs(tables.listed_clips(), tables.rejects.read(), expected),
            severity=_WARN,
        ),
        _check(
            SOURCE_MANIFEST,
            "downloads_work",
            f"At most {settings.download_failures_warn:.0%} of the downloads failed. A warning: the corpus goes "
            "without those clips.",
            lambda tables: findings.downloads_failing(tables.downloads.read(), settings.download_failures_warn),
            severity=_WARN,
        ),
    ]


def _reference_checks() -> list[dg.AssetChecksDefinition]:
    return [
        _check(
            DECODED_REFERENCE,
            "reference_facts_sane",
            "Every usable reference has frames, a plausible frame rate, and a working size that is the source's size "
            "cropped by at most one pixel.",
            lambda tables: [
                *_part_schemas_differ(tables.references, REFERENCES_SCHEMA),
                *findings.reference_implausible(tables.references.read()),
            ],
        ),
        _check(
            DECODED_REFERENCE,
            "clips_usable",
            "No clip is in quarantine. A warning: clips in quarantine have no rows, and the corpus goes without them.",
            lambda tables: findings.quarantined(tables.quarantine()),
            severity=_WARN,
        ),
    ]


def _row_checks() -> list[dg.AssetChecksDefinition]:
    return [
        _check(
            FEATURE_ROWS,
            "row_schema",
            "Every part of the table has exactly the columns of the contract, and the store's own.",
            lambda tables: _part_schemas_differ(tables.feature_rows, FEATURE_ROWS_SCHEMA),
        ),
        _check(
            FEATURE_ROWS,
            "rows_from_nr",
            "fr_from_nr is true in every row.",
            lambda tables: findings.not_from_nr(tables.feature_rows.read(columns=["fr_from_nr"])),
        ),
        _check(
            FEATURE_ROWS,
            "values_in_range",
            "VMAF is in 0..100 and the canonical-6 features are finite and in range in every row.",
            lambda tables: findings.values_implausible(tables.feature_rows.read(columns=findings.JUDGED_VALUES)),
        ),
        _check(
            FEATURE_ROWS,
            "sources_consistent",
            "src and nr_source are the same file in every row.",
            lambda tables: findings.sources_inconsistent(tables.feature_rows.read(columns=["src", "nr_source"])),
        ),
    ]


def _corpus_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    def values_in_range(tables: Tables) -> list[Finding]:
        rows = _published(tables, "src", "nr_mos", *findings.JUDGED_VALUES)
        mos = findings.mos_implausible(rows, settings.mos_range, "nr_mos", "src")
        return [*findings.values_implausible(rows, "src"), *mos]

    def row_count(tables: Tables) -> list[Finding]:
        published = published_rows(pq.read_schema(version_files(_current(tables))[0]))
        return findings.row_count_differs(_published(tables, "crf"), published)

    def sweeps_complete(tables: Tables) -> list[Finding]:
        # Rows of another encoder may stand beside those of this one.
        ours = (pl.col("encoder") == settings.encoder) & (pl.col("preset") == settings.preset)
        rows = _published(tables, "src", *findings.CELL).filter(ours)
        references = tables.references.read(columns=["src_sha256", "quarantine_reason"])
        without = findings.clips_without_rows(tables.listed_clips(), references, rows)
        return [*without, *findings.sweeps_incomplete(rows, settings.crf_sweep, "src")]

    return [
        _check(
            FR_CORPUS,
            "corpus_schema",
            "The published files have exactly the columns of the contract, in its order.",
            lambda tables: _file_schemas_differ(_current(tables), ROW_SCHEMA),
            blocking=True,
        ),
        _check(
            FR_CORPUS,
            "corpus_from_nr",
            "fr_from_nr is true in every published row.",
            lambda tables: findings.not_from_nr(_published(tables, "src", "fr_from_nr"), "src"),
            blocking=True,
        ),
        _check(
            FR_CORPUS,
            "corpus_values_in_range",
            "VMAF, canonical-6 features and MOS are finite and in range in every published row.",
            values_in_range,
            blocking=True,
        ),
        _check(
            FR_CORPUS,
            "one_row_per_cell",
            "There is one row for a (src_sha256, encoder, preset, crf).",
            lambda tables: findings.cells_repeated(_published(tables, "src", *findings.CELL), "src"),
            blocking=True,
        ),
        _check(
            FR_CORPUS,
            "row_count",
            "There are as many rows as were published.",
            row_count,
            blocking=True,
        ),
        _check(
            FR_CORPUS,
            "sweeps_complete",
            "Every usable clip has a row of the configured encoder for each CRF of the sweep. A warning: the corpus "
            "may be published while cells are still being measured.",
            sweeps_complete,
            severity=_WARN,
        ),
        _check(
            FR_CORPUS,
            "one_recipe",
            "All rows of an encoder and preset were made with the same versions, model and parameters. A warning: "
            "their scores may not compare; materialize feature_rows for the older ones again.",
            lambda tables: findings.recipes_mixed(_published(tables, *findings.MADE_WITH)),
            severity=_WARN,
        ),
        _check(
            FR_CORPUS,
            "quality_falls_with_crf",
            "VMAF does not rise with CRF in any source. A warning: it happens with static or very dark clips.",
            lambda tables: findings.quality_rises(
                _published(tables, "src", "encoder", "preset", "crf", "vmaf_score"), "src"
            ),
            severity=_WARN,
        ),
    ]


def _mixed_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    def values_in_range(tables: Tables) -> list[Finding]:
        rows = _columns(_current_mixed(tables), "src", "nr_source", "nr_mos", "fr_from_nr", *findings.JUDGED_VALUES)
        mos = findings.mos_implausible(rows, settings.mos_range, "nr_mos", "src")
        return [*findings.values_implausible(rows, "src"), *findings.provenance_contradictory(rows), *mos]

    return [
        _check(
            MIXED_CORPUS,
            "mixed_schema",
            "The published files have exactly the columns of the contract, in its order; nr_source may be null.",
            lambda tables: _file_schemas_differ(_current_mixed(tables), MIXED_ROW_SCHEMA),
            blocking=True,
        ),
        _check(
            MIXED_CORPUS,
            "mixed_values_in_range",
            "VMAF, canonical-6 features and MOS are finite and in range in every published row, and nr_source and "
            "nr_mos are null where fr_from_nr is false.",
            values_in_range,
            blocking=True,
        ),
        _check(
            MIXED_CORPUS,
            "both_strata_present",
            "There are rows whose fr_from_nr is true and rows whose fr_from_nr is false.",
            lambda tables: findings.strata_missing(_columns(_current_mixed(tables), "fr_from_nr")),
            blocking=True,
        ),
        _check(
            MIXED_CORPUS,
            "no_source_in_both",
            "No source, by path or content, is an upload in some rows and a master in others.",
            lambda tables: findings.sources_in_both(
                _columns(_current_mixed(tables), "src", "src_sha256", "fr_from_nr")
            ),
            blocking=True,
        ),
    ]


def _check(
    asset: dg.AssetKey,
    name: str,
    description: str,
    rule: Rule,
    *,
    severity: dg.AssetCheckSeverity = _ERROR,
    blocking: bool = False,
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name=name, description=description, blocking=blocking)
    def check(tables: TablesResource) -> dg.AssetCheckResult:
        try:
            found = rule(tables.tables())
        except NotMaterialized as error:
            found = [Finding(str(error), (), 1)]
        return dg.AssetCheckResult(
            passed=not found,
            severity=severity,
            # The UI renders it as Markdown, and findings quote manifests, tools and servers.
            description="; ".join(markdown(str(finding)) for finding in found) or None,
            metadata={"cases found": sum(finding.count for finding in found)},
        )

    return check


def _part_schemas_differ(table: PartTable, schema: pa.Schema) -> list[Finding]:
    return [finding for on_disk in table.schemas() for finding in findings.schema_differs(on_disk, schema)]


def _file_schemas_differ(version: Path, schema: pa.Schema) -> list[Finding]:
    schemas = map(pq.read_schema, version_files(version))
    return findings.merged(finding for on_disk in schemas for finding in findings.schema_differs(on_disk, schema))


def _current(tables: Tables) -> Path:
    return _with_files(require_version(tables.corpus, FR_CORPUS.to_user_string()))


def _current_mixed(tables: Tables) -> Path:
    return _with_files(require_version(tables.mixed_corpus, MIXED_CORPUS.to_user_string()))


def _with_files(version: Path) -> Path:
    # What looks at every file finds nothing wrong when there is none.
    if not version_files(version):
        raise NotMaterialized(f"{version} has no files any more; publish the corpus again")
    return version


def _columns(version: Path, *columns: str) -> pl.DataFrame:
    """Read what a rule looks at: all columns take 2 GiB when the corpus is that of KonViD-150k."""
    return to_polars(read_version(version, columns))


def _published(tables: Tables, *columns: str) -> pl.DataFrame:
    return _columns(_current(tables), *columns)
