"""Texts piece by piece: the events, and what becomes of clients that go, or don't read."""

import json
import socket
import time
from contextlib import closing

import pytest

import charrnn
from api import streaming
from api.engine import Engine
from api.settings import ServiceSettings
from tests.api.problems import read_problem
from tests.api.server import PATIENCE, received_until, running

LONG = {"CHARRNN_MAX_CHARACTERS": "100000000", "CHARRNN_MAX_COUNT": "10000"}
WORK = {"model": "prose", "count": 5000, "max_length": 2000}  # minutes


def events_of(data):
    """(name or None, data) of each event of a stream; comments are left out."""
    events = []
    for block in data.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line[0] != ":")
        if fields:
            events.append((fields.pop("event", None), json.loads(fields.pop("data"))))
        assert not fields
    return events


def texts_of(events):
    texts = {}
    for name, data in events:
        if name is None:
            texts[data["index"]] = texts.get(data["index"], "") + data["text"]
    return texts


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"seed": "Tyr", "count": 9, "max_length": 90},
        {"seed": "Tyr", "count": 3, "max_length": 3},
        {"model": "prose", "count": 60, "max_length": 300, "stop": ["a", "tyr"]},
        {"model": "prose", "max_length": 2000},
    ],
)
def test_a_stream_says_what_the_whole_answer_says(client, body):
    body = body | {"random_seed": 5}
    whole = client.post("/generate", json=body).json
    answer = client.post("/generate", json=body | {"stream": True})
    assert answer.status_code == 200
    assert answer.content_type == "text/event-stream; charset=utf-8"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Cache-Control"] == "no-store"
    events = events_of(answer.data)
    assert [name for name, _ in events].count("done") == 1
    name, summary = events[-1]
    assert name == "done"
    texts = texts_of(events)
    assert [texts.get(k, "") for k in range(len(whole["samples"]))] == [
        sample["text"] for sample in whole["samples"]
    ]
    samples = [{"index": k, **sample} for k, sample in enumerate(whole["samples"])]
    for sample in samples:
        del sample["text"]
    assert summary == whole | {"samples": samples}


def test_the_pieces_of_a_text_are_no_longer_than_a_turn_and_the_first_is_the_seed(client):
    body = {"model": "prose", "seed": "tyr", "max_length": 500, "stream": True}
    first, *rest, last = events_of(client.post("/generate", json=body).data)
    assert first == (None, {"index": 0, "text": "tyr"})
    assert last[0] == "done"
    assert max(len(data["text"]) for _, data in rest) <= 32


def test_what_is_wrong_with_a_request_is_a_problem_and_no_stream(client):
    answer = client.post("/generate", json={"stream": True, "temperature": -1})
    read_problem(422, answer.content_type, answer.data)
    answer = client.post("/generate", json={"stream": "yes"})
    problem = read_problem(422, answer.content_type, answer.data)
    assert problem["detail"] == "stream must be true or false, got 'yes'"


def test_what_goes_wrong_in_the_middle_is_an_event_and_shows_nothing(client, monkeypatch, caplog):
    whole, calls = charrnn.Writer.turn, []

    def turn(*all_):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("a secret")
        return whole(*all_)

    monkeypatch.setattr(charrnn.Writer, "turn", turn)
    body = {"model": "prose", "max_length": 500, "stream": True}
    answer = client.post("/generate", json=body)
    events = events_of(answer.data)
    assert [name for name, _ in events] == [*[None] * (len(events) - 1), "error"]
    assert events[-1][1]["status"] == 500
    assert b"secret" not in answer.data
    assert "a secret" in caplog.text


def test_silence_is_filled_with_comments(client, monkeypatch):
    monkeypatch.setattr(streaming, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(streaming, "HEARTBEAT_SECONDS", 0.02)
    whole = charrnn.Writer.turn

    def turn(*all_):
        time.sleep(0.1)
        return whole(*all_) if time.monotonic() > begins else []

    begins = time.monotonic() + 0.3
    monkeypatch.setattr(charrnn.Writer, "turn", turn)
    answer = client.post("/generate", json={"stream": True, "max_length": 5})
    assert answer.data.startswith(b": ping\n\n: ping\n\n")
    assert events_of(answer.data)[-1][0] == "done"


def test_a_silent_client_is_looked_for_soon_and_then_ever_more_seldom(client, monkeypatch):
    here, there = socket.socketpair()
    pauses = []

    def wait(engine, ticket, seconds):
        pauses.append(seconds)
        if len(pauses) == 6:
            there.close()
        return False

    monkeypatch.setattr(Engine, "wait", wait)
    with closing(here):
        environ = {"gunicorn.socket": here}
        body = {"model": "prose", "max_length": 500}
        answer = client.post("/generate", json=body, environ_overrides=environ)
    assert answer.status_code == 408
    assert pauses[:6] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


# Against a real server


def raw(body):
    data = json.dumps(body).encode()
    return b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)


