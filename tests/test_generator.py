"""The front door: the same bytes for the same seed, streams, stop strings, lengths, scores."""

import json
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import charrnn
from charrnn import threads
from charrnn.compiled import CompiledModel, Lanes
from charrnn.config import FIRST_SHARED_SEED, LONGEST_TEXT, GenerationConfig
from charrnn.decoding import DecodeBatch
from charrnn.errors import ConfigError, UnknownCharacterError, WeightsCorruptError
from charrnn.generator import MANY, TEXT_LENGTH
from charrnn.products import BY_ROW
from charrnn.vocabulary import Vocabulary
from charrnn.weights import to_bytes
from charrnn.writing import SLOTS
from tests.models import (
    KEPT_NAMES,
    TITLE_NAMES,
    frozen,
    generator,
    kept,
    names_model,
    running,
    text_model,
    titled,
)

SENTENCE_NAMES = ("Rex ater", "Sauro rex", "Éx-rex")
ALL = {
    "titled": titled,
    "kept": kept,
    "sentence": lambda **s: generator(names_model(SENTENCE_NAMES, **s)),
    "running": lambda **s: running("ab c\n", **s),
}
SEEDS = {
    "titled": ("", "R", "rEX", "ex-r", "Tar-", "sauro "),
    "kept": ("", "x", "McR", "iPad"),
    "sentence": ("", "r", "REX", "ex-r", "sauro "),
    "running": ("", "a", "ca b", "\n\n"),
}
every_kind = pytest.mark.parametrize("kind", ALL)
every_seed = pytest.mark.parametrize(("kind", "seed"), [(k, s) for k in SEEDS for s in SEEDS[k]])


def texts(samples):
    return [sample.text for sample in samples]


def streamed(pieces):
    """The pieces by index; each list in the order in which they came."""
    found = {}
    for piece in pieces:
        found.setdefault(piece.index, []).append(piece)
    return found


# The same seed, the same bytes


@every_seed
def test_a_sample_does_not_change_with_count_streaming_or_another_call(kind, seed):
    g, settings = ALL[kind](), {"random_seed": 2**40 + 3, "max_length": 20}
    hundred = g.generate(seed, count=100, **settings)
    assert len(set(texts(hundred))) > 20
    assert g.generate(seed, count=1, **settings) == hundred[:1]
    assert g.generate(seed, count=3, **settings) == hundred[:3]
    assert g.generate(seed, count=100, **settings) == hundred
    for count in (1, 5):
        found = streamed(g.stream(seed, count=count, **settings))
        assert [found[k][-1].sample for k in range(count)] == hundred[:count]


def test_a_sample_does_not_change_with_the_number_of_slots(monkeypatch):
    g = titled()
    expected = g.generate(count=50, random_seed=1)
    for slots in (1, 7, 50, 1000):
        monkeypatch.setattr("charrnn.writing.SLOTS", slots)
        assert g.generate(count=50, random_seed=1) == expected


def test_a_thousand_samples_are_in_order_and_each_index_is_its_own():
    g = titled()
    assert SLOTS < 1000
    many = g.generate("R", count=1000, random_seed=4, temperature=2)
    assert len(many) == many.requested == 1000
    assert many.shortfall is None
    assert g.generate("R", count=70, random_seed=4, temperature=2) == many[:70]
    assert len(set(texts(many))) > 300
    found = streamed(g.stream("R", count=1000, random_seed=4, temperature=2))
    assert [found[k][-1].sample for k in range(1000)] == many


def test_samples_do_not_change_while_other_threads_use_the_same_generator():
    g = titled(hidden=64, layers=2)
    expected = g.generate("S", count=10, random_seed=5)
    begin, stop = threading.Barrier(5), threading.Event()

    def other(k):
        mine = g.generate(count=k + 2, random_seed=k)
        begin.wait(30)
        while not stop.is_set():
            assert g.generate(count=k + 2, random_seed=k) == mine
            list(islice(g.stream(count=3, random_seed=k), k))

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(other, k) for k in range(4)]
        begin.wait(30)
        try:
            for _ in range(10):
                assert g.generate("S", count=10, random_seed=5) == expected
        finally:
            stop.set()
        for one in work:
            one.result(30)


CHILD = """
import json, sys, charrnn
g = charrnn.load(sys.argv[1])
made = g.generate("R", count=9, random_seed=8, temperature=1.3, top_k=6)
print(json.dumps([[s.text, s.logprob, s.finish_reason, s.novel] for s in made]))
"""


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_fresh_process_that_loads_the_file_gives_the_same_bytes(cell, tmp_path):
    model = names_model(cell=cell, hidden=33, layers=2)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(to_bytes(model))
    asked = {"count": 9, "random_seed": 8, "temperature": 1.3, "top_k": 6}
    here = generator(model).generate("R", **asked)
    assert charrnn.load(path).generate("R", **asked) == here
    assert charrnn.load(str(path)).generate("R", **asked) == here
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == [[s.text, s.logprob, s.finish_reason, s.novel] for s in here]


