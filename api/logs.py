"""The lines that the service writes: one for each event, as text or as one JSON object.

What a client sent is in no line but escaped, and never its body, its seeds or its keys.
"""

import json
import logging
import re
import secrets
import sys
import time
from contextvars import ContextVar
from typing import Any

AUTO, JSON, TEXT = "auto", "json", "text"
REQUEST_ID = re.compile(r"[A-Za-z0-9._~:+/=@-]{1,128}", re.ASCII)
CONTROL = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

_ENCODE = json.JSONEncoder(default=str).encode  # made once: json.dumps would make it each time

request_id: ContextVar[str] = ContextVar("request_id", default="")  # of the thread's request


def new_or_given_id(given: str | None) -> str:
    """The request's id: the client's or the proxy's where it is short and plain, else a new one."""
    if given is not None and REQUEST_ID.fullmatch(given):
        return given
    return secrets.token_hex(8)


def formatter(style: str) -> logging.Formatter:
    """A formatter for "json" or "text"; "auto" is text for a terminal, JSON for all else."""
    if style == AUTO:
        style = TEXT if sys.stderr.isatty() else JSON
    return _Json() if style == JSON else _Text()


def configure(style: str) -> None:
    """Write the lines of all loggers that have no handler of their own to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(style))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)


def refusal(message: str, style: str = AUTO) -> str:
    """The last line of a service that can't start."""
    record = logging.LogRecord("charrnn", logging.CRITICAL, "", 0, message, None, None)
    made = formatter(style)
    return made.format(record) if isinstance(made, _Json) else message


class _Json(logging.Formatter):
    """One JSON object in ASCII, whatever the message holds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            line["request_id"] = current
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return _ENCODE(line)


class _Text(logging.Formatter):
    """A line to read. Lines below it are a traceback's, and stand further in."""

    def __init__(self) -> None:
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S %z")

    def format(self, record: logging.LogRecord) -> str:
        fields = {"request_id": request_id.get(), **getattr(record, "fields", {})}
        pairs = [f"{name}={value}" for name, value in fields.items() if value not in ("", None)]
        where = f"[{self.formatTime(record, self.datefmt)}] [{record.process}]"
        said = " ".join([record.getMessage(), *pairs])
        text = f"{where} [{record.levelname}] {CONTROL.sub(_escaped, said)}"
        more = [self.formatException(record.exc_info)] if record.exc_info else []
        more += [record.stack_info] if record.stack_info else []
        for line in "\n".join(more).splitlines():
            text += f"\n    {CONTROL.sub(_escaped, line)}"
        return text


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _utc(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03d}Z"
