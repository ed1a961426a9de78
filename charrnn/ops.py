"""Array operations shared by the cells and the model: no parameters, no state, no randomness of
their own. Axes: N packed rows, B batch, H hidden, V vocabulary.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn import lines
from charrnn.threads import SMALL, SMALL_BY_TURNED, small_products_are_fast

Array = NDArray[Any]

# Of what is multiplied in small products; of some columns they are best, so there may be more.
FEWEST_ROWS, MOST_COLUMNS = 4, 48
COLUMNS = 64  # of a matrix, in one small product
BEST_COLUMNS, MOST_OF_THE_BEST = 32, 128
FEWEST_COLUMNS = 128  # of many, in a product by some of them at a time
# Of few columns, by some rows at a time; not where columns of x stand farther apart than so many
# bytes: they displace each other from the cache.
FEW_COLUMNS, FEWEST_OF_FEW, NEAR_BYTES = 70, 12, 1024
TURNED = 128  # columns of a matrix that is transposed, at a time
ONE_HOT_LIMIT = 96  # up to this many rows, a product with a one-hot array beats adding row by row


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
        size = math.prod(shape)
        key = (name, np.dtype(dtype))
        buffer = self._buffers.get(key)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[key] = lines.empty(size, dtype)
        return buffer[:size].reshape(shape)

    def columns(self, name: str, height: int, width: int, dtype: Any) -> Array:
        """Likewise (height, width), a view with its rows an odd number of cache lines apart: a
        few columns of it then lie spread over the cache, where powers of two would collide.
        """
        line = lines.LINE // np.dtype(dtype).itemsize
        stride = (-(-width // line) | 1) * line
        return self.take(name, (height, stride), dtype)[:, :width]

    @property
    def nbytes(self) -> int:
        """Bytes held, the children's included."""
        own = sum(buffer.nbytes for buffer in self._buffers.values())
        return own + sum(child.nbytes for child in self._children.values())


def blocks(x: Array, count: int) -> list[Array]:
    """The `count` equal blocks of x's columns, as views: (B, count*H) -> count times (B, H)."""
    width = x.shape[1] // count
    return [x[:, k * width : (k + 1) * width] for k in range(count)]


