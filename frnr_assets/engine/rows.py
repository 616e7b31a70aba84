"""From measurements to rows, and back from rows to what a measurement needs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl

from frnr_assets.corpus.schema import SCHEMA_VERSION
from frnr_assets.media.probe import Probe
from frnr_assets.media.reference import Reference, WorkingFormat, working_format
from frnr_assets.media.source import ClipUnusable, Fingerprint
from frnr_assets.media.sweep import RECIPE_VERSION, CellMeasured
from frnr_assets.media.toolchain import Toolchain
from frnr_assets.vocabulary import FULL_CLIP


def cell_identity(reference: Reference, crf: int, toolchain: Toolchain) -> str:
    """Hash everything that a row is made from. Rows of equal identity are equal; any difference is another row."""
    vmaf = toolchain.vmaf
    scored_with: dict[str, Any] = {
        "vmaf_model": vmaf.models.of(reference.working.height).name,
        "libvmaf_version": toolchain.libvmaf_version,
    }
    if vmaf.tool is not None:
        # The executable's own arguments may choose another implementation. Where it is does not matter.
        scored_with["vmaf_args"] = vmaf.tool.args
    return _hash(_encode_ingredients(reference, crf, toolchain) | scored_with)


def encode_identity(reference: Reference, crf: int, toolchain: Toolchain) -> str:
    """Hash everything that an encode is made from."""
    return _hash(_encode_ingredients(reference, crf, toolchain))


def _encode_ingredients(reference: Reference, crf: int, toolchain: Toolchain) -> dict[str, Any]:
    part = toolchain.settings.part_of(reference)
    return {
        "src_sha256": reference.fingerprint.sha256,
        "crf": crf,
        "encoder": toolchain.settings.encoder.name,
        "encoder_version": toolchain.encoder_version,
        "preset": toolchain.settings.preset,
        "extra_params": toolchain.settings.extra_params,
        "ffmpeg_version": toolchain.ffmpeg.version,
        "frames": None if part.clip_mode == FULL_CLIP else (part.first, part.frames),
        "recipe_version": RECIPE_VERSION,
    }


def reference_identity(src_sha256: str, toolchain: Toolchain) -> str:
    """Hash everything that a reference's facts depend on.

    The encoder is not part of it: each finds its own working format from what was probed, so that references serve
    all encoders. The MD5 of the frames is that of the format of the encoder that was configured at the time.
    """
    made_from = {
        "src_sha256": src_sha256,
        "ffmpeg_version": toolchain.ffmpeg.version,
        "recipe_version": RECIPE_VERSION,
    }
    return _hash(made_from)


def is_current(row: Mapping[str, Any], src_sha256: str, toolchain: Toolchain) -> bool:
    """Tell whether a row of the references table says what a decode of that content would find now.

    Args:
        row: of the references table.
        src_sha256: hash of the source as it is now.
        toolchain: tools and settings.
    """
    if row["identity"] != reference_identity(src_sha256, toolchain):
        return False
    if not row["decode_errors"]:
        return True
    reference = reference_of(row)
    # The frames of a damaged clip are compared with these in every run: they must be in the format of now.
    return toolchain.rules.accept_damaged and working_now(reference, toolchain) == reference.working


def working_now(reference: Reference, toolchain: Toolchain) -> WorkingFormat:
    """Return the working format of a clip for the encoder of now, whichever was configured when it was decoded.

    Raises:
        ClipUnusable: it is smaller than the rules allow.
    """
    return working_format(reference.probe, toolchain.settings.encoder, toolchain.rules.min_side)


def current_identities(references: pl.DataFrame, crf_sweep: Sequence[int], toolchain: Toolchain) -> pl.DataFrame:
    """Return the identities that rows have when they are made now, as columns clip and identity.

    Args:
        references: rows of the references table; those in quarantine and those decoded with other tools have none.
        crf_sweep: the CRFs.
        toolchain: tools and settings.
    """
    found: list[tuple[str, str]] = []
    for row in references.filter(pl.col("quarantine_reason").is_null()).iter_rows(named=True):
        reference = reference_of(row)
        if not is_current(row, reference.fingerprint.sha256, toolchain):
            continue
        try:
            working = working_now(reference, toolchain)
        except ClipUnusable:
            continue
        reference = replace(reference, working=working)
        found += [(row["clip"], cell_identity(reference, crf, toolchain)) for crf in crf_sweep]
    return pl.DataFrame(found, schema={"clip": pl.String, "identity": pl.String}, orient="row")


def _hash(made_from: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def feature_row(
    cell: CellMeasured, toolchain: Toolchain, *, src: Path, mos: float | None, run_id: str, encode_path: str
) -> dict[str, Any]:
    """Assemble the complete row of a measured cell: the contract's columns and the store's own."""
    reference, distortion, score = cell.reference, cell.distortion, cell.score
    encoded_s = float(cell.part.frames / reference.probe.rate)
    probe, working = reference.probe, reference.working
    return {
        "clip": cell.clip,
        "identity": cell_identity(reference, cell.crf, toolchain),
        "frames": cell.part.frames,
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "src": str(src),
        "src_sha256": reference.fingerprint.sha256,
        "width": working.width,
        "height": working.height,
        "pix_fmt": working.pix_fmt,
        "framerate": float(probe.rate),
        "duration_s": reference.duration_s,
        "encoder": toolchain.settings.encoder.name,
        "encoder_version": toolchain.encoder_version,
        "preset": toolchain.settings.preset,
        "crf": cell.crf,
        "extra_params": list(toolchain.settings.extra_params),
        "encode_path": encode_path,
        "encode_size_bytes": distortion.size_bytes,
        "bitrate_kbps": distortion.size_bytes * 8 / 1000 / encoded_s,
        "encode_time_ms": distortion.encode_time_ms,
        "vmaf_score": score.vmaf_score,
        "vmaf_model": score.model,
        "score_time_ms": score.score_time_ms,
        "ffmpeg_version": toolchain.ffmpeg.version,
        "vmaf_binary_version": score.libvmaf_version,
        "exit_status": 0,
        "clip_mode": cell.part.clip_mode,
        "hdr_transfer": probe.hdr_transfer,
        "hdr_primaries": probe.hdr_primaries,
        "hdr_forced": False,
        "shot_count": reference.shot_count,
        "shot_avg_duration_sec": reference.shot_avg_duration_s,
        "shot_duration_std_sec": reference.shot_duration_std_s,
        **score.feature_moments(),
        **distortion.statistics.columns,
        "nr_source": str(src),
        "nr_mos": mos,
        "fr_from_nr": True,
    }


def extra_feature_rows(cell: CellMeasured, toolchain: Toolchain) -> list[dict[str, Any]]:
    """Return the rows of a measured cell in the table of extra features."""
    made_from = _made_from(cell, toolchain)
    return [
        {**made_from, "feature": name, "mean": mean, "std": std}
        for name, (mean, std) in cell.score.extra_moments().items()
    ]


def frame_scores_row(cell: CellMeasured, toolchain: Toolchain) -> dict[str, Any]:
    """Return the row of a measured cell in the table of the frames' scores."""
    frames = {"vmaf": cell.score.vmaf, **cell.score.features}
    return {**_made_from(cell, toolchain), **{name: list(values) for name, values in frames.items()}}


