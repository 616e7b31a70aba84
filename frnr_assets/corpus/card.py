"""The dataset card: what a published corpus is, for whoever finds it without this platform."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from frnr_assets.corpus.contracts import FR_CONTRACT, Contract
from frnr_assets.corpus.publish import Publication, version_files
from frnr_assets.corpus.sources import PARTS
from frnr_assets.corpus.store import replacing, to_polars
from frnr_assets.words import harmless, markdown

NOT_DECLARED = "not declared"
_SHOWN_SIZES = 10
_REFERENCES = {True: "uploads", False: "masters"}
_INTRODUCTION = """\
Full-reference rows for training predictors of VMAF: each is one clip, re-encoded at one CRF, with its VMAF and the
features that VMAF is made of, against the clip as it was before. The columns are those of vmaf-tune's corpus rows,
schema version 3, then `nr_source`, `nr_mos` and `fr_from_nr`; each has its description in the files."""
_PROVENANCE = """\
{sources} `src` is the file, `src_sha256` its hash, `nr_mos` its MOS, passed through unchanged
(null where there is none); `fr_from_nr` says whether the reference is a decoded upload. The split is by source, so that
no source is both trained and tested on. The datasets come under licences of their own:"""
_LOADING = """\
```python
from frnr_assets import load_corpus

train = load_corpus("<data root>", "{corpus}", version="{version}", split="train").collect()
```

