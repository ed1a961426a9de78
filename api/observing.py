"""What is done around every request: its id, its time, its line in the log, its numbers."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Flask, Response, g, request

from api import logs
from api.metrics import METHODS, UNMATCHED, Metrics

ID_HEADER, ID_IN_ENVIRON = "X-Request-ID", "HTTP_X_REQUEST_ID"

log = logging.getLogger("api.access")


def register(app: Flask, metrics: Metrics, *, access_log: bool) -> None:
    """Observe every request of the application. To be called before other hooks are added: the
    first to see a request is the last to see its answer.
    """

    def begin() -> None:
        g.began = time.perf_counter()
        g.noted = {}
        g.request_id = own_id = logs.new_or_given_id(request.environ.get(ID_IN_ENVIRON))
        logs.request_id.set(own_id)

    def answer(response: Response) -> Response:
        began, noted, own_id = g.began, g.noted, g.request_id
        rule = request.url_rule
        route, method = rule.rule if rule else UNMATCHED, request.method
        remote = request.remote_addr
        response.headers[ID_HEADER] = own_id
        taken = 1000 * (time.perf_counter() - began)
        response.headers["Server-Timing"] = f"app;dur={taken:.2f}"
        sent = _Counted.around(response)

        def end() -> None:
            seconds = time.perf_counter() - began
            metrics.request_ended(route, method, response.status_code, seconds)
            if access_log and log.isEnabledFor(logging.INFO):
                fields = {
                    "method": method if method in METHODS else "other",
                    "route": route,
                    "status": response.status_code,
                    "ms": round(1000 * seconds, 2),
                    "bytes": response.content_length if sent is None else sent.bytes,
                    "request_id": own_id,
                    "remote": remote,
                    **noted,
                }
                log.info("request", extra={"fields": fields})
            logs.request_id.set("")

        response.call_on_close(end)
        return response

    app.before_request(begin)
    app.after_request(answer)


def note(**facts: Any) -> None:
    """Add to the access line of this request: names and numbers of ours, never what a client wrote.

    A stream may go on adding to what this was called with, through `noted`.
    """
    g.noted.update(facts)


def noted() -> dict[str, Any]:
    """The facts of this request's access line, to be added to until its answer has ended."""
    facts: dict[str, Any] = g.noted
    return facts


class _Counted:
    """The pieces of a stream as they are, counted."""

    def __init__(self, pieces: Iterable[bytes | str]) -> None:
        self.bytes = 0
        self._pieces = pieces

    @classmethod
    def around(cls, response: Response) -> "_Counted | None":
        """Count what a stream sends; None for an answer whose length is known."""
        if not response.is_streamed:
            return None
        response.response = counted = cls(response.response)
        return counted

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            data = piece.encode() if isinstance(piece, str) else piece
            self.bytes += len(data)
            yield data

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
