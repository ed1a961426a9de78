"""Sampling: the draws against the distribution they promise, at every temperature and limit.

The statistical tests have fixed seeds. Their bound on Pearson's statistic of n cells, with
k = n - 1, is k + 2 sqrt(k x) + 2 x at x = ln(10^6): a chi-square variable exceeds it with a chance
below 10^-6 (Laurent & Massart 2000, lemma 1), which is the odds of a false alarm for each test.
"""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from charrnn.config import GenerationConfig
from charrnn.sampling import Limits, scaled_noise

DRAWS = 200_000
LOGITS = np.array([2.0, 1.2, 1.2, 0.1, -0.5, -1.3, -3.0, -4.0], np.float32)
LIMITS = [(None, None), (3, None), (1, None), (None, 0.6), (None, 0.95), (5, 0.8)]


def gumbel_noise(rng, steps, vocab):
    """As `scaled_noise` makes it, which a test below holds to this."""
    exponentials = rng.standard_exponential((steps, vocab)).astype(np.float32)
    return -np.log(np.maximum(exponentials, np.finfo(np.float32).tiny))


def allowed_symbols(logits, configs):
    """Which symbols may be drawn, (B, V) bool."""
    order, ranks = Limits(configs, logits.shape[1]).ranked(logits)
    allowed = np.zeros(logits.shape, bool)
    np.put_along_axis(allowed, order, ranks, axis=1)
    return allowed & (logits > -np.inf)


def top_symbols(logits, temperature, top_k, top_p):
    config = GenerationConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    return allowed_symbols(logits[None], [config])[0]


def scores(logits, temperature, noise):
    """As the decoder makes them (tests/test_decoding.py holds it to this)."""
    return logits + logits.dtype.type(temperature) * noise


def drawn(logits, temperature, top_k=None, top_p=None, *, draws=DRAWS, seed=0):
    allowed = top_symbols(logits, temperature, top_k, top_p)
    noise = gumbel_noise(np.random.default_rng(seed), draws, len(logits))
    return np.where(allowed, scores(logits, temperature, noise), -np.inf).argmax(axis=1)


def softmax(logits, temperature):
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return weights / weights.sum()


def defined(logits, temperature, top_k, top_p):
    """The definition, one symbol at a time: the k first, then the fewest that add up to p. Also
    whether it is clear: whether no sum is within rounding of p.
    """
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    order = [i for i in order if logits[i] > -math.inf][:top_k]
    if top_p is None or top_p == 1:
        return set(order), True
    exact = [float(logits[i]) for i in order]
    if temperature == 0:
        weights = [float(x == exact[0]) for x in exact]
    else:
        weights = [math.exp(max(-800.0, (x - exact[0]) / temperature)) for x in exact]
    wanted, kept, together, clear = top_p * math.fsum(weights), [], 0.0, True
    for i, weight in zip(order, weights, strict=True):
        clear &= abs(together - wanted) > 1e-9 * wanted
        if together >= wanted:
            break
        kept.append(i)
        together += weight
    return set(kept), clear


def assert_drawn_from(ids, probabilities):
    expected = len(ids) * probabilities
    counts = np.bincount(ids, minlength=len(expected))
    assert not counts[expected == 0].any()
    expected, counts = expected[expected > 0], counts[expected > 0]
    order = np.argsort(expected)  # cells of fewer than 10 expected are counted together
    few = order[expected[order] < 10]
    if few.size:
        expected = np.append(np.delete(expected, few), expected[few].sum())
        counts = np.append(np.delete(counts, few), counts[few].sum())
    statistic = ((counts - expected) ** 2 / expected).sum()
    k, x = len(expected) - 1, math.log(1e6)
    assert statistic <= k + 2 * math.sqrt(k * x) + 2 * x


# The distribution


@pytest.mark.parametrize("temperature", [0.3, 1, 3])
@pytest.mark.parametrize(("top_k", "top_p"), LIMITS)
@pytest.mark.parametrize("forbidden", [(), (0,), (1, 3, 7)])
def test_draws_follow_the_renormalised_softmax(temperature, top_k, top_p, forbidden):
    logits = LOGITS.copy()
    logits[list(forbidden)] = -np.inf
    probabilities = softmax(logits, temperature)
    kept, clear = defined(logits, temperature, top_k, top_p)
    assert clear
    probabilities[[i for i in range(8) if i not in kept]] = 0
    ids = drawn(logits, temperature, top_k, top_p)
    assert_drawn_from(ids, probabilities / probabilities.sum())


def test_the_bound_of_these_tests_sees_an_error_of_three_percent():
    """Their power: temperature 1.03 is told from 1."""
    ids = drawn(LOGITS, 1.03)
    with pytest.raises(AssertionError):
        assert_drawn_from(ids, softmax(LOGITS, 1))


