import json

import pytest

from api.errors import RequestError
from api.schemas import EXAMPLE, GenerateRequest, parse_body, request_model, request_schema
from api.settings import ServiceSettings
from charrnn.config import LARGEST_RANDOM_SEED, GenerationConfig
from charrnn.errors import ConfigError

SETTINGS = ServiceSettings(max_count=100, max_length=2000)
SCHEMA = request_model(SETTINGS)


def refusal(values):
    with pytest.raises(ConfigError) as caught:
        SCHEMA.checked(values)
    return str(caught.value)


@pytest.mark.parametrize("body", [b"", b"  \r\n\t ", b"{}", b" {} "])
def test_no_body_means_the_empty_object(body):
    assert parse_body(body) == {}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, 'the body must be JSON such as {"seed": "Tyr", "count": 5}; at line 1, colu'),
        (b"seed=Tyr", 400, "the body must be JSON such as"),
        (b'{"count": 1,}', 400, "the body must be JSON such as"),
        (b"{} {}", 400, "the body must be JSON such as"),
        (b'{"seed": "a\x00b"}', 400, "the body must be JSON such as"),
        (b"\x00", 400, "the body must be JSON such as"),
        (b'{"seed": "\xff"}', 400, "the body must be UTF-8; byte 10 is not"),
        (b'{"seed": "\xed\xa0\x80"}', 400, "the body must be UTF-8; byte 10 is not"),
        ('{"count": 1}'.encode("utf-16"), 400, "the body must be UTF-8; byte 0 is not"),
        ('{"count": 1}'.encode("utf-16-le"), 400, "the body must be JSON such as"),
        (b"\xef\xbb\xbf{}", 400, "the body must be UTF-8 without a byte order mark"),
        (b'{"temperature": NaN}', 400, "the body has NaN, which is not JSON"),
        (b'{"temperature": -Infinity}', 400, "the body has -Infinity, which is not JSON"),
        (b'{"count": 1, "count": 2}', 400, "the body gives 'count' more than once"),
        (b'{"a": {"\\ud800": 1, "\\ud800": 2}}', 400, "the body gives '\\ud800' more than once"),
        (
            b'{"stop": [' + b"1, " * 4096 + b"1]}",
            400,
            "the body's lists must have at most 4096 items, got one of 4097",
        ),
        (
            b"{" + b", ".join(b'"%d": 1' % n for n in range(257)) + b"}",
            400,
            "the body's objects must have at most 256 items, got one of 257",
        ),
        (b'{"seed": "Tyr\\ud800"}', 400, "the body has half a surrogate pair in 'Tyr\\ud800'"),
        (b'{"a": {"\\udfff": 1}}', 400, "the body has half a surrogate pair in '\\udfff'"),
        (b"[" * 10_000, 400, "the body must be nested at most 8"),
        (b"[" * 10_000 + b"]" * 10_000, 400, "the body must be nested at most 8"),
        (
            b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
            400,
            "the body must be nested at most 8",
        ),
        (
            b'{"stop": ' + b"[" * 100 + b"]" * 100 + b"}",
            400,
            "the body must be nested at most 8",
        ),
        (
            b'{"count": ' + b"9" * 10_000 + b"}",
            400,
            "the body's numbers must have at most 1000 digits",
        ),
        (b"[]", 422, "body must be an object, got a list"),
        (b'"Tyr"', 422, "body must be an object, got text"),
        (b"null", 422, "body must be an object, got null"),
        (b"true", 422, "body must be an object, got true or false"),
        (b"7", 422, "body must be an object, got a number"),
    ],
)
def test_a_body_that_is_no_strict_json_object_is_refused(body, status, message):
    with pytest.raises(RequestError) as caught:
        parse_body(body)
    assert caught.value.status == status
    assert caught.value.detail.startswith(message)


