"""What is served and whether it is well: the routes that list, describe and check."""

import json
import shlex

from flask import Blueprint, Response, jsonify, request

import charrnn
from api.models import PREFERRED, Models


def blueprint(models: Models) -> Blueprint:
    """The routes /, /healthz, /models and /models/<name>."""
    routes = Blueprint("operations", __name__)

    @routes.get("/")
    def index() -> Response:
        return jsonify(
            {
                "name": "charrnn",
                "version": charrnn.__version__,
                "endpoints": ENDPOINTS,
                "example": example(request.host_url, models.default),
            }
        )

    @routes.get("/healthz")
    def healthz() -> Response:
        versions = {name: each.version for name, each in models.live().items()}
        return jsonify({"status": "ok", "version": charrnn.__version__, "models": versions})

    @routes.get("/models")
    def list_models() -> Response:
        cards = [each.card() for each in models.live().values()]
        return jsonify({"models": cards, "default": models.default})

    @routes.get("/models/<name>")
    def describe_model(name: str) -> Response:
        return jsonify(models.get(name).card())

    return routes


ENDPOINTS = {
    "POST /generate": "texts from a seed",
    "GET /models": "the models that are served",
    "GET /models/{name}": "one of them",
    "GET /healthz": "whether the service is well",
    "GET /docs": "all of it on a page, with examples",
    "GET /openapi.json": "the same for programs",
}


def example(address: str, model: str) -> str:
    """A command to copy."""
    body = {"seed": "Tyr", "count": 5} if model == PREFERRED else {"count": 5}
    return f"curl -d '{json.dumps(body)}' {shlex.quote(address.rstrip('/') + '/generate')}"
