"""What a request may say: the body as strict JSON, and the fields that it may have.

Fields, defaults and bounds are the library's GenerationConfig; this adds what only a service has
(model, version, seed) and lowers the bounds that the operator lowers.
"""

import json
import re
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from api.errors import RequestError, invalid_fields
from api.settings import ServiceSettings
from charrnn.config import (
    EXPECTED,
    LARGEST_RANDOM_SEED,
    LONGEST_INSPECTED,
    LONGEST_TEXT,
    MOST_EXPECTED,
    MOST_UNITS,
    BeamConfig,
    GenerationConfig,
)
from charrnn.errors import FieldProblem, shown
from charrnn.settings import Setting, Settings, kind_of_value, setting, whole

MOST_DIGITS = 1000  # of a number in a body
DEEPEST = 8  # levels of lists and objects in a body; a request needs two
MOST_ITEMS = 256  # of an object in a body: thousands of unknown ones take long to describe
LONGEST_LIST = 16 * MOST_ITEMS  # of a list; what a field's may have, its rule says
TOO_DEEP = f"the body must be nested at most {DEEPEST} levels deep"
EXAMPLE = '{"seed": "Tyr", "count": 5}'


def _text_or_random_seed(value: Any) -> str | int:
    number = whole(value)
    if isinstance(value, str) or (type(number) is int and 0 <= number <= LARGEST_RANDOM_SEED):
        return number
    raise ValueError(
        f"must be text, or a whole number from 0 to {LARGEST_RANDOM_SEED} "
        "(which is taken as random_seed)"
    )


