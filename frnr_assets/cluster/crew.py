"""The workers of a Dask cluster as a crew: pieces of work go to workers that have room, and again to others if need be.

Which worker does what is decided here and not by the scheduler, which would not know of a worker's memory what the
tools take of it, could not keep work from a worker that has not shown its versions, and does not look again at work
that waits when a worker has changed.
"""

import asyncio
import concurrent.futures
import logging
import pickle
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.config
from dask.utils import parse_timedelta
from distributed import Client
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker, NoValidWorkerError

from frnr_assets.cluster.cluster import (
    ANSWER_S,
    SchedulerGone,
    ask,
    connect,
    disconnect,
    event_loop,
    known_workers,
    wait_for,
    why_not,
)
from frnr_assets.cluster.seats import Place, Seat, Seats
from frnr_assets.cluster.versions import versions_of
from frnr_assets.cluster.worker import Capacity, NotJoined, dump_task, join, leave, run_piece
from frnr_assets.media.pool import Begun, WorkPool
from frnr_assets.media.process import Cancelled, ToolError, ToolFailed
from frnr_assets.media.toolchain import Toolchain, ToolSettings
from frnr_assets.words import harmless_lines

# As Dask itself allows (distributed.scheduler.allowed-failures): three may be chance.
_ATTEMPTS = 4
# Between two looks at which workers there are.
_LOOK_S = 0.5
_CALL_OFF_S = 20.0
# For the other workers to join, once there is one.
_GRACE_S = 10.0
_WAIT_SETTING, _WAIT_DEFAULT = "frnr.wait-for-workers", "10 minutes"

_LOG = logging.getLogger(__name__)


class WorkersDied(ToolFailed):
    """Several workers died while they did one piece of work."""

    @property
    def tool_ran(self) -> bool:
        """The piece is the likeliest reason: a program that takes all memory takes its worker with it."""
        return True


def _warn(text: str) -> None:
    # It comes into the run's log by way of dagster.yaml.
    _LOG.warning("%s", harmless_lines(text))


class _WorkerGoneError(Exception):
    def __init__(self, *, may_have_begun: bool = False, tools_gone: ToolError | None = None):
        super().__init__()
        self.may_have_begun = may_have_begun
        self.tools_gone = tools_gone


@dataclass
class _Piece:
    """A piece of work, and where it is done now."""

    task: bytes
    memory_bytes: int
    place: Place


@contextmanager
def cluster_pool(tools: ToolSettings, toolchain: Toolchain, *, scheduler: str) -> Iterator[WorkPool]:
    """Lend the workers of a Dask cluster; whatever still runs on them at the end is killed.

    Args:
        tools: the settings of the run.
        toolchain: what is made of them on this machine.
        scheduler: Dask's address of the scheduler, such as ``tcp://host:8786``.

    Raises:
        ToolError: nobody answers there.
    """
    with event_loop() as loop:
        client = wait_for(loop, connect(scheduler))
        crew = ClusterCrew(loop, client, scheduler, versions_of(toolchain), pickle.dumps(tools))
        try:
            crew.open()
            yield WorkPool(crew)
        finally:
            crew.close()


