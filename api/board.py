"""How busy each worker of a service is, for the others to see: memory that they share.

A worker that was killed says nothing more, and what it said last is soon too old to count.
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

    def fewest(self) -> Load | None:
        """The fewest requests of a worker that has spoken lately, and the fewest connections; None
        where none has.
        """
        fresh = self._rows[self._rows[:, 2] > time.monotonic() - FRESH_SECONDS]
        return Load(*map(int, fresh[:, :2].min(0))) if len(fresh) else None
