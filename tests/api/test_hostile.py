"""Bodies that mean no good: seeded mutations of valid ones, each answered in one shape."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.problems import read_problem

ROUNDS = 4
A_ROUND = 500

VALID: list[dict[str, Any]] = [
    {},
    {"seed": "Tyr", "count": 5},
    {"seed": 7, "temperature": 0.8, "top_k": 3, "top_p": 0.9},
    {"seed": "Tyrannosaurus", "min_length": 3, "max_length": 20, "stop": ["x", "yz"]},
    {"model": "elves", "version": "0ddba11", "random_seed": 11, "max_length": 2000},
]
FIELDS = [
    *("model", "version", "seed", "count", "temperature", "top_k", "top_p", "min_length"),
    *("max_length", "stop", "random_seed", "stream", "", "__class__", "self", "constructor"),
]
# JSON texts, not values: some have no value in Python.
VALUES = [
    *("null", "true", "false", "0", "-0", "-1", "1", "1.5", "42.0", "1e0", "1e400", "-1e400"),
    *("1e-400", "9007199254740993", "9" * 400, "0." + "3" * 5000, "1e" + "9" * 100),
    *('""', '" "', '"0"', '"null"', '"Tyr"', '"../../x"', '"\\u0000"', '"\\ud83d\\ude00"'),
    *('"\u202e\ufeff\u0301"', '"\\\\"', '"%s%n{0}"', '"<script>"', '"' + "a" * 3000 + '"'),
    *('"' + "e\u0301" * 3000 + '"', "[]", "{}", "[[]]", '["a"]', "[1]", "[null]", '[""]'),
    *("[" + ",".join(['"s"'] * 500) + "]", '{"a": {"b": {}}}', '["a", ["b", ["c"]]]'),
]
BROKEN = [
    *("NaN", "Infinity", "-Infinity", "-" + "9" * 5000, '"\\ud800"', '"\\udfff\\ud800"', '"\\"'),
    *("'x'", "[" * 50 + "]" * 50, "[" * 3000, '{"a":' * 3000, "//", "0x10", "01", "+1", ".5"),
    *("1.", "--1", '"\\x41"', '"\t"', '"\x00"', "undefined", "", "\ud800", '"\ud800"'),
]


def test_hostile_requests_are_more_than_a_thousand():
    assert ROUNDS * A_ROUND >= 1000


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_no_hostile_body_gets_anything_but_an_answer_or_a_problem(client, seed):
    seen: Counter[int] = Counter()
    for body in hostile_bodies(random.Random(seed), A_ROUND):
        answer = client.post("/generate", data=body)
        seen[answer.status_code] += 1
        if answer.status_code != 200:
            assert answer.status_code in (400, 404, 413, 422), body[:500]
            read_problem(answer.status_code, answer.content_type, answer.data)
    assert min(seen[200], seen[400], seen[422]) >= 10, "all kinds of answers were met"


@pytest.mark.parametrize("field", FIELDS)
def test_every_odd_value_of_a_field_gets_an_answer_or_a_problem(client, field):
    for value in VALUES + BROKEN:
        body = f"{{{json.dumps(field)}: {value}}}".encode("utf-8", "surrogatepass")
        answer = client.post("/generate", data=body)
        if answer.status_code != 200:
            assert answer.status_code in (400, 404, 422), value[:100]
            read_problem(answer.status_code, answer.content_type, answer.data)


def hostile_bodies(rng: random.Random, count: int) -> Iterator[bytes]:
    mutations = [odd_field, truncated, flipped, spliced, recoded, wrapped, huge, noise]
    for _ in range(count):
        body = json.dumps(rng.choice(VALID)).encode()
        for mutation in rng.choices(
            mutations, weights=[8, 2, 3, 2, 1, 1, 0.3, 1], k=rng.choice([1, 1, 1, 2])
        ):
            body = mutation(body, rng)
        yield body


def odd_field(body: bytes, rng: random.Random) -> bytes:
    value = rng.choice(rng.choice([VALUES, VALUES, VALUES, BROKEN]))
    field = f"{json.dumps(rng.choice(FIELDS))}: {value}".encode("utf-8", "surrogatepass")
    comma = b", " if b":" in body else b""
    return body[:1] + field + comma + body[1:]


def truncated(body: bytes, rng: random.Random) -> bytes:
    return body[: rng.randint(0, len(body))]


def flipped(body: bytes, rng: random.Random) -> bytes:
    flips = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        if flips:
            flips[rng.randrange(len(flips))] ^= 1 << rng.randrange(8)
    return bytes(flips)


def spliced(body: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randint(0, len(body)) for _ in range(2))
    return body[:start] + body[end:] + body[start:end] * rng.randint(0, 3)


def recoded(body: bytes, rng: random.Random) -> bytes:
    coding = rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp037"])
    return body.decode("utf-8", "replace").encode(coding)


def wrapped(body: bytes, rng: random.Random) -> bytes:
    depth = rng.choice([1, 5, 500, 5000])
    return b"[" * depth + body + b"]" * depth


def huge(body: bytes, rng: random.Random) -> bytes:
    return body + b" " * rng.choice([60_000, 70_000, 1_000_000])


def noise(body: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(1, 200))
