"""Keeping all cores busy with work that leads to more work, within a bound on memory."""

import heapq
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

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
        task: runs in the executor.
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


@dataclass
class _State(Generic[T]):
    ready: list[tuple[tuple[int, ...], int, Work[T]]] = field(default_factory=list)
    running: int = 0
    memory_bytes: int = 0
    finished: queue.SimpleQueue[Step[T] | BaseException | None] = field(default_factory=queue.SimpleQueue)


class WorkPool:
    """Runs work on an executor, lowest rank first.

    A freed core is given its next piece by the thread that freed it, so nothing waits for the consumer.

    Attributes:
        cores: pieces of work that run at once.
        memory_bytes: bound on the sum of their declared memory; a piece that needs more than all of it runs alone.
    """

    def __init__(self, executor: Executor, *, cores: int, memory_bytes: int):
        self.cores = cores
        self.memory_bytes = memory_bytes
        self._executor = executor
        # Re-entrant: a future that is done already calls back from within _dispatch.
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._running = 0
        self._stopped = False
        self._sequence = itertools.count()

    def run(self, works: Iterable[Work[T]]) -> Iterator[tuple[T, ...]]:
        """Start the works at once, and iterate over the values of every step, of them and of what they lead to.

        An empty tuple comes whenever nothing else has come for ``WAKE_UP_S``.

        Closing the iterator stops new work from being started; what runs is the caller's to end.

        Raises:
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
        """Start nothing more, and return once nothing runs; the tools that run are the caller's to end."""
        with self._idle:
            self._stopped = True
            self._idle.wait_for(lambda: not self._running)

    def _add(self, state: _State[T], works: Iterable[Work[T]]) -> None:
        for work in works:
            heapq.heappush(state.ready, (work.rank, next(self._sequence), work))

    def _dispatch(self, state: _State[T]) -> None:
        """Start what fits. The lock is held."""
        while state.ready and state.running < self.cores and not self._stopped:
            idle = self.cores - state.running
            work = state.ready[0][2]
            if work.split is not None and len(state.ready) < idle:
                heapq.heappop(state.ready)
                self._add(state, work.split(idle - len(state.ready)))
                work = state.ready[0][2]
            if state.running and state.memory_bytes + work.memory_bytes > self.memory_bytes:
                return
            # Counted only when the executor has taken it: one that was shut down takes nothing.
            future = self._executor.submit(work.task)
            heapq.heappop(state.ready)
            state.running += 1
            self._running += 1
            state.memory_bytes += work.memory_bytes
            future.add_done_callback(partial(self._done, state, work))
        if not state.ready and not state.running:
            state.finished.put(None)

    def _done(self, state: _State[T], work: Work[T], future: Future[Any]) -> None:
        try:
            step: Step[T] | BaseException = work.finish(future)
        except BaseException as defect:  # noqa: BLE001 - handed to the consumer, which raises it
            step = defect
        with self._lock:
            state.running -= 1
            self._running -= 1
            self._idle.notify_all()
            state.memory_bytes -= work.memory_bytes
            state.finished.put(step)
            if isinstance(step, Step):
                self._add(state, step.then)
                try:
                    self._dispatch(state)
                except BaseException as defect:  # noqa: BLE001 - concurrent.futures would swallow it
                    state.finished.put(defect)
