"""The automatic gradients: against central differences, closed forms and themselves."""

from typing import Any

import numpy as np
import pytest

from charrnn.gradients import numerical_gradient, relative_error
from charrnn.graph import Node, Operation, backward, constant, parameter
from charrnn.operations import (
    concatenate,
    gather,
    sigmoid,
    softmax,
    softmax_cross_entropy,
    tanh,
)
from tests.graphs import IDS, Array, assert_gradients_match, gradient_of, normal

B, T, H, V = 2, 3, 4, 5  # all different, so that a swapped axis cannot pass


# --------------------------------------------------------------------------- the graph


def test_gradients_sum_where_a_node_is_used_twice() -> None:
    x = parameter(normal(3, 3))
    backward((x * x + x).sum())
    assert np.allclose(gradient_of(x), 2 * x.value + 1, rtol=1e-15)
    assert_gradients_match(lambda x: x @ x, normal(3, 3))
    assert_gradients_match(lambda x: concatenate(x, x, tanh(x), axis=0) * 2.0, normal(2, 3))


def test_repeated_ids_add_up_and_absent_ids_get_zero() -> None:
    x = parameter(normal(5, 2))
    dy = normal(4, 2, seed=1)
    backward(gather(x, IDS), dy)
    expected = np.zeros((5, 2))
    expected[3], expected[0] = dy[0] + dy[2] + dy[3], dy[1]
    assert np.allclose(gradient_of(x), expected, rtol=1e-15)


def test_gather_is_the_product_with_one_hot_rows() -> None:
    x, same = parameter(normal(5, 2)), parameter(normal(5, 2))
    dy = normal(4, 2, seed=1)
    picked, product = gather(x, IDS), constant(np.eye(5)[IDS]) @ same
    backward(picked, dy)
    backward(product, dy)
    assert np.array_equal(picked.value, product.value)
    assert np.allclose(gradient_of(x), gradient_of(same), rtol=1e-15)


def test_overlapping_slices_add_up() -> None:
    x = parameter(np.arange(5.0))
    backward((x[:3] + x[1:4] * 10.0 + x[2:] * 100.0).sum())
    assert np.array_equal(gradient_of(x), [1, 11, 111, 110, 100])


def test_every_node_is_visited_once_however_many_paths_lead_to_it() -> None:
    x = parameter(np.array(1.0))
    y = x
    for _ in range(60):  # 2^60 paths
        y = y + y
    backward(y)
    assert gradient_of(x) == 2.0**60


def test_a_chain_of_3000_steps_has_the_closed_form_gradient() -> None:
    steps, start, factor = 3000, 1.5, 0.999
    h0, w = parameter(np.array(start)), parameter(np.array(factor))
    h = h0
    for _ in range(steps):
        h = h * w
    backward(h)
    assert gradient_of(h0) == pytest.approx(factor**steps, rel=1e-11)
    assert gradient_of(w) == pytest.approx(steps * start * factor ** (steps - 1), rel=1e-11)


def test_a_second_backward_adds_to_the_gradients() -> None:
    w, x = parameter(normal(2, 3)), constant(normal(3, 4))
    h = tanh(w @ x)  # shared by both losses
    first, second = h.sum(), (h * h).sum()
    backward(first)
    only_first = gradient_of(w).copy()
    backward(second)
    both = gradient_of(w).copy()
    w.grad = None
    backward((h + h * h).sum())
    assert np.allclose(both, gradient_of(w), rtol=1e-14)

    w.grad = None
    backward(first)
    assert np.array_equal(gradient_of(w), only_first)  # caches are whole: same graph, same numbers
    backward(first)
    assert np.array_equal(gradient_of(w), 2 * only_first)


def test_a_second_backward_through_the_loss_finds_its_cache_whole() -> None:
    logits = parameter(normal(3, V))
    loss = softmax_cross_entropy(logits, [0, 1, 2])
    backward(loss)
    once = gradient_of(logits).copy()
    backward(loss)
    assert np.array_equal(gradient_of(logits), 2 * once)


