"""What a promise of a route consists of. The promises themselves are `contract`'s."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api.shapes import Schema

JSON, HTML, PLAIN, EVENTS = "application/json", "text/html", "text/plain", "text/event-stream"
CSS, JAVASCRIPT = "text/css", "text/javascript"


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
