"""Examples of what the service takes and answers. The tests send the ones, and hold the others
against the schemas.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import charrnn
from api.models import PREFERRED
from api.settings import ServiceSettings
from charrnn.errors import ConfigError
from charrnn.settings import Settings

LONG = 100  # characters, more than names have that have no max_length
VERSION = "3f9ac2d41e7b"
FULL_VERSION = VERSION + "58c06a9d0f3327be81c4a5f6e0d9187246b3c5aa90fe63d127b4"


def _sample(text: str, logprob: float) -> dict[str, Any]:
    return {"text": text, "logprob": logprob, "finish_reason": "end", "novel": True}


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
    length, characters = settings.max_length, settings.max_characters
    count = max(1, min(5, settings.max_count, characters // LONG))
    is_known = model == PREFERRED and length > len("Tyr")  # another may not know these letters
    seed = {"seed": "Tyr"} if is_known else {}
    examples = {
        "texts from a seed": {**seed, "count": count},
        "the same texts each time": {
            **seed,
            "count": count,
            "temperature": 0.8,
            "max_length": min(20, length, characters),
            "random_seed": 7,
        },
        "one text of a model by its name": {"model": model},
    }
    if model == PREFERRED and min(length, characters) >= len("traptor"):
        examples["names of a shape"] = {"count": count, "pattern": "t*raptor", "random_seed": 7}
    if "stream" in fields:
        examples["a stream"] = {**seed, "stream": True}
    return examples


def within(examples: Mapping[str, Any], model: type[Settings]) -> dict[str, Any]:
    """The examples that a request takes, its bounds in place of numbers above them."""
    found, fields = {}, model.fields()
    for words, example in examples.items():
        lowered = {
            name: min(value, fields[name].rules.get("le", value)) if type(value) is int else value
            for name, value in example.items()
        }
        with suppress(ConfigError):
            model.checked(lowered)
            found[words] = lowered
    return found


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
METRICS = """\
# HELP charrnn_requests_total Requests by route and status.
# TYPE charrnn_requests_total counter
charrnn_requests_total{route="/generate",status="200"} 1024.0
"""
