"""What the routes of OpenAI's interface take and answer, as JSON schemas."""

from typing import Any

from api.openai_schemas import (
    ASSISTANT,
    IGNORED,
    LONGEST_STOP,
    MOST_MESSAGES,
    MOST_STOPS,
    NEUTRAL,
    ROLES,
    ChatRequest,
    CompletionRequest,
    OpenAIRequest,
    limited,
)
from api.schemas import json_schema
from api.settings import ServiceSettings
from api.shapes import Schema, ref, shape

COMPLETION, CHAT = "CompletionRequest", "ChatCompletionRequest"
_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_NULL = {"type": "null"}
_WHOLE = {"type": "integer", "minimum": 0}


def _or_null(*some: Schema) -> Schema:
    return {"anyOf": [*some, _NULL]}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _head(kind: str) -> dict[str, Schema]:
    return {
        "id": {**_TEXT, "description": "an id of this answer"},
        "object": {**_TEXT, "enum": [kind]},
        "created": {**_WHOLE, "description": "seconds since 1970"},
        "model": {**_TEXT, "description": "the model that wrote it"},
        "system_fingerprint": {**_TEXT, "description": "`fp_` and the model's version"},
        "random_seed": {**_WHOLE, "description": "what to send as `seed` for the same texts again"},
        "shortfall": {**_or_null(_TEXT), "description": "why texts are missing, if some are"},
    }


def _choice(logprobs: str, *, ended: bool, **members: Schema) -> Schema:
    reason: Schema = {"type": "string", "enum": ["stop", "length"]}
    return shape(
        "One of the texts.",
        index={**_WHOLE, "description": "which of the texts, from 0"},
        **members,
        logprobs=_or_null(ref(logprobs)),
        finish_reason=reason if ended else _or_null(reason),
    )


def schemas() -> dict[str, Schema]:
    """Every body of these routes, by its name."""
    usage = _or_null(ref("Usage"))
    role: Schema = {**_TEXT, "enum": ["assistant"]}
    token = {"token": _TEXT, "logprob": _NUMBER, "bytes": _list(_WHOLE)}
    return {
        "Error": shape(
            "What went wrong, as OpenAI says it.",
            error=shape(
                "What went wrong.",
                message={**_TEXT, "description": "for people"},
                type={**_TEXT, "enum": ["invalid_request_error", "server_error"]},
                param={**_or_null(_TEXT), "description": "the field that broke a rule"},
                code={**_or_null(_TEXT), "description": "for programs"},
            ),
        ),
        "OpenAIModels": shape(
            "What is served.", object={**_TEXT, "enum": ["list"]}, data=_list(ref("OpenAIModel"))
        ),
        "OpenAIModel": shape(
            "A model.",
            id=_TEXT,
            object={**_TEXT, "enum": ["model"]},
            created=_WHOLE,
            owned_by=_TEXT,
        ),
        "Usage": shape(
            "What was read and drawn, in characters.",
            prompt_tokens=_WHOLE,
            completion_tokens=_WHOLE,
            total_tokens=_WHOLE,
        ),
        "Completion": shape(
            "Texts.",
            **_head("text_completion"),
            choices=_list(ref("CompletionChoice")),
            usage=ref("Usage"),
        ),
        "CompletionChoice": _choice("CompletionLogprobs", ended=True, text=_TEXT),
        "CompletionChunk": shape(
            "A piece of texts.",
            **_head("text_completion"),
            choices=_list(_choice("CompletionLogprobs", ended=False, text=_TEXT)),
            usage={**usage, "optional": True},
        ),
        "CompletionLogprobs": shape(
            "How likely each character was: natural logarithms, at temperature 1, without limits.",
            tokens=_list(_TEXT),
            token_logprobs=_list(_or_null(_NUMBER)),
            top_logprobs=_or_null(
                _list(_or_null({"type": "object", "additionalProperties": _NUMBER}))
            ),
            text_offset=_list(_WHOLE),
        ),
        "ChatCompletion": shape(
            "Replies.",
            **_head("chat.completion"),
            choices=_list(ref("ChatChoice")),
            usage=ref("Usage"),
        ),
        "ChatChoice": _choice(
            "ChatLogprobs",
            ended=True,
            message=shape("The reply.", role=role, content=_TEXT, refusal=_NULL),
        ),
        "ChatCompletionChunk": shape(
            "A piece of replies.",
            **_head("chat.completion.chunk"),
            choices=_list(_choice("ChatLogprobs", ended=False, delta=ref("ChatDelta"))),
            usage={**usage, "optional": True},
        ),
        "ChatDelta": shape(
            "What is new of a reply.",
            role={**role, "optional": True},
            content={**_TEXT, "optional": True},
            refusal={**_NULL, "optional": True},
        ),
        "ChatLogprobs": shape(
            "How likely each character was: natural logarithms, at temperature 1, without limits.",
            content=_list(
                shape(
                    "A character.",
                    **token,
                    top_logprobs=_list(shape("One that might stand there.", **token)),
                )
            ),
            refusal=_NULL,
        ),
    }


def request_models(settings: ServiceSettings) -> dict[str, type[OpenAIRequest]]:
    """What checks both bodies, by name, with the bounds of this service."""
    return {
        COMPLETION: limited(CompletionRequest, settings),
        CHAT: limited(ChatRequest, settings),
    }


def request_schemas(settings: ServiceSettings) -> dict[str, Schema]:
    """The schemas of both bodies, with the bounds of this service."""
    models = request_models(settings)
    completion, chat = (_request(json_schema(models[name])) for name in (COMPLETION, CHAT))
    prompts = _list(_TEXT, minItems=1)
    completion["properties"]["prompt"] |= _or_null(_TEXT, prompts)
    part = {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"type": "string", "enum": ["text"]}, "text": _TEXT},
    }
    content = {"anyOf": [_TEXT, _list(part)]}
    others = [role for role in ROLES if role != ASSISTANT]
    message: Schema = {
        "type": "object",
        "anyOf": [
            {
                "required": ["role", "content"],
                "properties": {"role": {"type": "string", "enum": others}, "content": content},
            },
            {
                "required": ["role"],
                "properties": {
                    "role": {"type": "string", "enum": [ASSISTANT]},
                    "content": {"anyOf": [*content["anyOf"], _NULL]},
                },
            },
        ],
    }
    messages = _list(message, minItems=1, maxItems=MOST_MESSAGES)
    chat["properties"]["messages"] |= messages
    return {COMPLETION: completion, CHAT: chat}


def _request(schema: Schema) -> Schema:
    fields = schema["properties"]
    stop = {"type": "string", "minLength": 1, "maxLength": LONGEST_STOP}
    fields["stop"] |= _or_null(stop, _list(stop, maxItems=MOST_STOPS))
    flag = {"type": "boolean"}
    options = {"include_usage": flag, "include_obfuscation": flag}
    fields["stream_options"] |= _or_null(
        {"type": "object", "properties": options, "additionalProperties": False}
    )
    for name, field in fields.items():
        field.pop("title", None)
        if "anyOf" not in field and name not in schema["required"]:
            kept = {key: field.pop(key) for key in ("description", "default") if key in field}
            fields[name] = {"anyOf": [field, _NULL], **kept}
    words = "what this service can't do; only what asks for nothing is taken"
    neutral = {
        name: {"enum": [*values, None], "description": words} for name, values in NEUTRAL.items()
    }
    ignored = {name: {"description": "makes no difference"} for name in sorted(IGNORED)}
    return {
        **schema,
        "description": "null is as if a field were left out.",
        "properties": {**fields, **neutral, **ignored},
    }
