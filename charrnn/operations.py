"""The functions that a network is made of, as operations of the graph: each with its equation, its
forward and its backward. A new one is one more subclass of `Operation`.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from charrnn.graph import Array, Node, Operation


class Sigmoid(Operation):
    """y = 1 / (1 + exp(-x)); dx = y (1 - y) dy. Any shape."""

    def forward(self, x: Array) -> tuple[Array, Any]:
        e = np.exp(-np.abs(x))  # at most 1: exp(-x) itself overflows for a large negative x
        y = np.where(x >= 0, 1 / (1 + e), e / (1 + e))
        return y, y

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        y = cache
        return (y * (1 - y) * dy,)


class Tanh(Operation):
    """y = tanh(x); dx = (1 - y^2) dy. Any shape."""

    def forward(self, x: Array) -> tuple[Array, Any]:
        y = np.tanh(x)
        return y, y

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        y = cache
        return ((1 - y * y) * dy,)


class Softmax(Operation):
    """y_i = exp(x_i) / sum_j exp(x_j) on the last axis; dx_i = y_i (dy_i - sum_j y_j dy_j)."""

    def forward(self, x: Array) -> tuple[Array, Any]:
        e = np.exp(x - x.max(axis=-1, keepdims=True))  # the shift cancels out; no exp overflows
        y = e / e.sum(axis=-1, keepdims=True)
        return y, y

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        y = cache
        return (y * (dy - (y * dy).sum(axis=-1, keepdims=True)),)


class SoftmaxCrossEntropy(Operation):
    """loss = -sum_n ln softmax(x_n)[y_n] in nats; dx_n = (softmax(x_n) - onehot(y_n)) dloss.

    x (N, V) logits, y (N,) integer targets, loss (). Goodfellow et al. 2016, "Deep Learning",
    equation 10.18. One operation, because for an unlikely target p rounds to 0 and ln p to -inf.
    """

    def forward(self, x: Array, *, targets: ArrayLike) -> tuple[Array, Any]:
        y = np.asarray(targets)  # (N,)
        if x.ndim != 2 or y.shape != x.shape[:1]:
            raise ValueError(f"needs logits (N, V) and targets (N,), got targets {y.shape}")
        y = _checked_ids(y, x.shape[1])
        x = x - x.max(axis=1, keepdims=True)  # (N, V)
        total = np.exp(x).sum(axis=1, keepdims=True)  # (N, 1), at least exp(0)
        log_p = x - np.log(total)  # (N, V)
        rows = np.arange(len(x))
        return -log_p[rows, y].sum(), (np.exp(log_p), rows, y)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        p, rows, y = cache
        dx = p * dy
        dx[rows, y] -= dy
        return (dx,)


class Gather(Operation):
    """y_n = x[ids_n]; dx_v = the sum of dy_n over all n with ids_n = v. x (V, D), y (..., D)."""

    def forward(self, x: Array, *, ids: ArrayLike) -> tuple[Array, Any]:
        if x.ndim != 2:
            raise ValueError("rows are gathered from a matrix (V, D)")
        rows = _checked_ids(np.asarray(ids), len(x))
        return x[rows], (x, rows)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        x, rows = cache
        dx = np.zeros_like(x)
        np.add.at(dx, rows, dy)  # dx[rows] += dy would count a repeated id once
        return (dx,)


class Concatenate(Operation):
    """y = [x_1, x_2, ...] joined along an axis; dx_k = the stretch of dy that x_k filled."""

    def forward(self, *inputs: Array, axis: int) -> tuple[Array, Any]:
        y = np.concatenate(inputs, axis)
        return y, (np.cumsum([x.shape[axis] for x in inputs])[:-1], axis)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        boundaries, axis = cache
        return tuple(np.split(dy, boundaries, axis))


sigmoid, tanh, softmax = Sigmoid(), Tanh(), Softmax()


def softmax_cross_entropy(logits: Node, targets: ArrayLike) -> Node:
    """The sum over rows, in nats, for logits (N, V) and integer targets (N,): a scalar node."""
    return SoftmaxCrossEntropy()(logits, targets=targets)


def gather(matrix: Node, ids: ArrayLike) -> Node:
    """The rows of a matrix (V, D) at integer ids (...): one-hot(ids) @ matrix without the zeros."""
    return Gather()(matrix, ids=ids)


def concatenate(*nodes: Node, axis: int) -> Node:
    """The nodes joined along an axis that they all have."""
    return Concatenate()(*nodes, axis=axis)


def _checked_ids(ids: Array, count: int) -> Array:
    if not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"ids and targets must be integers, got {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= count):  # numpy would take -1 for the last row
        got = f"{ids.min()} to {ids.max()}"
        raise ValueError(f"ids and targets must be from 0 to {count - 1}, got {got}")
    return ids
