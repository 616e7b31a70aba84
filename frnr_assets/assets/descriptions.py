"""What every asset says about itself in the UI."""

import dagster as dg
import pyarrow as pa

from frnr_assets.vocabulary import CAVEAT

# One group, so that the UI opens on the whole graph.
GROUP = "fr_from_nr"
OWNERS = ("team:video-quality",)

# Metadata keys that Dagster shows in places of their own.
COLUMN_SCHEMA, ROW_COUNT, PARTITION_ROW_COUNT = (
    "dagster/column_schema",
    "dagster/row_count",
    "dagster/partition_row_count",
)


def describe(text: str, caveat: str = CAVEAT) -> str:
    """Return an asset's description, with the caveat."""
    return f"{text}\n\n**Caveat.** {caveat}"


def table_schema(schema: pa.Schema) -> dg.TableSchema:
    """Return a table's columns as the UI shows them, from the one schema."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=field.name,
                type=str(field.type),
                description=(field.metadata or {}).get(b"description", b"").decode(),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )
