"""OpenAI's interface: /v1/models, /v1/completions and /v1/chat/completions, over the same engine.

Which fields mean what here, and which are refused, stands in docs/openai.md.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from flask import Blueprint, Response, current_app, jsonify

from api.batch import Ticket
from api.desk import Desk, Job
from api.errors import OUR_FAULT, invalid_fields, unknown_character
from api.openai_errors import body_of, in_their_words
from api.openai_forms import ChatCompletion, Completion, Form, Pieces, generator_of
from api.openai_schemas import ChatRequest, CompletionRequest, OpenAIRequest, limited
from api.schemas import parse_body
from api.streaming import COMPACT, HEADERS, PING, news_of
from charrnn.errors import ConfigError, UnknownCharacterError

OWNER = "charrnn"
DONE = "data: [DONE]\n\n"


def blueprint(desk: Desk) -> Blueprint:
    """The routes below /v1."""
    routes = Blueprint("openai", __name__)
    models, started = desk.models, int(time.time())
    completion = limited(CompletionRequest, desk.settings)
    chat_completion = limited(ChatRequest, desk.settings)

    def card(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": started, "owned_by": OWNER}

    @routes.get("/v1/models")
    def list_models() -> Response:
        return jsonify({"object": "list", "data": [card(name) for name in models.live()]})

    @routes.get("/v1/models/<name>")
    def describe_model(name: str) -> Response:
        return jsonify(card(generator_of(desk, name).name))

    @routes.post("/v1/completions")
    def complete() -> Response:
        return _answer(desk, completion, Completion)

    @routes.post("/v1/chat/completions")
    def chat() -> Response:
        return _answer(desk, chat_completion, ChatCompletion)

    return routes


def _answer(desk: Desk, schema: type[OpenAIRequest], form: type[Form]) -> Response:
    made: list[Form] = []

    def tickets(body: bytes, deadline: float) -> Sequence[Ticket]:
        values = parse_body(body)
        try:
            read = form(schema.checked(values), desk)
        except ConfigError as error:
            raise invalid_fields(in_their_words(error.problems, values)) from None
        except UnknownCharacterError as error:
            raise unknown_character(error, "prompt") from None
        made.append(read)
        return [
            Ticket(read.generator, each, deadline=deadline, streamed=read.asked.stream)
            for each in read.requests
        ]

    return desk.answer(
        tickets,
        lambda job: jsonify(made[0].whole(job.tickets)),
        lambda job: _in_pieces(made[0], job),
    )


def _in_pieces(form: Form, job: Job) -> Response:
    """The texts as they grow: those of a prompt side by side, one prompt after another."""
    dumps = current_app.json.dumps
    head = form.head(form.chunk_kind, job.tickets) | (
        {"usage": None} if form.asked.asks_for_usage else {}
    )

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {dumps({**head, 'choices': choices, **more}, separators=COMPACT)}\n\n"

    def events() -> Iterator[str]:
        for number, ticket in enumerate(job.tickets):
            pieces = Pieces(form, ticket, number)
            yield "".join(event([choice]) for choice in pieces.openings())
            for news in news_of(job, ticket):
                yield "".join(event([c]) for each in news for c in pieces.choices(each)) or PING
            if ticket.error:
                yield f"data: {dumps(body_of(500, OUR_FAULT), separators=COMPACT)}\n\n"
            if ticket.error or not ticket.over:
                return
            why = form.shortfall(ticket)
            yield "".join(event([choice], shortfall=why) for choice in pieces.missing())
        if form.asked.asks_for_usage:
            yield event([], usage=form.usage(job.tickets))
        yield DONE

    return Response(events(), mimetype="text/event-stream", headers=HEADERS)
