"""Benchmarks: what the platform costs beside the bare tools, measured in one run."""
