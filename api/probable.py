"""POST /beam and POST /score: the most probable names, and how probable given texts are.

Nothing is drawn for either, so neither goes through the engine: a request's own thread works it
out.
"""

import time
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify, request

from api.admission import Admission
from api.desk import connection_check, read_body
from api.metrics import Metrics
from api.models import Models
from api.observing import noted
from api.schemas import BeamRequest, ScoreRequest, parse_body, request_models
from api.settings import ServiceSettings
from charrnn.errors import ConfigError, FieldProblem, UnknownCharacterError, shown

AT_ONCE = 4  # requests of a process: a search holds up to a hundred megabytes


def blueprint(models: Models, settings: ServiceSettings, metrics: Metrics) -> Blueprint:
    """The routes /beam and /score, over these models."""
    routes = Blueprint("probable", __name__)
    schemas = request_models(settings)
    admission = Admission(min(AT_ONCE, settings.max_requests or AT_ONCE), metrics)

    def answered(work: Callable[[Any], dict[str, Any]], name: str) -> Response:
        admission.enter()
        try:
            body = parse_body(read_body(request, settings.max_body))
            return jsonify(work(schemas[name].checked(body)))
        finally:
            admission.leave()

    @routes.post("/beam")
    def beam() -> Response:
        until, there = time.monotonic() + settings.time_limit, connection_check(request)

        def goes_on() -> bool:
            return time.monotonic() < until and there()

        return answered(lambda asked: _beam(asked, models, settings, goes_on), "BeamRequest")

    @routes.post("/score")
    def score() -> Response:
        return answered(lambda asked: _score(asked, models, settings), "ScoreRequest")

    return routes


def _beam(
    asked: BeamRequest, models: Models, settings: ServiceSettings, goes_on: Callable[[], bool]
) -> dict[str, Any]:
    generator, config = models.get(asked.model, asked.version), asked.search()
    if config.max_length is None and settings.max_length < generator.default_max_length:
        config = config.changed(max_length=settings.max_length)
    found = generator.beam(asked.seed, config=config, goes_on=goes_on)
    noted().update(model=generator.name, version=generator.version, count=found.requested)
    return {
        "model": generator.name,
        "version": generator.version,
        "seed": found.seed,
        "samples": [
            {"text": sample.text, "logprob": sample.logprob, "novel": sample.novel}
            for sample in found
        ],
        "requested": found.requested,
        "shortfall": found.shortfall,
    }


def _score(asked: ScoreRequest, models: Models, settings: ServiceSettings) -> dict[str, Any]:
    generator = models.get(asked.model, asked.version)
    texts = list(asked.texts)
    if sum(map(len, texts)) > settings.max_characters:
        rule = f"must have at most {settings.max_characters} characters in all"
        raise ConfigError([FieldProblem("texts", rule, str(sum(map(len, texts))))])
    for number, text in enumerate(texts):
        try:
            generator.vocabulary.read(text)
        except UnknownCharacterError as error:
            rule = f"must have only characters that the model knows, {shown(error.known)}"
            raise ConfigError([FieldProblem(f"texts.{number}", rule, shown(text))]) from None
    scores = generator.score_many(texts, expected=asked.expected)
    noted().update(model=generator.name, version=generator.version, count=len(texts))
    return {
        "model": generator.name,
        "version": generator.version,
        "scores": [score.to_json() for score in scores],
    }
