"""Dagster glue: one file per stage of the graph."""
