"""Measuring many cells of many clips: encode, score, hand over, delete, with every core busy."""

import errno
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from frnr_assets.media.encode import Distortion, encode_distortion, encode_memory_bytes
from frnr_assets.media.pool import Step, Work, WorkPool
from frnr_assets.media.process import ToolFailed
from frnr_assets.media.reference import Excerpt, Reference
from frnr_assets.media.score import Score, score_distortions
from frnr_assets.media.source import ClipUnusable
from frnr_assets.media.toolchain import Toolchain
from frnr_assets.media.vmaf_backends import score_memory_bytes

# Part of every row's identity. Raise it when the same inputs would give other values.
RECIPE_VERSION = "2"

# Scores go before encodes, so that the encodes waiting on disk are few.
_SCORE_FIRST, _ENCODE_AFTER = 0, 1


@dataclass(frozen=True)
class SweepRequest:
    """Cells of one clip to measure.

    Attributes:
        clip: clip key.
        source: the uploaded file.
        reference: its facts.
        crfs: the CRFs, without repetition.
        kept: encodes that are there already, by CRF; they are only scored, and not deleted.
    """

    clip: str
    source: Path
    reference: Reference
    crfs: tuple[int, ...]
    kept: Mapping[int, Distortion] = field(default_factory=dict)


@dataclass(frozen=True)
class CellMeasured:
    """A cell that was encoded and scored; the encode is deleted when the consumer asks for the next cell.

    Attributes:
        clip: clip key.
        crf: the CRF.
        reference: the clip's facts.
        part: the frames that were encoded and scored.
        distortion: the encode.
        score: its scores.
    """

    clip: str
    crf: int
    reference: Reference
    part: Excerpt
    distortion: Distortion
    score: Score


@dataclass(frozen=True)
class CellFailed:
    """A cell that could not be measured.

    Attributes:
        clip: clip key.
        crf: the CRF.
        reason: one sentence, with the tool's own words.
        detail: reason, command ready to paste, exit status and the tail of the tool's log.
        disk_full: whether a full disk was the reason.
        tool_ran: whether a program ran on the clip and failed, rather than something around it.
    """

    clip: str
    crf: int
    reason: str
    detail: str
    disk_full: bool = False
    tool_ran: bool = False


CellOutcome = CellMeasured | CellFailed


def measure_sweeps(
    requests: Sequence[SweepRequest], *, toolchain: Toolchain, pool: WorkPool, scratch: Path
) -> Iterator[tuple[CellOutcome, ...]]:
    """Start measuring cells, and iterate over them as they are done: each exactly once, those done together together.

    Each encode is a piece of work, and so is the scoring of a clip's encodes together; when cores would idle at the
    end, a scoring is split. If a scoring of several cells fails, each is scored alone, so that a cell's failure is
    its own.

    Args:
        requests: the cells, by clip; the clips go in this order.
        toolchain: tools and settings.
        pool: the cores and memory to use.
        scratch: a folder of this call's own.
    """
    sweeps = [_Sweep(index, request, toolchain, scratch / str(index)) for index, request in enumerate(requests)]
    return _tidied(pool.run([work for sweep in sweeps for work in sweep.start()]), scratch)


def _tidied(batches: Iterator[tuple[CellOutcome, ...]], scratch: Path) -> Iterator[tuple[CellOutcome, ...]]:
    """Delete the encodes of a batch of outcomes when the next is asked for."""
    for outcomes in batches:
        yield outcomes
        for outcome in outcomes:
            if isinstance(outcome, CellMeasured) and outcome.distortion.path.is_relative_to(scratch):
                # With what an attempt has left that was given up; one may still write for a moment.
                shutil.rmtree(outcome.distortion.path.parents[1], ignore_errors=True)


