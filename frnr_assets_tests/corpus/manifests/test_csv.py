import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from frnr_assets.corpus.dataset import Columns
from frnr_assets.corpus.manifests.entries import Entry
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets_tests.corpus.manifests import Disk, read


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def _entries(disk: Disk, content: bytes | str, **declared: Any) -> list[Entry]:
    found = [listed.entry for listed in read(disk.dataset("k/m.csv", content, **declared))]
    entries = [entry for entry in found if isinstance(entry, Entry)]
    assert len(entries) == len(found)
    return entries


@pytest.mark.parametrize(
    ("content", "declared", "sources", "mos"),
    [
        pytest.param(
            "flickr_id,mos\n10036008364,3.4000000000000004\n2999049224,1.22\n",
            {"columns": Columns(src="{flickr_id}.mp4")},
            ["10036008364.mp4", "2999049224.mp4"],
            [3.4000000000000004, 1.22],
            id="KonViD-1k",
        ),
        pytest.param(
            "File,MOS\nA001.mp4,80.233\nA002.mp4,6.2\n",
            {"columns": Columns(src="File"), "mos_scale": (0.0, 100.0)},
            ["A001.mp4", "A002.mp4"],
            [80.233, 6.2],
            id="LIVE-VQC",
        ),
        pytest.param(
            "name,p1,mos\nyfcc-batch1/1,0.1,71.5\nia-batch2/2,0.2,60\n",
            {"columns": Columns(src="{name}.mp4"), "mos_scale": (0.0, 100.0)},
            ["yfcc-batch1/1.mp4", "ia-batch2/2.mp4"],
            [71.5, 60.0],
            id="LSVQ",
        ),
        pytest.param(
            "vid,MOS full\nGaming_720P-25aa,3.7\nVlog_1080P-4f2b,4.1\n",
            {"columns": Columns(src="{vid}.mkv", mos="MOS full")},
            ["Gaming_720P-25aa.mkv", "Vlog_1080P-4f2b.mkv"],
            [3.7, 4.1],
            id="YouTube-UGC",
        ),
    ],
)
def test_a_published_dataset_needs_no_conversion(
    disk: Disk, content: str, declared: dict[str, Any], sources: list[str], mos: list[float]
) -> None:
    disk.clips(*(f"clips/{source}" for source in sources))
    disk.ingest(disk.dataset("k/m.csv", content, clips_root=disk.root / "clips", **declared))
    assert {name: row["mos"] for name, row in disk.listed().items()} == dict(zip(sources, mos, strict=True))
    assert disk.rejects() == []


@pytest.mark.parametrize("src", ["src", "file_name", "video_name", "filename", "name"])
@pytest.mark.parametrize("mos", ["mos", "MOS", "video_score"])
def test_usual_spellings_of_path_and_mos_are_recognised(disk: Disk, src: str, mos: str) -> None:
    (entry,) = _entries(disk, f"{mos},{src}\n3.25,a.mp4\n")
    assert (entry.src, entry.mos, entry.extra) == ("a.mp4", 3.25, "{}")


@pytest.mark.parametrize("deviation", ["mos_std_dev", "mos_std", "SD_MOS", "SD", "sd"])
@pytest.mark.parametrize("ratings", ["n_ratings", "num_ratings", "ratings", "n"])
def test_usual_spellings_of_what_is_known_of_the_ratings_are_recognised(
    disk: Disk, deviation: str, ratings: str
) -> None:
    (entry,) = _entries(disk, f"name,{deviation},{ratings}\na.mp4,0.125,114\n")
    assert (entry.mos_std_dev, entry.n_ratings, entry.extra) == (0.125, 114, "{}")


PLAIN = "src,mos,title\na.mp4,3.2,one\nb.mp4,,two\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace("\n", "\n\n").encode(),
        PLAIN.rstrip().encode(),
        b'"src","mos","title"\n"a.mp4","3.2","one"\n"b.mp4","","two"\n',
        b"src, mos , title\na.mp4, 3.2 ,one\nb.mp4,,two\n",
        b"title,mos,src\none,3.2,a.mp4\ntwo,,b.mp4\n",
    ],
    ids=[
        "plain",
        "CRLF",
        "byte-order mark",
        "semicolons",
        "tabs",
        "empty lines",
        "no last line end",
        "quoted",
        "spaces",
        "another order",
    ],
)
def test_a_table_saved_by_any_program_gives_the_same_clips(disk: Disk, content: bytes) -> None:
    found = [(entry.src, entry.mos, json.loads(entry.extra)) for entry in _entries(disk, content)]
    assert found == [("a.mp4", 3.2, {"title": "one"}), ("b.mp4", None, {"title": "two"})]


def test_what_stands_in_quotes_or_looks_like_a_line_end_stays_in_its_column(disk: Disk) -> None:
    (entry,) = _entries(disk, 'src,mos,title\n"a, ""b"".mp4",3,two\u2028lines\u0085\x1c')
    assert entry.src == 'a, "b".mp4'
    assert json.loads(entry.extra) == {"title": "two\u2028lines\u0085\x1c"}


