"""Fuzzing: damaged clips go through probe, decode, encode and score, and an independent judge looks at the rows."""
