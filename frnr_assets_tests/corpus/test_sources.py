"""The table of sources: a split that leaks nothing and stays what it was, and weights that balance the strata."""

import random
from collections.abc import Sequence

import polars as pl
import pyarrow as pa
import pytest

from frnr_assets.corpus.schema import SOURCES_SCHEMA
from frnr_assets.corpus.sources import PARTS, QUANTILES, sources_of
from frnr_assets.corpus.store import to_polars
from frnr_assets_tests.corpus.rows import SWEEP, corpus_frame, feature_row, labelled, rows_to_publish, sweep_rows


def many_rows(number: int, *, seed: int = 3, sweep: Sequence[int] = (18, 28)) -> pl.DataFrame:
    """Rows of so many uploads with MOS from 1 to 5."""
    drawn = random.Random(seed)
    moss = [round(drawn.uniform(1, 5), 2) for _ in range(number)]
    rows = [feature_row(f"c{clip:05}", crf, nr_mos=mos) for clip, mos in enumerate(moss) for crf in sweep]
    return rows_to_publish(rows)


def mastered(rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows as if their references were masters, which have paths of their own, no hash, and no MOS."""
    return rows.with_columns(
        src=pl.format("/masters{}", "src"),
        src_sha256=pl.lit(""),
        clip=pl.lit(""),
        dataset=pl.lit("netflix"),
        fr_from_nr=pl.lit(value=False),
        nr_mos=pl.lit(None, pl.Float64),
        nr_source=pl.lit(None, pl.String),
    )


def parts(rows: pl.DataFrame) -> dict[str, str]:
    return dict(to_polars(sources_of(rows)).select("src", "split").iter_rows())


def test_each_source_is_described_once() -> None:
    rows = rows_to_publish([*sweep_rows("b"), *(row | {"nr_mos": None} for row in sweep_rows("a"))])
    table = sources_of(rows)
    assert table.schema.equals(SOURCES_SCHEMA)
    hashes = dict(rows.select("src", "src_sha256").iter_rows())
    known = to_polars(table).drop("split").rows(named=True)
    assert known == [
        {
            "src": f"/clips/{clip}.mp4",
            "src_sha256": hashes[f"/clips/{clip}.mp4"],
            "dataset": "tests",
            "clip": clip,
            "fr_from_nr": True,
            "nr_mos": mos,
            "rows": len(SWEEP),
            "mean_vmaf": pytest.approx(100 - sum(SWEEP) / len(SWEEP)),
            "weight": 1.0,
        }
        for clip, mos in (("a", None), ("b", 3.25))
    ]


def test_a_tenth_of_the_sources_is_for_the_test_and_a_tenth_for_validation_in_each_stratum() -> None:
    uploads = many_rows(230)
    sources = to_polars(sources_of(pl.concat([uploads, mastered(uploads.head(80))])))
    counts = {key: len(found) for key, found in sources.partition_by("fr_from_nr", "split", as_dict=True).items()}
    assert counts == {
        (True, "test"): 23,
        (True, "validation"): 23,
        (True, "train"): 184,
        (False, "test"): 4,
        (False, "validation"): 4,
        (False, "train"): 32,
    }


def test_no_part_lacks_bad_or_good_clips() -> None:
    sources = to_polars(sources_of(many_rows(500))).sort("nr_mos")
    for fifth in sources.iter_slices(500 // QUANTILES):
        counts = fifth["split"].value_counts()
        assert dict(counts.iter_rows()) == {"train": 80, "validation": 10, "test": 10}


def test_sources_without_mos_are_split_by_their_vmaf() -> None:
    vmaf = random.Random(1)
    rows = [feature_row(f"{clip:03}", nr_mos=None, vmaf_score=vmaf.uniform(0, 100)) for clip in range(100)]
    sources = to_polars(sources_of(rows_to_publish(rows))).sort("mean_vmaf")
    assert [fifth["split"].value_counts().height for fifth in sources.iter_slices(20)] == [len(PARTS)] * QUANTILES


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows = many_rows(60, sweep=(18, 23, 28)).with_columns(
        vmaf_score=pl.Series([random.Random(row).uniform(0, 100) for row in range(180)])
    )
    table = sources_of(rows)
    for seed in range(5):
        assert sources_of(rows.sample(fraction=1, shuffle=True, seed=seed)).equals(table)


def test_more_clips_hardly_move_those_that_were_there() -> None:
    rows = many_rows(1010)
    before = parts(rows.filter(pl.col("clip") < "c01000"))
    after = parts(rows)
    moved = sum(after[src] != part for src, part in before.items())
    assert moved <= 20, f"{moved} of {len(before)} sources are in another part after one in a hundred was added"


def test_the_same_content_under_two_paths_does_not_leak_into_the_test() -> None:
    rows = many_rows(100)
    copies = rows.with_columns(src=pl.format("/copies{}", "src"))
    found = parts(pl.concat([rows, copies]))
    assert all(found[src] == found[f"/copies{src}"] for src in rows["src"])
    assert set(found.values()) == set(PARTS)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, {"train": 1}),
        (2, {"train": 2}),
        (3, {"train": 2, "validation": 1}),
        (5, {"train": 3, "validation": 1, "test": 1}),
        (9, {"train": 7, "validation": 1, "test": 1}),
        (10, {"train": 8, "validation": 1, "test": 1}),
    ],
)
def test_a_small_corpus_keeps_most_of_its_sources_for_training(number: int, expected: dict[str, int]) -> None:
    counts = to_polars(sources_of(many_rows(number)))["split"].value_counts()
    assert dict(counts.iter_rows()) == expected


def test_a_dataset_with_a_scale_of_its_own_is_held_out_like_any_other() -> None:
    small = many_rows(40).with_columns(
        src=pl.format("/percent{}", "src"),
        src_sha256=pl.col("src_sha256").str.reverse(),
        dataset=pl.lit("percent"),
        nr_mos=pl.col("nr_mos") * 20,
    )
    sources = to_polars(sources_of(pl.concat([many_rows(200), small])))
    held_out = sources.filter(pl.col("dataset") == "percent", pl.col("split") != "train")["split"].value_counts()
    assert dict(held_out.iter_rows()) == {"test": 4, "validation": 4}


def test_uploads_and_masters_weigh_the_same_and_a_row_one_on_average() -> None:
    uploads = many_rows(30)
    rows = pl.concat([uploads, mastered(uploads.head(14))])
    sources = to_polars(sources_of(rows))
    weighed = sources.with_columns(total=pl.col("rows") * pl.col("weight"))
    sums = dict(weighed.group_by("fr_from_nr").agg(pl.col("total").sum()).iter_rows())
    assert sums == {True: pytest.approx(37.0), False: pytest.approx(37.0)}


def test_weights_of_a_corpus_of_one_stratum_change_nothing() -> None:
    assert set(sources_of(many_rows(7))["weight"].to_pylist()) == {1.0}


def test_sources_are_a_table_whatever_the_rows_bring_along() -> None:
    rows = labelled(corpus_frame(sweep_rows("a"))).with_columns(identity=pl.lit("x"), recorded_ns=pl.lit(1))
    assert isinstance(sources_of(rows), pa.Table)
