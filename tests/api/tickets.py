"""Requests for an engine, and what they get of it."""

import time

from api.batch import Ticket
from charrnn import GenerationConfig

SOON = 60.0  # seconds; a loaded machine is slow


def ticket_of(generator, *, seconds=SOON, streamed=False, seed="", **settings):
    request = generator.request(seed, GenerationConfig(**settings))
    deadline = time.monotonic() + seconds
    return Ticket(generator, request, deadline=deadline, streamed=streamed)


def texts_of(ticket):
    return [sample for _, sample in sorted(ticket.samples.items())]


def begun(engine, ticket):
    """As a request's thread has it begin; a brief one may be over then."""
    engine.join(ticket)
    if ticket.is_brief:
        engine.write([ticket])


def served(engine, ticket):
    begun(engine, ticket)
    assert engine.wait(ticket, SOON)
    assert ticket.over
    return texts_of(ticket)
