"""What comes out of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from frnr_assets.media.sweep import CellFailed

Outcome = Literal["done", "reused", "quarantined", "failed"]


@dataclass(frozen=True)
class Clip:
    """A clip as the manifest has it.

    Attributes:
        key: clip key.
        src: the uploaded file.
        mos: crowd MOS, or None.
    """

    key: str
    src: Path
    mos: float | None


@dataclass(frozen=True)
class ReferenceDone:
    """A clip whose facts, or whose quarantine, are durable.

    Attributes:
        row: its row in the references table.
        reused: whether the row was there already.
    """

    row: Mapping[str, Any]
    reused: bool

    @property
    def clip(self) -> str:
        """Clip key."""
        return str(self.row["clip"])

    @property
    def outcome(self) -> Outcome:
        """How it went, in one word."""
        return "quarantined" if self.quarantine_reason else "reused" if self.reused else "done"

    @property
    def quarantine_reason(self) -> str | None:
        """Why the clip cannot be used; None when it can."""
        reason: str | None = self.row.get("quarantine_reason")
        return reason


@dataclass(frozen=True)
class ReferenceFailed:
    """A clip that was not decoded, through no fault of its own: trying again may help.

    Attributes:
        clip: clip key.
        reason: one sentence.
        detail: reason, command ready to paste, exit status and the tail of the tool's log.
        tool_ran: whether a program ran on the clip and failed, rather than something around it.
        src_sha256: hash of its file, as far as it is known.
    """

    clip: str
    reason: str
    detail: str
    tool_ran: bool
    src_sha256: str | None = None


@dataclass(frozen=True)
class CellDone:
    """A cell whose row is durable.

    Attributes:
        row: its row in the feature_rows table.
        reused: whether a row of the same identity was there already.
    """

    row: Mapping[str, Any]
    reused: bool

    @property
    def clip(self) -> str:
        """Clip key."""
        return str(self.row["clip"])

    @property
    def outcome(self) -> Outcome:
        """How it went, in one word."""
        return "reused" if self.reused else "done"

    @property
    def crf(self) -> int:
        """The CRF."""
        return int(self.row["crf"])


@dataclass(frozen=True)
class CellQuarantined:
    """A cell of a clip that is in quarantine: it has no row, and that is not a failure.

    Attributes:
        clip: clip key.
        crf: the CRF.
        reason: why the clip is in quarantine.
        reference: the clip's new row in the references table, if it is this cell that put it into quarantine.
    """

    clip: str
    crf: int
    reason: str
    reference: ReferenceDone | None = None
    outcome: Outcome = "quarantined"


CellOutcome = CellDone | CellFailed | CellQuarantined
