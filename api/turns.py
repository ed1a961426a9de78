"""The threads of a worker: as many as may have to wait, and few of them at work at once.

Python lets one thread compute at a time. The more threads want to, the more often they are
switched, and the less they get done. So a request waits until a thread has time for it, and a
thread that has answered one takes the next itself, with no switch between them. Whoever is about to
wait for something else than the processor steps aside, and lets another thread have its turn. Whose
work is sooner done along with that of requests that wait gives way to them, and rests.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

TURNS = "charrnn.turns"  # what a request's environment calls its worker's `Turns`
AT_WORK = 1  # threads at a time
STALL_SECONDS = 0.01  # after which whoever is at work is taken for one that waits
REST_SECONDS = 0.01  # after which a thread that gives way to tasks goes on before the next one

log = logging.getLogger(__name__)


class Rest(NamedTuple):
    """A thread that gives way: its lock, which is released to let it go on, since when it does, and
    how many tasks have begun, of all that there ever were, once those have that it gives way to.
    """

    lock: Any
    since: float
    last: int


class Turns:
    """A pool of threads for gunicorn, of which few are at work at a time."""

    def __init__(self, most: int) -> None:
        """most: threads, those that wait included."""
        self._pool = ThreadPoolExecutor(most)
        self._lock = threading.Lock()  # over all that follows
        self._tasks: deque[tuple[Future[Any], Callable[..., Any], Any]] = deque()
        self._at_work: set[int] = set()  # threads
        self._called: set[object] = set()  # calls for a thread that the pool has not followed yet
        self._resting: dict[int, Rest] = {}  # threads that give way to tasks, oldest first
        self._ready: deque[tuple[int, Rest]] = deque()  # those that go on before any task begins
        self._taken_at, self._begun = 0.0, 0  # when the last task was, and how many
        self._is_over = False
        self._complained = False

    @property
    def waiting(self) -> int:
        """Tasks that no thread has had time for yet, begun or not."""
        return len(self._tasks) + len(self._ready) + len(self._resting)

    @property
    def tasks(self) -> int:
        """Tasks that have not begun."""
        return len(self._tasks)

    @property
    def is_full(self) -> bool:
        """Whether as many threads are at work, or called, as may be."""
        return len(self._at_work) + len(self._called) >= AT_WORK

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
            self._call()
        self._pool.shutdown(wait=wait)

    def see_to_stalls(self) -> None:
        """Call another thread where those at work have taken no task for long: they compute for
        long, or wait for something that they haven't told. To be called every STALL_SECONDS while
        tasks wait.
        """
        with self._lock:
            if self.waiting and time.monotonic() - self._taken_at > STALL_SECONDS:
                self._at_work.clear()
                # A call may wait for a thread that rests: there may be no other.
                if not (self._called and self._go_on()):
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

    def give_way(self) -> None:
        """In a thread of the pool: let the tasks begin that wait now. Returns when they have begun,
        or somebody has called `bring_back`, or after REST_SECONDS, once whoever is at work ends; at
        once where this thread is not at work.
        """
        me, lock = threading.get_ident(), threading.Lock()
        with self._lock:
            if not self._tasks or self._is_over or me not in self._at_work:
                return
            lock.acquire()
            self._at_work.discard(me)
            self._resting[me] = Rest(lock, time.monotonic(), self._begun + len(self._tasks))
            self._call()
        lock.acquire()  # whoever releases it has put this thread back to work

    def bring_back(self, threads: Iterable[int]) -> None:
        """Let threads that have given way go on, one after the other, before any task begins."""
        with self._lock:
            found = [(each, self._resting.pop(each, None)) for each in threads]
            self._ready += [(each, rest) for each, rest in found if rest]
            self._call()

    def _go_on(self) -> bool:
        """Let the next thread go on that rests, if one is to do so before a task begins. Returns
        whether there was one. To be called with the lock.
        """
        now = time.monotonic()
        if not self._ready and self._resting:
            first, rest = next(iter(self._resting.items()))
            had_theirs = self._begun >= rest.last or now - rest.since > REST_SECONDS
            if had_theirs or self._is_over:
                self._ready.append((first, self._resting.pop(first)))
        if not self._ready:
            return False
        thread, rest = self._ready.popleft()
        self._at_work.add(thread)
        self._taken_at = now
        rest.lock.release()
        return True

    def _call(self) -> None:
        """Call a thread where there is something to do. To be called with the lock."""
        if self.is_full or self._go_on():
            return
        if self._tasks and not self._is_over:
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
            if self.is_full or self._go_on() or not self._tasks or self._is_over:
                return None
            self._at_work.add(me)
            self._taken_at = time.monotonic()
            self._begun += 1
            return self._tasks.popleft()
