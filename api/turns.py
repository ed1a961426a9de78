"""The threads of a worker: as many as may have to wait, and few of them at work at once.

Python lets one thread compute at a time. The more threads want to, the more often they are
switched, and the less they get done. So a request waits until a thread has time for it, and a
thread that has answered one takes the next itself, with no switch between them. Whoever is about to
wait for something else than the processor steps aside, and lets another thread have its turn.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

ASIDE = "charrnn.aside"  # what a request's environment calls `Turns.aside`
AT_WORK = 1  # threads at a time
STALL_SECONDS = 0.01  # after which whoever is at work is taken for one that waits

log = logging.getLogger(__name__)


class Turns:
    """A pool of threads for gunicorn, of which few are at work at a time."""

    def __init__(self, most: int) -> None:
        """most: threads, those that wait included."""
        self._pool = ThreadPoolExecutor(most)
        self._lock = threading.Lock()  # over all that follows
        self._tasks: deque[tuple[Future[Any], Callable[..., Any], Any]] = deque()
        self._at_work: set[int] = set()  # threads
        self._called: set[object] = set()  # calls for a thread that the pool has not followed yet
        self._taken_at = 0.0  # when the last task was, on the monotonic clock
        self._is_over = False
        self._complained = False

    @property
    def waiting(self) -> int:
        """Tasks that no thread has had time for yet."""
        return len(self._tasks)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Have a thread call something, in turn."""
        future: Future[Any] = Future()
        with self._lock:
            self._tasks.append((future, function, arguments))
            self._call()
        return future

    def shutdown(self, wait: bool = True) -> None:
        """Begin nothing more."""
        with self._lock:
            self._is_over = True
        self._pool.shutdown(wait=wait)

    def see_to_stalls(self) -> None:
        """Call another thread where those at work have taken no task for long: they compute for
        long, or wait for something that they haven't told. To be called every STALL_SECONDS while
        tasks wait.
        """
        with self._lock:
            if self._tasks and time.monotonic() - self._taken_at > STALL_SECONDS:
                self._at_work.clear()
                self._call()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Around what waits, in a thread of the pool: it is not at work meanwhile. Afterwards it is
        again, if it was, and doesn't wait for that.
        """
        me = threading.get_ident()
        with self._lock:
            was_at_work = me in self._at_work
            self._at_work.discard(me)
            self._call()
        try:
            yield
        finally:
            if was_at_work:
                with self._lock:
                    self._at_work.add(me)

    def _call(self) -> None:
        """Call a thread where there is something to do. To be called with the lock."""
        if self._tasks and not self._is_full and not self._is_over:
            call = object()
            self._called.add(call)
            try:
                self._pool.submit(self._work, call)
            except RuntimeError as error:  # the system lets us have no more threads
                self._called.discard(call)
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Say it once: `see_to_stalls` tries again, and threads that there are go on."""
        if not self._complained:
            log.warning("no thread for a request: %s; those that there are go on", error)
        self._complained = True

    @property
    def _is_full(self) -> bool:
        return len(self._at_work) + len(self._called) >= AT_WORK

    def _work(self, call: object) -> None:
        """A thread's turn: tasks, as long as there are some and no more threads at work than may
        be.
        """
        with self._lock:
            self._called.discard(call)
        while task := self._next():
            future, function, arguments = task
            try:
                result = function(*arguments)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

    def _next(self) -> tuple["Future[Any]", Callable[..., Any], Any] | None:
        with self._lock:
            me = threading.get_ident()
            self._at_work.discard(me)
            if not self._tasks or self._is_full or self._is_over:
                return None
            self._at_work.add(me)
            self._taken_at = time.monotonic()
            return self._tasks.popleft()
