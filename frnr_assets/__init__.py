"""Full-reference training rows from no-reference video-quality datasets."""
