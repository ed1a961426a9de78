"""The matrix products of a step, in forms in which a row's bits depend on nobody else's.

A product of another number of rows may differ in its last bits, and so may a row at another place
of it: libraries go through the rows in strips of several widths, each with its own order of sums.
So rows are multiplied alone, or in one of three ways; `charrnn.trial` finds out which is exact:

- by gate and by 64 columns, from two rows on (or four, or eight), where all numbers and places of
  rows are alike: small products, for which libraries have a way that doesn't copy the matrix;
- in panels (`charrnn.panels`), by twelves, and some of them by fours;
- the first in separate products of eight rows.

`matrix` is [W | what follows], (H, N): a layer's output is multiplied once a step. What comes out
waits for the layer's next step, and for the layer above; at the top it is the logits.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from charrnn import lines, panels
from charrnn.ops import COLUMNS
from charrnn.parameters import Array
from charrnn.threads import blas_threads

ALIGNED = 16  # columns: an odd matrix is multiplied by another kernel than its own pieces
COLLIDING_BYTES = 2048  # rows of a matrix so far apart, or some times so far, displace each other
MOST_ROWS = 64  # of one product by gate
STACK_BYTES = 1 << 19  # of matrices that some rows are multiplied by before the next ones are
CACHE_BYTES = 1 << 18  # of a matrix, read again and again for rows alone: may stay in a cache
TRIED_ROWS = 4  # to find out whether it does
TRIALS, TRIAL_SECONDS = 5, 0.001  # of what is timed, at least


class Block(NamedTuple):
    """A way to multiply rows: a multiple of so many together, up to a number of them for each
    product, the recurrent and the following of each layer in turn; without one, `MOST_ROWS`. Or in
    panels, where rows may be multiplied as fours, or may not.
    """

    width: int
    most: tuple[int, ...] = ()
    in_panels: bool = False
    has_fours: bool = False


BY_ROW = Block(1)
IN_PANELS = Block(4, in_panels=True)  # each product adds the rows that lack
WITH_FOURS = IN_PANELS._replace(has_fours=True)


@dataclass(frozen=True, eq=False)
class CompiledLayer:
    """One layer: its folded biases, and the matrix that its output is multiplied by.

    `recurrent` and `following` are views of the matrix, whose products by gate come out as a block
    of memory for each.
    """

    folded: dict[str, Array]
    matrix: Array  # (H, G*H + what follows)
    recurrent: Array  # (G, H, H)
    following: Array  # likewise, of the layer above; at the top (H, V and zeros)

    @cached_property
    def panels(self) -> Array:
        """A copy of the matrix in panels."""
        return panels.in_panels(self.matrix)

    @cached_property
    def columns(self) -> tuple[list[Array], list[Array]]:
        """`recurrent` and `following` by columns: copies, which stand in memory in the order in
        which they are read.
        """
        recurrent, following = by_columns(self.recurrent), by_columns(self.following)
        return list(map(lines.copy, recurrent)), list(map(lines.copy, following))


class Products:
    """The products of one layer's output in some lanes, by one way to multiply.

    `waiting`: by gate, (G, capacity, H). `following`: of the layer above, likewise; at the top
    (capacity, V and zeros). Every step overwrites them.
    """

    waiting: Array
    following: Array

    def bind(self, h: Array, lanes: slice | int, fours: int = 0) -> Callable[[], Any]:
        """A function that leaves the products of h (B, H), or (H,) for a lane alone, in the places
        of these lanes, which begin with the first.

        Args:
            fours: so many lanes, the last ones, are multiplied as fours, where the block has them.
        """
        raise NotImplementedError


class ByRow(Products):
    """Each row alone."""

    def __init__(self, layer: CompiledLayer, capacity: int) -> None:
        gates, size = layer.recurrent.shape[:2]
        self._matrix, self._columns = layer.matrix, 0
        self._out = lines.zeros((capacity, layer.matrix.shape[1]), layer.matrix.dtype)
        self.waiting = by_gate(self._out[:, : gates * size], gates)
        self.following = self._out[:, gates * size :]
        if layer.following.ndim == 3:
            self.following = by_gate(self.following[:, : gates * size], gates)

    def bind(self, h: Array, lanes: slice | int, fours: int = 0) -> Callable[[], Any]:
        matrix = self._matrix
        if isinstance(lanes, int):
            return partial(h.dot, matrix, self._out[lanes])
        if not self._columns:
            self._columns = _fastest_columns(matrix)
        starts = range(0, matrix.shape[1], self._columns)
        parts = [slice(start, start + self._columns) for start in starts]
        rows, out = h[:, None], self._out[lanes, None]
        return in_turn([(np.matmul, rows, matrix[:, part], out[..., part]) for part in parts])


class ByGate(Products):
    """Several rows at once, a product for each gate and `COLUMNS` of its columns."""

    def __init__(self, layer: CompiledLayer, capacity: int, most: Sequence[int]) -> None:
        """most: rows of a product, of `recurrent` and of `following`."""
        self._columns, self._most = layer.columns, most
        self.waiting, self.following = (
            lines.zeros((*piece.shape[:-2], capacity, piece.shape[-1]), piece.dtype)
            for piece in (layer.recurrent, layer.following)
        )

    def bind(self, h: Array, lanes: slice | int, fours: int = 0) -> Callable[[], Any]:
        outputs = self.waiting[:, : len(h)], self.following[..., : len(h), :]
        each = zip(self._columns, outputs, self._most, strict=True)
        calls: list[tuple[Any, ...]] = []
        for columns, output, rows in each:
            for stack, out in zip(columns, by_columns(output), strict=True):
                for some in _read_again(stack) if len(h) > rows else (...,):
                    calls += multiply_by_gate(h, stack[some], out[some], rows)
        return in_turn(calls)


class InPanels(Products):
    """Several rows at once, in one product with the matrix in panels, then sorted by gate."""

    def __init__(self, layer: CompiledLayer, capacity: int) -> None:
        gates, size = layer.recurrent.shape[:2]
        room, dtype = capacity + panels.TWELVE + panels.FOUR, layer.matrix.dtype
        self._matrix = layer.panels
        self._h = lines.zeros((room, size), dtype)
        self._made = lines.zeros((room, self._matrix.shape[1]), dtype)
        made, columns, own = self._made, layer.matrix.shape[1], gates * size
        self.waiting = lines.zeros((gates, capacity, size), dtype)
        self._moves = list(panels.gates(made, columns, 0, self.waiting))
        if layer.following.ndim == 3:
            self.following = lines.zeros_like(self.waiting)
            self._moves += panels.gates(made, columns, own, self.following)
            return
        self.following = lines.zeros((capacity, columns - own), dtype)
        for begin, source in panels.pieces(made, columns, own, columns - own):
            self._moves.append((source, self.following[:, begin : begin + source.shape[1]]))

    def bind(self, h: Array, lanes: slice | int, fours: int = 0) -> Callable[[], Any]:
        twelves = len(h) - fours
        first = panels.up(twelves, panels.TWELVE)
        stand = [(slice(len(h)), slice(len(h)))]  # lanes, and which rows they are
        if fours and first > twelves:
            others = slice(twelves, len(h)), slice(first, first + fours)
            stand = [(slice(twelves), slice(twelves)), others]
        calls: list[tuple[Any, ...]] = [(np.copyto, self._h[rows], h[some]) for some, rows in stand]
        for rows in panels.products_of(twelves, fours):
            calls.append((np.matmul, self._h[rows], self._matrix, self._made[rows]))
        for source, target in self._moves:  # copyto: a ufunc takes twice as long to begin
            for some, rows in stand:
                calls.append((np.copyto, target[..., some, :], source[..., rows, :]))
        return in_turn(calls)


def products(layer: CompiledLayer, capacity: int, block: Block, number: int) -> Products:
    """Room for the products of a layer, the network's so manieth, multiplied as `block` says."""
    if block == BY_ROW:
        return ByRow(layer, capacity)
    if block.in_panels:
        return InPanels(layer, capacity)
    return ByGate(layer, capacity, block.most[2 * number :][:2] or (MOST_ROWS, MOST_ROWS))


