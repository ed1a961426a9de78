"""OpenAI's interface: what its bodies ask for is what the library writes, in their shapes."""

import json
import math

import pytest

import charrnn
from api import create_app, openai_texts
from api.batch import Ticket
from api.openai_schemas import IGNORED, NEUTRAL
from api.settings import ServiceSettings
from charrnn.config import SEEDS_OF_FOURS, GenerationConfig
from charrnn.writing import Writer
from tests.api.documented import Document, events
from tests.api.problems import read_error

KEY = "k3y" * 8
HELLO = [{"role": "user", "content": "hello"}]
COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"


@pytest.fixture(scope="module")
def app(chatty):
    return create_app(ServiceSettings(), chatty.store)


@pytest.fixture
def client(app):
    return app.test_client()


def complete(client, **body):
    answer = client.post(COMPLETIONS, json={"model": "dinosaurs", **body})
    assert answer.status_code == 200, answer.text
    return answer.json


def chat(client, messages=HELLO, **body):
    answer = client.post(CHATS, json={"model": "rex", "messages": messages, **body})
    assert answer.status_code == 200, answer.text
    return answer.json


def refused(client, path, status=400, **body):
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return read_error(status, answer.content_type, answer.data)


def chunks(client, path, **body):
    answer = client.post(path, json={**body, "stream": True})
    assert answer.mimetype == "text/event-stream", answer.text
    *found, last = events(answer.text)
    assert last == ("[DONE]", None)
    return [data for _, data in found]


def texts(answer):
    return [choice["text"] for choice in answer["choices"]]


# --- Completions ----------------------------------------------------------------------------------


def test_a_completion_is_what_the_library_writes_after_the_prompt(client, chatty):
    answer = complete(client, prompt="Tyr", n=3, seed=7, temperature=0.8, max_tokens=9)
    generator = charrnn.load("dinosaurs", weights=chatty.store)
    cut = {"max_length": 12, "whole": False}
    samples = generator.generate("Tyr", count=3, random_seed=7, temperature=0.8, **cut)
    assert texts(answer) == [sample.text[3:] for sample in samples]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert {c["finish_reason"] for c in answer["choices"]} <= {"stop", "length"}
    drawn = sum(len(sample.text) - 3 for sample in samples)
    usage = {"prompt_tokens": 3, "completion_tokens": drawn, "total_tokens": drawn + 3}
    assert answer["usage"] == usage
    assert answer["system_fingerprint"] == f"fp_{generator.version}"


def test_a_seed_that_was_drawn_gives_the_texts_again(client):
    first = complete(client, n=3)
    assert texts(complete(client, n=3, seed=first["random_seed"])) == texts(first)
    assert texts(complete(client, n=3, random_seed=first["random_seed"])) == texts(first)


def test_seeds_of_64_bits_and_below_zero_are_taken(client):
    for seed in (-1, -(2**63), 2**63 - 1):
        answer = complete(client, seed=seed)
        assert answer["random_seed"] == seed % 2**53


def test_prompts_are_completed_each_as_alone(client):
    both = complete(client, prompt=["Tyr", "abc"], n=2, seed=7, max_tokens=5)
    alone = [complete(client, prompt=each, n=2, seed=7, max_tokens=5) for each in ("Tyr", "abc")]
    assert texts(both) == texts(alone[0]) + texts(alone[1])
    assert [choice["index"] for choice in both["choices"]] == [0, 1, 2, 3]
    assert both["usage"]["prompt_tokens"] == 6


def test_an_echo_begins_with_the_prompt_and_may_be_all(client):
    plain = texts(complete(client, prompt="tyr", seed=7))
    echoed = texts(complete(client, prompt="tyr", seed=7, echo=True))
    assert echoed == [f"Tyr{plain[0]}"]
    nothing = complete(client, prompt="tyr", max_tokens=0, echo=True)
    assert texts(nothing) == ["Tyr"]
    assert nothing["choices"][0]["finish_reason"] == "length"
    assert texts(complete(client, max_tokens=0)) == [""]


