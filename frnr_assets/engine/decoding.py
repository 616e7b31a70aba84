"""One clip decoded, in a worker: its facts, its quarantine, or a failure that is not its own."""

import shutil
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from frnr_assets.corpus.places import look_at
from frnr_assets.corpus.store import replacing
from frnr_assets.engine.outcomes import Clip, ReferenceDone, ReferenceFailed
from frnr_assets.engine.rows import (
    is_current,
    quarantine_row,
    reference_identity,
    reference_of,
    reference_row,
    working_now,
)
from frnr_assets.media.decode import KEPT_FILES, KeptFormat, decode_reference
from frnr_assets.media.pool import Step
from frnr_assets.media.process import ToolFailed, disk_full
from frnr_assets.media.source import ClipUnusable, Fingerprint, fingerprint
from frnr_assets.media.sweep import fresh_folder
from frnr_assets.media.toolchain import Toolchain


def decode_clip(
    clip: Clip,
    known: Mapping[str, Any] | None,
    toolchain: Toolchain,
    place: Path,
    *,
    keep: KeptFormat | None,
    kept: Path | None,
) -> ReferenceDone | ReferenceFailed:
    """Decode one clip, in a worker.

    Args:
        clip: the clip.
        known: its row, if it has one.
        toolchain: the worker's tools.
        place: where its scratch folder may be.
        keep: the format in which the reference is kept; None for not.
        kept: where it is kept.

    Raises:
        OSError: a full disk; no part of a kept reference is left behind.
    """
    found = None
    folder: Path | None = None
    try:
        found = fingerprint(clip.src, toolchain.rules)
        identity = reference_identity(found.sha256, toolchain)
        # Size and time are part of the row: they are what later runs compare first.
        today = {
            "src": str(clip.src),
            "identity": identity,
            "size_bytes": found.size_bytes,
            "mtime_ns": found.mtime_ns,
            "file_state": found.file_state,
            "kept_path": None if kept is None else str(kept),
        }
        if known is not None and is_current(known, found.sha256, toolchain) and _is_kept(kept, known, toolchain):
            return ReferenceDone({**known, **today}, reused=True)
        folder = fresh_folder(place)
        reference = decode_reference(
            clip.src,
            found,
            ffmpeg=toolchain.ffmpeg,
            encoder=toolchain.settings.encoder,
            runner=toolchain.runner,
            limits=toolchain.limits,
            rules=toolchain.rules,
            scratch=folder,
            keep=keep,
        )
        if kept is not None and keep is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            # Across file systems this is a copy, and half of one must never be taken for the reference.
            with replacing(kept) as temporary:
                shutil.move(folder / KEPT_FILES[keep], temporary)
    except ClipUnusable as error:
        return ReferenceDone(_unusable(clip, error, found, known, toolchain.conditions), reused=False)
    except ToolFailed as error:
        if error.disk_full:
            raise disk_full(clip.src) from error
        return _failed(clip, error, found)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return ReferenceDone(reference_row(clip.key, clip.src, reference, toolchain, kept), reused=False)


def _is_kept(kept: Path | None, known: Mapping[str, Any], toolchain: Toolchain) -> bool:
    """Tell whether the reference is kept as it is wanted: in the working format of this encoder."""
    if kept is None:
        return True
    reference = reference_of(known)
    return kept.exists() and reference.working == working_now(reference, toolchain)


def decoded(clip: Clip, future: Future[ReferenceDone | ReferenceFailed]) -> Step[ReferenceDone | ReferenceFailed]:
    """Return what a finished ``decode_clip`` comes to.

    Raises:
        OSError: a full disk.
    """
    failure = future.exception()
    # Where the work was to be done may fail as well.
    return Step((_failed(clip, failure) if isinstance(failure, ToolFailed) else future.result(),))


def _failed(clip: Clip, error: ToolFailed, found: Fingerprint | None = None) -> ReferenceFailed:
    sha256 = None if found is None else found.sha256
    return ReferenceFailed(clip.key, error.reason, error.detail, error.tool_ran, sha256)


def _unusable(
    clip: Clip, error: ClipUnusable, found: Fingerprint | None, known: Mapping[str, Any] | None, conditions: str
) -> dict[str, Any]:
    """Return the quarantine of a clip, which counts the runs that tried this very file."""
    state = found or look_at(clip.src)
    file = {} if state is None else {"size_bytes": state.size_bytes, "mtime_ns": state.mtime_ns}
    tried_before = known is not None and bool(file) and file.items() <= known.items()
    attempts = 1 + ((known["attempts"] or 0) if known is not None and tried_before else 0)
    sha256 = {"src_sha256": found.sha256} if found else {}
    output = error.tool_output or None
    return quarantine_row(
        clip.key,
        clip.src,
        error.reason,
        tool_output=output,
        attempts=attempts,
        file={**file, **sha256},
        conditions=conditions,
    )
