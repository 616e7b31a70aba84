"""Where media and corpus meet: clips go in, durable rows come out. Knows nothing of Dagster."""