def test_nodes_in_the_middle_hold_their_gradient_too() -> None:
    x = parameter(normal(2, 3))
    y = tanh(x)
    backward((y * y).sum())
    assert np.allclose(gradient_of(y), 2 * y.value, rtol=1e-15)


def test_gradients_do_not_share_memory() -> None:
    a, b = parameter(normal(2)), parameter(normal(3))
    seed = np.ones(5)
    y = concatenate(a, b, axis=0)
    backward(y, seed)
    gradient_of(a)[:] = 7.0
    assert np.array_equal(gradient_of(y), np.ones(5))
    gradient_of(y)[:] = 7.0
    assert np.array_equal(gradient_of(b), np.ones(3))
    assert np.array_equal(seed, np.ones(5))


def test_a_seed_weights_the_entries_of_the_result() -> None:
    x, same = parameter(normal(2, 3)), parameter(normal(2, 3))
    dy = normal(2, 3, seed=1)
    backward(tanh(x), dy)
    backward((tanh(same) * constant(dy)).sum())
    assert np.allclose(gradient_of(x), gradient_of(same), rtol=1e-15)


def test_constants_get_no_gradient_and_record_no_graph() -> None:
    x, w = constant(normal(2, 3)), parameter(normal(3, 4))
    y = tanh(x * 2.0)
    backward((y @ w).sum())
    assert y.parents == ()
    assert not y.requires_grad
    assert x.grad is None
    assert y.grad is None
    assert np.abs(gradient_of(w)).min() > 0


def test_a_parameter_that_the_loss_does_not_use_keeps_no_gradient() -> None:
    used, unused = parameter(normal(2)), parameter(normal(2))
    backward(used.sum())
    assert unused.grad is None


def test_the_arrays_given_are_left_as_they_were() -> None:
    x, ids, seed = normal(5, 3), IDS.copy(), normal(4, 3, seed=1)
    kept = x.copy()
    backward(softmax(gather(parameter(x), ids)), seed)
    assert np.array_equal(x, kept)
    assert np.array_equal(ids, IDS)
    assert np.array_equal(seed, normal(4, 3, seed=1))


# --------------------------------------------------------------------------- dtypes


def test_float32_stays_float32_with_numbers_of_any_kind() -> None:
    x = parameter(normal(2, 3).astype(np.float32))
    numpy_integer: Any = np.int64(3)
    y = np.float64(2.0) * x + 1 - numpy_integer + (0.5 - x)
    backward(y.sum())
    assert y.value.dtype == np.float32
    assert gradient_of(x).dtype == np.float32
    assert np.array_equal(gradient_of(x), np.ones((2, 3)))


def test_float32_stays_float32_through_a_whole_lstm() -> None:
    arrays = lstm_arrays()
    wide = {name: parameter(array) for name, array in arrays.items()}
    narrow = {name: parameter(array.astype(np.float32)) for name, array in arrays.items()}
    backward(lstm_loss(wide))
    loss = lstm_loss(narrow)
    backward(loss)
    assert loss.value.dtype == np.float32
    for name in arrays:
        assert gradient_of(narrow[name]).dtype == np.float32
        assert relative_error(gradient_of(narrow[name]), gradient_of(wide[name])) < 1e-5


# --------------------------------------------------------------------------- recurrent networks

IDS_IN = np.array([[1, 4, 1], [0, 1, 3]])  # (B, T)
TARGETS = np.array([[4, 1, 2], [1, 3, 0]])  # (B, T)


