"""The third and fourth stage: every cell encoded and scored, in one batch."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from frnr_assets.assets.clips import clips_by_key, tag_run
from frnr_assets.assets.decoded_reference import DECODED_REFERENCE, record_reference
from frnr_assets.assets.descriptions import (
    COLUMN_SCHEMA,
    GROUP,
    OWNERS,
    PARTITION_ROW_COUNT,
    describe,
    rounded,
    table_schema,
)
from frnr_assets.assets.events import Parent, latest_parents, record
from frnr_assets.assets.progress import Progress, failure
from frnr_assets.corpus.schema import ROW_SCHEMA
from frnr_assets.engine.outcomes import CellDone, CellQuarantined
from frnr_assets.media.sweep import RECIPE_VERSION, CellFailed
from frnr_assets.partitions import cell_key, cell_partitions, cells_by_clip
from frnr_assets.resources import (
    ComputeResource,
    FFmpegResource,
    SourcesResource,
    TablesResource,
    VmafResource,
    Workshop,
)
from frnr_assets.settings import Settings
from frnr_assets.vocabulary import CANONICAL6_FEATURES
from frnr_assets.words import harmless_lines

DISTORTION, FEATURE_ROWS = dg.AssetKey("distortion"), dg.AssetKey("feature_rows")
CELLS_PER_RUN = 500


def code_version(settings: Settings) -> str:
    """Return what makes cells stale when it changes: the recipe, and the settings that are part of a row's identity."""
    encode = (settings.encoder, settings.preset, settings.extra_params, settings.sample_clip_seconds)
    chosen = (*encode, settings.vmaf_model, settings.vmaf_backend, settings.vmaf_args)
    return f"{RECIPE_VERSION}-{hashlib.sha256(repr(chosen).encode()).hexdigest()[:8]}"


class CellsConfig(dg.Config):
    """What the operator may ask of a run."""

    recompute: bool = Field(default=False, description="Measure also the cells that have a row already.")


def build_cells(settings: Settings) -> dg.AssetsDefinition:
    """Return the two assets by clip and CRF, which are made together."""
    partitions = cell_partitions(settings.crf_sweep)
    version = code_version(settings)

    @dg.multi_asset(
        name="cells",
        specs=[
            dg.AssetSpec(
                DISTORTION,
                deps=[DECODED_REFERENCE],
                partitions_def=partitions,
                description=describe(
                    "The distortions: each reference re-encoded at each CRF of the sweep, straight from the upload, "
                    "with one encoder thread. Size, bitrate and the encoder's own statistics are recorded; the "
                    "bitstream is deleted once it is scored, unless keep_encodes is set. They are made together with "
                    "feature_rows.",
                    "docs/concepts.md",
                ),
                owners=OWNERS,
                kinds={"ffmpeg"},
                group_name=GROUP,
                code_version=version,
            ),
            dg.AssetSpec(
                FEATURE_ROWS,
                deps=[DECODED_REFERENCE, DISTORTION],
                partitions_def=partitions,
                description=describe(
                    "The rows: each distortion scored against its reference with VMAF and the canonical-6 features "
                    "(adm2, vif_scale0..3, motion2). A materialized partition is one complete, durable row, or a "
                    "cell of a clip in quarantine, which has none. Features beyond these (extra_features) are in the "
                    "table tables/extra_features of the data root, and the scores of every frame (per_frame_scores) in "
                    "tables/frame_scores.",
                    "docs/data_dictionary.md",
                ),
                owners=OWNERS,
                kinds={"vmaf", "parquet"},
                group_name=GROUP,
                code_version=version,
                metadata={COLUMN_SCHEMA: table_schema(ROW_SCHEMA)},
            ),
        ],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(CELLS_PER_RUN),
        pool="batch",
    )
    def cells(
        context: dg.AssetExecutionContext,
        config: CellsConfig,
        sources: SourcesResource,
        ffmpeg: FFmpegResource,
        vmaf: VmafResource,
        tables: TablesResource,
        compute: ComputeResource,
    ) -> Iterator[dg.MaterializeResult[None]]:
        wanted = cells_by_clip(context.partition_keys)
        found = clips_by_key(tables.tables(), wanted)
        tag_run(context, found.datasets, encoder=settings.encoder, preset=settings.preset)
        total = len(context.partition_keys)
        progress = Progress("cells", total, context.log.info)
        references = latest_parents(context, DECODED_REFERENCE, found.clips)
        failed: dict[str, str] = {cell_key(key, crf): why for key, why in found.problems.items() for crf in wanted[key]}
        if failed:
            progress.count("failed", len(failed))
        with Workshop(sources, ffmpeg, vmaf, tables, compute).open(settings.crf_sweep) as engine:
            requested = {clip: wanted[key] for key, clip in found.clips.items()}
            outcomes = engine.measure_cells(
                requested, run_id=context.run.run_id, recompute=config.recompute, waiting=progress.tick
            )
            for outcome in outcomes:
                if isinstance(outcome, CellFailed):
                    failed[cell_key(outcome.clip, outcome.crf)] = outcome.reason
                    context.log.error(harmless_lines(f"{outcome.clip} at CRF {outcome.crf}: {outcome.detail}"))
                    progress.count("failed")
                else:
                    if isinstance(outcome, CellQuarantined) and outcome.reference:
                        record_reference(context, outcome.reference)
                        references |= latest_parents(context, DECODED_REFERENCE, [outcome.clip])
                    _record(context, outcome, references[outcome.clip], version)
                    progress.count(outcome.outcome)
        progress.tell()
        if failed:
            raise failure("cells", total, failed)
        yield from ()

    return cells