def _made_from(cell: CellMeasured, toolchain: Toolchain) -> dict[str, Any]:
    """Return which feature row it is that a row of another table belongs to."""
    return {
        "clip": cell.clip,
        "encoder": toolchain.settings.encoder.name,
        "preset": toolchain.settings.preset,
        "crf": cell.crf,
        "identity": cell_identity(cell.reference, cell.crf, toolchain),
        "src_sha256": cell.reference.fingerprint.sha256,
    }


def reference_row(
    clip: str, src: Path, reference: Reference, toolchain: Toolchain, kept_path: Path | None
) -> dict[str, Any]:
    """Return the facts of a usable clip as a row of the references table."""
    probe, working = reference.probe, reference.working
    return {
        "clip": clip,
        "src": str(src),
        "kept_path": None if kept_path is None else str(kept_path),
        "identity": reference_identity(reference.fingerprint.sha256, toolchain),
        "src_sha256": reference.fingerprint.sha256,
        "size_bytes": reference.fingerprint.size_bytes,
        "mtime_ns": reference.fingerprint.mtime_ns,
        "file_state": reference.fingerprint.file_state,
        "container": probe.container,
        "codec": probe.codec,
        "source_width": probe.width,
        "source_height": probe.height,
        "source_pix_fmt": probe.pix_fmt,
        "source_chroma": probe.chroma,
        "source_bit_depth": probe.bit_depth,
        "width": working.width,
        "height": working.height,
        "pix_fmt": working.pix_fmt,
        "working_filters": working.filters,
        "adjustments": list(reference.adjustments),
        "decode_errors": list(reference.decode_errors),
        "rate_num": probe.rate.numerator,
        "rate_den": probe.rate.denominator,
        "frames": reference.frames,
        "stream_duration_s": probe.stream_duration_s,
        "frames_md5": reference.frames_md5,
        "variable_frame_rate": reference.variable_frame_rate,
        "color_range": probe.color_range,
        "color_transfer": probe.color_transfer,
        "color_primaries": probe.color_primaries,
        "color_matrix": probe.color_matrix,
        "shot_count": reference.shot_count,
        "shot_avg_duration_s": reference.shot_avg_duration_s,
        "shot_duration_std_s": reference.shot_duration_std_s,
    }


