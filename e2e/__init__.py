"""The platform as a person meets it: in a browser, by clicking and reading."""