def _record(
    context: dg.AssetExecutionContext, cell: CellDone | CellQuarantined, reference: Parent, code_version: str
) -> None:
    """Record a cell for the assets that the run was asked for, upstream first."""
    key = cell_key(cell.clip, cell.crf)
    if isinstance(cell, CellQuarantined):
        data_version = f"quarantined-{reference.data_version}"
        distortion: Mapping[str, Any] = {"quarantined": True, "quarantine reason": cell.reason}
        row: Mapping[str, Any] = {PARTITION_ROW_COUNT: 0, **distortion}
    else:
        data_version = str(cell.row["identity"])[:16]
        distortion, row = _distortion_metadata(cell), _row_metadata(cell)
    for asset, metadata, parents in (
        (DISTORTION, distortion, [reference]),
        (FEATURE_ROWS, row, [reference, Parent(DISTORTION, data_version)]),
    ):
        if asset in context.selected_asset_keys:
            record(
                context,
                asset,
                key,
                data_version=data_version,
                code_version=code_version,
                parents=parents,
                metadata=metadata,
            )


def _distortion_metadata(cell: CellDone) -> dict[str, Any]:
    row = cell.row
    return {
        "bitrate (kbit/s)": rounded(row["bitrate_kbps"]),
        "encode size (bytes)": row["encode_size_bytes"],
        "frames": row["frames"],
        "encode time (ms)": rounded(row["encode_time_ms"]),
        "mean QP": rounded(row["enc_internal_qp_mean"]),
        "skip ratio (0 to 1)": rounded(row["enc_internal_skip_ratio"]),
        "encoder": f"{row['encoder_version']}, preset {row['preset']}",
        "reused": cell.reused,
    }


def _row_metadata(cell: CellDone) -> dict[str, Any]:
    row = cell.row
    return {
        PARTITION_ROW_COUNT: 1,
        "VMAF (0 to 100)": rounded(row["vmaf_score"]),
        **{feature: rounded(row[f"{feature}_mean"]) for feature in CANONICAL6_FEATURES},
        "bitrate (kbit/s)": rounded(row["bitrate_kbps"]),
        "encode size (bytes)": row["encode_size_bytes"],
        "frames": row["frames"],
        "score time (ms)": rounded(row["score_time_ms"]),
        "VMAF model": row["vmaf_model"],
        "reused": cell.reused,
    }
