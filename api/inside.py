"""POST /inspect: what the network holds as it reads a text, and what it expects next.

Nothing is drawn, so it doesn't go through the engine: a request's own thread works it out, and few
of them at once.
"""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from api.admission import Admission
from api.desk import read_body
from api.metrics import Metrics
from api.models import Models
from api.observing import noted
from api.schemas import InspectRequest, parse_body, request_models
from api.settings import ServiceSettings
from charrnn.errors import ConfigError, FieldProblem, UnknownCharacterError, shown

AT_ONCE = 4  # requests of a process: the first one of a version reads 300 names


def blueprint(models: Models, settings: ServiceSettings, metrics: Metrics) -> Blueprint:
    """The route /inspect, over these models."""
    routes = Blueprint("inside", __name__)
    schema = request_models(settings)["InspectRequest"]
    admission = Admission(min(AT_ONCE, settings.max_requests or AT_ONCE), metrics)

    @routes.post("/inspect")
    def inspect() -> Response:
        admission.enter()
        try:
            body = parse_body(read_body(request, settings.max_body))
            return jsonify(_inspected(schema.checked(body), models))
        finally:
            admission.leave()

    return routes


def _inspected(asked: Any, models: Models) -> dict[str, Any]:
    assert isinstance(asked, InspectRequest)
    generator = models.get(asked.model, asked.version)
    try:
        found = generator.inspect(
            asked.text, layer=asked.layer, units=asked.units or None, expected=asked.expected
        )
    except UnknownCharacterError as error:
        rule = f"must have only characters that the model knows, {shown(error.known)}"
        raise ConfigError([FieldProblem("text", rule, shown(error.character))]) from None
    noted().update(model=generator.name, version=generator.version, count=1)
    return {"model": generator.name, "version": generator.version, **found.to_json()}
