"""What a container allows is less than what the machine has."""

import os
from pathlib import Path

import pytest

from frnr_assets.media.machine import available_memory_bytes, usable_cores

GIB = 1 << 30


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        pytest.param("100000 100000", 1, id="one core"),
        pytest.param("50000 100000", 1, id="half a core"),
        pytest.param("1 100000", 1, id="next to nothing"),
        pytest.param("max 100000", None, id="no quota"),
        pytest.param("100000000 100000", None, id="more than there is"),
        pytest.param(None, None, id="no cgroup"),
    ],
)
def test_no_more_cores_are_used_than_the_container_pays_for(
    quota: str | None, cores: int | None, tmp_path: Path
) -> None:
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path) == (len(os.sched_getaffinity(0)) if cores is None else cores)


@pytest.mark.parametrize(
    ("limit", "current", "expected"),
    [
        pytest.param(f"{4 * GIB}", f"{3 * GIB}", GIB, id="the container's limit"),
        pytest.param(f"{2 * GIB}", f"{3 * GIB}", 0, id="over the limit"),
        pytest.param(f"{64 * GIB}", "0", 8 * GIB, id="the machine's memory"),
        pytest.param("max", "0", 8 * GIB, id="no limit"),
        pytest.param(f"{4 * GIB}", None, 4 * GIB, id="no account of use"),
        pytest.param(None, None, 8 * GIB, id="no cgroup"),
    ],
)
def test_no_more_memory_is_used_than_the_container_may(
    limit: str | None, current: str | None, expected: int, tmp_path: Path
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:  16777216 kB\nMemFree:  123 kB\nMemAvailable:  {8 * GIB // 1024} kB\n")
    for name, content in (("memory.max", limit), ("memory.current", current)):
        if content is not None:
            (tmp_path / name).write_text(f"{content}\n")
    assert available_memory_bytes(tmp_path, meminfo) == expected


def test_this_machine_can_be_asked() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    assert available_memory_bytes() > 0
