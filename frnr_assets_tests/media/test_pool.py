"""Whether all work is done, no more at once than allowed, and what a defect in it does."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from frnr_assets.media.pool import LocalCrew, Step, Work, WorkPool

PATIENCE_S = 10.0
BOUND = 100


@contextmanager
def pool_of(cores: int, memory_bytes: int = BOUND) -> Iterator[WorkPool]:
    # More threads than cores, so that only the pool's own bound can hold work back.
    with ThreadPoolExecutor(2 * cores + 2) as executor:
        yield WorkPool(LocalCrew(executor, cores=cores, memory_bytes=memory_bytes))


def value_of(future: Future[Any]) -> Step[str]:
    return Step((future.result(),))


def work(
    name: str,
    task: Callable[[], object] | None = None,
    *,
    rank: int = 0,
    memory_bytes: int = 1,
    then: tuple[Work[str], ...] = (),
    split: Callable[[int], list[Work[str]]] | None = None,
) -> Work[str]:
    def run() -> str:
        if task is not None:
            task()
        return name

    def finish(future: Future[Any]) -> Step[str]:
        return Step(value_of(future).values, then)

    return Work(run, finish, (rank,), memory_bytes, split)


class ByHand(Executor):
    """An executor whose work ends, in the test's own thread, when the test says so."""

    class Promise(Future[str]):
        def __init__(self, task: Callable[[], str]):
            super().__init__()
            self.task = task
            self.expected = threading.Event()

        def add_done_callback(self, fn: Callable[[Future[str]], object]) -> None:
            super().add_done_callback(fn)
            self.expected.set()

    def __init__(self) -> None:
        self.running: list[str] = []
        self._promises: dict[str, ByHand.Promise] = {}
        self._submitted = threading.Event()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        promise = ByHand.Promise(lambda: fn(*args, **kwargs))
        name = promise.task()
        self._promises[name] = promise
        self.running.append(name)
        self._submitted.set()
        return promise

    def wait(self) -> None:
        assert self._submitted.wait(PATIENCE_S)

    def end(self, name: str) -> None:
        """End one piece of work; what it leads to is submitted when this returns."""
        promise = self._promises[name]
        assert promise.expected.wait(PATIENCE_S)
        self.running.remove(name)
        promise.set_result(name)


@contextmanager
def by_hand(works: tuple[Work[str], ...], cores: int) -> Iterator[ByHand]:
    """Run works on a pool of that many cores, until each was ended by hand."""
    executor = ByHand()
    pool = WorkPool(LocalCrew(executor, cores=cores, memory_bytes=BOUND))
    consumed: Future[int] = Future()
    # A daemon, so that a test that fails before all work was ended does not wait for the rest.
    consumer = threading.Thread(
        target=lambda: consumed.set_result(len(list(pool.run([work("seed", then=works)])))), daemon=True
    )
    consumer.start()
    executor.wait()
    executor.end("seed")
    yield executor
    assert consumed.result(timeout=PATIENCE_S) == 1 + len(works)


def test_all_work_is_done_once() -> None:
    names = [f"work{number}" for number in range(50)]
    with pool_of(3) as pool:
        assert sorted(value for values in pool.run(work(name) for name in names) for value in values) == sorted(names)


def test_no_work_is_no_error() -> None:
    with pool_of(2) as pool:
        assert list(pool.run([])) == []


@pytest.mark.parametrize(
    ("memory_bytes", "side_by_side"),
    [pytest.param(1, 3, id="cores"), pytest.param(40, 2, id="memory"), pytest.param(BOUND, 1, id="all the memory")],
)
def test_as_much_runs_at_once_as_cores_and_memory_allow(memory_bytes: int, side_by_side: int) -> None:
    works = tuple(work(str(number), memory_bytes=memory_bytes) for number in range(5))
    with by_hand(works, cores=3) as executor:
        for left in range(5, 0, -1):
            assert len(executor.running) == min(left, side_by_side)
            executor.end(executor.running[0])


@pytest.mark.parametrize("rank", [0, 1, 2], ids=["first", "between", "last"])
def test_a_piece_larger_than_the_bound_runs_alone(rank: int) -> None:
    small = tuple(work(f"small{number}", rank=2 * (number % 2), memory_bytes=10) for number in range(4))
    large = work("large", rank=rank, memory_bytes=BOUND + 1)
    with by_hand((*small, large), cores=3) as executor:
        for _ in range(5):
            assert "large" not in executor.running or len(executor.running) == 1
            assert executor.running, "nothing is running, and the large piece is not done"
            executor.end(executor.running[0])


def test_the_lowest_rank_goes_first_also_when_it_comes_later() -> None:
    urgent = work("urgent", rank=0)
    works = [work("b", rank=2), work("c", rank=3), work("a", rank=1, then=(urgent,))]
    with pool_of(1) as pool:
        assert list(pool.run(works)) == [("a",), ("urgent",), ("b",), ("c",)]


def test_work_that_leads_to_work_is_followed_to_its_end() -> None:
    chain: tuple[Work[str], ...] = ()
    for number in reversed(range(20)):
        chain = (work(str(number), then=chain),)
    with pool_of(2) as pool:
        assert list(pool.run(chain)) == [(str(number),) for number in range(20)]


