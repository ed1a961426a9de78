"""What is served and whether it is well: the routes that list, describe and check."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify, request

import charrnn
from api.errors import RequestError
from api.metrics import CONTENT_TYPE, Metrics
from api.models import PREFERRED, Models

SOON = {"Retry-After": "1"}


@dataclass
class Health:
    """What only the server around the application knows."""

    is_draining: Callable[[], bool] = lambda: False


def blueprint(models: Models, metrics: Metrics, health: Health) -> Blueprint:
    """The routes /models, and those that operators and their machines ask."""
    routes = Blueprint("operations", __name__)

    def versions() -> dict[str, str]:
        return {name: each.version for name, each in models.live().items()}

    @routes.get("/livez")
    def livez() -> Response:
        return jsonify({"status": "ok"})

    @routes.get("/readyz")
    def readyz() -> Response:
        if health.is_draining():
            raise RequestError(
                503, "this worker is stopping; another one takes its place", headers=SOON
            )
        if not models.live():
            raise RequestError(503, "no model is loaded; the log tells why", headers=SOON)
        return jsonify({"status": "ok"})

    @routes.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok", "version": charrnn.__version__, "models": versions()})

    @routes.get("/metrics")
    def show_metrics() -> Response:
        return Response(metrics.text(versions()), content_type=CONTENT_TYPE)

    @routes.get("/models")
    def list_models() -> Response:
        cards = [models.card(each) for each in models.live().values()]
        return jsonify({"models": cards, "default": models.default})

    @routes.get("/models/<name>")
    def describe_model(name: str) -> Response:
        return jsonify(models.card(models.get(name)))

    @routes.get("/models/<name>/history")
    def tell_history(name: str) -> Response:
        return jsonify({"model": models.get(name).name, "events": models.history(name)})

    return routes


def index(models: Models, most: int) -> dict[str, Any]:
    """What there is, and a command to copy, for so many texts at most."""
    return {
        "name": "charrnn",
        "version": charrnn.__version__,
        "endpoints": ENDPOINTS,
        "example": example(request.host_url, models.default, most),
    }


ENDPOINTS = {
    "POST /generate": "texts from a seed",
    "POST /beam": "the most probable names",
    "POST /score": "how probable texts are",
    "POST /inspect": "what goes on inside the network as it reads",
    "GET /models": "the models that are served",
    "GET /models/{name}": "one of them",
    "GET /models/{name}/history": "what was live when, and what was refused",
    "POST /v1/completions": "texts for clients of OpenAI's interface",
    "POST /v1/chat/completions": "replies in a chat, for the same",
    "GET /v1/models": "the models, for the same",
    "GET /v1/models/{name}": "one of them",
    "GET /livez": "whether the process is up",
    "GET /readyz": "whether it takes requests",
    "GET /healthz": "the version of each model",
    "GET /metrics": "numbers for Prometheus",
    "GET /static/{name}": "the files of the page at /, which browsers get",
    "GET /docs": "all of it on a page, with examples",
    "GET /openapi.json": "the same for programs",
}


def example(address: str, model: str, most: int) -> str:
    """A command to copy, for so many texts at most."""
    count = {"count": min(5, most)}
    body = {"seed": "Tyr", **count} if model == PREFERRED else count
    return f"curl -d '{json.dumps(body)}' {shlex.quote(address.rstrip('/') + '/generate')}"
