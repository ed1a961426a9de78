"""The page at /: one template, a style and a few modules of JavaScript, all of it from here.

Browsers get the page; whoever asks for no HTML gets the list of routes, as JSON. The files are
read once, at the start: a request is answered from memory.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, render_template, request
from werkzeug.exceptions import NotFound

import charrnn
from api.examples import LONG
from api.settings import ServiceSettings
from charrnn.look import LOOK

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript"}
NAMES = 12  # as many as a draw has where nobody says otherwise
REVALIDATED = "no-cache"  # kept, and asked for again with its ETag: a new version shows at once
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class File:
    """A file of the page."""

    content: bytes
    type: str
    etag: str


def _read(path: Path) -> File:
    content = path.read_bytes()
    if path.name == "page.css":
        content = LOOK.encode() + content
    etag = base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:12]).decode()
    return File(content, TYPES[path.suffix], etag)


FILES: Mapping[str, File] = {
    path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES
}


def _limits(settings: ServiceSettings) -> dict[str, int]:
    """What the page lets one ask for: texts, characters of one and of all, and texts at first."""
    most, characters = settings.max_count, settings.max_characters
    return {
        "count": most,
        "length": min(settings.max_length, characters),
        "characters": characters,
        "names": max(1, min(NAMES, most, characters // LONG)),
    }


def blueprint(index: Callable[[], dict[str, Any]], settings: ServiceSettings) -> Blueprint:
    """The routes / and /static/…; `index` makes the list of routes."""
    routes, limits = Blueprint("page", __name__), _limits(settings)

    @routes.get("/")
    def root() -> Response:
        kinds = ["application/json", "text/html"]  # the first one where any will do, as for curl
        if request.accept_mimetypes.best_match(kinds) == "text/html":
            listed = index()
            page = render_template(
                "page.html",
                version=charrnn.__version__,
                example=listed["example"],
                limits=limits,
            )
            response = make_response(page)
            response.headers["Content-Security-Policy"] = POLICY
        else:
            response = jsonify(index())
        response.vary.add("Accept")
        return response

    @routes.get("/static/<name>")
    def static_file(name: str) -> Response:
        file = FILES.get(name)
        if file is None:
            raise NotFound
        response = Response(file.content, content_type=f"{file.type}; charset=utf-8")
        response.set_etag(file.etag)
        response.headers["Cache-Control"] = REVALIDATED
        response.make_conditional(request)
        return response

    return routes