def test_the_shorter_of_max_tokens_and_max_length_holds(client):
    for tokens, length in ((1, 20), (9, 4)):
        limits = {"max_tokens": tokens, "max_length": length}
        (text,) = texts(complete(client, prompt="Tyr", seed=7, min_length=4, **limits))
        assert len(text) == 1
    reply = chat(client, max_tokens=2, max_length=200)["choices"][0]["message"]["content"]
    assert len(reply) <= 2


@pytest.mark.parametrize("logprobs", [None, 1])
def test_texts_that_can_not_be_found_have_their_prompt_and_a_reason(client, logprobs):
    asked = {"prompt": "Tyr", "n": 3, "temperature": 0, "echo": True, "logprobs": logprobs}
    answer = complete(client, **asked)
    first, *others = answer["choices"]
    assert first["text"] not in ("", "Tyr")
    assert [other["text"] for other in others] == ["Tyr", "Tyr"]
    assert {other["finish_reason"] for other in others} == {"length"}
    assert "refused by unique" in answer["shortfall"]
    streamed = chunks(client, COMPLETIONS, model="dinosaurs", **asked)
    last = {c["index"]: c for chunk in streamed for c in chunk["choices"] if c["finish_reason"]}
    for other in others:
        shown = last[other["index"]]
        assert (shown["text"], shown["logprobs"]) == ("Tyr", other["logprobs"])
    assert {chunk["shortfall"] for chunk in streamed} == {None, answer["shortfall"]}
    assert complete(client, prompt="Tyr", seed=7)["shortfall"] is None


def test_an_echo_alone_is_refused_by_no_condition(client):
    names = ["Tyrannosaurus"] * 2
    assert texts(complete(client, prompt=names, n=2, max_tokens=0, echo=True)) == names * 2


@pytest.mark.parametrize("stop", ["a", ["a"], ["zq", "a"], None, []])
def test_a_stop_is_text_or_a_list(client, stop):
    answer = complete(client, model="prose", seed=3, stop=stop, max_tokens=200)
    assert ("a" in texts(answer)[0]) is (stop in (None, []))
    assert answer["choices"][0]["finish_reason"] == ("length" if not stop else "stop")


def test_every_setting_of_the_library_goes_through(client, chatty):
    """A setting that is added there is a field here as well."""
    properties = client.get("/openapi.json").json["components"]["schemas"]
    for body in ("CompletionRequest", "ChatCompletionRequest"):
        assert set(GenerationConfig.fields()) <= set(properties[body]["properties"])
    generator = charrnn.load("dinosaurs", weights=chatty.store)
    ours = {"top_k": 2, "min_length": 9, "max_length": 14, "random_seed": 4, "count": 3}
    assert texts(complete(client, **ours)) == [s.text for s in generator.generate(**ours)]


def test_a_top_p_of_nothing_is_the_likeliest(client):
    assert texts(complete(client, top_p=0)) == texts(complete(client, temperature=0))


# --- Log-probabilities ----------------------------------------------------------------------------


def test_logprobs_are_those_of_the_score(client, chatty):
    answer = complete(client, prompt="Tyr", seed=7, logprobs=2, max_tokens=9, echo=True)
    (choice,) = answer["choices"]
    found = choice["logprobs"]
    assert "".join(found["tokens"]) == choice["text"]
    assert found["text_offset"] == list(range(len(choice["text"])))
    score = charrnn.load("dinosaurs", weights=chatty.store).score(choice["text"])
    expected = [symbol.logprob for symbol in score.symbols[: len(choice["text"])]]
    assert found["token_logprobs"][0] is None
    assert found["token_logprobs"][1:] == pytest.approx(expected[1:], abs=1e-5)
    for place, top in enumerate(found["top_logprobs"][1:], 1):
        assert len(top) == 2
        assert list(top.values()) == sorted(top.values(), reverse=True)
        assert next(iter(top)).lower() == score.symbols[place].likeliest
    hidden = complete(client, prompt="Tyr", seed=7, logprobs=2, max_tokens=9)["choices"][0]
    assert hidden["logprobs"]["token_logprobs"] == found["token_logprobs"][3:]
    assert hidden["logprobs"]["text_offset"][:2] == [0, 1]


