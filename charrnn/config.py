"""Every bound and default, written once: recipes, the command line and the HTTP schemas derive
from these models. What the fields mean for an algorithm stands with the algorithm.
"""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import annotated_types
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from charrnn.errors import ConfigError, FieldProblem

LARGEST_RANDOM_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
LONGEST_TEXT = 1_000_000
MODEL_NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
MODEL_NAME_RULE = (
    "must be 1 to 64 lower-case letters, digits, dots, hyphens and underscores, beginning with a "
    "letter or digit"
)


def _whole(value: Any) -> Any:
    """42.0 and numpy's integers are whole numbers; everything else is left to strict checking."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    number: Any = value if isinstance(value, numbers.Rational) else float(value)
    return int(number) if number == number // 1 else value


def _real(value: Any) -> Any:
    """numpy's scalars are numbers too, but not whatever Python could turn into one."""
    if type(value) in (int, float):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError("must be a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("must be a finite number") from None


WHOLE, REAL = BeforeValidator(_whole), BeforeValidator(_real)
Int = Annotated[int, WHOLE]
Float = Annotated[float, REAL]


class Settings(BaseModel):
    """A frozen set of checked values. Unknown keys and look-alike types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Build from plain values. Raises ConfigError, which names every field that is wrong."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(problems_of(error, cls), where) from None

    def over(self, defaults: Mapping[str, Any]) -> Self:
        """What was said, and for the rest `defaults`; every value of the copy counts as said."""
        whole = type(self).checked({**defaults, **self.model_dump(exclude_unset=True)})
        return type(self).checked(whole.model_dump())

    def changed(self, **values: Any) -> Self:
        """A copy with some values changed, checked again. Raises ConfigError."""
        return type(self).checked({**self.model_dump(exclude_unset=True), **values})


class NetworkConfig(Settings):
    """The shape of the network, apart from its vocabulary."""

    cell: str = Field("lstm", description="recurrent cell: rnn, lstm or gru")
    hidden_size: Int = Field(256, ge=1, le=4096, description="units in each layer")
    num_layers: Int = Field(1, ge=1, le=16, description="stacked recurrent layers")
    dropout: Float = Field(
        0.0,
        ge=0,
        le=0.95,
        description="probability of dropping a unit of a layer's output, in training",
    )
    init: Literal["uniform", "normal"] = Field(
        "uniform", description="initial weights: uniform ±1/sqrt(fan-in), or normal with std 0.01"
    )


class ModelConfig(NetworkConfig):
    """The shape of the network: all that its parameters' shapes follow from."""

    vocab_size: Int = Field(ge=2, le=1_000_000, description="symbols it can read and write")


class CorpusConfig(Settings):
    """How a file is read and split."""

    kind: Literal["auto", "names", "text"] = Field(
        "auto", description="a list of names, one a line, or running text; auto looks at the file"
    )
    case: Literal["auto", "keep", "title", "sentence"] = Field(
        "auto",
        description="keep: letters as they are; title and sentence: learned in lower case and "
        "written with capitals; auto: lower case where every name survives the round trip",
    )
    validation: Float = Field(0.1, gt=0, le=0.5, description="fraction held out for choices")
    test: Float = Field(0.1, gt=0, le=0.5, description="fraction held out for the last figure")
    split_by: Literal["hash", "order"] = Field(
        "hash",
        description="hash: held out are sequences from all over the data, which stay on their "
        "side as it grows; order: its end is, which is harder for running text",
    )
    salt: str = Field("charrnn", max_length=100, description="changes who falls on which side")


class TrainConfig(Settings):
    """How the network learns."""

    optimizer: Literal["sgd", "adagrad", "adam", "adamw"] = Field(
        "adamw", description="rule that turns gradients into steps"
    )
    learning_rate: Float = Field(4e-3, gt=0, le=10, description="peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="course of the learning rate after the warm-up"
    )
    warmup_steps: Int = Field(50, ge=0, le=1_000_000, description="steps of linear rise")
    final_rate: Float = Field(
        0.02, ge=0, le=1, description="last learning rate, as a fraction of the peak"
    )
    halve_on_rise: bool = Field(
        False, description="halve the learning rate when the validation loss rises"
    )
    beta1: Float = Field(0.9, ge=0, lt=1, description="Adam: decay of the first moment")
    beta2: Float = Field(0.99, ge=0, lt=1, description="Adam: decay of the second moment")
    epsilon: Float = Field(
        1e-8, gt=0, le=1, description="Adam, Adagrad: keeps the division by the root finite"
    )
    weight_decay: Float = Field(0.0, ge=0, le=10, description="decay of the weights, not biases")
    clip_norm: Float = Field(
        1.0, ge=0, description="largest global norm of the gradient; 0 for no limit"
    )
    clip_value: Float = Field(
        0.0, ge=0, description="largest absolute value of a gradient; 0 for no limit"
    )
    batch_size: Int = Field(64, ge=1, le=65_536, description="names or streams in a batch")
    seq_length: Int = Field(
        64, ge=1, le=100_000, description="running text: steps between truncations, characters"
    )
    averaging: Float = Field(
        0.0, ge=0, lt=1, description="decay of the exponential average of the weights; 0 for none"
    )
    steps: Annotated[int, Field(ge=1, le=10**9), WHOLE] | None = Field(
        None, description="budget, updates"
    )
    minutes: Annotated[float, Field(gt=0, le=100_000), REAL] | None = Field(
        None, description="budget, minutes"
    )
    evaluate_every: Annotated[int, Field(ge=1, le=10**9), WHOLE] | None = Field(
        None, description="updates between two looks at validation"
    )
    patience: Annotated[int, Field(ge=1, le=10**6), WHOLE] | None = Field(
        None, description="looks without a better validation loss before stopping"
    )
    random_seed: Int = Field(0, ge=0, le=LARGEST_RANDOM_SEED, description="start of all chance")
    threads: Int = Field(
        1,
        ge=1,
        le=256,
        description="threads that share each batch; as many as there are idle cores",
    )


class GenerationConfig(Settings):
    """What is asked of the network: how many texts, how daring, how long."""

    count: Int = Field(1, ge=1, le=100_000, description="how many texts")
    temperature: Float = Field(
        1.0,
        ge=0,
        le=10,
        description="0: always the likeliest symbol; 1: as learned; above: more daring",
    )
    top_k: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] | None = Field(
        None, description="draw from the k likeliest symbols only"
    )
    top_p: Annotated[float, Field(gt=0, le=1), REAL] | None = Field(
        None,
        description="draw from the fewest likeliest symbols whose probabilities add up to this",
    )
    min_length: Int = Field(
        0, ge=0, le=LONGEST_TEXT, description="fewest symbols of a text, the seed included"
    )
    max_length: Annotated[int, Field(ge=1, le=LONGEST_TEXT), WHOLE] | None = Field(
        None,
        description="most symbols of a text, the seed included; null: the model's own",
    )
    stop: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        (), max_length=16, strict=False, description="texts that end the output; left out of it"
    )
    random_seed: Annotated[int, Field(ge=0, le=LARGEST_RANDOM_SEED), WHOLE] | None = Field(
        None,
        description="the same seed gives the same texts; null: one is drawn and reported",
    )

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.max_length is not None and self.min_length > self.max_length:
            raise ValueError(f"min_length must be at most max_length ({self.max_length})")
        return self


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[FieldProblem]:
    """Every broken rule of a pydantic error, in our words."""
    return [_problem(dict(item), model) for item in error.errors(include_url=False)]


