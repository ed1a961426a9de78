"""How busy each worker of a service is, for the others to see: memory that they share.

A worker that was killed says nothing more, and what it said last is soon too old to count.
"""

import mmap
import time

import numpy as np

WORKERS = 256  # whose numbers have a place; two of more share one
FRESH_SECONDS = 3.0  # workers speak once a second, and whenever something changes


class Board:
    """To be made before the workers are forked."""

    def __init__(self) -> None:
        shared = mmap.mmap(-1, 16 * WORKERS)
        self._rows = np.frombuffer(shared, np.float64).reshape(WORKERS, 2)  # requests, since when

    def note(self, worker: int, requests: int) -> None:
        """A worker, by a number of its own, has so many requests to answer."""
        self._rows[worker % WORKERS] = requests, time.monotonic()

    def fewest(self) -> int | None:
        """The fewest requests of a worker that has spoken lately; None where none has."""
        requests, said = self._rows.T
        fresh = requests[said > time.monotonic() - FRESH_SECONDS]
        return int(fresh.min()) if len(fresh) else None
