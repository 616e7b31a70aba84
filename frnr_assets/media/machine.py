"""What this machine, or the container on it, has to offer."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the cores this process may use: CPU affinity and the cgroup's CPU quota, rounded up."""
    cores = len(os.sched_getaffinity(0))
    quota = _read(cgroup / "cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        cores = min(cores, max(1, -(-int(quota[0]) // int(quota[1]))))
    return cores


def available_memory_bytes(cgroup: Path = _CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the bytes that could be allocated now: what the kernel estimates, within the cgroup's limit."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit = _read(cgroup / "memory.max").strip()
    if limit.isdigit():
        usage = int(_read(cgroup / "memory.current") or 0)
        # The kernel gives the page cache back when it is needed.
        cache = dict(line.split() for line in _read(cgroup / "memory.stat").splitlines()).get("inactive_file", "0")
        available = min(available, max(0, int(limit) - usage + int(cache)))
    return available


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