def _hexadecimal(version: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{6,64}", version):
        raise ValueError("must be 6 to 64 hexadecimal digits")
    return version.lower()


class AskedOfAModel(Settings):
    """What every body says that asks something of a model. Null is as if a field were left out."""

    model: str | None = setting(
        default=None, description="which model; left out: the service's default"
    )
    version: str | None = setting(
        default=None,
        check=_hexadecimal,
        description="which version of it, by the first 6 or more hexadecimal digits of its "
        "SHA-256; left out: the live one",
    )

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Null means absent."""
        known = cls.fields()
        said = {key: v for key, v in values.items() if v is not None or key not in known}
        return super().checked(said, where)


class GenerateRequest(AskedOfAModel, GenerationConfig):
    """The body of POST /generate. Every field may be left out, and null is as if it were."""

    stream: bool = setting(
        default=False, description="whether the texts come piece by piece, as server-sent events"
    )
    seed: Any = setting(  # text, or a whole number
        default="",
        check=_text_or_random_seed,
        description="what every text begins with; a whole number is a random_seed",
    )

    def _fit(self, context: Any) -> None:
        super()._fit(context)
        if isinstance(self.seed, int) and self.random_seed is not None:
            raise ValueError("random_seed must be left out where seed is a number")

    @property
    def seed_text(self) -> str:
        """The text that the output begins with."""
        return self.seed if isinstance(self.seed, str) else ""

    def generation(self) -> GenerationConfig:
        """The library's part of the request."""
        ours = GenerationConfig.fields()
        values = {name: value for name, value in self.said().items() if name in ours}
        if isinstance(self.seed, int):
            values["random_seed"] = self.seed
        return GenerationConfig.checked(values)


class BeamRequest(AskedOfAModel, BeamConfig):
    """The body of POST /beam. Every field may be left out, and null is as if it were."""

    seed: str = setting(default="", description="what every name begins with")

    def search(self) -> BeamConfig:
        """The library's part of the request."""
        ours = BeamConfig.fields()
        said = {name: value for name, value in self.said().items() if name in ours}
        return BeamConfig.checked({**said, "count": self.count})  # whose default may be lower


class ScoreRequest(AskedOfAModel):
    """The body of POST /score. `texts` must be there; null is as if a field were left out."""

    texts: tuple[str, ...] = setting(
        min_length=1, items={"min_length": 1, "max_length": LONGEST_TEXT}, description="the texts"
    )
    expected: int = setting(
        default=EXPECTED,
        ge=0,
        le=MOST_EXPECTED,
        description="how many of the likeliest symbols are told for each place",
    )


class InspectRequest(AskedOfAModel):
    """The body of POST /inspect. Every field may be left out, and null is as if it were."""

    text: str = setting(
        default="", max_length=LONGEST_INSPECTED, description="what the network reads"
    )
    layer: int | None = setting(
        default=None, ge=1, description="whose hidden units are told; left out: the last"
    )
    units: tuple[int, ...] = setting(
        default=(),
        max_length=MOST_UNITS,
        items={"ge": 0},
        description="units of the layer, from 0, whose gates are told as well; left out: those "
        "that go with something one can say of a name",
    )
    expected: int = setting(
        default=8,
        ge=0,
        le=MOST_EXPECTED,
        description="how many of the likeliest next symbols are told for each place",
    )


def request_models(settings: ServiceSettings) -> dict[str, type[Settings]]:
    """The requests besides GenerateRequest, by name, with the bounds that the operator set."""
    count, length = settings.max_count, settings.max_length
    beam, score = BeamRequest.fields(), ScoreRequest.fields()
    shorter = {
        name: beam[name]._replace(rules={**beam[name].rules, "le": length})
        for name in ("min_length", "max_length")
    }
    shorter["count"] = beam["count"]._replace(rules={"ge": 1, "le": count}, default=min(10, count))
    shorter["seed"] = beam["seed"]._replace(rules={"max_length": length})
    shorter["avoid"] = _fewer(beam["avoid"])
    texts = score["texts"]._replace(
        rules={"min_length": 1, "max_length": min(count, MOST_ITEMS)},
        items={"min_length": 1, "max_length": length},
    )
    text = InspectRequest.fields()["text"]
    text = text._replace(rules={"max_length": min(length, LONGEST_INSPECTED)})
    return {
        "InspectRequest": type("InspectRequest", (InspectRequest,), {"text": text}),
        "BeamRequest": type("BeamRequest", (BeamRequest,), shorter),
        "ScoreRequest": type("ScoreRequest", (ScoreRequest,), {"texts": texts}),
    }


def _fewer(field: Setting) -> Setting:
    """A list with no more items than a body may have."""
    return field._replace(rules={**field.rules, "max_length": MOST_ITEMS})


def request_model(settings: ServiceSettings) -> type[GenerateRequest]:
    """GenerateRequest with the bounds that the operator set in place of the library's."""
    limits = {
        "count": settings.max_count,
        "min_length": settings.max_length,
        "max_length": settings.max_length,
    }
    fields = GenerateRequest.fields()
    capped = {
        name: fields[name]._replace(rules={**fields[name].rules, "le": limit})
        for name, limit in limits.items()
    }
    capped["avoid"] = _fewer(fields["avoid"])
    capped["seed"] = fields["seed"]._replace(rules={"max_length": settings.max_length})
    return type("GenerateRequest", (GenerateRequest,), capped)


def json_schema(model: type[Settings]) -> dict[str, Any]:
    """The JSON schema of settings, by way of a pydantic model with the same fields."""
    fields: dict[str, Any] = {name: _described(field) for name, field in model.fields().items()}
    made = create_model(model.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    return made.model_json_schema()


def _described(field: Setting) -> tuple[Any, FieldInfo]:
    """A field as pydantic has it."""
    described = Field(field.default, description=field.description, **field.rules)
    if not field.items:
        return field.annotation, described
    kind = kind_of_value(field).type
    item = Annotated[kind, Field(**field.items)]  # type: ignore[valid-type]  # made as we run
    return tuple[item, ...], described


def request_schema(model: type[GenerateRequest]) -> dict[str, Any]:
    """The JSON schema of a request."""
    schema = json_schema(model)
    fields = schema["properties"]
    fields["version"]["pattern"] = "^[0-9a-fA-F]{6,64}$"
    seed_number, _ = fields["random_seed"]["anyOf"]
    seed = fields["seed"]
    seed_text = {"type": "string"} | {key: seed.pop(key) for key in ["maxLength"] if key in seed}
    seed["anyOf"] = [seed_text, seed_number, {"type": "null"}]
    for name, field in fields.items():
        if "anyOf" not in field:
            kept = {key: field.pop(key) for key in ("title", "description", "default")}
            fields[name] = {"anyOf": [field, {"type": "null"}], **kept}
    return schema


def other_request_schema(model: type[Settings]) -> dict[str, Any]:
    """The JSON schema of another request: null is as if a field were left out."""
    schema = json_schema(model)
    fields = schema["properties"]
    fields["version"]["pattern"] = "^[0-9a-fA-F]{6,64}$"
    for name, field in fields.items():
        if "anyOf" not in field and name not in schema.get("required", ()):
            kept = {key: field.pop(key) for key in ("title", "description", "default")}
            fields[name] = {"anyOf": [field, {"type": "null"}], **kept}
        fields[name].pop("title", None)
    return {**schema, "description": "null is as if a field were left out."}


def parse_body(body: bytes) -> dict[str, Any]:
    """The object that a body holds; nothing at all is the empty one.

    Raises RequestError: 400 where it isn't strict JSON in UTF-8, 422 where it isn't an object.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the body must be UTF-8; byte {error.start} is not") from None
    if text.startswith("\ufeff"):
        raise RequestError(400, "the body must be UTF-8 without a byte order mark")
    if not text.strip(" \t\r\n"):
        return {}
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RequestError(
            400, f"the body must be JSON such as {EXAMPLE}; at {where}: {error.msg}"
        ) from None
    except RecursionError:
        raise RequestError(400, TOO_DEEP) from None
    _refuse_odd(value)
    if not isinstance(value, dict):
        raise invalid_fields([FieldProblem("body", "must be an object", _kind(value))])
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise RequestError(400, f"the body gives {shown(key)} more than once")
        values[key] = value
    return values


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:  # Python itself stops at 4,300, with an error about Python
        rule = f"the body's numbers must have at most {MOST_DIGITS} digits"
        raise RequestError(400, f"{rule}, got one of {len(digits)}")
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise RequestError(400, f"the body has {name}, which is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_constant=_refuse_constant
)


def _refuse_odd(value: Any, levels: int = DEEPEST) -> None:
    """Refuse what is JSON for Python, and breaks or takes long far from here."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise RequestError(400, f"the body has half a surrogate pair in {shown(value)}")
    elif isinstance(value, list | dict):
        if levels == 0:
            raise RequestError(400, TOO_DEEP)
        kind, most = ("lists", LONGEST_LIST) if isinstance(value, list) else ("objects", MOST_ITEMS)
        if len(value) > most:
            rule = f"the body's {kind} must have at most {most} items"
            raise RequestError(400, f"{rule}, got one of {len(value)}")
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _refuse_odd(inner, levels - 1)


def _kind(value: Any) -> str:
    words = {list: "a list", str: "text", bool: "true or false", NoneType: "null"}
    return words.get(type(value), "a number")
