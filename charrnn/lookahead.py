"""How likely it is that a name in progress comes to have its shape, by a guess that costs nothing:
what short runs of letters of the training list say, and what comes in each state of the shape.

Masking what can't lead to the shape is not enough: a name that must end with "raptor" would be
written as if it need not, until no room is left. The guess psi steers (the "twist" of twisted
particle filters: Whiteley & Lee 2014, "Twisted particle filters"; Zhao, Brekelmans, Makhzani &
Grosse 2024, "Probabilistic inference in language models via twisted sequential Monte Carlo"). It
alters no distribution: `charrnn.particles` weighs exactly for whatever the guess is, as long as it
is above zero wherever the shape can still be met.

    psi[t, q, c] = P(end | q, c) [q accepts]
                   + sum over v of P(v | q, c) psi[t + 1, q after v, c after v]

with P(v | c) from counts of two or three letters in a row, each smoothed by the shorter ones as in
MacKay & Peto (1995), "A hierarchical Dirichlet language model", at the request's temperature. A
state of the shape knows more of what stands before than two letters do ("rap" of "raptor"), so the
list's names walk through the automaton, and P(v | q, c) is counted in the same way, smoothed by
P(v | c).
"""

from collections.abc import Sequence
from copy import copy
from functools import cached_property

import numpy as np

from charrnn.parameters import Array
from charrnn.shapes import DEAD, Shape
from charrnn.wordlist import AnyVocabulary

MOST_COUNTED = 100_000  # names, from all over the list: a guess needs no more
COUNTED_AT_ONCE = 1 << 20  # of their letters
WALKED_NAMES, WALKED_LETTERS = 20_000, 100  # of the list through a shape, and of each name
MOST_WALKED = 1 << 21  # numbers that are counted there
STRENGTH = 4.0  # of the shorter runs, in letters seen
MOST_NUMBERS, MOST_PRODUCTS = 1 << 22, 1 << 28  # that are kept, and that are worked out
TINY = 1e-290  # the least guess where the shape can be met


