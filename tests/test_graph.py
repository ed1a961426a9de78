"""The automatic gradients: against central differences, closed forms and themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from numpy.typing import NDArray

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

Array = NDArray[Any]
B, T, H, V = 2, 3, 4, 5  # all different, so that a swapped axis cannot pass
TOLERANCE = 1e-8  # central differences are good to about 1e-10 here


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def assert_gradients_match(forward: Callable[..., Node], *arrays: Array) -> None:
    """Compare the gradient for each array with central differences, the output weighted."""
    nodes = [parameter(array) for array in arrays]
    result = forward(*nodes)
    weights = normal(*result.value.shape, seed=99)  # no entry of the result counts like another
    backward(result, weights)

    def loss(_: Array) -> float:
        return float((forward(*map(constant, arrays)).value * weights).sum())

    for node, array in zip(nodes, arrays, strict=True):
        assert node.grad is not None
        assert np.abs(node.grad).max() > 1e-3, "a gradient of zeros checks nothing"
        assert relative_error(node.grad, numerical_gradient(loss, array)) < TOLERANCE


def gradient_of(node: Node) -> Array:
    assert node.grad is not None
    return node.grad


# --------------------------------------------------------------------------- every operation

IDS = np.array([3, 0, 3, 3])  # 3 three times; 1, 2 and 4 never

OPERATIONS: dict[str, tuple[Callable[..., Node], list[tuple[int, ...]]]] = {
    "matrix product": (lambda a, b: a @ b, [(2, 3), (3, 4)]),
    "add": (lambda a, b: a + b, [(2, 3), (2, 3)]),
    "add a row": (lambda a, b: a + b, [(2, 3), (3,)]),
    "add to a row": (lambda a, b: a + b, [(3,), (2, 3)]),
    "add a column and a row": (lambda a, b: a + b, [(2, 1), (1, 3)]),
    "add in three axes": (lambda a, b: a + b, [(2, 1, 4), (3, 1)]),
    "add a scalar": (lambda a, b: a + b, [(), (2, 3)]),
    "subtract": (lambda a, b: a - b, [(2, 3), (2, 3)]),
    "subtract a row": (lambda a, b: a - b, [(2, 3), (3,)]),
    "product": (lambda a, b: a * b, [(2, 3), (2, 3)]),
    "product with a row": (lambda a, b: a * b, [(2, 3), (3,)]),
    "product of column and row": (lambda a, b: a * b, [(2, 1), (1, 3)]),
    "product in three axes": (lambda a, b: a * b, [(2, 1, 4), (3, 1)]),
    "product with a scalar": (lambda a, b: a * b, [(2, 3), ()]),
    "number on the right": (lambda x: x * 3 + 0.5 - 2, [(2, 3)]),
    "number on the left": (lambda x: 0.5 + 3 * x, [(2, 3)]),
    "one minus": (lambda x: 1.0 - x, [(2, 3)]),
    "negative": (lambda x: -x, [(2, 3)]),
    "sigmoid": (sigmoid, [(2, 3)]),
    "tanh": (tanh, [(2, 3)]),
    "softmax": (softmax, [(2, 5)]),
    "softmax in three axes": (softmax, [(2, 3, 5)]),
    "softmax cross-entropy": (lambda x: softmax_cross_entropy(x, [4, 0, 4]), [(3, 5)]),
    "slice: integer": (lambda x: x[1], [(2, 3)]),
    "slice: numpy integer": (lambda x: x[np.int64(1)], [(2, 3)]),
    "slice: negative": (lambda x: x[-1, -2], [(2, 3)]),
    "slice: columns": (lambda x: x[:, 1:3], [(2, 4)]),
    "slice: reversed, in steps": (lambda x: x[::-2, ...], [(5, 2)]),
    "slice: new axis": (lambda x: x[None, :, None], [(3,)]),
    "slice: overlapping": (lambda x: x[:, :3] * x[:, 1:], [(2, 4)]),
    "concatenate rows": (lambda a, b: concatenate(a, b, axis=0), [(2, 3), (4, 3)]),
    "concatenate columns": (lambda a, b, c: concatenate(a, b, c, axis=1), [(2, 3), (2, 1), (2, 4)]),
    "concatenate, axis -1": (lambda a, b: concatenate(a, b, axis=-1), [(2, 2, 3), (2, 2, 4)]),
    "gather": (lambda x: gather(x, IDS), [(5, 3)]),
    "gather by a matrix of ids": (lambda x: gather(x, IDS.reshape(2, 2)), [(5, 3)]),
    "sum": (lambda x: x.sum(), [(2, 3)]),
    "sum of rows": (lambda x: x.sum(axis=0), [(2, 3)]),
    "sum, axis -1": (lambda x: x.sum(axis=-1), [(2, 3, 4)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_agrees_with_central_differences(name: str) -> None:
    forward, shapes = OPERATIONS[name]
    assert_gradients_match(forward, *(normal(*shape, seed=i) for i, shape in enumerate(shapes)))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), st.booleans())
def test_gradients_are_summed_back_over_any_broadcast_axes(shapes: Any, multiply: bool) -> None:
    a_shape, b_shape = shapes.input_shapes
    a, b = parameter(normal(*a_shape)), parameter(normal(*b_shape, seed=1))
    result = a * b if multiply else a + b
    dy = normal(*result.value.shape, seed=2)
    backward(result, dy)

    # The definition: d/da[i] is the sum over all entries of the result made from a[i].
    for node, factor in ((a, b.value), (b, a.value)):
        terms = dy * factor if multiply else dy
        positions = np.broadcast_to(np.arange(node.value.size).reshape(node.value.shape), dy.shape)
        expected = np.zeros(node.value.size)
        np.add.at(expected, positions.ravel(), terms.ravel())
        assert np.allclose(gradient_of(node), expected.reshape(node.value.shape), atol=1e-12)


def test_forwards_are_the_equations_in_numpy() -> None:
    a, b, x = normal(2, 3), normal(3, 4), normal(3, 5)
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    targets = np.array([4, 0, 2])
    pairs = [
        (constant(a) @ constant(b), a @ b),
        (sigmoid(constant(x)), 1 / (1 + np.exp(-x))),
        (tanh(constant(x)), np.tanh(x)),
        (softmax(constant(x)), p),
        (softmax_cross_entropy(constant(x), targets), -np.log(p[range(3), targets]).sum()),
        (2.0 - constant(x) * 3, 2 - 3 * x),
        (concatenate(constant(a), constant(a[:, :1]), axis=1), np.hstack([a, a[:, :1]])),
        (gather(constant(a), [1, 1, 0]), a[[1, 1, 0]]),
        (constant(a)[:, ::2], a[:, ::2]),
        (constant(a).sum(axis=0), a.sum(axis=0)),
    ]
    for node, expected in pairs:
        assert node.value.shape == np.shape(expected)
        assert np.allclose(node.value, expected, rtol=1e-14, atol=1e-14)


def test_the_gradient_of_softmax_cross_entropy_is_p_minus_one_hot() -> None:
    logits = parameter(normal(3, V))
    targets = np.array([4, 0, 4])
    backward(softmax_cross_entropy(logits, targets))
    p = softmax(constant(logits.value)).value
    assert np.allclose(gradient_of(logits), p - np.eye(V)[targets], atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_give_finite_and_exact_losses_and_gradients(dtype: Any) -> None:
    logits = parameter(np.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [1e4, 1e4, -1e4]], dtype))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss = softmax_cross_entropy(logits, [0, 1, 1])
        backward(loss)
        p = softmax(logits).value
    assert np.array_equal(p, np.array([[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0]]))
    assert loss.value == pytest.approx(0 + 2e4 + np.log(2), rel=float(np.finfo(dtype).eps))
    assert np.allclose(
        gradient_of(logits), np.array([[0, 0, 0], [1, -1, 0], [0.5, -0.5, 0]]), atol=1e-7
    )


def test_sigmoid_of_huge_numbers_neither_overflows_nor_loses_small_values() -> None:
    x = parameter(np.array([-1e4, -40.0, 0.0, 1e4]))
    with np.errstate(over="raise", invalid="raise"):
        y = sigmoid(x)
        backward(y.sum())
    tiny = float(np.exp(-40.0))
    assert np.allclose(y.value, [0, tiny, 0.5, 1], rtol=1e-15, atol=0)
    assert np.allclose(gradient_of(x), [0, tiny, 0.25, 0], rtol=1e-15, atol=0)


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


# --------------------------------------------------------------------------- mistakes


ARRAY: Any = np.ones(2)  # where a node belongs


def leaf(*shape: int, dtype: Any = np.float64) -> Any:
    return parameter(np.ones(shape, dtype))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: leaf(2, 3) @ leaf(4, 5), r"MatrixProduct does not fit \(2, 3\) and \(4, 5\)"),
        (lambda: leaf(3) @ leaf(3, 4), r"MatrixProduct does not fit \(3,\) and \(3, 4\)"),
        (lambda: leaf(2, 3) + leaf(4), r"Add does not fit \(2, 3\) and \(4,\)"),
        (lambda: leaf(2, 3) - leaf(2), r"Add does not fit \(2, 3\) and \(2,\)"),
        (lambda: leaf(2, 3) * leaf(3, 2), r"ElementwiseProduct does not fit \(2, 3\) and \(3, 2\)"),
        (
            lambda: softmax_cross_entropy(leaf(2, 3), [0, 1, 2]),
            r"SoftmaxCrossEntropy does not fit \(2, 3\): .* targets \(3,\)",
        ),
        (lambda: softmax_cross_entropy(leaf(2, 3, 4), [0, 1]), r"does not fit \(2, 3, 4\)"),
        (lambda: softmax_cross_entropy(leaf(2, 3), [0, 3]), r"from 0 to 2, got 0 to 3"),
        (lambda: gather(leaf(3), [0]), r"Gather does not fit \(3,\): .* matrix"),
        (lambda: gather(leaf(3, 2), [0, 3]), r"Gather does not fit \(3, 2\): .* got 0 to 3"),
        (lambda: gather(leaf(3, 2), [-1]), r"from 0 to 2, got -1"),
        (
            lambda: concatenate(leaf(2, 3), leaf(3, 4), axis=0),
            r"Concatenate does not fit \(2, 3\) and \(3, 4\)",
        ),
        (lambda: concatenate(leaf(2), leaf(2), axis=1), r"Concatenate does not fit .*axis 1"),
        (lambda: leaf(2, 3).sum(axis=2), r"Sum does not fit \(2, 3\): axis 2"),
        (lambda: backward(leaf(2, 3)), r"scalar or a seed, got a node \(2, 3\)"),
        (lambda: backward(leaf(2, 3), np.ones((3, 2))), r"seed must be \(2, 3\) float64, got"),
        (lambda: backward(leaf(), np.ones((), np.float32)), r"seed must be \(\) float64, got"),
        (lambda: backward(constant(1.0)), r"depends on a parameter"),
    ],
)
def test_a_shape_that_does_not_fit_is_a_value_error_naming_it(
    mistake: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mistake()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: parameter(np.ones(2, np.int64)), "float32 or float64, got int64"),
        (lambda: constant([1, 2]), "float32 or float64, got int64"),
        (lambda: parameter(np.ones(2, np.float16)), "float32 or float64, got float16"),
        (lambda: leaf(2) + leaf(2, dtype=np.float32), "Add takes .* float64 and float32"),
        (lambda: leaf(2, 2, dtype=np.float32) @ leaf(2, 2), "float32 and float64"),
        (lambda: leaf(2) + ARRAY, "Add takes nodes, got ndarray"),
        (lambda: ARRAY - leaf(2), "Add takes nodes, got ndarray"),
        (lambda: ARRAY * leaf(2), "ElementwiseProduct takes nodes, got ndarray"),
        (lambda: sigmoid(ARRAY), "Sigmoid takes nodes, got ndarray"),
        (lambda: sigmoid(1.0), "Sigmoid takes nodes of one dtype, got no node"),
        (lambda: concatenate(axis=0), "no node"),
        (lambda: leaf(3)[[0, 0]], "Slice takes integers and slices"),
        (lambda: leaf(3)[np.array([0, 0])], "Slice takes integers and slices"),
        (lambda: leaf(3)[True], "Slice takes integers and slices, got True"),
        (lambda: gather(leaf(3, 2), [0.0]), "integers, got float64"),
        (lambda: softmax_cross_entropy(leaf(1, 2), [True]), "integers, got bool"),
    ],
)
def test_a_dtype_or_type_that_does_not_fit_is_a_type_error_naming_it(
    mistake: Callable[[], Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        mistake()


def test_an_index_out_of_range_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="index 3 is out of bounds"):
        leaf(3, 2)[3]


def test_a_node_prints_its_operation_not_its_graph() -> None:
    assert repr(tanh(leaf(2, 3))) == "Node(Tanh, (2, 3), float64)"
    assert repr(leaf()) == "Node(leaf, (), float64)"
