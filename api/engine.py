"""One batch for all requests of a process: they join and leave between its steps.

There is no thread of its own. A request's thread that finds nobody leading leads: it steps the
batches, takes along whoever has joined meanwhile, and hands the lead on when its own request has
news. So a request alone waits for no other thread, and many share their steps.

One short text of a small network takes less time than it takes to wake another thread. Its own
thread writes it, in a batch of its own. Where requests wait for a thread it gives way to them
first, so that the batch is of all their short texts: threads that rest are woken one after another,
and each has answered before the next one goes on.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from weakref import WeakKeyDictionary

import charrnn
from api.batch import MOST_STEPS, Batch, Ticket
from api.metrics import Metrics
from api.turns import Turns

LEAVE_SECONDS = 5.0  # for the leader's turn to end
LATELY_SECONDS = 0.25  # clients that got their texts together ask together again
# Who comes for long texts may wait until nobody else has come for so long, and at most so long.
GATHER_SECONDS, MOST_GATHER_SECONDS = 0.004, 0.04
# Texts that are written together without a leader; for fewer than so many others nobody gives way.
MOST_BRIEF, FEW_BRIEF = 32, 5
BRIEF_SECONDS = 0.02  # after which those that are not over go the way of all others

log = logging.getLogger(__name__)


class Engine:
    """Steps the texts of all requests. Threads may share it; it may be made before a fork."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics, self._told = metrics, (0, 0)
        self._lock = threading.Lock()  # over all of this but the batches; nobody computes under it
        self._arrivals: list[Ticket] = []
        self._gathered_from, self._gathered_to = 0.0, 0.0  # when the first came, and the last
        self._waiting: dict[Ticket, None] = {}  # whose threads sleep, oldest first
        self._is_led = False
        self._at_work = 0  # requests that have joined and not left, but for brief ones
        self._most, self._most_until = 0, 0.0  # of those lately, and when that is long ago
        self._batches: WeakKeyDictionary[charrnn.Generator, Batch] = WeakKeyDictionary()
        self._outdated: list[charrnn.Generator] = []
        self._brief: dict[int, Sequence[Ticket]] = {}  # to be written together, by their threads

    @property
    def live(self) -> int:
        """Texts that are being drawn."""
        return sum(batch.live for batch in list(self._batches.values()))

    def join(self, ticket: Ticket) -> None:
        """Let a request's texts be written, while somebody waits for theirs."""
        if ticket.is_brief:
            return
        with self._lock:
            self._at_work += 1
            self._note_most()
            if not ticket.is_patient:
                ticket.share(self._most)
            self._gathered_to = time.monotonic()
            if not self._arrivals:
                self._gathered_from = self._gathered_to
            self._arrivals.append(ticket)

    def wait(self, ticket: Ticket, seconds: float) -> bool:
        """Until a ticket that is not brief is ready, or so many seconds have passed; whether it is
        ready.
        """
        until = time.monotonic() + seconds
        while not ticket.is_ready():
            left = until - time.monotonic()
            if left <= 0:
                return False
            ticket.wake.clear()  # before the look below: what comes after it is not missed
            if ticket.is_ready():
                break
            if self._takes_lead(ticket):
                with self._leading():
                    while not ticket.is_ready() and time.monotonic() < until:
                        self._turn()
            else:
                ticket.wake.wait(left)
                with self._lock:
                    self._waiting.pop(ticket, None)
                    if not self._is_led and time.monotonic() >= until:
                        self._call_next()  # it may have been woken to lead, and has no time
        return True

    def write(self, tickets: Sequence[Ticket], turns: Turns | None = None) -> None:
        """Write brief texts, of the thread that calls and of those that come meanwhile; or have
        them written by one of those. A text that takes longer than was to be expected is not over
        then: it goes the way of all others.

        Args:
            turns: of the thread, if it is one of a pool.
        """
        me = threading.get_ident()
        with self._lock:
            self._brief[me] = tickets
            here = sum(map(len, self._brief.values()))
        if turns and here < MOST_BRIEF and (len(self._brief) > 1 or turns.tasks >= FEW_BRIEF):
            turns.give_way()
        with self._lock:
            group = self._brief if me in self._brief else {}
            if group:
                self._brief = {}
        if group:
            try:
                self._write([ticket for each in group.values() for ticket in each])
            finally:
                if turns:
                    turns.bring_back(group.keys() - {me})
            return
        for ticket in tickets:  # another thread has, or is about it
            if not ticket.over and ticket.is_brief:
                with turns.aside() if turns else nullcontext():
                    ticket.wake.wait()

    def _write(self, tickets: Sequence[Ticket]) -> None:
        """As one of their threads, write brief texts: a batch for each network."""
        for generator in {ticket.generator for ticket in tickets}:
            alike = [ticket for ticket in tickets if ticket.generator is generator]
            try:
                self._write_alike(alike)
            except Exception as error:  # nobody else would tell it
                log.error("%d requests could not be written", len(alike), exc_info=error)
                for ticket in alike:
                    if not ticket.over:
                        ticket.break_off(error)

    def _write_alike(self, tickets: Sequence[Ticket]) -> None:
        batch, until = Batch(tickets[0].generator, MOST_STEPS), time.monotonic() + BRIEF_SECONDS
        for ticket in tickets:
            ticket.share(len(tickets))
            batch.join(ticket)
        with charrnn.blas_threads(1):
            while not batch.is_empty and time.monotonic() < until:
                batch.turn()
        for ticket in batch.break_up():
            ticket.begin_again()
            self.join(ticket)
            ticket.wake.set()

    def leave(self, ticket: Ticket) -> None:
        """Write no more of a request; the slots of its texts are free when this returns."""
        with self._lock:
            self._note_most()
            self._at_work -= not (ticket.left or ticket.is_brief)
        ticket.left = True  # whoever leads sees to it, and may be about to lead no more
        if ticket.is_brief:
            ticket.over = True
        elif not ticket.over:
            self.wait(ticket, LEAVE_SECONDS)

    def _note_most(self) -> None:
        """How many are, or lately were, at work at once. To be called with the lock."""
        now = time.monotonic()
        if self._at_work >= self._most or now > self._most_until:
            self._most, self._most_until = self._at_work, now + LATELY_SECONDS

    def _takes_lead(self, ticket: Ticket | None = None) -> bool:
        """Become the leader if there is none; else the ticket's thread is one that sleeps."""
        with self._lock:
            takes = not self._is_led
            self._is_led = True
            if not takes and ticket is not None:
                self._waiting[ticket] = None
        return takes

    @contextmanager
    def _leading(self) -> Iterator[None]:
        """As the leader, which the caller has become; then hand the lead on."""
        try:
            with charrnn.blas_threads(1):
                yield
            if self._outdated:
                self._let_go()
            self._tell()
        finally:
            with self._lock:
                self._is_led = False
                self._call_next()

    def _call_next(self) -> None:
        """Wake who is to lead. To be called with the lock."""
        for ticket in self._waiting:
            if not ticket.is_ready():  # those that are will not come back to lead
                ticket.wake.set()
                break

    def _tell(self) -> None:
        """What is going on, in numbers."""
        batches = list(self._batches.values())
        numbers = sum(batch.live for batch in batches), sum(batch.waiting for batch in batches)
        if self._metrics and numbers != self._told:
            self._told = numbers
            self._metrics.batch(numbers[0])
            self._metrics.waiting(numbers[1])

    def _welcome(self) -> None:
        """Let those join that have come, once they have gathered."""
        if not self._has_gathered():
            return
        with self._lock:
            arrivals, self._arrivals = self._arrivals, []
            most = self._most
        for ticket in arrivals:
            if ticket.is_patient:
                ticket.share(most)
            batch = self._batches.get(ticket.generator)
            try:
                if batch is None:
                    batch = self._new_batch(ticket.generator)
                batch.join(ticket)
            except Exception as error:  # nobody else would tell it
                log.error("a request could not join its batch", exc_info=error)
                ticket.break_off(error)

    def _new_batch(self, generator: charrnn.Generator) -> Batch:
        """A batch for a version, in place of the model's others as soon as these are empty: memory
        is for what is asked for now, not for all versions that were.
        """
        self._outdated += [each for each in self._batches if each.name == generator.name]
        batch = self._batches[generator] = Batch(generator)
        return batch

    def _let_go(self) -> None:
        """Let outdated batches go that are empty."""
        for generator in self._outdated:
            batch = self._batches.get(generator)
            if batch is not None and batch.is_empty:
                del self._batches[generator]
        self._outdated = [each for each in self._outdated if each in self._batches]

    def _turn(self) -> None:
        """A turn of each batch."""
        self._welcome()
        batches = [batch for batch in self._batches.values() if not batch.is_empty]
        for batch in batches:
            batch.turn(self._is_undisturbed if len(batches) == 1 else None)
        if not batches and self._arrivals:
            time.sleep(GATHER_SECONDS / 4)

    def _has_gathered(self) -> bool:
        """Whether somebody is to join who has come: most at once, but who asks for long texts waits
        a moment. Those that come together then share their products from the first on.
        """
        if not self._arrivals:
            return False
        if not all(ticket.is_patient for ticket in self._arrivals):
            return True
        now = time.monotonic()
        is_late = now - self._gathered_from >= MOST_GATHER_SECONDS
        return is_late or now - self._gathered_to >= GATHER_SECONDS

    def _is_undisturbed(self) -> bool:
        """Whether nobody is to join."""
        return not self._has_gathered()
