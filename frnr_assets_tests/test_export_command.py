"""`frnr export`: a published corpus as the one file that trainers of today read."""

import json
import math
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow.parquet as pq
import pytest

from frnr_assets.cli import main
from frnr_assets.corpus.contracts import MIXED_CONTRACT
from frnr_assets.corpus.publish import Publication, publish, read_version, version_files
from frnr_assets.corpus.schema import FEATURE_MEANS, ROW_SCHEMA
from frnr_assets.corpus.store import to_polars
from frnr_assets_tests.corpus.rows import MOS_SCALE, SWEEP, rows_to_publish, sweep_rows

STRANGE = "/é\u2028 1.mp4"


def published(data_root: Path, *clips: str) -> Publication:
    rows = [row | {"extra_params": ["-tune", "film"], "vmaf_score": 0.1 + 0.2} for row in sweep_rows(*clips)]
    rows += [row | {"src": STRANGE, "nr_source": STRANGE, "nr_mos": None} for row in sweep_rows("strange")]
    folder = data_root / "corpus" / "fr_corpus"
    return publish(rows_to_publish(rows), folder, sweep=SWEEP, mos_scale=MOS_SCALE)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_trainer_of_fr_regressor_v3_takes_the_file(place: Path) -> None:
    published(place / "data", *"abcd")
    assert main(["export", "--output", "fr_corpus.jsonl"]) == 0
    frame = pd.read_json(place / "fr_corpus.jsonl", lines=True)
    assert len(frame) == 5 * len(SWEEP)
    assert {"vmaf_score", "src", "encoder", "crf", *FEATURE_MEANS} <= set(frame.columns)
    assert frame[[*FEATURE_MEANS, "vmaf_score"]].map(math.isfinite).all(axis=None)
    assert frame["crf"].dtype.kind == "i"
    assert frame["fr_from_nr"].all()
    groups = {src: len(rows) for src, rows in frame.groupby("src")}
    assert groups == dict.fromkeys([*(f"/clips/{clip}.mp4" for clip in "abcd"), STRANGE], len(SWEEP))
    for left_out in groups:
        training = frame[frame["src"] != left_out]
        assert left_out not in set(training["src"])
        assert len(training) == 4 * len(SWEEP)


def test_both_formats_have_exactly_what_is_published(place: Path) -> None:
    version = published(place / "data", "a", "b").path
    for name in ("rows.jsonl", "rows.parquet"):
        assert main(["export", "--output", name]) == 0
    expected = read_version(version)
    lines = (place / "rows.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines[:-1]]
    assert rows == expected.to_pylist()
    assert {tuple(row) for row in rows} == {tuple(ROW_SCHEMA.names)}
    exported = pq.read_table(place / "rows.parquet")
    assert exported.equals(expected)
    assert exported.schema.equals(expected.schema, check_metadata=True)
    assert pl.read_ndjson(place / "rows.jsonl", schema=to_polars(expected).schema).equals(to_polars(expected))


def test_rows_of_masters_are_exported_with_nulls_where_there_is_no_upload(place: Path) -> None:
    rows = rows_to_publish(sweep_rows("a"))
    absent = {"nr_source": pl.lit(None, pl.String), "nr_mos": pl.lit(None, pl.Float64)}
    masters = rows.with_columns(src=pl.lit("ref.yuv"), src_sha256=pl.lit(""), fr_from_nr=pl.lit(value=False), **absent)
    both = pl.concat([rows, masters.with_columns(dataset=pl.lit("netflix"))])
    folder = place / "data" / "corpus" / "mixed_corpus"
    publish(both, folder, sweep=SWEEP, mos_scale=MOS_SCALE, contract=MIXED_CONTRACT)
    assert main(["export", "--output", "rows.jsonl", "--corpus", "mixed_corpus"]) == 0
    found = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    assert [(row["fr_from_nr"], row["nr_source"]) for row in found] == [(True, "/clips/a.mp4"), (False, None)] * len(
        SWEEP
    )
    assert {tuple(row) for row in found} == {tuple(ROW_SCHEMA.names)}


def test_an_older_version_is_exported_by_its_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = published(place / "elsewhere", "a").path
    published(place / "elsewhere", "a", "b")
    arguments = ["export", "--output", "rows.jsonl", "--data-root", "elsewhere"]
    assert main([*arguments, "--version", first.name]) == 0
    assert len((place / "rows.jsonl").read_text().splitlines()) == 2 * len(SWEEP)
    assert f"6 rows of fr_corpus, version {first.name}, in rows.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--output", "rows.csv"], "--output rows.csv: it can end in .jsonl or .parquet"),
        (["--output", "folder.jsonl"], "--output folder.jsonl: it is a folder"),
        (["--output", "a.jsonl", "--version", "7"], "there is no version 7; there are 000001-"),
        (["--output", "a.jsonl", "--data-root", "none"], "nothing is published there; materialize fr_corpus first"),
        (["--output", "data/corpus/fr_corpus/current/crf=18/a.parquet"], "what is published stays as it is"),
    ],
    ids=["suffix", "folder", "version", "nothing", "over the corpus"],
)
def test_what_cannot_be_done_is_one_sentence(
    place: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "folder.jsonl").mkdir()
    version = published(place / "data", "a").path
    before = sorted(version.rglob("*"))
    assert main(["export", *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert sorted(version.rglob("*")) == before


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_half_a_corpus_is_not_exported_over_a_whole_file(
    place: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    version = published(place / "data", "a").path
    (place / name).write_text("what was there before")
    last = version_files(version)[-1]
    if damage == "cut":
        last.write_bytes(last.read_bytes()[:-10])
    else:
        last.unlink()
    assert main(["export", "--output", name]) == 1
    said = capsys.readouterr().err
    assert "damaged" in said if damage == "cut" else "has 4 rows where 6 were published" in said
    assert said.count("\n") == 1
    assert (place / name).read_text() == "what was there before"
    assert {path.name for path in place.iterdir()} == {"data", name}
