"""Who may ask, which pages may read the answers, and the headers that every answer carries.

Nothing here is privileged: training, promotion and rollback are commands of the operator's shell.
"""

import logging
import re
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import Unauthorized

from api.errors import StartError
from api.keys import KeyRing
from api.settings import OPEN_PATHS, ServiceSettings
from charrnn.errors import shown

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
SENT_BY_PAGES = "Authorization, Content-Type, X-API-Key, X-Request-ID"
ADDED_BY_CLIENTS = re.compile(r"x-stainless-[a-z-]{1,40}|openai-(?:organization|project)")
READ_BY_PAGES = "Retry-After, Server-Timing, WWW-Authenticate, X-Request-ID"
PREFLIGHT_SECONDS = 600

log = logging.getLogger(__name__)


def register(app: Flask, settings: ServiceSettings) -> None:
    """Guard an application whose routes are all there. Raises StartError."""
    app.wsgi_app = _with_headers(app.wsgi_app)  # type: ignore[method-assign]
    if settings.cors_origins:
        _allow_origins(app, set(settings.cors_origins.split(",")))
    if settings.asks_for_keys:
        _ask_for_keys(app, settings)
    elif settings.host not in ("127.0.0.1", "::1", "localhost"):
        log.info("no API key is asked for: whoever reaches %s may use it", settings.host)


def _with_headers(application: Any) -> Any:
    """The application, its every answer with the headers that it hasn't got yet: constants, which
    as a list pass by what Flask and werkzeug do with each header of a response.
    """
    added = [(name.lower(), (name, value)) for name, value in HEADERS.items()]

    def answer(environ: Any, start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            present = {name.lower() for name, _ in headers}
            more = [pair for name, pair in added if name not in present]
            return start_response(status, headers + more, *error)

        return application(environ, start)

    return answer


def _ask_for_keys(app: Flask, settings: ServiceSettings) -> None:
    """Refuse whatever comes without a key, besides the open paths: a route added later is closed,
    and what isn't there is not told from what is.
    """
    ring = KeyRing(settings.api_keys, settings.api_keys_file)
    open_paths = set(settings.open_paths.split(","))
    rules = list(app.url_map.iter_rules())
    routes = {rule.rule for rule in rules if not rule.arguments}
    routes |= {rule.rule.rpartition("<")[0] for rule in rules if rule.rule.endswith("/<name>")}
    for path in sorted(open_paths - routes - set(OPEN_PATHS.split(","))):
        known = ", ".join(sorted(routes))
        raise StartError(
            f"CHARRNN_OPEN_PATHS has {shown(path)}, and no route is there; the routes are {known}"
        )

    def demand_key() -> None:
        if settings.opens(request.environ["PATH_INFO"]):  # request.path takes //docs for /docs
            return
        presented = _presented()
        if not any(map(ring.know, presented)):
            raise _KeyRefused(wrong=bool(presented))

    app.before_request(demand_key)
    log.info("a request needs one of %d API keys, besides %s", len(ring), settings.open_paths)


def _presented() -> list[str]:
    """The keys that a request brings. A repeated header arrives joined, and matches none."""
    presented = []
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        presented.append(token.strip())
    if "X-API-Key" in request.headers:
        presented.append(request.headers["X-API-Key"].strip())
    return presented


class _KeyRefused(Unauthorized):
    """401, with the challenge that RFC 6750 asks for."""

    def __init__(self, *, wrong: bool) -> None:
        detail = "the API key is not a known one" if wrong else "this needs an API key"
        super().__init__(f"{detail}; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        self.challenge = 'Bearer realm="charrnn"' + (', error="invalid_token"' if wrong else "")

    def get_headers(self, *given: Any) -> list[tuple[str, str]]:
        return [*super().get_headers(*given), ("WWW-Authenticate", self.challenge)]


def _clients_own() -> list[str]:
    """The headers that a preflight asks about and that OpenAI's clients add by themselves."""
    asked = request.headers.get("Access-Control-Request-Headers", "").split(",")
    return [name for each in asked if ADDED_BY_CLIENTS.fullmatch(name := each.strip().lower())]


def _allow_origins(app: Flask, origins: set[str]) -> None:
    """Let pages of these origins read the answers. Cookies and the like are never asked for."""
    every = "*" in origins

    def answer_preflight() -> Response | None:
        """A preflight brings no key, and is answered before one is asked for."""
        asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not asked or request.url_rule is None or not allowed():
            return None
        response = app.make_default_options_response()
        methods = ", ".join(sorted(response.allow))
        response.status_code = 204
        response.headers.update(
            {
                "Access-Control-Allow-Methods": methods,
                "Access-Control-Allow-Headers": ", ".join([SENT_BY_PAGES, *_clients_own()]),
                "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
            }
        )
        return response

    def add_headers(response: Response) -> Response:
        if not every:
            response.vary.add("Origin")  # a cache must not hand one origin's answer to another
        if allowed():
            origin = "*" if every else request.headers["Origin"]
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = READ_BY_PAGES
        return response

    def allowed() -> bool:
        origin = request.headers.get("Origin")
        return origin is not None and (every or origin in origins)

    app.before_request(answer_preflight)
    app.after_request(add_headers)
