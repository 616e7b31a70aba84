"""Write the tables of docs/data_dictionary.md from corpus/schema.py; the words around them are the page's own.

A table stands between two comments of the page, of which the first names its schema.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from frnr_assets.corpus import schema

PAGE = Path(__file__).parents[1] / "docs" / "data_dictionary.md"

_TABLE = re.compile(r"(<!-- columns of (\w+)(?: beyond (\w+))? -->\n).*?(<!-- end -->\n)", re.DOTALL)


def main() -> int:
    """Bring the page up to date."""
    PAGE.write_text(with_tables(PAGE.read_text()))
    return 0


def with_tables(page: str) -> str:
    """Return the page with each of its tables as the schemas are now."""

    def table(match: re.Match[str]) -> str:
        begin, name, beyond, end = match.groups()
        told = _schema(beyond) if beyond else pa.schema([])
        return f"{begin}\n{''.join(_lines(_schema(name), told))}\n{end}"

    return _TABLE.sub(table, page)


def _schema(name: str) -> pa.Schema:
    found: pa.Schema = getattr(schema, name)
    return found


def _lines(of: pa.Schema, told: pa.Schema) -> Iterator[str]:
    yield "| column | type | null | meaning |\n|---|---|---|---|\n"
    for field in of:
        if field.name not in told.names or not field.equals(told.field(field.name), check_metadata=True):
            meaning = (field.metadata or {})[b"description"].decode()
            yield f"| `{field.name}` | {_type(field.type)} | {'yes' if field.nullable else 'no'} | {meaning} |\n"


def _type(kind: pa.DataType) -> str:
    if isinstance(kind, pa.ListType):
        return f"list of {kind.value_type}"
    return str(kind)


if __name__ == "__main__":
    sys.exit(main())
