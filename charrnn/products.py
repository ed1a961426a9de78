"""The matrix products of a step, in forms in which a row's bits depend on nobody else's.

A product of another number of rows may differ in its last bits, and so may a row at another place
of it: libraries go through the rows in strips of several widths, each with its own order of sums.
So rows are multiplied alone, or in one of three ways that `best_block` tries on the machine:

- by gate, from two rows on (or four, or eight), where all numbers and places of rows are alike;
- as columns, the product turned on its side, where all strips but the first and the last are alike,
  in which zeros stand, and like a strip alone;
- by gate in separate products of eight rows.

`matrix` is [W | what follows], (H, N): a layer's output is multiplied once a step. What comes out
waits for the layer's next step, and for the layer above; at the top it is the logits.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from charrnn.parameters import Array
from charrnn.threads import blas_threads

ALIGNED = 16  # columns: an odd matrix is multiplied by another kernel than its own pieces
WIDTHS = (2, 4, 8)  # the least rows of a product of several, the first that is exact
MOST_ROWS = 64  # of one product
# Products of no more rows than this beat rows alone only where the matrices take so many bytes.
FEWEST_ROWS, LARGE_BYTES = 8, 1 << 21
LONGEST_SUM = 448  # terms of a product's sums by gate; longer ones are cut into parts of
PART = 256  # since libraries would cut them too, at other places with other numbers of rows
CACHE_BYTES = 1 << 18  # of a matrix, read again and again for rows alone: may stay in a cache
TRIED_ROWS = 4  # to find out whether it does
TRIALS, TRIAL_SECONDS = 5, 0.001  # of what is timed, at least
STRIP = 8  # rows as columns: the first and the last so many may differ
STRIPS_IN_TURN = 2  # so few take less time one by one than between two of zeros


class Block(NamedTuple):
    """A way to multiply rows: a multiple of so many together, up to a number of them for each
    product, the recurrent and the following of each layer in turn; without one, `MOST_ROWS`. Or as
    columns.
    """

    width: int
    most: tuple[int, ...] = ()
    as_columns: bool = False


BY_ROW = Block(1)
AS_COLUMNS = Block(STRIP, as_columns=True)


class CompiledLayer(NamedTuple):
    """One layer: its folded biases, and the matrix that its output is multiplied by.

    `recurrent` and `following` are views of the matrix, whose products by gate come out as a block
    of memory for each.
    """

    folded: dict[str, Array]
    matrix: Array  # (H, G*H + what follows)
    recurrent: Array  # (G, H, H)
    following: Array  # likewise, of the layer above; at the top (H, V and zeros)


class Products:
    """The products of one layer's output in some lanes, by one way to multiply.

    `waiting`: by gate, (G, capacity, H). `following`: of the layer above, likewise; at the top
    (capacity, V and zeros). Views of one memory, which every step overwrites.
    """

    waiting: Array
    following: Array

    def bind(self, h: Array, lanes: slice | int) -> Callable[[], Any]:
        """A function that leaves the products of h (B, H), or (H,) for a lane alone, in the places
        of these lanes, which begin with the first.
        """
        raise NotImplementedError


class ByRow(Products):
    """Each row alone."""

    def __init__(self, layer: CompiledLayer, capacity: int) -> None:
        gates, size = layer.recurrent.shape[:2]
        self._matrix, self._columns = layer.matrix, 0
        self._out = np.zeros((capacity, layer.matrix.shape[1]), layer.matrix.dtype)
        self.waiting = by_gate(self._out[:, : gates * size], gates)
        self.following = self._out[:, gates * size :]
        if layer.following.ndim == 3:
            self.following = by_gate(self.following[:, : gates * size], gates)

    def bind(self, h: Array, lanes: slice | int) -> Callable[[], Any]:
        matrix = self._matrix
        if isinstance(lanes, int):
            return partial(h.dot, matrix, self._out[lanes])
        if not self._columns:
            self._columns = _fastest_columns(matrix)
        starts = range(0, matrix.shape[1], self._columns)
        parts = [slice(start, start + self._columns) for start in starts]
        rows, out = h[:, None], self._out[lanes, None]
        return _all([(np.matmul, rows, matrix[:, part], out[..., part]) for part in parts])


class ByGate(Products):
    """Several rows at once, a product for each gate."""

    def __init__(self, layer: CompiledLayer, capacity: int, most: Sequence[int]) -> None:
        """most: rows of a product, of `recurrent` and of `following`."""
        self._pieces, self._most = (layer.recurrent, layer.following), most
        self.waiting, self.following = (
            np.zeros((*piece.shape[:-2], capacity, piece.shape[-1]), piece.dtype)
            for piece in self._pieces
        )

    def bind(self, h: Array, lanes: slice | int) -> Callable[[], Any]:
        calls: list[tuple[Any, ...]] = []
        outputs = self.waiting, self.following
        for piece, output, rows in zip(self._pieces, outputs, self._most, strict=True):
            for start in range(0, len(h), rows):
                lane = slice(start, min(start + rows, len(h)))
                calls += _summed(h[lane], piece, output[..., lane, :])
        return _all(calls)


class AsColumns(Products):
    """Several rows at once as columns, (N, H) @ (H, B), one product in all."""

    def __init__(self, layer: CompiledLayer, capacity: int) -> None:
        assert capacity <= MOST_ROWS  # more were never tried
        gates, size = layer.recurrent.shape[:2]
        dtype, width = layer.matrix.dtype, STRIP + capacity + STRIP
        self._matrix = layer.matrix.T
        self._h = np.zeros((size, width), dtype)
        self._out = np.zeros((layer.matrix.shape[1], width), dtype)
        rows = self._out[:, STRIP:-STRIP]  # (N, capacity)
        self.waiting = rows[: gates * size].reshape(gates, size, capacity).swapaxes(1, 2)
        if layer.following.ndim == 3:
            above = rows[gates * size : 2 * gates * size]
            self.following = above.reshape(gates, size, capacity).swapaxes(1, 2)
        else:
            self.following = rows[gates * size :].T

    def bind(self, h: Array, lanes: slice | int) -> Callable[[], Any]:
        # A product of one strip is like the inner strips of a longer one.
        strips = [slice(start, start + STRIP) for start in range(STRIP, STRIP + len(h), STRIP)]
        whole = [slice(0, 2 * STRIP + len(h))]
        calls = [
            (np.matmul, self._matrix, self._h[:, columns], self._out[:, columns])
            for columns in (strips if len(strips) <= STRIPS_IN_TURN else whole)
        ]
        return _all([(np.positive, h.T, self._h[:, STRIP : STRIP + len(h)]), *calls])


class AsColumnsInTurn(Products):
    """More rows as columns than were tried in one product: several, one after the other."""

    def __init__(self, layer: CompiledLayer, capacity: int) -> None:
        self._starts = range(0, capacity, MOST_ROWS)
        rooms = [min(MOST_ROWS, capacity - start) for start in self._starts]
        self._parts = [AsColumns(layer, room) for room in rooms]
        self.waiting = np.concatenate([part.waiting for part in self._parts], -2)
        self.following = np.concatenate([part.following for part in self._parts], -2)

    def bind(self, h: Array, lanes: slice | int) -> Callable[[], Any]:
        calls: list[Callable[[], Any]] = []
        for start, part in zip(self._starts, self._parts, strict=True):
            rows = h[start : start + MOST_ROWS]
            if len(rows):
                calls.append(part.bind(rows, slice(len(rows))))
                for made, output in (
                    (part.waiting, self.waiting),
                    (part.following, self.following),
                ):
                    theirs = output[..., start : start + len(rows), :]
                    calls.append(partial(np.positive, made[..., : len(rows), :], theirs))

        def multiply() -> None:
            for call in calls:
                call()

        return multiply


def products(layer: CompiledLayer, capacity: int, block: Block, number: int) -> Products:
    """Room for the products of a layer, the network's so manieth, multiplied as `block` says."""
    if block == BY_ROW:
        return ByRow(layer, capacity)
    if block.as_columns:
        return (AsColumns if capacity <= MOST_ROWS else AsColumnsInTurn)(layer, capacity)
    return ByGate(layer, capacity, block.most[2 * number :][:2] or (MOST_ROWS, MOST_ROWS))


