"""What of clusters can be judged without one: the setting, the extra, versions, and who is given what."""

import asyncio
import importlib.metadata
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.config
import pytest
from pydantic import ValidationError

from frnr_assets.cluster.crew import _ATTEMPTS, ClusterCrew, _Piece
from frnr_assets.cluster.seats import Place, Seat, Seats
from frnr_assets.cluster.versions import differences, versions_of
from frnr_assets.cluster.worker import Bench, Capacity, _capacity, _with_own_tools
from frnr_assets.engine.workshop import compute_on
from frnr_assets.media.process import Cancelled, ToolError
from frnr_assets.media.sandbox import ProcessLimits
from frnr_assets.media.toolchain import Toolchain, ToolSettings, encode_settings
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets.settings import Settings
from frnr_assets_tests.cluster.processes import REPOSITORY

GIB = 1 << 30


def test_without_the_extra_the_setting_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolError, match="pip install distributed"):
        compute_on("tcp://head-node:8786")


def test_without_the_setting_dask_is_not_loaded() -> None:
    script = (
        "import sys, frnr_assets.definitions, frnr_assets.cli, frnr_assets.doctor; assert 'dask' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)


@pytest.mark.parametrize("address", ["head-node:8786", "tcp://head-node", "http://head-node:8786", "tcp://a b:1", ""])
def test_an_address_that_is_none_is_refused_when_the_settings_are_read(address: str) -> None:
    with pytest.raises(ValidationError, match="no address of a Dask scheduler such as 'tcp://host:8786'"):
        Settings(scheduler=address)


def test_a_piece_goes_to_a_worker_with_the_memory_and_one_too_large_for_all_gets_the_largest_to_itself() -> None:
    seats = Seats()
    small, large = Seat("small", Capacity(4, 2 * GIB)), Seat("large", Capacity(2, 8 * GIB))
    for seat in (small, large):
        seats.add(seat)
    assert (seats.cores, seats.idle) == (6, 6)
    places = [seats.take(GIB), seats.take(5 * GIB), seats.take(9 * GIB)]
    assert [place and place.seat for place in places] == [small, large, None]
    assert places[1] is not None
    seats.leave(places[1])
    assert seats.take(9 * GIB) == Place(large, 8 * GIB)
    assert seats.take(2 * GIB) is None, "the largest is full, and the small one has 1 GiB left"
    assert seats.take(GIB) == Place(small, GIB)
    assert seats.remove({"large"}) == [large]
    assert (seats.cores, seats.idle, large.is_gone) == (4, 2, True)


def test_a_busy_worker_gets_little_work_ahead_and_only_when_told() -> None:
    seats = Seats()
    seats.add(Seat("worker", Capacity(4, GIB)))
    assert all(seats.take(1) for _ in range(4))
    assert seats.take(1) is None
    assert seats.take(1, ahead=True)
    assert seats.take(1, ahead=True) is None
    assert seats.idle == 0


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ({"ffmpeg": "9"}, {"ffmpeg": "9"}, ""),
        ({"ffmpeg": "9"}, {"ffmpeg": "8"}, "ffmpeg is 8 there and 9 here"),
        ({"ffmpeg": "9", "PyAV": "16"}, {"ffmpeg": "9"}, "PyAV is not known there and 16 here"),
        ({"ffmpeg": "9"}, {"ffmpeg": "9", "PyAV": "16"}, "PyAV is 16 there and not known here"),
    ],
)
def test_what_only_one_side_has_is_a_difference_too(here: dict[str, str], there: dict[str, str], said: str) -> None:
    assert differences(here, there) == said


