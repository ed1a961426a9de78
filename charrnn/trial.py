"""How several rows are multiplied at once so that each keeps its bits: by trial on this machine.

The processor decides it, and the version of the library, so nobody can know beforehand.
"""

from collections.abc import Callable, Sequence

import numpy as np

from charrnn import panels
from charrnn.ops import COLUMNS
from charrnn.parameters import Array
from charrnn.products import (
    BY_ROW,
    IN_PANELS,
    MOST_ROWS,
    WITH_FOURS,
    Block,
    CompiledLayer,
    in_turn,
    multiply_by_gate,
    rounded,
)
from charrnn.threads import SMALL, blas_threads, small_products_are_fast

LARGE_BYTES = 1 << 21  # of matrices that take long to read
WIDTHS = (2, 4, 8)  # the least rows of a product of several, the first that is exact
MOSTS = (MOST_ROWS, 32, 16, 8, 4, 2)  # rows of one product by gate
# Products of no more rows than this beat rows alone only where the matrices are large.
FEWEST_ROWS = 8


@blas_threads(1)
def best_block(layers: Sequence[CompiledLayer]) -> Block:
    """How to multiply several rows at once on this machine so that a row's bits depend neither on
    its place nor on the number of rows: by trying all numbers and places.
    """
    rng, matrix = np.random.default_rng(0), layers[0].matrix
    rows = rng.standard_normal((panels.MOST_ROWS, len(matrix))).astype(matrix.dtype)
    by_gate = _best_by_gate(rows[:MOST_ROWS], layers)
    if by_gate.most and min(by_gate.most) == most_rows(len(matrix)):
        return by_gate
    counts = range(panels.TWELVE, panels.MOST_ROWS + 1, panels.TWELVE)
    if all(_are_alike(np.matmul, rows, layer.panels, counts) for layer in layers):
        fours = all(_fours_are_alike(rows, layer.panels) for layer in layers)
        by_gate = WITH_FOURS if fours else IN_PANELS
    for layer in layers:  # no copy that nobody will use
        for way, copy in ((by_gate.in_panels, "panels"), (by_gate.most, "columns")):
            if not way:
                vars(layer).pop(copy, None)
    return by_gate


def _best_by_gate(rows: Array, layers: Sequence[CompiledLayer]) -> Block:
    """The best way but that of panels."""
    is_large = sum(layer.matrix.nbytes for layer in layers) > LARGE_BYTES
    pieces = [columns for layer in layers for columns in layer.columns]
    for width in WIDTHS:
        most = [_most_alike(rows, columns, width) for columns in pieces]
        if all(most) and (is_large or min(most[::2]) > FEWEST_ROWS):
            return Block(width, tuple(most))
    return BY_ROW


def most_rows(size: int) -> int:
    """The most rows of so many numbers whose product by gate stays small, where that counts."""
    if not small_products_are_fast():
        return MOST_ROWS
    return next((most for most in MOSTS if most * size * COLUMNS <= SMALL), MOSTS[-1])


def _most_alike(rows: Array, columns: Sequence[Array], width: int) -> int:
    """The most rows of a product by gate up to which a row's product is the same in all numbers of
    them that are multiples of the width, if any: libraries change their way with the size.
    """
    largest = most_rows(rows.shape[1])
    fewest = max(width, min(FEWEST_ROWS, largest))
    for most in (most for most in MOSTS if fewest <= most <= largest):
        counts = sorted({rounded(count, width) for count in range(1, most + 1)})
        if all(_are_alike(_multiplied_by_gate, rows[:most], each, counts) for each in columns):
            return most
    return 0


def _multiplied_by_gate(rows: Array, columns: Array) -> Array:
    out = np.empty((*columns.shape[:-2], len(rows), columns.shape[-1]), rows.dtype)
    in_turn(multiply_by_gate(rows, columns, out, len(rows)))()
    return out


def _are_alike(
    multiplied: Callable[[Array, Array], Array], rows: Array, matrix: Array, counts: Sequence[int]
) -> bool:
    """Whether a row's product is the same in all of these numbers of rows, at every place.

    Args:
        multiplied: a way to multiply: (B, H) and a matrix to (..., B, N).
        rows: that differ, as many as the largest number: by chance one may be the same either way.
        matrix: (..., H, N).
        counts: rising; the first is the fewest rows that are multiplied.
    """
    alone = [multiplied(np.repeat(row[None], counts[0], axis=0), matrix) for row in rows]
    if not all((one == one[..., :1, :]).all() for one in alone):
        return False
    expected = np.concatenate([one[..., :1, :] for one in alone], axis=-2)
    made = ((multiplied(rows[:count], matrix), expected[..., :count, :]) for count in counts)
    return all((product == alike).all() for product, alike in made)


def _fours_are_alike(rows: Array, matrix: Array) -> bool:
    """Whether a row's product as one of four is the same at each of its places, and behind each
    number of twelves; and whether these leave alike what stands before them.

    Args:
        rows: that differ, a multiple of twelve, which are alike without fours.
        matrix: (H, N), in panels.
    """
    fours, twelves = rows[: panels.FOUR], np.matmul(rows, matrix)
    alone = [np.matmul(np.repeat(row[None], panels.FOUR, axis=0), matrix) for row in fours]
    expected = np.concatenate([one[:1] for one in alone])
    if not all((one == one[:1]).all() for one in alone):
        return False
    for count in range(panels.TWELVE, len(rows) + 1, panels.TWELVE):
        made = np.matmul(np.concatenate([rows[:count], fours]), matrix)
        if not (made == np.concatenate([twelves[:count], expected])).all():
            return False
    return True
