"""What a request may say: the body as strict JSON, and the fields that it may have.

Fields, defaults and bounds are the library's GenerationConfig; this adds what only a service has
(model, version, seed) and lowers the bounds that the operator lowers.
"""

import json
import re
from types import NoneType
from typing import Annotated, Any, Self

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from api.errors import RequestError, invalid_fields
from api.settings import ServiceSettings
from charrnn.config import LARGEST_RANDOM_SEED, WHOLE, GenerationConfig, shown
from charrnn.errors import FieldProblem

MOST_DIGITS = 1000  # of a number in a body
DEEPEST = 8  # levels of lists and objects in a body; a request needs two
MOST_ITEMS = 256  # of a list or object in a body; thousands of wrong ones take long to describe
TOO_DEEP = f"the body must be nested at most {DEEPEST} levels deep"
EXAMPLE = '{"seed": "Tyr", "count": 5}'


def _text_or_random_seed(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One message for both kinds, where a union's own would speak of each apart."""
    try:
        return check(value)
    except ValidationError:
        raise ValueError(
            f"must be text, or a whole number from 0 to {LARGEST_RANDOM_SEED} "
            "(which is taken as random_seed)"
        ) from None


def _nullable(schema: dict[str, Any]) -> None:
    """Say in the schema what `_null_means_absent` does."""
    for name, field in schema["properties"].items():
        if {"type": "null"} not in field.get("anyOf", ()):
            kept = {key: field.pop(key) for key in ("title", "description", "default")}
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}], **kept}


class GenerateRequest(GenerationConfig):
    """The body of POST /generate. Every field may be left out, and null is as if it were."""

    model_config = ConfigDict(json_schema_extra=_nullable)

    model: str | None = Field(None, description="which model; left out: the service's default")
    version: str | None = Field(
        None,
        description="which version of it, by the first 6 or more hexadecimal digits of its "
        "SHA-256; left out: the live one",
        json_schema_extra={"pattern": "^[0-9a-fA-F]{6,64}$"},
    )
    seed: Annotated[
        str | Annotated[int, Field(ge=0, le=LARGEST_RANDOM_SEED), WHOLE],
        WrapValidator(_text_or_random_seed),
    ] = Field("", description="what every text begins with; a whole number is a random_seed")

    @model_validator(mode="before")
    @classmethod
    def _null_means_absent(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        known = cls.model_fields
        return {
            key: value for key, value in values.items() if value is not None or key not in known
        }

    @field_validator("version")
    @classmethod
    def _is_hexadecimal(cls, version: str | None) -> str | None:
        if version is not None and not re.fullmatch(r"[0-9a-fA-F]{6,64}", version):
            raise ValueError("must be 6 to 64 hexadecimal digits")
        return version and version.lower()

    @model_validator(mode="after")
    def _one_random_seed(self) -> Self:
        if isinstance(self.seed, int) and self.random_seed is not None:
            raise ValueError("random_seed must be left out where seed is a number")
        return self

    @property
    def seed_text(self) -> str:
        """The text that the output begins with."""
        return self.seed if isinstance(self.seed, str) else ""

    def generation(self) -> GenerationConfig:
        """The library's part of the request, already checked."""
        values = {name: getattr(self, name) for name in GenerationConfig.model_fields}
        if isinstance(self.seed, int):
            values["random_seed"] = self.seed
        given = self.model_fields_set & set(values)
        return GenerationConfig.model_construct(given, **values)


def request_model(settings: ServiceSettings) -> type[GenerateRequest]:
    """GenerateRequest with the bounds that the operator set in place of the library's."""
    limits = {
        "count": settings.max_count,
        "min_length": settings.max_length,
        "max_length": settings.max_length,
    }
    fields: dict[str, Any] = {name: _capped(name, limit) for name, limit in limits.items()}
    return create_model("GenerateRequest", __base__=GenerateRequest, **fields)


def _capped(name: str, limit: int) -> tuple[Any, FieldInfo]:
    """The same field with another upper bound."""
    field = GenerateRequest.model_fields[name]
    whole, *_ = GenerateRequest.model_json_schema()["properties"][name]["anyOf"]
    kind = Annotated[int, Field(ge=whole["minimum"], le=limit), WHOLE]
    nullable = kind if field.default is not None else kind | None
    return nullable, Field(field.default, description=field.description)


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
        if len(value) > MOST_ITEMS:
            rule = f"the body's lists and objects must have at most {MOST_ITEMS} items"
            raise RequestError(400, f"{rule}, got one of {len(value)}")
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _refuse_odd(inner, levels - 1)


def _kind(value: Any) -> str:
    words = {list: "a list", str: "text", bool: "true or false", NoneType: "null"}
    return words.get(type(value), "a number")
