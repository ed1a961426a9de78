"""Texts as server-sent events: one for each piece, a last one with what they amount to.

    data: {"index": 0, "text": "Tyr"}
    data: {"index": 0, "text": "annus"}
    event: done
    data: {"model": "dinosaurs", ..., "samples": [{"index": 0, "finish_reason": "end", ...}]}

In silence a comment says that there is still somebody. What goes wrong after the first piece is an
event `error`, with the problem that an answer would have been.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Response

import charrnn
from api.batch import Ticket
from api.desk import LOOK_SECONDS, Job

HEARTBEAT_SECONDS = 15.0
COMPACT = (",", ":")
PING = ": ping\n\n"
HEADERS = {"X-Accel-Buffering": "no"}  # proxies pass on what comes


def news_of(job: Job, ticket: Ticket) -> Iterator[list[charrnn.Written]]:
    """What is new of a ticket's texts as it comes, until they are over or the client has gone;
    nothing, in a list, where it has been silent for so long that a word is due.
    """
    heard = time.monotonic()
    while job.is_there():
        if job.wait(ticket, LOOK_SECONDS):
            is_over, news = ticket.over, ticket.take()  # in this order
            if news:
                yield news
                heard = time.monotonic()
            if is_over:
                break
        elif time.monotonic() - heard > HEARTBEAT_SECONDS:
            yield []
            heard = time.monotonic()


def event_stream(
    dumps: Callable[..., str],
    job: Job,
    *,
    summary: Callable[[], dict[str, Any]],
    problem: Callable[[Exception], dict[str, Any]],
) -> Response:
    """The answer to a request for one ticket, which has joined the engine.

    Args:
        dumps: makes JSON.
        job: the request.
        summary: what the last event says.
        problem: what is said of an exception.
    """

    (ticket,) = job.tickets

    def event(data: dict[str, Any], name: str | None = None) -> str:
        head = f"event: {name}\n" if name else ""
        return f"{head}data: {dumps(data, separators=COMPACT)}\n\n"

    def events() -> Iterator[str]:
        for news in news_of(job, ticket):
            pieces = []
            for piece in map(ticket.generator.piece, news):
                if piece.text:
                    pieces.append(event({"index": piece.index, "text": piece.text}))
            yield "".join(pieces) or PING
        if ticket.error:
            yield event(problem(ticket.error), "error")
        elif ticket.over:
            yield event(summary(), "done")

    return Response(events(), mimetype="text/event-stream", headers=HEADERS)
