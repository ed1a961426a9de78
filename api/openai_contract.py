"""What each route of OpenAI's interface promises: its answers by status, and examples."""

from collections.abc import Mapping
from typing import Any

from api.openai_shapes import CHAT, COMPLETION
from api.promises import (
    BUSY,
    EVENTS,
    LEFT,
    NO_MODEL,
    TOO_LARGE,
    Route,
    answer,
    named,
    stream,
)

FINGERPRINT = "fp_3f9ac2d41e7b"
STREAMING = (
    "With `stream` the choices come as server-sent events, `data: {json}`, while they are written; "
    "the last is `data: [DONE]`. What fails half way is `data: {error}`. Lines that begin with `:` "
    "are comments."
)
USAGE = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
_HEAD = {
    "id": "cmpl-5f1d0c9be2a748d3a6b0c1e2",
    "object": "text_completion",
    "created": 1794268800,
    "model": "dinosaurs",
    "system_fingerprint": FINGERPRINT,
    "random_seed": 7,
    "shortfall": None,
}
_CHAT_HEAD = {**_HEAD, "id": "chatcmpl-5f1d0c9be2a748d3a6b0c1e2", "model": "rex"}
ANSWER = {
    **_HEAD,
    "choices": [{"index": 0, "text": "asaurus", "logprobs": None, "finish_reason": "stop"}],
    "usage": USAGE,
}
REPLY = {
    **_CHAT_HEAD,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello! i am rex.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 8, "completion_tokens": 16, "total_tokens": 24},
}
_STREAM_HEAD = (
    '"created":1794268800,"model":"rex","system_fingerprint":"fp_3f9ac2d41e7b",'
    '"random_seed":7,"shortfall":null'
)
STREAM = (
    f'data: {{"id":"cmpl-5f1d","object":"text_completion",{_STREAM_HEAD},'
    '"choices":[{"index":0,"text":"asaurus","logprobs":null,"finish_reason":null}]}\n\n'
    f'data: {{"id":"cmpl-5f1d","object":"text_completion",{_STREAM_HEAD},'
    '"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}\n\n'
    "data: [DONE]\n\n"
)
CHAT_STREAM = (
    f'data: {{"id":"chatcmpl-5f1d","object":"chat.completion.chunk",{_STREAM_HEAD},'
    '"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},'
    '"logprobs":null,"finish_reason":null}]}\n\n'
    f'data: {{"id":"chatcmpl-5f1d","object":"chat.completion.chunk",{_STREAM_HEAD},'
    '"choices":[{"index":0,"delta":{"content":"hello!"},"logprobs":null,"finish_reason":null}]}\n\n'
    f'data: {{"id":"chatcmpl-5f1d","object":"chat.completion.chunk",{_STREAM_HEAD},'
    '"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
    "data: [DONE]\n\n"
)
_REFUSALS = {
    400: "The body isn't strict JSON in UTF-8, or a field breaks a rule: one of the schema, or one "
    "that a schema can't tell. `param` names the first.",
    404: "There is no such model.",
    408: LEFT,
    413: TOO_LARGE,
    503: BUSY,
}


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _HEAD["created"], "owned_by": "charrnn"}


ROUTES: Mapping[tuple[str, str], Route] = {
    ("GET", "/v1/models"): Route(
        id="listOpenAIModels",
        tag="openai",
        summary="The models that are served",
        success="Their ids.",
        bodies=answer(
            "OpenAIModels",
            {"object": "list", "data": [_model(name) for name in ("dinosaurs", "rex")]},
            "two models",
        ),
    ),
    ("GET", "/v1/models/{name}"): Route(
        id="describeOpenAIModel",
        tag="openai",
        summary="One of the models",
        success="Its id.",
        bodies=answer("OpenAIModel", _model("rex"), "a model"),
        parameters=(named("the id of a model", "rex"),),
        refusals={404: NO_MODEL},
    ),
    ("POST", "/v1/completions"): Route(
        id="createCompletion",
        tag="openai",
        summary="Texts after a prompt",
        description="Characters are the tokens. Besides OpenAI's fields it takes every setting of "
        "`POST /generate`. A prompt has only characters that the model knows; several prompts "
        "together ask for no more than one request may.",
        success="The texts.",
        bodies={
            **answer("Completion", ANSWER, "a name"),
            EVENTS: stream(
                STREAMING, {"a stream": STREAM}, message="CompletionChunk", error="Error"
            ),
        },
        takes=COMPLETION,
        requests={
            "a name": {"model": "dinosaurs", "prompt": "Tyr", "max_tokens": 20},
            "three names, always the same": {
                "model": "dinosaurs",
                "n": 3,
                "max_tokens": 20,
                "seed": 7,
                "temperature": 0.8,
            },
        },
        refusals=_REFUSALS,
    ),
    ("POST", "/v1/chat/completions"): Route(
        id="createChatCompletion",
        tag="openai",
        summary="A reply in a chat",
        description="For models that learned from conversations. The service keeps nothing: send "
        "the talk so far; of earlier turns it reads again the last whole ones that fit. What the "
        "system says is not read. Characters that the model doesn't know are mapped or left out.",
        success="The reply, or replies.",
        bodies={
            **answer("ChatCompletion", REPLY, "a reply"),
            EVENTS: stream(
                STREAMING, {"a stream": CHAT_STREAM}, message="ChatCompletionChunk", error="Error"
            ),
        },
        takes=CHAT,
        requests={
            "a question": {
                "model": "rex",
                "messages": [{"role": "user", "content": "What did Stegosaurus eat?"}],
            },
            "a stream": {
                "model": "rex",
                "messages": [{"role": "user", "content": "hello"}],
                "stream": True,
            },
        },
        refusals=_REFUSALS,
    ),
}