def quarantine_row(
    clip: str,
    src: Path,
    reason: str,
    *,
    tool_output: str | None,
    attempts: int,
    file: Mapping[str, Any],
    conditions: str,
) -> dict[str, Any]:
    """Return an unusable clip as a row of the references table.

    Args:
        clip: clip key.
        src: the uploaded file.
        reason: why it cannot be used.
        tool_output: the tool's own words about it.
        attempts: runs that tried it.
        file: what tells when its file has changed: ``size_bytes``, ``mtime_ns`` and, if known, ``src_sha256``.
        conditions: the settings under which it cannot be used, see ``ToolSettings.conditions``.
    """
    return {
        "clip": clip,
        "src": str(src),
        "identity": conditions,
        "quarantine_reason": reason,
        "tool_output": tool_output,
        "attempts": attempts,
        **file,
    }


def fingerprint_of(row: Mapping[str, Any]) -> Fingerprint:
    """Rebuild the fingerprint of a clip from its row."""
    return Fingerprint(row["src_sha256"], row["size_bytes"], row["mtime_ns"], row["file_state"])


def reference_of(row: Mapping[str, Any]) -> Reference:
    """Rebuild the facts of a usable clip from its row."""
    return Reference(
        fingerprint=fingerprint_of(row),
        probe=Probe(
            container=row["container"],
            codec=row["codec"],
            width=row["source_width"],
            height=row["source_height"],
            pix_fmt=row["source_pix_fmt"],
            chroma=row["source_chroma"],
            bit_depth=row["source_bit_depth"],
            rate=Fraction(row["rate_num"], row["rate_den"]),
            stream_duration_s=row["stream_duration_s"],
            color_range=row["color_range"],
            color_transfer=row["color_transfer"],
            color_primaries=row["color_primaries"],
            color_matrix=row["color_matrix"] or "unspecified",
        ),
        working=WorkingFormat(row["width"], row["height"], row["pix_fmt"], row["working_filters"]),
        frames=row["frames"],
        frames_md5=row["frames_md5"],
        variable_frame_rate=row["variable_frame_rate"],
        shot_count=row["shot_count"],
        shot_avg_duration_s=row["shot_avg_duration_s"],
        shot_duration_std_s=row["shot_duration_std_s"],
        decode_errors=tuple(row["decode_errors"] or ()),
    )