def test_without_a_random_seed_one_is_drawn_and_reported():
    g = titled()
    first, second = g.generate(count=20), g.generate(count=20)
    assert first.random_seed != second.random_seed  # alike with a chance of 2^-32
    assert texts(first) != texts(second)
    for one in (first, second):
        assert g.generate(count=20, random_seed=one.random_seed) == one


def test_different_random_seeds_and_different_indices_draw_differently():
    g = running(hidden=16)
    found = [
        text
        for random_seed in range(20)
        for text in texts(g.generate(count=5, random_seed=random_seed, max_length=60))
    ]
    assert len(set(found)) == 100


@every_kind
def test_temperature_0_gives_one_text_whatever_the_random_seed(kind):
    g = ALL[kind]()
    found = {
        tuple(g.generate(count=3, temperature=0, random_seed=random_seed, max_length=15))
        for random_seed in range(5)
    }
    assert len(found) == 1
    assert len(set(found.pop())) == 1


def test_all_settings_at_once_equal_the_same_one_by_one():
    g, config = titled(), GenerationConfig(count=3, temperature=0.7, random_seed=3)
    assert g.generate("R", config=config) == g.generate(
        "R", count=3, temperature=0.7, random_seed=3
    )
    assert g.generate(config=config, count=2) == g.generate(config=config)[:2]


# Streams


@every_seed
def test_pieces_add_up_to_the_text_in_order_the_seed_first_and_the_sample_last(kind, seed):
    g = ALL[kind]()
    asked = {"count": 30, "random_seed": 6, "max_length": 14, "temperature": 2}
    made, found = g.generate(seed, **asked), streamed(g.stream(seed, **asked))
    assert sorted(found) == list(range(30))
    for index, pieces in found.items():
        assert "".join(piece.text for piece in pieces) == made[index].text
        assert [piece.sample for piece in pieces] == [None] * (len(pieces) - 1) + [made[index]]
        if seed:
            assert pieces[0].text == made.seed
        assert made[index].text.startswith(made.seed)


def test_without_stop_strings_every_character_is_a_piece_of_its_own():
    pieces = list(running().stream("ab", max_length=12, random_seed=0))
    assert [len(piece.text) for piece in pieces] == [2] + [1] * 10


def test_errors_of_a_stream_are_raised_at_the_call():
    g = titled()
    with pytest.raises(ConfigError):
        g.stream(count=0)
    with pytest.raises(UnknownCharacterError):
        g.stream("!")


def test_a_stream_draws_no_further_than_it_is_read(monkeypatch):
    g, steps = running(), []
    whole = Lanes._multiplication

    def multiplication(self, *arrays):
        multiply = whole(self, *arrays)
        return lambda: steps.append(1) or multiply()

    monkeypatch.setattr(Lanes, "_multiplication", multiplication)
    pieces = g.stream(max_length=LONGEST_TEXT, random_seed=0)
    assert not steps
    for read in (1, 2, 3):
        next(pieces)
        assert len(steps) == read
    pieces.close()


# Stop strings


def stopped(seed, text, stop, min_length):
    """By brute force: where the drawn part first ends with a stop string that leaves enough, the
    longest such is cut off. (text, symbols drawn, reason)
    """
    drawn = text[len(seed) :]
    for n in range(1, len(drawn) + 1):
        ends = [s for s in stop if drawn[:n].endswith(s) and len(seed) + n - len(s) >= min_length]
        if ends:
            return seed + drawn[: n - len(max(ends, key=len))], n, "stop"
    return text, None, None