def rnn_arrays() -> dict[str, Array]:
    shapes = {"U": (V, H), "W": (H, H), "b": (H,), "V": (H, V), "c": (V,), "h0": (B, H)}
    return {name: normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def rnn_loss(p: dict[str, Node]) -> Node:
    h, loss = p["h0"], constant(np.zeros((), p["h0"].value.dtype))
    for t in range(T):
        h = tanh(gather(p["U"], IDS_IN[:, t]) + h @ p["W"] + p["b"])  # (B, H)
        loss = loss + softmax_cross_entropy(h @ p["V"] + p["c"], TARGETS[:, t])
    return loss


def lstm_arrays() -> dict[str, Array]:
    shapes = {"U": (V, 4 * H), "W": (H, 4 * H), "b": (4 * H,), "V": (H, V), "c": (V,)}
    shapes |= {"h0": (B, H), "c0": (B, H)}
    return {name: 0.5 * normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def lstm_loss(p: dict[str, Node]) -> Node:
    h, cell, loss = p["h0"], p["c0"], constant(np.zeros((), p["h0"].value.dtype))
    for t in range(T):
        a = gather(p["U"], IDS_IN[:, t]) + h @ p["W"] + p["b"]  # (B, 4H)
        i, f, o = (sigmoid(a[:, k * H : (k + 1) * H]) for k in range(3))
        cell = f * cell + i * tanh(a[:, 3 * H :])  # (B, H)
        h = o * tanh(cell)  # (B, H)
        loss = loss + softmax_cross_entropy(h @ p["V"] + p["c"], TARGETS[:, t])
    return loss


NETWORKS = {"rnn": (rnn_arrays, rnn_loss), "lstm": (lstm_arrays, lstm_loss)}


@pytest.mark.parametrize("network", NETWORKS)
def test_an_unrolled_network_agrees_with_central_differences(network: str) -> None:
    make_arrays, loss = NETWORKS[network]
    names = list(make_arrays())
    assert_gradients_match(
        lambda *nodes: loss(dict(zip(names, nodes, strict=True))), *make_arrays().values()
    )


def test_gradients_sum_where_a_parameter_is_shared_through_time() -> None:
    arrays = rnn_arrays()
    shared = {name: parameter(array) for name, array in arrays.items()}
    backward(rnn_loss(shared))

    h, loss = parameter(arrays["h0"]), constant(np.array(0.0))
    steps = [{name: parameter(array) for name, array in arrays.items()} for _ in range(T)]
    for t, p in enumerate(steps):  # the same network, with parameters of its own in every step
        h = tanh(gather(p["U"], IDS_IN[:, t]) + h @ p["W"] + p["b"])
        loss = loss + softmax_cross_entropy(h @ p["V"] + p["c"], TARGETS[:, t])
    backward(loss)

    for name in ("U", "W", "b", "V", "c"):
        parts = [gradient_of(p[name]) for p in steps]
        assert all(np.abs(part).max() > 1e-3 for part in parts)
        assert relative_error(gradient_of(shared[name]), np.sum(parts, axis=0)) < 1e-14


def mgu_step(p: dict[str, Node], ids: Array, h: Node) -> Node:
    """Minimal gated unit (Zhou et al. 2016): one gate, both to forget and to take in."""
    f = sigmoid(gather(p["U_f"], ids) + h @ p["W_f"] + p["b_f"])  # (B, H)
    g = tanh(gather(p["U"], ids) + (f * h) @ p["W"] + p["b"])  # (B, H)
    return (1.0 - f) * h + f * g


def test_a_new_cell_given_by_its_forward_alone_learns_what_no_memoryless_model_can() -> None:
    # In aabbaabb... a letter is followed by either letter equally often: without memory the best
    # loss is ln 2. With memory only the first step is open (four phases, two of each letter), so
    # the best is ln 2 / steps. The bound is a tenth of the way up from the one to the other.
    steps, hidden = 12, 6
    text = np.array([[(t + phase) % 4 // 2 for t in range(steps + 1)] for phase in range(4)])
    bigrams = np.stack([text[:, :-1].ravel(), text[:, 1:].ravel()])
    assert np.unique(bigrams, axis=1, return_counts=True)[1].tolist() == [12, 12, 12, 12]
    memoryless, best = np.log(2), np.log(2) / steps

    shapes = {"U_f": (2, hidden), "W_f": (hidden, hidden), "b_f": (hidden,)}
    shapes |= {"U": (2, hidden), "W": (hidden, hidden), "b": (hidden,)}
    shapes |= {"V": (hidden, 2), "c": (2,)}
    p = {n: parameter(0.5 * normal(*s, seed=i)) for i, (n, s) in enumerate(shapes.items())}
    losses = []
    for _ in range(150):
        h, loss = constant(np.zeros((4, hidden))), constant(np.array(0.0))
        for t in range(steps):
            h = mgu_step(p, text[:, t], h)
            loss = loss + softmax_cross_entropy(h @ p["V"] + p["c"], text[:, t + 1])
        loss = loss * (1 / (4 * steps))  # nats per character
        backward(loss)
        for node in p.values():
            node.value -= 2.0 * gradient_of(node)
            node.grad = None
        losses.append(float(loss.value))

    assert losses[0] > 0.9 * memoryless
    assert best < losses[-1] < best + 0.1 * (memoryless - best)


# --------------------------------------------------------------------------- other operations


class Log(Operation):
    """y = ln x; dx = dy / x."""

    def forward(self, x: Array) -> tuple[Array, Any]:
        return np.log(x), x

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        return (dy / cache,)


def test_an_operation_defined_outside_joins_the_graph() -> None:
    log = Log()
    assert_gradients_match(lambda x: log(x), np.abs(normal(2, 3)) + 0.5)

    fused, composed = parameter(normal(3, V)), parameter(normal(3, V))
    targets = np.array([4, 0, 4])
    loss = softmax_cross_entropy(fused, targets)
    same = -(log(softmax(composed)) * constant(np.eye(V)[targets])).sum()
    backward(loss)
    backward(same)
    assert loss.value == pytest.approx(same.value, rel=1e-14)
    assert relative_error(gradient_of(fused), gradient_of(composed)) < 1e-14


class ScaledTanh(Operation):
    """A tanh with its gradient multiplied by `error`."""

    def __init__(self, error: float) -> None:
        self.error = error

    def forward(self, x: Array) -> tuple[Array, Any]:
        return np.tanh(x), np.tanh(x)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        return (self.error * (1 - cache * cache) * dy,)


def test_the_comparison_detects_a_gradient_wrong_by_a_millionth() -> None:
    assert_gradients_match(ScaledTanh(1.0), normal(2, 3))
    for error in (1 + 1e-6, -1.0, 0.5):
        with pytest.raises(AssertionError):
            assert_gradients_match(ScaledTanh(error), normal(2, 3))


def test_the_comparison_detects_one_forgotten_use_of_a_shared_parameter() -> None:
    arrays = rnn_arrays()
    p = {name: parameter(array) for name, array in arrays.items()}
    h = tanh(gather(p["U"], IDS_IN[:, 0]) + p["h0"] @ p["W"] + p["b"])
    cut = constant(h.value)  # backpropagation through time, truncated by mistake
    backward(tanh(gather(p["U"], IDS_IN[:, 1]) + cut @ p["W"] + p["b"]).sum())

    def loss(w: Array) -> float:
        h = np.tanh(arrays["U"][IDS_IN[:, 0]] + arrays["h0"] @ w + arrays["b"])
        return float(np.tanh(arrays["U"][IDS_IN[:, 1]] + h @ w + arrays["b"]).sum())

    assert relative_error(gradient_of(p["W"]), numerical_gradient(loss, arrays["W"])) > 0.01


class Broken(Operation):
    """Hands back a gradient that is a row too many, or of another dtype, or none."""

    def __init__(self, *gradients: Array) -> None:
        self.gradients = gradients

    def forward(self, x: Array) -> tuple[Array, Any]:
        return x, None

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        return self.gradients


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        ([np.zeros((3, 2))], r"gradient from Broken must be \(2, 2\) float64, got \(3, 2\)"),
        ([np.zeros((2, 2), np.float32)], r"must be \(2, 2\) float64, got \(2, 2\) float32"),
        ([], r"zip"),
    ],
)
def test_a_backward_that_breaks_its_contract_is_named(gradients: list[Array], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backward(Broken(*gradients)(parameter(normal(2, 2))).sum())
