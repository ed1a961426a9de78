"""What a setting is, how it is checked, and in which words a value is refused.

The checks are those of pydantic's core, put together for a class at its first use. Pydantic's own
models would do the same, but take longer to import than all the rest of `charrnn`.
Which settings there are, and their bounds, stands in `config`.
"""

import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import NoneType
from typing import (
    Any,
    Literal,
    NamedTuple,
    Self,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic_core import (
    CoreConfig,
    CoreSchema,
    PydanticUndefined,
    SchemaValidator,
    ValidationError,
    core_schema,
)

from charrnn.errors import ConfigError, FieldProblem, shown


class Setting(NamedTuple):
    """A field of settings: what `setting` was told, and the field's annotation."""

    description: str
    default: Any
    rules: Mapping[str, Any]
    items: Mapping[str, Any]
    check: Callable[[Any], Any] | None
    annotation: Any = None


def setting(
    *,
    description: str = "",
    default: Any = PydanticUndefined,
    items: Mapping[str, Any] | None = None,
    check: Callable[[Any], Any] | None = None,
    **rules: Any,
) -> Any:
    """Declare a field.

    Args:
        default: a value, or a function that makes one; a field without must be given.
        rules: bounds, as pydantic's core names them: ge, gt, le, lt, min_length, max_length.
        items: the rules of each item, where the field takes several.
        check: makes of a value of the right type the one that is kept; raises ValueError.
    """
    return Setting(description, default, rules, items or {}, check)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting,))
class Settings:
    """A frozen set of checked values. Unknown keys and look-alike types are refused."""

    def __init__(self, **values: Any) -> None:
        """Raises ConfigError, as `checked` does."""
        vars(self).update(vars(self.checked(values)))

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Build from plain values. Raises ConfigError, which names every field that is wrong."""
        try:
            made: Self = cls._validator().validate_python(dict(values))
        except ValidationError as error:
            found = [dict(item) for item in error.errors(include_url=False)]
            problems = [_problem(item, cls) for item in found if not _is_left_short(item, found)]
            raise ConfigError(problems, where) from None
        return made

    @classmethod
    @cache
    def fields(cls) -> dict[str, Setting]:
        """Every field by its name, those of the parents first."""
        annotations = get_type_hints(cls)
        return {n: getattr(cls, n)._replace(annotation=kind) for n, kind in annotations.items()}

    def values(self) -> dict[str, Any]:
        """Every value; those of settings within these as a dictionary."""
        return {n: value.values() if isinstance(value, Settings) else value for n, value in self}

    def said(self) -> dict[str, Any]:
        """The values that were given, not those that are defaults."""
        given = vars(self)["__pydantic_fields_set__"]
        return {
            name: value.said() if isinstance(value, Settings) else value
            for name, value in self
            if name in given
        }

    def over(self, defaults: Mapping[str, Any]) -> Self:
        """What was said, and for the rest `defaults`; every value of the copy counts as said."""
        whole = type(self).checked({**defaults, **self.said()})
        return type(self).checked(whole.values())

    def changed(self, **values: Any) -> Self:
        """A copy with some values changed, checked again. Raises ConfigError."""
        return type(self).checked({**self.said(), **values})

    def _fit(self, context: Any) -> None:
        """Rules between fields, where a child has some; the core calls this after all others.

        Raises ValueError, whose message begins with the name of a field.
        """

    @classmethod
    def _schema(cls) -> CoreSchema:
        """The check of these settings, described for pydantic's core."""
        fields = {
            name: core_schema.model_field(_schema_of(each)) for name, each in cls.fields().items()
        }
        strict = CoreConfig(strict=True, extra_fields_behavior="forbid", allow_inf_nan=False)
        inner = core_schema.model_fields_schema(fields)
        return core_schema.model_schema(cls, inner, config=strict, post_init="_fit")

    @classmethod
    @cache
    def _validator(cls) -> SchemaValidator:
        return SchemaValidator(cls._schema())

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self.fields())

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self)})"

    def __setattr__(self, name: str, value: Any) -> None:
        rule = "is frozen: `changed` makes a copy with another value"
        raise ConfigError([FieldProblem(name, rule, shown(value))])

    def __delattr__(self, name: str) -> None:
        raise ConfigError([FieldProblem(name, "is frozen: it can't be deleted", name)])


class ValueKind(NamedTuple):
    """What one value of a field is: its type, its choices where it has some, whether the field
    takes several, and whether it takes none.
    """

    type: Any
    choices: tuple[str, ...] = ()
    several: bool = False
    nullable: bool = False


def kind_of_value(field: Setting) -> ValueKind:
    """What a field takes: of `int | None`, `tuple[str, ...]`, `Literal["a", "b"]` and the like."""
    annotation, parts = field.annotation, get_args(field.annotation)
    if get_origin(annotation) is Literal:
        return ValueKind(str, parts)
    if get_origin(annotation) in (list, tuple):
        return ValueKind(parts[0], several=True)
    return ValueKind(parts[0] if parts else annotation, nullable=NoneType in parts)


