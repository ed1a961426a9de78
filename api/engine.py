"""One batch for all requests of a process: they join and leave between its steps.

There is no thread of its own. A request's thread that finds nobody leading leads: it steps the
batches, takes along whoever has joined meanwhile, and hands the lead on when its own request has
news. So a request alone waits for no other thread, and many share their steps.

One short text of a small network takes less time than it takes to wake another thread. Its own
thread writes it, in a batch of its own.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import charrnn
from api.metrics import Metrics

TURN_SECONDS = 0.004  # of one batch, after which others are heard
LONG_TURN_SECONDS = 0.05  # of the only one, where nobody reads along and nobody comes
MOST_STEPS, MOST_STREAMED = 256, 32  # symbols of a turn; where one of the texts is being streamed
MOST_UNREAD = 64  # pieces of each text of a stream, before it stands still
LEAVE_SECONDS = 5.0  # for the leader's turn to end
MANY = 5  # requests at work, or more, from which a new one shares products if its seed is ours
LATELY_SECONDS = 0.25  # clients that got their texts together ask together again
# Who comes for long texts may wait until nobody else has come for so long, and at most so long.
GATHER_SECONDS, MOST_GATHER_SECONDS = 0.004, 0.04

log = logging.getLogger(__name__)


class Ticket:
    """A request in the engine, and what is new of its texts. It belongs to one thread, which waits;
    the leader hands it news.
    """

    def __init__(
        self,
        generator: charrnn.Generator,
        request: charrnn.Request,
        *,
        deadline: float,
        streamed: bool = False,
    ) -> None:
        """deadline: on the monotonic clock, seconds, after which its texts end as they are.
        streamed: wanted piece by piece, not only when all texts are whole.
        """
        self.generator, self.request = generator, request
        self.deadline, self.streamed = deadline, streamed
        self.samples: dict[int, charrnn.Sample] = {}  # by index, as they end
        self.first_at: float | None = None  # when the first text moved, on the monotonic clock
        self.over, self.left = False, False
        self.error: Exception | None = None
        self.wake = threading.Event()
        self.characters = 0  # drawn so far
        self.shortfall: str | None = None  # why there are fewer texts than were asked for
        self.is_brief = not streamed and generator.is_brief(request)
        self.is_patient = not streamed and generator.is_long(request)
        self.batch: _Batch | None = None  # its own, if it is brief and has begun
        self._begun: set[int] = set()
        self._news: deque[charrnn.Written] = deque()  # of a stream, until it is taken

    def is_ready(self) -> bool:
        """Whether its thread has something to do. One that leaves reads no more."""
        return self.over or (bool(self._news) and not self.left)

    @property
    def is_behind(self) -> bool:
        """Whether so much is unread that it should stand still."""
        return len(self._news) > MOST_UNREAD * self.request.config.count

    def add(self, news: charrnn.Written, now: float) -> None:
        """The leader's: what is new of a text."""
        if self.first_at is None:
            self.first_at = now
        self.characters += len(news.characters)
        if news.sample_index not in self._begun:
            self._begun.add(news.sample_index)
            self.characters -= len(self.request.seed)  # which comes first
        if self.streamed:
            self._news.append(news)
        if news.sample:
            self.samples[news.sample_index] = news.sample

    def end(self) -> None:
        """The leader's: nothing more will come."""
        self.over = True
        self.wake.set()

    def share(self, at_work: int) -> None:
        """Share products with others, if so many requests are at work and its seed is ours."""
        if at_work >= max(MANY, self.generator.many):
            self.request = self.request.among_others()

    def break_off(self, error: Exception) -> None:
        """The leader's: its texts are lost."""
        self.error = error
        self.end()

    def take(self) -> list[charrnn.Written]:
        """What is new since the last time."""
        return [self._news.popleft() for _ in range(len(self._news))]


