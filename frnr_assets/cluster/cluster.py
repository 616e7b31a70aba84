"""A Dask cluster as the run sees it: a scheduler at an address, and the workers that it knows."""

import asyncio
import concurrent.futures
import pickle
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from distributed import Client

from frnr_assets.cluster.versions import versions_of
from frnr_assets.cluster.worker import Capacity, examine
from frnr_assets.media.process import ToolError
from frnr_assets.media.toolchain import Toolchain, ToolSettings
from frnr_assets.words import harmless_lines

T = TypeVar("T")

# A scheduler that is busy with thousands of workers may take a while to answer; a dead one never does.
ANSWER_S = 60.0
_CLOSE_S = 15.0


class SchedulerGone(ToolError):  # noqa: N818 - the name says what happened
    """Nobody answers at the scheduler's address any more."""


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Lend an event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    # A daemon, so that a cluster that does not answer cannot keep a process from ending.
    thread = threading.Thread(target=loop.run_forever, name="cluster", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLOSE_S)
        if not thread.is_alive():
            loop.close()


def wait_for(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
    """Run a coroutine in a loop of another thread, and wait for its end.

    Raises:
        TimeoutError: it takes longer; it was cancelled.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result(timeout_s)
    except BaseException:
        future.cancel()
        raise


async def connect(scheduler: str) -> Client:
    """Connect to a scheduler; to be called in the event loop that is to serve the connection.

    Raises:
        ToolError: nobody answers there, or the address is none.
    """
    try:
        client: Client = await Client(scheduler, asynchronous=True, set_as_default=False)
    except (OSError, ValueError, ImportError) as error:
        raise ToolError(
            harmless_lines(
                f"no Dask scheduler answers at {scheduler} ({error or 'no answer'}); start it with `dask scheduler`, "
                "or correct scheduler in frnr.toml"
            )
        ) from error
    return client


async def disconnect(client: Client) -> None:
    """Close a connection, whatever has become of the scheduler."""
    with suppress(OSError, concurrent.futures.CancelledError):
        async with asyncio.timeout(_CLOSE_S):
            await client.close()


async def known_workers(client: Client) -> set[str]:
    """Return the addresses of the workers that the scheduler knows.

    Raises:
        OSError: it does not answer.
    """
    async with asyncio.timeout(ANSWER_S):
        return set(await client.nthreads())


async def ask(client: Client, function: Any, *args: object, workers: Iterable[str]) -> Mapping[str, Any]:
    """Run a function on workers, outside of their queues of work, and return their answers.

    An error on a worker is its answer.

    Raises:
        OSError: the scheduler, or one of them, does not answer.
    """
    async with asyncio.timeout(ANSWER_S):
        answers: Mapping[str, Any] = await client.run(function, *args, workers=list(workers), on_error="return")
    return answers


def why_not(answer: object) -> str:
    """Return why a worker cannot be used, from its answer to ``examine`` or ``join``; empty when it can."""
    match answer:
        case Capacity():
            return ""
        case TimeoutError():
            return f"it does not answer within {ANSWER_S:.0f} s; look at its log, or end it"
        case ModuleNotFoundError():
            return f"it has no frnr_assets like this one ({answer}); install the same version there"
        case str():
            return harmless_lines(answer)
    return harmless_lines(f"it does not do what it is asked to: {answer!r}")


def survey(scheduler: str, tools: ToolSettings, toolchain: Toolchain) -> Mapping[str, Capacity | str]:
    """Ask all workers of a cluster what they have, or why they cannot be used.

    Args:
        scheduler: Dask's address of it.
        tools: the settings of a run.
        toolchain: what is made of them on this machine.

    Raises:
        ToolError: nobody answers there.
    """

    async def ask_one(client: Client, address: str) -> object:
        # Each on its own, so that one that hangs hides no other.
        try:
            answers = await ask(client, examine, versions_of(toolchain), pickle.dumps(tools), workers=[address])
        except TimeoutError as error:
            return error
        return answers[address]

    async def look() -> Mapping[str, object]:
        client = await connect(scheduler)
        try:
            workers = sorted(await known_workers(client))
            return dict(zip(workers, await asyncio.gather(*(ask_one(client, each) for each in workers)), strict=True))
        except OSError as error:
            reason = harmless_lines(str(error) or "it took too long")
            raise ToolError(f"the Dask cluster at {scheduler} does not answer: {reason}") from error
        finally:
            await disconnect(client)

    with event_loop() as loop:
        answers = wait_for(loop, look())
    return {address: answer if isinstance(answer, Capacity) else why_not(answer) for address, answer in answers.items()}
