"""Errors on the paths of OpenAI's interface, in the shape that its clients read.

What is wrong is found and worded where it is everywhere else; this only says it in another form.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from charrnn.errors import FieldProblem

PREFIX = "/v1"
# Our names of what these clients call otherwise.
THEIR_NAMES = {"count": "n", "max_length": "max_tokens", "random_seed": "seed", "seed": "prompt"}
UNSUPPORTED = "is not something that this service can do"
CODES = {
    401: "invalid_api_key",
    405: "method_not_supported",
    413: "request_too_large",
    503: "service_unavailable",
}
RULES = {"is not a known field": "unknown_parameter", UNSUPPORTED: "unsupported_parameter"}
NO_MODEL = "model_not_found"
NO_PATH = "unknown_url"


def is_openai(path: str) -> bool:
    """Whether a path is one whose errors have this shape, whether or not something is there."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def status_of(status: int) -> int:
    """Their status for one of ours: a broken rule is a bad request."""
    return 400 if status == 422 else status


def body_of(
    status: int, message: str, *, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """An error as their clients read it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code or CODES.get(status)}
    return {"error": error}


def of_problem(status: int, detail: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """The same for an answer of ours. The first broken rule tells the field."""
    first = (members.get("errors") or [{}])[0]
    param, rule = first.get("field"), first.get("rule", "")
    code = members.get("code") or next(
        (c for begin, c in RULES.items() if rule.startswith(begin)), None
    )
    if status == 404 and code is None:
        code = NO_PATH
    return body_of(status_of(status), detail, code=code, param=None if param == "body" else param)


def in_their_words(problems: Iterable[FieldProblem], said: Iterable[str]) -> list[FieldProblem]:
    """Broken rules by the names that a client used: ours, where it sent them by these."""
    sent = set(said)
    return [
        each
        if each.field in sent or each.field not in THEIR_NAMES
        else FieldProblem(THEIR_NAMES[each.field], each.rule, each.value)
        for each in problems
    ]
