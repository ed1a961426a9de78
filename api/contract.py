"""What each route promises: its answers by status, and examples that the tests send.

A route that isn't here is not served: `openapi` stops at it. One that is here and isn't served is
left out of the document.
"""

from collections.abc import Mapping
from typing import Any

import charrnn
from api import openai_contract
from api.models import PREFERRED
from api.page import FILES
from api.promises import CSS, EVENTS, HTML, JAVASCRIPT, JSON, PLAIN, Body, Route
from api.settings import ServiceSettings
from api.shapes import ref
from charrnn.config import MODEL_NAME_PATTERN

VERSION = "3f9ac2d41e7b"
FULL_VERSION = VERSION + "58c06a9d0f3327be81c4a5f6e0d9187246b3c5aa90fe63d127b4"


def _json(name: str, example: Any) -> Mapping[str, Body]:
    return {JSON: Body(ref(name), {"an answer": example})}


def _sample(text: str, logprob: float) -> dict[str, Any]:
    return {"text": text, "logprob": logprob, "finish_reason": "end", "novel": True}


ABOUT = """\
Send a seed and get names: the first command of `POST /generate` is all that it takes.

Errors are problems (RFC 9457), 404 for a path that isn't there and 405 among them; below /v1 they \
have OpenAI's shape. HEAD is \
answered where GET is, OPTIONS at every path. A query string is ignored.

What the server in front of the routes can't parse as HTTP, or won't take (a line or a header that \
is too long, too many headers: 414, 431), it answers by itself, in a form of its own."""
WITH_KEYS = """\
This service asks for an API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`. Without one, \
every path that isn't open is answered 401, those that don't exist too."""
TAGS = {
    "texts": "What it is for.",
    "models": "What writes them.",
    "openai": "The same for programs that talk to OpenAI's interface.",
    "operations": "For whoever runs the service.",
    "reference": "What there is, and how to use it.",
}
EVERYWHERE = {
    400: "The request can't be understood: its Host header is none, or its body can't be read.",
    401: "There is no API key, or not a known one.",
    405: "The path is there, but has not this method.",
    500: "Something went wrong in the service. Its log has the details.",
}
_BROKEN = {
    "field": "count",
    "rule": "must be from 1 to 100",
    "value": "500",
    "message": "count must be from 1 to 100, got 500",
}
FULL_PROBLEMS: Mapping[int, Mapping[str, Any]] = {
    400: {"detail": "the body must be UTF-8; byte 10 is not"},
    401: {
        "detail": "this needs an API key; send it as `Authorization: Bearer KEY` or "
        "`X-API-Key: KEY`"
    },
    404: {"detail": "there is no model 'unicorns'; the known ones are dinosaurs"},
    405: {"detail": "'GET' is not allowed at '/generate'; use OPTIONS, POST"},
    408: {"detail": "the client closed the connection before its answer"},
    410: {"detail": "version bad0bad0 of model dinosaurs is damaged and can't be served"},
    413: {"detail": "the body must have at most 65536 bytes"},
    422: {"detail": _BROKEN["message"], "errors": [_BROKEN]},
    500: {"detail": "something went wrong in the service; its log has the details"},
    503: {"detail": "the service has as many requests as it can take; try again in 1 second"},
}


