"""The page of the report: complete in itself, and harmless whoever named the clips."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from bench.fabricate import fabricate_corpus
from frnr_assets.corpus.tables import NotMaterialized, Tables
from frnr_assets.report.contents import MOST_SHOWN_CLIPS, report_of
from frnr_assets.report.make import UnknownClips, make_report
from frnr_assets.report.page import section_markdown, write_page
from frnr_assets.vocabulary import CAVEAT
from frnr_assets_tests.corpus.rows import SWEEP, reference_row, references_frame, stored_frame, sweep_rows

HOSTILE = '<script>alert(1)</script>|"$\\frac$" [x](http://elsewhere) \x1b[2J\u202e'
EMPTY_TAGS = {"meta", "img"}


class Outline(HTMLParser):
    """The tags of a page, of which each must be closed where it was opened."""

    def __init__(self, page: str):
        super().__init__()
        self.opened: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in EMPTY_TAGS:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """A corpus of enough clips for bands, densities, hexagons and a quarantine."""
    tables = Tables(tmp_path_factory.mktemp("corpus"))
    fabricate_corpus(tables, 1500, SWEEP)
    make_report(tables, ["0000000007"])
    return tables


def test_the_page_opens_offline_with_the_caveat_before_any_figure(published: Tables) -> None:
    page = published.report.read_text()
    outline = Outline(page)
    assert not outline.opened
    pictures = [attributes["src"] or "" for tag, attributes in outline.found if tag == "img"]
    assert len(pictures) == 6
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in outline.found}
    assert "http:" not in page
    assert "https:" not in page
    assert page.index(CAVEAT) < page.index("<table>") < page.index("<img")


def test_pictures_are_small_enough_for_the_database_of_dagster(published: Tables) -> None:
    page = published.report.read_text()
    uris = re.findall(r"data:image/png;base64,([^\"]+)", page)
    for uri in uris:
        with Image.open(BytesIO(base64.b64decode(uri))) as image:
            assert (image.format, image.width) == ("PNG", 840)
    assert sum(map(len, uris)) < 300_000


def test_names_that_strangers_chose_are_read_and_not_obeyed(tmp_path: Path) -> None:
    quarantine = references_frame([reference_row(HOSTILE, quarantine_reason=HOSTILE)])
    report = report_of(
        stored_frame(sweep_rows(HOSTILE)).with_columns(dataset=pl.lit(HOSTILE)), quarantine, [], "000001"
    )
    write_page(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert not Outline(page).opened
    assert "&lt;script&gt;" in page
    assert not re.search("<script|\x1b|\u202e", page)
    shown = "".join(section_markdown(section) for section in report.chapters[0].sections)
    assert "\\<script\\>" in shown
    assert not re.search(r"(?<!\\)<script|(?<!\\)\[x|\x1b", shown)


def test_a_report_without_a_corpus_says_what_to_materialize(tmp_path: Path) -> None:
    with pytest.raises(NotMaterialized, match="no published corpus yet; materialize fr_corpus first"):
        make_report(Tables(tmp_path))


@pytest.mark.parametrize(
    ("shown", "sentence"),
    [
        (["0000000001", "nobody"], "shown_clips has clips without a row in the corpus: nobody; name clips by"),
        ([str(clip) for clip in range(MOST_SHOWN_CLIPS + 1)], f"name at most {MOST_SHOWN_CLIPS}"),
    ],
    ids=["unknown", "too many"],
)
def test_clips_that_cannot_be_drawn_are_named_and_the_page_before_stays(
    published: Tables, shown: list[str], sentence: str
) -> None:
    before = published.report.read_bytes()
    with pytest.raises(UnknownClips, match=sentence):
        make_report(published, shown)
    assert published.report.read_bytes() == before
    assert [file.name for file in published.report.parent.glob("*.tmp")] == []
