import json
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.corpus.dataset import Columns, Dataset
from frnr_assets.corpus.manifests.entries import Entry
from frnr_assets.corpus.manifests.records import ManifestError, RowRejected
from frnr_assets.corpus.schema import CLIPS_SCHEMA
from frnr_assets_tests.corpus.manifests import Disk, read


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def _entry(disk: Disk, row: dict[str, Any], **declared: Any) -> Entry:
    (listed,) = read(disk.dataset("k/m.jsonl", json.dumps(row), **declared))
    assert isinstance(listed.entry, Entry)
    return listed.entry


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b'{"src": "a.mp4"}\n{"src": "b.mp4"}\n', [1, 2]),
        (b'\xef\xbb\xbf{"src": "a.mp4"}\n{"src": "b.mp4"}', [1, 2]),
        (b'{"src": "a.mp4"}\r\n{"src": "b.mp4"}\r\n', [1, 2]),
        (b'\n\n{"src": "a.mp4"}\n  \t\n{"src": "b.mp4"}\n\n', [3, 5]),
        (b'\xef\xbb\xbf\r\n{"src": "a.mp4"}\r\n\r\n  {"src": "b.mp4"}  \r\n', [2, 4]),
    ],
    ids=["plain", "byte-order mark", "CRLF", "empty lines", "all of it"],
)
@pytest.mark.parametrize("name", ["m.jsonl", "m.NDJSON", "m.json"])
def test_a_manifest_saved_by_any_editor_gives_the_same_clips(
    disk: Disk, name: str, content: bytes, lines: list[int]
) -> None:
    found = read(disk.dataset(f"k/{name}", content))
    assert [listed.src for listed in found] == ["a.mp4", "b.mp4"]
    assert [listed.record.line for listed in found] == lines
    assert {listed.record.manifest for listed in found} == {disk.root / "k" / name}


def test_a_manifest_of_another_name_is_json_lines_when_it_is_declared_so(disk: Disk) -> None:
    dataset = disk.dataset("k/labels.txt", '{"src": "a.mp4", "mos": 2}', format="jsonl")
    assert [listed.src for listed in read(dataset)] == ["a.mp4"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x1c"], ids=ascii)
def test_a_line_separator_inside_a_text_does_not_tear_a_clip_apart(disk: Disk, separator: str) -> None:
    title = f"two{separator}lines"
    # U+001C may not stand unescaped in JSON, but it may as an escape.
    row = json.dumps({"src": "a.mp4", "title": title}, ensure_ascii=separator == "\x1c")
    (listed,) = read(disk.dataset("k/m.jsonl", row))
    assert isinstance(listed.entry, Entry)
    assert json.loads(listed.entry.extra) == {"title": title}


@pytest.mark.parametrize(
    ("src", "clips_root", "expected", "name"),
    [
        ("a.mp4", None, "k/a.mp4", "a.mp4"),
        ("sub/a.mp4", None, "k/sub/a.mp4", "sub/a.mp4"),
        ("./sub//a.mp4", None, "k/sub/a.mp4", "sub/a.mp4"),
        ("a.mp4", "clips", "clips/a.mp4", "a.mp4"),
        ("{root}/k/sub/a.mp4", None, "k/sub/a.mp4", "sub/a.mp4"),
        ("{root}/clips/a.mp4", "clips", "clips/a.mp4", "a.mp4"),
        ("{root}/shared/a.mp4", "clips", "shared/a.mp4", "{root}/shared/a.mp4"),
    ],
)
def test_a_source_is_found_from_the_manifest_or_the_clips_folder(
    disk: Disk, src: str, clips_root: str | None, expected: str, name: str
) -> None:
    disk.clips(expected, "clips/other.mp4")
    root = None if clips_root is None else disk.root / clips_root
    dataset = disk.jsonl(src.format(root=disk.root)).model_copy(update={"clips_root": root})
    disk.ingest(dataset, allowed_roots=[disk.root / "shared"])
    (row,) = disk.listed().values()
    assert (row["src"], row["name"]) == (str(disk.root / expected), name.format(root=disk.root))


def test_what_a_dataset_says_beyond_the_mos_is_kept(disk: Disk) -> None:
    more = {"ytid": "x-1", "tags": ["a", {"b": None}], "mos_raw": [1, 5], "licence": "CC BY 4.0 ©", "": 1, "MOS": 2}
    entry = _entry(disk, {"src": "a.mp4", "mos": 3, "split": "test", "url": "https://host/a.mp4", **more})
    assert json.loads(entry.extra) == more
    assert "CC BY 4.0 ©" in entry.extra
    assert (entry.split, entry.url) == ("test", "https://host/a.mp4")


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({}, (None, None, None)),
        ({"mos": None, "mos_std_dev": "", "n_ratings": None}, (None, None, None)),
        ({"mos": 4}, (4.0, None, None)),
        ({"mos": 3.0123456789012345, "mos_std_dev": 0.5}, (3.0123456789012345, 0.5, None)),
        ({"mos": "3.30", "n_ratings": "114"}, (3.3, None, 114)),
        ({"n_ratings": 114.0}, (None, None, 114)),
    ],
    ids=str,
)
def test_a_rating_is_passed_through_unchanged(
    disk: Disk, numbers: dict[str, Any], expected: tuple[float | None, float | None, int | None]
) -> None:
    entry = _entry(disk, {"src": "a.mp4", **numbers})
    found = (entry.mos, entry.mos_std_dev, entry.n_ratings)
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