def request_examples(
    settings: ServiceSettings, model: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Requests that this service takes, by a few words that tell what they ask for."""
    count = min(5, settings.max_count)
    seed = {"seed": "Tyr"} if model == PREFERRED else {}  # another may not know these letters
    examples = {
        "texts from a seed": {**seed, "count": count},
        "the same texts each time": {
            **seed,
            "count": count,
            "temperature": 0.8,
            "max_length": min(20, settings.max_length),
            "random_seed": 7,
        },
        "one text of a model by its name": {"model": model},
    }
    if model == PREFERRED:
        examples["names of a shape"] = {"count": count, "pattern": "t*raptor", "random_seed": 7}
    if "stream" in fields:
        examples["a stream"] = {**seed, "stream": True}
    return examples


ANSWER = {
    "model": "dinosaurs",
    "version": VERSION,
    "seed": "Tyr",
    "random_seed": 7,
    "samples": [_sample("Tyrasaurus", -7.25), _sample("Tyrinator", -12.5)],
    "requested": 2,
    "characters": 13,
    "shortfall": None,
}
STREAM = """\
data: {"index":0,"text":"Tyr"}

data: {"index":0,"text":"an"}

: ping

data: {"index":0,"text":"nis"}

event: done
data: {"model":"dinosaurs","version":"3f9ac2d41e7b","seed":"Tyr","random_seed":7,\
"samples":[{"index":0,"logprob":-9.75,"finish_reason":"end","novel":true}],\
"requested":1,"characters":5,"shortfall":null}

"""
BEAM = {
    "model": "dinosaurs",
    "version": VERSION,
    "seed": "Tyr",
    "samples": [{"text": "Tyrosaurus", "logprob": -2.75, "novel": True}],
    "requested": 1,
    "shortfall": None,
}
SCORES = {
    "model": "dinosaurs",
    "version": VERSION,
    "scores": [
        {
            "text": "Ox",
            "logprob": -9.5,
            "perplexity": 23.75,
            "likelier_than": 0.0025,
            "symbols": [
                {
                    "symbol": letter,
                    "probability": 0.0625,
                    "logprob": -2.75,
                    "expected": [{"symbol": "a", "probability": 0.25}],
                }
                for letter in ("o", "x", "\n")
            ],
        }
    ],
}
_REFUSALS_OF_A_BODY: Mapping[int, str] = {
    400: "The body isn't strict JSON in UTF-8, or can't be read to its end.",
    404: "There is no such model, or no such version of it.",
    410: "The version is there, but its file is damaged.",
    413: "The body is larger than the service takes.",
    503: "The service has as many requests as it can take. Try again after Retry-After.",
}
MODEL = {
    "name": "dinosaurs",
    "version": VERSION,
    "kind": "names",
    "unit": "character",
    "cell": "gru",
    "hidden_size": 256,
    "num_layers": 1,
    "parameters": 225307,
    "vocabulary": 27,
    "known_characters": "abcdefghijklmnopqrstuvwxyz",
    "max_length": 46,
    "trained_on": {"bytes": 21667, "characters": 17217, "train": 1359, "test": 159},
    "evaluation": {"test": {"characters": 2016, "nats_per_character": 1.63, "sequences": 159}},
    "promoted_at": "2026-11-21T01:50:36+00:00",
}
INSPECTED = {
    "model": "dinosaurs",
    "version": VERSION,
    "text": "R",
    "layer": 1,
    "steps": [
        {
            "symbol": symbol,
            "expected": [{"symbol": "a", "probability": 0.25}],
            "activations": [0.125, -0.5],
        }
        for symbol in ("", "r")
    ],
    "units": [
        {
            "unit": 1,
            "gates": {"r": [0.5, 0.25], "z": [0.75, 0.875], "n": [0.5, -1.0]},
            "parts": {"h": [-0.25, -0.5]},
        }
    ],
    "interesting": [{"feature": "a vowel just read", "unit": 1, "correlation": 0.768}],
}
HISTORY = {
    "model": "dinosaurs",
    "events": [
        {
            "event": "promoted",
            "at": "2026-11-21T01:50:36+00:00",
            "reason": "first version",
            "version": VERSION,
            "validation": 1.58,
            "test": 1.63,
        }
    ],
}
NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "the name of a model",
    "schema": {"type": "string", "pattern": f"^{MODEL_NAME_PATTERN}$"},
    "example": "dinosaurs",
}
INDEX = {
    "name": "charrnn",
    "version": charrnn.__version__,
    "endpoints": {"POST /generate": "texts from a seed"},
    "example": """curl -d '{"seed": "Tyr", "count": 5}' http://localhost:8000/generate""",
}
HEALTH = {
    "status": "ok",
    "version": charrnn.__version__,
    "models": {"dinosaurs": FULL_VERSION},
}
STREAMING = (
    "With `stream` the texts come as server-sent events while they are written. Each piece is "
    '`data: {"index", "text"}` (StreamPiece). The last event is `event: done` (StreamDone), or '
    "`event: error` with a Problem where something failed half way; a stream that ends without "
    "either was cut off. Lines that begin with `:` are comments, sent in silence to keep the "
    "connection."
)
METRICS = """\
# HELP charrnn_requests_total Requests by route and status.
# TYPE charrnn_requests_total counter
charrnn_requests_total{route="/generate",status="200"} 1024.0
"""