def test_draws_follow_the_softmax_over_a_large_vocabulary():
    logits = np.random.default_rng(1).normal(0, 2, 300).astype(np.float32)
    assert_drawn_from(drawn(logits, 1, draws=100_000), softmax(logits, 1))


def test_successive_draws_are_independent():
    ids = drawn(LOGITS[:3], 1)
    pairs = ids[:-1] * 3 + ids[1:]
    one = softmax(LOGITS[:3], 1)
    assert_drawn_from(pairs[::2], np.outer(one, one).ravel())
    assert_drawn_from(pairs[1::2], np.outer(one, one).ravel())


def test_equal_logits_are_drawn_equally_often_at_low_temperatures():
    """Not the first of them always: rounding of logits + T g keeps enough of the noise."""
    for temperature in (0.01, 0.001):
        assert_drawn_from(drawn(np.full(4, 3.7, np.float32), temperature), np.full(4, 0.25))


# Rare symbols


def test_noise_is_minus_the_logarithm_of_standard_exponentials():
    exponentials = np.random.default_rng(3).standard_exponential((50, 7))
    noise = gumbel_noise(np.random.default_rng(3), 50, 7)
    assert noise.dtype == np.float32
    assert np.abs(noise - -np.log(exponentials)).max() < 2e-6


class Given:
    """A generator of random numbers that gives these exponentials."""

    def __init__(self, exponentials):
        self.exponentials = exponentials

    def standard_exponential(self, shape):
        assert self.exponentials.shape == shape
        return self.exponentials.copy()


@pytest.mark.parametrize("rare", [1e-5, 1e-7, 1e-10, 1e-13])
@pytest.mark.parametrize("temperature", [0.3, 1, 3])
def test_rare_symbols_are_neither_lost_nor_inflated(rare, temperature):
    """By importance: the rare symbol's exponential E is drawn from [0, 100 p] alone, which holds
    all of its wins (but e^-100) and where its density is even to 1e-3. Then it should win in one
    of 100: of a million, 10,000 with a standard deviation below 100. Six of them, and the
    unevenness, make the bound; the odds of a false alarm are below 10^-8.
    """
    rng, n = np.random.default_rng(5), 1_000_000
    exponentials = rng.standard_exponential((n, 2))
    exponentials[:, 1] = rng.uniform(0, 100 * rare, n)
    logits = np.array([1.25, 1.25 + temperature * math.log(rare)], np.float32)
    ratio = math.exp((float(logits[1]) - float(logits[0])) / float(np.float32(temperature)))
    noise = gumbel_noise(Given(exponentials), n, 2)
    wins = int(scores(logits, temperature, noise).argmax(axis=1).sum())
    expected = n * ratio / (100 * rare)
    assert abs(wins - expected) < 6 * 100 + 1e-3 * n / 100


def test_the_generators_own_tail_reaches_rare_symbols():
    """A symbol of p = 1e-5, 4,000,000 times: 40 are expected. Below 12 or above 90 is a Poisson
    chance below 10^-6.
    """
    rng, wins = np.random.default_rng(6), 0
    logits = np.array([0, math.log(1e-5)], np.float32)
    for _ in range(8):
        wins += int(scores(logits, 1, gumbel_noise(rng, 500_000, 2)).argmax(axis=1).sum())
    assert 12 <= wins <= 90


def test_an_exponential_of_zero_gives_finite_noise():
    noise = gumbel_noise(Given(np.array([[0.0, 5e-324, 1.0]])), 1, 3)
    assert np.isfinite(noise).all()


# Bits


@pytest.mark.parametrize("cuts", [[32], [1] * 32, [5, 0, 20, 7], [31, 1]])
def test_rows_of_noise_do_not_depend_on_how_they_are_split_into_calls(cuts):
    whole = gumbel_noise(np.random.default_rng(2), 32, 13)
    rng = np.random.default_rng(2)
    assert np.array_equal(np.concatenate([gumbel_noise(rng, n, 13) for n in cuts]), whole)


def test_each_sequence_has_the_noise_of_its_own_numbers_temperature_and_bias():
    bias = np.array([1, -2, 0.5], np.float32)
    rngs = [np.random.default_rng(k) for k in range(3)]
    noise = np.empty((3, 6, 3), np.float32)
    scaled_noise(rngs, [1, 0, 2.5], bias, noise)
    for k, temperature in enumerate((1, 0, 2.5)):
        alone = np.float32(temperature) * gumbel_noise(np.random.default_rng(k), 6, 3) + bias
        assert np.array_equal(noise[k], alone)
        again = np.empty((1, 6, 3), np.float32)
        scaled_noise([np.random.default_rng(k)], [temperature], bias, again)
        assert np.array_equal(again[0], alone)


