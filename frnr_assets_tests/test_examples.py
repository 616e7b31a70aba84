"""The regressor that shows whether a corpus trains: what it may know, and what its figures mean."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from examples.train_regressor import (
    COLUMNS,
    FEATURES,
    FOLDS_OF_MANY,
    MOST_FOLDS_BY_DEFAULT,
    RowsUnusable,
    accuracy,
    judge,
    main,
    read_rows,
)
from frnr_assets.corpus.schema import FEATURE_MEANS

SWEEP = (18, 23, 28, 33, 38)


def made_rows(sources: int, *, from_nr: bool = True, slope: float = 50.0, offset: float = 40.0) -> pl.DataFrame:
    """Rows whose score follows from adm2, in a way of each stratum's own."""
    draw = np.random.default_rng(sources)
    rows = [
        {name: draw.random() for name in FEATURES} | {"src": f"{from_nr}-{source}.mp4", "crf": crf}
        for source in range(sources)
        for crf in SWEEP
    ]
    frame = pl.DataFrame(rows).with_columns(fr_from_nr=from_nr, vmaf_score=pl.col("adm2_mean") * slope + offset)
    return frame.select(COLUMNS)


def test_what_the_features_say_is_learnt_and_what_the_crf_does_not_say_is_not() -> None:
    (found,) = judge(made_rows(8))
    assert (found.fr_from_nr, found.rows, found.sources, found.folds) == (True, 40, 8, 8)
    assert found.regressor.plcc > 0.999
    assert found.regressor.srocc > 0.999
    assert found.regressor.rmse < 0.1
    assert found.baseline.plcc < 0.5
    assert found.baseline.rmse > 10


@pytest.mark.parametrize("folds", [None, 3])
def test_a_source_is_never_predicted_from_its_own_rows(folds: int | None) -> None:
    # Each source has a feature of its own and a score that follows from nothing else: some of its rows tell the others.
    rows = made_rows(len(FEATURE_MEANS)).with_columns(number=pl.col("src").rank("dense") - 1)
    marks = {name: (pl.col("number") == number).cast(pl.Float64) for number, name in enumerate(FEATURE_MEANS)}
    score = pl.Series(np.random.default_rng(1).uniform(20, 90, len(FEATURE_MEANS))).gather(rows["number"])
    (found,) = judge(rows.with_columns(**marks, vmaf_score=score).select(COLUMNS), folds)
    assert found.regressor.rmse > 10
    assert found.baseline.rmse > 10


def test_rows_of_a_mastered_set_neither_teach_nor_are_judged_with_those_of_uploads() -> None:
    mixed = pl.concat([made_rows(6), made_rows(7, from_nr=False, slope=-50.0, offset=90.0)])
    found = list(judge(mixed))
    assert [(each.fr_from_nr, each.rows, each.sources) for each in found] == [(True, 30, 6), (False, 35, 7)]
    assert all(each.regressor.plcc > 0.999 for each in found)


def test_many_sources_are_cut_into_a_few_folds() -> None:
    (found,) = judge(made_rows(MOST_FOLDS_BY_DEFAULT + 1))
    assert (found.sources, found.folds) == (MOST_FOLDS_BY_DEFAULT + 1, FOLDS_OF_MANY)


def test_a_crf_that_one_source_alone_has_is_judged_all_the_same() -> None:
    rows = made_rows(4)
    (found,) = judge(rows.with_columns(crf=pl.when(pl.int_range(pl.len()) == 0).then(51).otherwise("crf")))
    assert not math.isnan(found.baseline.rmse)


def test_the_figures_are_what_their_names_say() -> None:
    found = accuracy(pl.Series([1.0, 2.0, 3.0, 10.0]), pl.Series([2.0, 4.0, 5.0, 6.0]))
    assert found.plcc == pytest.approx(np.corrcoef([1, 2, 3, 10], [2, 4, 5, 6])[0, 1])
    assert found.srocc == pytest.approx(1)
    assert found.rmse == pytest.approx(math.sqrt((1 + 4 + 4 + 16) / 4))


@pytest.mark.parametrize("form", ["folder", "rows.parquet", "rows.jsonl"])
def test_rows_are_read_as_the_platform_writes_them(tmp_path: Path, form: str) -> None:
    rows = made_rows(2)
    if form == "folder":
        for (crf,), part in rows.group_by("crf"):
            (tmp_path / form / f"crf={crf}").mkdir(parents=True)
            part.write_parquet(tmp_path / form / f"crf={crf}" / "0.parquet")
    elif form == "rows.parquet":
        rows.write_parquet(tmp_path / form)
    else:
        rows.write_ndjson(tmp_path / form)
    order = ["src", "crf"]
    assert read_rows(tmp_path / form).sort(order).equals(rows.sort(order))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "there is no such file"),
        ("not JSON", "neither Parquet nor JSON Lines"),
        ("", "neither Parquet nor JSON Lines"),
        (json.dumps({"src": "a.mp4", "crf": 18}), "no column fr_from_nr, adm2_mean"),
        (json.dumps({**made_rows(1).row(0, named=True), "adm2_mean": None}), "some rows have no adm2_mean"),
        (
            json.dumps(made_rows(1).row(0, named=True)),
            "with fr_from_nr true the number of sources is 1, and 2 are needed",
        ),
    ],
    ids=["no file", "no JSON", "empty", "no column", "no value", "one source"],
)
def test_rows_that_cannot_be_used_are_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, named: str
) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content)
    assert main([str(path)]) == 2
    said = capsys.readouterr()
    assert named in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_more_folds_than_sources_are_refused() -> None:
    with pytest.raises(RowsUnusable, match=r"is 3, and 5 are needed"):
        list(judge(made_rows(3), 5))
