"""Pictures and tables of the published corpus, for a person to look at."""
