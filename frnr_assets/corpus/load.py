"""Reading a published corpus with what a trainer wants beside its rows: dataset, split and weight of each source."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

import polars as pl

from frnr_assets.corpus.publish import CorpusMissing, crf_of, find_version, sources_file, version_files
from frnr_assets.corpus.sources import PARTS, Part
from frnr_assets.words import harmless

CorpusName = Literal["fr_corpus", "mixed_corpus"]
CORPORA: Final[tuple[CorpusName, ...]] = get_args(CorpusName)

T = TypeVar("T", str, int)


def load_corpus(
    data_root: str | Path = "data",
    corpus: CorpusName = "fr_corpus",
    *,
    version: str | None = None,
    dataset: str | Sequence[str] | None = None,
    crf: int | Sequence[int] | None = None,
    fr_from_nr: bool | None = None,
    split: Part | Sequence[Part] | None = None,
) -> pl.LazyFrame:
    """Return the rows of a published corpus: the contract's columns, then ``dataset``, ``split`` and ``weight``.

    All rows of a source are in one part of the split. The weights are such that rows made from uploads and rows of
    mastered sets weigh the same in the whole corpus, and a row 1 on average. The frame reads the version that is
    current when it is made, for as long as that is kept.

    Args:
        data_root: the ``data_root`` of frnr.toml.
        corpus: which of the published corpora.
        version: name of a version that is kept; None for the current one.
        dataset: only rows of this dataset, or of these.
        crf: only rows of this CRF, or of these; the files of others are not opened.
        fr_from_nr: only rows whose reference is a re-decoded upload (True), or a master (False).
        split: only rows of this part, or of these: train, validation, test.

    Raises:
        CorpusMissing: there is no such corpus or version, or it has no table of sources.
        ValueError: the corpus has no such dataset, CRF or part.
    """
    _refuse_unknown("corpus", [corpus], CORPORA)
    folder = find_version(Path(data_root) / "corpus" / corpus, version)
    files = {file: crf_of(file) for file in version_files(folder)}
    sources = read_sources(folder)
    wanted: list[pl.Expr] = []
    if split is not None:
        wanted.append(pl.col("split").is_in(_known("split", split, PARTS)))
    if dataset is not None:
        wanted.append(pl.col("dataset").is_in(_known("dataset", dataset, sources["dataset"].unique().sort().to_list())))
    if fr_from_nr is not None:
        wanted.append(pl.col("fr_from_nr") == fr_from_nr)
    crfs = _known("crf", crf, list(dict.fromkeys(files.values()))) if crf is not None else list(files.values())
    of_these = sources.filter(*wanted).select("src", "dataset", "split", "weight").lazy()
    # Not by a pattern: neither "[" nor "crf=18" in the path of the data root means anything.
    rows = pl.scan_parquet([file for file in files if files[file] in crfs], hive_partitioning=False, glob=False)
    return rows.join(of_these, on="src", maintain_order="left")


def read_sources(version: Path) -> pl.DataFrame:
    """Return the table of sources of a published version.

    Raises:
        CorpusMissing: it is not there, or damaged.
    """
    file = sources_file(version)
    try:
        return pl.read_parquet(file, glob=False, hive_partitioning=False)
    except (FileNotFoundError, pl.exceptions.PolarsError) as error:
        what = "is not there" if isinstance(error, FileNotFoundError) else "is damaged"
        raise CorpusMissing(
            harmless(f"{version}: its table of sources, {file}, {what}; publish the corpus again")
        ) from error


def _known(name: str, wanted: T | Sequence[T], known: Sequence[T]) -> list[T]:
    # numpy's integers are no int.
    values = list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
    if not values:
        raise ValueError(f"{name}: nothing is asked for; leave it out for everything")
    _refuse_unknown(name, values, known)
    return values


def _refuse_unknown(name: str, wanted: Sequence[object], known: Sequence[object]) -> None:
    unknown = [value for value in wanted if value not in known]
    if unknown:
        raise ValueError(harmless(f"{name}: there is no {unknown[0]!r}; there are {', '.join(map(str, known))}"))
