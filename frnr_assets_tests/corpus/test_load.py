"""What a trainer gets from load_corpus: the right rows, with what they are split and weighed by."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from frnr_assets import load_corpus
from frnr_assets.corpus.publish import CorpusMissing, Publication, publish, sources_file, version_files
from frnr_assets.corpus.schema import ROW_SCHEMA
from frnr_assets_tests.corpus.rows import MOS_SCALE, SWEEP, rows_to_publish, sweep_rows

CLIPS = tuple("abcdefghijklmnopqrst")
Filter = Callable[[pl.DataFrame], pl.DataFrame]


def published(data_root: Path, *clips: str) -> Publication:
    half = len(clips) // 2
    rows = pl.concat(
        [
            rows_to_publish(sweep_rows(*clips[:half]), "konvid-150k"),
            rows_to_publish(sweep_rows(*clips[half:]), "live-vqc"),
        ]
    )
    return publish(rows, data_root / "corpus" / "fr_corpus", sweep=SWEEP, mos_scale=MOS_SCALE)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Brackets mean something in a pattern, and "crf=18" in a Hive path.
    root = tmp_path_factory.mktemp("load") / "[data] crf=18"
    published(root, *CLIPS)
    return root


def test_rows_come_in_the_published_order_with_dataset_split_and_weight(data_root: Path) -> None:
    frame = load_corpus(data_root)
    assert isinstance(frame, pl.LazyFrame)
    rows = frame.collect()
    assert rows.columns == [*ROW_SCHEMA.names, "dataset", "split", "weight"]
    assert rows.select("crf", "src").rows() == [(crf, f"/clips/{clip}.mp4") for crf in SWEEP for clip in CLIPS]
    assert rows.group_by("src").agg(pl.col("split", "weight", "dataset").n_unique()).drop("src").unique().rows() == [
        (1, 1, 1)
    ]
    assert rows["weight"].unique().to_list() == [1.0]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"dataset": "live-vqc"}, pl.col("dataset") == "live-vqc"),
        ({"dataset": ["live-vqc", "konvid-150k"]}, pl.lit(value=True)),
        ({"crf": 23}, pl.col("crf") == 23),
        ({"crf": (28, 18)}, pl.col("crf") != 23),
        ({"fr_from_nr": True}, pl.lit(value=True)),
        ({"fr_from_nr": False}, pl.lit(value=False)),
        ({"split": "validation"}, pl.col("split") == "validation"),
        ({"split": ["train", "test"]}, pl.col("split") != "validation"),
        (
            {"split": "train", "crf": 18, "dataset": "konvid-150k"},
            (pl.col("split") == "train") & (pl.col("crf") == 18) & (pl.col("dataset") == "konvid-150k"),
        ),
    ],
    ids=str,
)
def test_exactly_the_rows_that_were_asked_for_come(data_root: Path, chosen: dict[str, Any], expected: pl.Expr) -> None:
    found = load_corpus(data_root, **chosen).collect()
    assert found.equals(load_corpus(data_root).collect().filter(expected))
    assert found.is_empty() == (chosen == {"fr_from_nr": False})


def test_no_source_is_both_trained_and_tested_on(data_root: Path) -> None:
    sources = [set(load_corpus(data_root, split=part).collect()["src"]) for part in ("train", "validation", "test")]
    assert sum(map(len, sources)) == len(set().union(*sources)) == len(CLIPS)
    assert all(sources)


def test_a_training_that_names_its_version_goes_on_reading_it(tmp_path: Path) -> None:
    first = published(tmp_path, "a", "b")
    reading = load_corpus(tmp_path)
    published(tmp_path, "a", "b", "c")
    assert len(reading.collect()) == 2 * len(SWEEP)
    assert len(load_corpus(tmp_path, version=first.path.name).collect()) == 2 * len(SWEEP)
    assert len(load_corpus(tmp_path).collect()) == 3 * len(SWEEP)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"split": "val"}, "split: there is no 'val'; there are train, validation, test"),
        ({"dataset": "konvid"}, "dataset: there is no 'konvid'; there are konvid-150k, live-vqc"),
        ({"crf": [18, 30]}, "crf: there is no 30; there are 18, 23, 28"),
        ({"corpus": "corpus"}, "corpus: there is no 'corpus'; there are fr_corpus, mixed_corpus"),
    ],
)
def test_a_misspelt_filter_is_a_sentence_instead_of_an_empty_training_set(
    data_root: Path, asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_corpus(data_root, **asked)


def test_what_is_not_there_is_a_sentence(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusMissing, match="nothing is published there; materialize fr_corpus first"):
        load_corpus(tmp_path)
    with pytest.raises(CorpusMissing, match="there is no version 7; there are 000001-"):
        load_corpus(data_root, version="7")


def test_a_corpus_from_before_there_were_sources_says_what_to_do(tmp_path: Path) -> None:
    publication = published(tmp_path, "a")
    sources_file(publication.path).unlink()
    with pytest.raises(CorpusMissing, match=r"its table of sources, .* is not there; publish the corpus again"):
        load_corpus(tmp_path)


def test_the_files_of_other_crfs_are_not_opened(tmp_path: Path) -> None:
    publication = published(tmp_path, "a", "b")
    for file in version_files(publication.path)[1:]:
        file.write_bytes(b"damaged")
    assert len(load_corpus(tmp_path, crf=SWEEP[0]).collect()) == 2


def test_what_numpy_calls_an_integer_is_a_crf_too(data_root: Path) -> None:
    asked = np.array(SWEEP[:1])
    assert load_corpus(data_root, crf=asked[0]).collect().equals(load_corpus(data_root, crf=SWEEP[0]).collect())


@pytest.mark.parametrize("asked", [{"crf": []}, {"split": []}, {"dataset": []}], ids=lambda asked: next(iter(asked)))
def test_asking_for_nothing_is_a_sentence(data_root: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="nothing is asked for; leave it out for everything"):
        load_corpus(data_root, **asked)


def test_a_damaged_table_of_sources_is_a_sentence(tmp_path: Path) -> None:
    file = sources_file(published(tmp_path, *CLIPS).path)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CorpusMissing, match="is damaged; publish the corpus again"):
        load_corpus(tmp_path)
