"""Manifest formats: one small reader each, all giving the same entries."""
