"""Whether an answer is one that the document of the service promises."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.openapi import current_document
from tests.api.problems import read_refusal

EVENTS = "text/event-stream"
# What any answer may carry: HTTP's own, and what `security` puts on everything.
GENERAL = {
    *("content-length", "content-type", "date", "server", "connection", "transfer-encoding"),
    *("cache-control", "content-security-policy", "referrer-policy", "vary"),
    *("cross-origin-opener-policy", "cross-origin-resource-policy"),
    *("x-content-type-options", "x-frame-options", "x-accel-buffering", "server-timing"),
}


class Document:
    """An OpenAPI document, to hold answers against."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.content = document
        self.components = closed(document["components"])

    def resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        """What a reference refers to; anything else as it is."""
        if "$ref" not in part:
            return part
        _, _, kind, name = part["$ref"].split("/")
        found: dict[str, Any] = self.content["components"][kind][name]
        return found

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """The operation that a request is for."""
        for template, methods in self.content["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path, re.DOTALL):
                found: dict[str, Any] | None = methods.get(method.lower())
                return found
        return None

    def conforms(self, value: Any, schema: dict[str, Any]) -> None:
        """Fail where a value isn't what a schema says, or has members that it doesn't name."""
        whole = {**closed(schema), "components": self.components}
        try:
            jsonschema_rs.Draft202012Validator(whole).validate(value)
        except jsonschema_rs.ValidationError as error:
            raise AssertionError(f"{error}") from None  # what it holds can't cross processes

    def check(self, method: str, path: str, answer: TestResponse) -> None:
        """Fail on a status, header, type of content or body that isn't promised."""
        status, kind = answer.status_code, answer.content_type
        given = {name.lower() for name, _ in answer.headers}
        given = {name for name in given - GENERAL if not name.startswith("access-control-")}
        operation = self.operation("GET" if method == "HEAD" else method, path)
        if method == "OPTIONS" and status in (200, 204):
            return
        if operation is None or status == 405:  # said in words: no operation is asked for
            assert status in (400, 401, 404, 405), (method, path, status)
            assert given <= {"allow", "www-authenticate", "x-request-id"}
            assert ("allow" in given) is (status == 405)
            if method != "HEAD":
                read_refusal(path, status, kind, answer.data)
            return
        responses = operation["responses"]
        assert str(status) in responses, f"{method} {path} answers {status}, which is nowhere"
        promised = self.resolved(responses[str(status)])
        headers = {name.lower(): self.resolved(h) for name, h in promised["headers"].items()}
        assert given <= set(headers), f"{method} {path} {status} has {given - set(headers)}"
        for name, header in headers.items():
            assert name in given or not header.get("required"), f"{method} {path}: no {name}"
            if name in given:
                self.conforms(answer.headers[name], header["schema"])
        if status == 304:
            assert answer.data == b""
            return
        kind = kind.partition(";")[0]
        assert kind in promised["content"], f"{method} {path} {status} is {kind}"
        if method != "HEAD":
            self.check_body(kind, promised["content"][kind], answer)

    def check_body(self, kind: str, content: dict[str, Any], answer: TestResponse) -> None:
        if kind == EVENTS:
            self.check_events(content, answer.get_data(as_text=True))
        elif kind.endswith("json"):
            self.conforms(json.loads(answer.data), content["schema"])
        else:
            self.conforms(answer.get_data(as_text=True), content["schema"])

    def check_events(self, content: dict[str, Any], text: str) -> None:
        """Every event as promised, the last one `done` or `error`."""
        names = []
        for name, data in events(text):
            names.append(name)
            if name != "[DONE]":
                self.conforms(data, content["x-events"][name])
        last = "done" if "done" in content["x-events"] else "[DONE]"
        assert names[-1:] in ([last], ["error"])
        assert set(names[:-1]) <= {"message"}


class Client(FlaskClient):
    """A client that accepts only answers which the application's document promises, and reads each
    to its end and closes it, as a server does: Flask's own leaves undone what is done at the end.
    """

    application: Flask

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        kwargs = {"buffered": True} | kwargs
        answer = super().open(*args, **kwargs)
        if answer.content_type == EVENTS and not kwargs["buffered"]:
            return answer  # whoever asked reads it piece by piece
        if "tests.document" not in self.application.extensions:
            with self.application.app_context():
                self.application.extensions["tests.document"] = Document(current_document())
        document = self.application.extensions["tests.document"]
        asked = answer.request
        document.check(asked.method, asked.environ["PATH_INFO"], answer)
        return answer


def closed(schema: Any) -> Any:
    """A schema that also refuses members which it doesn't name: it leaves room, our tests don't."""
    if isinstance(schema, list | tuple):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(each) for key, each in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        made.setdefault("additionalProperties", False)
    return made


def events(text: str) -> Iterator[tuple[str, Any]]:
    """(name, data) of every event of a stream; comments are left out. OpenAI's have no names: an
    error is told by its member, the last by what it says.
    """
    assert text.endswith("\n\n"), "the last event is whole"
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            fields = dict(line.split(": ", 1) for line in lines)
            assert set(fields) <= {"event", "data", "id"}
            if fields["data"] == "[DONE]":  # how OpenAI's streams end
                yield "[DONE]", None
                continue
            data = json.loads(fields["data"])
            is_error = isinstance(data, dict) and set(data) == {"error"}
            yield fields.get("event", "error" if is_error else "message"), data
