"""Batches: references decoded and cells measured, each durable before it is reported."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from frnr_assets.corpus.places import look_at
from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets.engine.attempts import AttemptLog
from frnr_assets.engine.decoding import decode_clip, decoded
from frnr_assets.engine.encodes import EncodeShelf
from frnr_assets.engine.outcomes import CellDone, CellOutcome, CellQuarantined, Clip, ReferenceDone, ReferenceFailed
from frnr_assets.engine.reuse import RowsByIdentity, known_rows, of_clips
from frnr_assets.engine.rows import (
    cell_identity,
    encode_identity,
    extra_feature_rows,
    feature_row,
    fingerprint_of,
    frame_scores_row,
    is_current,
    quarantine_row,
    reference_of,
    working_now,
)
from frnr_assets.engine.scratch import scratch_folder
from frnr_assets.media.decode import KEPT_FILES, KeptFormat
from frnr_assets.media.encode import Distortion, encode_memory_bytes
from frnr_assets.media.pool import Work, WorkPool
from frnr_assets.media.process import ToolFailed, disk_full
from frnr_assets.media.reference import Reference
from frnr_assets.media.source import ClipUnusable, fingerprint
from frnr_assets.media.sweep import CellFailed, CellMeasured, SweepRequest, measure_sweeps
from frnr_assets.media.toolchain import Toolchain
from frnr_assets.vocabulary import DEFAULT_PRESET

# A decode holds a few frames, of a size not known before the probe: that of an encode of 1080p is on the safe side.
_DECODE_MEMORY_BYTES = encode_memory_bytes(1920 * 1080 * 3 // 2, DEFAULT_PRESET)


# Reused cells that are recorded between two looks at what the cores have finished.
_DECIDED_AT_ONCE = 20


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Engine:
    """What a batch needs. After a batch that ended early, runner and pool are called off and an engine is done with.

    Attributes:
        tables: where rows go.
        toolchain: tools and settings.
        pool: cores and memory.
        keep_encodes: keep encodes on a shelf, and score from it.
        keep_reference: keep the decoded references in this format; None for not.
        per_frame_scores: keep the scores of every frame, in a table of their own.
    """

    tables: Tables
    toolchain: Toolchain
    pool: WorkPool
    keep_encodes: bool = False
    keep_reference: KeptFormat | None = None
    per_frame_scores: bool = False

    def decode_references(
        self, clips: Sequence[Clip], *, waiting: Callable[[], None] = _nothing
    ) -> Iterator[ReferenceDone | ReferenceFailed]:
        """Decode clips, yielding each once as its row becomes durable.

        A usable clip whose content, tools and recipe are the same is not decoded again; one in quarantine is. A clip
        on which the tools failed in ``MAX_ATTEMPTS`` runs in a row goes into quarantine.

        Args:
            clips: the clips.
            waiting: called now and then while nothing happens.

        Raises:
            OSError: the disk is full or the table cannot be written; what was yielded is durable.
        """
        known = {row["clip"]: row for row in self.tables.references.read(of_clips(clips)).iter_rows(named=True)}
        attempts = AttemptLog(self.tables, (clip.key for clip in clips))
        by_key = {clip.key: clip for clip in clips}
        with self._scratch() as scratch:
            works = [
                Work(
                    task=partial(
                        decode_clip,
                        clip,
                        known.get(clip.key),
                        self.toolchain,
                        scratch / str(index),
                        keep=self.keep_reference,
                        kept=self._kept_reference(clip),
                    ),
                    finish=partial(decoded, clip),
                    rank=(index,),
                    memory_bytes=_DECODE_MEMORY_BYTES,
                )
                for index, clip in enumerate(clips)
            ]
            for outcomes in self.pool.run(works):
                waiting()
                judged = [
                    _judged(found, by_key[found.clip], attempts, self.toolchain.conditions)
                    if isinstance(found, ReferenceFailed)
                    else found
                    for found in outcomes
                ]
                done = [found for found in judged if isinstance(found, ReferenceDone)]
                changed = [found.row for found in done if found.row != known.get(found.clip)]
                if changed:
                    self.tables.references.append(changed)
                attempts.worked(found.clip for found in done if found.outcome == "done")
                yield from judged

    def _kept_reference(self, clip: Clip) -> Path | None:
        if self.keep_reference is None:
            return None
        return self.tables.kept_references / f"{clip.key}{Path(KEPT_FILES[self.keep_reference]).suffix}"

    def measure_cells(
        self,
        cells: Mapping[Clip, Sequence[int]],
        *,
        run_id: str,
        recompute: bool = False,
        waiting: Callable[[], None] = _nothing,
    ) -> Iterator[CellOutcome]:
        """Measure cells, yielding each once; a row is durable before its cell is yielded.

        Args:
            cells: the CRFs of each clip.
            run_id: for the rows.
            recompute: measure cells again although a row of the same identity is there.
            waiting: called now and then while nothing happens.

        Raises:
            OSError: the disk is full or the table cannot be written; what was yielded is durable.
        """
        facts = {row["clip"]: row for row in self.tables.references.read(of_clips(cells)).iter_rows(named=True)}
        attempts = AttemptLog(self.tables, (clip.key for clip in cells))
        known = (
            None
            if recompute
            else known_rows(self.tables, cells, self.toolchain.vmaf, per_frame_scores=self.per_frame_scores)
        )
        requests: list[SweepRequest] = []
        decided: list[CellOutcome] = []
        unmeasured: set[str] = set()
        for clip, crfs in cells.items():
            outcomes, request = self._what_is_missing(clip, crfs, facts.get(clip.key), known)
            decided += outcomes
            if request:
                requests.append(request)
        by_key = {clip.key: clip for clip in cells}
        with self._scratch() as scratch:
            batches = measure_sweeps(requests, toolchain=self.toolchain, pool=self.pool, scratch=scratch)
            for batch in batches:
                waiting()
                # A few at a time, so that neither the cores nor what they have finished wait for all of these.
                yield from decided[:_DECIDED_AT_ONCE]
                del decided[:_DECIDED_AT_ONCE]
                unmeasured.update(cell.clip for cell in batch if isinstance(cell, CellFailed))
                failed = [
                    self._judged(cell, facts[cell.clip], attempts) for cell in batch if isinstance(cell, CellFailed)
                ]
                measured = [cell for cell in batch if isinstance(cell, CellMeasured)]
                rows = [self._row(cell, by_key[cell.clip], run_id) for cell in measured]
                # Before the rows: a cell with a row is not measured again.
                self._record_beside_the_rows(measured)
                if rows:
                    self.tables.feature_rows.append(rows)
                yield from failed
                yield from (CellDone(row, reused=False) for row in rows)
                if any(isinstance(cell, CellFailed) and cell.disk_full for cell in failed):
                    # Every other cell would fail in the same way.
                    raise disk_full(scratch)
            yield from decided
        attempts.worked(request.clip for request in requests if request.clip not in unmeasured)

    def _record_beside_the_rows(self, cells: Sequence[CellMeasured]) -> None:
        """Record what was asked for of cells beyond the contract."""
        extras = [row for cell in cells for row in extra_feature_rows(cell, self.toolchain)]
        if extras:
            self.tables.extra_features.append(extras)
        if cells and self.per_frame_scores:
            self.tables.frame_scores.append([frame_scores_row(cell, self.toolchain) for cell in cells])

    def _judged(self, cell: CellFailed, facts: Mapping[str, Any], attempts: AttemptLog) -> CellOutcome:
        """Count a failed cell, and put its clip into quarantine when it has failed too often."""
        # A tool fails on a file that went away under it, too.
        is_there = look_at(Path(facts["src"])) is not None
        reason = attempts.failed(cell.clip, facts, cell.reason) if cell.tool_ran and is_there else None
        if reason is None:
            return cell
        row = quarantine_row(
            cell.clip,
            Path(facts["src"]),
            reason,
            tool_output=cell.detail,
            attempts=attempts.attempts(cell.clip),
            file={name: facts[name] for name in ("src_sha256", "size_bytes", "mtime_ns")},
            conditions=self.toolchain.conditions,
        )
        if not attempts.condemned(cell.clip):
            return CellQuarantined(cell.clip, cell.crf, reason)
        self.tables.references.append([row])
        return CellQuarantined(cell.clip, cell.crf, reason, ReferenceDone(row, reused=False))

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Lend a scratch folder; if a batch ends early, nothing works in it any more when it is deleted."""
        with scratch_folder(self.tables.scratch) as scratch:
            try:
                yield scratch
            except BaseException:
                self.toolchain.runner.cancel()
                self.pool.stop()
                raise

    def _what_is_missing(
        self, clip: Clip, crfs: Sequence[int], facts: Mapping[str, Any] | None, known: RowsByIdentity | None
    ) -> tuple[Sequence[CellOutcome], SweepRequest | None]:
        """Sort the cells of a clip into those decided already and those to measure; with no known rows, all."""
        try:
            reference = self._current_reference(clip, facts)
        except _ClipQuarantinedError as quarantine:
            return [CellQuarantined(clip.key, crf, str(quarantine)) for crf in crfs], None
        except (NotMaterialized, ClipUnusable, ToolFailed) as problem:
            return [CellFailed(clip.key, crf, str(problem), str(problem)) for crf in crfs], None
        if known is None:
            return [], SweepRequest(clip.key, clip.src, reference, tuple(crfs))
        shelved = {crf: self._shelved(clip, crf, reference) for crf in crfs} if self.keep_encodes else {}
        kept = {crf: distortion for crf, distortion in shelved.items() if distortion}
        rows = {crf: known.get((clip.key, cell_identity(reference, crf, self.toolchain))) for crf in crfs}
        reusable = {crf: row for crf, row in rows.items() if row and (crf in kept or not self.keep_encodes)}
        current = {crf: {**row, **_provenance(clip, kept.get(crf))} for crf, row in reusable.items()}
        updated = [row for crf, row in current.items() if row != reusable[crf]]
        if updated:
            self.tables.feature_rows.append(updated)
        missing = tuple(crf for crf in crfs if crf not in reusable)
        to_score = {crf: distortion for crf, distortion in kept.items() if crf in missing}
        request = SweepRequest(clip.key, clip.src, reference, missing, to_score) if missing else None
        return [CellDone(row, reused=True) for row in current.values()], request

    def _row(self, cell: CellMeasured, clip: Clip, run_id: str) -> dict[str, Any]:
        encode_path = ""
        if self.keep_encodes:
            identity = encode_identity(cell.reference, cell.crf, self.toolchain)
            kept = self._shelf.keep(cell.distortion, cell.clip, cell.crf, identity)
            cell, encode_path = replace(cell, distortion=kept), str(kept.path)
        return feature_row(cell, self.toolchain, src=clip.src, mos=clip.mos, run_id=run_id, encode_path=encode_path)

    @property
    def _shelf(self) -> EncodeShelf:
        settings = self.toolchain.settings
        return EncodeShelf(self.tables.kept_encodes / f"{settings.encoder.name}-{settings.preset}")

    def _shelved(self, clip: Clip, crf: int, reference: Reference) -> Distortion | None:
        return self._shelf.find(clip.key, crf, encode_identity(reference, crf, self.toolchain))

    def _current_reference(self, clip: Clip, facts: Mapping[str, Any] | None) -> Reference:
        """Return the facts of a clip if they are of its file as it is now and were found with these tools."""
        redo = "materialize decoded_reference for it first"
        if facts is None:
            raise NotMaterialized(f"its reference was not decoded yet; {redo}")
        if facts["quarantine_reason"] is not None:
            if facts["size_bytes"] is not None and not fingerprint_of(facts).still_holds(clip.src):
                raise NotMaterialized(f"its file changed since it was put into quarantine; {redo}")
            if facts["identity"] != self.toolchain.conditions:
                raise NotMaterialized(f"settings changed since it was put into quarantine; {redo}")
            raise _ClipQuarantinedError(facts["quarantine_reason"])
        reference = reference_of(facts)
        if not reference.fingerprint.still_holds(clip.src):
            now = fingerprint(clip.src, self.toolchain.rules)
            if now.sha256 != reference.fingerprint.sha256:
                raise NotMaterialized(f"its file was replaced since its reference was decoded; {redo}")
            reference = replace(reference, fingerprint=now)
        if not is_current(facts, reference.fingerprint.sha256, self.toolchain):
            raise NotMaterialized(f"its reference was decoded with other tools, or with damage accepted; {redo}")
        return replace(reference, working=working_now(reference, self.toolchain))


class _ClipQuarantinedError(Exception):
    pass


def _provenance(clip: Clip, shelved: Distortion | None) -> dict[str, Any]:
    """Return what a row says of its clip and its encode today; the manifest may have another path or MOS by now."""
    return {
        "src": str(clip.src),
        "nr_source": str(clip.src),
        "nr_mos": clip.mos,
        "encode_path": str(shelved.path) if shelved else "",
    }


def _judged(
    failed: ReferenceFailed, clip: Clip, attempts: AttemptLog, conditions: str
) -> ReferenceDone | ReferenceFailed:
    """Count a clip that could not be decoded, and put it into quarantine when that was so too often."""
    file = look_at(clip.src) if failed.tool_ran else None
    reason = attempts.failed(clip.key, file.content, failed.reason) if file else None
    if file is None or reason is None:
        return failed
    count = attempts.attempts(clip.key)
    found = {**file.content, "src_sha256": failed.src_sha256}
    row = quarantine_row(
        clip.key,
        clip.src,
        reason,
        tool_output=failed.detail,
        attempts=count,
        file=found,
        conditions=conditions,
    )
    return ReferenceDone(row, reused=False)
