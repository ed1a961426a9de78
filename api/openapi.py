"""The OpenAPI 3.1 document of the service, at /openapi.json.

Built once, at the start, for the routes that are there: from what checks a request (`schemas`), the
shapes of the answers (`shapes`) and what each route promises (`contract`).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify
from werkzeug.http import HTTP_STATUS_CODES

import charrnn
from api import openai_shapes
from api.contract import ABOUT, EVERYWHERE, ROUTES, TAGS, WITH_KEYS
from api.examples import FULL_PROBLEMS, request_examples, within
from api.openai_errors import is_openai, of_problem
from api.promises import EVENTS, JSON, Body, Route
from api.schemas import other_request_schema, request_model, request_models, request_schema
from api.settings import ServiceSettings
from api.shapes import PROBLEM, Schema, headers, ref, schemas
from charrnn.settings import Settings

REQUEST = "GenerateRequest"
OPENAI_RESPONSES = "openai-"  # begins the names of those that have its shape
HEADERS_OF = {401: "WWW-Authenticate", 405: "Allow", 503: "Retry-After"}
REQUEST_ID: Schema = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "an id for this request, to find it again in the service's log",
    "schema": {"type": "string"},
}
SECURITY: Schema = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def blueprint() -> Blueprint:
    """The route /openapi.json."""
    routes = Blueprint("openapi", __name__)

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(current_document())

    return routes


def current_document() -> Schema:
    """The document of the application that is answering."""
    document: Schema = current_app.extensions["charrnn.openapi"]
    return document


def document(app: Flask, settings: ServiceSettings, model: str) -> Schema:
    """The document of an application with these settings, whose default model is this.

    A route that `contract` doesn't know is a bug of ours.
    """
    request = _request(settings)
    own, openais = request_models(settings), openai_shapes.request_models(settings)
    models: Mapping[str, type[Settings]] = {**own, **openais}
    others = {name: other_request_schema(each) for name, each in own.items()}
    others |= openai_shapes.request_schemas(settings)
    paths: dict[str, Schema] = {}
    for method, path in routes_of(app):
        assert (method, path) in ROUTES, f"give {method} {path} its place in api.contract.ROUTES"
        route = ROUTES[method, path]
        closed = settings.asks_for_keys and not settings.opens(path)
        operation = _operation(
            route, closed=closed, streams="stream" in request["properties"], path=path
        )
        if route.takes_texts:
            examples = request_examples(settings, model, request["properties"])
            operation["requestBody"] = _request_body(settings, examples, REQUEST, False)
        elif route.takes:
            required = "required" in others[route.takes]
            examples = within(route.requests, models[route.takes])
            operation["requestBody"] = _request_body(settings, examples, route.takes, required)
        if settings.asks_for_keys and not closed:
            operation["security"] = []
        paths.setdefault(path, {})[method.lower()] = operation
    parts = _components(paths, {**schemas(), **openai_shapes.schemas(), **others, REQUEST: request})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "charrnn",
            "version": charrnn.__version__,
            "summary": "Names and texts, written by a small recurrent network.",
            "description": ABOUT + (f"\n\n{WITH_KEYS}" if settings.asks_for_keys else ""),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "this service"}],
        **({"security": [{name: []} for name in SECURITY]} if settings.asks_for_keys else {}),
        "tags": [{"name": name, "description": meaning} for name, meaning in TAGS.items()],
        "paths": paths,
        "components": parts | ({"securitySchemes": SECURITY} if settings.asks_for_keys else {}),
    }


def routes_of(app: Flask) -> list[tuple[str, str]]:
    """(method, path as OpenAPI has it) of every route, in the order of the contract."""
    found = {
        (method, re.sub(r"<(?:[^:>]+:)?([^>]+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    order = {key: number for number, key in enumerate(ROUTES)}
    return sorted(found, key=lambda key: (order.get(key, len(order)), key))


def _request(settings: ServiceSettings) -> Schema:
    """The schema of a request: the one that it is checked by."""
    schema = request_schema(request_model(settings))
    for field in schema["properties"].values():
        field.pop("title", None)  # the name again
    fields = schema["properties"]
    return {
        **schema,
        "description": "Every field may be left out, and null is as if it were.",
        "properties": {"seed": fields["seed"], **fields},
    }


def _request_body(
    settings: ServiceSettings, examples: Mapping[str, Any], name: str, required: bool
) -> Schema:
    return {
        "description": f"A JSON object of at most {settings.max_body} bytes.",
        "required": required,
        "content": {JSON: {"schema": ref(name), "examples": _examples(examples)}},
    }


def _operation(route: Route, *, closed: bool, streams: bool, path: str) -> Schema:
    bodies = {kind: body for kind, body in route.bodies.items() if streams or kind != EVENTS}
    everywhere = [status for status in EVERYWHERE if closed or status != 401]
    kept = OPENAI_RESPONSES if is_openai(path) else ""
    responses = {status: ref(f"{kept}{status}", "responses") for status in everywhere}
    refused = _openai_refusal if is_openai(path) else _refusal
    responses |= {status: refused(status, when) for status, when in route.refusals.items()}
    named = ["X-Request-ID", *(["ETag"] if route.is_cached else [])]
    if route.is_cached:
        responses[304] = {
            "description": "It is as If-None-Match has it.",
            "headers": {name: ref(name, "headers") for name in named},
        }
    described = {"description": route.description} if route.description else {}
    return {
        "operationId": route.id,
        "tags": [route.tag],
        "summary": route.summary,
        **described,
        "parameters": [*route.parameters, ref("X-Request-ID", "parameters")],
        "responses": {
            "200": {
                "description": route.success,
                "headers": {name: ref(name, "headers") for name in named},
                "content": {kind: _content(body) for kind, body in bodies.items()},
            },
            **{str(status): responses[status] for status in sorted(responses)},
        },
    }


def _content(body: Body) -> Schema:
    content: Schema = {"schema": body.schema}
    if body.examples:
        content["examples"] = _examples(body.examples)
    if body.events:
        content["x-events"] = body.events
    return content


def _refusal(status: int, when: str) -> Schema:
    problem = {
        "type": "about:blank",
        "title": HTTP_STATUS_CODES[status],
        "status": status,
        **FULL_PROBLEMS[status],
    }
    named = ["X-Request-ID", *([HEADERS_OF[status]] if status in HEADERS_OF else [])]
    return {
        "description": when,
        "headers": {name: ref(name, "headers") for name in named},
        "content": {PROBLEM: {"schema": ref("Problem"), "examples": _examples({"one": problem})}},
    }


def _openai_refusal(status: int, when: str) -> Schema:
    """The same as these clients read it."""
    problem = FULL_PROBLEMS[422 if status == 400 else status]
    content = _refusal(status, when)
    value = of_problem(status, str(problem["detail"]), problem)
    return {
        **content,
        "content": {JSON: {"schema": ref("Error"), "examples": _examples({"one": value})}},
    }


def _examples(by_words: Mapping[str, Any]) -> Schema:
    return {
        re.sub(r"\W+", "-", words): {"summary": words, "value": value}
        for words, value in by_words.items()
    }


def _components(paths: Schema, bodies: Schema) -> Schema:
    """What the paths refer to, and what that refers to."""
    refusals = {str(status): _refusal(status, when) for status, when in EVERYWHERE.items()}
    for status, when in EVERYWHERE.items():
        refusals[f"{OPENAI_RESPONSES}{status}"] = _openai_refusal(status, when)
    every = {
        "schemas": bodies,
        "responses": refusals,
        "parameters": {"X-Request-ID": REQUEST_ID},
        "headers": headers(),
    }
    wanted, used = list(_referred(paths)), set()
    while wanted:
        kind, name = wanted.pop()
        if (kind, name) not in used:
            used.add((kind, name))
            wanted += _referred(every[kind][name])
    return {
        kind: {name: each for name, each in parts.items() if (kind, name) in used}
        for kind, parts in every.items()
    }


def _referred(part: Any) -> Iterator[tuple[str, str]]:
    """(kind, name) of every component that is referred to in a part of the document."""
    if isinstance(part, dict):
        if isinstance(target := part.get("$ref"), str):
            _, _, kind, name = target.split("/")
            yield kind, name
        for inner in part.values():
            yield from _referred(inner)
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from _referred(inner)
