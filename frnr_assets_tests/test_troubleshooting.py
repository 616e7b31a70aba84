"""Whatever the package says is explained on one page, in the very words."""

import re
from pathlib import Path
from typing import get_args

import pytest

from frnr_assets.corpus.manifests.records import Kind
from frnr_assets_tests.messages import GAP, Message, messages, normal
from frnr_assets_tests.pages import CHECKOUT, DOCS, rows_of

PAGE = DOCS / "troubleshooting.md"


def entries(header: str) -> set[str]:
    """Return the messages of the page's tables, with a gap for each placeholder."""
    cells = [cells[0] for cells in rows_of(PAGE, header)]
    spans = [found[1] for cell in cells for found in re.findall(r"(`+) ?(.+?) ?\1(?!`)", cell)]
    return {normal(re.sub(r"<[^<>]*>", GAP, span)) for span in spans}


@pytest.mark.parametrize(
    "source",
    [
        'raise ValueError(f"the disk {name} is full")',
        'class Full(OSError): pass\nraise Full("the disk", f"the disk {name} is full")',
        'raise dg.Failure(description=f"the disk {name} is full")',
        'def look():\n    context.log.warning(harmless(f"the disk {name} is full"))',
        'STATE = "is full"\ndef look():\n    return dg.SkipReason(f"the disk {name} {STATE}")',
        'def look():\n    why = f"the disk {name} is full" if name else "there is no disk"\n    raise refusal(why)',
        'def look() -> list[Finding]:\n    found = [f"the disk {name} is full" for name in names]\n    return found',
    ],
    ids=["raised", "of a class of its own", "Dagster's", "logged", "a constant in it", "one of two", "a finding"],
)
def test_a_message_is_found_however_it_is_said(tmp_path: Path, source: str) -> None:
    (tmp_path / "module.py").write_text(source)
    assert f"the disk {GAP} is full" in {message.text for message in messages(tmp_path)}


@pytest.fixture(scope="module")
def said() -> list[Message]:
    return messages()


def test_every_message_is_explained(said: list[Message]) -> None:
    explained = entries("message")
    missing = {f"{message.place}: {message.text}" for message in said if message.text not in explained}
    assert missing == set(), f"write an entry for each of these into {PAGE.name}"


def test_no_explanation_is_of_a_message_that_is_gone(said: list[Message]) -> None:
    assert entries("message") - {message.text for message in said} == set()


def test_every_kind_of_rejected_row_is_explained() -> None:
    assert entries("kind") == set(get_args(Kind))


def test_what_make_says_is_explained() -> None:
    said = re.findall(r'echo "(.*?)"', (CHECKOUT / "Makefile").read_text())
    assert entries("make says") == {normal(text.replace("$(DIR)", GAP)) for text in said}


@pytest.mark.parametrize("header", ["message", "make says", "the UI shows"])
def test_every_message_has_a_meaning_and_a_remedy(header: str) -> None:
    rows = rows_of(PAGE, header)
    assert rows
    assert [cells for cells in rows if len(cells) != 3 or not all(cells)] == []
