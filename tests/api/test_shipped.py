"""What a fresh clone serves, with no setting: the weights that are committed."""

import pytest
from flask.testing import FlaskClient

import charrnn
from api import create_app
from api.settings import ServiceSettings


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.delenv("CHARRNN_WEIGHTS", raising=False)
    return create_app(ServiceSettings(), charrnn.Store()).test_client()


def test_a_fresh_clone_dreams_up_dinosaurs(shipped):
    answer = shipped.post("/generate", json={"seed": "Tyr", "count": 5, "random_seed": 7})
    assert answer.status_code == 200, answer.text
    assert answer.json["model"] == "dinosaurs"
    assert [sample["text"][:3] for sample in answer.json["samples"]] == ["Tyr"] * 5
    assert {sample["finish_reason"] for sample in answer.json["samples"]} <= {"end", "length"}
    assert all(sample["logprob"] < 0 for sample in answer.json["samples"])
    assert {type(sample["novel"]) for sample in answer.json["samples"]} == {bool}


def test_what_is_said_of_the_shipped_dinosaurs_is_what_the_library_says(shipped):
    since = charrnn.Store().current("dinosaurs").promoted_at
    card = charrnn.load("dinosaurs").card() | {"promoted_at": since}
    assert shipped.get("/models/dinosaurs").json == card


def test_the_service_gives_the_texts_that_the_library_gives(shipped):
    asked = {"count": 3, "temperature": 0.8, "random_seed": 7, "max_length": 20}
    answer = shipped.post("/generate", json={"seed": "Tyr", **asked})
    samples = charrnn.load("dinosaurs").generate("Tyr", **asked)
    assert [sample["text"] for sample in answer.json["samples"]] == [s.text for s in samples]
    assert [sample["logprob"] for sample in answer.json["samples"]] == [s.logprob for s in samples]
