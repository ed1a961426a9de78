"""Array operations shared by the cells and the model: no parameters, no state, no randomness of
their own. Axes: N packed rows, B batch, H hidden, V vocabulary.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ONE_HOT_LIMIT = 512  # up to this many rows, a product with a one-hot array beats sorting


class Workspace:
    """Buffers that are reused from call to call, by name, growing to the largest shape asked for.

    What `take` returns holds old values: whoever takes a buffer writes all of it before reading.
    A workspace belongs to one thread.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, np.dtype[Any]], Array] = {}
        self._children: dict[str, Workspace] = {}

    def child(self, name: str) -> "Workspace":
        """A workspace within this one, with names of its own."""
        return self._children.setdefault(name, Workspace())

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of `shape` with undefined contents, valid until the name is taken again."""
        size = int(np.prod(shape, dtype=np.int64))
        key = (name, np.dtype(dtype))
        buffer = self._buffers.get(key)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[key] = np.empty(size, dtype)
        return buffer[:size].reshape(shape)

    @property
    def nbytes(self) -> int:
        """Bytes held, the children's included."""
        own = sum(buffer.nbytes for buffer in self._buffers.values())
        return own + sum(child.nbytes for child in self._children.values())


def blocks(x: Array, count: int) -> list[Array]:
    """The `count` equal blocks of x's columns, as views: (B, count*H) -> count times (B, H)."""
    width = x.shape[1] // count
    return [x[:, k * width : (k + 1) * width] for k in range(count)]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written as (1 + tanh(x / 2)) / 2, which can't overflow."""
    half = x.dtype.type(0.5)
    return half * (1 + np.tanh(half * x))


def sigmoid_inplace(x: Array) -> None:
    """`sigmoid`, over its own argument."""
    half = x.dtype.type(0.5)
    np.multiply(x, half, x)
    np.tanh(x, x)
    np.multiply(x, half, x)
    np.add(x, half, x)


def matmul_rows(x: Array, weights: Array) -> Array:
    """x @ weights, where each row of the result depends, to the last bit, on its own row alone.

    A plain product picks its kernel by the number of rows, and its last bits change with it.

    Args:
        x: (B, K).
        weights: (K, M).

    Returns:
        (B, M).
    """
    return np.matmul(x[:, None], weights)[:, 0]


def log_softmax(logits: Array) -> Array:
    """x - log(sum(exp(x))) over the last axis, (..., V) -> (..., V).

    Finite where the dtype holds the difference of the largest and the smallest logit.
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy(logits: Array, targets: Array, *, gradient: bool) -> float:
    """Summed cross-entropy -log softmax(logits)[target], in nats; overwrites `logits`.

    With `gradient`, `logits` holds the gradient of the sum afterwards: softmax(logits), less one
    at the target (Goodfellow, Bengio & Courville 2016, "Deep Learning", eq. 10.18).

    Args:
        logits: (N, V), overwritten.
        targets: (N,) integers.
    """
    rows = np.arange(len(targets))
    logits -= logits.max(axis=1, keepdims=True)
    chosen = logits[rows, targets].astype(np.float64)  # (N,)
    np.exp(logits, logits)
    totals = logits.sum(axis=1, keepdims=True)  # (N, 1)
    loss = float(np.log(totals, dtype=np.float64).sum() - chosen.sum())
    if gradient:
        logits /= totals
        logits[rows, targets] -= 1
    return loss


def gather_rows_backward(ids: Array, drows: Array, dtable: Array, work: Workspace) -> None:
    """Gradient of table[ids]: for each id, the sum of the gradients of the rows that it gave.

    Args:
        ids: (N,) integers below V.
        drows: (N, M), gradient of the gathered rows.
        dtable: (V, M), overwritten.
        work: where the temporary arrays live.
    """
    n, v = len(ids), len(dtable)
    if v <= ONE_HOT_LIMIT:
        one_hot = work.take("one_hot", (n, v), drows.dtype)
        one_hot[...] = 0
        one_hot[np.arange(n), ids] = 1
        np.matmul(one_hot.T, drows, dtable)
        return
    order = np.argsort(ids, kind="stable")
    present, starts = np.unique(ids[order], return_index=True)
    dtable[...] = 0
    dtable[present] = np.add.reduceat(drows[order], starts, axis=0)


def dropout_mask(shape: tuple[int, ...], probability: float, rng: np.random.Generator) -> Array:
    """Inverted dropout (Srivastava et al. 2014, JMLR 15): 0 with `probability`, else 1 / kept.

    The probability is rounded to a multiple of 2^-16; the scale is that of the rounded one, so
    that the mean is 1. Returns float32 of `shape`.
    """
    kept = max(1, round((1 - probability) * 65_536))
    mask = rng.integers(0, 65_536, shape, np.uint16) < kept
    return mask.astype(np.float32) * np.float32(65_536 / kept)