def test_logprobs_of_none_have_no_alternatives_and_change_no_text(client):
    plain = complete(client, seed=7)
    answer = complete(client, seed=7, logprobs=0)
    assert texts(answer) == texts(plain)
    assert plain["choices"][0]["logprobs"] is None
    assert answer["choices"][0]["logprobs"]["top_logprobs"] is None
    assert all(map(math.isfinite, answer["choices"][0]["logprobs"]["token_logprobs"]))


def test_streamed_logprobs_are_those_of_the_whole_answer(client):
    asked = {"model": "prose", "prompt": "tyr", "seed": 7, "logprobs": 2, "max_tokens": 90, "n": 2}
    for echo in (False, True):
        whole = complete(client, **asked, echo=echo)
        parts = chunks(client, COMPLETIONS, **asked, echo=echo)
        for choice in whole["choices"]:
            own = [c["choices"][0] for c in parts if c["choices"][0]["index"] == choice["index"]]
            for name, values in choice["logprobs"].items():
                told = [each["logprobs"][name] for each in own if each["logprobs"]]
                assert [each for part in told for each in part] == values


def test_a_chats_logprobs_have_bytes_and_alternatives(client):
    answer = chat(client, logprobs=True, top_logprobs=3, seed=1)
    (choice,) = answer["choices"]
    content = choice["logprobs"]["content"]
    assert "".join(each["token"] for each in content) == choice["message"]["content"]
    for each in content:
        assert bytes(each["bytes"]).decode() == each["token"]
        assert len(each["top_logprobs"]) == 3
        assert each["logprob"] <= each["top_logprobs"][0]["logprob"] <= 0
    assert chat(client, seed=1)["choices"][0]["logprobs"] is None


# --- Streams --------------------------------------------------------------------------------------


def test_a_streamed_completion_is_the_whole_one(client):
    for more in ({}, {"echo": True}, {"stop": ["a"]}, {"prompt": ["Tyr", "ab"]}):
        asked = {"model": "dinosaurs", "prompt": "Tyr", "n": 3, "seed": 7, **more}
        whole, parts = complete(client, **asked), chunks(client, COMPLETIONS, **asked)
        for choice in whole["choices"]:
            own = [c["choices"][0] for c in parts if c["choices"][0]["index"] == choice["index"]]
            assert "".join(each["text"] for each in own) == choice["text"]
            reasons = [each["finish_reason"] for each in own]
            assert reasons == [None] * (len(own) - 1) + [choice["finish_reason"]]
        assert len({part["id"] for part in parts}) == 1


