import string
import threading

import pytest
from flask import Flask
from flask.testing import FlaskClient

import api.engine
import charrnn
from api import create_app
from api.engine import Engine
from api.settings import ServiceSettings
from api.turns import TURNS, Turns
from tests.api.problems import read_problem
from tests.api.tiny import DAMAGED

SOON = 60.0  # seconds


def test_the_answer_has_the_documented_shape(client, weights):
    body = {"seed": "Tyr", "count": 5, "temperature": 0.8, "max_length": 20, "random_seed": 7}
    answer = client.post("/generate", json=body)
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert list(answer.json) == [
        "model",
        "version",
        "seed",
        "random_seed",
        "samples",
        "requested",
        "characters",
        "shortfall",
    ]
    samples = answer.json.pop("samples")
    assert answer.json | {"samples": 5} == {
        "model": "dinosaurs",
        "version": weights.live[:12],
        "seed": "Tyr",
        "random_seed": 7,
        "samples": 5,
        "requested": 5,
        "characters": sum(len(sample["text"]) - 3 for sample in samples),
        "shortfall": None,
    }
    assert len(samples) == 5
    assert all(list(sample) == ["text", "logprob", "finish_reason", "novel"] for sample in samples)


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"seed": null, "model": null}'])
def test_no_body_asks_for_the_defaults(client, body):
    answer = client.post("/generate", data=body)
    assert answer.status_code == 200
    assert (answer.json["model"], answer.json["requested"]) == ("dinosaurs", 1)


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "application/x-www-form-urlencoded", "text/plain", "☃", "a/b; c"],
)
def test_a_body_is_json_whatever_its_content_type_says(client, content_type):
    answer = client.post("/generate", data=b'{"count": 3}', content_type=content_type)
    assert (answer.status_code, answer.json["requested"]) == (200, 3)


def test_the_same_random_seed_gives_the_same_bytes(client):
    body = {"random_seed": 11, "count": 3}
    first, second = (client.post("/generate", json=body).data for _ in range(2))
    assert first == second == client.post("/generate", json={"seed": 11, "count": 3}).data


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body must be JSON such as"),
        (b"[1]", 422, "body must be an object, got a list"),
        (b'{"count": 101}', 422, "count must be from 1 to 100, got 101"),
        (b'{"count": true}', 422, "count must be a whole number, got true"),
        (b'{"temperature": -1}', 422, "temperature must be from 0 to 10, got -1"),
        (b'{"model": "unicorns"}', 404, "there is no model 'unicorns'; the known ones are dino"),
        (b'{"model": "../../etc/passwd"}', 404, "there is no model '../../etc/passwd'; the kno"),
        (b'{"model": ""}', 404, "there is no model ''; the known ones are dinosaurs, elves, prose"),
        (b'{"version": "abcdef"}', 404, "model dinosaurs has no version 'abcdef', or several;"),
        (b'{"version": "BAD0BAD0"}', 410, "version bad0bad0 of model dinosaurs is damaged"),
        (b'{"seed": "T-r"}', 422, "seed: character '-' (U+002D) at position 1 is unknown to th"),
        (b'{"seed": "T\\u0000"}', 422, "seed: character '\\x00' (U+0000) at position 1 is unk"),
        (b'{"seed": "Tyrannosaurus", "max_length": 3}', 422, "max_length must be at least the s"),
        (
            b'{"count": 100, "max_length": 201}',
            422,
            "count times max_length must be at most 20000 characters, got 100 times 201",
        ),
        (
            b'{"count": 41, "model": "prose"}',
            422,
            "count times max_length must be at most 20000 characters, got 41 times 500 (no m",
        ),
        (
            b'{"seed": "' + b"a" * 2001 + b'"}',
            422,
            "seed must have at most 2000 characters, got 'aaaa",
        ),
    ],
)
def test_a_refusal_is_a_problem_that_says_what_is_wrong(client, body, status, message):
    answer = client.post("/generate", data=body)
    assert answer.status_code == status
    problem = read_problem(status, answer.content_type, answer.data)
    assert problem["detail"].startswith(message)


