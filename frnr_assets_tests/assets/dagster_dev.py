"""`dagster dev` on a project in a folder of its own, as `make ui` starts it."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from frnr_assets_tests.ports import free_port

CHECKOUT = Path(__file__).parents[2]


def ui_arguments() -> list[str]:
    """Return what `make ui` gives to the command `dagster`."""
    (arguments,) = re.findall(r'/dagster" (dev .*)', (CHECKOUT / "Makefile").read_text())
    return shlex.split(arguments.replace("$(CURDIR)", str(CHECKOUT)))


class DagsterDev:
    """Webserver, daemon and code server on a free port; what they print is in the file `log` of the folder."""

    def __init__(self, folder: Path, home: Path):
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text())
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        # A shell that runs the tests in the background has its children ignore SIGINT, which ends this one.
        dagster = ["env", "--default-signal=INT", sys.executable, "-m", "dagster"]
        command = [*dagster, *ui_arguments(), "--port", str(self.port)]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=log,
                env={**os.environ, "DAGSTER_HOME": str(home)},
                start_new_session=True,
            )

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
