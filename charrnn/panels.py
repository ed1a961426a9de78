"""A matrix in panels, in which a product's rows come out alike.

OpenBLAS's kernel for AVX2 goes through the columns of a matrix in panels, in strips of eight, and
through the rows of what it multiplies in twelves. Of each twelve the first six are summed in
another order, but only in the first and the last strip of each panel (`benchmarks/choices.py` shows
it). So these strips are zeros here, and nobody reads what comes of them.

Source of the panels' widths: OpenBLAS, driver/level3/level3.c, with SGEMM_DEFAULT_P of its Haswell
kernel as measured. Whether a machine's library does so is tried (`charrnn.trial`).

One to four rows behind the twelves are summed in an order of their own, the same for each of them
and whatever stands before them. So a row may be multiplied as one of a four instead, always: twelve
rows and such a four take as long as sixteen, where twelves alone would be filled up to twenty-four.
"""

from collections.abc import Iterator
from itertools import pairwise

from charrnn import lines
from charrnn.parameters import Array

PANEL, STRIP = 320, 8  # columns, at most, of a panel; and of a strip
TWELVE, FOUR = 12, 4  # rows: a multiple of the one, and behind them the other
MOST_ROWS = 72  # of one product, without the four


def in_panels(matrix: Array) -> Array:
    """The columns of a matrix (H, N) in their places among panels, (H, more), and zeros."""
    places = _places(matrix.shape[1])
    made, done = lines.zeros((len(matrix), places[-1].stop + STRIP), matrix.dtype), 0
    for place in places:
        part = matrix[:, done : done + place.stop - place.start]
        made[:, place.start : place.start + part.shape[1]] = part
        done += part.shape[1]
    return made


def pieces(made: Array, columns: int, first: int, count: int) -> Iterator[tuple[int, Array]]:
    """Where some columns of a product stand, whose matrix of so many `columns` is in panels.

    Args:
        made: the product, (rows, as many columns as the panels have).
        first: of the columns, `count` in all.

    Yields:
        How many of them come before, and a view of those that follow, (rows, n).
    """
    begin = -first  # of a place, counted from the first of the columns
    for place in _places(columns):
        end = begin + place.stop - place.start
        low, high = max(begin, 0), min(end, count)
        if low < high:
            yield low, made[:, place.start + low - begin : place.start + high - begin]
        begin = end


def gates(made: Array, columns: int, first: int, by_gate: Array) -> Iterator[tuple[Array, Array]]:
    """What of such a product goes where, so that it is sorted by gate: views of it, and of
    `by_gate` (G, B, H), whose columns stand side by side from `first` on; (g, rows or B, n) each.
    """
    rows, size = len(made), by_gate.shape[2]
    for begin, source in pieces(made, columns, first, len(by_gate) * size):
        done = 0
        while done < source.shape[1]:  # whole gates at once, and parts of one
            gate, column = divmod(begin + done, size)
            several, rest = divmod(source.shape[1] - done, size)
            if column or not several:
                several, width = 1, min(size - column, rest + several * size)
            else:
                width = size
            part = source[:, done : done + several * width].reshape(rows, several, width)
            yield part.swapaxes(0, 1), by_gate[gate : gate + several, :, column : column + width]
            done += several * width


def products_of(twelves: int, fours: int) -> list[slice]:
    """The rows of each product, for so many rows in twelves, filled up, and in fours behind them,
    filled up likewise.
    """
    middle = up(twelves, TWELVE)
    products = [slice(at, min(at + MOST_ROWS, middle)) for at in range(0, middle, MOST_ROWS)]
    others = [slice(at, at + FOUR) for at in range(middle, middle + fours, FOUR)]
    if products and others:
        products[-1] = slice(products[-1].start, others.pop(0).stop)
    return products + others


def up(count: int, unit: int) -> int:
    """Up to a multiple."""
    return -(-count // unit) * unit


def _places(columns: int) -> list[slice]:
    """Where in their panels so many columns stand: not in the first strip, nor in the last."""
    width = columns
    while True:
        width += -width % STRIP
        places = [slice(part.start + STRIP, part.stop - STRIP) for part in _panels(width)]
        lacking = columns - sum(place.stop - place.start for place in places)
        if lacking <= 0:
            return places
        width += lacking


def _panels(columns: int) -> list[slice]:
    """What the library takes one after the other: as much as it can, of the last two a half."""
    ends = [0]
    while (left := columns - ends[-1]) > 0:
        if PANEL < left < 2 * PANEL:
            left = (left + 2 * STRIP - 1) // (2 * STRIP) * STRIP
        ends.append(ends[-1] + min(left, PANEL))
    return [slice(*pair) for pair in pairwise(ends)]