def test_each_broken_rule_is_listed_with_field_rule_value_and_message(client):
    answer = client.post("/generate", json={"count": 500, "temperature": "hot"})
    assert answer.json["errors"] == [
        {
            "field": "count",
            "rule": "must be from 1 to 100",
            "value": "500",
            "message": "count must be from 1 to 100, got 500",
        },
        {
            "field": "temperature",
            "rule": "must be a number",
            "value": "'hot'",
            "message": "temperature must be a number, got 'hot'",
        },
    ]


def test_an_unknown_character_is_shown_with_its_position_and_the_known_ones(client):
    answer = client.post("/generate", json={"seed": "Ty☃"})
    (item,) = answer.json["errors"]
    assert item["field"] == "seed"
    assert (item["character"], item["position"]) == ("☃", 2)
    assert item["known"] == string.ascii_lowercase


def test_many_broken_fields_make_a_short_answer(client):
    answer = client.post("/generate", json={"f" * 200 + str(n): n for n in range(200)})
    problem = read_problem(422, answer.content_type, answer.data)
    assert len(problem["errors"]) == 20
    assert problem["detail"].endswith("; and 180 more")
    assert len(answer.data) < 30_000


def test_a_crash_shows_nothing_of_itself_and_is_logged(client, caplog, monkeypatch):
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of the service")

    monkeypatch.setattr(charrnn.Writer, "turn", crash)
    answer = client.post("/generate")
    problem = read_problem(500, answer.content_type, answer.data)
    assert problem["detail"] == "something went wrong in the service; its log has the details"
    assert "the secret of the service" in caplog.text


def test_an_old_version_answers_by_its_prefix(client, weights):
    answer = client.post("/generate", json={"version": weights.old[:8].upper()})
    assert (answer.status_code, answer.json["version"]) == (200, weights.old[:12])


def test_a_damaged_version_is_logged_and_its_path_is_not_shown(client, caplog, weights):
    answer = client.post("/generate", json={"version": DAMAGED})
    assert answer.status_code == 410
    assert weights.root not in answer.text
    assert weights.root in caplog.text


def test_the_limits_of_a_service_hold_where_nothing_is_asked_for(weights):
    settings = ServiceSettings(max_length=10, max_characters=10)
    client = create_app(settings, weights.store).test_client()
    answer = client.post("/generate", json={"model": "prose", "seed": "abc"})
    assert len(answer.json["samples"][0]["text"]) == 10


def test_a_seed_as_long_as_texts_are_counts_with_what_follows_it(weights):
    settings = ServiceSettings(max_characters=1001)
    client = create_app(settings, weights.store).test_client()
    body = {"model": "prose", "seed": "a" * 500, "count": 2}
    answer = client.post("/generate", json=body)
    assert answer.status_code == 422
    assert "2 times 501" in answer.text
    assert client.post("/generate", json={**body, "count": 1}).json["characters"] == 1


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413), (100_000, 413)])
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_above_the_limit_is_413_however_it_is_sent(weights, size, status, declared):
    client = create_app(ServiceSettings(max_body=1000), weights.store).test_client()
    body = b'{"count": 2' + b" " * (size - 12) + b"}"
    environ: dict[str, object] = {"wsgi.input_terminated": True}  # as gunicorn says of its own
    if not declared:
        environ["CONTENT_LENGTH"] = ""
    answer = client.post("/generate", data=body, environ_overrides=environ)
    assert answer.status_code == status
    if status == 413:
        problem = read_problem(413, answer.content_type, answer.data)
        assert problem["detail"] == "the body must have at most 1000 bytes"


