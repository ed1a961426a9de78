"""The reference page at /docs: the OpenAPI document, to read. Plain HTML, all of it from here."""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, make_response, render_template, request
from markupsafe import Markup, escape

from api.openapi import current_document
from api.shapes import Schema
from charrnn.look import LOOK

STYLE = LOOK + (Path(__file__).parent / "templates" / "reference.css").read_text("utf-8")
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "object",
    "null": "null",
}


def blueprint() -> Blueprint:
    """The route /docs."""
    routes = Blueprint("pages", __name__)
    routes.add_app_template_filter(prose)
    routes.add_app_template_filter(in_words)
    routes.add_app_template_filter(pretty)

    @routes.get("/docs")
    def docs() -> Response:
        document = current_document()
        page = render_template(
            "reference.html",
            document=document,
            sections=list(_sections(document)),
            address=request.url_root.rstrip("/"),
            curl=curl,
            style=Markup(STYLE),
        )
        response = make_response(page)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return routes


def _sections(document: Schema) -> Iterator[tuple[Schema, list[tuple[str, str, Schema]]]]:
    """Every tag that has operations, with them: (method, path, operation)."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    for tag in document["tags"]:
        if tagged := [each for each in operations if tag["name"] in each[2]["tags"]]:
            yield tag, tagged


def curl(address: str, method: str, path: str, operation: Schema, body: Any = None) -> str:
    """A command to copy that sends a request."""
    for parameter in operation["parameters"]:
        if parameter.get("in") == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    words = ["curl"]
    if operation.get("security") != [] and "401" in operation["responses"]:
        words.append("-H 'Authorization: Bearer KEY'")
    if method == "POST":
        words.append(f"-d {shlex.quote(json.dumps(body or {}, ensure_ascii=False))}")
        if isinstance(body, dict) and body.get("stream"):
            words.insert(1, "-N")
    return " ".join([*words, shlex.quote(address + path)])


def pretty(value: Any) -> str:
    """An example as it is shown."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def prose(text: str) -> Markup:
    """Paragraphs of a description, what stands in backticks as code."""
    paragraphs = [
        re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(part))) for part in text.split("\n\n")
    ]
    return Markup("".join(f"<p>{part}</p>" for part in paragraphs))  # escaped above


def in_words(schema: Schema) -> Markup:
    """What a value may be: "whole number from 1 to 100 or null"."""
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return Markup('<a href="#{0}">{0}</a>').format(name)
    if "anyOf" in schema:
        some = [each for each in schema["anyOf"] if each != {"type": "null"}]  # said of them all
        return Markup(" or ").join(map(in_words, some))
    kinds = schema.get("type", "anything")
    if isinstance(kinds, list):
        return Markup(" or ").join(in_words({**schema, "type": kind}) for kind in kinds)
    if kinds == "array":
        most = f" of at most {schema['maxItems']}:" if "maxItems" in schema else " of"
        return Markup("list{} {}").format(most, in_words(schema["items"]))
    if "enum" in schema and kinds == "string":
        return Markup(", ").join(Markup("<code>{}</code>").format(each) for each in schema["enum"])
    kind = str(kinds)
    words = [TYPES.get(kind, kind), *_bounds(schema, kind)]
    return escape(" ".join(words))


def _bounds(schema: Schema, kind: str) -> Iterator[str]:
    if kind in ("integer", "number"):
        if "exclusiveMinimum" in schema:
            yield f"above {schema['exclusiveMinimum']:,}"
        if "minimum" in schema:
            yield f"from {schema['minimum']:,}"
        if "maximum" in schema:
            yield f"to {schema['maximum']:,}"
    if kind == "string":
        low, high = schema.get("minLength"), schema.get("maxLength")
        if low is not None and high is not None:
            yield f"of {low:,} to {high:,} characters"
        elif high is not None:
            yield f"of at most {high:,} characters"
