"""The corpus as one file: what is in it, and what never gets there."""

import json
import math
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frnr_assets.corpus.export import SUFFIXES, export, export_frame_scores, write_json_lines
from frnr_assets.corpus.publish import CorpusInvalid
from frnr_assets.corpus.schema import ROW_SCHEMA
from frnr_assets.corpus.tables import Tables
from frnr_assets.vocabulary import CAVEAT
from frnr_assets_tests.corpus.rows import (
    MOS_SCALE,
    SWEEP,
    corpus_frame,
    feature_row,
    frame_scores_row,
    stored_frame,
    sweep_rows,
)

FLOATS = [field.name for field in ROW_SCHEMA if pa.types.is_floating(field.type)]
OLD = "what was there before\n"


def exported(rows: pl.DataFrame, path: Path) -> None:
    export(rows, path, sweep=SWEEP, mos_scale=MOS_SCALE)


def with_durable(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows as the tables return them, with the columns of the store beside those of the contract."""
    return stored_frame([{**row, "recorded_ns": 1} for row in rows])


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pl.read_parquet(path).rows(named=True)
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that is there already, of either format."""
    file = tmp_path / f"rows{request.param}"
    file.write_text(OLD)
    return file


def assert_as_before(path: Path) -> None:
    assert path.read_text() == OLD
    assert list(path.parent.iterdir()) == [path], "and nothing is left beside it"


class TestExport:
    def test_rows_are_written_in_their_order_with_the_contracts_columns(self, path: Path) -> None:
        rows = sweep_rows("b", "a")
        exported(with_durable(*rows), path)
        found = read(path)
        assert [(row["src"], row["crf"]) for row in found] == [(row["src"], row["crf"]) for row in rows]
        for row, given in zip(found, rows, strict=True):
            assert list(row) == ROW_SCHEMA.names
            assert row == {name: given[name] for name in ROW_SCHEMA.names}

    def test_a_mos_may_be_missing_and_a_list_may_have_elements(self, path: Path) -> None:
        exported(
            with_durable(feature_row(nr_mos=None, extra_params=["-tune", "film"], src="/ü.mp4", nr_source="/ü.mp4")),
            path,
        )
        (row,) = read(path)
        assert (row["nr_mos"], row["extra_params"], row["src"]) == (None, ["-tune", "film"], "/ü.mp4")

    def test_numbers_keep_their_last_bit(self, path: Path) -> None:
        exported(with_durable(feature_row(vmaf_score=0.1 + 0.2, nr_mos=3.0123456789012345)), path)
        (row,) = read(path)
        assert (row["vmaf_score"], row["nr_mos"]) == (0.1 + 0.2, 3.0123456789012345)

    def test_a_parquet_file_says_what_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.parquet"
        exported(with_durable(*sweep_rows("a")), path)
        schema = pq.read_schema(path)
        assert schema.equals(ROW_SCHEMA, check_metadata=False)
        metadata = schema.metadata or {}
        assert metadata[b"caveat"].decode() == CAVEAT
        assert json.loads(metadata[b"crf_sweep"]) == list(SWEEP)
        assert (metadata[b"rows"], metadata[b"schema_version"]) == (b"3", b"3")
        assert schema.field("nr_mos").metadata

    def test_another_suffix_is_refused(self, tmp_path: Path) -> None:
        for name in ("rows.csv", "rows", "rows.jsonl.gz", "rows.JSONL"):
            with pytest.raises(ValueError, match=r"neither \.jsonl nor \.parquet"):
                exported(with_durable(feature_row()), tmp_path / name)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_number_that_is_not_finite_is_refused_whatever_it_is_of_and_the_file_stays(
        self, value: float, path: Path
    ) -> None:
        accepted = []
        for name in FLOATS:
            try:
                exported(with_durable(feature_row("a"), {**feature_row("b"), name: value}), path)
            except (CorpusInvalid, ValueError):
                assert_as_before(path)
            else:
                accepted.append(name)
                path.write_text(OLD)
        assert accepted == []

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"vmaf_score": 100.5}, "VMAF"),
            ({"adm2_mean": 2.2}, "adm2"),
            ({"exit_status": 1}, "exit_status"),
            ({"fr_from_nr": False}, "fr_from_nr"),
            ({"nr_source": "/another.mp4"}, "nr_source"),
            ({"nr_mos": 5.5}, "MOS"),
        ],
    )
    def test_a_row_that_breaks_a_rule_of_the_corpus_is_named_and_the_file_stays(
        self, changes: dict[str, Any], problem: str, path: Path
    ) -> None:
        with pytest.raises(CorpusInvalid, match=problem) as refused:
            exported(with_durable(feature_row("a"), feature_row("b", **changes)), path)
        assert "/clips/b.mp4" in str(refused.value)
        assert "/clips/a.mp4" not in str(refused.value)
        assert_as_before(path)

    def test_a_cell_that_is_there_twice_is_refused(self, path: Path) -> None:
        with pytest.raises(CorpusInvalid, match="more than one row"):
            exported(with_durable(feature_row(), feature_row()), path)
        assert_as_before(path)

    @pytest.mark.parametrize("name", [field.name for field in ROW_SCHEMA if not field.nullable][:5])
    def test_a_value_that_is_missing_is_refused(self, name: str, path: Path) -> None:
        row = {column: value for column, value in feature_row().items() if column in ROW_SCHEMA.names}
        with pytest.raises((CorpusInvalid, ValueError)):
            exported(corpus_frame([{**row, name: None}]), path)
        assert_as_before(path)


