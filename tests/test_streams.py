"""Streams: pieces that add up to the text, stop strings, and what a stream leaves behind."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from charrnn import threads
from charrnn.compiled import Lanes
from charrnn.config import LONGEST_TEXT
from charrnn.errors import ConfigError, UnknownCharacterError
from tests.kinds import ALL, every_kind, every_seed, streamed
from tests.models import (
    generator,
    names_model,
    running,
    titled,
)


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
@settings(max_examples=60, deadline=None)
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

    def multiplication(self, layer, h, lanes, fours):
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
