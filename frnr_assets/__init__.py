"""Full-reference training rows from no-reference video-quality datasets."""

from frnr_assets.corpus.load import load_corpus

__all__ = ["load_corpus"]
