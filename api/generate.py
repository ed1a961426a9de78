"""POST /generate: texts from a seed."""

import select
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Blueprint, Request, Response, current_app, jsonify, request

import charrnn
from api.admission import Admission
from api.engine import Engine, Ticket
from api.errors import OUR_FAULT, RequestError
from api.metrics import Metrics
from api.models import Models
from api.observing import noted
from api.schemas import GenerateRequest, parse_body, request_model
from api.settings import ServiceSettings
from api.streaming import LOOK_SECONDS, event_stream
from charrnn.config import GenerationConfig
from charrnn.errors import ConfigError, FieldProblem, shown

CLOSED = getattr(select, "POLLRDHUP", 0)  # with bytes unread, too; Linux only
SPARE_THREADS = 2  # answer that there are enough requests, and how the service is


def blueprint(models: Models, settings: ServiceSettings, metrics: Metrics) -> Blueprint:
    """The route /generate, over these models."""
    routes = Blueprint("generate", __name__)
    schema, engine = request_model(settings), Engine(metrics)
    most = settings.max_requests or max(1, settings.threads - SPARE_THREADS)
    admission = Admission(most, metrics)

    @routes.post("/generate")
    def generate() -> Response:
        began = time.monotonic()
        admission.enter()
        streaming = None
        try:
            asked = schema.checked(parse_body(read_body(request, settings.max_body)))
            ticket = _ticket(asked, models, settings, began + settings.time_limit)
            end = partial(_end, engine, ticket, began, metrics, noted())
            engine.join(ticket)
            if not asked.stream:
                return _answer_whole(engine, ticket, is_there(request), settings, end)
            streaming = _answer_in_pieces(engine, ticket, is_there(request), settings)
            streaming.call_on_close(admission.leave)  # first: it can't fail
            streaming.call_on_close(end)
            return streaming
        finally:
            if streaming is None:
                admission.leave()

    return routes


def _end(
    engine: Engine, ticket: Ticket, began: float, metrics: Metrics, facts: dict[str, Any]
) -> None:
    """A request is over, whole or not: let go, count, and tell the access log."""
    engine.leave(ticket)
    metrics.characters(ticket.characters)
    if ticket.first_at is not None:
        metrics.first_character(ticket.first_at - began)
    facts.update(
        model=ticket.generator.name,
        version=ticket.generator.version,
        count=ticket.request.config.count,
        characters=ticket.characters,
    )


def _ticket(
    asked: GenerateRequest, models: Models, settings: ServiceSettings, deadline: float
) -> Ticket:
    """What is asked for, checked; the version is the one that is live now."""
    generator = models.get(asked.model, asked.version)
    config = within_limits(asked.generation(), asked.seed_text, generator, settings)
    checked = generator.request(asked.seed_text, config)
    return Ticket(generator, checked, deadline=deadline, streamed=asked.stream)


def _answer_whole(
    engine: Engine,
    ticket: Ticket,
    is_there: Callable[[], bool],
    settings: ServiceSettings,
    end: Callable[[], None],
) -> Response:
    """All texts, once the last one is whole; none for a client that has gone."""
    try:
        while not engine.wait(ticket, LOOK_SECONDS):
            if not is_there():
                raise RequestError(408, "the client closed the connection before its answer")
    finally:
        end()
    if ticket.error:
        raise ticket.error
    summary = _summary(ticket, settings)
    summary["samples"] = [
        {
            "text": sample.text,
            "logprob": sample.logprob,
            "finish_reason": sample.finish_reason,
            "novel": sample.novel,
        }
        for _, sample in sorted(ticket.samples.items())
    ]
    return jsonify(summary)


def _answer_in_pieces(
    engine: Engine,
    ticket: Ticket,
    is_there: Callable[[], bool],
    settings: ServiceSettings,
) -> Response:
    """All texts as they grow."""

    def summary() -> dict[str, Any]:
        members = _summary(ticket, settings)
        members["samples"] = [
            {
                "index": index,
                "logprob": sample.logprob,
                "finish_reason": sample.finish_reason,
                "novel": sample.novel,
            }
            for index, sample in sorted(ticket.samples.items())
        ]
        return members

    def problem(error: Exception) -> dict[str, Any]:
        return RequestError(500, OUR_FAULT).body

    return event_stream(
        current_app.json.dumps, engine, ticket, is_there=is_there, summary=summary, problem=problem
    )


def _summary(ticket: Ticket, settings: ServiceSettings) -> dict[str, Any]:
    """What an answer says of its texts, all but the texts."""
    made = [sample for _, sample in sorted(ticket.samples.items())]
    samples = ticket.generator.samples(ticket.request, made, ticket.shortfall)
    missing, shortfall = samples.requested - len(made), samples.shortfall
    if missing and not shortfall:
        shortfall = f"{missing} texts were missing after {settings.time_limit} s, the time limit"
    return {
        "model": ticket.generator.name,
        "version": ticket.generator.version,
        "seed": samples.seed,
        "random_seed": samples.random_seed,
        "samples": [],
        "requested": samples.requested,
        "characters": sum(len(sample.text) - len(samples.seed) for sample in made),
        "shortfall": shortfall,
    }


def is_there(incoming: Request) -> Callable[[], bool]:
    """Whether the client still holds its end of the connection, as far as the server tells."""
    connection = incoming.environ.get("gunicorn.socket")

    def look_now() -> bool:
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

    return look_now


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
        while len(body) <= limit and (piece := incoming.stream.read(limit + 1 - len(body))):
            body += piece
    except Exception:  # each server has its own for a broken chunk or a connection that is gone
        raise RequestError(400, "the body can't be read to its end") from None
    if len(body) > limit:
        raise _too_large(limit)
    if declared is not None and len(body) < declared:
        raise RequestError(400, f"the body stops after {len(body)} of {declared} bytes")
    return body


def _too_large(limit: int) -> RequestError:
    return RequestError(413, f"the body must have at most {limit} bytes")


def within_limits(
    config: GenerationConfig, seed: str, generator: charrnn.Generator, settings: ServiceSettings
) -> GenerationConfig:
    """The settings, a max_length that was left out lowered to the service's limit.

    Raises ConfigError where the seed, or all texts together, are longer than the service allows.
    """
    if len(seed) > settings.max_length:
        rule = f"must have at most {settings.max_length} characters"
        raise ConfigError([FieldProblem("seed", rule, shown(seed))])
    longest, note = config.max_length, ""
    if longest is None:
        most = min(settings.max_length, settings.max_characters)
        own = min(generator.default_max_length, most)
        longest, note = (
            max(own, config.min_length, generator.length(seed)),
            " (no max_length was given)",
        )
        if own < generator.default_max_length or len(seed) == settings.max_length:
            config = config.changed(max_length=most)
    if config.count * longest > settings.max_characters:
        rule = f"times max_length must be at most {settings.max_characters} characters"
        raise ConfigError([FieldProblem("count", rule, f"{config.count} times {longest}{note}")])
    return config