def test_a_streamed_reply_is_the_whole_one(client):
    asked = {"model": "rex", "messages": HELLO, "seed": 3, "temperature": 1}
    whole, parts = chat(client, seed=3, temperature=1), chunks(client, CHATS, **asked)
    deltas = [part["choices"][0]["delta"] for part in parts]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert deltas[-1] == {}
    assert (
        "".join(d.get("content", "") for d in deltas) == (whole["choices"][0]["message"]["content"])
    )
    assert parts[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (COMPLETIONS, {"model": "dinosaurs", "prompt": "Tyr", "n": 2, "seed": 7}),
        (CHATS, {"model": "rex", "messages": HELLO, "seed": 7}),
    ],
)
def test_a_stream_tells_its_usage_where_that_is_wanted(client, path, asked):
    *parts, last = chunks(client, path, **asked, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"] == client.post(path, json=asked).json["usage"]
    assert {json.dumps(part["usage"]) for part in parts} == {"null"}
    assert "usage" not in chunks(client, path, **asked)[0]


def test_what_goes_wrong_in_the_middle_is_an_error_that_shows_nothing(client, monkeypatch, caplog):
    def crash(self, steps):
        raise RuntimeError("a secret")

    monkeypatch.setattr(charrnn.Writer, "turn", crash)
    answer = client.post(COMPLETIONS, json={"model": "dinosaurs", "stream": True})
    ((name, data),) = events(answer.text)
    assert (name, data["error"]["type"]) == ("error", "server_error")
    assert "secret" not in answer.text
    assert refused(client, COMPLETIONS, 500, model="dinosaurs")["type"] == "server_error"


@pytest.mark.parametrize("path", [COMPLETIONS, CHATS])
def test_texts_that_had_not_begun_when_the_time_was_over_are_empty(client, monkeypatch, path):
    monkeypatch.setattr(
        openai_texts, "Ticket", lambda *given, **more: Ticket(*given, **more | {"deadline": 0.0})
    )
    body = {"model": "dinosaurs", "prompt": "Tyr", "n": 2}
    if path == CHATS:
        body = {"model": "rex", "messages": HELLO, "n": 2}
    whole = client.post(path, json=body).json
    assert [choice["finish_reason"] for choice in whole["choices"]] == ["length"] * 2
    assert whole["usage"]["completion_tokens"] == 0
    parts = chunks(client, path, **body)
    ends = [c["choices"][0] for c in parts if c["choices"][0]["finish_reason"]]
    assert [(end["index"], end["finish_reason"]) for end in ends] == [(0, "length"), (1, "length")]


# --- Chats ----------------------------------------------------------------------------------------


def test_a_reply_is_that_of_the_library_to_the_same_talk(client, chatty):
    bot = charrnn.load("rex", weights=chatty.store)
    talk = bot.chat(temperature=0)
    first = talk.say("Hello!")
    turns = [
        {"role": "system", "content": "You are a pirate."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo!"}],
        },
        {"role": "assistant", "content": first, "refusal": None},
        {"role": "user", "content": "when?"},
    ]
    answer = chat(client, turns, temperature=0)
    assert answer["choices"][0]["message"]["content"] == talk.say("when?")
    assert answer["usage"]["prompt_tokens"] > len("> hello!\n> when?\n")


def test_what_the_system_says_and_a_reply_before_any_question_change_nothing(client):
    plain = chat(client, seed=1, temperature=1)
    before = [
        {"role": "developer", "content": "shout"},
        {"role": "assistant", "content": "hi, i am rex"},
    ]
    other = chat(client, [*before, *HELLO], seed=1, temperature=1)
    assert other["choices"] == plain["choices"]
    assert other["usage"] == plain["usage"]


def test_a_long_talk_is_cut_from_the_front(client):
    turn = [{"role": "user", "content": "a" * 90}, {"role": "assistant", "content": "b" * 90}]
    answer = chat(client, [*turn * 150, *HELLO], seed=1)
    assert 1800 < answer["usage"]["prompt_tokens"] <= 2000 + len("> hello\n")
    less = chat(client, [*turn * 149, *HELLO], seed=1)
    assert less["choices"] == answer["choices"]


def test_a_reply_of_nothing_and_one_without_content_are_as_the_document_has_them(app, client):
    document = Document(client.get("/openapi.json").json)
    schema = {"$ref": "#/components/schemas/ChatCompletionRequest"}
    for silent in ({"role": "assistant"}, {"role": "assistant", "content": None}):
        talk = [*HELLO, silent, *HELLO]
        document.conforms({"model": "rex", "messages": talk}, schema)
        chat(client, talk)
    with pytest.raises(AssertionError):
        document.conforms({"model": "rex", "messages": [{"role": "user"}]}, schema)


def test_several_replies_differ_and_max_tokens_is_theirs(client):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = chat(client, n=4, seed=1, temperature=1.5, **{name: 5})
        replies = [choice["message"]["content"] for choice in answer["choices"]]
        assert max(map(len, replies)) <= 5
        assert len(set(replies)) > 1  # odds of four alike: below 1e-6


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        (COMPLETIONS, {}, "model", None),
        (COMPLETIONS, {"model": "dinosaurs", "colour": 1}, "colour", "unknown_parameter"),
        (COMPLETIONS, {"model": "dinosaurs", "prompt": [1, 2]}, "prompt", None),
        (COMPLETIONS, {"model": "dinosaurs", "prompt": []}, "prompt", None),
        (COMPLETIONS, {"model": "dinosaurs", "prompt": "T9"}, "prompt", None),
        (COMPLETIONS, {"model": "prose", "prompt": "a" * 2001, "seed": 7}, "prompt", None),
        (COMPLETIONS, {"model": "dinosaurs", "n": 0}, "n", None),
        (COMPLETIONS, {"model": "dinosaurs", "n": 101}, "n", None),
        (COMPLETIONS, {"model": "dinosaurs", "n": 100, "max_tokens": 2000}, "n", None),
        (COMPLETIONS, {"model": "dinosaurs", "prompt": ["a"] * 101}, "prompt", None),
        (COMPLETIONS, {"model": "dinosaurs", "temperature": 2.1}, "temperature", None),
        (COMPLETIONS, {"model": "dinosaurs", "max_tokens": -1}, "max_tokens", None),
        (COMPLETIONS, {"model": "dinosaurs", "stop": [""]}, "stop", None),
        (COMPLETIONS, {"model": "dinosaurs", "stop": 7}, "stop", None),
        (COMPLETIONS, {"model": "dinosaurs", "stream": "yes"}, "stream", None),
        (COMPLETIONS, {"model": "dinosaurs", "seed": 1, "random_seed": 1}, "random_seed", None),
        (COMPLETIONS, {"model": "dinosaurs", "n": 1, "count": 1}, "count", None),
        (CHATS, {"model": "rex"}, "messages", None),
        (CHATS, {"model": "rex", "messages": []}, "messages", None),
        (CHATS, {"model": "rex", "messages": [{"role": "tool", "content": ""}]}, "messages", None),
        (CHATS, {"model": "rex", "messages": [{"role": "user"}]}, "messages", None),
        (CHATS, {"model": "rex", "messages": ["hi"]}, "messages", None),
        (
            CHATS,
            {"model": "rex", "messages": [{"role": "assistant", "content": "x"}]},
            "messages",
            None,
        ),
        (CHATS, {"model": "rex", "messages": HELLO, "top_logprobs": 2}, "top_logprobs", None),
        (CHATS, {"model": "rex", "messages": HELLO, "max_tokens": 0}, "max_tokens", None),
        (CHATS, {"model": "rex", "messages": HELLO, "min_length": 9}, "min_length", None),
        (CHATS, {"model": "dinosaurs", "messages": HELLO}, "model", None),
    ],
)
def test_a_broken_rule_is_a_bad_request_that_names_the_field(client, path, body, param, code):
    error = refused(client, path, **body)
    assert (error["param"], error["code"]) == (param, code), error


