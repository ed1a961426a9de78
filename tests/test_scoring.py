"""How probable texts are."""

import math
from dataclasses import replace

import numpy as np
import pytest

from charrnn.config import LONGEST_TEXT
from charrnn.errors import ConfigError, UnknownCharacterError
from tests.kinds import ALL, every_kind
from tests.models import (
    generator,
    names_model,
    running,
    text_model,
    titled,
)


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


def test_names_without_a_list_have_no_share():
    empty = replace(names_model(), names=())
    score = generator(empty).score("Rex")
    assert math.isfinite(score.logprob)
    assert score.likelier_than is None
