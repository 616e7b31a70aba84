"""Saying where a batch is, and what went wrong in it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import dagster as dg

from frnr_assets.engine.outcomes import Outcome
from frnr_assets.words import code_span, harmless, harmless_lines

INTERVAL_S = 10.0
_REASONS = 3


@dataclass
class Progress:
    """Counts of a batch, told at steady intervals.

    Attributes:
        what: the plural of what is counted.
        total: how many there are.
        log: where a line goes.
    """

    what: str
    total: int
    log: Callable[[str], None]
    counts: dict[Outcome, int] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)
    _told: float = field(default_factory=time.monotonic)

    def count(self, outcome: Outcome, number: int = 1) -> None:
        """Count some."""
        self.counts[outcome] = self.counts.get(outcome, 0) + number
        self.tick()

    def tick(self) -> None:
        """Tell where the batch is when it is time to."""
        if time.monotonic() - self._told >= INTERVAL_S:
            self.tell()

    def tell(self) -> None:
        """Log one line: how many of how many, how fast, how much longer."""
        self._told = time.monotonic()
        elapsed = max(self._told - self._started, 1e-3)
        made = self.counts.get("done", 0) + self.counts.get("failed", 0)
        finished = sum(self.counts.values())
        parts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.counts.items()))
        line = f"{finished} of {self.total} {self.what}: {parts or 'none yet'}"
        if made:
            line += f"; {made / elapsed:.2f}/s"
        if made and finished < self.total:
            left = timedelta(seconds=round((self.total - finished) * elapsed / made))
            line += f", about {left} left"
        self.log(line)


def failure(what: str, total: int, reasons: Mapping[str, str]) -> dg.Failure:
    """Return the one readable message of a batch in which some failed: how many, which, the first reasons."""
    first = "\n".join(harmless(f"{key}: {reason}") for key, reason in list(reasons.items())[:_REASONS])
    more = f"\nand {len(reasons) - _REASONS} more, each with its command in the log" if len(reasons) > _REASONS else ""
    return dg.Failure(
        description=f"{len(reasons)} of {total} {what} failed; the others are recorded.\n{first}{more}",
        metadata={f"failed {what}": dg.MetadataValue.md("\n".join(f"- {code_span(key)}" for key in reasons))},
        # Trying again at once would fail again; "From failure" and backfills do only what is missing.
        allow_retries=False,
    )


def refusal(message: str) -> dg.Failure:
    """Return the failure of a run that cannot go on until somebody mends what the message says."""
    return dg.Failure(description=harmless_lines(message), allow_retries=False)
