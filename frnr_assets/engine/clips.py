"""Clips from end to end: decoded, then measured, block by block."""

from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice

from frnr_assets.engine.batch import Engine
from frnr_assets.engine.outcomes import CellOutcome, Clip, ReferenceDone, ReferenceFailed

# Cores idle at a block's end for about half an encode, so a block has many encodes for each core.
_CLIPS_PER_CORE, _LEAST_CLIPS = 16, 100


def measure_clips(
    engine: Engine,
    clips: Iterable[Clip],
    crf_sweep: Sequence[int],
    *,
    run_id: str,
    waiting: Callable[[], None] = lambda: None,
) -> Generator[ReferenceDone | ReferenceFailed | CellOutcome, None, None]:
    """Decode clips and measure the sweep of those that can be used, yielding what becomes of each as it is durable.

    Args:
        engine: the engine.
        clips: the clips; a block of them is taken at a time.
        crf_sweep: the CRFs.
        run_id: for the rows.
        waiting: called now and then while nothing happens.

    Raises:
        OSError: the disk is full or a table cannot be written; what was yielded is durable.
    """
    size = max(_LEAST_CLIPS, _CLIPS_PER_CORE * engine.pool.cores)
    remaining = iter(clips)
    while block := {clip.key: clip for clip in islice(remaining, size)}:
        usable = set()
        for done in engine.decode_references(list(block.values()), waiting=waiting):
            yield done
            if isinstance(done, ReferenceDone) and not done.quarantine_reason:
                usable.add(done.clip)
        # In the order in which they came, whichever was decoded first.
        cells = {clip: crf_sweep for key, clip in block.items() if key in usable}
        yield from engine.measure_cells(cells, run_id=run_id, waiting=waiting)
