"""A request in the engine, what is new of its texts, and the batch that these are written in."""

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

import charrnn

TURN_SECONDS = 0.004  # of one batch, after which others are heard
LONG_TURN_SECONDS = 0.05  # of the only one, where nobody reads along and nobody comes
MOST_STEPS, MOST_STREAMED = 256, 32  # symbols of a turn; where one of the texts is being streamed
MOST_UNREAD = 64  # pieces of each text of a stream, before it stands still
MANY = 5  # requests at work, or more, from which a new one shares products if its seed is ours

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
        self.is_brief = not streamed and generator.is_brief(request)  # as long as that is not tried
        self.is_patient = not streamed and generator.is_long(request)
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

    def begin_again(self) -> None:
        """Who has written it so far writes no more, and others are to: from the beginning."""
        self.is_brief, self.characters = False, 0
        self._begun.clear()

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


class Batch:
    """The requests of one version of a model. Belongs to the leader. It holds no version that it
    writes nothing of: one that is no longer served can go.
    """

    def __init__(self, generator: charrnn.Generator, steps: int = 1) -> None:
        """steps: of the first turn, before it is known how long a step takes."""
        self._generator, self._writer = weakref.ref(generator), generator.writer()
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

    def break_up(self) -> list[Ticket]:
        """Let others have its writer: nobody will be in it. Returns who still was."""
        tickets = list(self._tickets.values())
        for number in self._tickets:
            self._writer.leave(number)
        self._tickets.clear()
        if generator := self._generator():
            generator.keep(self._writer)
        return tickets

    def join(self, ticket: Ticket) -> None:
        """Let a request join, unless it has left already."""
        if ticket.left:
            ticket.end()
            return
        try:
            if not ticket.streamed:  # its random seed may have been told
                ticket.request = self._writer.placed(ticket.request)
            number = self._writer.join(ticket.request)
        except Exception as error:  # half of it may have joined
            ticket.break_off(error)
            self._break_off(error)
        else:
            self._tickets[number] = ticket

    def turn(self, goes_on: Callable[[], bool] | None = None) -> None:
        """See to the requests, then some steps of all. What goes wrong is told to each of them:
        their texts are lost.

        Args:
            goes_on: whether it may go on for longer than others could wait; None where it may not.
        """
        try:
            self._see_to_tickets()
            if self._tickets:
                self._step(goes_on)
        except Exception as error:
            self._break_off(error)

    def _see_to_tickets(self) -> None:
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

    def _step(self, goes_on: Callable[[], bool] | None) -> None:
        most, seconds = MOST_STEPS, LONG_TURN_SECONDS
        if any(ticket.streamed for ticket in self._tickets.values()):
            most, goes_on = MOST_STREAMED, None
        if goes_on is None:
            goes_on, seconds = (lambda: True), TURN_SECONDS
        steps = max(1, min(most, int(seconds / self._step_seconds)))
        began = time.monotonic()
        news = self._writer.turn(steps, goes_on)
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

    def _break_off(self, error: Exception) -> None:
        """The batch can't go on."""
        log.error("a batch of %d requests broke off", len(self._tickets), exc_info=error)
        tickets, self._tickets = self._tickets, {}
        for ticket in tickets.values():
            ticket.break_off(error)
        if generator := self._generator():
            self._writer = generator.writer()