def connect(server, body):
    connection = socket.create_connection((server.host, server.port), timeout=PATIENCE)
    connection.sendall(raw(body))
    return connection


def status_of(server, body):
    with closing(connect(server, body)) as connection:
        return int(connection.recv(65536).split(b" ")[1])


def at_work(server, body):
    """A connection whose request has the only place. One that asks whether it is taken may take it
    first; then the other is refused, and tries again.
    """
    for _ in range(100):
        connection = connect(server, body)
        for _ in range(20):
            if status_of(server, {}) == 503:
                return connection
            time.sleep(0.01)
        connection.close()
    raise AssertionError("it never came to its turn")


def seconds_until_served(server):
    began = time.monotonic()
    while status_of(server, {}) != 200:
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.parametrize("rest", [b"", b"\r\n"])  # which nobody reads
@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_gives_its_place_back_within_a_second(weights, streamed, rest):
    with running(CHARRNN_WEIGHTS=weights.root, CHARRNN_MAX_REQUESTS="1", **LONG) as server:
        for _ in range(3):
            connection = at_work(server, WORK | {"stream": streamed})
            connection.sendall(rest)
            connection.close()
            assert seconds_until_served(server) < 1.5  # of which one on a busy machine


def test_a_client_that_does_not_read_keeps_nobody_waiting(weights):
    """Its texts stand still; it ends with its time."""
    environ = {"CHARRNN_TIME_LIMIT": "5", "CHARRNN_THREADS": "4"} | LONG
    with running(CHARRNN_WEIGHTS=weights.root, **environ) as server:
        with closing(connect(server, WORK | {"stream": True})) as slow:
            assert slow.recv(10)
            for _ in range(20):
                assert status_of(server, {"model": "prose", "max_length": 100}) == 200
            answer = received_until(b"\r\n0\r\n\r\n", slow)
        done = answer.partition(b"event: done")[2]
        assert b'"finish_reason":"time"' in done


@pytest.mark.parametrize(
    "environ",
    [
        {"CHARRNN_MAX_REQUESTS": "2", "CHARRNN_THREADS": "8"},
        {"CHARRNN_MAX_REQUESTS": "2", "CHARRNN_THREADS": "1"},
        {"GUNICORN_CMD_ARGS": "--threads 4"},
    ],
)
def test_above_its_most_requests_a_worker_refuses_at_once_and_says_when_to_try_again(
    weights, environ
):
    with running(CHARRNN_WEIGHTS=weights.root, **environ, **LONG) as server:
        streams = [connect(server, WORK | {"stream": True}) for _ in range(2)]
        for stream in streams:
            assert stream.recv(10)
        answer = server.send(raw({}).replace(b"Host: x", b"Host: x\r\nConnection: close"))
        problem = read_problem(503, answer.headers["content-type"], answer.body)
        assert problem["detail"].startswith("the service is at work on 2 requests, as many as it")
        assert answer.headers["retry-after"] == "1"
        assert server.send(b"GET /healthz HTTP/1.0\r\n\r\n").status == 200
        for stream in streams:
            stream.close()
        seconds_until_served(server)


def test_the_time_limit_ends_texts_as_they_are(weights):
    with running(CHARRNN_WEIGHTS=weights.root, CHARRNN_TIME_LIMIT="1", **LONG) as server:
        began = time.monotonic()
        answer = server.send(raw(WORK).replace(b"Host: x", b"Host: x\r\nConnection: close"))
        assert answer.status == 200
        assert 1 <= time.monotonic() - began < PATIENCE / 2
        whole = json.loads(answer.body)
        # Those of one beginning end together, so that none may be under way.
        assert {sample["finish_reason"] for sample in whole["samples"]} <= {"time", "length"}
        missing = whole["requested"] - len(whole["samples"])
        assert missing > 1000
        assert whole["shortfall"] == f"{missing} texts were missing after 1 s, the time limit"


def test_a_default_worker_is_at_work_on_two_requests_fewer_than_it_has_threads():
    assert ServiceSettings().max_requests is None
    assert ServiceSettings().threads == 128
