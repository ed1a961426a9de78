"""POST /beam and POST /score, and the conditions of /generate, over HTTP."""

import json

import pytest

from api import create_app
from api.settings import ServiceSettings
from tests.api.documented import Client


@pytest.fixture(scope="module")
def client(weights):
    app = create_app(ServiceSettings(max_characters=2000), weights.store)
    app.test_client_class = Client
    return app.test_client()


def test_the_most_probable_names_come_in_falling_order(client):
    answer = client.post("/beam", json={"seed": "a", "count": 4, "max_length": 3}).json
    chances = [sample["logprob"] for sample in answer["samples"]]
    assert chances == sorted(chances, reverse=True)
    assert len(chances) == answer["requested"] == 4
    assert answer["seed"] == "A"


def test_scores_come_in_the_order_of_the_texts(client):
    answer = client.post("/score", json={"texts": ["abc", "z"], "expected": 2}).json
    assert [score["text"] for score in answer["scores"]] == ["Abc", "Z"]
    assert [len(score["symbols"]) for score in answer["scores"]] == [4, 2]
    assert all(len(each["expected"]) == 2 for each in answer["scores"][0]["symbols"])


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/score", {}, "texts is missing, got {}"),
        ("/score", {"texts": []}, "texts must not be empty, got []"),
        ("/score", {"texts": ["a", "é"]}, "texts.1 must have only characters that the model"),
        ("/score", {"texts": ["a" * 1500, "b" * 1500]}, "texts must have at most 2000 characters"),
        ("/score", {"texts": ["a"], "expected": 21}, "expected must be from 0 to 20, got 21"),
        ("/beam", {"temperature": 1}, "temperature is not a known field"),
        ("/beam", {"model": "prose"}, "model has no most probable texts"),
        ("/beam", {"ends_with": "ab", "exclude_letters": "b"}, "ends_with can't be met together"),
        ("/generate", {"pattern": "a", "min_length": 2}, "pattern can't be met together with min"),
        ("/generate", {"model": "prose", "contains": "a"}, "contains must be left out: this model"),
        ("/generate", {"ends_with": "a", "stop": ["b"], "temperature": 0}, "stop must be left out"),
        ("/generate", {"avoid": ["x"] * 257}, "avoid must have at most 256 items"),
        ("/generate", {"": 1}, '"" is not a known field'),
    ],
)
def test_what_can_not_be_answered_is_said(client, path, body, message):
    answer = client.post(path, json=body)
    assert answer.status_code in (400, 422)
    assert message in answer.json["detail"]


def test_a_stream_of_a_shape_is_what_the_whole_answer_has(client):
    body = {"count": 4, "ends_with": "q", "max_length": 8, "random_seed": 3}
    whole = client.post("/generate", json=body).json
    events = client.post("/generate", json={**body, "stream": True}).get_data(as_text=True)
    pieces = [
        json.loads(line.removeprefix("data: "))
        for line in events.splitlines()
        if line.startswith("data: ")
    ]
    assert [piece["text"] for piece in pieces[:-1]] == [each["text"] for each in whole["samples"]]
    assert all(each["text"].endswith("q") for each in whole["samples"])
    assert whole["shortfall"] is None


def test_temperature_0_has_names_of_a_shape_whole_and_as_a_stream(client):
    body = {"count": 3, "ends_with": "q", "max_length": 4, "temperature": 0}
    whole = client.post("/generate", json=body).json
    names = [each["text"] for each in whole["samples"]]
    assert len(set(names)) == 3
    assert all(name.endswith("q") for name in names)
    assert whole["shortfall"] is None
    assert (
        client.post("/generate", json={**body, "random_seed": 7}).json["samples"]
        == (whole["samples"])
    )
    events = client.post("/generate", json={**body, "stream": True}).get_data(as_text=True)
    assert [f'"text": "{name}"' in events or f'"text":"{name}"' in events for name in names] == (
        [True] * 3
    )


def test_a_shortfall_is_an_answer_of_its_own(client):
    answer = client.post("/generate", json={"count": 3, "pattern": "ab", "novel": False}).json
    assert [sample["text"] for sample in answer["samples"]] == ["Ab"]
    assert answer["shortfall"].startswith("2 of 3 texts could not be found")


def test_the_operators_words_come_in_no_name(weights, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("*a*\n*e*\n")
    app = create_app(ServiceSettings(blocklist=str(path)), weights.store)
    app.test_client_class = Client
    body = {"count": 10, "max_length": 4, "random_seed": 1}
    texts = [
        each["text"] for each in app.test_client().post("/generate", json=body).json["samples"]
    ]
    assert len(texts) == 10
    assert not set("AaEe") & set("".join(texts))


def test_a_search_keeps_to_the_operators_limits_where_nothing_is_said(weights):
    settings = ServiceSettings(max_count=2, max_length=3)
    client = create_app(settings, weights.store).test_client()
    answer = client.post("/beam", json={"novel": False}).json
    assert len(answer["samples"]) == answer["requested"] == 2
    assert max(len(sample["text"]) for sample in answer["samples"]) <= 3


def test_a_rule_that_only_follows_from_another_is_not_told(client):
    answer = client.post("/score", json={"texts": [1]})
    assert [each["field"] for each in answer.json["errors"]] == ["texts.0"]