Or, without that package, with whatever reads Parquet: the rows are `{corpus}/versions/{version}/crf=*/*.parquet`, and
split and weight of their sources `{corpus}/sources/{version}.parquet`, to be joined on `src`."""
_COMMANDS = """\
The commands, for one upload of this version: its decode, an encode of each encoder and preset, and its score, as they
are configured now. SOURCE is the upload, SCRATCH a folder. The encodes of a sweep differ in their CRF only; those of a
clip are scored together."""
_SPREAD = {
    "mean": pl.Expr.mean,
    "lowest": pl.Expr.min,
    "10 %": lambda values: values.quantile(0.1, "linear"),
    "median": pl.Expr.median,
    "90 %": lambda values: values.quantile(0.9, "linear"),
    "highest": pl.Expr.max,
}


@dataclass(frozen=True)
class Background:
    """What is known of a corpus beside its rows.

    Attributes:
        licences: of the datasets that declare one, by name.
        quarantined: clips in quarantine, by name of their dataset.
        commands: those that rows were made with; empty when nobody knows them.
    """

    licences: Mapping[str, str] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    commands: Sequence[str] = ()


def write_card(
    publication: Publication,
    rows: pl.DataFrame,
    background: Background,
    path: Path,
    contract: Contract = FR_CONTRACT,
) -> None:
    """Write the card of a version, durably and at once.

    Args:
        publication: the version.
        rows: its rows, with the columns of the contract.
        background: what is known beside them.
        path: the file.
        contract: what the corpus promises.

    Raises:
        OSError: the disk is full or the folder is not writable; the card is as it was.
    """
    with replacing(path) as temporary:
        temporary.write_text(dataset_card(publication, rows, background, contract), encoding="utf-8")


def dataset_card(
    publication: Publication, rows: pl.DataFrame, background: Background, contract: Contract = FR_CONTRACT
) -> str:
    """Return the card of a version as Markdown; what others wrote is shown in it and not rendered.

    Args:
        publication: the version.
        rows: its rows, with the columns of the contract.
        background: what is known beside them.
        contract: what the corpus promises.
    """
    corpus, version = publication.path.parent.parent.name, publication.path.name
    sources = to_polars(publication.sources)
    measured = rows.select("src", "encoder", "preset", "crf", "width", "height", "duration_s")
    first = measured.sort("src", "encoder", "preset", "crf").unique("src", keep="first")
    facts = first.select("src", "width", "height", "duration_s").join(sources.select("src", "dataset"), on="src")
    sections = [
        f"# {corpus}",
        f"> **The caveat.** {contract.caveat}",
        _INTRODUCTION,
        f"This is version `{version}`.",
        "## Counts",
        f"{len(sources.filter(pl.col('clip') != ''))} clips, {len(rows)} rows, {len(sources)} sources, "
        f"{sum(background.quarantined.values())} more in quarantine, without rows.",
        _table(_counts(sources, background)),
        "## Distributions",
        "VMAF (0 to 100) by CRF:",
        _table(_spread(rows, "crf", "vmaf_score")),
        "Bitrate (kbit/s) by CRF:",
        _table(_spread(rows, "crf", "bitrate_kbps")),
        "MOS by dataset, of the sources that have one:",
        _table(_spread(sources.filter(pl.col("nr_mos").is_not_null()), "dataset", "nr_mos")),
        "Duration (s) by dataset, of the sources:",
        _table(_spread(facts, "dataset", "duration_s")),
        "Geometry, of the sources, as they were encoded and scored:",
        _table(_sizes(facts)),
        "## Provenance",
        _PROVENANCE.format(sources=contract.provenance),
        _table(_licences(sources, background)),
        "## Loading",
        _LOADING.format(corpus=corpus, version=version),
        "## How it was made",
        _table([{"what": name, "version": value} for name, value in _versions(publication.path).items()]),
    ]
    if background.commands:
        sections += [_COMMANDS, "```sh\n" + "\n".join(map(harmless, background.commands)) + "\n```"]
    return "\n\n".join(sections) + "\n"


def _counts(sources: pl.DataFrame, background: Background) -> list[dict[str, Any]]:
    found: dict[str, dict[str, str | int]] = {}
    for (dataset,), of_dataset in sources.partition_by("dataset", as_dict=True).items():
        parts = dict(of_dataset["split"].value_counts().iter_rows())
        found[dataset] = {
            "references": " and ".join(
                _REFERENCES[stratum] for stratum in sorted(of_dataset["fr_from_nr"].unique(), reverse=True)
            ),
            "sources": len(of_dataset),
            "rows": int(of_dataset["rows"].sum()),
            **{part: parts.get(part, 0) for part in PARTS},
        }
    none: dict[str, str | int] = {"references": "", **dict.fromkeys(("sources", "rows", *PARTS), 0)}
    names = sorted({*found, *background.quarantined})
    return [
        {"dataset": name, **found.get(name, none), "in quarantine": background.quarantined.get(name, 0)}
        for name in names
    ]


def _spread(frame: pl.DataFrame, by: str, column: str) -> list[dict[str, Any]]:
    values = {label: of(pl.col(column)) for label, of in _SPREAD.items()}
    return frame.group_by(by).agg(number=pl.len(), **values).sort(by).to_dicts()


def _sizes(facts: pl.DataFrame) -> list[dict[str, Any]]:
    counted = facts.group_by("width", "height").len().sort("len", "width", "height", descending=True)
    shown = [
        {"width x height": f"{width} x {height}", "sources": number}
        for width, height, number in counted.head(_SHOWN_SIZES).iter_rows()
    ]
    others = counted.slice(_SHOWN_SIZES)
    more = {"width x height": f"{len(others)} others", "sources": others["len"].sum()}
    return [*shown, more] if len(others) else shown


def _licences(sources: pl.DataFrame, background: Background) -> list[dict[str, Any]]:
    names = sources["dataset"].unique().sort()
    return [{"dataset": name, "licence": background.licences.get(name, NOT_DECLARED)} for name in names]


def _versions(version: Path) -> dict[str, str]:
    found = pq.read_schema(version_files(version)[0]).metadata or {}
    metadata = {name.decode(): value.decode() for name, value in found.items()}
    return {name.replace("_", " "): value for name, value in metadata.items() if name not in {"caveat", "rows"}}


def _table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table with the columns of the first line; None of no lines."""
    if not lines:
        return "None."
    head = [f"| {' | '.join(lines[0])} |", f"|{'---|' * len(lines[0])}"]
    return "\n".join([*head, *(f"| {' | '.join(map(_cell, line.values()))} |" for line in lines)])


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else markdown(str(value))