def _problem(item: dict[str, Any], model: type[BaseModel]) -> FieldProblem:
    path = [part for part in item["loc"] if not str(part).startswith("function")]
    field = ".".join(str(part) for part in path)
    value = shown(item.get("input"))
    if item["type"] == "value_error" and not field:  # a rule between fields: it names them
        field, _, rule = str(item["ctx"]["error"]).partition(" ")
        return FieldProblem(field, rule, shown(dict(item["input"]).get(field)))
    return FieldProblem(field or "body", _rule(item, model, path), value)


def shown(value: Any) -> str:
    """A value as an error shows it: its repr, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of thousands of digits
        return "a number of too many digits"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


def _rule(item: dict[str, Any], model: type[BaseModel], path: list[Any]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return f"must be {_bounds(model, path, context)}"
    if kind == "extra_forbidden":
        owner = _owner(model, path)
        return f"is not a known field; the known ones are {', '.join(sorted(owner.model_fields))}"
    if kind in ("string_too_long", "too_long"):
        return f"must have at most {context['max_length']} {_unit(kind)}"
    if kind in ("string_too_short", "too_short"):
        least = context["min_length"]
        return "must not be empty" if least == 1 else f"must have at least {least} {_unit(kind)}"
    if kind == "literal_error":
        return f"must be one of {context['expected']}"
    if kind == "string_pattern_mismatch" and MODEL_NAME_PATTERN in context["pattern"]:
        return MODEL_NAME_RULE
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
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_unicode": "must be valid Unicode",
}


def _unit(kind: str) -> str:
    return "characters" if kind.startswith("string") else "items"


def _owner(model: type[BaseModel], path: list[Any]) -> type[BaseModel]:
    """The model in which the last part of `path` is, or would be, a field."""
    for part in path[:-1]:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return model


def _constraints(field: FieldInfo) -> list[Any]:
    """The constraints written at a field, or inside it where it may also be null."""
    inner = [
        rule
        for part in get_args(field.annotation)
        for info in getattr(part, "__metadata__", ())
        if isinstance(info, FieldInfo)
        for rule in info.metadata
    ]
    return [*field.metadata, *inner]


def _bounds(model: type[BaseModel], path: list[Any], context: dict[str, Any]) -> str:
    """ "from 0 to 10", from the field's own annotations."""
    names = [part for part in path if isinstance(part, str)]
    field = _owner(model, names).model_fields.get(names[-1]) if names else None
    low: tuple[str, Any] | None = None
    high: tuple[str, Any] | None = None
    for rule in _constraints(field) if field else ():
        match rule:
            case annotated_types.Ge(bound):
                low = ("from", bound)
            case annotated_types.Gt(bound):
                low = ("more than", bound)
            case annotated_types.Le(bound):
                high = ("to", bound)
            case annotated_types.Lt(bound):
                high = ("less than", bound)
    if low and high:
        joint = " " if low[0] == "from" and high[0] == "to" else " and "
        up_to = "up to" if joint == " and " and high[0] == "to" else high[0]
        return f"{low[0]} {low[1]}{joint}{up_to} {high[1]}"
    if low:
        return f"{'at least' if low[0] == 'from' else low[0]} {low[1]}"
    return ", ".join(f"{name} {bound}" for name, bound in context.items())


@dataclass(frozen=True)
class ValueKind:
    """What one value of a field is: its type, its choices where it has some, and whether the
    field takes several.
    """

    type: type
    choices: tuple[str, ...] = ()
    several: bool = False


def kind_of_value(field: FieldInfo) -> ValueKind:
    """What a field takes, for those who read it from a line of text."""
    annotation: Any = field.annotation
    if get_origin(annotation) is Literal:
        return ValueKind(str, get_args(annotation))
    inner = [part for part in get_args(annotation) if part not in (type(None), ...)]
    kind = inner[0] if inner else annotation
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return ValueKind(kind, several=get_origin(annotation) is tuple)
