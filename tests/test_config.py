"""Every bound: written once, so validation, schema and message say the same."""

import fractions
import math
import re
import warnings
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.schemas import json_schema
from charrnn.config import (
    LARGEST_RANDOM_SEED,
    MODEL_NAME_PATTERN,
    CorpusConfig,
    GenerationConfig,
    ModelConfig,
    NetworkConfig,
    TrainConfig,
)
from charrnn.errors import CharRNNError, ConfigError, shown
from charrnn.recipe import Recipe
from charrnn.settings import Settings, kind_of_value

seeded = settings(deadline=None, derandomize=True, database=None)
MODELS = (NetworkConfig, ModelConfig, CorpusConfig, TrainConfig, GenerationConfig)
NEEDED = {ModelConfig: {"vocab_size": 5}}


@dataclass(frozen=True)
class FieldOf:
    """A field of a model, and what the model's JSON schema says of it."""

    model: type[Settings]
    name: str
    schema: dict[str, Any]
    nullable: bool

    def set(self, value):
        return self.model.checked({**NEEDED.get(self.model, {}), self.name: value})

    def got(self, value):
        """What the field holds once set, which must survive a second check."""
        made = self.set(value)
        assert type(made).checked(made.values()) == made
        return getattr(made, self.name)

    def refused(self, value):
        """The rule that it breaks."""
        with pytest.raises(ConfigError) as caught:
            self.set(value)
        (problem,) = caught.value.problems
        assert problem.field.split(".")[0] == self.name
        assert str(caught.value) == f"{problem.field} {problem.rule}, got {problem.value}"
        return problem.rule


def fields():
    for model in MODELS:
        for name, schema in json_schema(model)["properties"].items():
            parts = schema.get("anyOf", [schema])
            (kept,) = [part for part in parts if part.get("type") != "null"]
            described = {**{k: v for k, v in schema.items() if k != "anyOf"}, **kept}
            yield FieldOf(model, name, described, len(parts) > 1)


FIELDS = list(fields())
NUMBERS = [f for f in FIELDS if f.schema["type"] in ("integer", "number")]
WHOLE = [f for f in NUMBERS if f.schema["type"] == "integer"]
CHOICES = [f for f in FIELDS if "enum" in f.schema]


def each(chosen):
    return pytest.mark.parametrize(
        "field", chosen, ids=lambda field: f"{field.model.__name__}.{field.name}"
    )


def rule_of(schema):
    """The message's words for a schema's bounds."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"must be from {low} to {high}"
    if above is not None and high is not None:
        return f"must be more than {above} and up to {high}"
    if low is not None and below is not None:
        return f"must be from {low} and less than {below}"
    if above is not None:
        return f"must be more than {above}"
    return f"must be at least {low}"


def beyond(schema):
    """Values just outside a schema's bounds, and far outside."""
    step = 1 if schema["type"] == "integer" else None
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    far = 10**30 if step else 1e300
    out = []
    if low is not None:
        out += [low - step if step else math.nextafter(low, -math.inf), -far]
    if above is not None:
        out += [above, -far]
    if high is not None:
        out += [high + step if step else math.nextafter(high, math.inf), far]
    if below is not None:
        out += [below, far]
    return out