@pytest.mark.parametrize("field", sorted(NEUTRAL))
def test_what_can_not_be_done_is_refused_unless_it_asks_for_nothing(client, field):
    for path, body in (
        (COMPLETIONS, {"model": "dinosaurs"}),
        (CHATS, {"model": "rex", "messages": HELLO}),
    ):
        error = refused(client, path, **body, **{field: {"a": 1}})
        assert (error["param"], error["code"]) == (field, "unsupported_parameter")
        for nothing in (None, *NEUTRAL[field]):
            assert client.post(path, json={**body, field: nothing}).status_code == 200


def test_what_makes_no_difference_makes_none(client):
    plain = chat(client, seed=1)["choices"]
    assert chat(client, seed=1, **dict.fromkeys(IGNORED, "x"))["choices"] == plain


def test_a_model_that_is_not_there_and_a_path_are_not_found(client):
    for path, body in ((COMPLETIONS, {}), (CHATS, {"messages": HELLO})):
        assert refused(client, path, 404, model="gpt-4", **body)["code"] == "model_not_found"
    answer = client.get("/v1/models/gpt-4")
    assert read_error(404, answer.content_type, answer.data)["code"] == "model_not_found"
    answer = client.get("/v1/engines")
    assert read_error(404, answer.content_type, answer.data)["code"] == "unknown_url"
    answer = client.get(COMPLETIONS)
    assert read_error(405, answer.content_type, answer.data)["code"] == "method_not_supported"


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[]", b'{"model": NaN}', b'{"n": 1, "n": 1}'])
def test_a_body_that_is_no_json_object_is_a_bad_request(client, body):
    answer = client.post(COMPLETIONS, data=body)
    read_error(answer.status_code, answer.content_type, answer.data)
    assert answer.status_code == 400


