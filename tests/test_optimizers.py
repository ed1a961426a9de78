"""Update rules against naive ones in float64, clipping, and the course of the learning rate."""

import math

import numpy as np
import pytest

from charrnn import optimizers
from charrnn.config import TrainConfig
from charrnn.optimizers import (
    OPTIMIZERS,
    clip_by_norm,
    clip_by_value,
    learning_rate,
)
from charrnn.parameters import Parameters

SHAPES = {"U": (5, 3), "b": (3,), "V": (3, 4), "c": (4,)}
WEIGHTS = ("U", "V")
RATES = (0.1, 0.05, 0.2, 0.01, 0.03, 0.1)  # a schedule: no rule may assume a constant rate


def naive(name, config, start, gradients):
    """Each rule from its paper's lines, on dictionaries of float64."""
    p = {n: array.copy() for n, array in start.items()}
    m, v = ({n: np.zeros_like(array) for n, array in p.items()} for _ in range(2))
    b1, b2, epsilon, decay = config.beta1, config.beta2, config.epsilon, config.weight_decay
    for t, (rate, gradient) in enumerate(zip(RATES, gradients, strict=True), start=1):
        for n in p:
            g, shrinks = gradient[n].copy(), n in WEIGHTS and decay > 0
            if shrinks and name == "adamw":
                p[n] = p[n] - rate * decay * p[n]
            elif shrinks:
                g = g + decay * p[n]
            if name == "sgd":
                p[n] = p[n] - rate * g
            elif name == "adagrad":
                v[n] = v[n] + g**2
                p[n] = p[n] - rate * g / np.sqrt(v[n] + epsilon)
            else:
                m[n] = b1 * m[n] + (1 - b1) * g
                v[n] = b2 * v[n] + (1 - b2) * g**2
                mean, square = m[n] / (1 - b1**t), v[n] / (1 - b2**t)
                p[n] = p[n] - rate * mean / (np.sqrt(square) + epsilon)
    return np.concatenate([p[n].ravel() for n in p])


def stepped(name, config, dtype, seed=0):
    """Parameters after all steps by our rule and by the naive one, and the optimizer."""
    rng = np.random.default_rng(seed)
    params = Parameters.zeros(SHAPES, dtype)
    params.flat[:] = rng.normal(size=params.flat.size)
    gradients = [params.like(rng.normal(size=params.flat.size).astype(dtype)) for _ in RATES]
    exact = [{n: g[n].astype(np.float64) for n in g} for g in gradients]
    expected = naive(name, config, {n: params[n].astype(np.float64) for n in params}, exact)
    optimizer = OPTIMIZERS[name](params, config)
    for t, (rate, gradient) in enumerate(zip(RATES, gradients, strict=True), start=1):
        optimizer.step(params.flat, gradient.flat, rate, t)
    return params.flat, expected, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("decay", [0, 0.3])