class ClusterCrew:
    """A crew of workers on other machines.

    A worker takes part when it has shown that its code, tools and models are those of the run, whenever it comes. Of a
    worker that is gone, or whose tools are, the pieces go to others; a piece that has lost ``_ATTEMPTS`` workers fails.

    Args:
        loop: runs in a thread of its own; everything that waits for the cluster happens in it.
        client: the connection.
        scheduler: Dask's address.
        versions: those of the run.
        tools: the run's settings, pickled.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: Client,
        scheduler: str,
        versions: Mapping[str, str],
        tools: bytes,
    ):
        self._loop = loop
        self._client = client
        self._scheduler = scheduler
        self._batch = uuid.uuid4().hex
        self._versions, self._tools = versions, tools
        self._seats = Seats()
        self._joining: set[str] = set()
        self._refused: dict[str, str] = {}
        # Pieces whose worker is gone, and who wait for another: they go before all others.
        self._homeless: deque[tuple[int, asyncio.Future[Place]]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failure: ToolError | None = None
        self._is_over = False
        self._wait_s = float(parse_timedelta(dask.config.get(_WAIT_SETTING, _WAIT_DEFAULT)))
        self._alone_since: float | None = None

    def open(self) -> None:
        """Ask the workers that are there already, and watch who comes and goes from now on."""
        wait_for(self._loop, self._begin_watch())

    def close(self) -> None:
        """End what runs, and disconnect."""
        self.call_off()
        with suppress(TimeoutError):
            wait_for(self._loop, disconnect(self._client), ANSWER_S)

    @property
    def cores(self) -> int:
        """Cores of all workers that take part, at least one."""
        return max(1, self._seats.cores)

    @property
    def idle(self) -> int:
        """Pieces of work that could begin now."""
        return 0 if self._homeless else self._seats.idle

    def begin(self, task: Callable[[], Any], memory_bytes: int, *, waiting: int) -> Begun | None:
        """Begin a piece of work; None while no worker has room for it.

        While many wait, a worker gets some ahead, so that its cores need not wait for the way here and back.
        """
        if self._is_over or self._failure or self._homeless:
            return None
        # Not at the end of a batch: what is ahead waits although another worker may have nothing to do.
        place = self._seats.take(memory_bytes, ahead=waiting > self._seats.cores)
        if place is None:
            return None
        piece = _Piece(dump_task(task), memory_bytes, place)
        return Begun(asyncio.run_coroutine_threadsafe(self._do(piece), self._loop), partial(self._free, piece))

    def look(self) -> None:
        """Be called now and then while a batch lasts.

        Raises:
            ToolError: the scheduler is gone, or there has been no worker for too long.
        """
        if self._failure:
            raise self._failure
        if self._seats.addresses:
            self._alone_since = None
            return
        if self._alone_since is None:
            if self._joining:
                return
            self._alone_since = time.monotonic()
            _warn(f"{self._nobody()}; the run waits up to {self._wait_s:.0f} s for one. What to do: {self._advice()}")
        elif time.monotonic() - self._alone_since > self._wait_s:
            raise ToolError(
                f"{self._nobody()}, and there was none for {self._wait_s:.0f} s. What is recorded stays; "
                f"{self._advice()} and launch the rest again"
            )

    def call_off(self) -> None:
        """Begin nothing more, and end what runs."""
        if not self._is_over:
            self._is_over = True
            with suppress(TimeoutError):
                wait_for(self._loop, self._end(), _CALL_OFF_S)

    def _nobody(self) -> str:
        refused = "".join(f"; {address} is not used: {why}" for address, why in sorted(self._refused.items()))
        return f"the Dask scheduler {self._scheduler} has no worker for this run{refused}"

    def _advice(self) -> str:
        return f"start workers with `dask worker {self._scheduler}`"

    async def _begin_watch(self) -> None:
        await self._look_at_workers()
        # The first pieces are cut for the cores that there are. A worker that hangs must not keep the others idle.
        joining = {task for task in self._tasks if not task.done()}
        while joining and not self._seats.addresses:
            _, joining = await asyncio.wait(joining, return_when=asyncio.FIRST_COMPLETED)
        if joining:
            await asyncio.wait(joining, timeout=_GRACE_S)
        self._spawn(self._watch())

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        while not self._failure:
            await asyncio.sleep(_LOOK_S)
            await self._look_at_workers()

    async def _look_at_workers(self) -> None:
        """Let go of workers that are gone, and ask new ones."""
        try:
            there = await known_workers(self._client)
        except OSError:
            self._scheduler_gone()
            return
        self._let_go(self._seats.addresses - there)
        self._refused = {address: why for address, why in self._refused.items() if address in there}
        for address in there - self._seats.addresses - self._refused.keys() - self._joining:
            self._joining.add(address)
            self._spawn(self._join(address))

    async def _join(self, address: str) -> None:
        try:
            answers = await ask(self._client, join, self._batch, self._versions, self._tools, workers=[address])
            answer = answers[address]
        except OSError:
            # The next look tells whether it is the scheduler or the worker that does not answer.
            return
        finally:
            self._joining.discard(address)
        # So does a connection from the scheduler to the worker that takes too long: it is asked again.
        if isinstance(answer, OSError):
            return
        why = why_not(answer)
        if why:
            self._refused[address] = why
            _warn(f"the worker {address} is not used: {why}")
        elif isinstance(answer, Capacity):
            self._seats.add(Seat(address, answer))
            self._house()

    def _let_go(self, addresses: set[str], why: str = "gone") -> None:
        for seat in self._seats.remove(addresses):
            _warn(f"the worker {seat.address} is {why}; what it was doing is done again")
            for attempt in seat.attempts:
                attempt.cancel()

    def _scheduler_gone(self) -> ToolError:
        if self._failure is None:
            self._failure = SchedulerGone(
                f"the Dask scheduler {self._scheduler} is gone. What is recorded stays; start it and its workers, "
                "and launch the rest again"
            )
            for _, waiting in self._homeless:
                if not waiting.done():
                    waiting.set_exception(self._failure)
        return self._failure

    def _free(self, piece: "_Piece") -> None:
        self._seats.leave(piece.place)
        self._loop.call_soon_threadsafe(self._house)

    async def _do(self, piece: "_Piece") -> Any:
        """Do a piece of work, on as many workers as it takes."""
        current = asyncio.current_task()
        if current is not None:
            self._tasks.add(current)
            current.add_done_callback(self._tasks.discard)
        died = without_tools = 0
        while True:
            try:
                value, error = await self._attempt(piece.task, piece.place.seat)
            except _WorkerGoneError as gone:
                # A worker that never began it says nothing about the piece.
                died += gone.may_have_begun
                if died == _ATTEMPTS:
                    raise WorkersDied(
                        f"{_ATTEMPTS} workers died while they worked on it, the last was {piece.place.seat.address}; "
                        "its log may say why"
                    ) from None
                without_tools += gone.tools_gone is not None
                if without_tools == _ATTEMPTS:
                    raise ToolError(
                        f"{_ATTEMPTS} times a worker could not use its tools, the last was "
                        f"{piece.place.seat.address}: {gone.tools_gone}"
                    ) from None
                self._seats.leave(piece.place)
                piece.place = await self._another_place(piece.memory_bytes)
                continue
            if error is not None:
                raise error
            return value

    async def _attempt(self, task: bytes, seat: Seat) -> tuple[Any, BaseException | None]:
        if self._is_over:
            raise asyncio.CancelledError
        if seat.is_gone:
            raise _WorkerGoneError
        name = f"frnr-{self._batch}-{uuid.uuid4().hex}"
        try:
            future = self._client.submit(run_piece, self._batch, task, key=name, workers=[seat.address])
        except ClosedClientError as error:
            raise self._scheduler_gone() from error
        # It is typed for clients that are not asynchronous.
        awaited: Any = future.result()
        result = asyncio.ensure_future(awaited)
        seat.attempts.add(result)
        try:
            answer: tuple[Any, BaseException | None] = pickle.loads(await result)  # noqa: S301 - from our own worker
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if seat.is_gone and not (current and current.cancelling()):
                raise _WorkerGoneError(may_have_begun=not seat.is_set_aside) from None
            raise
        except (KilledWorker, NoValidWorkerError):
            raise _WorkerGoneError(may_have_begun=True) from None
        except (concurrent.futures.CancelledError, OSError) as error:
            raise self._scheduler_gone() from error
        finally:
            seat.attempts.discard(result)
            # A piece that runs is given up by this, and its programs are killed.
            future.release()
        if isinstance(answer[0], NotJoined) or isinstance(answer[1], Cancelled):
            # It is another worker, or one that is ending: asked at once, it would only answer the same again.
            if not seat.is_gone:
                self._let_go({seat.address})
            raise _WorkerGoneError
        if type(answer[1]) is ToolError:
            # The next look asks it to join again, and it shows whether its tools work.
            if not seat.is_gone:
                seat.is_set_aside = True
                self._let_go({seat.address}, f"used no longer: {answer[1]}")
            raise _WorkerGoneError(tools_gone=answer[1])
        return answer

    async def _another_place(self, memory_bytes: int) -> Place:
        waiting: asyncio.Future[Place] = self._loop.create_future()
        self._homeless.append((memory_bytes, waiting))
        if self._failure:
            waiting.set_exception(self._failure)
        self._house()
        return await waiting

    def _house(self) -> None:
        """Find places for pieces that have lost theirs, as far as there are any."""
        while self._homeless:
            memory_bytes, waiting = self._homeless[0]
            if not waiting.done():
                place = self._seats.take(memory_bytes)
                if place is None:
                    return
                waiting.set_result(place)
            self._homeless.popleft()

    async def _end(self) -> None:
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self._failure:
            with suppress(OSError):
                await ask(self._client, leave, self._batch, workers=self._seats.addresses)
