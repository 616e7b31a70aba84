"""Say what keeps Dagster's UI from starting on a folder: it would show a stack trace, or run without its web page."""

import socket
import sys
from pathlib import Path

from frnr_assets.settings import SettingsError, load_settings


def main(folder: str, port: str) -> None:
    """End with a sentence on standard error if something does."""
    try:
        load_settings(Path(folder))
    except SettingsError as error:
        sys.exit(str(error))
    with socket.socket() as probe:
        # As the web server does: a port that was in use a moment ago can be taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError as error:
            sys.exit(f"port {port}: {error.strerror}; another UI may be there. Choose another: make ui PORT=3001")


if __name__ == "__main__":
    main(*sys.argv[1:])
