from pathlib import Path
from typing import Any

import polars as pl
import pytest

from frnr_assets.corpus.schema import CLIPS_SCHEMA, FEATURE_ROWS_SCHEMA
from frnr_assets.corpus.store import PartTable
from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets_tests.corpus.rows import SWEEP, feature_row, reference_row, sweep_rows

CLIP_ROW = {
    "clip": "a",
    "dataset": "konvid",
    "name": "a.mp4",
    "src": "/clips/a.mp4",
    "mos": 3.2,
    "mos_std_dev": None,
    "n_ratings": 5,
    "split": None,
    "url": None,
    "extra": "{}",
    "manifest": "/manifest.jsonl",
    "line": 1,
    "size_bytes": 10,
    "mtime_ns": 20,
    "removed": False,
}


def _write_clips(tables: Tables, *clips: str, **changes: Any) -> None:
    tables.clips.write([CLIP_ROW | {"clip": clip} | changes for clip in clips])


def test_an_operator_is_told_what_to_materialize_first(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    for needed in (tables.listed_clips, tables.quarantine, tables.current_rows):
        with pytest.raises(NotMaterialized, match="materialize source_manifest"):
            needed()


def test_a_clip_that_left_the_manifests_is_known_but_not_listed(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    rows = [CLIP_ROW | {"clip": "gone", "removed": True}, CLIP_ROW]
    tables.clips.write(rows)
    assert tables.clips.read().rows(named=True) == rows
    assert tables.listed_clips().rows(named=True) == [CLIP_ROW]
    assert tables.clips.schema().equals(CLIPS_SCHEMA)


def test_no_two_tables_are_kept_in_the_same_place(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    _write_clips(tables, "a")
    for table in (tables.rejects, tables.watched, tables.contents):
        assert not table.exists()
        table.write([])
    tables.references.append([reference_row()])
    tables.feature_rows.append([feature_row()])
    assert tables.downloads.read().is_empty()
    assert tables.attempts.read().is_empty()
    assert len(tables.listed_clips()) == len(tables.references.read()) == len(tables.feature_rows.read()) == 1


def test_rows_of_a_file_that_was_replaced_since_are_not_published(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    tables.references.append([reference_row("a"), reference_row("b"), reference_row("c")])
    _write_clips(tables, "a", "b", "c", "never decoded")
    tables.feature_rows.append(sweep_rows("a", "b", "c", "never decoded"))
    tables.references.append([reference_row("b", src_sha256="1" * 64)])
    tables.references.append([{"clip": "c", "src": "/clips/c.mp4", "quarantine_reason": "it is empty"}])
    tables.feature_rows.append([feature_row("b", SWEEP[0], src_sha256="1" * 64)])
    found = [(row["clip"], row["crf"]) for row in tables.current_rows().rows(named=True)]
    assert found == [*(("a", crf) for crf in SWEEP), ("b", SWEEP[0])]


def test_what_is_published_is_what_the_manifests_say_now(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    tables.references.append([reference_row("kept"), reference_row("removed"), reference_row("forgotten")])
    tables.feature_rows.append(sweep_rows("kept", "removed", "forgotten"))
    tables.clips.write(
        [CLIP_ROW | {"clip": "kept", "mos": 1.25}, CLIP_ROW | {"clip": "removed", "name": "b.mp4", "removed": True}]
    )
    rows = tables.current_rows()
    assert rows["clip"].unique().to_list() == ["kept"]
    assert rows["nr_mos"].unique().to_list() == [1.25]
    assert rows.columns == FEATURE_ROWS_SCHEMA.names
    assert tables.rows_to_publish().equals(rows.with_columns(dataset=pl.lit(CLIP_ROW["dataset"])))


def test_a_source_has_one_mos_in_all_its_rows_although_manifests_are_read_again_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables(tmp_path)
    tables.references.append([reference_row("a")])
    tables.feature_rows.append(sweep_rows("a"))
    tables.clips.write([CLIP_ROW | {"clip": "a", "mos": 1.0}])
    read = PartTable.read

    def read_and_correct(table: PartTable, *args: Any, **kwargs: Any) -> pl.DataFrame:
        found = read(table, *args, **kwargs)
        if "vmaf_score" in found.columns:
            tables.clips.write([CLIP_ROW | {"clip": "a", "mos": 4.9}])
        return found

    monkeypatch.setattr(PartTable, "read", read_and_correct)
    assert tables.rows_to_publish()["nr_mos"].to_list() == [1.0] * len(SWEEP)


def test_before_anything_was_measured_there_is_nothing_to_publish(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    _write_clips(tables, "a")
    assert tables.current_rows().is_empty()


def test_a_clip_in_quarantine_says_why_and_since_when(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    _write_clips(tables, "b", "a", "fine", "mended")
    bad = {"quarantine_reason": "it is empty", "tool_output": "moov atom not found", "attempts": 3}
    tables.references.append([{"clip": clip, "src": f"/clips/{clip}.mp4", **bad} for clip in ("b", "a", "gone")])
    tables.references.append([reference_row("mended", quarantine_reason="it is empty"), reference_row("fine")])
    tables.references.append([reference_row("mended")])
    recorded = tables.references.read(columns=["recorded_ns"])
    found = tables.quarantine()
    assert found["clip"].to_list() == ["a", "b"]
    row = found.row(0, named=True)
    since = row.pop("since")
    assert row == {"clip": "a", "dataset": "konvid", "src": "/clips/a.mp4", "src_sha256": None, **bad}
    assert since.utcoffset().total_seconds() == 0
    assert int(since.timestamp()) == recorded.row(0, named=True)["recorded_ns"] // 10**9


def test_where_nothing_is_in_quarantine_none_is_shown(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    _write_clips(tables, "a")
    assert tables.quarantine().is_empty()
    tables.references.append([reference_row("a")])
    assert tables.quarantine().is_empty()


@pytest.mark.parametrize("gone", ["old name", "new name"])
def test_a_renamed_file_that_is_listed_under_both_names_is_published_once(tmp_path: Path, gone: str) -> None:
    tables = Tables(tmp_path)
    names = ("new name", "old name")
    tables.clips.write([CLIP_ROW | {"clip": name, "size_bytes": None if name == gone else 10} for name in names])
    tables.references.append([reference_row(name, src_sha256="1" * 64) for name in names])
    tables.feature_rows.append([feature_row(name, crf, src_sha256="1" * 64) for name in names for crf in SWEEP])
    (kept,) = set(names) - {gone}
    assert tables.current_rows().select("clip", "crf").rows() == [(kept, crf) for crf in SWEEP]