def _all(calls: Sequence[tuple[Any, ...]]) -> Callable[[], None]:
    """A function that makes all these calls: a ufunc, what it works on, and what it writes to."""

    def multiply() -> None:
        for work, *arguments in calls:
            work(*arguments)

    return multiply


def _fastest_columns(matrix: Array) -> int:
    """How many columns of a matrix are read at a time, for one row after another: all of them, or
    as many as stay in a cache. The bits are the same; which is faster is the processor's matter.
    """
    whole = matrix.shape[1]
    part = max(ALIGNED, CACHE_BYTES // matrix[:, 0].nbytes // ALIGNED * ALIGNED)
    if matrix.nbytes <= 2 * CACHE_BYTES:
        return whole
    rows, seconds = np.zeros((TRIED_ROWS, 1, len(matrix)), matrix.dtype), {}
    for columns in (whole, part):
        out = np.zeros((TRIED_ROWS, 1, whole), matrix.dtype)
        parts = [slice(start, start + columns) for start in range(0, whole, columns)]
        calls = [(np.matmul, rows, matrix[:, part], out[..., part]) for part in parts]
        seconds[columns] = shortest(_all(calls))
    return min(seconds, key=seconds.__getitem__)


@blas_threads(1)
def shortest(work: Callable[[], Any]) -> float:
    """Seconds that something takes, the least of some."""
    taken: list[float] = []
    while len(taken) < TRIALS or sum(taken) < TRIAL_SECONDS:
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


@blas_threads(1)
def best_block(layers: Sequence[CompiledLayer]) -> Block:
    """How to multiply several rows at once on this machine so that a row's bits depend neither on
    its place nor on the number of rows: by trying all numbers and places.
    """
    rng, matrix = np.random.default_rng(0), layers[0].matrix
    rows = rng.standard_normal((MOST_ROWS, len(matrix))).astype(matrix.dtype)
    is_large = sum(layer.matrix.nbytes for layer in layers) > LARGE_BYTES
    by_gate = _best_by_gate(rows, layers, is_large=is_large)
    if by_gate.most and min(by_gate.most) == MOST_ROWS:
        return by_gate
    strips = range(STRIP, MOST_ROWS + 1, STRIP)
    if all(_most_alike(_as_columns, rows, layer.matrix, strips) == MOST_ROWS for layer in layers):
        return AS_COLUMNS
    return by_gate


def _best_by_gate(rows: Array, layers: Sequence[CompiledLayer], *, is_large: bool) -> Block:
    """The best way but that of columns."""
    pieces = [piece for layer in layers for piece in (layer.recurrent, layer.following)]
    for width in WIDTHS:
        counts = sorted({rounded(count, width) for count in range(1, MOST_ROWS + 1)})
        most = [_most_alike(_by_gate, rows, piece, counts) for piece in pieces]
        if all(most) and (is_large or min(most[::2]) > FEWEST_ROWS):
            return Block(width, tuple(most))
    return BY_ROW


def _most_alike(
    multiplied: Callable[[Array, Array], Array], rows: Array, matrix: Array, counts: Sequence[int]
) -> int:
    """The most rows of a product up to which a row's product is the same in all of these numbers of
    them, if any: libraries change their way with the size.

    Args:
        multiplied: a way to multiply: (B, H) and a matrix to (..., B, N).
        rows: that differ, as many as the largest number: by chance one may be the same either way.
        matrix: (..., H, N).
        counts: rising; the first is the fewest rows that are multiplied.
    """
    alone = [multiplied(np.repeat(row[None], counts[0], axis=0), matrix) for row in rows]
    if not all((one == one[..., :1, :]).all() for one in alone):
        return 0
    expected = np.concatenate([one[..., :1, :] for one in alone], axis=-2)
    for most in (MOST_ROWS, 32, 16, FEWEST_ROWS):
        those = [count for count in counts if count <= most]
        made = ((multiplied(rows[:count], matrix), expected[..., :count, :]) for count in those)
        if all((product == alike).all() for product, alike in made):
            return most
    return 0


def _by_gate(rows: Array, matrix: Array) -> Array:
    """rows @ matrix, its sums in parts."""
    total, *others = (rows[:, part] @ matrix[..., part, :] for part in _sum_parts(matrix))
    for other in others:
        total += other
    return total


def _as_columns(rows: Array, matrix: Array) -> Array:
    """rows @ matrix, as `AsColumns` has it."""
    margin = 0 if len(rows) == STRIP else STRIP
    columns = np.zeros((rows.shape[1], len(rows) + 2 * margin), rows.dtype)
    inner = slice(margin, margin + len(rows))
    columns[:, inner] = rows.T
    product: Array = (matrix.T @ columns)[:, inner].T
    return product


def _summed(h: Array, matrix: Array, out: Array) -> list[tuple[Any, ...]]:
    """The calls that leave h @ matrix in `out`, the sums in parts."""
    first, *others = _sum_parts(matrix)
    calls: list[tuple[Any, ...]] = [(np.matmul, h[:, first], matrix[..., first, :], out)]
    if others:
        spare = np.zeros_like(out)
        for part in others:
            calls.append((np.matmul, h[:, part], matrix[..., part, :], spare))
            calls.append((np.add, out, spare, out))
    return calls


def _sum_parts(matrix: Array) -> list[slice]:
    """The parts of a product's sums."""
    terms = matrix.shape[-2]
    size = terms if terms <= LONGEST_SUM else PART
    return [slice(start, min(start + size, terms)) for start in range(0, terms, size)]


def rounded(count: int, width: int) -> int:
    """Up to a multiple of the width, or of an eighth of the next power of two."""
    unit = max(width, (1 << (count - 1).bit_length()) // 8)
    return -(-count // unit) * unit


def compiled_layer(
    folded: dict[str, Array], above: Array, gates: int, *, is_top: bool
) -> CompiledLayer:
    """A layer from its folded parameters, and what its output is multiplied by for those above it:
    the folded U of the layer above, or at the top V, (H, N).
    """
    matrix, recurrent = _side_by_side(folded["W"], above), folded["W"].shape[1]
    following = matrix[:, recurrent:]
    if not is_top:
        following = by_gate(following[:, : above.shape[1]], gates)
    # Without U and W, which stand in the table and the matrices: no second copy is held.
    biases = {name: array for name, array in folded.items() if name not in ("U", "W")}
    return CompiledLayer(biases, matrix, by_gate(matrix[:, :recurrent], gates), following)


def _side_by_side(left: Array, right: Array) -> Array:
    """[left | right | zeros up to a multiple of `ALIGNED` columns]."""
    filling = -(left.shape[1] + right.shape[1]) % ALIGNED
    return np.concatenate([left, right, np.zeros((len(left), filling), left.dtype)], axis=1)


def by_gate(x: Array, gates: int) -> Array:
    """The blocks of x's last axis, first: (B, G*H) -> (G, B, H), and (G*H,) -> (G, H). A view."""
    if x.ndim == 1:
        return x.reshape(gates, -1)
    return x.reshape(len(x), gates, -1).transpose(1, 0, 2)