def test_another_pyav_which_may_find_other_facts_is_another_version(
    toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = versions_of(toolchain)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.1")
    assert differences(here, versions_of(toolchain)) == f"PyAV is 0.1 there and {here['PyAV']} here"


def test_a_piece_that_is_given_up_before_it_has_its_tools_starts_no_program(toolchain: Toolchain) -> None:
    bench = Bench(toolchain)
    bench.transition("given up", "executing", "released")
    with pytest.raises(Cancelled), bench.tools("given up"):
        pass
    with bench.tools("another") as tools:
        assert tools.settings == toolchain.settings


@pytest.mark.parametrize(
    ("setting", "value", "changed"),
    [
        ("ffmpeg-path", "/own/ffmpeg", {"ffmpeg_path": "/own/ffmpeg"}),
        ("vmaf-path", "/own/vmaf", {"vmaf_path": "/own/vmaf"}),
        ("tool-memory-gib", "3", {"memory_bytes": 3 * GIB}),
        ("tool-file-gib", "0.5", {"file_bytes": GIB // 2}),
        ("tool-open-files", "77", {"open_files": 77}),
    ],
)
def test_a_setting_of_a_worker_changes_that_one_thing_of_its_tools(
    setting: str, value: str, changed: dict[str, object]
) -> None:
    def of(tools: ToolSettings) -> dict[str, object]:
        vmaf_path = tools.vmaf.tool and tools.vmaf.tool.path
        return {"ffmpeg_path": tools.ffmpeg_path, "vmaf_path": vmaf_path, **asdict(tools.process)}

    limits = ProcessLimits(memory_bytes=5 * GIB, file_bytes=6 * GIB, open_files=70)
    run = ToolSettings(
        encode_settings("libx264", "medium", (), (23,)),
        vmaf_settings(backend="cli", path="/run/vmaf"),
        process=limits,
        ffmpeg_path="/run/ffmpeg",
    )
    assert _with_own_tools(run) == run
    with dask.config.set({f"frnr.{setting}": value}):
        assert of(_with_own_tools(run)) == of(run) | changed


@pytest.mark.parametrize(("configured", "bytes_"), [({}, 7 * GIB), ({"frnr.memory-gib": "2.5"}, 5 * GIB // 2)])
def test_a_worker_has_its_threads_and_the_memory_it_is_told_or_a_share_of_its_limit(
    configured: dict[str, str], bytes_: int
) -> None:
    worker: Any = SimpleNamespace(
        memory_manager=SimpleNamespace(memory_limit=10 * GIB), state=SimpleNamespace(nthreads=3)
    )
    tools = {f"frnr.{name}": "9" for name in ("tool-memory-gib", "tool-file-gib", "tool-open-files")}
    with dask.config.set(tools | configured):
        assert _capacity(worker) == Capacity(3, bytes_)


def test_a_piece_is_not_blamed_for_workers_that_left_before_they_began_it() -> None:
    async def lose_workers() -> bool:
        client: Any = None
        crew = ClusterCrew(asyncio.get_running_loop(), client, "tcp://head-node:8786", {}, b"")
        piece = _Piece(b"", GIB, Place(Seat("first", Capacity(1, GIB), is_gone=True), GIB))
        doing = asyncio.ensure_future(crew._do(piece))  # noqa: SLF001 - the moment is between them
        for number in range(2 * _ATTEMPTS):
            await asyncio.sleep(0)
            crew._seats.add(Seat(f"worker {number}", Capacity(1, GIB)))  # noqa: SLF001 - the moment is between them
            crew._house()  # noqa: SLF001 - the moment is between them
            assert piece.place.seat.is_gone
            crew._let_go({f"worker {number}"})  # noqa: SLF001 - the moment is between them
            await asyncio.sleep(0)
            assert piece.place.seat.address == f"worker {number}", "it was given to that worker"
        waits = not doing.done()
        doing.cancel()
        return waits

    assert asyncio.run(lose_workers())


def test_a_model_whose_content_changes_is_another_version(toolchain: Toolchain, tmp_path: Path) -> None:
    model = tmp_path / "model.json"
    model.write_text("{}")
    configured = replace(toolchain, vmaf=vmaf_settings(str(model)))
    here = versions_of(configured)
    assert differences(here, versions_of(configured)) == ""
    model.write_text('{"other": 1}')
    assert f"the model {model} is model.json@" in differences(here, versions_of(configured))