def _schema_of(field: Setting) -> CoreSchema:
    """The check of a field, described for pydantic's core."""
    kind = kind_of_value(field)
    schema: CoreSchema
    if kind.choices:
        schema = core_schema.literal_schema(list(kind.choices))
    elif kind.several:
        item = _schema_of_one(kind.type, field.items)
        if get_origin(field.annotation) is list:
            schema = core_schema.list_schema(item, **field.rules)
        else:
            schema = core_schema.tuple_variable_schema(item, strict=False, **field.rules)
    else:
        schema = _schema_of_one(kind.type, field.rules)
    if field.check:
        schema = core_schema.no_info_after_validator_function(field.check, schema)
    if kind.nullable:
        schema = core_schema.nullable_schema(schema)
    if callable(field.default):
        return core_schema.with_default_schema(schema, default_factory=field.default)
    if field.default is PydanticUndefined:
        return schema
    return core_schema.with_default_schema(schema, default=field.default)


def _schema_of_one(kind: Any, rules: Mapping[str, Any]) -> CoreSchema:
    if kind is int:
        return core_schema.no_info_before_validator_function(whole, core_schema.int_schema(**rules))
    if kind is float:
        return core_schema.no_info_before_validator_function(
            _real, core_schema.float_schema(**rules)
        )
    if kind is str:
        return core_schema.str_schema(**rules)
    if kind is bool:
        return core_schema.bool_schema()
    if kind is Any:
        return core_schema.any_schema()
    return kind._schema()  # settings within settings


def whole(value: Any) -> Any:
    """42.0 and numpy's integers are whole numbers; everything else is left to strict checking."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    number: Any = value if isinstance(value, numbers.Rational) else float(value)
    return int(number) if number == number // 1 else value


def _real(value: Any) -> Any:
    """numpy's scalars are numbers too, but not whatever Python could turn into one."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("must be a finite number") from None
    plain: Any = value
    return plain if isinstance(plain, int) else number


def _is_left_short(item: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a list is only too short for its items that were refused."""
    path = item["loc"]
    return item["type"] == "too_short" and any(
        len(each["loc"]) > len(path) and each["loc"][: len(path)] == path for each in found
    )


def _problem(item: dict[str, Any], model: type[Settings]) -> FieldProblem:
    path = item["loc"]
    field = ".".join(str(part) for part in path)
    value = shown(item.get("input"))
    if item["type"] == "value_error" and _is_settings(model, path):
        name, _, rule = str(item["ctx"]["error"]).partition(" ")  # between fields: it names them
        field = ".".join([*map(str, path), name])
        return FieldProblem(field, rule, shown(dict(item["input"]).get(name)))
    return FieldProblem(field or ('""' if path else "body"), _rule(item, model, path), value)


def _rule(item: dict[str, Any], model: type[Settings], path: tuple[Any, ...]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        *_, name = (part for part in path if isinstance(part, str))  # an item's is a number
        field = _owner(model, path[: path.index(name) + 1]).fields()[name]
        return f"must be {_bounds(field.rules if name == path[-1] else field.items)}"
    if kind == "extra_forbidden":
        known = sorted(_owner(model, path).fields())
        return f"is not a known field; the known ones are {', '.join(known)}"
    if kind in ("string_too_long", "too_long"):
        return f"must have at most {context['max_length']} {_unit(kind)}"
    if kind in ("string_too_short", "too_short"):
        least = context["min_length"]
        return "must not be empty" if least == 1 else f"must have at least {least} {_unit(kind)}"
    if kind == "literal_error":
        return f"must be one of {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    return _RULES.get(kind) or item["msg"][:1].lower() + item["msg"][1:]


_RULES = {
    "missing": "is missing",
    "invalid_key": "is not a known field: its name must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "model_type": "must be an object",
    "string_unicode": "must be valid Unicode",
}


def _unit(kind: str) -> str:
    return "characters" if kind.startswith("string") else "items"


def _is_settings(model: type[Settings], path: tuple[Any, ...]) -> bool:
    """Whether `path` leads to settings, not to a field of a plain type or an item of one."""
    for part in path:
        kind = model.fields()[part].annotation if isinstance(part, str) else None
        if not (isinstance(kind, type) and issubclass(kind, Settings)):
            return False
        model = kind
    return True


def _owner(model: type[Settings], path: tuple[Any, ...]) -> type[Settings]:
    """The settings in which the last part of `path` is, or would be, a field."""
    for part in path[:-1]:
        model = model.fields()[part].annotation
    return model


def _bounds(rules: Mapping[str, Any]) -> str:
    """ "from 0 to 10", of a number's rules."""
    match rules:
        case {"ge": low, "le": high}:
            return f"from {low} to {high}"
        case {"gt": low, "le": high}:
            return f"more than {low} and up to {high}"
        case {"ge": low, "lt": high}:
            return f"from {low} and less than {high}"
        case {"ge": low}:
            return f"at least {low}"
    return ", ".join(f"{name} {bound}" for name, bound in rules.items())