ROUTES: Mapping[tuple[str, str], Route] = {
    ("POST", "/generate"): Route(
        id="generate",
        tag="texts",
        summary="Texts from a seed",
        description="Every field may be left out, and null is as if it were; no body, or a blank "
        "one, means `{}`. The body is read as JSON whatever its Content-Type says, and must be "
        "strict JSON: no NaN, no field twice, nothing past the closing brace. The same body with "
        "the same `random_seed` gives the same bytes, alone or under load, as long as the "
        "version, the machine and its libraries are the same. A larger `count` only adds texts.",
        success="The texts.",
        bodies={
            JSON: Body(ref("Answer"), {"two names": ANSWER}),
            EVENTS: Body(
                {"description": STREAMING},  # no type: some tools check it against each event
                {"one name": STREAM},
                {"message": ref("StreamPiece"), "done": ref("StreamDone"), "error": ref("Problem")},
            ),
        },
        takes_texts=True,
        refusals={
            400: "The body isn't strict JSON in UTF-8, or can't be read to its end.",
            404: "There is no such model, or no such version of it.",
            408: "The client has closed the connection; only the log shows this.",
            410: "The version is there, but its file is damaged.",
            413: "The body is larger than the service takes.",
            422: "A field breaks a rule: one of the schema, or one that a schema can't tell. "
            "The seed has only characters that the model knows (one of words takes all), and is no "
            "longer than max_length; "
            "the conditions on names can be met together, and are asked of no running text; "
            "min_length is at most max_length; random_seed is left out where seed is a number; "
            "all texts together are no longer than the service allows. `errors` has them all.",
            503: "The service has as many requests as it can take. Try again after Retry-After.",
        },
    ),
    ("POST", "/beam"): Route(
        id="beam",
        tag="texts",
        summary="The most probable names",
        description="The `count` most probable names that begin with `seed` and meet all "
        "conditions, in falling order, and none left out that is likelier. Nothing is drawn: the "
        "same body gives the same names. Names only, not running text.",
        success="The names. Where `shortfall` says so, fewer: those that are proven.",
        bodies=_json("BeamAnswer", BEAM),
        takes="BeamRequest",
        requests={
            "the most probable names": {"count": 3},
            "of a shape": {"count": 3, "ends_with": "us", "max_length": 12},
        },
        refusals={
            **_REFUSALS_OF_A_BODY,
            422: "A field breaks a rule: one of the schema, or one that a schema can't tell. What "
            "names begin, end and are filled with has only characters that the model knows; the "
            "conditions can be met together; the model is of names.",
        },
    ),
    ("POST", "/score"): Route(
        id="score",
        tag="texts",
        summary="How probable texts are",
        description="For each character its probability, and what the network expected instead; "
        "of the whole the log-probability, the perplexity, and how many names of the training "
        "list are less likely by their perplexity.",
        success="The scores, in the order of the texts.",
        bodies=_json("Scores", SCORES),
        takes="ScoreRequest",
        requests={"two names": {"texts": ["rex", "tyrannosaurus"], "expected": 1}},
        refusals={
            **_REFUSALS_OF_A_BODY,
            422: "A field breaks a rule: one of the schema, or one that a schema can't tell. The "
            "texts have only characters that the model knows, and no more of them in all than "
            "the service takes.",
        },
    ),
    ("POST", "/inspect"): Route(
        id="inspect",
        tag="texts",
        summary="Inside the network",
        description="What the network holds as it reads a text: before its first symbol and after "
        "each, the likeliest next ones, the output of every hidden unit of a layer, and the gates "
        "of some units. For a list of names, a few units that go with something one can say of a "
        "name were looked for, once for a version.",
        success="What it holds at each place.",
        bodies=_json("Inspected", INSPECTED),
        takes="InspectRequest",
        requests={"a name": {"text": "rex", "expected": 3}, "the start": {"expected": 10}},
        refusals={
            **_REFUSALS_OF_A_BODY,
            422: "A field breaks a rule: one of the schema, or one that a schema can't tell. The "
            "text has only characters that the model knows; it has this layer, with these units.",
        },
    ),
    ("GET", "/models"): Route(
        id="listModels",
        tag="models",
        summary="The models that are served",
        success="A card for each model, and the default.",
        bodies=_json("Models", {"models": [MODEL], "default": "dinosaurs"}),
    ),
    ("GET", "/models/{name}"): Route(
        id="describeModel",
        tag="models",
        summary="One of the models",
        success="Its card.",
        bodies=_json("Model", MODEL),
        parameters=(NAME,),
        refusals={404: "There is no model of this name."},
    ),
    ("GET", "/models/{name}/history"): Route(
        id="tellHistory",
        tag="models",
        summary="What was live when",
        description="Promotions, refusals and rollbacks, with their reasons and held-out losses.",
        success="The last fifty events.",
        bodies=_json("History", HISTORY),
        parameters=(NAME,),
        refusals={404: "There is no model of this name."},
    ),
    **openai_contract.ROUTES,
    ("GET", "/livez"): Route(
        id="livez",
        tag="operations",
        summary="Whether the process answers",
        success="It does.",
        bodies=_json("Liveness", {"status": "ok"}),
    ),
    ("GET", "/readyz"): Route(
        id="readyz",
        tag="operations",
        summary="Whether requests may be sent here",
        success="The weights are loaded.",
        bodies=_json("Liveness", {"status": "ok"}),
        refusals={503: "Not yet, or not any more: the weights are not loaded, or it is stopping."},
    ),
    ("GET", "/healthz"): Route(
        id="healthz",
        tag="operations",
        summary="Whether the service is well",
        success="It is. The live version of each model.",
        bodies=_json("Health", HEALTH),
    ),
    ("GET", "/metrics"): Route(
        id="metrics",
        tag="operations",
        summary="Figures for Prometheus",
        success="The figures of all workers together, in Prometheus' text format.",
        bodies={PLAIN: Body({"type": "string"}, {"a figure": METRICS})},
    ),
    ("GET", "/"): Route(
        id="index",
        tag="reference",
        summary="The page, for browsers; the routes, for programs",
        description="HTML where the Accept header prefers it, else JSON.",
        success="What there is.",
        bodies={**_json("Index", INDEX), HTML: Body({"type": "string"})},
    ),
    ("GET", "/static/{name}"): Route(
        id="staticFile",
        tag="reference",
        summary="A file of the page",
        success="The file.",
        bodies={kind: Body({"type": "string"}) for kind in (CSS, JAVASCRIPT)},
        parameters=(
            {
                "name": "name",
                "in": "path",
                "required": True,
                "description": "the name of a file",
                "schema": {"type": "string", "enum": sorted(FILES)},
                "example": "page.css",
            },
        ),
        refusals={404: "There is no such file."},
        is_cached=True,
    ),
    ("GET", "/openapi.json"): Route(
        id="openapi",
        tag="reference",
        summary="This document",
        success="An OpenAPI 3.1 document.",
        bodies={JSON: Body({"type": "object", "required": ["openapi", "info", "paths"]})},
    ),
    ("GET", "/docs"): Route(
        id="docs",
        tag="reference",
        summary="This document as a page to read",
        success="A page that needs nothing from elsewhere.",
        bodies={HTML: Body({"type": "string"})},
    ),
}