def export_rows(path: Path) -> None:
    exported(with_durable(*sweep_rows("a")), path)


class TestAtomicity:
    def test_the_file_is_replaced_at_once(self, path: Path) -> None:
        with path.open() as reader:
            export_rows(path)
            assert reader.read() == OLD, "who reads the file before reads it to its end"
        assert len(read(path)) == len(SWEEP)
        assert list(path.parent.iterdir()) == [path]

    def test_a_write_that_breaks_off_leaves_the_file_as_it_was(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def break_off(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("frnr_assets.corpus.store.sync", break_off)
        with pytest.raises(KeyboardInterrupt):
            export_rows(path)
        assert_as_before(path)

    def test_a_full_disk_leaves_the_file_as_it_was(self, small_disk: Path, path: Path) -> None:
        target = small_disk / path.name
        target.write_text(OLD)
        with (small_disk / "ballast").open("wb", buffering=0) as ballast:
            try:
                while ballast.write(bytes(4096)):
                    pass
            except OSError:
                pass
        with pytest.raises(OSError, match="No space left"):
            export_rows(target)
        assert target.read_text() == OLD
        assert {file.name for file in small_disk.iterdir()} == {target.name, "ballast"}

    def test_a_folder_that_is_not_there_is_an_error_of_the_system(self, path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            export_rows(path.parent / "nowhere" / path.name)

    def test_others_may_read_it_as_any_file(self, path: Path, tmp_path: Path) -> None:
        plain = tmp_path / "plain"
        plain.touch()
        export_rows(path)
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


class TestJsonLines:
    def test_one_object_a_line_in_strict_json(self, tmp_path: Path) -> None:
        rows: list[dict[str, object]] = [{"a": 1, "b": None}, {"a": 0.1, "b": ["ü\u2028", True]}]
        write_json_lines(rows, tmp_path / "rows")
        text = (tmp_path / "rows").read_text(encoding="utf-8")
        assert text.endswith("\n")
        assert [json.loads(line) for line in text.split("\n")[:-1]] == rows

    def test_no_row_is_an_empty_file(self, tmp_path: Path) -> None:
        write_json_lines([], tmp_path / "rows")
        assert (tmp_path / "rows").read_bytes() == b""

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("within", [lambda value: value, lambda value: [value]])
    def test_what_json_has_no_word_for_is_refused_and_the_file_stays(
        self, value: float, within: Callable[[float], object], tmp_path: Path
    ) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_text(OLD)
        rows: list[dict[str, object]] = [{"a": 1.0}, {"a": within(value)}]
        with pytest.raises(ValueError, match="JSON"):
            write_json_lines(rows, path)
        assert_as_before(path)


@pytest.mark.parametrize("at_once", [1, 2, 100], ids="{} at once".format)
def test_frames_are_in_the_order_of_the_rows_however_many_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("frnr_assets.corpus.export._BATCH_ROWS", at_once)
    table = Tables(tmp_path).frame_scores
    # One cell's frames were not kept, and another's are of a row that is not there any more.
    kept = [frame_scores_row(clip, crf) for clip in ("a", "b", "not asked for") for crf in SWEEP[:-1]]
    table.append([*kept, frame_scores_row("a", SWEEP[-1], identity="of another model")])
    export_frame_scores(with_durable(*sweep_rows("b", "a")), table, tmp_path / "rows.frames.parquet", sweep=SWEEP)
    found = pl.read_parquet(tmp_path / "rows.frames.parquet").rows(named=True)
    assert [(row["src"], row["crf"]) for row in found] == [
        (f"/clips/{clip}.mp4", crf) for clip in ("b", "a") for crf in SWEEP[:-1]
    ]
    assert [row["vif_scale3"] for row in found] == [[crf, crf + 0.25, crf + 0.5] for crf in SWEEP[:-1]] * 2
