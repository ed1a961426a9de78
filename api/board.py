"""How busy each worker of a service is, for the others to see: memory that they share.

What a worker said that stands still, or was killed, is soon too old to count.
"""

import mmap
import time
from typing import NamedTuple

import numpy as np

WORKERS = 256  # whose numbers have a place; two of more share one
FRESH_SECONDS = 3.0  # workers speak once a second, and whenever something changes


class Load(NamedTuple):
    """Requests to answer, and connections that are open."""

    requests: int
    connections: int


class Board:
    """To be made before the workers are forked."""

    def __init__(self) -> None:
        shared = mmap.mmap(-1, 24 * WORKERS)
        self._rows = np.frombuffer(shared, np.float64).reshape(WORKERS, 3)  # and since when

    def note(self, worker: int, load: Load) -> None:
        """A worker, by a number of its own, has so much to do."""
        self._rows[worker % WORKERS] = *load, time.monotonic()

    def forget(self, worker: int) -> None:
        """A worker takes no more, or is no more."""
        self._rows[worker % WORKERS, 2] = 0.0

    def fewest_requests(self) -> int | None:
        """Of a worker that has spoken lately; None where none has."""
        return min((load.requests for load in self._fresh()), default=None)

    def fewest_connections(self) -> Load | None:
        """The load of the worker that has fewest, likewise."""
        return min(self._fresh(), key=lambda load: load.connections, default=None)

    def _fresh(self) -> list[Load]:
        rows = self._rows[self._rows[:, 2] > time.monotonic() - FRESH_SECONDS]
        return [Load(*each) for each in rows[:, :2].astype(int).tolist()]