def test_the_numbered_first_column_that_pandas_writes_is_not_taken_for_ratings_or_an_address(disk: Disk) -> None:
    entries = _entries(disk, ",src,mos\n1,a.mp4,3\n2,b.mp4,4\n")
    extra = [json.dumps({"": number}) for number in ("1", "2")]
    assert entries == [
        Entry("a.mp4", 3.0, None, None, None, None, extra[0]),
        Entry("b.mp4", 4.0, None, None, None, None, extra[1]),
    ]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("path,mos", "no column with the clips' paths; there are path, mos; name it as columns.src"),
        ("src,mos,mos", "the column 'mos' twice"),
        ("src,,", "the column 'without a name' twice"),
        ('"src,mos', "line 2, the header: not CSV"),
        ("src,mos\rb.mp4,3", "line 2, the header: not CSV"),
        ("src,caf\udce9", "line 2, the header: byte 8 of the line is not UTF-8"),
    ],
)
def test_a_header_that_cannot_be_understood_is_named(disk: Disk, header: str, reason: str) -> None:
    disk.clips("k/a.mp4")
    content = f"\n{header}\na.mp4,3\n".encode(errors="surrogateescape")
    with pytest.raises(ManifestError, match=reason) as caught:
        disk.ingest(disk.dataset("k/m.csv", content))
    assert str(disk.root / "k/m.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "missing"),
    [(Columns(src="path"), "path"), (Columns(src="{set}/{id}.mp4"), "id"), (Columns(split="part"), "part")],
)
def test_a_column_that_was_declared_but_is_not_there_is_named(disk: Disk, columns: Columns, missing: str) -> None:
    with pytest.raises(ManifestError, match=rf"no column {missing} \(columns\.\w+\); there are src, set"):
        read(disk.dataset("k/m.csv", "src,set\na.mp4,x\n", columns=columns))


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        (b"a.mp4", "malformed", "1 columns where the header has 3"),
        (b"a.mp4,3", "malformed", "2 columns"),
        (b"a.mp4,3,,", "malformed", "4 columns"),
        (b",3,", "malformed", "src is missing"),
        (b'"a.mp4,3,', "malformed", "not CSV"),
        (b'"a"b.mp4,3,', "malformed", "not CSV"),
        (b"a.mp4\r,3,", "malformed", "not CSV"),
        (b"a.mp4,3," + b"x" * 200_000, "malformed", "not CSV"),
        (b"caf\xe9.mp4,3,", "undecodable", "byte 4 of the line"),
        (b"a\0.mp4,3,", "bad path", "a NUL"),
        (b"a.mp4,nan,", "bad MOS", "not finite"),
        (b"a.mp4,-Infinity,", "bad MOS", "not finite"),
        (b"a.mp4,1e999,", "bad MOS", "not finite"),
        (b"a.mp4,1_0,", "bad MOS", "not a number"),
        (b"a.mp4,0x3,", "bad MOS", "not a number"),
        ("a.mp4,\u0663,".encode(), "bad MOS", "not a number"),
        (b"a.mp4,n/a,", "bad MOS", "not a number"),
        (b'a.mp4,"3,2",', "bad MOS", "not a number"),
        (b"a.mp4,3,many", "bad value", "n_ratings"),
    ],
    ids=lambda value: ascii(value[:30]) if isinstance(value, bytes) else value,
)
def test_a_bad_row_is_found_by_its_line_and_costs_no_other(disk: Disk, row: bytes, kind: str, reason: str) -> None:
    disk.clips("k/before.mp4", "k/after.mp4", "k/a.mp4")
    disk.ingest(disk.dataset("k/m.csv", b"src,mos,n\nbefore.mp4,3,\n" + row + b"\nafter.mp4,,\n"))
    assert {name: clip["line"] for name, clip in disk.listed().items()} == {"before.mp4": 2, "after.mp4": 4}
    assert disk.rejects() == [(3, kind)]
    assert reason in disk.reasons()[0]


@pytest.mark.parametrize("vid", ["", "../b", "x\u2028y"])
def test_a_pattern_makes_no_path_that_a_column_may_not_make(disk: Disk, vid: str) -> None:
    disk.clips("k/a.mkv")
    disk.ingest(disk.dataset("k/m.csv", f"vid,mos\na,3\n{vid},3\n", columns=Columns(src="{vid}.mkv")))
    assert list(disk.listed()) == ["a.mkv"]
    assert [line for line, _ in disk.rejects()] == [3]


def _as_json_lines(rows: Sequence[tuple[str, float, float]]) -> str:
    return "\n".join(json.dumps({"src": src, "mos": mos, "mos_std_dev": std}) for src, mos, std in rows)


def _as_csv(rows: Sequence[tuple[str, float, float]]) -> str:
    return "\n".join(["file_name;MOS;SD", *(f"{src};{mos!r};{std!r}" for src, mos, std in rows)])


@pytest.mark.parametrize(
    ("path", "declared"),
    [("k/m.jsonl", None), ("k/m.csv", None), ("k/m.txt", "csv"), ("k/k150ka_scores.csv", "konvid-150k")],
)
def test_every_format_gives_the_same_table(disk: Disk, path: str, declared: str | None) -> None:
    rows = [("a.mp4", 3.0000000000000004, 0.5), ("é b.mp4", 1.0, 0.25), ("c.mp4", 5.0, 0.0)]
    folder = "k/k150ka_extracted" if declared == "konvid-150k" else "k"
    disk.clips(*(f"{folder}/{src}" for src, _, _ in rows))
    dataset = disk.dataset(path, (_as_json_lines if path.endswith("l") else _as_csv)(rows), format=declared)
    if declared == "konvid-150k":
        dataset = dataset.model_copy(update={"manifest": disk.root / "k"})
    disk.ingest(dataset)
    found = disk.tables.listed_clips().select("clip", "mos", "mos_std_dev", "dataset", "extra", "removed")
    assert list(found.iter_rows()) == [(Path(src).stem, mos, std, "k", "{}", False) for src, mos, std in rows]
