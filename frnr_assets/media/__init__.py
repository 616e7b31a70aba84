"""The craft: probing, decoding, encoding and scoring video with ffmpeg. Knows nothing of Dagster."""
