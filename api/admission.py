"""How many requests are taken on at once: above it, 503 at once and never an unbounded wait."""

import threading

from api.errors import RequestError
from api.metrics import Metrics

RETRY_SECONDS = 1


class Admission:
    """So many requests at work in this process; the next one is refused."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._most, self._metrics = most, metrics

    def enter(self) -> None:
        """Take a request on. Raises RequestError 503 where there are enough already."""
        if not self._free.acquire(blocking=False):
            self._metrics.refused("full")
            raise RequestError(
                503,
                f"the service is at work on {self._most} requests, as many as it takes on; try "
                f"again in {RETRY_SECONDS} s",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )

    def leave(self) -> None:
        """A request is over."""
        self._free.release()