@pytest.mark.parametrize("rule", [{}, {"beta1": 0, "beta2": 0}, {"epsilon": 1, "beta2": 0.999}])
def test_each_rule_equals_its_paper_in_float64(name, decay, rule):
    config = TrainConfig(optimizer=name, weight_decay=decay, **rule)
    params, expected, _ = stepped(name, config, np.float64)
    assert np.abs(params - expected).max() < 1e-12
    single, expected, optimizer = stepped(name, config, np.float32)
    assert np.abs(single - expected).max() < 1e-5
    assert {array.dtype for array in (single, *optimizer.moments.values())} == {
        np.dtype(np.float32)
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block", [1, 5, 34, 33, 1000])
def test_updates_by_blocks_equal_the_whole_bit_for_bit(name, dtype, block, monkeypatch):
    config = TrainConfig(optimizer=name, weight_decay=0.1)
    whole, _, first = stepped(name, config, dtype)
    monkeypatch.setattr(optimizers, "BLOCK", block)
    blocked, _, second = stepped(name, config, dtype)
    assert np.array_equal(blocked, whole)
    for moment, values in first.moments.items():
        assert np.array_equal(second.moments[moment], values)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_do_not_decay(name):
    moved = {}
    for decay in (0, 0.5):
        params = Parameters.zeros(SHAPES)
        params.flat[:] = 1
        config = TrainConfig(optimizer=name, weight_decay=decay)
        OPTIMIZERS[name](params, config).step(params.flat, np.zeros_like(params.flat), 0.1, 1)
        moved[decay] = params
    for n in SHAPES:
        assert (moved[0][n] == 1).all()
        assert (moved[0.5][n] < 1).all() == (n in WEIGHTS)


def test_adamws_decay_does_not_pass_through_the_moments_and_adams_does():
    for name, untouched in (("adamw", True), ("adam", False)):
        params = Parameters.zeros(SHAPES)
        params.flat[:] = 2
        optimizer = OPTIMIZERS[name](params, TrainConfig(optimizer=name, weight_decay=0.5))
        optimizer.step(params.flat, np.zeros_like(params.flat), 0.1, 1)
        assert (not optimizer.moments["square"].any()) == untouched
        if untouched:
            assert np.allclose(params["U"], 2 * (1 - 0.1 * 0.5), atol=1e-7)


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_adams_first_step_is_the_rate_whatever_the_gradients_size(name, size):
    params = Parameters.zeros({"b": (2,)}, np.float64)
    config = TrainConfig(optimizer=name, epsilon=1e-20)
    OPTIMIZERS[name](params, config).step(params.flat, np.array([size, -size]), 0.01, 1)
    assert np.allclose(params.flat, [-0.01, 0.01], rtol=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_copy_of_the_moments_goes_on_bit_for_bit(name):
    config, rng = TrainConfig(optimizer=name, weight_decay=0.1), np.random.default_rng(0)
    params = Parameters.zeros(SHAPES)
    params.flat[:] = rng.normal(size=params.flat.size)
    gradients = rng.normal(size=(6, params.flat.size)).astype(np.float32)
    first = OPTIMIZERS[name](params, config)
    for t in range(3):
        first.step(params.flat, gradients[t].copy(), 0.1, t + 1)
    resumed = params.like(params.flat.copy())
    second = OPTIMIZERS[name](resumed, config)
    for moment, values in first.moments.items():
        second.moments[moment][:] = values
    for t in range(3, 6):
        first.step(params.flat, gradients[t].copy(), 0.1, t + 1)
        second.step(resumed.flat, gradients[t].copy(), 0.1, t + 1)
    assert np.array_equal(params.flat, resumed.flat)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_follow_a_bowl_down_to_its_bottom(name):
    params = Parameters.zeros({"b": (4,)}, np.float64)
    bottom = np.array([1.0, -2.0, 0.5, 3.0])
    optimizer = OPTIMIZERS[name](params, TrainConfig(optimizer=name))

    def rate(t):
        return 1.0 if name == "adagrad" else 0.5 / math.sqrt(t)  # Adagrad slows down by itself

    for t in range(1, 801):
        optimizer.step(params.flat, params.flat - bottom, rate(t), t)
    assert np.abs(params.flat - bottom).max() < 0.05


# Clipping


def test_clipping_by_value_bounds_each_component_and_leaves_the_rest():
    gradient = np.array([-7, -5, -1, 0, 4.5, 5, 80, np.inf, -np.inf], np.float32)
    clip_by_value(gradient, 5)
    assert gradient.tolist() == [-5, -5, -1, 0, 4.5, 5, 5, 5, -5]
    assert gradient.dtype == np.float32


def test_clipping_by_value_does_not_hide_nan():
    gradient = np.array([1, np.nan, 9], np.float32)
    clip_by_value(gradient, 5)
    assert np.isnan(gradient).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("limit", "scale"), [(10, 1), (5, 1), (1, 0.2), (0.1, 0.02)])
def test_clipping_by_norm_scales_the_whole_and_returns_the_norm_before(dtype, limit, scale):
    gradient = np.array([3, 0, -4], dtype)
    assert clip_by_norm(gradient, limit) == 5
    assert gradient.dtype == dtype
    assert np.allclose(gradient, [3 * scale, 0, -4 * scale], rtol=1e-6)
    if scale == 1:
        assert gradient.tolist() == [3, 0, -4]


def test_without_a_limit_the_norm_is_measured_and_nothing_changes():
    gradient = np.array([3e5, 4e5], np.float32)
    assert clip_by_norm(gradient, 0) == pytest.approx(5e5)
    assert gradient.tolist() == [3e5, 4e5]


def test_a_gradient_of_zero_stays_zero():
    gradient = np.zeros(3, np.float32)
    assert clip_by_norm(gradient, 1.0) == 0
    assert not gradient.any()


def test_the_norm_of_many_components_is_that_of_float64():
    gradient = np.random.default_rng(0).normal(size=1_000_003).astype(np.float32)
    expected = np.linalg.norm(gradient.astype(np.float64))
    # A sum of a million float32 squares: a kernel with fewer partial sums rounds off more.
    assert clip_by_norm(gradient, 1.0) == pytest.approx(expected, rel=1e-5)
    assert np.linalg.norm(gradient.astype(np.float64)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("limit", [1.0, 0])
def test_a_gradient_that_is_not_finite_is_left_alone_and_its_norm_tells(bad, limit):
    """So that training can stop before the step: clipping never makes it look sound."""
    gradient = np.array([1, bad, 2], np.float32)
    assert not math.isfinite(clip_by_norm(gradient, limit))
    assert np.array_equal(gradient, np.array([1, bad, 2], np.float32), equal_nan=True)


def test_a_norm_too_large_for_the_dtype_is_infinite_and_does_not_zero_the_gradient():
    gradient = np.full(4, 1e25, np.float32)
    assert clip_by_norm(gradient, 1.0) == math.inf
    assert (gradient == np.float32(1e25)).all()


# The learning rate


def config(**settings):
    return TrainConfig(**{"learning_rate": 0.1, "warmup_steps": 0, "final_rate": 0.2, **settings})


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.1, 0.1, 0.1, 0.1]),
        ("linear", [0.1, 0.08, 0.06, 0.02]),
        ("cosine", [0.1, 0.1 * (0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2), 0.06, 0.02]),
    ],
)
def test_a_schedule_goes_from_the_peak_to_its_last_rate(schedule, expected):
    c = config(schedule=schedule)
    rates = [learning_rate(c, 10, progress) for progress in (0, 0.25, 0.5, 1)]
    assert rates == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_last_rate_of_zero_ends_at_zero_and_never_below(schedule):
    c = config(schedule=schedule, final_rate=0)
    rates = [learning_rate(c, 1, k / 1000) for k in range(1001)]
    assert rates == sorted(rates, reverse=True)
    assert min(rates) >= 0
    assert rates[-1] == pytest.approx(0, abs=1e-15)


def test_the_warm_up_rises_in_equal_steps_from_above_zero_to_the_peak():
    c = config(schedule="constant", warmup_steps=4)
    rates = [learning_rate(c, step, 0) for step in range(7)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1])


def test_the_warm_up_is_over_after_its_share_of_the_budget_if_that_comes_first():
    """A budget of 20 steps, and one of 1,000."""
    c = config(schedule="constant", warmup_steps=9, warmup_share=0.2)
    rates = [learning_rate(c, step, step / 20) for step in range(6)]
    assert rates == pytest.approx([0.01, 0.025, 0.05, 0.075, 0.1, 0.1])
    rates = [learning_rate(c, step, step / 1000) for step in range(12)]
    assert rates == pytest.approx([min(0.1, 0.01 * (step + 1)) for step in range(12)])


def test_without_a_share_the_warm_up_takes_its_steps():
    c = config(schedule="constant", warmup_steps=99)
    assert learning_rate(c, 49, 1.0) == pytest.approx(0.05)


def test_the_warm_up_and_the_schedule_multiply():
    c = config(schedule="linear", warmup_steps=9)
    assert learning_rate(c, 4, 0.5) == pytest.approx(0.06 / 2)