def test_a_body_that_stops_early_is_400_even_where_it_is_json(client):
    environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": "10"}
    answer = client.post("/generate", data=b"{}", environ_overrides=environ)
    assert answer.status_code == 400
    problem = read_problem(400, answer.content_type, answer.data)
    assert problem["detail"] == "the body stops after 2 of 10 bytes"


def test_a_body_that_can_not_be_read_is_400(client):
    class Broken:
        def read(self, size: int) -> bytes:
            raise OSError("connection reset")

    environ = {"wsgi.input": Broken(), "wsgi.input_terminated": True}
    answer = client.post("/generate", environ_overrides=environ)
    problem = read_problem(400, answer.content_type, answer.data)
    assert problem["detail"] == "the body can't be read to its end"


def test_requests_that_wait_for_a_thread_are_written_along(app: Flask, monkeypatch):
    """As in a worker of ours, whose threads tell the application of their turns."""
    monkeypatch.setattr(api.engine, "BRIEF_SECONDS", SOON)
    turns, go, sizes, write = Turns(30), threading.Event(), [], Engine._write_alike

    def count(engine, tickets):
        sizes.append(len(tickets))
        write(engine, tickets)

    def ask(path, body):
        client = app.test_client()
        if body is None:
            return client.get(path)
        return client.post(path, json=body, environ_overrides={TURNS: turns})

    asked: list[tuple[str, dict[str, object] | None]] = [
        ("/generate", {"random_seed": n, "seed": "Ty" * (n % 3)}) for n in range(12)
    ]
    asked[3:3] = [("/livez", None), ("/generate", {"count": 0}), ("/generate", {"count": 3})]
    alone = [ask(*each).data for each in asked[-9:]]
    monkeypatch.setattr(Engine, "_write_alike", count)
    turns.submit(go.wait, SOON)
    tasks = [turns.submit(ask, *each) for each in asked]
    go.set()
    answers = [task.result(SOON) for task in tasks]
    assert [each.status_code for each in answers[3:6]] == [200, 422, 200]
    assert [each.data for each in answers[-9:]] == alone
    assert sum(sizes) == 12
    assert max(sizes) > 1
    turns.shutdown()


def test_requests_at_once_get_what_each_would_get_alone(app: Flask):
    bodies = [{"random_seed": n, "count": 2, "max_length": n + 1} for n in range(16)]
    alone = [app.test_client().post("/generate", json=body).data for body in bodies]
    together: dict[int, list[bytes]] = {n: [] for n in range(len(bodies))}
    start = threading.Barrier(len(bodies))

    def ask(n: int, client: FlaskClient) -> None:
        start.wait()
        for _ in range(5):
            together[n].append(client.post("/generate", json=bodies[n]).data)

    threads = [threading.Thread(target=ask, args=(n, app.test_client())) for n in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[n] for n in sorted(together)] == [[data] * 5 for data in alone]


def test_a_service_may_lower_the_limits(weights):
    settings = ServiceSettings(max_count=2, max_length=5, max_characters=6)
    client = create_app(settings, weights.store).test_client()
    details = [
        client.post("/generate", json=body).json["detail"]
        for body in ({"count": 3}, {"max_length": 6}, {"count": 2, "max_length": 4})
    ]
    assert details == [
        "count must be from 1 to 2, got 3",
        "max_length must be from 1 to 5, got 6",
        "count times max_length must be at most 6 characters, got 2 times 4",
    ]


def test_a_small_limit_of_all_characters_shortens_what_is_asked_for_without_a_length(weights):
    client = create_app(ServiceSettings(max_characters=20), weights.store).test_client()
    answer = client.post("/generate", json={"model": "prose"})
    assert answer.status_code == 200
    assert answer.json["characters"] == 20


def test_a_seed_of_the_longest_length_makes_no_longer_text(weights):
    client = create_app(ServiceSettings(max_length=60), weights.store).test_client()
    answer = client.post("/generate", json={"seed": "a" * 60})
    assert [len(sample["text"]) for sample in answer.json["samples"]] == [60]
