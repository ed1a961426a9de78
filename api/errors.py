"""Every error of the service in one shape: problem+json (RFC 9457).

OpenAI's paths have another (`openai_errors`). A broken rule of a field is listed in `errors`;
what went wrong inside is logged, never shown.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound
from werkzeug.http import HTTP_STATUS_CODES

from api import openai_errors
from charrnn.errors import CharRNNError, ConfigError, FieldProblem, UnknownCharacterError, shown

OUR_FAULT = "something went wrong in the service; its log has the details"
MOST_LISTED = 20  # problems of one answer: 64 KiB of unknown fields must not make a huge answer
JSON_WORDS = {"None": "null", "True": "true", "False": "false"}


class StartError(CharRNNError):
    """The service can't start. The message says what to do about it."""


class RequestError(Exception):
    """An answer other than the one asked for. `members` go into its JSON beside the usual ones."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.members = members

    @property
    def body(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "type": "about:blank",
            "title": HTTP_STATUS_CODES[self.status],
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }


def invalid_fields(problems: Iterable[FieldProblem]) -> RequestError:
    """422, with every broken rule by field; past the first twenty they are only counted."""
    every = [_in_json_words(problem) for problem in problems]
    listed = every[:MOST_LISTED]
    detail = "; ".join(str(problem) for problem in listed)
    if len(every) > len(listed):
        detail += f"; and {len(every) - len(listed)} more"
    return RequestError(422, detail, errors=[_listed(problem) for problem in listed])


def register(app: Flask) -> None:
    """Answer every exception of the application with a problem."""
    app.register_error_handler(RequestError, _of_problem)
    app.register_error_handler(ConfigError, _of_config_error)
    app.register_error_handler(UnknownCharacterError, _of_unknown_character)
    app.register_error_handler(HTTPException, _of_http_exception)


def _of_problem(problem: RequestError) -> Response:
    if openai_errors.is_openai(request.path):
        response = jsonify(
            openai_errors.of_problem(problem.status, problem.detail, problem.members)
        )
        response.status_code = openai_errors.status_of(problem.status)
    else:
        response = jsonify(problem.body)
        response.status_code = problem.status
        response.content_type = "application/problem+json"
    response.headers.update(problem.headers)
    return response


def _of_config_error(error: ConfigError) -> Response:
    return _of_problem(invalid_fields(error.problems))


def _of_unknown_character(error: UnknownCharacterError) -> Response:
    return _of_problem(unknown_character(error, "seed"))


def unknown_character(error: UnknownCharacterError, field: str) -> RequestError:
    """422 for a character of a field that the model doesn't know."""
    item = {
        "field": field,
        "rule": "must have only characters that the model knows",
        "value": shown(error.character),
        "message": f"{field}: {error}",
        "character": error.character,
        "position": error.position,
        "known": error.known,
    }
    return RequestError(422, f"{field}: {error}", errors=[item])


def _of_http_exception(error: HTTPException) -> Response:
    """What Flask itself refuses. A crash arrives here too, as a 500 that Flask has logged."""
    status = error.code or InternalServerError.code
    response = _of_problem(RequestError(status, _detail(error)))
    kept = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    response.headers.update(kept)  # Allow, above all
    return response


def _detail(error: HTTPException) -> str:
    if isinstance(error, NotFound):
        return f"there is nothing at {shown(request.path)}; GET / lists what there is"
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"{shown(request.method)} is not allowed at {shown(request.path)}; use {allowed}"
    if isinstance(error, InternalServerError):
        return OUR_FAULT
    return error.description or error.name


def _listed(problem: FieldProblem) -> Mapping[str, str]:
    return {
        "field": problem.field,
        "rule": problem.rule,
        "value": problem.value,
        "message": str(problem),
    }


def _in_json_words(problem: FieldProblem) -> FieldProblem:
    """Values as whoever wrote the JSON spells them, not as Python does."""
    value = JSON_WORDS.get(problem.value, problem.value)
    field = problem.field  # an unknown one can be as long as the body
    short = field if len(field) <= 80 else f"{field[:60]}… ({len(field)} characters)"
    return FieldProblem(short, problem.rule, value)
