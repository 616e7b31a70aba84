"""What every asset says about itself in the UI."""

import dagster as dg
import pyarrow as pa

from frnr_assets.vocabulary import CAVEAT
from frnr_assets.words import markdown

# One group, so that the UI opens on the whole graph.
GROUP = "fr_from_nr"
OWNERS = ("team:video-quality",)

# Metadata keys that Dagster shows in places of their own.
COLUMN_SCHEMA, ROW_COUNT, PARTITION_ROW_COUNT = (
    "dagster/column_schema",
    "dagster/row_count",
    "dagster/partition_row_count",
)


def describe(text: str, page: str, caveat: str = CAVEAT) -> str:
    """Return an asset's description, with the caveat and with the page of the repository that explains the asset."""
    return f"{text}\n\n**Caveat.** {caveat}\n\n**Explained in** `{page}`"


def table_schema(schema: pa.Schema) -> dg.TableSchema:
    """Return a table's columns as the UI shows them, from the one schema."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=field.name,
                type=_type_name(field.type),
                # The UI renders it as Markdown, in which "<N>" would be a tag.
                description=markdown((field.metadata or {}).get(b"description", b"").decode()),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def _type_name(kind: pa.DataType) -> str:
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def rounded(value: float) -> float:
    """Return a number as a person reads it: six significant digits, of which no row is made."""
    return float(f"{value:.6g}")
