"""POST /generate: texts from a seed."""

from flask import Blueprint, Request, Response, jsonify, request

import charrnn
from api.errors import RequestError
from api.models import Models
from api.observing import note
from api.schemas import parse_body, request_model
from api.settings import ServiceSettings
from charrnn.config import GenerationConfig
from charrnn.errors import ConfigError, FieldProblem, shown


def blueprint(models: Models, settings: ServiceSettings) -> Blueprint:
    """The route /generate, over these models."""
    routes = Blueprint("generate", __name__)
    schema = request_model(settings)

    @routes.post("/generate")
    def generate() -> Response:
        asked = schema.checked(parse_body(read_body(request, settings.max_body)))
        generator = models.get(asked.model, asked.version)
        config = within_limits(asked.generation(), asked.seed_text, generator, settings)
        samples = generator.generate(asked.seed_text, config=config)
        note(
            model=generator.name,
            version=generator.version,
            count=config.count,
            characters=sum(len(sample.text) for sample in samples),
        )
        return jsonify(_answer(generator, samples))

    return routes


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
        own = min(generator.default_max_length, settings.max_length)
        longest, note = max(own, config.min_length, len(seed)), " (no max_length was given)"
        if own < generator.default_max_length:
            config = config.changed(max_length=settings.max_length)
    if config.count * longest > settings.max_characters:
        rule = f"times max_length must be at most {settings.max_characters} characters"
        raise ConfigError([FieldProblem("count", rule, f"{config.count} times {longest}{note}")])
    return config


def _answer(generator: charrnn.Generator, samples: charrnn.Samples) -> dict[str, object]:
    return {
        "model": generator.name,
        "version": generator.version,
        "seed": samples.seed,
        "random_seed": samples.random_seed,
        "samples": [
            {
                "text": sample.text,
                "logprob": sample.logprob,
                "finish_reason": sample.finish_reason,
                "novel": sample.novel,
            }
            for sample in samples
        ],
        "requested": samples.requested,
        "shortfall": samples.shortfall,
    }