def row_blocks(x: Array, count: int) -> list[Array]:
    """The `count` equal blocks of x's rows, as views: (count*H, n) -> count times (H, n)."""
    return list(x.reshape(count, len(x) // count, -1))


def step_product(x: Array, y: Array, out: Array) -> Array:
    """x @ y, (M, K) and (K, n), as a step of training makes it: the same x for few columns, again
    and again. Some rows of x at a time, where the library is faster for it. Returns `out`.
    """
    rows = _rows_at_a_time(*x.shape, y.shape[1]) if x.dtype == np.float32 else 0
    if not rows:
        return np.matmul(x, y, out)
    shape = (-1, rows)
    np.matmul(x.reshape(*shape, x.shape[1]), y, out.reshape(*shape, y.shape[1]))
    return out


def wide_product(x: Array, y: Array, out: Array) -> Array:
    """x @ y, (M, K) and (K, N): a small x, for many columns. Some columns at a time, where the
    library is faster for it. Returns `out`.
    """
    most = columns_at_a_time(*x.shape) if x.dtype == np.float32 else 0
    if not (0 < most < y.shape[1] and small_products_are_fast()):
        return np.matmul(x, y, out)
    for start in range(0, y.shape[1], most):
        columns = slice(start, start + most)
        np.matmul(x, y[:, columns], out[:, columns])
    return out


def columns_at_a_time(rows: int, terms: int) -> int:
    """So many columns make a small product with (rows, terms); 0 where they are too few."""
    most = SMALL // (rows * terms) // COLUMNS * COLUMNS
    return most if most >= FEWEST_COLUMNS else 0


def row_product(matrix: Array, out: Array, work: Workspace, name: str) -> Callable[[Array], object]:
    """What leaves x @ matrix, (n, K) and (K, N), in the first n rows of `out` (B, N), C-contiguous:
    as a step of training makes it whose sequences are rows. By columns that are copied, in small
    products, where the library is faster for it.

    Args:
        work: where the copy lives.
        name: the copy's.
    """
    terms, columns = matrix.shape
    most = SMALL // (terms * COLUMNS)
    is_small = matrix.dtype == np.float32 and columns % COLUMNS == 0 and most >= FEWEST_ROWS
    if not (is_small and small_products_are_fast()):
        return lambda x: np.matmul(x, matrix, out[: len(x)])
    many = columns // COLUMNS
    stack = work.take(name, (many, terms, COLUMNS), matrix.dtype)
    stack[...] = matrix.reshape(terms, many, COLUMNS).swapaxes(0, 1)
    by_columns = out.reshape(len(out), many, COLUMNS).swapaxes(0, 1)

    def multiply(x: Array) -> None:
        if len(x) <= most:
            np.matmul(x, stack, by_columns[:, : len(x)])
            return
        for start in range(0, len(x), most):
            rows = slice(start, min(start + most, len(x)))
            np.matmul(x[rows], stack, by_columns[:, rows])

    return multiply


@lru_cache(4096)
def _rows_at_a_time(height: int, terms: int, columns: int) -> int:
    """So many rows of x make small products; 0 for all at once."""
    most, widest = SMALL // (terms * columns), MOST_COLUMNS
    if columns % BEST_COLUMNS == 0:
        widest = MOST_OF_THE_BEST
    if height <= most or columns > widest or not small_products_are_fast():
        return 0
    return next((rows for rows in range(most, FEWEST_ROWS - 1, -1) if height % rows == 0), 0)


def add_product(x: Array, y: Array, out: Array, work: Workspace, *, begins: bool = False) -> None:
    """out += x @ y, (M, K) and (K, N); `begins`: out = x @ y, the first of such a sum. For few
    columns some rows of x at a time, where the library is faster for it.
    """
    product, rows = out, 0
    if not begins and out.flags.f_contiguous:  # as `out` stands in memory: so they add up sooner
        product = work.take("product", out.shape[::-1], out.dtype).T
    elif not begins:
        product = work.take("product", out.shape, out.dtype)
    if x.dtype == np.float32 and x.strides[1] <= NEAR_BYTES and small_products_are_fast():
        rows = rows_of_few(*y.shape)
    rows = rows or max(1, len(x))
    for start in range(0, len(x), rows):
        some = slice(start, start + rows)
        np.matmul(x[some], y, product[some])
    if not begins:
        out += product


def turned(x: Array, scale: Array, out: Array, work: Workspace) -> Array:
    """x.T * scale, (M, N) and (N, 1), some columns of x at a time, by way of rows that don't
    displace each other from the cache. Returns `out`, (N, M).
    """
    for start in range(0, x.shape[1], TURNED):
        some = slice(start, start + TURNED)
        columns = x[:, some]
        strip = work.columns("turned", len(x), columns.shape[1], x.dtype)
        strip[...] = columns
        np.multiply(strip.T, scale[some], out[some])
    return out


def rows_of_few(terms: int, columns: int) -> int:
    """So many rows make a small product with (terms, columns), turned or not; 0 where the columns
    are not few, or the rows too few.
    """
    most = min(SMALL // (terms * columns), SMALL_BY_TURNED // columns)
    most -= most % 16 if most >= 16 else most % 4  # where x is turned, rows begin with a line
    return most if columns <= FEW_COLUMNS and most >= FEWEST_OF_FEW else 0


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written as (1 + tanh(x / 2)) / 2, which can't overflow."""
    half = x.dtype.type(0.5)
    return half * (1 + np.tanh(half * x))


def log_softmax(logits: Array) -> Array:
    """x - log(sum(exp(x))) over the last axis, (..., V) -> (..., V).

    Finite where the dtype holds the difference of the largest and the smallest logit.
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@np.errstate(over="ignore")
def chosen_log_softmax(logits: Array, ids: Array) -> Array:
    """log softmax(logits)[id] of each row: -log(sum(exp(x - x[id]))).

    Args:
        logits: (N, V), overwritten.
        ids: (N,) integers below V.

    Returns:
        (N,), each a function of its own row alone, bit for bit.
    """
    rows = np.arange(len(ids))
    chosen = logits[rows, ids]  # (N,)
    logits -= chosen[:, None]
    totals = np.exp(logits).sum(axis=1)  # (N,), infinite where the chosen one is too unlikely
    np.log(totals, totals)
    np.negative(totals, totals)
    for row in np.isinf(totals).nonzero()[0]:
        totals[row] = log_softmax(logits[row])[ids[row]]
    return totals


def cross_entropy(logits: Array, targets: Array, scale: float | None = None) -> float:
    """Summed cross-entropy -log softmax(logits)[target], in nats; overwrites `logits`.

    With `scale`, `logits` holds `scale` times the gradient of the sum afterwards: softmax(logits),
    less one at the target (Goodfellow, Bengio & Courville 2016, "Deep Learning", eq. 10.18).

    Args:
        logits: (V, N), overwritten.
        targets: (N,) integers.
        scale: of the gradient; None for no gradient.
    """
    chosen = (targets, np.arange(len(targets)))
    logits -= logits.max(axis=0)
    gains = logits[chosen].sum(dtype=np.float64)
    np.exp(logits, logits)
    totals = logits.sum(axis=0)  # (N,)
    loss = float(np.log(totals, dtype=np.float64).sum() - gains)
    if scale is not None:
        logits *= scale / totals
        logits[chosen] -= scale
    return loss


def gather_rows_backward(
    ids: Array, drows: Array, dtable: Array, work: Workspace, *, begins: bool = False
) -> None:
    """Gradient of table[ids]: to each id's row, add the gradients of the rows that it gave.

    Args:
        ids: (N,) integers below V.
        drows: (M, N), gradient of the gathered rows, feature-major.
        dtable: (V, M), added to.
        work: where the temporary arrays live.
        begins: overwrite `dtable`.
    """
    n, v = len(ids), len(dtable)
    if v <= ONE_HOT_LIMIT:
        one_hot = work.take("one_hot", (v, n), drows.dtype)
        one_hot[...] = 0
        one_hot[ids, np.arange(n)] = 1
        # sooner than the same the other way round
        add_product(drows, one_hot.T, dtable.T, work, begins=begins)
        return
    if begins:
        dtable[...] = 0
    rows = work.take("drows", (n, len(drows)), drows.dtype)
    rows[...] = drows.T
    for id_, row in zip(ids.tolist(), rows, strict=True):
        dtable[id_] += row


def places(sizes: Array) -> Array:
    """The row of each of N packed characters within its step, (N,); sizes: (T,), rows of steps."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def dropout_mask(probability: float, rng: np.random.Generator, out: Array) -> Array:
    """Inverted dropout (Srivastava et al. 2014, JMLR 15): 0 with `probability`, else 1 / kept.

    The probability is rounded to a multiple of 2^-16; the scale is that of the rounded one, so
    that the mean is 1. Returns `out`, overwritten.
    """
    kept = max(1, round((1 - probability) * 65_536))
    whole = 2**64 - 1  # four draws of 16 bits in each number
    draws = rng.integers(0, whole, -(-out.size // 4), np.uint64, endpoint=True).view(np.uint16)
    kept_ones = draws[: out.size].reshape(out.shape) < kept
    return np.multiply(kept_ones, out.dtype.type(65_536 / kept), out)
