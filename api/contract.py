"""What each route promises: its answers by status, and examples that the tests send.

A route that isn't here is not served: `openapi` stops at it. One that is here and isn't served is
left out of the document.
"""

from collections.abc import Mapping

from api import examples, openai_contract
from api.page import FILES
from api.promises import (
    BUSY,
    CSS,
    EVENTS,
    HTML,
    JAVASCRIPT,
    JSON,
    LEFT,
    NO_MODEL,
    PLAIN,
    TOO_LARGE,
    Body,
    Route,
    answer,
    named,
    stream,
)
from api.shapes import ref

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
_REFUSALS_OF_A_BODY: Mapping[int, str] = {
    400: "The body isn't strict JSON in UTF-8, or can't be read to its end.",
    404: "There is no such model, or no such version of it.",
    410: "The version is there, but its file is damaged.",
    413: TOO_LARGE,
    503: BUSY,
}
STREAMING = (
    "With `stream` the texts come as server-sent events while they are written. Each piece is "
    '`data: {"index", "text"}` (StreamPiece). The last event is `event: done` (StreamDone), or '
    "`event: error` with a Problem where something failed half way; a stream that ends without "
    "either was cut off. Lines that begin with `:` are comments, sent in silence to keep the "
    "connection."
)
ROUTES: Mapping[tuple[str, str], Route] = {
    ("POST", "/generate"): Route(
        id="generate",
        tag="texts",
        summary="Texts from a seed",
        description="Every field may be left out, and null is as if it were; no body, or a blank "
        "one, means `{}`. The body is read as JSON whatever its Content-Type says, and must be "
        "strict JSON: no NaN, no field twice, nothing past the closing brace. The same body with "
        "the same `random_seed` gives the same bytes, alone or under load, as long as the "
        "version, the machine and its libraries are the same. A larger `count` only adds texts. "
        "Names of a shape at temperature 0 are searched for, in order: nothing is drawn.",
        success="The texts.",
        bodies={
            JSON: Body(ref("Answer"), {"two names": examples.ANSWER}),
            EVENTS: stream(
                STREAMING,
                {"one name": examples.STREAM},
                message="StreamPiece",
                done="StreamDone",
                error="Problem",
            ),
        },
        takes_texts=True,
        refusals={
            **_REFUSALS_OF_A_BODY,
            408: LEFT,
            422: "A field breaks a rule: one of the schema, or one that a schema can't tell. "
            "The seed has only characters that the model knows (one of words takes all), and is no "
            "longer than max_length; "
            "the conditions on names can be met together, and are asked of no running text; "
            "min_length is at most max_length; random_seed is left out where seed is a number; "
            "all texts together are no longer than the service allows. `errors` has them all.",
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
        bodies=answer("BeamAnswer", examples.BEAM),
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
        bodies=answer("Scores", examples.SCORES),
        takes="ScoreRequest",
        requests={
            "two names": {"texts": ["rex", "tyrannosaurus"], "expected": 1},
            "a name": {"texts": ["rex"]},
        },
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
        bodies=answer("Inspected", examples.INSPECTED),
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
        bodies=answer("Models", {"models": [examples.MODEL], "default": "dinosaurs"}),
    ),
    ("GET", "/models/{name}"): Route(
        id="describeModel",
        tag="models",
        summary="One of the models",
        success="Its card.",
        bodies=answer("Model", examples.MODEL),
        parameters=(named("the name of a model", "dinosaurs"),),
        refusals={404: NO_MODEL},
    ),
    ("GET", "/models/{name}/history"): Route(
        id="tellHistory",
        tag="models",
        summary="What was live when",
        description="Promotions, refusals and rollbacks, with their reasons and held-out losses.",
        success="The last fifty events.",
        bodies=answer("History", examples.HISTORY),
        parameters=(named("the name of a model", "dinosaurs"),),
        refusals={404: NO_MODEL},
    ),
    **openai_contract.ROUTES,
    ("GET", "/livez"): Route(
        id="livez",
        tag="operations",
        summary="Whether the process answers",
        success="It does.",
        bodies=answer("Liveness", {"status": "ok"}),
    ),
    ("GET", "/readyz"): Route(
        id="readyz",
        tag="operations",
        summary="Whether requests may be sent here",
        success="The weights are loaded.",
        bodies=answer("Liveness", {"status": "ok"}),
        refusals={503: "Not yet, or not any more: the weights are not loaded, or it is stopping."},
    ),
    ("GET", "/healthz"): Route(
        id="healthz",
        tag="operations",
        summary="Whether the service is well",
        success="It is. The live version of each model.",
        bodies=answer("Health", examples.HEALTH),
    ),
    ("GET", "/metrics"): Route(
        id="metrics",
        tag="operations",
        summary="Figures for Prometheus",
        success="The figures of all workers together, in Prometheus' text format.",
        bodies={PLAIN: Body({"type": "string"}, {"a figure": examples.METRICS})},
    ),
    ("GET", "/"): Route(
        id="index",
        tag="reference",
        summary="The page, for browsers; the routes, for programs",
        description="HTML where the Accept header prefers it, else JSON.",
        success="What there is.",
        bodies={**answer("Index", examples.INDEX), HTML: Body({"type": "string"})},
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