def test_other_names_are_understood_when_they_are_declared(disk: Disk) -> None:
    columns = Columns(src="{folder}/{id}.mp4", mos="score", url="from")
    row = {"id": 7, "folder": "x", "score": 2.5, "src": "not this", "from": "https://host/7"}
    entry = _entry(disk, row, columns=columns)
    assert (entry.src, entry.mos, entry.url) == ("x/7.mp4", 2.5, "https://host/7")
    assert json.loads(entry.extra) == {"src": "not this"}
    rest = {"score": None, "from": ""}
    assert _entry(disk, {"id": "7", "folder": "x", **rest}, columns=columns).mos is None


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        (b'{"src": "a.mp4"', "malformed", "not JSON"),
        (b"src,mos", "malformed", "not JSON"),
        (b'{"src": "a.mp4"} {"src": "b.mp4"}', "malformed", "not JSON"),
        (b"[" * 100_000, "malformed", "not JSON"),
        (b'{"src": "a.mp4", "mos": 1' + b"0" * 5000 + b"}", "malformed", "not JSON"),
        (b'["a.mp4", 3.2]', "malformed", "object"),
        (b'"a.mp4"', "malformed", "object"),
        (b"null", "malformed", "object"),
        (b'{"mos": 3.2}', "malformed", "src is missing"),
        (b'{"": "a.mp4"}', "malformed", "src is missing"),
        (b'{"src": "", "mos": 3.2}', "malformed", "src is missing"),
        (b'{"src": null}', "malformed", "src is missing"),
        (b'{"src": 7340052218}', "malformed", "src is missing"),
        (b'{"src": ["a.mp4"]}', "malformed", "src is missing"),
        (b'{"src": "a\\ud800.mp4"}', "malformed", "half a character"),
        (b'{"src": "a.mp4", "src": "b.mp4"}', "malformed", "'src' is there twice"),
        (b'{"src": "a.mp4", "x": {"y": 1, "y": 1}}', "malformed", "'y' is there twice"),
        (b'{"src": "a.mp4", "\\ud800": 1, "\\ud800": 1}', "malformed", "there twice"),
        (b'{"src": "a.mp4", "x": NaN}', "malformed", "not JSON"),
        (b'{"src": "a.mp4", "x": [-Infinity]}', "malformed", "not JSON"),
        (b'{"src": "a.mp4", "x": 1e999}', "malformed", "not JSON"),
        (b'{"src": "caf\xe9.mp4"}', "undecodable", "byte 13 of the line is not UTF-8"),
        (b'{"src": "a.mp4", "mos": NaN}', "bad MOS", "not finite"),
        (b'{"src": "a.mp4", "mos": -Infinity}', "bad MOS", "not finite"),
        (b'{"src": "a.mp4", "mos": 1e999}', "bad MOS", "not finite"),
        (b'{"src": "a.mp4", "mos": "1e999"}', "bad MOS", "not finite"),
        (b'{"src": "a.mp4", "mos": " +inf "}', "bad MOS", "not finite"),
        (b'{"src": "a.mp4", "mos": "1_0"}', "bad MOS", "not a number"),
        ('{"src": "a.mp4", "mos": "\u0663"}'.encode(), "bad MOS", "not a number"),
        (b'{"src": "a.mp4", "mos": "3,2"}', "bad MOS", "not a number"),
        (b'{"src": "a.mp4", "mos": true}', "bad MOS", "not a number"),
        (b'{"src": "a.mp4", "mos": [3.2]}', "bad MOS", "not a number"),
        (b'{"src": "a.mp4", "mos": 1' + b"0" * 400 + b"}", "bad MOS", "401 digits"),
        (b'{"src": "a.mp4", "mos_std_dev": "high"}', "bad value", "mos_std_dev"),
        (b'{"src": "a.mp4", "n_ratings": 2.5}', "bad value", "n_ratings"),
        (b'{"src": "a.mp4", "n_ratings": -1}', "bad value", "n_ratings"),
        (b'{"src": "a.mp4", "n_ratings": 1e300}', "bad value", "n_ratings"),
        (b'{"src": "a.mp4", "n_ratings": false}', "bad value", "n_ratings"),
        (b'{"src": "a.mp4", "url": 5}', "bad value", "url"),
    ],
    ids=lambda value: ascii(value[:50]) if isinstance(value, bytes) else value,
)
def test_a_bad_row_is_found_by_its_line_and_costs_no_other(disk: Disk, line: bytes, kind: str, reason: str) -> None:
    disk.clips("k/before.mp4", "k/after.mp4", "k/a.mp4")
    content = b'{"src": "before.mp4"}\n\n' + line + b'\n{"src": "after.mp4"}'
    disk.ingest(disk.dataset("k/m.jsonl", content))
    assert list(disk.listed()) == ["before.mp4", "after.mp4"]
    (reject,) = disk.tables.rejects.read().iter_rows(named=True)
    assert (reject["manifest"], reject["line"], reject["dataset"]) == (str(disk.root / "k/m.jsonl"), 3, "k")
    assert reject["kind"] == kind
    assert reason in reject["reason"]
    assert line.decode(errors="backslashreplace").startswith(reject["row"])


