"""What the tests of the graph compare by: central differences, in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.gradients import numerical_gradient, relative_error
from charrnn.graph import Node, backward, constant, parameter

Array = NDArray[Any]
IDS = np.array([3, 0, 3, 3])  # 3 three times; 1, 2 and 4 never
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
