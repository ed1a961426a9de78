"""Each operation of the graph: its value, its gradient, and what it refuses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from charrnn.graph import Node, backward, constant, parameter
from charrnn.operations import (
    concatenate,
    gather,
    sigmoid,
    softmax,
    softmax_cross_entropy,
    tanh,
)
from tests.graphs import IDS, assert_gradients_match, gradient_of, normal

B, T, H, V = 2, 3, 4, 5  # all different, so that a swapped axis cannot pass


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
