"""Keeping all cores busy with work that leads to more work, within a bound on memory."""

import heapq
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")

# How long the consuming thread sleeps at most, so that an interruption raised in it is noticed.
WAKE_UP_S = 0.5


@dataclass(frozen=True)
class Step(Generic[T]):
    """What a finished piece of work leads to: values for the consumer, and more work."""

    values: tuple[T, ...] = ()
    then: tuple["Work[T]", ...] = ()


@dataclass(frozen=True)
class Work(Generic[T]):
    """A piece of work for one core.

    Attributes:
        task: what a crew does; for one on other machines it must be of a kind that can be pickled.
        finish: turns the finished future into what comes next; it runs in this process, must be quick and must not
            raise. An exception of ``task`` is in the future, for ``finish`` to judge.
        rank: the lowest goes first.
        memory_bytes: how much memory the task will need at its peak.
        split: makes up to the given number of smaller pieces out of this one, for cores that would be idle.
    """

    task: Callable[[], Any]
    finish: Callable[[Future[Any]], Step[T]]
    rank: tuple[int, ...]
    memory_bytes: int
    split: Callable[[int], list["Work[T]"]] | None = None


@dataclass(frozen=True)
class Begun:
    """A piece of work that a crew does.

    Attributes:
        future: its end.
        free: gives its core and its memory back, once the future is done.
    """

    future: Future[Any]
    free: Callable[[], None]


class Crew(Protocol):
    """Who does the work: threads of this machine, or workers on others."""

    @property
    def cores(self) -> int:
        """Pieces of work that it can do at once now, at least one."""

    @property
    def idle(self) -> int:
        """Pieces of work that it could begin now."""

    def begin(self, task: Callable[[], Any], memory_bytes: int, *, waiting: int) -> Begun | None:
        """Begin a piece of work; None while there is no core or not enough memory for it.

        A piece that needs more memory than there is begins when nothing else would run beside it.

        Args:
            task: what to do.
            memory_bytes: how much memory it will need at its peak.
            waiting: how many pieces wait to be begun, this one included.
        """

    def look(self) -> None:
        """Be called now and then while a batch lasts.

        Raises:
            ToolError: it can do nothing more.
        """

    def call_off(self) -> None:
        """Begin nothing more, and end what runs, as far as that is in its power."""


class LocalCrew:
    """An executor of this machine; the tools that run in it are ended by their own runner.

    Args:
        executor: runs the pieces.
        cores: pieces of work that run at once.
        memory_bytes: bound on the sum of their declared memory.
    """

    def __init__(self, executor: Executor, *, cores: int, memory_bytes: int):
        self.cores = cores
        self._executor = executor
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._running = 0
        self._taken_bytes = 0
        self._called_off = False

    @property
    def idle(self) -> int:
        """Pieces of work that it could begin now."""
        return self.cores - self._running

    def begin(self, task: Callable[[], Any], memory_bytes: int, *, waiting: int) -> Begun | None:  # noqa: ARG002 - of Crew
        """Begin a piece of work; None while there is no core or not enough memory for it."""
        with self._lock:
            is_too_much = self._taken_bytes + memory_bytes > self._memory_bytes
            if self._called_off or not self.idle or (self._running and is_too_much):
                return None
            # Counted only when the executor has taken it: one that was shut down takes nothing.
            future = self._executor.submit(task)
            self._running += 1
            self._taken_bytes += memory_bytes
        return Begun(future, partial(self._free, memory_bytes))

    def look(self) -> None:
        """Nothing can become of it."""

    def call_off(self) -> None:
        """Begin nothing more."""
        self._called_off = True

    def _free(self, memory_bytes: int) -> None:
        with self._lock:
            self._running -= 1
            self._taken_bytes -= memory_bytes


@dataclass
class _State(Generic[T]):
    ready: list[tuple[tuple[int, ...], int, Work[T]]] = field(default_factory=list)
    running: int = 0
    finished: queue.SimpleQueue[Step[T] | BaseException | None] = field(default_factory=queue.SimpleQueue)


class WorkPool:
    """Has a crew do work, lowest rank first.

    A freed core is given its next piece by the thread that freed it, so nothing waits for the consumer.

    Args:
        crew: who does it; for this pool alone.
    """

    def __init__(self, crew: Crew):
        self._crew = crew
        # Re-entrant: a future that is done already calls back from within _dispatch.
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._running = 0
        self._stopped = False
        self._sequence = itertools.count()

    @property
    def cores(self) -> int:
        """Pieces of work that can run at once now."""
        return self._crew.cores

    def run(self, works: Iterable[Work[T]]) -> Iterator[tuple[T, ...]]:
        """Start the works at once, and iterate over the values of every step, of them and of what they lead to.

        An empty tuple comes whenever nothing else has come for ``WAKE_UP_S``.

        Closing the iterator stops new work from being started; what runs is the caller's to end.

        Raises:
            ToolError: while iterating, when the crew can do nothing more.
            BaseException: while iterating, whatever a ``finish`` raised; that is a defect.
        """
        state = _State[T]()
        with self._lock:
            self._add(state, works)
            self._dispatch(state)
        return self._values(state)

    def _values(self, state: _State[T]) -> Iterator[tuple[T, ...]]:
        try:
            while True:
                try:
                    step = state.finished.get(timeout=WAKE_UP_S)
                except queue.Empty:
                    self._crew.look()
                    # There may be more room than when the last piece was done.
                    with self._lock:
                        self._dispatch(state)
                    yield ()
                    continue
                if step is None:
                    return
                if isinstance(step, BaseException):
                    raise step
                if step.values:
                    yield step.values
        finally:
            with self._lock:
                state.ready.clear()

    def stop(self) -> None:
        """Start nothing more, and return once nothing runs; tools of this machine are the caller's to end."""
        with self._idle:
            self._stopped = True
        self._crew.call_off()
        with self._idle:
            self._idle.wait_for(lambda: not self._running)

    def _add(self, state: _State[T], works: Iterable[Work[T]]) -> None:
        for work in works:
            heapq.heappush(state.ready, (work.rank, next(self._sequence), work))

    def _dispatch(self, state: _State[T]) -> None:
        """Start what fits. The lock is held."""
        while state.ready and not self._stopped:
            idle = self._crew.idle
            work = state.ready[0][2]
            if work.split is not None and len(state.ready) < idle:
                heapq.heappop(state.ready)
                self._add(state, work.split(idle - len(state.ready)))
                work = state.ready[0][2]
            begun = self._crew.begin(work.task, work.memory_bytes, waiting=len(state.ready))
            if begun is None:
                return
            heapq.heappop(state.ready)
            state.running += 1
            self._running += 1
            begun.future.add_done_callback(partial(self._done, state, work, begun))
        if not state.ready and not state.running:
            state.finished.put(None)

    def _done(self, state: _State[T], work: Work[T], begun: Begun, future: Future[Any]) -> None:
        try:
            step: Step[T] | BaseException = work.finish(future)
        except BaseException as defect:  # noqa: BLE001 - handed to the consumer, which raises it
            step = defect
        with self._lock:
            begun.free()
            state.running -= 1
            self._running -= 1
            self._idle.notify_all()
            state.finished.put(step)
            if isinstance(step, Step):
                self._add(state, step.then)
                try:
                    self._dispatch(state)
                except BaseException as defect:  # noqa: BLE001 - concurrent.futures would swallow it
                    state.finished.put(defect)
