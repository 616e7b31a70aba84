"""The data: schemas, manifests, tables and publication. Knows nothing of Dagster or ffmpeg."""