@pytest.mark.parametrize("kind", ["running", "names"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_stop_strings_equal_cutting_the_unstopped_text(kind, data):
    """Also: the stream emits nothing that isn't in the text, and no more than it must withholds."""
    g = running() if kind == "running" else generator(names_model(("abc", "cab")))
    seed = data.draw(st.sampled_from(["", "a", "ab", "cab", "bbcab"]))
    stop = data.draw(st.lists(st.text("abc", min_size=1, max_size=4), max_size=4))
    min_length = data.draw(st.sampled_from([0, 0, 1, 2, 4, 9, 20]))
    asked = {
        "random_seed": data.draw(st.integers(0, 50)),
        "temperature": data.draw(st.sampled_from([0.5, 1, 3])),
        "min_length": min_length,
        "max_length": data.draw(st.integers(max(len(seed), min_length, 1), 24)),
        "count": 2,
    }
    free, cut = g.generate(seed, **asked), g.generate(seed, stop=stop, **asked)
    found = streamed(g.stream(seed, stop=stop, **asked))
    for index in (0, 1):
        text, drawn, reason = stopped(seed, free[index].text, stop, min_length)
        assert cut[index].text == text
        assert cut[index].finish_reason == (reason or free[index].finish_reason)
        assert len(text) >= min_length or free[index].finish_reason == "end"
        if drawn is None:
            assert cut[index] == free[index]
        else:
            scored = g.score(free[index].text[: len(seed) + drawn]).symbols
            counted = [one.logprob for one in scored[len(seed) : len(seed) + drawn]]
            assert cut[index].logprob == pytest.approx(math.fsum(counted), abs=1e-9)
        emitted = ""
        for piece in found[index]:
            emitted += piece.text
            assert text.startswith(emitted)
        assert emitted == text
        assert found[index][-1].sample == cut[index]


def foretold(monkeypatch, g, text, *, after=0):
    """Make the model sure of this text, symbol by symbol, after so many steps."""
    symbols = iter([0] * after + g.vocabulary.encode(text).tolist())

    def multiplication(self, layer, h, lanes):
        logits = self._products[layer].following[..., lanes, :]

        def multiply():
            logits[...] = -500
            logits[..., next(symbols)] = 500

        return multiply

    monkeypatch.setattr(Lanes, "_multiplication", multiplication)


@pytest.mark.parametrize(
    ("text", "stop", "min_length", "pieces"),
    [
        ("abcab", ["ab"], 0, [""]),  # at the beginning
        ("cabab", ["bab"], 0, ["c", "a", ""]),
        ("aabc", ["abc"], 0, ["a", ""]),
        ("aaab", ["aab"], 0, ["a", ""]),  # the beginning of a stop string slides
        ("ababc", ["abc"], 0, ["ab", ""]),
        ("cabab", ["ab", "abc", "b"], 0, ["c", ""]),  # nested: ab, for it is the longest at b
        ("cacb", ["ab", "abc", "b"], 0, ["c", "ac", ""]),
        ("abcba", ["ab"], 1, ["ab", "c", "b", "a"]),  # it would leave too little: it's text
        ("abab", ["ab"], 1, ["ab", ""]),
        ("ccabc", ["abcc"], 0, ["c", "c", "abc"]),  # held back, and then the length ends it
    ],
)
def test_pieces_come_as_soon_as_they_are_clear_of_every_stop_string(
    text, stop, min_length, pieces, monkeypatch
):
    g = running()
    foretold(monkeypatch, g, text)
    asked = {"max_length": len(text), "min_length": min_length, "stop": stop}
    assert [piece.text for piece in g.stream(**asked)] == pieces


def test_a_stop_string_is_matched_by_the_models_case_rule():
    g = titled()
    free = g.generate(count=30, random_seed=0, temperature=2)
    for upper in (False, True):
        cut = g.generate(count=30, random_seed=0, temperature=2, stop=["EX" if upper else "ex"])
        for one, other in zip(free, cut, strict=True):
            assert other.text == one.text.lower().partition("ex")[0].title()
    assert any(one.finish_reason == "stop" for one in cut)


def test_a_stop_string_that_the_model_can_never_write_changes_nothing():
    g = running()
    assert g.generate(stop=["zzz", "a\x00"], random_seed=1) == g.generate(random_seed=1)


@pytest.mark.parametrize("seed", ["abab", "aba", "c"])
def test_a_stop_string_in_the_seed_or_begun_in_it_is_text(seed, monkeypatch):
    """The seed is emitted, and what was emitted can't be withdrawn."""
    g = running()
    foretold(monkeypatch, g, "bcab", after=len(seed))
    one = g.generate(seed, stop=["ab"], max_length=len(seed) + 4)[0]
    assert (one.text, one.finish_reason) == (f"{seed}bc", "stop")


# Lengths and the ends of a text


@every_kind
def test_a_seed_as_long_as_the_longest_text_is_the_text(kind):
    g, seed = ALL[kind](), SEEDS[kind][2]
    made = g.generate(seed, max_length=len(seed), count=3)
    assert texts(made) == [made.seed] * 3
    assert {(s.logprob, s.finish_reason) for s in made} == {(0.0, "length")}
    pieces = list(g.stream(seed, max_length=len(seed)))
    assert [(p.text, p.sample) for p in pieces] == [(made.seed, made[0])]


def test_a_seed_longer_than_the_longest_text_is_refused():
    with pytest.raises(ConfigError, match="max_length must be at least the seed's length") as error:
        titled().generate("Rex", max_length=2)
    assert [problem.field for problem in error.value.problems] == ["max_length"]


def test_a_seed_longer_than_any_text_is_refused_without_a_max_length_too():
    g = running()
    longest = "a" * LONGEST_TEXT
    with pytest.raises(ConfigError, match=f"seed must have at most {LONGEST_TEXT}"):
        g.generate(longest + "a")
    assert g.generate(longest)[0].text == longest


def test_a_seed_longer_than_the_models_own_length_leaves_room_for_a_symbol():
    g = titled()
    seed = "r" * (g.default_max_length + 5)
    assert {len(text) for text in texts(g.generate(seed, count=9))} <= {len(seed), len(seed) + 1}


def test_the_models_own_length_is_twice_its_longest_name_or_500():
    assert titled().default_max_length == 2 * max(map(len, TITLE_NAMES))
    assert running().default_max_length == TEXT_LENGTH == 500
    assert len(running().generate()[0].text) == 500
    assert len(running().generate(min_length=600)[0].text) == 600


@every_kind
@pytest.mark.parametrize("length", [1, 7])
def test_equal_least_and_greatest_lengths_give_that_length(kind, length):
    made = ALL[kind](end_logit=20).generate(count=9, min_length=length, max_length=length)
    assert {len(text) for text in texts(made)} == {length}
    assert {sample.finish_reason for sample in made} == {"length"}


@every_kind
def test_a_longest_text_of_one_symbol_draws_one(kind):
    made = ALL[kind]().generate(count=40, max_length=1, temperature=3)
    assert max(map(len, texts(made))) == 1
    assert all(len(s.text) == (s.finish_reason == "length") for s in made)


@pytest.mark.parametrize("seed", ["", "Rex", "Rexerus"])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_least_length_counts_the_seed_and_never_loops_where_the_end_is_certain(seed, temperature):
    g = titled(end_logit=60)
    made = g.generate(seed, count=5, min_length=6, max_length=30, temperature=temperature)
    assert {len(text) for text in texts(made)} == {max(6, len(seed))}
    assert {sample.finish_reason for sample in made} == {"end"}


def test_a_model_that_never_ends_stops_at_its_length():
    made = titled(end_logit=-60).generate(count=5, max_length=33)
    assert {(len(s.text), s.finish_reason) for s in made} == {(33, "length")}


def test_no_name_is_empty_however_likely_its_end():
    writer = generator(names_model(end_logit=40.0))
    assert {len(sample.text) for sample in writer.generate(count=50, random_seed=1)} == {1}


@pytest.mark.parametrize("characters", ["ab", "ab ", "ab\n", "\x00\U0001f600"])
def test_running_text_needs_neither_newline_nor_space(characters):
    g = running(characters)
    text = g.generate(max_length=80, random_seed=0)[0].text
    assert len(text) == 80
    assert set(text) <= set(characters)
    assert g.generate(characters, max_length=80)[0].text.startswith(characters)


# Seeds


@pytest.mark.parametrize("seed", ["rex", "REX", "Rex", "rEx"])
def test_letters_of_a_seed_follow_the_models_case_rule(seed):
    made = titled().generate(seed, count=4, random_seed=0)
    assert made.seed == "Rex"
    assert made == titled().generate("Rex", count=4, random_seed=0)


def test_letters_of_a_seed_count_where_the_model_keeps_them():
    g = kept()
    assert g.generate("McR", random_seed=0)[0].text.startswith("McR")
    with pytest.raises(UnknownCharacterError):
        g.generate("mcr")


def test_a_decomposed_seed_equals_the_composed_one():
    g = ALL["sentence"]()
    composed = g.generate("Éx", count=4, random_seed=0)
    assert g.generate("E\u0301x", count=4, random_seed=0) == composed
    assert g.generate("e\u0301X", count=4, random_seed=0) == composed
    assert composed.seed == "Éx"


@pytest.mark.parametrize(
    ("seed", "character", "position"),
    [("Ty!", "T", 0), ("Re!x", "!", 2), ("Rex\n", "\n", 3), ("Rex\U0001f996", "\U0001f996", 3)],
)
def test_an_unknown_character_is_shown_with_its_position_and_the_known(seed, character, position):
    g = generator(names_model(("Rexy", "Xerus")))
    with pytest.raises(UnknownCharacterError) as error:
        g.generate(seed)
    assert (error.value.character, error.value.position) == (character, position)
    assert error.value.known == g.known_characters == "ersuxy"
    assert f"position {position}" in str(error.value)


def test_a_lone_surrogate_is_an_unknown_character():
    for use in (titled().generate, titled().stream, titled().score):
        with pytest.raises(UnknownCharacterError):
            use("Re\ud800")


# Settings that are wrong


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("count", value) for value in (0, -1, 2.5, True, "3", None, 100_001, [1])],
        *[("temperature", v) for v in (-0.1, 10.1, math.nan, math.inf, "1", True, None)],
        *[("top_k", value) for value in (0, 1.5, "3", True)],
        *[("top_p", value) for value in (0, 1.01, -1, "0.5", math.nan)],
        *[("min_length", value) for value in (-1, 1.5, None, LONGEST_TEXT + 1)],
        *[("max_length", value) for value in (0, 1.5, "9", LONGEST_TEXT + 1)],
        *[("stop", value) for value in ("abc", 5, None)],
        *[("random_seed", value) for value in (-1, 1.5, "7", True, 2**53)],
        *[("seed", value) for value in (None, 5, b"Rex", ["R"])],
        ("colour", "red"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_the_field(field, value):
    g = titled()
    for use in (g.generate, g.stream):
        with pytest.raises(ConfigError) as error:
            use(**{field: value})
        assert [problem.field for problem in error.value.problems] == [field]
        assert field in str(error.value)


@pytest.mark.parametrize("stop", [[""], ["a", ""], [5], [b"ab"], ["a" * 101]])
def test_a_wrong_stop_string_is_named_by_its_place(stop):
    with pytest.raises(ConfigError, match=rf"stop\.{len(stop) - 1} "):
        titled().generate(stop=stop)


def test_every_wrong_setting_is_reported_at_once():
    with pytest.raises(ConfigError) as error:
        titled().generate(count=0, temperature=-1, top_p=2)
    assert {problem.field for problem in error.value.problems} == {"count", "temperature", "top_p"}


def test_a_least_length_above_the_greatest_is_refused():
    with pytest.raises(ConfigError, match="min_length must be at most max_length"):
        titled().generate(min_length=9, max_length=8)


def test_numbers_of_numpy_are_numbers():
    g = titled()
    plain = g.generate(count=2, temperature=0.5, random_seed=3, top_k=2)
    assert plain == g.generate(
        count=np.int64(2), temperature=np.float32(0.5), random_seed=np.uint8(3), top_k=2.0
    )


# Novelty


def test_a_text_is_novel_where_it_is_nowhere_in_the_list():
    model = names_model()
    made = generator(model).generate(count=60, random_seed=0, max_length=12)
    assert all(s.novel == (s.text not in TITLE_NAMES) for s in made)
    known = made[0].text  # as the model reads it
    again = generator(replace(model, names=(*model.names, known.lower()))).generate(
        count=60, random_seed=0, max_length=12
    )
    assert texts(again) == texts(made)
    assert {s.text for s in again if not s.novel} == {known}


def test_a_seed_that_is_a_whole_name_is_not_novel():
    made = titled().generate("sauro rex", max_length=9)
    assert (made[0].text, made[0].novel) == ("Sauro Rex", False)


def test_running_text_is_neither_novel_nor_not():
    assert running().generate(max_length=5)[0].novel is None


# Scores


@every_kind
@pytest.mark.parametrize("limits", [{}, {"temperature": 0.2}, {"top_k": 2}, {"min_length": 4}])
def test_a_score_equals_the_logprob_of_the_sample_and_splits_at_the_seed(kind, limits):
    g = ALL[kind]()
    for seed in ("", g.known_characters[-1] * 2):
        for sample in g.generate(seed, count=20, random_seed=0, max_length=25, **limits):
            score = g.score(sample.text)
            drawn = [symbol.logprob for symbol in score.symbols][len(seed) :]
            if g.vocabulary.end is not None and sample.finish_reason == "length":
                drawn.pop()  # the end symbol, which wasn't drawn
            assert sample.logprob == pytest.approx(math.fsum(drawn), abs=1e-9)


@every_kind
def test_a_score_adds_up_its_symbols_and_its_perplexity_is_their_mean(kind):
    g = ALL[kind]()
    text = g.generate(random_seed=1, min_length=4, max_length=9)[0].text
    score = g.score(text)
    ended = g.vocabulary.end is not None
    assert score.text == text
    assert "".join(s.symbol for s in score.symbols) == g.vocabulary.match(text) + "\n" * ended
    assert score.logprob == math.fsum(s.logprob for s in score.symbols)
    assert score.perplexity == pytest.approx(math.exp(-score.logprob / (len(text) + ended)))
    assert all(s.logprob <= 0 for s in score.symbols)


def test_a_score_equals_float64_and_names_the_likeliest_symbol():
    g = titled(hidden=40, layers=2)
    exact = type(g.model)(g.model.config, g.model.params.astype(np.float64))
    state, before = exact.init_state(1), g.vocabulary.start
    score = g.score("Sauro-Rex")
    for symbol in score.symbols:
        logits, state = exact.step(np.array([before]), state)
        before = g.vocabulary.symbols.index(symbol.symbol)
        expected = logits[0, before] - np.log(np.exp(logits[0]).sum())
        assert abs(symbol.logprob - expected) < 1e-5
        assert symbol.likeliest == g.vocabulary.symbols[logits[0].argmax()]


def test_scores_of_all_texts_of_a_length_add_up_to_one():
    g = running("abc")
    every = [a + b + c for a in "abc" for b in "abc" for c in "abc"]
    assert sum(math.exp(g.score(text).logprob) for text in every) == pytest.approx(1, abs=1e-6)


def test_the_empty_name_has_a_score_and_the_empty_running_text_none():
    score = titled().score("")
    assert [s.symbol for s in score.symbols] == ["\n"]
    with pytest.raises(ConfigError, match="text must have from 1"):
        running().score("")


def test_what_can_not_be_scored_is_refused():
    g = running()
    for wrong in (None, 5, b"abc"):
        with pytest.raises(ConfigError, match="text must be text"):
            g.score(wrong)
    with pytest.raises(ConfigError, match=f"from 1 to {LONGEST_TEXT} symbols"):
        g.score("a" * (LONGEST_TEXT + 1))
    with pytest.raises(UnknownCharacterError, match="position 2"):
        g.score("ab!")


def test_the_score_of_an_all_but_impossible_text_is_finite():
    model = text_model("abc")
    params = model.params.astype(np.float32)
    params["out.c"][0] = 1e5
    score = generator(replace(model, params=params)).score("bbb")
    assert math.isfinite(score.logprob)
    assert math.isfinite(score.perplexity)


# The rest of the door


@every_kind
def test_a_card_is_ready_for_json(kind):
    g = ALL[kind]()
    card = g.card()
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["kind"] == ("text" if kind == "running" else "names")
    assert card["parameters"] == sum(array.size for array in g.frozen.params.values())
    assert card["vocabulary"] == len(g.vocabulary)
    assert "\n" not in card["known_characters"] or kind == "running"


def test_what_is_known_leaves_out_the_end_symbol_of_names_alone():
    assert kept().known_characters == "".join(sorted(set("".join(KEPT_NAMES))))
    assert running("a\n").known_characters == "\na"


@pytest.fixture
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        yield [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


def blas_counts():
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


@every_kind
@pytest.mark.parametrize("read", [0, 1, 2, 5])
def test_a_stream_that_is_closed_early_leaves_nothing_behind(kind, read, two_threads):
    pieces = ALL[kind]().stream(count=9, random_seed=0)
    for _ in range(read):
        next(pieces)
        assert blas_counts() == two_threads  # not even while it waits for its reader
    pieces.close()
    assert not threads._users
    assert blas_counts() == two_threads


@pytest.mark.parametrize("where", ["generate", "stream", "score"])
def test_an_exception_in_the_middle_leaves_nothing_behind(where, two_threads, monkeypatch):
    g, calls = titled(), []
    whole = Lanes._multiplication

    def multiplication(self, *arrays):
        multiply = whole(self, *arrays)

        def counted():
            calls.append(1)
            if len(calls) == 3:
                assert set(blas_counts()) <= {1}
                raise MemoryError
            multiply()

        return counted

    expected = titled().generate(count=4, random_seed=0)
    monkeypatch.setattr(Lanes, "_multiplication", multiplication)
    use = {
        "generate": lambda: g.generate(count=4, random_seed=0),
        "stream": lambda: list(g.stream(count=4, random_seed=0)),
        "score": lambda: g.score("Rex Rex"),
    }
    with pytest.raises(MemoryError):
        use[where]()
    assert not threads._users
    assert blas_counts() == two_threads
    assert g.generate(count=4, random_seed=0) == expected


def test_a_large_vocabulary_generates_and_scores():
    characters = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))
    vocabulary = Vocabulary.of([characters], ends=False)
    g = generator(frozen("text", vocabulary))
    sample = g.generate(max_length=9, random_seed=0)[0]
    assert sample.logprob == pytest.approx(g.score(sample.text).logprob, abs=1e-9)


def test_a_samples_random_numbers_are_a_jump_of_the_requests_stream():
    """So the streams of two samples never overlap: numpy's own way to make them."""
    g = running()
    for index, attempt in ((0, 0), (1, 0), (7, 3), (10**6, 0), (10**5, 1000)):
        writer = g.writer()
        mine = writer._rng(np.random.PCG64(123).state, index, attempt)
        numpys = np.random.Generator(np.random.PCG64(123).jumped(index + (attempt << 40)))
        assert mine.bit_generator.state == numpys.bit_generator.state


def test_many_requests_at_once_give_what_each_gives_alone():
    g = titled(hidden=64, layers=2)
    settings = [
        {"count": 1},
        {"count": 9, "temperature": 0.5},
        {"count": 70, "top_k": 5},
        {"count": 3, "min_length": 12, "max_length": 30},
        {"count": 6, "stop": ["a", "s"]},
        {"count": 2, "max_length": 2},
        {"count": 5, "top_p": 0.7},
    ]
    requests = [
        (seed, GenerationConfig(random_seed=k, **settings[k % 7]))
        for k, seed in enumerate(["", "Re", "S", "", "Ta", "Xe", ""] * 20)
    ]
    expected = [g.generate(seed, config=config) for seed, config in requests]
    made = g.generate_many(requests)
    assert made == expected
    for mine, alone in zip(made, expected, strict=True):
        assert (mine.seed, mine.random_seed, mine.requested) == (
            alone.seed,
            alone.random_seed,
            alone.requested,
        )
    assert g.generate_many(requests[::-1]) == expected[::-1]
    assert g.generate_many([]) == []


@pytest.mark.parametrize("bad", [None, "Rex", ("Rex",), 3, {"seed": "Rex"}])
def test_a_request_of_many_that_is_none_is_named(bad):
    with pytest.raises(ConfigError, match=r"requests\[1\] must be a seed and its GenerationConfig"):
        titled().generate_many([("Re", GenerationConfig()), bad])


def test_what_requests_begin_with_is_read_when_they_begin(monkeypatch):
    """So ten thousand requests hold no more than those that are being written."""
    g, held = titled(), []
    whole = CompiledModel.read
    monkeypatch.setattr(
        CompiledModel, "read", lambda self, prompt: held.append(prompt) or whole(self, prompt)
    )
    written = g._stream(g.request("R", GenerationConfig(count=500, max_length=6)))
    next(written)
    assert len(held) == 1
    config = GenerationConfig(max_length=3, random_seed=0)
    requests = [g.request("R", config) for _ in range(300)]
    news = g.writer().write(requests, 1)
    next(news)
    assert len(held) < 100
    assert len([each for each in news if each.sample]) == 300
    assert len(held) == 301


def written_alone(g, request):
    return [news for news in g.writer().write([request], 8) if news.sample]


def test_many_texts_share_products_if_their_random_seed_is_ours():
    g, plain = titled(hidden=64), ("", GenerationConfig())
    assert g.generate(count=MANY).random_seed >= FIRST_SHARED_SEED
    assert g.generate(count=MANY - 1).random_seed < FIRST_SHARED_SEED
    assert g.generate(count=MANY, random_seed=7).random_seed == 7
    for made in g.generate_many([plain] * MANY):
        assert made.random_seed >= FIRST_SHARED_SEED
        assert made == g.generate(random_seed=made.random_seed)


def test_requests_that_join_and_leave_between_turns_get_what_each_gets_alone():
    """At random: some leave in the middle, some have one turn of a symbol, some many."""
    g, rng = titled(hidden=64, layers=2), np.random.default_rng(0)
    requests = [
        g.request(
            ["", "Re", "S", "Tat"][k % 4],
            GenerationConfig(
                random_seed=k, count=int(rng.integers(1, 90)), stop=[[], ["a"]][k % 2]
            ),
        )
        for k in range(40)
    ]
    writer, waiting, numbers = g.writer(), list(range(40)), {}
    samples, texts, left, paused = {}, {}, set(), set()
    while waiting or writer.busy:
        for _ in range(int(rng.integers(0, 4))):
            if waiting:
                place = waiting.pop()
                numbers[writer.join(requests[place])] = place
        for news in writer.turn(int(rng.choice([1, 3, 200]))):
            key = numbers[news.request], news.sample_index
            assert key[0] not in left
            texts[key] = texts.get(key, "") + news.characters
            if news.sample:
                samples[key] = news.sample
        for number in list(writer._open):
            if rng.random() < 0.02:
                writer.leave(number)
                left.add(numbers[number])
            elif rng.random() < 0.5:
                paused.add(number)
                writer.pause(number)
            elif rng.random() < 0.8:
                writer.resume(number)
    assert len(left) > 5
    assert len(paused) > 20
    for place, request in enumerate(requests):
        expected = {news.sample_index: news.sample for news in written_alone(g, request)}
        found = {index: one for (other, index), one in samples.items() if other == place}
        if place in left:
            assert found.items() <= expected.items()
        else:
            assert found == expected
    for key, sample in samples.items():
        assert g.vocabulary.write(texts[key]) == sample.text


def test_a_request_stands_still_while_it_is_paused():
    g = running()
    writer = g.writer()
    number = writer.join(g.request("", GenerationConfig(count=200, max_length=50)))
    live = len(writer.turn(3))
    assert live == writer.live >= SLOTS
    writer.pause(number)
    writer.pause(number)
    assert not writer.turn(3)
    assert writer.busy
    writer.resume(number)
    writer.resume(number)
    assert len(writer.turn(3)) == live


def test_a_request_that_is_ended_keeps_what_its_texts_have():
    g = running()
    config = GenerationConfig(count=200, max_length=500, random_seed=1, stop=["ab"])
    request = g.request("abc", config)
    whole = {news.sample_index: news.sample.text for news in written_alone(g, request)}
    writer = g.writer()
    number = writer.join(request)
    shown = {}
    for _ in range(4):
        for news in writer.turn(8):
            shown[news.sample_index] = shown.get(news.sample_index, "") + news.characters
    ended = writer.end(number)
    assert not writer.busy
    assert not writer.end(number)
    assert {news.sample.finish_reason for news in ended} == {"time"}
    assert 0 < len(ended) <= SLOTS + 1
    for news in ended:
        text = news.sample.text
        assert text == shown[news.sample_index] + news.characters
        assert whole[news.sample_index].startswith(text.removesuffix("a"))
        assert news.sample.logprob < 0


def test_a_request_that_leaves_gives_its_slots_back_at_once():
    g = titled()
    writer, config = g.writer(), GenerationConfig(count=500, max_length=900, temperature=9)
    number = writer.join(g.request("", config))
    writer.turn(1)
    writer.leave(number)
    writer.leave(number)
    assert not writer.busy
    assert {queue.batch.free for queue in writer._queues()} == {SLOTS}
    assert not writer.turn(1)


def test_a_long_prompt_is_read_between_the_steps_of_others(monkeypatch):
    g = running()
    rng = np.random.default_rng(0)
    seeds = ["".join(rng.choice(list(g.known_characters), n)) for n in (2000, 700, 65, 64, 3)]
    requests = [g.request(seed, GenerationConfig(random_seed=1, count=3)) for seed in seeds]
    expected = [written_alone(g, request) for request in requests]
    whole, read = CompiledModel.read, []
    monkeypatch.setattr(
        CompiledModel,
        "read",
        lambda self, ids, *more: read.append(len(ids)) or whole(self, ids, *more),
    )
    writer = g.writer()
    numbers = [writer.join(request) for request in requests]
    turns, samples = [], {number: {} for number in numbers}
    while writer.busy:
        before = len(read)
        for news in writer.turn(8):
            if news.sample:
                samples[news.request][news.sample_index] = news.sample
        turns.append(sum(read[before:]))
    for number, each in zip(numbers, expected, strict=True):
        assert samples[number] == {news.sample_index: news.sample for news in each}
    assert sum(turns) > 2700
    assert max(turns[1:]) < 100, "those that are short are read at once, in the first turn"


def test_a_request_that_leaves_is_read_no_further():
    g = running()
    writer = g.writer()
    numbers = [writer.join(g.request("abc" * 500, GenerationConfig(count=2))) for _ in range(3)]
    writer.turn(8)
    writer.leave(numbers[1])
    assert not writer.end(numbers[0])
    writer.pause(numbers[2])
    for _ in range(200):
        assert not writer.turn(8)
    writer.resume(numbers[2])
    assert writer.turn(8)


def test_a_request_of_many_samples_does_not_keep_others_from_the_batch():
    g = running()
    writer = g.writer()
    writer.join(g.request("", GenerationConfig(count=1000, max_length=1000)))
    writer.turn(8)
    second = writer.join(g.request("", GenerationConfig(count=40, max_length=8)))
    turns = 0
    while second in writer._open:
        writer.turn(8)
        turns += 1
    assert turns < 130  # those of the thousand that were first are over after 125


def test_a_network_whose_logits_are_no_numbers_is_refused():
    model = names_model()
    params = model.params.like(model.params.flat.copy())
    params["out.c"][2] = np.nan
    g = generator(replace(model, params=params))
    for use in (lambda: g.generate(count=9), lambda: list(g.stream())):
        with pytest.raises(WeightsCorruptError, match="must be finite"):
            use()


def test_where_no_shared_product_is_exact_all_samples_are_multiplied_alone(monkeypatch):
    g, turns = titled(), []
    monkeypatch.setattr(CompiledModel, "block", BY_ROW)
    whole = DecodeBatch.step
    monkeypatch.setattr(DecodeBatch, "step", lambda self, n: turns.append(self) or whole(self, n))
    made = g.generate(count=90, random_seed=3)
    assert g.generate(count=2, random_seed=3) == made[:2]
    assert g.generate(count=9, random_seed=3) == made[:9]
    assert len(set(turns)) == 1