@pytest.mark.parametrize("content", [b"", b"\n \r\n\n", b"\xef\xbb\xbf"], ids=["empty", "blank lines", "mark only"])
@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
def test_a_manifest_without_a_clip_is_not_taken_for_a_dataset(disk: Disk, name: str, content: bytes) -> None:
    with pytest.raises(ManifestError, match="no clip") as caught:
        disk.ingest(disk.dataset(name, content))
    assert str(disk.root / name) in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
def test_a_manifest_in_utf16_is_refused_with_what_to_do(disk: Disk, name: str, encoding: str) -> None:
    content = "\ufeff" + ('{"src": "a.mp4"}' if name == "m.jsonl" else "src,mos\na.mp4,3")
    with pytest.raises(ManifestError, match="it is UTF-16; save it as UTF-8"):
        disk.ingest(disk.dataset(name, content.encode(encoding)))


@pytest.mark.parametrize(("name", "declared"), [("missing.jsonl", None), ("missing.csv", None), ("folder", "jsonl")])
def test_a_manifest_that_cannot_be_opened_is_named_with_its_setting(
    disk: Disk, name: str, declared: str | None
) -> None:
    disk.clips("folder/a.mp4")
    dataset = Dataset.model_validate({"name": "k", "manifest": disk.root / name, "format": declared})
    with pytest.raises(ManifestError, match=r"`manifest` of the dataset in frnr\.toml") as caught:
        disk.ingest(dataset)
    assert str(disk.root / name) in str(caught.value)


def test_what_was_read_fits_the_table_of_clips(disk: Disk) -> None:
    disk.clips("k/a.mp4", "k/b.mp4")
    disk.ingest(disk.jsonl({"src": "a.mp4", "mos": 3, "n_ratings": 5, "x": 1}, "b.mp4"))
    assert disk.tables.clips.schema().equals(CLIPS_SCHEMA)
    row = disk.listed()["a.mp4"]
    clip = disk.root / "k/a.mp4"
    assert row == {
        "clip": "a",
        "dataset": "k",
        "name": "a.mp4",
        "src": str(clip),
        "mos": 3.0,
        "mos_std_dev": None,
        "n_ratings": 5,
        "split": None,
        "url": None,
        "extra": '{"x": 1}',
        "manifest": str(disk.root / "k/manifest.jsonl"),
        "line": 1,
        "size_bytes": clip.stat().st_size,
        "mtime_ns": clip.stat().st_mtime_ns,
        "removed": False,
    }


def test_a_row_says_which_clip_it_is_about_even_when_its_values_are_bad(disk: Disk) -> None:
    (listed,) = read(disk.jsonl({"src": "a.mp4", "mos": "good"}))
    assert listed.src == "a.mp4"
    assert isinstance(listed.entry, RowRejected)


@pytest.mark.parametrize("spelling", ["mos", "MOS", "video_score"])
def test_a_mos_is_not_lost_for_its_spelling(disk: Disk, spelling: str) -> None:
    disk.clips("k/a.mp4", "k/b.mp4")
    disk.ingest(disk.jsonl({"src": "b.mp4"}, {"src": "a.mp4", spelling: 3.2}))
    assert {name: row["mos"] for name, row in disk.listed().items()} == {"b.mp4": None, "a.mp4": 3.2}


def test_a_configured_key_that_no_row_has_is_refused(disk: Disk) -> None:
    disk.clips("k/a.mp4")
    dataset = disk.jsonl({"src": "a.mp4", "rating": 3}).model_copy(update={"columns": Columns(mos="rtaing")})
    with pytest.raises(ManifestError, match=r"no row has rtaing, which is configured as columns\.mos"):
        disk.ingest(dataset)
