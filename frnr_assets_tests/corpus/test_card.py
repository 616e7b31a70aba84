"""The dataset card: that its numbers are those of the corpus, and that no manifest writes on it."""

import re
from pathlib import Path

import polars as pl
import pytest

from frnr_assets import load_corpus
from frnr_assets.corpus.card import Background, dataset_card, write_card
from frnr_assets.corpus.publish import Publication, publish
from frnr_assets.vocabulary import CAVEAT
from frnr_assets_tests.corpus.rows import MOS_SCALE, SWEEP, feature_row, rows_to_publish, sweep_rows

BACKGROUND = Background({"konvid-1k": "CC BY 4.0"}, {"konvid-1k": 2, "gone": 1}, ["ffmpeg -i fd: out.mp4 3< SOURCE"])


def corpus_rows() -> pl.DataFrame:
    large = {"width": 1920, "height": 1080, "duration_s": 8.0, "nr_mos": None}
    return pl.concat(
        [
            rows_to_publish(
                [row | {"nr_mos": mos} for clip, mos in (("a", 2.0), ("b", 4.0)) for row in sweep_rows(clip)]
            ),
            rows_to_publish([feature_row("c", crf, **large) for crf in SWEEP], "konvid-1k"),
        ]
    )


@pytest.fixture
def publication(tmp_path: Path) -> Publication:
    return publish(corpus_rows(), tmp_path / "corpus" / "fr_corpus", sweep=SWEEP, mos_scale=MOS_SCALE)


def table_after(card: str, words: str) -> list[list[str]]:
    """The cells of the first table after some words, without its head."""
    lines = card.split(words, 1)[1].split("\n|", 1)[1].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


def test_the_caveat_comes_before_everything_else(publication: Publication) -> None:
    card = dataset_card(publication, corpus_rows(), BACKGROUND)
    assert card.startswith(f"# fr_corpus\n\n> **The caveat.** {CAVEAT}\n")


def test_every_number_of_the_card_is_that_of_the_corpus(publication: Publication) -> None:
    card = dataset_card(publication, corpus_rows(), BACKGROUND)
    assert "3 clips, 9 rows, 3 sources, 3 more in quarantine" in card
    assert table_after(card, "## Counts") == [
        ["gone", "", "0", "0", "0", "0", "0", "1"],
        ["konvid-1k", "uploads", "1", "3", "1", "0", "0", "2"],
        ["tests", "uploads", "2", "6", "2", "0", "0", "0"],
    ]
    assert table_after(card, "VMAF (0 to 100)") == [[str(crf), "3", *[f"{100 - crf}"] * 6] for crf in SWEEP]
    assert table_after(card, "Bitrate")[0] == ["18", "3", *["0.5"] * 6]
    assert table_after(card, "MOS by dataset") == [["tests", "2", "3", "2", "2.2", "3", "3.8", "4"]]
    assert table_after(card, "Duration (s)") == [["konvid-1k", "1", *["8"] * 6], ["tests", "2", *["0.5"] * 6]]
    assert table_after(card, "Geometry") == [["1 x 1", "2"], ["1920 x 1080", "1"]]
    versions = dict(table_after(card, "## How it was made"))
    assert versions["ffmpeg version"] == "ffmpeg_version"
    assert versions["crf sweep"] == "\\[18, 23, 28\\]"


def test_a_licence_that_nobody_declared_is_not_taken_for_granted(publication: Publication) -> None:
    card = dataset_card(publication, corpus_rows(), BACKGROUND)
    assert table_after(card, "licences of their own") == [["konvid-1k", "CC BY 4.0"], ["tests", "not declared"]]


def test_names_of_others_are_shown_and_not_rendered(tmp_path: Path) -> None:
    name = "<img src=x>|[a](http://x)\x1b[2J"
    rows = corpus_rows().with_columns(dataset=pl.lit(name))
    version = publish(rows, tmp_path, sweep=SWEEP, mos_scale=MOS_SCALE)
    background = Background({name: "**free** | now\n# Not a heading"}, {}, ["ffmpeg \x1b[2J"])
    card = dataset_card(version, rows, background)
    assert "\x1b" not in card
    assert not re.search(r"(?<!\\)<img|(?<!\\)\[a\]|\n# Not", card)
    assert "\\<img src=x\\>\\|\\[a\\](http://x)" in card


def test_what_the_card_tells_to_load_is_this_version(publication: Publication, tmp_path: Path) -> None:
    card = dataset_card(publication, corpus_rows(), BACKGROUND)
    (block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    found: dict[str, pl.DataFrame] = {}
    exec(compile(block.replace("<data root>", str(tmp_path)), "card", "exec"), found)  # noqa: S102 - the card's own lines
    assert found["train"].equals(load_corpus(tmp_path, split="train").collect())
    for path in re.findall(r"`(fr_corpus/(?:versions|sources)/\S+\.parquet)`", card):
        assert list((tmp_path / "corpus").glob(path)), path


def test_a_large_corpus_has_a_card_that_can_still_be_read(tmp_path: Path) -> None:
    rows = rows_to_publish([feature_row(f"c{width}", width=width, height=2) for width in range(2, 42)])
    version = publish(rows, tmp_path, sweep=SWEEP, mos_scale=MOS_SCALE)
    card = dataset_card(version, rows, Background())
    assert table_after(card, "Geometry")[-1] == ["30 others", "30"]


def test_a_card_replaces_that_of_the_version_before(publication: Publication, tmp_path: Path) -> None:
    path = tmp_path / "corpus" / "DATASET_CARD.md"
    path.write_text("of the version before")
    write_card(publication, corpus_rows(), BACKGROUND, path)
    assert path.read_text() == dataset_card(publication, corpus_rows(), BACKGROUND)
    assert {file.name for file in path.parent.iterdir()} == {"DATASET_CARD.md", "fr_corpus"}
