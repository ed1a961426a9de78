"""How many requests are taken on at once: above it, 503 at once and never an unbounded wait."""

import threading

from api.errors import RequestError
from api.metrics import Metrics

RETRY_SECONDS = 1
SPARE_THREADS = 2  # tell that there are enough requests, and how the service is


def most_at_once(wanted: int | None, threads: int) -> int:
    """Requests for texts that a worker takes on: as many as are wanted, else all but some threads
    have one.
    """
    return wanted or max(1, threads - SPARE_THREADS)


class Admission:
    """So many requests at work in this process; the next one is refused."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self.most = most
        self._metrics, self._lock, self._at_work = metrics, threading.Lock(), 0

    def enter(self) -> None:
        """Take a request on. Raises RequestError 503 where there are enough already."""
        with self._lock:
            is_full = self._at_work >= self.most
            self._at_work += not is_full
        if is_full:
            self._metrics.refused("full")
            raise RequestError(
                503,
                f"the service is at work on {self.most} requests, as many as it takes on; try "
                f"again in {RETRY_SECONDS} s",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )

    def leave(self) -> None:
        """A request is over."""
        with self._lock:
            assert self._at_work > 0
            self._at_work -= 1