class LetterRuns:
    """P(v | the letters before), from a list of names. Orders 0, 1 and 2: letters looked back
    at.
    """

    def __init__(self, names: Sequence[str], vocabulary: AnyVocabulary) -> None:
        self.vocab, end = len(vocabulary), vocabulary.end
        assert end is not None
        self.end = end
        counted = names[:: -(-len(names) // MOST_COUNTED) or 1]
        self._ids, _ = vocabulary.joined(counted)  # the end symbol first
        self._kept: dict[tuple[int, float], Array] = {}

    def probabilities(self, order: int, temperature: float) -> Array:
        """(C, V) with C = V^order contexts, the letter right before counting least: c = a V + b for
        a letter a before a letter b. What stands before a name is the end symbol.
        """
        key = order, temperature
        if key not in self._kept:
            if len(self._kept) >= 8:
                self._kept.clear()
            self._kept[key] = _tempered(self._smoothed(order), temperature)
        return self._kept[key]

    def in_states(self, order: int, temperature: float, shape: Shape) -> Array:
        """P(v | q, letters before), (Q, C, V): `probabilities` for each state of a shape, all alike
        where these would be too many numbers.
        """
        V, Q = self.vocab, len(shape.next)
        C = V**order
        if Q * C * V > MOST_WALKED:
            return np.broadcast_to(self.probabilities(order, temperature), (Q, C, V))
        names = self._walked
        q, c = np.zeros(len(names), int), np.full(len(names), self.context(order, ()))
        keys = []
        for v in range(names.shape[1]):
            ids = names[:, v]
            keys.append((q * C + c) * V + ids)
            q = shape.next[q, ids]
            on = q != DEAD  # the end leads nowhere either
            names, q, c = names[on], q[on], self.contexts(order, c[on], ids[on])
        counts = np.bincount(np.concatenate(keys), minlength=Q * C * V).reshape(Q, C, V)
        return _tempered(_mixed(counts, self.probabilities(order, 1.0)), temperature)

    @cached_property
    def _walked(self) -> Array:
        """Names from all over the list with their ends, (n, letters), filled up with ends."""
        ends = np.flatnonzero(self._ids == self.end)
        firsts, lasts = ends[:-1] + 1, ends[1:]
        chosen = slice(None, None, max(1, -(-len(firsts) // WALKED_NAMES)))
        firsts, lasts = firsts[chosen], lasts[chosen]
        longest = min(WALKED_LETTERS, int((lasts - firsts).max(initial=0)) + 1)
        places = np.minimum(firsts[:, None] + np.arange(longest), lasts[:, None])
        return self._ids[places].astype(np.int64)

    def context(self, order: int, ids: Sequence[int]) -> int:
        """The context after the first symbols of a name."""
        last = [self.end, self.end, *ids]
        return [0, last[-1], last[-2] * self.vocab + last[-1]][order]

    def contexts(self, order: int, c: Array, ids: Array) -> Array:
        """The contexts after one symbol more."""
        if order == 0:
            return np.zeros(np.broadcast_shapes(c.shape, ids.shape), int)
        return ids + 0 * c if order == 1 else c % self.vocab * self.vocab + ids

    def _smoothed(self, order: int) -> Array:
        V = self.vocab
        below = _mixed(self._counts(0).reshape(1, V), np.full((1, V), 1 / V))
        if order >= 1:
            below = _mixed(self._counts(1).reshape(V, V), np.repeat(below, V, axis=0))
        if order == 2:
            below = _mixed(self._counts(2).reshape(V * V, V), np.tile(below, (V, 1)))
        return below

    def _counts(self, order: int) -> Array:
        """How often each run of `order` letters and one more is there, (V^(order + 1),); the names
        are gone through a part at a time.
        """
        V, ids = self.vocab, self._ids
        counts = np.zeros(V ** (order + 1), np.int64)
        for begin in range(1, len(ids), COUNTED_AT_ONCE):
            end = min(begin + COUNTED_AT_ONCE, len(ids))
            runs = ids[begin:end].astype(np.int64)
            before = ids[begin - 1 : end - 1]
            if order >= 1:
                runs += V * before.astype(np.int64)
            if order == 2:
                earlier = np.full(end - begin, self.end, np.int64)
                earlier[int(begin < 2) :] = ids[max(0, begin - 2) : end - 2]
                earlier[before == self.end] = self.end  # a name knows nothing of the one before it
                runs += V * V * earlier
            counts += np.bincount(runs, minlength=len(counts))
        return counts


def _tempered(chances: Array, temperature: float) -> Array:
    """Probabilities (..., V) at another temperature than 1."""
    if temperature == 1:
        return chances
    log = np.log(chances)
    log -= log.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # to -inf, which is as good
        log /= temperature
    tempered = np.exp(np.maximum(log, -60.0))
    made: Array = tempered / tempered.sum(axis=-1, keepdims=True)
    return made


def _mixed(counts: Array, shorter: Array) -> Array:
    """(..., C, V) from counts, each row with `STRENGTH` more of what the shorter context says."""
    total = counts.sum(axis=-1, keepdims=True)
    return (counts + STRENGTH * shorter) / (total + STRENGTH)


class Lookahead:
    """The guess for a shape: psi of each length, state and context. Holds no state of a name."""

    def __init__(self, shape: Shape, runs: LetterRuns, temperature: float) -> None:
        """temperature: more than 0."""
        self.shape, self.end, self._vocab, self._runs = shape, runs.end, runs.vocab, runs
        self.order = _order(shape, runs.vocab)
        contexts = runs.vocab**self.order
        P = runs.in_states(self.order, temperature, shape)
        Q = len(shape.next)
        # With a state Q for those that lead nowhere, and a length at which nothing may follow.
        self._psi = np.zeros((shape.longest + 2, Q + 1, contexts))
        for length in range(shape.longest, -1, -1):
            self._psi[length, :Q] = self._before(length, P)
        # Where psi after each symbol begins among those of a length, by state: (Q, V).
        self._places = np.where(shape.next >= 0, shape.next, Q) * contexts
        self._symbols = np.arange(runs.vocab)

    def of(self, shape: Shape) -> "Lookahead":
        """The same for names that begin with a seed: of a shape that this one's `after` gave."""
        made = copy(self)
        made.shape = shape
        return made

    def _before(self, length: int, P: Array) -> Array:
        """psi at a length, from psi one further and P (Q, C, V): (Q, C)."""
        shape, V = self.shape, self._vocab
        Q, C, _ = P.shape
        if length < shape.longest:
            # What follows depends on the context's last letter and on the next: (Q, C / V, V).
            following = self._after(length + 1)
        else:
            following = np.zeros((Q, max(1, C // V), V))
        following[..., self.end] = shape.may_end(length)[:, None]
        if self.order == 2:  # P (q, a, b, v), following (q, b, v)
            psi = np.einsum("qabv,qbv->qab", P.reshape(Q, V, V, V), following).reshape(Q, C)
        else:
            psi = np.einsum("qcv,qv->qc", P, following[:, 0])
        can = shape.can[length][:, None]
        return np.where(can, np.maximum(psi, TINY), 0.0)

    def _after(self, length: int) -> Array:
        """psi after each symbol: (Q, V or 1, V), by the letter before it where that counts."""
        V, psi = self._vocab, self._psi[length, :-1]
        Q, nexts = len(psi), self.shape.next
        known = np.where(nexts >= 0, nexts, 0)
        if self.order == 2:
            values = psi.reshape(Q, V, V)[known, :, np.arange(V)]  # (Q, V next, V before)
            values = values.transpose(0, 2, 1)
        elif self.order == 1:
            values = psi[known, np.arange(V)][:, None]
        else:
            values = psi[known, 0][:, None]
        return np.where((nexts >= 0)[:, None], values, 0.0)

    def context(self, ids: Sequence[int]) -> int:
        """The context after the symbols of a seed."""
        return self._runs.context(self.order, ids)

    def acceptance(self, ids: Sequence[int]) -> float:
        """The guess after a seed: how likely a name that is drawn freely has the shape."""
        return float(self._psi[len(ids), self.shape.begin, self.context(ids)])

    def guess(self, length: int, q: Array, c: Array) -> Array:
        """psi for states and contexts (N,) after so many symbols."""
        return self._psi[length, q, c]

    def guesses(self, length: int, q: Array, c: Array) -> Array:
        """(N, V): psi after each symbol that may come next, of which there were `length` before;
        for the end symbol, whether the name may end.
        """
        psi = self._psi[length + 1]
        values: Array = psi.ravel().take(self._places[q] + self.contexts(c[:, None], self._symbols))
        values[:, self.end] = self.shape.may_end(length)[q]
        return values

    def contexts(self, c: Array, ids: Array) -> Array:
        """The contexts after one symbol more."""
        return self._runs.contexts(self.order, c, ids)


def _order(shape: Shape, vocab: int) -> int:
    """How many letters are looked back at: two, where that isn't too much to work out and keep."""
    lengths, states = shape.longest + 1, len(shape.next)
    for order in (2, 1):
        numbers = lengths * states * vocab**order
        if numbers <= MOST_NUMBERS and numbers * vocab <= MOST_PRODUCTS:
            return order
    return 0
