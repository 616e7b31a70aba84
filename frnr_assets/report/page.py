"""A report as one HTML page, which needs nothing but itself, and its sections as Markdown."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from frnr_assets.corpus.store import replacing
from frnr_assets.report.parts import Picture, Report, Section, Table
from frnr_assets.vocabulary import CAVEAT
from frnr_assets.words import harmless, markdown

# Dark on white whatever the browser's theme, for the pictures are so.
_CSS = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 46rem; padding: 1rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 2px solid #1a1a1a; font-size: 1.3rem; }
h3 { margin-top: 2rem; font-size: 1.1rem; }
.caveat { border-left: 4px solid #d55e00; padding: 0.5rem 1rem; background: #fdf3ec; }
figure { margin: 1rem 0; } img { display: block; width: 100%; height: auto; }
figcaption { color: #444; font-size: 0.9rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { border-bottom: 1px solid #ddd; padding: 0.25rem 0.5rem; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
th { white-space: nowrap; } td.bar { width: 25%; vertical-align: middle; }
td.bar div { height: 0.8rem; background: #0072b2; }
"""
# The page runs nothing and fetches nothing, whatever might get into it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(report: Report, path: Path) -> None:
    """Write the page, durably and at once; the one before stays until then.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    with replacing(path) as temporary:
        temporary.write_text("\n".join(_page(report)), encoding="utf-8")


def _page(report: Report) -> Iterator[str]:
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield f"<title>Corpus report</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<h1>Corpus report</h1>"
    yield f'<p class="caveat"><strong>Caveat.</strong> {_text(CAVEAT)}</p>'
    yield from _html_table(report.facts)
    yield f"<p>Made {made}.</p>"
    for chapter in report.chapters:
        yield f"<h2>{_text(chapter.title)}</h2>"
        for section in chapter.sections:
            yield f"<h3>{_text(section.title)}</h3>"
            yield from (f"<p>{_text(words)}</p>" for words in section.words)
            for picture in section.pictures:
                image = f'<img src="{_data_uri(picture)}" alt="{_text(picture.shows)}">'
                yield f"<figure>{image}<figcaption>{_text(picture.caption)}</figcaption></figure>"
            for table in section.tables:
                yield from _html_table(table)
    yield "</body>\n</html>\n"


def _html_table(table: Table) -> Iterator[str]:
    header = "".join(f"<th>{_text(name)}</th>" for name in table.header)
    bar_header = '<th aria-hidden="true"></th>' if table.shares else ""
    yield f"<table>\n<thead><tr>{header}{bar_header}</tr></thead>\n<tbody>"
    for index, row in enumerate(table.rows):
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in row)
        if table.shares:
            cells += f'<td class="bar" aria-hidden="true"><div style="width: {table.shares[index]:.1%}"></div></td>'
        yield f"<tr>{cells}</tr>"
    yield "</tbody>\n</table>"


def _text(text: str) -> str:
    return escape(harmless(text))


def _data_uri(picture: Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.png).decode('ascii')}"


def section_markdown(section: Section) -> str:
    """Return a section as Markdown, its pictures within it, as the UI of Dagster shows them."""
    blocks = [markdown(words) for words in section.words]
    for picture in section.pictures:
        blocks += [f"![{markdown(picture.shows)}]({_data_uri(picture)})", markdown(picture.caption)]
    return "\n\n".join([*blocks, *map(_markdown_table, section.tables)])


def _markdown_table(table: Table) -> str:
    lines = [table.header, ["---"] * len(table.header), *([markdown(cell) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