def edges(schema):
    """The outermost values within a schema's bounds."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    inside = [low, high]
    if above is not None:
        inside.append(math.nextafter(above, math.inf))
    if below is not None:
        inside.append(math.nextafter(below, -math.inf))
    return [value for value in inside if value is not None]


# --- Every bound ----------------------------------------------------------------------------------


def test_every_number_has_a_lower_bound_and_all_but_clipping_an_upper_one():
    for field in NUMBERS:
        assert {"minimum", "exclusiveMinimum"} & field.schema.keys(), field.name
        if field.name not in ("clip_norm", "clip_value"):
            assert {"maximum", "exclusiveMaximum"} & field.schema.keys(), field.name


@each(FIELDS)
def test_every_field_says_what_it_means_and_has_a_default_that_is_allowed(field):
    assert field.schema["description"]
    info = field.model.fields()[field.name]
    if field.name != "vocab_size":
        assert field.got(info.default) == info.default
    kind = kind_of_value(info)
    json_type = {int: "integer", float: "number", str: "string", bool: "boolean"}[kind.type]
    assert field.schema["type"] == ("array" if kind.several else json_type)
    assert kind.choices == tuple(field.schema.get("enum", ()))


@each(NUMBERS)
def test_a_number_is_accepted_at_its_bounds(field):
    for value in edges(field.schema):
        if field.name == "min_length":
            assert GenerationConfig.checked({"min_length": value}).min_length == value
        assert field.got(value) == value


@each(NUMBERS)
def test_a_number_beyond_its_bounds_is_refused_with_both_of_them(field):
    for value in beyond(field.schema):
        assert field.refused(value) == rule_of(field.schema)


@each(NUMBERS)
def test_what_only_looks_like_a_number_is_refused(field):
    kind = "must be a whole number" if field in WHOLE else "must be a number"
    likenesses = [True, False, "1", "", b"1", [1], (1,), {"a": 1}, 1 + 0j, Decimal(1), object]
    likenesses += [np.True_, np.array(1), np.array([1]), np.array(0.5), np.complex128(1)]
    likenesses += [] if field.nullable else [None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in likenesses:
            assert field.refused(value) == kind, value


@each(NUMBERS)
def test_what_is_not_finite_is_refused(field):
    for value in (math.nan, math.inf, -math.inf):
        for form in (float, np.float64, np.float32):
            rule = field.refused(form(value))
            assert rule == (
                "must be a whole number" if field in WHOLE else "must be a finite number"
            )


@each(NUMBERS)
def test_numbers_too_large_to_write_or_to_hold_are_refused(field):
    for value in (10**400, -(10**400), 10**5000, fractions.Fraction(10**400), -(10**5000)):
        assert field.refused(value).startswith("must be ")


@each(WHOLE)
def test_a_whole_number_may_come_as_a_float_or_from_numpy_and_becomes_an_int(field):
    one = edges(field.schema)[0]
    for form in (float, np.int64, np.int32, np.float32, np.float64, fractions.Fraction):
        value = field.got(form(one))
        assert value == one
        assert type(value) is int
    for value in (one + 0.5, np.float32(one + 0.5), fractions.Fraction(2 * one + 1, 2)):
        assert field.refused(value) == "must be a whole number"


@each([f for f in NUMBERS if f not in WHOLE])
def test_a_number_may_come_as_an_int_or_from_numpy_and_becomes_a_float(field):
    top = field.schema.get("maximum", field.schema.get("exclusiveMaximum", 1))
    for value in (np.float32(top / 2), np.float64(top / 2), fractions.Fraction(top) / 2):
        assert type(field.got(value)) is float
    if field.schema.get("maximum", 1) >= 1 and "exclusiveMaximum" not in field.schema:
        assert field.got(1) == field.got(np.int64(1)) == 1.0
        assert type(field.got(1)) is float


@each(CHOICES)
def test_a_choice_is_one_of_those_in_the_schema_to_the_letter(field):
    for choice in field.schema["enum"]:
        assert field.got(choice) == choice
    for value in ("other", "", field.schema["enum"][0].upper(), f"{field.schema['enum'][0]} "):
        rule = field.refused(value)
        assert rule.startswith("must be one of ")
        assert all(repr(choice) in rule for choice in field.schema["enum"])
    for value in (None, 0, True, ["adam"], b"adam"):
        assert field.refused(value).startswith("must be one of ")


@each([f for f in FIELDS if f.schema["type"] == "boolean"])
def test_true_and_false_are_the_only_truths(field):
    assert field.got(True) is True
    assert field.got(False) is False
    for value in (0, 1, "true", "", np.True_, 1.0, *([] if field.nullable else [None])):
        assert field.refused(value) == "must be true or false"


@each(FIELDS)
def test_null_is_accepted_where_the_schema_says_so_and_nowhere_else(field):
    if field.nullable:
        assert field.got(None) is None
    else:
        assert field.refused(None).startswith("must be ")


def test_text_is_text_of_the_length_that_the_schema_gives():
    (salt,) = [field for field in FIELDS if field.name == "salt"]
    longest = salt.schema["maxLength"]
    assert salt.got("é" * longest) == "é" * longest
    assert salt.refused("x" * (longest + 1)) == f"must have at most {longest} characters"
    assert salt.refused("\ud800") == "must be valid Unicode"
    for value in (5, None, b"x", ["x"]):
        assert salt.refused(value) == "must be text"


def test_stop_strings_are_a_list_of_texts_that_are_not_empty():
    (stop,) = [field for field in FIELDS if field.name == "stop"]
    most, longest = stop.schema["maxItems"], stop.schema["items"]["maxLength"]
    assert stop.got(["a", "b"]) == stop.got(("a", "b")) == ("a", "b")
    assert stop.got(["x" * longest] * most) == ("x" * longest,) * most
    assert stop.refused(["x"] * (most + 1)) == f"must have at most {most} items"
    assert stop.refused(["x" * (longest + 1)]) == f"must have at most {longest} characters"
    assert stop.refused([""]) == "must not be empty"
    for value in ("abc", b"abc", None, 5, {"a": 1}):
        assert stop.refused(value) == "must be a list"
    for value in (5, None, True, ["a"]):
        assert stop.refused(["a", value]) == "must be text"
    assert stop.refused(["\ud800"]) == "must be valid Unicode"
    with pytest.raises(ConfigError, match=r"stop\.1 must be text, got 5"):
        stop.set(["a", 5])


# --- Several fields -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "key", ["temprature", "Count", "lr", "a.b", "ö", "hidden-size", "model_config", "functional"]
)
def test_an_unknown_key_is_told_the_known_ones(model, key):
    with pytest.raises(ConfigError) as caught:
        model.checked({**NEEDED.get(model, {}), key: 5})
    (problem,) = caught.value.problems
    assert (problem.field, problem.value) == (key, "5")
    assert problem.rule == "is not a known field; the known ones are " + ", ".join(
        sorted(model.fields())
    )


@pytest.mark.parametrize("key", [1, None, ("count",), b"count", True])
def test_a_key_that_is_no_text_is_refused(key):
    with pytest.raises(ConfigError, match="is not a known field"):
        GenerationConfig.checked({key: 1})


def test_every_wrong_field_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        GenerationConfig.checked({"count": 0, "temperature": -1, "top_q": 1}, "a.toml")
    assert str(caught.value).startswith(
        "a.toml: count must be from 1 to 100000, got 0; temperature must be from 0 to 10, got -1; "
        "top_q is not a known field; the known ones are avoid, clean, "
    )
    assert [problem.field for problem in caught.value.problems] == ["count", "temperature", "top_q"]
    assert isinstance(caught.value, CharRNNError)
    assert isinstance(caught.value, ValueError)


def test_a_missing_field_is_named():
    with pytest.raises(ConfigError, match="vocab_size is missing"):
        ModelConfig.checked({})


def test_lengths_must_fit_each_other():
    assert GenerationConfig.checked({"min_length": 5, "max_length": 5}).min_length == 5
    assert GenerationConfig.checked({"min_length": 500}).max_length is None
    with pytest.raises(ConfigError) as caught:
        GenerationConfig.checked({"min_length": 6, "max_length": 5})
    assert str(caught.value) == "min_length must be at most max_length (5), got 6"


def test_a_problem_within_a_part_is_named_by_its_path():
    part = {"name": "a", "data": ["a.txt"], "training": {"steps": 0, "epochs": 3}}
    with pytest.raises(ConfigError) as caught:
        Recipe.checked(part)
    assert {problem.field for problem in caught.value.problems} == {
        "training.steps",
        "training.epochs",
    }
    assert "training.steps must be from 1 to 1000000000, got 0" in str(caught.value)
    assert "learning_rate" in str(caught.value)  # the known fields are those of the part


def test_a_changed_copy_is_checked_and_the_first_stays():
    config = GenerationConfig.checked({"count": 3})
    assert config.changed(temperature=0.5).said() == {
        "count": 3,
        "temperature": 0.5,
    }
    with pytest.raises(ConfigError, match="count must be from"):
        config.changed(count=0)
    with pytest.raises(ConfigError, match="is not a known field"):
        config.changed(cuont=1)
    assert config.count == 3
    with pytest.raises(ValueError, match="frozen"):
        config.count = 5


# --- Messages -------------------------------------------------------------------------------------


def test_a_value_is_shown_short():
    assert shown("\n") == r"'\n'"
    assert shown("x" * 78) == f"'{'x' * 78}'"
    assert len(shown("x" * 10_000)) < 100
    assert "10002 characters" in shown("x" * 10_000)
    assert shown(10**5000) == shown([10**5000]) == "a number of too many digits"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


@seeded
@given(
    st.sampled_from(MODELS),
    st.dictionaries(
        st.sampled_from([f.name for f in FIELDS]) | st.text(max_size=5), JSON, max_size=5
    ),
)
def test_whatever_is_given_is_checked_or_refused_with_words(model, values):
    try:
        made = model.checked(values)
    except ConfigError as error:
        problems = error.problems
    else:
        assert model.checked(made.values()) == made
        return
    assert problems
    assert all(problem.field and re.match(r"must |is ", problem.rule) for problem in problems)


@pytest.mark.parametrize("name", ["a", "0", "t-rex", "a.b_c", "a" * 64])
def test_the_pattern_of_names_takes_what_a_folder_may_be_called(name):
    assert re.fullmatch(MODEL_NAME_PATTERN, name)


def test_the_largest_random_seed_is_one_that_every_json_reader_keeps():
    assert float(LARGEST_RANDOM_SEED) == LARGEST_RANDOM_SEED
    assert float(LARGEST_RANDOM_SEED + 1) == float(LARGEST_RANDOM_SEED + 2)
