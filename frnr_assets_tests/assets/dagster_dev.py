"""`dagster dev` on a project in a folder of its own, as `make ui` starts it."""

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tools.ports import free_port

CHECKOUT = Path(__file__).parents[2]


def ui_arguments() -> list[str]:
    """Return what `make ui` gives to the command `dagster`."""
    (arguments,) = re.findall(r'/dagster" (dev .*)', (CHECKOUT / "Makefile").read_text())
    return shlex.split(arguments.replace("$(CURDIR)", str(CHECKOUT)).replace("$(PORT)", "3000"))


class DagsterDev:
    """Webserver, daemon and code server on a free port.

    Attributes:
        address: of the webserver.
        log: the file of what they print.
    """

    def __init__(self, folder: Path, home: Path):
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text())
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        # A shell that runs the tests in the background has its children ignore SIGINT, which ends this one.
        dagster = ["env", "--default-signal=INT", sys.executable, "-m", "dagster"]
        command = [*dagster, *ui_arguments(), "--port", str(self.port)]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=log,
                env={**os.environ, "DAGSTER_HOME": str(home)},
                start_new_session=True,
            )

    def assert_running(self) -> None:
        """Say what it said last if it has ended, instead of waiting for it."""
        status = self.process.poll()
        assert status is None, f"dagster dev ended with status {status}: {self.log.read_text()[-2000:]}"

    def stop(self) -> None:
        """End it and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # What it has started may outlive it.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
