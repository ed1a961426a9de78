"""What every refusal must look like: ours, and below /v1 OpenAI's."""

import json
from typing import Any

from werkzeug.http import HTTP_STATUS_CODES


def read_refusal(path: str, status: int, content_type: str | None, body: bytes) -> dict[str, Any]:
    """The refusal in an answer, in the shape that its path has."""
    is_theirs = path == "/v1" or path.startswith("/v1/")
    return (read_error if is_theirs else read_problem)(status, content_type, body)


def read_error(status: int, content_type: str | None, body: bytes) -> dict[str, Any]:
    """The error in an answer, as OpenAI's clients read it."""
    assert content_type == "application/json"
    assert body.isascii(), "an error shows hostile text escaped"
    assert len(body) < 100_000
    assert status != 422
    (error,) = json.loads(body).values()
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    found: dict[str, Any] = error
    return found


def read_problem(status: int, content_type: str | None, body: bytes) -> dict[str, Any]:
    """The problem in an answer, held against RFC 9457 and our own additions."""
    assert content_type == "application/problem+json"
    assert body.isascii(), "an error shows hostile text escaped"
    assert len(body) < 100_000
    problem: dict[str, Any] = json.loads(body)
    assert problem["type"] == "about:blank"
    assert problem["title"] == HTTP_STATUS_CODES[status]
    assert problem["status"] == status
    assert problem["detail"]
    if status == 422:
        assert problem["errors"]
        for item in problem["errors"]:
            assert {"field", "rule", "value", "message"} <= set(item)
    return problem