def test_a_body_that_is_too_large_is_refused_in_the_same_shape(client):
    answer = client.post(COMPLETIONS, json={"model": "dinosaurs", "prompt": "a" * 70_000})
    assert read_error(413, answer.content_type, answer.data)["code"] == "request_too_large"


def test_a_key_is_asked_for_in_the_same_shape(chatty):
    client = create_app(ServiceSettings(api_keys=KEY), chatty.store).test_client()
    for path in ("/v1/models", "/v1/nowhere"):
        answer = client.get(path)
        assert read_error(401, answer.content_type, answer.data)["code"] == "invalid_api_key"
        assert "Bearer" in answer.headers["WWW-Authenticate"]
    answer = client.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    assert [each["id"] for each in answer.json["data"]] == ["dinosaurs", "elves", "prose", "rex"]


def test_the_bounds_are_those_that_the_operator_set(chatty):
    settings = ServiceSettings(max_count=2, max_length=20, max_characters=30)
    client = create_app(settings, chatty.store).test_client()
    assert refused(client, COMPLETIONS, model="dinosaurs", n=3)["param"] == "n"
    assert refused(client, COMPLETIONS, model="dinosaurs", max_tokens=21)["param"] == "max_tokens"
    assert refused(client, CHATS, model="rex", messages=HELLO, n=2)["param"] == "n"
    assert chat(client)["usage"]["completion_tokens"] <= 20
    assert len(chat(client, temperature=1)["choices"][0]["message"]["content"]) <= 20
    body = {"model": "dinosaurs", "prompt": ["a", "b"], "max_tokens": 15}
    assert refused(client, COMPLETIONS, **body)["param"] == "prompt"


@pytest.mark.parametrize("n", [1, 2])
def test_the_random_seed_that_is_told_is_the_one_that_was_used_whatever_it_shares(
    client, monkeypatch, n
):
    placed = Writer.placed

    def with_fours(self, request):
        monkeypatch.setitem(vars(self._model), "has_use_for_fours", True)
        return placed(self, request)

    monkeypatch.setattr(Writer, "placed", with_fours)
    monkeypatch.setattr("api.batch.MANY", 1)
    monkeypatch.setattr(charrnn.Generator, "many", 1)
    first = complete(client, n=n)
    assert (first["random_seed"] in SEEDS_OF_FOURS) == (n == 1)
    assert texts(complete(client, n=n, seed=first["random_seed"])) == texts(first)
    for path, body in (
        (COMPLETIONS, {"model": "dinosaurs", "prompt": "T"}),
        (CHATS, {"model": "rex", "messages": HELLO}),
    ):
        found = chunks(client, path, n=n, **body)
        again = chunks(client, path, n=n, seed=found[0]["random_seed"], **body)
        assert streamed(again) == streamed(found)


def streamed(parts):
    """The whole texts of a stream, by index."""
    whole = {}
    for choice in (part["choices"][0] for part in parts):
        piece = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
        whole[choice["index"]] = whole.get(choice["index"], "") + piece
    return whole
