"""What a program may do and use: limits, a bare environment and, where the kernel allows that, no network."""

import functools
import logging
import math
import os
import subprocess
from dataclasses import dataclass

# How the programs of the wrapper begin what they say when they fail.
COMPLAINTS = (b"unshare: ", b"setpriv: ", b"prlimit: ")
_TRIAL_TIMEOUT_S = 30.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessLimits:
    """What a program may use at most; what goes beyond ends the program.

    Attributes:
        memory_bytes: address space, of programs for which no other limit is given.
        file_bytes: size of any file that it writes.
        open_files: descriptors.
    """

    memory_bytes: int = 8 << 30
    file_bytes: int = 64 << 30
    open_files: int = 256

    def memory_for(self, reckoned_bytes: int) -> int:
        """Return the limit for a program that is reckoned to need so much resident memory: twice that, if more."""
        return max(self.memory_bytes, 2 * reckoned_bytes)


def without_network() -> bool:
    """Tell whether programs run without network here."""
    return bool(_network_prefix())


@functools.cache
def _network_prefix() -> tuple[str, ...]:
    """Return what starts a program without network; nothing, and a warning once, where the kernel does not allow it."""
    # A user namespace of its own gives a program the right to leave the network, without being root.
    prefix = ("unshare", "--user", "--map-current-user", "--net", "--")
    try:
        tried = subprocess.run(
            [*prefix, "true"],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TRIAL_TIMEOUT_S,
            check=False,
        )
        reason = "" if tried.returncode == 0 else tried.stderr.strip() or f"status {tried.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if not reason:
        return prefix
    _LOG.warning("tools run with access to the network, because this system does not let them do without: %s", reason)
    return ()


def environment() -> dict[str, str]:
    """Return all that a program sees of the environment."""
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}


def wrapper(limits: ProcessLimits, *, cpu_s: float, memory_bytes: int) -> list[str]:
    """Return the command that a program is started by, to be put before its own.

    Args:
        limits: what it may use at most.
        cpu_s: CPU seconds of each of its processes.
        memory_bytes: its address space, instead of the one in ``limits``.
    """
    # Soft and hard limit alike: at the soft one ffmpeg would end with a truncated file and status 0.
    highest = {
        "cpu": math.ceil(cpu_s),
        "as": memory_bytes,
        "fsize": limits.file_bytes,
        "nofile": limits.open_files,
        "core": 0,
    }
    # A new user namespace forgets the parent-death signal, so that comes after it.
    return [
        *_network_prefix(),
        *("setpriv", "--no-new-privs", "--pdeathsig", "KILL", "--"),
        *("prlimit", *(f"--{name}={value}:{value}" for name, value in highest.items()), "--"),
    ]