def in_turn(calls: Sequence[tuple[Any, ...]]) -> Callable[[], None]:
    """A function that makes all these calls: a function, and what it takes."""

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
    rows, works = lines.zeros((TRIED_ROWS, 1, len(matrix)), matrix.dtype), []
    for columns in (whole, part):
        out = lines.zeros((TRIED_ROWS, 1, whole), matrix.dtype)
        parts = [slice(start, start + columns) for start in range(0, whole, columns)]
        calls = [(np.matmul, rows, matrix[:, part], out[..., part]) for part in parts]
        works.append(in_turn(calls))
    in_whole, in_parts = shortest(*works)
    return whole if in_whole <= in_parts else part


@blas_threads(1)
def shortest(*works: Callable[[], Any]) -> list[float]:
    """Seconds that each takes, the least of some: in turns, for a machine isn't always as fast."""
    taken: list[list[float]] = [[] for _ in works]
    while len(taken[0]) < TRIALS or sum(map(sum, taken)) < TRIAL_SECONDS * len(works):
        for work, seconds in zip(works, taken, strict=True):
            began = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - began)
    return [min(seconds) for seconds in taken]


def multiply_by_gate(h: Array, columns: Array, out: Array, rows: int) -> list[tuple[Any, ...]]:
    """The calls that leave h @ columns in `out`, so many rows at a time.

    Args:
        h: (B, H).
        columns: (..., H, n).
        out: (..., B, n).
        rows: of a product.
    """
    lanes = [slice(start, start + rows) for start in range(0, len(h), rows)]
    return [(np.matmul, h[some], columns, out[..., some, :]) for some in lanes]


