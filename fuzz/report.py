"""What is said of a campaign at its end, and what is kept of those that did wrong."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from fuzz.trial import Outcome

# As many of one sort as a person reads.
_LISTED = 30
_COLUMNS = ("rows", "ClipUnusable", "ToolFailed", "other")


def report(outcomes: Sequence[Outcome]) -> str:
    """Return the tables of a campaign."""
    return "\n".join(_lines(outcomes))


def _lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield _row("clip", _COLUMNS)
    yield from _table(outcomes, lambda outcome: (outcome.mutation.clip,))
    yield ""
    yield _row("rules", _COLUMNS)
    yield from _table(outcomes, lambda outcome: (outcome.rules,))
    yield _row("all", _counts(outcomes))
    yield ""
    yield _row("kind of damage, alone or among others", _COLUMNS)
    yield from _table(outcomes, lambda outcome: outcome.mutation.kinds)
    yield from _sorts("refusals", (outcome for outcome in outcomes if outcome.stage != "row"))
    harsh = (outcome for outcome in outcomes if outcome.harsh)
    yield from _sorts("refusals of what a plain decode finds nothing wrong with", harsh)
    yield from _listed("tools ended by a signal", (outcome for outcome in outcomes if outcome.signal is not None))
    yield from _listed("tools stopped for their time limit", (outcome for outcome in outcomes if outcome.timed_out))
    failed = (outcome for outcome in outcomes if outcome.refusal == "ToolFailed")
    yield from _listed("refusals that blame something else than the clip", failed)
    if outcomes:
        slowest = max(outcomes, key=lambda outcome: outcome.wall_s)
        hungriest = max(outcomes, key=lambda outcome: outcome.peak_bytes)
        yield ""
        yield f"longest: {slowest.wall_s:.1f} s, {slowest.mutation.title}"
        yield f"largest: {hungriest.peak_bytes >> 20} MiB, {hungriest.mutation.title}"
    yield from _listed("offenders", (outcome for outcome in outcomes if outcome.offences))


def _row(name: str, cells: Iterable[object]) -> str:
    return f"{name:<40}" + "".join(f"{cell!s:>14}" for cell in cells)


def _table(outcomes: Sequence[Outcome], names_of: Callable[[Outcome], Iterable[str]]) -> Iterator[str]:
    sorted_out: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        for name in dict.fromkeys(names_of(outcome)):
            sorted_out.setdefault(name, []).append(outcome)
    for name in sorted(sorted_out):
        yield _row(name, _counts(sorted_out[name]))


def _counts(outcomes: Sequence[Outcome]) -> list[str]:
    found = Counter("rows" if outcome.stage == "row" else outcome.refusal for outcome in outcomes)
    counts = [found[column] for column in _COLUMNS[:-1]]
    counts.append(found.total() - sum(counts))
    return [f"{count} ({100 * count / max(1, len(outcomes)):.0f} %)" for count in counts]


def _sorts(what: str, outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Count refusals by sort, the most frequent first, and name an example of each."""
    found = list(outcomes)
    sorts = Counter(map(_sort_of, found))
    examples = {_sort_of(outcome): outcome.mutation.number for outcome in found}
    yield ""
    yield f"{len(found)} {what}, of {len(sorts)} sorts"
    for sort, count in sorts.most_common(_LISTED):
        yield f"{count:>6}  {sort} (such as number {examples[sort]})"


def _sort_of(outcome: Outcome) -> str:
    """Return a refusal without what is different each time."""
    reason = re.sub(r"0x[0-9a-fA-F]+|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", "#", outcome.reason)
    return f"{outcome.refusal} at {outcome.stage}: {reason[:150]}"


def _listed(what: str, outcomes: Iterable[Outcome]) -> Iterator[str]:
    found = list(outcomes)
    yield ""
    yield f"{len(found)} {what}"
    for outcome in found[:_LISTED]:
        yield f"  {outcome.mutation.title}"
        yield f"    {'; '.join(outcome.offences) or f'{outcome.stage}: {outcome.reason}'}"


def keep_offender(outcome: Outcome, folder: Path) -> Path:
    """Write the damaged clip to a folder, and beside it what was wrong; return the clip's path."""
    folder.mkdir(parents=True, exist_ok=True)
    mutation = outcome.mutation
    path = folder / f"{mutation.seed}-{mutation.number}-{mutation.clip}"
    path.write_bytes(mutation.data)
    said = (mutation.title, *outcome.offences, f"{outcome.stage}: {outcome.reason}", outcome.detail)
    path.with_name(f"{path.name}.txt").write_text("\n".join(said) + "\n")
    return path