def test_a_step_without_values_is_not_shown() -> None:
    silent: Work[str] = Work(lambda: None, lambda _: Step(then=(work("shown"),)), (0,), 1)
    with pool_of(1) as pool:
        assert list(pool.run([silent])) == [("shown",)]


def test_nothing_waits_for_a_slow_consumer() -> None:
    last = threading.Event()
    works = [work(str(number)) for number in range(5)] + [work("last", last.set, rank=9)]
    with pool_of(1) as pool:
        results = pool.run(works)
        assert next(results) == ("0",)
        assert last.wait(PATIENCE_S)
        assert len(list(results)) == len(works) - 1


@pytest.mark.parametrize(
    ("running", "ready", "pieces"), [(0, 0, 3), (1, 0, 2), (2, 0, None), (0, 1, 2), (0, 2, None), (1, 1, None)]
)
def test_work_is_split_only_for_cores_that_would_be_idle(running: int, ready: int, pieces: int | None) -> None:
    asked: list[int] = []
    begun = threading.Event()

    def split(number: int) -> list[Work[str]]:
        asked.append(number)
        return [work(f"piece{place}", begun.set, rank=1) for place in range(number)]

    busy = [work(f"busy{place}", lambda: begun.wait(PATIENCE_S)) for place in range(running)]
    later = [work(f"later{place}", rank=2) for place in range(ready)]
    whole = work("whole", begun.set, rank=1, split=split)
    with pool_of(3) as pool:
        values = sorted(value for values in pool.run([*busy, whole, *later]) for value in values)
    assert asked == ([] if pieces is None else [pieces])
    done = ["whole"] if pieces is None else [f"piece{place}" for place in range(pieces)]
    others = [f"busy{place}" for place in range(running)] + [f"later{place}" for place in range(ready)]
    assert values == sorted(done + others)


def test_the_failure_of_a_task_is_for_its_finish_to_judge() -> None:
    def fail() -> None:
        raise OSError("disk full")

    def finish(future: Future[Any]) -> Step[str]:
        return Step((str(future.exception()),))

    with pool_of(2) as pool:
        values = sorted(pool.run([Work(fail, finish, (0,), 1), work("fine")]))
    assert values == [("disk full",), ("fine",)]


class Defect(BaseException):
    """What nobody expects of a finish."""


@pytest.mark.parametrize("error", [ValueError("a defect"), Defect("a defect")])
def test_a_defect_in_a_finish_reaches_the_consumer_and_starts_nothing_more(error: BaseException) -> None:
    started: list[str] = []
    both, leave = threading.Event(), threading.Event()

    def finish(_: Future[Any]) -> Step[str]:
        raise error

    def long_task() -> None:
        both.set()
        leave.wait(PATIENCE_S)

    broken: Work[str] = Work(lambda: both.wait(PATIENCE_S), finish, (0,), 1)
    works = [broken, work("long", long_task, rank=1), work("next", lambda: started.append("next"), rank=2)]
    with pool_of(2) as pool:
        with pytest.raises(type(error), match="a defect"):
            list(pool.run(works))
        leave.set()
        assert list(pool.run([work("again")])) == [("again",)]
    assert started == []


def test_a_consumer_that_leaves_starts_nothing_more() -> None:
    running, leave = threading.Event(), threading.Event()
    started: list[str] = []

    def long_task() -> None:
        running.set()
        leave.wait(PATIENCE_S)

    followed = work("long", long_task, rank=1, then=(work("then", lambda: started.append("then")),))
    works = [work("first"), followed, work("waiting", lambda: started.append("waiting"), rank=2)]
    with pool_of(1) as pool:
        results = pool.run(works)
        assert next(results) == ("first",)
        assert running.wait(PATIENCE_S)
        results.close()  # type: ignore[attr-defined] # an Iterator that is a generator
        leave.set()
    assert started == []


class ShortLived(Executor):
    """An executor that goes away after its first piece of work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = self._threads.submit(fn, *args, **kwargs)
        self._threads.shutdown(wait=False)
        return future


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_executor_that_goes_away_does_not_leave_the_consumer_waiting() -> None:
    ended: Future[BaseException | None] = Future()

    def consume() -> None:
        try:
            list(
                WorkPool(LocalCrew(ShortLived(), cores=1, memory_bytes=BOUND)).run(
                    [work("first"), work("second", rank=1)]
                )
            )
        except RuntimeError as error:
            ended.set_result(error)

    threading.Thread(target=consume, daemon=True).start()
    assert isinstance(ended.result(timeout=1), RuntimeError)


def test_stopping_ends_although_the_executor_was_shut_down_with_work_left() -> None:
    executor = ThreadPoolExecutor(1)
    started, shut_down = threading.Event(), threading.Event()

    def last() -> None:
        started.set()
        assert shut_down.wait(PATIENCE_S)

    pool = WorkPool(LocalCrew(executor, cores=1, memory_bytes=BOUND))
    outcomes = pool.run([work("last", last), work("never")])
    assert started.wait(PATIENCE_S)
    executor.shutdown(wait=False)
    shut_down.set()
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(outcomes)
    stopping = threading.Thread(target=pool.stop, daemon=True)
    stopping.start()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()
