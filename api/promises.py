"""What a promise of a route consists of. The promises themselves are `contract`'s."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api.shapes import Schema, ref
from charrnn.config import MODEL_NAME_PATTERN

JSON, HTML, PLAIN, EVENTS = "application/json", "text/html", "text/plain", "text/event-stream"
CSS, JAVASCRIPT = "text/css", "text/javascript"

# When a request is refused, in the words of all routes that refuse it for this.
NO_MODEL = "There is no model of this name."
LEFT = "The client has closed the connection; only the log shows this."
TOO_LARGE = "The body is larger than the service takes."
BUSY = "The service has as many requests as it can take. Try again after Retry-After."


@dataclass(frozen=True)
class Body:
    """A body that a route answers with, in one type of content."""

    schema: Schema
    examples: Mapping[str, Any] = field(default_factory=dict)  # by a few words that tell which
    events: Mapping[str, Schema] = field(default_factory=dict)  # of a stream: their data, by name


@dataclass(frozen=True)
class Route:
    """What one method of one path promises, besides what every route does."""

    id: str
    tag: str
    summary: str
    success: str  # what a 200 is
    bodies: Mapping[str, Body]  # of a 200, by type of content
    description: str = ""
    parameters: tuple[Schema, ...] = ()
    takes_texts: bool = False  # a body, as the schema of requests has it
    takes: str = ""  # a body of another kind, by the name of its schema
    requests: Mapping[str, Any] = field(default_factory=dict)  # of that kind, by a few words
    refusals: Mapping[int, str] = field(default_factory=dict)  # status: when
    is_cached: bool = False  # it has an ETag, and is answered 304 where nothing has changed


def answer(name: str, example: Any, told: str = "an answer") -> Mapping[str, Body]:
    """The bodies of a route that answers with one kind of JSON, by the name of its schema."""
    return {JSON: Body(ref(name), {told: example})}


def stream(description: str, examples: Mapping[str, Any], **events: str) -> Body:
    """A body of server-sent events: the names of their schemas by what kind of event they are."""
    described = {"description": description}  # no type: some tools check it against each event
    return Body(described, examples, {kind: ref(name) for kind, name in events.items()})


def named(description: str, example: str) -> Schema:
    """The parameter of a path that names a model."""
    return {
        "name": "name",
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "pattern": f"^{MODEL_NAME_PATTERN}$"},
        "example": example,
    }