@dataclass
class _Sweep:
    index: int
    request: SweepRequest
    toolchain: Toolchain
    scratch: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _encoded: dict[int, Distortion] = field(default_factory=dict)
    _unfinished: int = 0
    _scorings: int = 0

    def start(self) -> list[Work[CellOutcome]]:
        self._encoded = dict(self.request.kept)
        to_encode = [crf for crf in self.request.crfs if crf not in self._encoded]
        if not to_encode:
            return [self._score(tuple(sorted(self._encoded)))]
        self._unfinished = len(to_encode)
        working = self.request.reference.working
        settings = self.toolchain.settings
        memory_bytes = encode_memory_bytes(working.frame_bytes, settings.preset, settings.encoder)
        return [
            Work(
                task=partial(_encode, self.request, crf, self.toolchain, self.scratch / f"crf{crf}"),
                finish=partial(self._encode_finished, crf),
                # A low CRF takes longest: first, so that the clip's encodes end together.
                rank=(_ENCODE_AFTER, self.index, crf),
                memory_bytes=memory_bytes,
            )
            for crf in to_encode
        ]

    def _encode_finished(self, crf: int, future: Future[Distortion]) -> Step[CellOutcome]:
        failure = future.exception()
        with self._lock:
            self._unfinished -= 1
            if failure is None:
                self._encoded[crf] = future.result()
            then = (self._score(tuple(sorted(self._encoded))),) if not self._unfinished and self._encoded else ()
        return Step((self._failed(crf, failure),) if failure else (), then)

    def _score(self, crfs: tuple[int, ...]) -> Work[CellOutcome]:
        working = self.request.reference.working
        self._scorings += 1
        distortions = {crf: self._encoded[crf].path for crf in crfs}
        folder = self.scratch / f"score{self._scorings}"
        return Work(
            task=partial(_score, self.request, distortions, self.toolchain, folder),
            finish=partial(self._score_finished, crfs),
            rank=(_SCORE_FIRST, self.index),
            memory_bytes=score_memory_bytes(working.frame_bytes, len(crfs), self.toolchain.vmaf),
            split=partial(self._split, crfs) if len(crfs) > 1 else None,
        )

    def _split(self, crfs: tuple[int, ...], pieces: int) -> list[Work[CellOutcome]]:
        pieces = min(pieces, len(crfs))
        with self._lock:
            return [self._score(crfs[piece::pieces]) for piece in range(pieces)]

    def _score_finished(self, crfs: tuple[int, ...], future: Future[list[Score]]) -> Step[CellOutcome]:
        failure = future.exception()
        request = self.request
        if failure is None and not request.reference.fingerprint.holds_if_there(request.source):
            failure = ToolFailed("the source changed while it was measured")
        if failure is None:
            scores = zip(crfs, future.result(), strict=True)
            clip, reference = request.clip, request.reference
            part = self.toolchain.settings.part_of(reference)
            return Step(
                tuple(CellMeasured(clip, crf, reference, part, self._encoded[crf], score) for crf, score in scores)
            )
        if len(crfs) > 1 and isinstance(failure, ToolFailed) and failure.result is not None:
            return Step(then=tuple(self._split(crfs, len(crfs))))
        return Step(tuple(self._failed(crf, failure) for crf in crfs))

    def _failed(self, crf: int, failure: BaseException) -> CellFailed:
        if not isinstance(failure, ToolFailed | ClipUnusable | OSError):
            raise failure
        shutil.rmtree(self.scratch / f"crf{crf}", ignore_errors=True)
        if isinstance(failure, ToolFailed):
            return CellFailed(
                self.request.clip, crf, failure.reason, failure.detail, failure.disk_full, failure.tool_ran
            )
        disk_full = isinstance(failure, OSError) and failure.errno == errno.ENOSPC
        return CellFailed(self.request.clip, crf, str(failure), str(failure), disk_full)


def fresh_folder(place: Path) -> Path:
    """Make a folder for one attempt at a piece of work: another, that was given up, may still work in its own.

    Args:
        place: where it is made; folders above it are made as well.
    """
    folder = place / uuid.uuid4().hex
    folder.mkdir(parents=True)
    return folder


def _encode(request: SweepRequest, crf: int, toolchain: Toolchain, place: Path) -> Distortion:
    folder = fresh_folder(place)
    return encode_distortion(
        request.source,
        request.reference,
        crf,
        settings=toolchain.settings,
        ffmpeg=toolchain.ffmpeg,
        runner=toolchain.runner,
        limits=toolchain.limits,
        rules=toolchain.rules,
        scratch=folder,
    )


def _score(request: SweepRequest, distortions: dict[int, Path], toolchain: Toolchain, place: Path) -> list[Score]:
    folder = fresh_folder(place)
    try:
        return score_distortions(
            request.source,
            request.reference,
            list(distortions.values()),
            part=toolchain.settings.part_of(request.reference),
            vmaf=toolchain.vmaf,
            ffmpeg=toolchain.ffmpeg,
            runner=toolchain.runner,
            limits=toolchain.limits,
            rules=toolchain.rules,
            scratch=folder,
        )
    finally:
        shutil.rmtree(folder)