class Engine:
    """Steps the texts of all requests. Threads may share it; it may be made before a fork."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics, self._told = metrics, (0, 0)
        self._lock = threading.Lock()  # over the next four; nobody computes under it
        self._arrivals: list[Ticket] = []
        self._gathered_from, self._gathered_to = 0.0, 0.0  # when the first came, and the last
        self._waiting: dict[Ticket, None] = {}  # whose threads sleep, oldest first
        self._is_led = False
        self._at_work = 0  # requests that have joined and not left
        self._most, self._most_until = 0, 0.0  # of those lately, and when that is long ago
        self._batches: WeakKeyDictionary[charrnn.Generator, _Batch] = WeakKeyDictionary()
        self._outdated: list[charrnn.Generator] = []

    @property
    def live(self) -> int:
        """Texts that are being drawn."""
        return sum(batch.live for batch in list(self._batches.values()))

    def join(self, ticket: Ticket) -> None:
        """Let a request's texts be written, while somebody waits for theirs."""
        with self._lock:
            self._at_work += 1
            self._note_most()
            if ticket.is_brief:
                return
            if not ticket.is_patient:
                ticket.share(self._most)
            self._gathered_to = time.monotonic()
            if not self._arrivals:
                self._gathered_from = self._gathered_to
            self._arrivals.append(ticket)

    def wait(self, ticket: Ticket, seconds: float) -> bool:
        """Until a ticket is ready, or so many seconds have passed; whether it is ready."""
        until = time.monotonic() + seconds
        if ticket.is_brief:
            return self._write(ticket, until)
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

    def _write(self, ticket: Ticket, until: float) -> bool:
        """As its thread, write a brief text. Returns whether it is over."""
        while not ticket.over:
            if ticket.batch is not None and time.monotonic() >= until:
                return False
            try:
                if ticket.batch is None:
                    ticket.batch = _Batch(ticket.generator.writer(), MOST_STEPS)
                    ticket.batch.join(ticket)
                with charrnn.blas_threads(1):
                    ticket.batch.see_to_tickets()
                    ticket.batch.turn()
                    if ticket.over and not ticket.error:
                        ticket.batch.give_back(ticket.generator)
            except Exception as error:  # nobody else would tell it
                log.error("a request could not be written", exc_info=error)
                ticket.break_off(error)
        return True

    def leave(self, ticket: Ticket) -> None:
        """Write no more of a request; the slots of its texts are free when this returns."""
        with self._lock:
            self._note_most()
            self._at_work -= not ticket.left
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

    def _new_batch(self, generator: charrnn.Generator) -> "_Batch":
        """A batch for a version, in place of the model's others as soon as these are empty: memory
        is for what is asked for now, not for all versions that were.
        """
        self._outdated += [each for each in self._batches if each.name == generator.name]
        batch = self._batches[generator] = _Batch(generator.writer())
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
            batch.see_to_tickets()
            batch.turn(self._is_undisturbed if len(batches) == 1 else None)
        if not batches and self._arrivals:
            time.sleep(GATHER_SECONDS / 4)

    def _has_gathered(self) -> bool:
        """Whether somebody is to join who has come: most at once, but who asks for long texts waits
        a moment. Those that come together then share their products from the first on.
        """
        if all(ticket.is_patient for ticket in self._arrivals):
            now = time.monotonic()
            is_late = now - self._gathered_from >= MOST_GATHER_SECONDS
            return bool(self._arrivals) and (is_late or now - self._gathered_to >= GATHER_SECONDS)
        return True

    def _is_undisturbed(self) -> bool:
        """Whether nobody is to join."""
        return not self._arrivals or not self._has_gathered()


class _Batch:
    """The requests of one version of a model. Belongs to the leader."""

    def __init__(self, writer: charrnn.Writer, steps: int = 1) -> None:
        """steps: of the first turn, before it is known how long a step takes."""
        self._writer = writer
        self._tickets: dict[int, Ticket] = {}  # by the number that its news bear
        self._step_seconds = TURN_SECONDS / steps  # what a step took last time

    @property
    def is_empty(self) -> bool:
        """Whether nobody is in it."""
        return not self._tickets

    @property
    def live(self) -> int:
        """Texts that are being drawn."""
        return self._writer.live

    @property
    def waiting(self) -> int:
        """Texts that wait for a place."""
        return self._writer.waiting

    def give_back(self, generator: charrnn.Generator) -> None:
        """Let others have its writer: nobody is in it, nor will be."""
        generator.keep(self._writer)

    def join(self, ticket: Ticket) -> None:
        """Let a request join, unless it has left already."""
        if ticket.left:
            ticket.end()
            return
        try:
            number = self._writer.join(ticket.request)
        except Exception as error:  # half of it may have joined
            ticket.break_off(error)
            self._break_off(error, ticket.generator)
        else:
            self._tickets[number] = ticket

    def see_to_tickets(self) -> None:
        """Let go who has left, end what is late, and let stand who doesn't read."""
        now = time.monotonic()
        for number, ticket in list(self._tickets.items()):
            if ticket.left:
                self._writer.leave(number)
                self._close(number)
            elif now > ticket.deadline:
                for news in self._writer.end(number):
                    ticket.add(news, now)
                self._close(number)
            elif ticket.streamed:
                (self._writer.pause if ticket.is_behind else self._writer.resume)(number)

    def turn(self, goes_on: Callable[[], bool] | None = None) -> None:
        """Some steps of all. What goes wrong is told to each of them: their texts are lost.

        Args:
            goes_on: whether it may go on for longer than others could wait; None where it may not.
        """
        if not self._tickets:
            return
        most, seconds = MOST_STEPS, LONG_TURN_SECONDS
        if any(ticket.streamed for ticket in self._tickets.values()):
            most, goes_on = MOST_STREAMED, None
        if goes_on is None:
            goes_on, seconds = (lambda: True), TURN_SECONDS
        steps = max(1, min(most, int(seconds / self._step_seconds)))
        began = time.monotonic()
        try:
            news = self._writer.turn(steps, goes_on)
        except Exception as error:
            self._break_off(error, next(iter(self._tickets.values())).generator)
            return
        now = time.monotonic()
        if self._writer.made:  # nothing while prompts are read, or all stand still
            self._step_seconds = (now - began) / min(self._writer.made, steps)
        self._hand_out(news, now)

    def _hand_out(self, news: list[charrnn.Written], now: float) -> None:
        """Give each ticket its news, and wake those that are ready."""
        streamed = {}
        for each in news:
            ticket = self._tickets[each.request]
            ticket.add(each, now)
            if ticket.streamed:
                streamed[each.request] = ticket
        for number in self._writer.take_over():
            self._tickets[number].shortfall = self._writer.take_shortfall(number)
            self._close(number)
            streamed.pop(number, None)
        for ticket in streamed.values():
            ticket.wake.set()

    def _close(self, number: int) -> None:
        self._tickets.pop(number).end()

    def _break_off(self, error: Exception, generator: charrnn.Generator) -> None:
        """The batch can't go on."""
        log.error("a batch of %d requests broke off", len(self._tickets), exc_info=error)
        tickets, self._tickets = self._tickets, {}
        for ticket in tickets.values():
            ticket.break_off(error)
        self._writer = generator.writer()
