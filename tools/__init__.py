"""Programs for those who work on this repository, and what tests and measurements share."""
