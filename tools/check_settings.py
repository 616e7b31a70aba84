"""Say whether the frnr.toml of a folder can be used, before Dagster is started on it and shows a stack trace."""

import sys
from pathlib import Path

from frnr_assets.settings import SettingsError, load_settings


def main(folder: str) -> None:
    """End with a sentence on standard error if it cannot."""
    try:
        load_settings(Path(folder))
    except SettingsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
