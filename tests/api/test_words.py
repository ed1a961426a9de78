"""The service over a model of words."""

import json

import pytest

from api import create_app
from api.settings import ServiceSettings
from charrnn.vocabulary import UNKNOWN
from charrnn.weights import to_bytes
from charrnn.wordlist import WordVocabulary
from tests.api.problems import read_problem
from tests.api.test_hostile import BROKEN, VALUES
from tests.models import frozen

SENTENCES = ["Then Anna saw the cat.", "The cat, my dog and Anna left!", 'So "the dog" saw us.']


@pytest.fixture
def words(own_weights):
    vocabulary = WordVocabulary.of(SENTENCES, largest=50, fewest=1)
    store = own_weights.store
    model = frozen("text", vocabulary, end_logit=-2.0)
    store.promote("story", store.add("story", to_bytes(model)), reason="a test")
    return create_app(ServiceSettings(), store).test_client()


def post(client, **body):
    return client.post("/generate", data=json.dumps({"model": "story", **body}))


def test_a_seed_of_words_is_gone_on_from(words):
    answer = post(words, seed="Then Zarquon", count=3, max_length=12, random_seed=1).get_json()
    assert answer["seed"] == "Then Zarquon"
    for sample in answer["samples"]:
        assert sample["text"].startswith("Then Zarquon")
        assert UNKNOWN not in sample["text"]
        assert sample["novel"] is None


def test_a_stream_adds_up_to_the_answer(words):
    body = {"seed": "Anna saw", "count": 2, "max_length": 30, "random_seed": 4}
    whole = [sample["text"] for sample in post(words, **body).get_json()["samples"]]
    texts = ["", ""]
    for event in post(words, **body, stream=True).get_data(as_text=True).split("\n\n"):
        if event.startswith("data: "):
            piece = json.loads(event[6:])
            texts[piece["index"]] += piece["text"]
    assert texts == whole


def test_a_length_is_of_words(words):
    answer = post(words, seed="one two three", max_length=2)
    problem = read_problem(answer.status_code, answer.content_type, answer.data)
    assert answer.status_code == 422
    assert "(3)" in json.dumps(problem)
    assert post(words, seed="word " * 300, count=2).status_code == 200


def test_the_card_says_what_a_symbol_is(words):
    cards = {card["name"]: card for card in words.get("/models").get_json()["models"]}
    assert cards["story"]["unit"] == "word"
    assert cards["story"]["known_characters"] == ""
    assert cards["dinosaurs"]["unit"] == "character"


@pytest.mark.parametrize("field", ["seed", "stop", "max_length", "min_length", "top_k", "count"])
def test_every_odd_value_gets_an_answer_or_a_problem(words, field):
    for value in VALUES + BROKEN:
        body = f'{{"model": "story", {json.dumps(field)}: {value}}}'
        answer = words.post("/generate", data=body.encode("utf-8", "surrogatepass"))
        if answer.status_code != 200:
            assert answer.status_code in (400, 404, 422), value[:100]
            read_problem(answer.status_code, answer.content_type, answer.data)
