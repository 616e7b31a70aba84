"""The pages that a reader is given, and what is in them."""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
PAGES = sorted([*CHECKOUT.glob("*.md"), *DOCS.glob("*.md")])

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: file name of the page.
        line: where it begins, from 1.
        language: what stands behind the fence.
        text: what is in it.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """Return the fenced blocks of all pages; of some languages, when these are given."""
    found = [
        Block(page.name, text.count("\n", 0, match.start()) + 1, match[2], dedent(match[3]))
        for page in PAGES
        for text in [page.read_text()]
        for match in _FENCED.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCED.sub("", page.read_text())


def rows_of(page: Path, header: str) -> list[list[str]]:
    """Return the cells of each row of all tables of a page that begin with such a header cell."""
    rows: list[list[str]] = []
    inside = False
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0] == header:
            inside = True
        elif inside and not set(line) <= set("|-"):
            rows.append(cells)
    return rows


def section(page: Path, heading: str) -> str:
    """Return what stands between a heading and the next of its level or a higher one."""
    begin = re.search(rf"^(#+) {re.escape(heading)}$\n", page.read_text(), re.MULTILINE)
    assert begin, f"{page.name} has no section {heading}"
    rest = page.read_text()[begin.end() :]
    return re.split(rf"^#{{1,{len(begin[1])}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]
