"""The second stage: every source probed and decoded once."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from frnr_assets.assets.clips import clips_by_key, tag_run
from frnr_assets.assets.descriptions import COLUMN_SCHEMA, GROUP, OWNERS, describe, rounded, table_schema
from frnr_assets.assets.events import Parent, record
from frnr_assets.assets.progress import Progress, failure
from frnr_assets.assets.source_manifest import MANIFEST_VERSION, SOURCE_MANIFEST
from frnr_assets.corpus.schema import REFERENCES_SCHEMA
from frnr_assets.engine.outcomes import ReferenceDone, ReferenceFailed
from frnr_assets.media.sweep import RECIPE_VERSION
from frnr_assets.partitions import clip_partitions
from frnr_assets.resources import (
    ComputeResource,
    FFmpegResource,
    SourcesResource,
    TablesResource,
    VmafResource,
    Workshop,
)
from frnr_assets.settings import Settings
from frnr_assets.words import harmless, harmless_lines

DECODED_REFERENCE = dg.AssetKey("decoded_reference")
CLIPS_PER_RUN = 200


def build_decoded_reference(settings: Settings) -> dg.AssetsDefinition:
    """Return the asset that finds out the facts of each clip, or why it cannot be used."""

    @dg.multi_asset(
        name="decoded_reference",
        specs=[
            dg.AssetSpec(
                DECODED_REFERENCE,
                deps=[SOURCE_MANIFEST],
                partitions_def=clip_partitions(),
                description=describe(
                    "The facts of every clip: its source was probed, and decoded from the first frame to the last. "
                    "The decoded upload is the reference of all its cells; its frames are hashed, not kept. A clip "
                    "that cannot be used is put into quarantine, with the reason in its metadata, "
                    "and is green as well.",
                    "docs/concepts.md",
                ),
                owners=OWNERS,
                kinds={"ffmpeg", "parquet"},
                group_name=GROUP,
                code_version=RECIPE_VERSION,
                metadata={COLUMN_SCHEMA: table_schema(REFERENCES_SCHEMA)},
            )
        ],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(CLIPS_PER_RUN),
        pool="batch",
    )
    def decoded_reference(
        context: dg.AssetExecutionContext,
        sources: SourcesResource,
        ffmpeg: FFmpegResource,
        vmaf: VmafResource,
        tables: TablesResource,
        compute: ComputeResource,
    ) -> Iterator[dg.MaterializeResult[None]]:
        found = clips_by_key(tables.tables(), context.partition_keys)
        tag_run(context, found.datasets)
        failed = dict(found.problems)
        total = len(context.partition_keys)
        progress = Progress("clips", total, context.log.info)
        if failed:
            progress.count("failed", len(failed))
        with Workshop(sources, ffmpeg, vmaf, tables, compute).open(settings.crf_sweep) as engine:
            for done in engine.decode_references(list(found.clips.values()), waiting=progress.tick):
                if isinstance(done, ReferenceFailed):
                    failed[done.clip] = done.reason
                    context.log.error(harmless_lines(f"{done.clip}: {done.detail}"))
                    progress.count("failed")
                    continue
                record_reference(context, done)
                progress.count(done.outcome)
        progress.tell()
        if failed:
            raise failure("clips", total, failed)
        yield from ()

    return decoded_reference


def record_reference(context: dg.AssetExecutionContext, done: ReferenceDone) -> None:
    """Log the materialization of one reference, or of its quarantine."""
    record(
        context,
        DECODED_REFERENCE,
        done.clip,
        data_version=data_version(done.row),
        code_version=RECIPE_VERSION,
        parents=[Parent(SOURCE_MANIFEST, MANIFEST_VERSION)],
        metadata=_metadata(done),
    )
    if done.quarantine_reason:
        context.log.warning(harmless(f"clip {done.clip} is in quarantine: {done.quarantine_reason}"))


def data_version(row: Mapping[str, Any]) -> str:
    """Return the data version of a reference: that of its frames and facts, or of its quarantine."""
    content = row.get("quarantine_reason") or f"{row['identity']} {row['frames_md5']}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _metadata(done: ReferenceDone) -> dict[str, dg.MetadataValue | str | int | float | bool]:
    row = done.row
    if done.quarantine_reason:
        return {
            "quarantined": True,
            "quarantine reason": done.quarantine_reason,
            "source": dg.MetadataValue.path(row["src"]),
            "source SHA-256": row.get("src_sha256") or "not known",
            "attempts": row.get("attempts") or 1,
            "tool output": dg.MetadataValue.text(row.get("tool_output") or "none"),
        }
    rate = row["rate_num"] / row["rate_den"]
    return {
        "quarantined": False,
        "source": dg.MetadataValue.path(row["src"]),
        "frames": row["frames"],
        "width (px)": row["width"],
        "height (px)": row["height"],
        "pixel format": row["pix_fmt"],
        "source pixel format": row["source_pix_fmt"],
        "source size": f"{row['source_width']}x{row['source_height']}",
        "adjustments": "; ".join(row["adjustments"]) or "none",
        "concealed damage": dg.MetadataValue.text("\n".join(row["decode_errors"]) or "none"),
        "frame rate (1/s)": rounded(rate),
        "frame rate (exact)": f"{row['rate_num']}/{row['rate_den']}",
        "duration (s)": rounded(row["frames"] / rate),
        "variable frame rate": row["variable_frame_rate"],
        "colour range": row["color_range"],
        "colour transfer": row["color_transfer"],
        "colour primaries": row["color_primaries"],
        "colour matrix": row["color_matrix"],
        "shots": row["shot_count"],
        "codec": row["codec"],
        "source size (bytes)": row["size_bytes"],
        "source SHA-256": row["src_sha256"],
        "frames MD5": row["frames_md5"],
        "reused": done.reused,
    }