def test_rows_have_their_own_limits_whatever_the_others_have():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (40, 9)).astype(np.float32)
    logits[rng.random((40, 9)) < 0.2] = -np.inf
    logits[:, 4] = 0
    limits = [LIMITS[k] for k in rng.integers(0, len(LIMITS), 40)]
    configs = [
        GenerationConfig(temperature=float(t), top_k=k, top_p=p)
        for t, (k, p) in zip(rng.choice([0, 0.5, 1, 4], 40), limits, strict=True)
    ]
    together, scores = allowed_symbols(logits, configs), rng.normal(size=logits.shape)
    scores[logits == -np.inf] = -np.inf
    chosen = Limits(configs, 9).choose(logits, scores)
    assert np.array_equal(chosen, np.where(together, scores, -np.inf).argmax(axis=1))
    for row, config, allowed in zip(logits, configs, together, strict=True):
        assert np.array_equal(allowed_symbols(row[None], [config])[0], allowed)


# The edges


def test_temperature_0_is_the_argmax_and_the_first_of_equals():
    rng = np.random.default_rng(4)
    for _ in range(200):
        logits = rng.integers(-3, 4, 6).astype(np.float32)
        for top_k, top_p in LIMITS:
            assert (drawn(logits, 0, top_k, top_p, draws=20) == logits.argmax()).all()


@pytest.mark.parametrize("temperature", [1e-300, 5e-324, 1e-40, 2e-38])
@pytest.mark.parametrize("scale", [1e-3, 1, 1e30, 1e38, 3e38])
@pytest.mark.parametrize(("top_k", "top_p"), LIMITS)
def test_tiny_temperatures_and_huge_logits_choose_as_temperature_0(
    temperature, scale, top_k, top_p
):
    for shape in ([-1, 1, 0.5, -0.25], [1, -1, 0, 0.999], [-1, -1, -1, -0.99]):
        logits = np.float32(scale) * np.array(shape, np.float32)
        noise = gumbel_noise(np.random.default_rng(0), 50, 4)
        assert np.isfinite(scores(logits, temperature, noise)).all()
        assert (drawn(logits, temperature, top_k, top_p, draws=50) == logits.argmax()).all()


@pytest.mark.parametrize("temperature", [0, 5e-324, 0.3, 1, 10])
@pytest.mark.parametrize("big", [1e30, 3.4e38])
def test_huge_logits_make_no_nan_no_infinity_and_no_warning(temperature, big):
    logits = np.array([big, -big, 0, 5, -np.inf], np.float32)
    noise = gumbel_noise(np.random.default_rng(0), 1000, 5)
    assert np.isfinite(scores(logits[:4], temperature, noise[:, :4])).all()
    for top_k, top_p in LIMITS:
        assert (drawn(logits, temperature, top_k, top_p, draws=100) == 0).all()


# Which symbols may be drawn

LOGIT = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-50, 50, width=32),
    st.sampled_from([-math.inf, 1e30, -1e30]),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(LOGIT, min_size=1, max_size=9).filter(lambda values: max(values) > -math.inf),
    st.sampled_from([0, 5e-324, 1e-40, 0.1, 1, 3, 10]),
    st.one_of(st.none(), st.integers(1, 12)),
    st.one_of(st.none(), st.just(1.0), st.floats(1e-300, 1), st.floats(0.3, 1)),
)
def test_the_symbols_that_may_be_drawn_are_those_of_the_definition(values, temperature, k, p):
    logits = np.array(values, np.float32)
    expected, clear = defined(logits, temperature, k, p)
    assume(clear)
    allowed = top_symbols(logits, temperature, k, p)
    assert set(np.flatnonzero(allowed).tolist()) == expected
    assert allowed[logits.argmax()]
    assert logits[allowed].min() >= max(logits[~allowed], default=-math.inf)


def test_of_equals_the_first_are_kept():
    logits = np.array([1, 2, 2, 2, 1], np.float32)
    assert np.flatnonzero(top_symbols(logits, 1, 2, None)).tolist() == [1, 2]
    assert np.flatnonzero(top_symbols(logits, 0, None, 0.5)).tolist() == [1, 2]
    assert np.flatnonzero(top_symbols(np.zeros(4, np.float32), 1, None, 0.5)).tolist() == [0, 1]


def test_more_symbols_than_there_are_keeps_all_that_are_not_forbidden():
    logits = np.array([1, -np.inf, 3], np.float32)
    assert top_symbols(logits, 1, 10**6, None).tolist() == [True, False, True]


def test_all_of_the_probability_keeps_even_what_rounding_would_lose():
    logits = np.array([0, -50, -80, -np.inf], np.float32)
    assert top_symbols(logits, 1, None, 1.0).tolist() == [True, True, True, False]


def test_the_only_symbol_that_is_not_forbidden_is_kept_whatever_the_limits():
    logits = np.full(5, -np.inf, np.float32)
    logits[3] = -1e30
    for temperature in (0, 5e-324, 1, 10):
        for top_k, top_p in [*LIMITS, (1, 1e-300), (9, 1)]:
            assert np.flatnonzero(top_symbols(logits, temperature, top_k, top_p)).tolist() == [3]
