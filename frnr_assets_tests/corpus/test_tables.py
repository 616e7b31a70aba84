from pathlib import Path

import pytest

from frnr_assets.corpus.schema import FEATURE_ROWS_SCHEMA, MANIFEST_SCHEMA
from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets_tests.corpus.rows import SWEEP, feature_row, reference_row, sweep_rows

MANIFEST_ROW = {
    "clip": "a",
    "src": "/clips/a.mp4",
    "mos": 3.2,
    "mos_std_dev": None,
    "n_ratings": 5,
    "dataset": "konvid",
    "extra": "{}",
    "manifest": "/manifest.jsonl",
    "line": 1,
}


def test_an_operator_is_told_what_to_materialize_first(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    for needed in (tables.manifest, tables.manifest_schema):
        with pytest.raises(NotMaterialized, match="materialize source_manifest"):
            needed()


def test_a_clip_that_left_the_manifest_is_gone_from_its_table(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    tables.write_manifest([MANIFEST_ROW, MANIFEST_ROW | {"clip": "b"}])
    assert tables.write_manifest([MANIFEST_ROW | {"clip": "b"}]).rows(named=True) == [MANIFEST_ROW | {"clip": "b"}]
    assert tables.manifest_schema().equals(MANIFEST_SCHEMA)
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["manifest.parquet"]


def test_rows_of_a_file_that_was_replaced_since_are_not_published(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    tables.references.append([reference_row("a"), reference_row("b"), reference_row("c")])
    tables.write_manifest([MANIFEST_ROW | {"clip": clip} for clip in ("a", "b", "c", "never decoded")])
    tables.feature_rows.append(sweep_rows("a", "b", "c", "never decoded"))
    tables.references.append([reference_row("b", src_sha256="1" * 64)])
    tables.references.append([{"clip": "c", "src": "/clips/c.mp4", "quarantine_reason": "it is empty"}])
    tables.feature_rows.append([feature_row("b", SWEEP[0], src_sha256="1" * 64)])
    found = [(row["clip"], row["crf"]) for row in tables.current_rows().rows(named=True)]
    assert found == [*(("a", crf) for crf in SWEEP), ("b", SWEEP[0])]


def test_what_is_published_is_what_the_manifest_says_now(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    tables.references.append([reference_row("kept"), reference_row("removed")])
    tables.feature_rows.append(sweep_rows("kept", "removed"))
    tables.write_manifest([MANIFEST_ROW | {"clip": "kept", "mos": 1.25}])
    rows = tables.current_rows()
    assert rows["clip"].unique().to_list() == ["kept"]
    assert rows["nr_mos"].unique().to_list() == [1.25]
    assert rows.columns == FEATURE_ROWS_SCHEMA.names


def test_before_anything_was_measured_there_is_nothing_to_publish(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    tables.write_manifest([MANIFEST_ROW])
    assert tables.current_rows().is_empty()
