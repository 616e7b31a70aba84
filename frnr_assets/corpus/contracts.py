"""The two kinds of corpora that are published: what their rows have to be, and what a reader has to know."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import polars as pl
import pyarrow as pa

from frnr_assets.corpus.findings import Finding, mixed_errors, mixed_errors_across, row_errors
from frnr_assets.corpus.schema import MIXED_ROW_SCHEMA, ROW_SCHEMA
from frnr_assets.vocabulary import CAVEAT, MIXED_CAVEAT


class Rules(Protocol):
    """Judges a file of a corpus, the rows of one CRF, as it is on disk, before anybody else sees it."""

    def __call__(
        self, schema: pa.Schema, rows: pl.DataFrame, *, published: int, mos_scale: tuple[float, float]
    ) -> list[Finding]:
        """Return what forbids its publication."""


def _none(rows: pl.DataFrame) -> list[Finding]:  # noqa: ARG001 - a rule is given the rows
    return []


@dataclass(frozen=True)
class Contract:
    """What a published corpus promises.

    Attributes:
        schema: its columns.
        errors: the rules that each of its files keeps.
        errors_across: the rules on the sources of all files, given their src, src_sha256 and fr_from_nr.
        caveat: what stands wherever the rows do.
        provenance: where its sources come from, for the dataset card.
    """

    schema: pa.Schema
    errors: Rules
    caveat: str
    provenance: str
    errors_across: Callable[[pl.DataFrame], list[Finding]] = _none


FR_CONTRACT: Final = Contract(
    schema=ROW_SCHEMA,
    errors=row_errors,
    caveat=CAVEAT,
    provenance="Sources are crowd-rated uploads; `fr_from_nr` is always true.",
)
MIXED_CONTRACT: Final = Contract(
    schema=MIXED_ROW_SCHEMA,
    errors=mixed_errors,
    caveat=MIXED_CAVEAT,
    provenance="Sources are crowd-rated uploads (`fr_from_nr` true) and masters of full-reference datasets (false), "
    "whose rows were measured elsewhere and taken over as they are.",
    errors_across=mixed_errors_across,
)
