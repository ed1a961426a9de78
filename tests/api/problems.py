"""What every refusal must look like."""

import json
from typing import Any

from werkzeug.http import HTTP_STATUS_CODES


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
