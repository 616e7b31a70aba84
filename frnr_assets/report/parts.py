"""What a report is made of, whatever it is shown in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Picture:
    """A picture, which is drawn when somebody first looks at it.

    Attributes:
        draw: makes the bytes of its PNG file.
        shows: what is in it, in a few words, for who does not see it.
        caption: how to read it.
    """

    draw: Callable[[], bytes]
    shows: str
    caption: str

    @cached_property
    def png(self) -> bytes:
        """The bytes of its PNG file."""
        return self.draw()


@dataclass(frozen=True)
class Table:
    """Rows of text below a header.

    Attributes:
        header: names of the columns.
        rows: as many texts each; plain text, whoever wrote it.
        shares: for each row the length of a bar behind its last column, 0 to 1; empty for none.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    shares: Sequence[float] = ()


@dataclass(frozen=True)
class Section:
    """One thing to know about the corpus.

    Attributes:
        title: its heading.
        words: paragraphs, which also say what is not there to be shown.
        pictures: its pictures, in order.
        tables: its tables, below the pictures.
    """

    title: str
    words: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Chapter:
    """Sections on one recipe, or on the clips.

    Attributes:
        title: its heading.
        sections: in order.
    """

    title: str
    sections: Sequence[Section]


@dataclass(frozen=True)
class Report:
    """All there is to look at.

    Attributes:
        facts: name and value of what identifies the corpus.
        chapters: of each recipe, that with the most rows first, then of the clips.
        numbers: by name, for plotting over publications; those of correlations are of the first recipe.
    """

    facts: Table
    chapters: Sequence[Chapter]
    numbers: Mapping[str, float]
