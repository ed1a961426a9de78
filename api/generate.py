"""POST /generate: texts from a seed."""

from typing import Any

from flask import Blueprint, Response, current_app, jsonify

import charrnn
from api.batch import Ticket
from api.desk import Desk, Job
from api.errors import OUR_FAULT, RequestError
from api.models import Models
from api.schemas import GenerateRequest, parse_body, request_model
from api.settings import ServiceSettings
from api.streaming import event_stream
from charrnn.config import GenerationConfig
from charrnn.errors import ConfigError, FieldProblem, shown


def blueprint(desk: Desk) -> Blueprint:
    """The route /generate."""
    routes = Blueprint("generate", __name__)
    models, settings = desk.models, desk.settings
    schema = request_model(settings)

    def tickets(body: bytes, deadline: float) -> list[Ticket]:
        return [_ticket(schema.checked(parse_body(body)), models, settings, deadline)]

    @routes.post("/generate")
    def generate() -> Response:
        return desk.answer(
            tickets,
            lambda job: _answer_whole(job.tickets[0], settings),
            lambda job: _answer_in_pieces(job, settings),
        )

    return routes


def _ticket(
    asked: GenerateRequest, models: Models, settings: ServiceSettings, deadline: float
) -> Ticket:
    """What is asked for, checked; the version is the one that is live now."""
    generator = models.get(asked.model, asked.version)
    config = within_limits(asked.generation(), asked.seed_text, generator, settings)
    checked = generator.request(asked.seed_text, config)
    return Ticket(generator, checked, deadline=deadline, streamed=asked.stream)


def _answer_whole(ticket: Ticket, settings: ServiceSettings) -> Response:
    """All texts, which are whole."""
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


def _answer_in_pieces(job: Job, settings: ServiceSettings) -> Response:
    """All texts as they grow."""
    (ticket,) = job.tickets

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
        current_app.json.dumps,
        job,
        summary=summary,
        problem=problem,
    )


def _summary(ticket: Ticket, settings: ServiceSettings) -> dict[str, Any]:
    """What an answer says of its texts, all but the texts."""
    made = [sample for _, sample in sorted(ticket.samples.items())]
    samples = ticket.generator.samples(ticket.request, made)
    return {
        "model": ticket.generator.name,
        "version": ticket.generator.version,
        "seed": samples.seed,
        "random_seed": samples.random_seed,
        "samples": [],
        "requested": samples.requested,
        "characters": sum(len(sample.text) - len(samples.seed) for sample in made),
        "shortfall": shortfall_of(ticket, settings),
    }


def shortfall_of(ticket: Ticket, settings: ServiceSettings) -> str | None:
    """Why there are fewer texts than were asked for, once all is over; None where there are not."""
    missing = ticket.request.config.count - len(ticket.samples)
    if ticket.shortfall or not missing:
        return ticket.shortfall
    return f"{missing} texts were missing after {settings.time_limit} s, the time limit"


def within_limits(
    config: GenerationConfig,
    seed: str,
    generator: charrnn.Generator,
    settings: ServiceSettings,
    field: str = "seed",
) -> GenerationConfig:
    """The settings, a max_length that was left out lowered to the service's limit. `field`: what
    the client calls the seed.

    Raises ConfigError where the seed, or all texts together, are longer than the service allows.
    """
    if len(seed) > settings.max_length:
        rule = f"must have at most {settings.max_length} characters"
        raise ConfigError([FieldProblem(field, rule, shown(seed))])
    longest, note = config.max_length, ""
    if longest is None:
        note = " (no max_length was given)"
        most, own = min(settings.max_length, settings.max_characters), generator.default_max_length
        if most < own or len(seed) == settings.max_length:
            config, longest = config.changed(max_length=most), most
        else:
            length = generator.length(seed)
            longest = max(own, config.min_length, length + (length > 0))
    if config.count * longest > settings.max_characters:
        rule = f"times max_length must be at most {settings.max_characters} characters"
        raise ConfigError([FieldProblem("count", rule, f"{config.count} times {longest}{note}")])
    return config
