"""What all routes that write texts share: the engine, the places, the connection, the body.

A route says what a body asks for and how the answer looks; this takes the request on, waits for its
texts as long as the client does, and sees to it that everything is let go at the end.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from flask import Request, Response, request

from api.admission import Admission, most_at_once
from api.batch import Ticket
from api.engine import Engine
from api.errors import RequestError
from api.metrics import Metrics
from api.models import Models
from api.observing import noted
from api.settings import ServiceSettings
from api.turns import TURNS, Turns

CLOSED = getattr(select, "POLLRDHUP", 0)  # with bytes unread, too; Linux only
LOOK_SECONDS = 0.5  # between two looks whether a silent client is there still, at most
FIRST_LOOK_SECONDS = 0.05  # then twice as long each time: who leaves mostly leaves early


class Job:
    """A request's tickets, which are at work, and whether its client is there."""

    def __init__(self, engine: Engine, tickets: Sequence[Ticket], began: float) -> None:
        self.engine, self.tickets, self.began = engine, tickets, began
        self.is_there = connection_check(request)
        self._turns: Turns | None = request.environ.get(TURNS)
        self._facts = noted()

    def wait(self, ticket: Ticket, seconds: float) -> bool:
        """`Engine.wait`. Whoever waits there steps aside."""
        with self._turns.aside() if self._turns else nullcontext():
            return self.engine.wait(ticket, seconds)

    def wait_for_all(self) -> None:
        """Until all texts are whole. Raises RequestError 408 where the client has gone, and what
        went wrong.
        """
        brief = [ticket for ticket in self.tickets if ticket.is_brief]
        if brief:  # that is work, and no waiting
            self.engine.write(brief, self._turns)
        if not all(ticket.over for ticket in self.tickets):
            self._check_there()  # what it had sent before it went may be many requests
        pause = FIRST_LOOK_SECONDS
        for ticket in self.tickets:
            while not ticket.over and not self.wait(ticket, pause):
                self._check_there()
                pause = min(2 * pause, LOOK_SECONDS)
        for ticket in self.tickets:
            if ticket.error:
                raise ticket.error

    def _check_there(self) -> None:
        if not self.is_there():
            raise RequestError(408, "the client closed the connection before its answer")

    def end(self, metrics: Metrics) -> None:
        """It is over, whole or not: let go, count, and tell the access log."""
        for ticket in self.tickets:
            with suppress(Exception):  # whose texts went wrong is told by who waits for them
                self.engine.leave(ticket)
        characters = sum(ticket.characters for ticket in self.tickets)
        metrics.characters(characters)
        firsts = [ticket.first_at for ticket in self.tickets if ticket.first_at is not None]
        if firsts:
            metrics.first_character(min(firsts) - self.began)
        generator = self.tickets[0].generator
        self._facts.update(
            model=generator.name,
            version=generator.version,
            count=sum(ticket.request.config.count for ticket in self.tickets),
            characters=characters,
        )


class Desk:
    """Takes requests for texts on, so many at once, and has them written."""

    def __init__(self, models: Models, settings: ServiceSettings, metrics: Metrics) -> None:
        self.models, self.settings, self.metrics = models, settings, metrics
        self._engine = Engine(metrics)
        most = most_at_once(settings.max_requests, settings.threads)
        self._admission = Admission(most, metrics)

    def has_threads(self, count: int) -> None:
        """The server has so many, whatever the settings say."""
        self._admission.most = most_at_once(self.settings.max_requests, count)

    def answer(
        self,
        tickets_of: Callable[[bytes, float], Sequence[Ticket]],
        whole: Callable[[Job], Response],
        pieces: Callable[[Job], Response],
    ) -> Response:
        """The answer to the request at hand.

        Args:
            tickets_of: from its body, and the deadline of its texts; at least one.
            whole: the answer, once all texts are there.
            pieces: the answer of a stream, which has just begun.
        """
        began = time.monotonic()
        self._admission.enter()
        streaming = None
        try:
            body = read_body(request, self.settings.max_body)
            tickets = tickets_of(body, began + self.settings.time_limit)
            job = Job(self._engine, tickets, began)
            for ticket in tickets:
                self._engine.join(ticket)
            if not tickets[0].streamed:
                try:
                    job.wait_for_all()
                finally:
                    job.end(self.metrics)
                return whole(job)
            streaming = pieces(job)
            streaming.call_on_close(self._admission.leave)  # first: it can't fail
            streaming.call_on_close(lambda: job.end(self.metrics))
            return streaming
        finally:
            if streaming is None:
                self._admission.leave()


def connection_check(incoming: Request) -> Callable[[], bool]:
    """Whether the client still holds its end of the connection, as far as the server tells."""
    connection: Any = incoming.environ.get("gunicorn.socket")

    def is_there() -> bool:
        if connection is None:
            return True
        try:
            look = select.poll()
            look.register(connection, select.POLLIN | CLOSED)
            # It says nothing, as it should; or it has closed, or sent its next request already.
            for _, seen in look.poll(0):
                return not seen & CLOSED and bool(connection.recv(1, socket.MSG_PEEK))
            return True
        except ValueError:  # a connection under TLS can't be looked at
            return True
        except OSError:
            return False

    return is_there


def read_body(incoming: Request, limit: int) -> bytes:
    """The whole body, whatever its Content-Type and however it is sent.

    At most limit + 1 bytes are read: a limit left to Flask cuts chunked bodies off silently.
    Raises RequestError: 413 above the limit, 400 where the body stops early or isn't HTTP.
    """
    declared = incoming.content_length
    if declared is not None and declared > limit:
        raise _too_large(limit)
    body = b""
    try:
        stream = incoming.stream
        while len(body) <= limit and (piece := stream.read(limit + 1 - len(body))):
            body += piece
            if len(body) == declared:
                break
    except Exception:  # each server has its own for a broken chunk or a connection that is gone
        raise RequestError(400, "the body can't be read to its end") from None
    if len(body) > limit:
        raise _too_large(limit)
    if declared is not None and len(body) < declared:
        raise RequestError(400, f"the body stops after {len(body)} of {declared} bytes")
    return body


def _too_large(limit: int) -> RequestError:
    return RequestError(413, f"the body must have at most {limit} bytes")
