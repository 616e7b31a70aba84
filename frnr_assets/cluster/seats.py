"""The workers that take part in a batch, and what of their cores and memory is taken."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from frnr_assets.cluster.worker import Capacity


@dataclass(eq=False)
class Seat:
    """A worker that takes part.

    Attributes:
        address: Dask's address of it.
        capacity: what it has.
        attempts: what waits for results of it; used in the event loop only.
        is_gone: whether it takes part no longer.
        is_set_aside: whether that is for its own tools, while it is alive.
    """

    address: str
    capacity: Capacity
    attempts: "set[asyncio.Future[Any]]" = field(default_factory=set)
    is_gone: bool = False
    is_set_aside: bool = False
    _running: int = 0
    _taken_bytes: int = 0

    @property
    def idle(self) -> int:
        """Its cores that have nothing to do; less than none while it has work ahead."""
        return self.capacity.cores - self._running

    def has_room_for(self, memory_bytes: int, *, ahead: bool = False) -> bool:
        """Tell whether it has so much memory and a core or, for a piece to have ahead, will soon have one."""
        ahead_at_once = -(-self.capacity.cores // 4) if ahead else 0
        return self.idle + ahead_at_once > 0 and self._taken_bytes + memory_bytes <= self.capacity.memory_bytes

    def take(self, memory_bytes: int) -> None:
        """Count a piece of work."""
        self._running += 1
        self._taken_bytes += memory_bytes

    def free(self, memory_bytes: int) -> None:
        """Count it no longer."""
        self._running -= 1
        self._taken_bytes -= memory_bytes


@dataclass(frozen=True)
class Place:
    """A core and some memory of a worker, taken for a piece of work."""

    seat: Seat
    memory_bytes: int


class Seats:
    """All of them, for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seats: dict[str, Seat] = {}

    @property
    def cores(self) -> int:
        """Cores of all workers."""
        with self._lock:
            return sum(seat.capacity.cores for seat in self._seats.values())

    @property
    def idle(self) -> int:
        """Those that have nothing to do."""
        with self._lock:
            return sum(max(0, seat.idle) for seat in self._seats.values())

    @property
    def addresses(self) -> set[str]:
        """Addresses of the workers."""
        with self._lock:
            return set(self._seats)

    def add(self, seat: Seat) -> None:
        """Let a worker take part."""
        with self._lock:
            self._seats[seat.address] = seat

    def remove(self, addresses: Iterable[str]) -> list[Seat]:
        """Let workers take part no longer, and return their seats."""
        with self._lock:
            gone = [self._seats.pop(address) for address in addresses if address in self._seats]
        for seat in gone:
            seat.is_gone = True
        return gone

    def take(self, memory_bytes: int, *, ahead: bool = False) -> Place | None:
        """Take a core of the worker that has most to spare; None without one that has the memory.

        A piece that needs more than any worker has gets all the memory of the largest.

        Args:
            memory_bytes: how much it needs.
            ahead: whether it may wait for a core there.
        """
        with self._lock:
            largest = max((seat.capacity.memory_bytes for seat in self._seats.values()), default=0)
            needed = min(memory_bytes, largest)
            free = [seat for seat in self._seats.values() if seat.has_room_for(needed, ahead=ahead)]
            if not free:
                return None
            seat = max(free, key=lambda seat: seat.idle)
            seat.take(needed)
        return Place(seat, needed)

    def leave(self, place: Place) -> None:
        """Give the place back."""
        with self._lock:
            place.seat.free(place.memory_bytes)
