"""How near a name is to the names of a list: the smallest normalised edit distance, quickly.

A name's letters alone bound its distances from below, so most of the list is never compared; what
is left goes through a bit-parallel edit distance, all names at once.
"""

from collections.abc import Sequence

import numpy as np

from charrnn.parameters import Array

FIRST_LOOK = 32  # names whose distance is worked out to begin with
WORD = 64  # bits: longer names are compared in Python's integers


class Nearest:
    """The names of a list, ready to be compared with."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: at least one. Raises ValueError for none."""
        if not names:
            raise ValueError("needs at least one name to compare with")
        self.names = tuple(names)
        self._lengths = np.array([len(name) for name in names])
        self._column = {symbol: k for k, symbol in enumerate(sorted(set().union(*names)))}
        self._letters = np.zeros((len(names), len(self._column)), np.int16)
        self._texts = np.full((len(names), max(1, int(self._lengths.max()))), -1)
        for row, name in enumerate(names):
            for place, symbol in enumerate(name):
                self._letters[row, self._column[symbol]] += 1
                self._texts[row, place] = self._column[symbol]

    def distance(self, name: str) -> float:
        """The edit distance to the nearest name of the list, over the longer one's length: from 0,
        in the list, to 1, nothing in common.
        """
        longer = np.maximum(np.maximum(self._lengths, len(name)), 1)
        bounds = self._bounds(name) / longer
        if len(bounds) > FIRST_LOOK:
            chosen = np.argpartition(bounds, FIRST_LOOK)[:FIRST_LOOK]
            best = float((self._edits(name, chosen) / longer[chosen]).min())
            left = np.flatnonzero(bounds < best)
            left = left[~np.isin(left, chosen)]
        else:
            best, left = 1.0, np.arange(len(bounds))
        if len(left):
            best = min(best, float((self._edits(name, left) / longer[left]).min()))
        return best

    def _bounds(self, name: str) -> Array:
        """The larger number of letters that one of two names has and the other hasn't, (n,): at
        most their edit distance (Bartolini, Ciaccia & Patella 2002, "String matching with metric
        trees using an approximate distance").
        """
        own, unknown = np.zeros(len(self._column), np.int16), 0
        for symbol in name:
            column = self._column.get(symbol)
            if column is None:
                unknown += 1
            else:
                own[column] += 1
        common = np.minimum(self._letters, own).sum(axis=1, dtype=np.int64)
        return np.maximum(self._lengths, len(name)) - common

    def _edits(self, name: str, rows: Array) -> Array:
        """Edit distances (insert, delete, replace: one each) to the names of `rows`, (n,).

        The column of the classical table is kept as its vertical differences, a bit each: Myers
        1999, "A fast bit-vector algorithm for approximate string matching", JACM 46, in the form
        of Hyyrö 2001 for whole strings.
        """
        m = len(name)
        if not m:
            return self._lengths[rows]
        kind = np.uint64 if m <= WORD else object
        everything, one = (1 << m) - 1, np.array([1], kind)[0]
        full, top = (np.array([bits], kind)[0] for bits in (everything, 1 << (m - 1)))
        places = [0] * (len(self._column) + 1)  # where each symbol stands; the last for padding
        for k, symbol in enumerate(name):
            if symbol in self._column:
                places[self._column[symbol]] |= 1 << k
        masks = np.array(places, kind)
        order = rows[np.argsort(-self._lengths[rows], kind="stable")]
        lengths, texts = self._lengths[order], self._texts[order]
        distances = np.full(len(order), m)
        up, down = np.full(len(order), full), np.zeros(len(order), kind)
        for step in range(int(lengths[0])):
            n = int(np.searchsorted(-lengths, -step, "left"))  # the names that have this letter
            p, d = up[:n], down[:n]
            equal = masks[texts[:n, step]]
            x = equal | d
            diagonal = ((((equal & p) + p) ^ p) | equal) & full
            rises = (d | ~(diagonal | p)) & full
            falls = p & diagonal
            distances[:n] += (rises & top) != 0
            distances[:n] -= (falls & top) != 0
            rises = ((rises << one) | one) & full
            falls = (falls << one) & full
            up[:n] = (falls | ~(x | rises)) & full
            down[:n] = rises & x
        found = np.empty(len(order), np.int64)
        found[np.argsort(-self._lengths[rows], kind="stable")] = distances
        return found
