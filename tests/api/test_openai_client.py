"""The official client of OpenAI's interface against a running service."""

import json
import socket
import threading

import openai
import pytest

from tests.api import tiny
from tests.api.server import running

KEY = "k3y" * 8
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    tiny.make(root, chats=True)
    environ = {"CHARRNN_API_KEYS": KEY, "CHARRNN_MAX_REQUESTS": "1"}
    environ |= {"CHARRNN_MAX_LENGTH": "100000", "CHARRNN_MAX_CHARACTERS": "10000000"}
    with running(CHARRNN_WEIGHTS=str(root), **environ) as started:
        yield started


def client_of(server, **settings):
    base = f"http://{server.host}:{server.port}/v1"
    return openai.OpenAI(base_url=base, **{"api_key": KEY, "timeout": 30} | settings)


@pytest.fixture(scope="module")
def client(server):
    with client_of(server) as made:
        yield made


def test_the_client_lists_the_models(client):
    models = list(client.models.list())
    assert [model.id for model in models] == ["dinosaurs", "elves", "prose", "rex"]
    assert client.models.retrieve("rex").owned_by == "charrnn"


def test_the_client_completes_whole_and_streamed(client):
    asked = {"model": "dinosaurs", "prompt": "Tyr", "n": 2, "seed": 7, "max_tokens": 9}
    extra = {"top_k": 5, "min_length": 5}
    whole = client.completions.create(**asked, logprobs=2, extra_body=extra)
    assert whole.usage.total_tokens == 3 + sum(len(choice.text) for choice in whole.choices)
    assert "".join(whole.choices[0].logprobs.tokens) == whole.choices[0].text
    texts = ["", ""]
    options = {"include_usage": True}
    *parts, last = client.completions.create(
        **asked, stream=True, stream_options=options, extra_body=extra
    )
    for part in parts:
        texts[part.choices[0].index] += part.choices[0].text
    assert texts == [choice.text for choice in whole.choices]
    assert last.usage == whole.usage


def test_the_client_chats_whole_and_with_its_streaming_helper(client):
    asked = {"model": "rex", "messages": HELLO, "seed": 7, "temperature": 1}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    content = whole.choices[0].message.content
    assert "".join(each.token for each in whole.choices[0].logprobs.content) == content
    with client.chat.completions.stream(**asked, logprobs=True, top_logprobs=2) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == content == final.choices[0].message.content
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason
    assert final.choices[0].logprobs.content == whole.choices[0].logprobs.content


def test_the_client_raises_what_it_raises_for_openai(server, client):
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(model="gpt-4", prompt="")
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="rex", messages=HELLO, temperature=3)
    assert (error.value.param, error.value.type) == ("temperature", "invalid_request_error")
    stranger = client_of(server, api_key="wrong-key-of-some-length")
    with stranger, pytest.raises(openai.AuthenticationError) as error:
        stranger.models.list()
    assert error.value.code == "invalid_api_key"


def test_the_client_tries_again_where_the_service_is_full(server, client):
    """The one place is taken by a stream of millions of characters that nobody reads."""
    body = json.dumps({"model": "prose", "count": 100, "max_length": 100_000, "stream": True})
    head = f"POST /generate HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n"
    with socket.create_connection((server.host, server.port), timeout=30) as slow:
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        assert slow.recv(12) == b"HTTP/1.1 200"
        hasty = client_of(server, max_retries=0)
        with hasty, pytest.raises(openai.InternalServerError) as refused:
            hasty.completions.create(model="dinosaurs", prompt="")
        assert refused.value.status_code == 503
        assert refused.value.response.headers["retry-after"] == "1"
        assert refused.value.code == "service_unavailable"
        with client_of(server, max_retries=8) as patient:
            asked = patient.completions.with_raw_response
            leaving = threading.Timer(0.2, slow.shutdown, [socket.SHUT_RDWR])
            leaving.start()
            answer = asked.create(model="dinosaurs", prompt="")
            leaving.join()
    assert answer.retries_taken >= 1
    assert answer.parse().choices[0].text
