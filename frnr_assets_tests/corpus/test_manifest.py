import json
import math
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.corpus.manifest import ManifestError, read_manifest
from frnr_assets.corpus.schema import MANIFEST_SCHEMA
from frnr_assets.corpus.tables import Tables

GOOD_LINE = b'{"src": "a.mp4", "mos": 3.2}'


def _read(folder: Path, content: bytes, clips_root: Path | None = None) -> list[dict[str, Any]]:
    manifest = folder / "manifest.jsonl"
    manifest.write_bytes(content)
    return read_manifest(manifest, clips_root=clips_root, dataset="konvid")


@pytest.mark.parametrize(
    ("content", "keys", "lines"),
    [
        (b'{"src": "a.mp4"}\n{"src": "b.mp4"}\n', ["a", "b"], [1, 2]),
        (b'\xef\xbb\xbf{"src": "a.mp4"}\n{"src": "b.mp4"}', ["a", "b"], [1, 2]),
        (b'{"src": "a.mp4"}\r\n{"src": "b.mp4"}\r\n', ["a", "b"], [1, 2]),
        (b'\n\n{"src": "a.mp4"}\n  \t\n{"src": "b.mp4"}\n\n', ["a", "b"], [3, 5]),
        (b'\xef\xbb\xbf\r\n{"src": "a.mp4"}\r\n\r\n  {"src": "b.mp4"}  \r\n', ["a", "b"], [2, 4]),
    ],
    ids=["plain", "byte-order mark", "CRLF", "empty lines", "all of it"],
)
def test_a_manifest_saved_by_any_editor_gives_the_same_clips(
    tmp_path: Path, content: bytes, keys: list[str], lines: list[int]
) -> None:
    rows = _read(tmp_path, content)
    assert [row["clip"] for row in rows] == keys
    assert [row["line"] for row in rows] == lines
    assert {row["manifest"] for row in rows} == {str(tmp_path / "manifest.jsonl")}


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x1c"], ids=ascii)
def test_a_line_separator_inside_a_name_does_not_tear_a_clip_apart(tmp_path: Path, separator: str) -> None:
    title = f"two{separator}lines"
    # U+001C may not stand unescaped in JSON, but it may as an escape.
    entry = json.dumps({"src": f"{title}.mp4", "title": title}, ensure_ascii=separator == "\x1c")
    (row,) = _read(tmp_path, entry.encode())
    assert Path(row["src"]).name == f"{title}.mp4"
    assert json.loads(row["extra"]) == {"title": title}


@pytest.mark.parametrize(
    ("src", "clips_root", "expected"),
    [
        ("a.mp4", None, "a.mp4"),
        ("sub/a.mp4", None, "sub/a.mp4"),
        ("a.mp4", "elsewhere", "elsewhere/a.mp4"),
        ("{tmp_path}/x/a.mp4", None, "x/a.mp4"),
        ("{tmp_path}/x/a.mp4", "elsewhere", "x/a.mp4"),
    ],
)
def test_a_source_is_found_from_the_manifest_or_the_clips_root(
    tmp_path: Path, src: str, clips_root: str | None, expected: str
) -> None:
    content = json.dumps({"src": src.format(tmp_path=tmp_path)}).encode()
    (row,) = _read(tmp_path, content, None if clips_root is None else tmp_path / clips_root)
    assert row["src"] == str(tmp_path / expected)


def test_a_source_stays_the_same_when_the_working_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(GOOD_LINE)
    monkeypatch.chdir(tmp_path)
    for root in (None, Path("clips")):
        (row,) = read_manifest(Path("manifest.jsonl"), clips_root=root, dataset="konvid")
        assert row["src"] == str(tmp_path / (root or "") / "a.mp4")


def test_what_a_dataset_says_beyond_the_mos_is_kept(tmp_path: Path) -> None:
    more = {"ytid": "x-1", "tags": ["a", {"b": None}], "mos_raw": [1, 5], "licence": "CC BY 4.0 ©"}
    (row,) = _read(tmp_path, json.dumps({"src": "a.mp4", "mos": 3, **more}).encode())
    assert json.loads(row["extra"]) == more