def test_the_example_is_a_valid_request():
    assert SCHEMA.checked(json.loads(EXAMPLE)).count == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 500}, "count must be from 1 to 100, got 500"),
        ({"count": 500_000}, "count must be from 1 to 100, got 500000"),
        ({"count": 0}, "count must be from 1 to 100, got 0"),
        ({"count": False}, "count must be a whole number, got False"),
        ({"count": "1"}, "count must be a whole number, got '1'"),
        ({"count": 1.5}, "count must be a whole number, got 1.5"),
        ({"count": 1e400}, "count must be a whole number, got inf"),
        ({"max_length": 2001}, "max_length must be from 1 to 2000, got 2001"),
        ({"max_length": 10**9}, "max_length must be from 1 to 2000, got 1000000000"),
        ({"min_length": 2001}, "min_length must be from 0 to 2000, got 2001"),
        ({"min_length": 5, "max_length": 3}, "min_length must be at most max_length (3), got 5"),
        ({"temperature": -1}, "temperature must be from 0 to 10, got -1"),
        ({"temperature": False}, "temperature must be a number, got False"),
        ({"temperature": 1e400}, "temperature must be a finite number, got inf"),
        ({"temperature": 10**400}, "temperature must be a finite number, got 1000"),
        ({"top_p": 0}, "top_p must be more than 0 and up to 1, got 0"),
        ({"stop": "x"}, "stop must be a list, got 'x'"),
        ({"stop": [""]}, "stop.0 must not be empty, got ''"),
        ({"stop": ["x", 1]}, "stop.1 must be text, got 1"),
        ({"stop": ["x", None]}, "stop.1 must be text, got None"),
        ({"stop": ["\ud800"]}, "stop.0 must be valid Unicode"),
        ({"model": 7}, "model must be text, got 7"),
        ({"version": "xyz"}, "version must be 6 to 64 hexadecimal digits, got 'xyz'"),
        ({"version": "abc12"}, "version must be 6 to 64 hexadecimal digits, got 'abc12'"),
        ({"seed": 1.5}, "seed must be text, or a whole number from 0 to 9007199254740991"),
        ({"seed": True}, "seed must be text, or a whole number from 0 to"),
        ({"seed": -1}, "seed must be text, or a whole number from 0 to"),
        ({"seed": ["a"]}, "seed must be text, or a whole number from 0 to"),
        ({"seed": 7, "random_seed": 7}, "random_seed must be left out where seed is a number, g"),
        ({"random_seed": 2**53}, "random_seed must be from 0 to 9007199254740991, got"),
        ({"colour": 1}, "colour is not a known field; the known ones are avoid, clean, cont"),
        ({"colour": None}, "colour is not a known field"),
    ],
)
def test_a_wrong_field_is_named_with_its_rule_and_value(values, message):
    assert refusal(values).startswith(message)


def test_every_wrong_field_is_named_at_once():
    message = refusal({"count": 500, "temperature": 99, "colour": "red"})
    assert message.count("must be from") == 2
    assert "colour is not a known field" in message


@pytest.mark.parametrize("field", sorted(GenerateRequest.fields()))
def test_null_is_as_if_the_field_were_left_out(field):
    request = SCHEMA.checked({field: None})
    assert request == SCHEMA.checked({})
    assert not request.said()


def test_a_whole_number_written_with_a_point_is_one():
    assert SCHEMA.checked({"count": 42.0, "seed": 7.0}).generation() == GenerationConfig(
        count=42, random_seed=7
    )


def test_a_number_as_seed_is_the_random_seed():
    request = SCHEMA.checked({"seed": LARGEST_RANDOM_SEED})
    assert request.seed_text == ""
    assert request.generation().random_seed == LARGEST_RANDOM_SEED


def test_text_of_digits_stays_a_seed_text():
    request = SCHEMA.checked({"seed": "7"})
    assert (request.seed_text, request.generation().random_seed) == ("7", None)


def test_what_the_library_gets_is_what_it_would_have_checked_itself():
    values = {"count": 3, "temperature": 0.5, "top_k": 2, "stop": ["a"], "random_seed": 1}
    ours = SCHEMA.checked({**values, "seed": "x", "model": "m"}).generation()
    assert type(ours) is GenerationConfig
    assert ours == GenerationConfig.checked(values)
    assert set(ours.said()) == set(values)


def test_every_setting_of_the_library_can_be_asked_for():
    ours = {"model", "version", "seed", "stream"}
    assert set(SCHEMA.fields()) == {*GenerationConfig.fields(), *ours}


def test_the_schema_shows_the_bounds_that_are_checked():
    properties = request_schema(SCHEMA)["properties"]
    integers = {
        name: next(kind for kind in field["anyOf"] if kind["type"] == "integer")
        for name, field in properties.items()
        if name in ("count", "min_length", "max_length")
    }
    assert {name: (kind["minimum"], kind["maximum"]) for name, kind in integers.items()} == {
        "count": (1, 100),
        "min_length": (0, 2000),
        "max_length": (1, 2000),
    }


def test_the_schema_says_that_every_field_may_be_null():
    schema = request_schema(SCHEMA)
    assert "required" not in schema
    assert schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        assert {"type": "null"} in field["anyOf"], name
        assert field["description"], name
