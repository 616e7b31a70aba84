"""Rows of mastered sets: what is taken over, what is left out and why, and what must not stand beside uploads."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frnr_assets import load_corpus
from frnr_assets.corpus.contracts import MIXED_CONTRACT
from frnr_assets.corpus.dataset import FrDataset
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.corpus.mixed import FrRows, mix, read_fr_rows
from frnr_assets.corpus.publish import CorpusInvalid, Publication, publish, read_version
from frnr_assets.corpus.schema import CORPUS_ROW_KEYS, MIXED_ROW_SCHEMA, REJECTS_SCHEMA
from frnr_assets.corpus.store import to_polars
from frnr_assets.vocabulary import MIXED_CAVEAT
from frnr_assets_tests.corpus.rows import MOS_SCALE, SWEEP, feature_row, rows_to_publish, sweep_rows

SUFFIXES = (".jsonl", ".parquet")
Row = Mapping[str, Any]
Read = Callable[..., FrRows]


def fr_row(clip: str = "crowd_run", crf: int = 20, **changes: Any) -> dict[str, Any]:
    """A row as vmaf-tune writes it: no provenance, and no hash of the source."""
    row = feature_row(clip, crf, src=f"ref/{clip}.yuv", src_sha256="")
    return {name: row[name] for name in CORPUS_ROW_KEYS} | changes


def write(path: Path, rows: Sequence[Row | str]) -> FrDataset:
    if path.suffix == ".parquet":
        table = pa.Table.from_pylist([row for row in rows if not isinstance(row, str)])
        pq.write_table(table, path)
    else:
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return FrDataset(name="netflix", rows=path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_of_masters_are_taken_over_as_they_are(tmp_path: Path, suffix: str) -> None:
    rows = [fr_row(crf=crf, extra_params=["-tune", "film"], vmaf_score=0.1 + 0.2) for crf in (20, 35)]
    found = read_fr_rows(write(tmp_path / f"rows{suffix}", rows))
    assert found.rejects == ()
    assert found.rows.columns == [*MIXED_ROW_SCHEMA.names, "dataset", "clip"]
    provenance = {"nr_source": None, "nr_mos": None, "fr_from_nr": False, "dataset": "netflix", "clip": ""}
    assert found.rows.rows(named=True) == [row | provenance for row in rows]


def test_a_whole_number_is_as_good_as_one_with_a_point(tmp_path: Path) -> None:
    found = read_fr_rows(write(tmp_path / "rows.jsonl", [fr_row(framerate=25, encode_time_ms=2**60 + 1)]))
    assert found.rows["framerate"].to_list() == [25.0]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"adm2_mean": math.nan}, "adm2_mean is not finite"),
        ({"bitrate_kbps": math.inf}, "bitrate_kbps is not finite"),
        ({"exit_status": 1}, "exit_status is 1, not 0"),
        ({"src_sha256": "A" * 64}, "src_sha256 is no SHA-256 in lower case"),
        ({"src_sha256": "zzz"}, "src_sha256 is no SHA-256 in lower case"),
        ({"src": ""}, "src is empty"),
        ({"encoder": ""}, "encoder is empty"),
        ({"width": 0}, "width is 0, not above 0"),
        ({"duration_s": -1.0}, "duration_s is -1.0, not above 0"),
        ({"crf": -7}, "crf is -7, below 0"),
        ({"schema_version": 2}, "schema_version is 2, not 3"),
        ({"vmaf_score": 100.5}, "vmaf_score is 100.5, not within 0 to 100"),
        ({"motion2_std": -0.5}, "motion2_std is -0.5, not within 0 to 255"),
        ({"src": None}, "src is null, not string"),
        ({"crf": 2**40}, "crf is 1099511627776, not int32"),
    ],
    ids=str,
)
def test_a_row_that_cannot_be_used_is_left_out_and_named(
    tmp_path: Path, suffix: str, changes: dict[str, Any], reason: str
) -> None:
    found = read_fr_rows(write(tmp_path / f"rows{suffix}", [fr_row("fine"), fr_row("bad", **changes)]))
    assert [(reject["line"], reject["reason"]) for reject in found.rejects] == [(2, reason)]
    assert found.rows["src"].to_list() == ["ref/fine.yuv"]
    pa.Table.from_pylist(list(found.rejects), schema=REJECTS_SCHEMA)


GOOD = json.dumps(fr_row())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD.replace('"crf": 20', '"crf": 20, "crf": 21'), "'crf' is there twice"),
        (GOOD.replace('"crf": 20', '"crf": 20.0'), "crf is 20.0, not int32"),
        (GOOD.replace('"crf": 20', '"crf": true'), "crf is True, not int32"),
        (GOOD.replace('"crf": 20', '"crf": "20"'), "crf is '20', not int32"),
        (GOOD.replace('"hdr_forced": false', '"hdr_forced": 0'), "hdr_forced is 0, not bool"),
        (
            GOOD.replace('"extra_params": []', '"extra_params": "-tune film"'),
            "extra_params is '-tune film', not list<element: string not null>",
        ),
        (
            GOOD.replace('"preset": "preset"', f'"preset": [{"9" * 99}]'),
            f"preset is [{'9' * 59}..., not string",
        ),
        (GOOD.replace('"framerate": 0.5', '"framerate": 1e999'), "framerate is not finite"),
        (GOOD.replace('"framerate": 0.5', f'"framerate": 1{"0" * 400}'), "framerate is not finite"),
        (GOOD.replace('"framerate": 0.5, ', ""), "framerate is missing"),
        (GOOD.replace('"framerate": 0.5, "duration_s": 0.5, ', ""), "framerate is missing, and 1 more"),
        (GOOD.replace('"crf": 20', '"crf": 20, "notes": ""'), "notes is no column of vmaf-tune's rows"),
        (
            GOOD.replace('"crf": 20', '"crf": 20, "fr_from_nr": true'),
            "fr_from_nr is no column of vmaf-tune's rows; rows that were made from uploads are no full-reference rows",
        ),
        (GOOD.replace("crowd_run", "\\ud800"), "src or another text has half a character (a lone surrogate)"),
        ("[1, 2]", 'not a JSON object such as {"src": "clip.mp4", "mos": 3.2}'),
        (GOOD, "it is of the same cell as line 1"),
    ],
)
def test_a_line_that_means_something_else_than_it_says_is_left_out(tmp_path: Path, line: str, reason: str) -> None:
    found = read_fr_rows(write(tmp_path / "rows.jsonl", [GOOD, "", line, json.dumps(fr_row("other"))]))
    assert [(reject["line"], reject["reason"]) for reject in found.rejects] == [(3, reason)]
    assert found.rows["src"].to_list() == ["ref/crowd_run.yuv", "ref/other.yuv"]


def test_rows_that_differ_in_their_recipe_are_different_cells(tmp_path: Path) -> None:
    rows = [fr_row(), fr_row(preset="slow"), fr_row(extra_params=["-g", "9"]), fr_row(vmaf_model="4k"), fr_row(crf=21)]
    assert len(read_fr_rows(write(tmp_path / "rows.jsonl", rows)).rows) == len(rows)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.jsonl", b"", "it has no rows"),
        (
            "rows.jsonl",
            b'{"src": 1}\n{}\n',
            "none of its rows can be used; line 1: schema_version is missing, and 52 more",
        ),
        ("rows.jsonl", b"\xff\xfe{", "it is UTF-16; save it as UTF-8"),
        ("rows.parquet", b"no Parquet", "not a whole Parquet file; write it again, or correct `rows`"),
        ("rows.jsonl", None, "No such file or directory; check `rows` of the dataset in frnr.toml"),
        ("rows.parquet", None, "check `rows` of the dataset in frnr.toml"),
    ],
)
def test_a_file_that_cannot_be_used_at_all_is_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        read_fr_rows(FrDataset(name="netflix", rows=path))
    said = str(caught.value)
    assert str(path) in said
    assert sentence in said
    assert "\n" not in said


def mixed_rows(uploads: pl.DataFrame, *masters: pl.DataFrame) -> pl.DataFrame:
    sources = uploads.select("src", "dataset", "clip").unique()
    return mix(uploads.drop("dataset", "clip"), sources, masters)


def publish_mixed(rows: pl.DataFrame, data_root: Path) -> Publication:
    folder = data_root / "corpus" / "mixed_corpus"
    crfs = sorted(rows["crf"].unique())
    return publish(rows, folder, sweep=crfs, mos_scale=MOS_SCALE, contract=MIXED_CONTRACT)


@pytest.fixture
def masters(tmp_path: Path) -> pl.DataFrame:
    return read_fr_rows(
        write(tmp_path / "rows.jsonl", [fr_row("crowd_run"), fr_row("sunrise"), fr_row("sunrise", 35)])
    ).rows


@pytest.fixture
def uploads() -> pl.DataFrame:
    return rows_to_publish(sweep_rows("a", "b"))


def test_a_mixed_corpus_has_the_rows_of_both_and_says_of_each_which_it_is(
    tmp_path: Path, uploads: pl.DataFrame, masters: pl.DataFrame
) -> None:
    publication = publish_mixed(mixed_rows(uploads, masters), tmp_path)
    table = read_version(publication.path)
    assert table.schema.equals(MIXED_ROW_SCHEMA)
    assert (table.schema.metadata or {})[b"caveat"].decode() == MIXED_CAVEAT
    ours = load_corpus(tmp_path, "mixed_corpus", fr_from_nr=True).collect()
    theirs = load_corpus(tmp_path, "mixed_corpus", fr_from_nr=False).collect()
    assert ours.select(uploads.columns[:-2]).equals(uploads.drop("dataset", "clip").sort("crf", "src"))
    assert theirs.select(MIXED_ROW_SCHEMA.names).equals(masters.sort("crf", "src").select(MIXED_ROW_SCHEMA.names))
    assert set(theirs["dataset"]) == {"netflix"}
    assert ours["weight"].sum() == pytest.approx(theirs["weight"].sum())
    assert len(ours) == 2 * len(SWEEP)
    sources = to_polars(publication.sources)
    assert dict(sources.group_by("fr_from_nr").len().iter_rows()) == {True: 2, False: 2}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (pl.col("src").replace("ref/sunrise.yuv", "/clips/a.mp4"), "src is in several datasets"),
        (None, "there is no row whose fr_from_nr is false"),
    ],
    ids=["path", "one stratum"],
)
def test_what_would_mislead_a_trainer_is_not_published(
    tmp_path: Path, uploads: pl.DataFrame, masters: pl.DataFrame, change: pl.Expr | None, sentence: str
) -> None:
    changed = masters.head(0) if change is None else masters.with_columns(change)
    with pytest.raises(CorpusInvalid, match=sentence):
        publish_mixed(mixed_rows(uploads, changed), tmp_path)
    assert not (tmp_path / "corpus" / "mixed_corpus" / "current").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"src_sha256": "a's"}, "source is both an upload and a master (2): /clips/a.mp4, ref/sunrise.yuv"),
        ({"nr_mos": 3.0}, "nr_source and nr_mos do not fit fr_from_nr"),
        ({"nr_source": "/clips/a.mp4"}, "nr_source and nr_mos do not fit fr_from_nr"),
    ],
    ids=["content", "MOS", "nr_source"],
)
def test_a_master_that_is_an_upload_elsewhere_is_not_published(
    tmp_path: Path, uploads: pl.DataFrame, masters: pl.DataFrame, changes: dict[str, Any], sentence: str
) -> None:
    changes = {name: uploads["src_sha256"][0] if value == "a's" else value for name, value in changes.items()}
    is_one = pl.col("src") == "ref/sunrise.yuv"
    changed = [pl.when(is_one).then(pl.lit(value)).otherwise(name).alias(name) for name, value in changes.items()]
    with pytest.raises(CorpusInvalid, match=re.escape(sentence)):
        publish_mixed(mixed_rows(uploads, masters.with_columns(changed)), tmp_path)


def test_one_path_with_two_hashes_would_be_two_sources_and_is_refused(tmp_path: Path) -> None:
    rows = [fr_row(crf=18, src_sha256=""), fr_row(crf=23, src_sha256="a" * 64), fr_row(crf=28, src_sha256="")]
    found = read_fr_rows(write(tmp_path / "rows.jsonl", rows))
    assert found.rows["crf"].to_list() == [18, 28]
    (reject,) = found.rejects
    assert (reject["line"], reject["reason"]) == (2, "src_sha256 is another than in an earlier row of the same src")
