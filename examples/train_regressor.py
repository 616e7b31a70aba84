"""Fit a regressor from the canonical-6 and the CRF to VMAF, and judge it on sources that it has not seen.

VMAF itself is made from these features, frame by frame, so a good figure is no news about video quality. It is evidence
that the rows of a corpus belong together: that features, CRF and score of a row are of one encode, and that what is
learnt from some sources holds for others. The mean score of a CRF stands beside it: what a row's CRF alone tells.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frnr_assets.corpus.schema import FEATURE_MEANS
from frnr_assets.words import harmless

FEATURES = (*FEATURE_MEANS, "crf")
COLUMNS = ("src", "fr_from_nr", *FEATURES, "vmaf_score")
STRENGTHS = np.logspace(-3, 3, 13)

# With more sources than this, one fold for each takes long and says hardly more than a few.
MOST_FOLDS_BY_DEFAULT = 50
FOLDS_OF_MANY = 10


class RowsUnusable(ValueError):  # noqa: N818 - the name says what the rows are
    """The rows cannot be learnt from; the message names the file, the reason and what to do."""


@dataclass(frozen=True)
class Accuracy:
    """How well scores of unseen sources were predicted.

    Attributes:
        plcc: Pearson's correlation of predictions and scores; NaN where either is the same for all rows.
        srocc: Spearman's correlation; NaN as well.
        rmse: root of the mean squared error, in points of VMAF.
    """

    plcc: float
    srocc: float
    rmse: float


@dataclass(frozen=True)
class Judgement:
    """What has come of one stratum.

    Attributes:
        fr_from_nr: whether the references of its rows are re-decoded uploads.
        rows: number of rows.
        sources: number of sources.
        folds: number of parts that the sources were cut into.
        regressor: accuracy of the regressor.
        baseline: accuracy of the mean score of a row's CRF.
    """

    fr_from_nr: bool
    rows: int
    sources: int
    folds: int
    regressor: Accuracy
    baseline: Accuracy


def read_rows(path: Path) -> pl.DataFrame:
    """Read what is needed of rows.

    Args:
        path: a published corpus (a folder of Parquet files), or a Parquet or JSON Lines file of ``frnr extract``.

    Returns:
        ``COLUMNS``, a row for each cell.

    Raises:
        RowsUnusable: it is not there, is none of these, or lacks columns or values.
    """
    if not path.exists():
        raise RowsUnusable(
            f"{path}: there is no such file or folder; give a published corpus or a file of frnr extract"
        )
    if (path / "current").is_symlink():
        path /= "current"
    try:
        if path.suffix == ".jsonl":
            rows = pl.read_ndjson(path, infer_schema_length=None)
        else:
            rows = pl.read_parquet(path / "**" / "*.parquet" if path.is_dir() else path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise RowsUnusable(f"{path}: neither Parquet nor JSON Lines ({reason}); give one of these") from error
    lacking = [name for name in COLUMNS if name not in rows.columns]
    if lacking:
        raise RowsUnusable(f"{path}: no column {', '.join(lacking)}; give rows that have all of {', '.join(COLUMNS)}")
    empty = [name for name in COLUMNS if rows[name].null_count()]
    if empty:
        raise RowsUnusable(f"{path}: some rows have no {', '.join(empty)}; leave those out")
    return rows.select(COLUMNS)


def judge(rows: pl.DataFrame, folds: int | None = None) -> Iterator[Judgement]:
    """Fit and judge in each stratum of ``fr_from_nr`` on its own: absolute scores of the two do not compare.

    All rows of a source (``src``) are predicted together, by what was fitted to rows of other sources.

    Args:
        rows: with ``COLUMNS``.
        folds: parts that the sources of a stratum are cut into, at least 2; None for a source each, or
            ``FOLDS_OF_MANY`` where there are more than ``MOST_FOLDS_BY_DEFAULT`` sources.

    Raises:
        RowsUnusable: a stratum has fewer sources than folds, or only one.
    """
    for (from_nr,), stratum in rows.sort("fr_from_nr", descending=True).group_by("fr_from_nr", maintain_order=True):
        sources = stratum["src"].n_unique()
        parts = folds or (sources if sources <= MOST_FOLDS_BY_DEFAULT else FOLDS_OF_MANY)
        if sources < max(parts, 2):
            raise RowsUnusable(
                f"with fr_from_nr {str(from_nr).lower()} the number of sources is {sources}, and {max(parts, 2)} are "
                "needed; give more rows or fewer folds"
            )
        predicted = _predictions(stratum, parts)
        yield Judgement(
            fr_from_nr=bool(from_nr),
            rows=len(stratum),
            sources=sources,
            folds=parts,
            regressor=accuracy(predicted["regressor"], predicted["vmaf_score"]),
            baseline=accuracy(predicted["baseline"], predicted["vmaf_score"]),
        )


def accuracy(predicted: pl.Series, scores: pl.Series) -> Accuracy:
    """Compare predictions with scores."""
    both = pl.DataFrame({"predicted": predicted, "score": scores})
    plcc, srocc, rmse = both.select(
        pl.corr("predicted", "score"),
        pl.corr("predicted", "score", method="spearman").alias("srocc"),
        ((pl.col("predicted") - pl.col("score")) ** 2).mean().sqrt().alias("rmse"),
    ).row(0)
    return Accuracy(plcc, srocc, rmse)


def _predictions(rows: pl.DataFrame, folds: int) -> pl.DataFrame:
    """Return the rows with what each predictor, not knowing their sources, says of them."""
    parts: list[pl.DataFrame] = []
    for known, unseen in GroupKFold(folds).split(rows, groups=rows["src"].to_numpy()):
        train, test = rows[known], rows[unseen]
        # Linear, so that it is honest on a few dozen rows, and takes a minute or two for all of KonViD-150k.
        regressor = make_pipeline(StandardScaler(), RidgeCV(STRENGTHS))
        regressor.fit(train.select(FEATURES).to_numpy(), train["vmaf_score"].to_numpy())
        guesses = np.clip(regressor.predict(test.select(FEATURES).to_numpy()), 0, 100)
        means = train.group_by("crf").agg(pl.col("vmaf_score").mean().alias("baseline"))
        # A CRF that no other source has says nothing.
        guessed = test.with_columns(regressor=guesses).join(means, on="crf", how="left")
        parts.append(guessed.with_columns(pl.col("baseline").fill_null(train["vmaf_score"].mean())))
    return pl.concat(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures and return the exit status: 0, or 2 when the rows cannot be used."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", type=Path, help="a published corpus, or a file of rows (.jsonl or .parquet)")
    parser.add_argument(
        "--folds",
        type=_folds,
        help=f"parts that the sources are cut into (default: one for each source; {FOLDS_OF_MANY} for more than "
        f"{MOST_FOLDS_BY_DEFAULT} sources)",
    )
    given = parser.parse_args(arguments)
    try:
        judgements = list(judge(read_rows(given.rows), given.folds))
    except RowsUnusable as error:
        print(harmless(str(error)), file=sys.stderr)
        return 2
    print(
        f"{'fr_from_nr':<12}{'rows':>8}{'sources':>9}{'folds':>7}  {'predictor':<20}{'PLCC':>8}{'SROCC':>8}{'RMSE':>8}"
    )
    for found in judgements:
        counts = f"{str(found.fr_from_nr).lower():<12}{found.rows:>8}{found.sources:>9}{found.folds:>7}"
        for name, figures in (("canonical-6 and CRF", found.regressor), ("mean of the CRF", found.baseline)):
            print(f"{counts}  {name:<20}{figures.plcc:>8.4f}{figures.srocc:>8.4f}{figures.rmse:>8.3f}")
    return 0


def _folds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 2 up")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
