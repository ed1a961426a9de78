import json
import logging

import pytest
from flask import Response
from flask.testing import FlaskClient

import charrnn
from api import create_app, logs
from api.settings import ServiceSettings


@pytest.fixture
def lines(caplog):
    """The access lines so far."""
    caplog.set_level(logging.INFO, "api.access")
    return lambda: [each.fields for each in caplog.records if each.name == "api.access"]


def test_a_request_is_one_line_with_what_is_known_of_it(client, lines, weights):
    answer = client.post(
        "/generate", json={"count": 3, "random_seed": 1}, headers={"X-Request-ID": "abc"}
    )
    (line,) = lines()
    assert line.pop("ms") > 0
    assert line == {
        "method": "POST",
        "route": "/generate",
        "status": 200,
        "bytes": len(answer.data),
        "request_id": "abc",
        "remote": "127.0.0.1",
        "model": "dinosaurs",
        "version": weights.live[:12],
        "count": 3,
        "characters": sum(len(each["text"]) for each in answer.json["samples"]),
    }


def test_neither_bodies_nor_seeds_nor_headers_are_logged(client, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "hunter"
    client.post("/generate", json={"seed": secret, "random_seed": 987654321})
    client.post("/generate", json={"seed": secret + "☃"})
    client.post(f"/generate?key={secret}", data=secret, headers={"Authorization": secret})
    client.get(f"/{secret}")
    text = "\n".join(logs.formatter("json").format(record) for record in caplog.records)
    assert caplog.records
    assert secret not in text
    assert "987654321" not in text


@pytest.mark.parametrize("path", ["/", "/nothing", "/generate", "/models/unicorns", "/metrics"])
def test_every_answer_has_the_requests_id_and_its_time(client, lines, path):
    answer = client.get(path, headers={"X-Request-ID": "from-the-client"})
    assert answer.headers["X-Request-ID"] == "from-the-client"
    assert answer.headers["Server-Timing"].startswith("app;dur=")
    assert [line["request_id"] for line in lines()] == ["from-the-client"]
    other = client.get(path, headers={"X-Request-ID": "not sane"})
    assert logs.REQUEST_ID.fullmatch(other.headers["X-Request-ID"])


def test_a_crash_has_its_id_too_in_the_answer_and_in_the_log(client, caplog, lines, monkeypatch):
    seen = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(json.loads(logs.formatter("json").format(record)))

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(charrnn.Writer, "turn", crash)
    handler = Noting()
    logging.getLogger().addHandler(handler)
    try:
        answer = client.post("/generate", headers={"X-Request-ID": "abc"})
    finally:
        logging.getLogger().removeHandler(handler)
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (500, "abc")
    assert {line["request_id"] for line in seen} == {"abc"}
    assert any("a bug of ours" in line.get("exception", "") for line in seen)
    assert lines()[-1]["status"] == 500


def test_the_line_of_a_stream_is_written_at_its_end_with_all_its_bytes(weights, lines):
    app = create_app(ServiceSettings(), weights.store)
    closed = []

    def pieces():
        try:
            for _ in range(10):
                assert not lines()
                yield "ä" * 100
        finally:
            closed.append(True)

    app.add_url_rule("/stream", view_func=lambda: Response(pieces()))
    client = FlaskClient(app, app.response_class)  # the route is in no document
    assert len(client.get("/stream", buffered=True).data) == 2000
    assert [(line["route"], line["bytes"]) for line in lines()] == [("/stream", 2000)]
    assert closed


def test_the_access_log_can_be_turned_off(weights, lines):
    client = create_app(ServiceSettings(access_log="off"), weights.store).test_client()
    assert client.get("/").headers["X-Request-ID"]
    assert lines() == []