@pytest.mark.parametrize(
    ("entry", "dataset"),
    [({}, "konvid"), ({"corpus": "kv150"}, "kv150"), ({"dataset": "kv1k"}, "kv1k"), ({"corpus": ""}, "konvid")],
)
def test_a_clip_is_attributed_to_the_dataset_it_names_or_the_configured_one(
    tmp_path: Path, entry: dict[str, str], dataset: str
) -> None:
    (row,) = _read(tmp_path, json.dumps({"src": "a.mp4", **entry}).encode())
    assert row["dataset"] == dataset


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({}, {"mos": None, "mos_std_dev": None, "n_ratings": None}),
        ({"mos": None, "n_ratings": None}, {"mos": None, "n_ratings": None}),
        ({"mos": 4}, {"mos": 4.0}),
        ({"mos": 3.0123456789012345, "mos_std_dev": 0.5}, {"mos": 3.0123456789012345, "mos_std_dev": 0.5}),
        ({"n_ratings": 114}, {"n_ratings": 114}),
        ({"n_ratings": 114.0}, {"n_ratings": 114}),
    ],
)
def test_a_rating_is_passed_through_unchanged(
    tmp_path: Path, numbers: dict[str, float | None], expected: dict[str, float | None]
) -> None:
    (row,) = _read(tmp_path, json.dumps({"src": "a.mp4", **numbers}).encode())
    found = {name: row[name] for name in expected}
    assert found == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected.values()]


def test_a_mos_that_is_not_finite_is_left_to_the_checks(tmp_path: Path) -> None:
    rows = _read(tmp_path, b'{"src": "a.mp4", "mos": NaN}\n{"src": "b.mp4", "mos": Infinity}')
    assert math.isnan(rows[0]["mos"])
    assert math.isinf(rows[1]["mos"])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"src": "a.mp4"', "not JSON"),
        (b"src,mos", "not JSON"),
        (b'{"src": "a.mp4"} {"src": "b.mp4"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'["a.mp4", 3.2]', "object"),
        (b'"a.mp4"', "object"),
        (b"null", "object"),
        (b'{"mos": 3.2}', "src"),
        (b'{"src": "", "mos": 3.2}', "src"),
        (b'{"src": null}', "src"),
        (b'{"src": 7340052218}', "src"),
        (b'{"src": ["a.mp4"]}', "src"),
        (b'{"src": "a\\u0000.mp4"}', "src"),
        (b'{"src": "a\\ud800.mp4"}', "src"),
        (b'{"src": "/"}', "src"),
        (b'{"src": "a.mp4", "mos": "3.2"}', "mos"),
        (b'{"src": "a.mp4", "mos": true}', "mos"),
        (b'{"src": "a.mp4", "mos": [3.2]}', "mos"),
        (b'{"src": "a.mp4", "mos": 1' + b"0" * 400 + b"}", "mos"),
        (b'{"src": "a.mp4", "mos_std_dev": "0.5"}', "mos_std_dev"),
        (b'{"src": "a.mp4", "n_ratings": 2.5}', "n_ratings"),
        (b'{"src": "a.mp4", "n_ratings": NaN}', "n_ratings"),
        (b'{"src": "a.mp4", "n_ratings": false}', "n_ratings"),
        (b'{"src": "a.mp4", "n_ratings": 1e300}', "n_ratings"),
    ],
    ids=lambda value: value[:40].decode() if isinstance(value, bytes) else value,
)
def test_a_bad_line_is_found_by_its_file_and_number(tmp_path: Path, line: bytes, reason: str) -> None:
    with pytest.raises(ManifestError) as caught:
        _read(tmp_path, GOOD_LINE + b"\n\n" + line + b"\n" + GOOD_LINE)
    assert f"{tmp_path / 'manifest.jsonl'}, line 3: " in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n \r\n\n", b"\xef\xbb\xbf"], ids=["empty", "blank lines", "mark only"])
def test_a_manifest_without_a_clip_is_not_taken_for_a_dataset(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ManifestError, match="no clip") as caught:
        _read(tmp_path, content)
    assert str(tmp_path / "manifest.jsonl") in str(caught.value)


@pytest.mark.parametrize(
    "content", [b'{"src": "caf\xe9.mp4"}', '{"src": "a.mp4"}'.encode("utf-16")], ids=["Latin-1", "UTF-16"]
)
def test_a_manifest_that_is_not_utf8_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ManifestError, match="not UTF-8") as caught:
        _read(tmp_path, content)
    assert str(tmp_path / "manifest.jsonl") in str(caught.value)


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_manifest_that_cannot_be_opened_is_named_with_its_setting(tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestError, match=r"`manifest` in frnr\.toml") as caught:
        read_manifest(tmp_path / name, clips_root=None, dataset="konvid")
    assert str(tmp_path / name) in str(caught.value)


def test_what_was_read_fits_the_manifest_table(tmp_path: Path) -> None:
    rows = _read(tmp_path, GOOD_LINE + b'\n{"src": "b.mp4", "n_ratings": 5, "x": 1}')
    table = Tables(tmp_path / "data").write_manifest(rows)
    assert table.columns == MANIFEST_SCHEMA.names
    assert table.rows(named=True) == rows