def _read_again(stack: Array) -> Sequence[Any]:
    """Which of some matrices (n, ..., H, N), or of one (H, N), are multiplied at a time where more
    rows are to follow: few enough that these find them in the cache.
    """
    if stack.ndim == 2:
        return (...,)
    if stack.ndim == 4 and stack[0].nbytes > STACK_BYTES:
        many = max(1, STACK_BYTES // stack[0, 0].nbytes)
        gates = [slice(gate, gate + many) for gate in range(0, stack.shape[1], many)]
        return [(k, some) for k in range(len(stack)) for some in gates]
    many = max(1, STACK_BYTES // stack[0].nbytes)
    return [slice(k, k + many) for k in range(0, len(stack), many)]


def by_columns(x: Array) -> list[Array]:
    """The columns of x (..., N) by `COLUMNS`, (n, ..., `COLUMNS`), and those that are left over:
    views.
    """
    whole = x.shape[-1] // COLUMNS * COLUMNS
    stack = x[..., :whole].reshape(*x.shape[:-1], whole // COLUMNS, COLUMNS)
    views = [np.moveaxis(stack, -2, 0), x[..., whole:]]
    return [view for view in views if view.size]


def rounded(count: int, width: int) -> int:
    """Up to a multiple of the width, or of an eighth of the next power of two."""
    return panels.up(count, max(width, (1 << (count - 1).bit_length()) // 8))


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
    """[left | right | zeros], a multiple of `ALIGNED` columns."""
    columns = left.shape[1] + right.shape[1]
    filling = -columns % ALIGNED
    if (columns + filling) * left.itemsize % COLLIDING_BYTES == 0:
        filling += 2 * ALIGNED
    matrix = lines.zeros((len(left), columns + filling), left.dtype)
    matrix[:, : left.shape[1]], matrix[:, left.shape[1] : columns] = left, right
    return matrix


def by_gate(x: Array, gates: int) -> Array:
    """The blocks of x's last axis, first: (B, G*H) -> (G, B, H), and (G*H,) -> (G, H). A view."""
    if x.ndim == 1:
        return x.reshape(gates, -1)
    return x.reshape(len(x), gates, -1).transpose(1, 0, 2)
