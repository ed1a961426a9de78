"""A name drawn from the network's own distribution, given that it has a rare shape: by N drafts
that are written side by side, weighed, and drawn anew from one another (sequential Monte Carlo).

The target is the distribution of free sampling at the same temperature, top_k and top_p, given the
shape. A draft x of n symbols is continued by v with the probability

    r(v) = p(v | x) psi(x v) / Z(x),        Z(x) = sum over v of p(v | x) psi(x v)

where p is the network's and psi the guess of `charrnn.lookahead`, which is 0 exactly where the
shape can't be met any more. Its weight is multiplied by Z(x) / psi(x), before v is drawn: the fully
adapted auxiliary particle filter (Pitt & Shephard 1999, "Filtering via simulation: auxiliary
particle filters") with psi as its twist (Zhao et al. 2024, "Probabilistic inference in language
models via twisted sequential Monte Carlo", section 3; Lew et al. 2023, "Sequential Monte Carlo
steering of large language models using probabilistic programs"). Over a whole name the weights
multiply to p(name) / r(name): a draw by weight from the drafts is a draw from the target as N
grows, whatever psi is. Masking alone, without weights, would be a draw from another distribution.

Drafts that are still being written are drawn anew among themselves, by systematic resampling
(Kitagawa 1996), when the effective number of them falls below half (Kong, Liu & Wong 1994).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from charrnn.config import GenerationConfig
from charrnn.lookahead import Lookahead
from charrnn.parameters import Array
from charrnn.sampling import Limits


class Draft(NamedTuple):
    """A finished draft: its symbols without the seed and the end symbol, and its natural
    log-probability at temperature 1, unconstrained.
    """

    ids: tuple[int, ...]
    logprob: float


class Swarm:
    """The N drafts of one name, all of one length while they are written. `DecodeBatch` holds a
    lane for each of those, and asks for their next symbols.
    """

    def __init__(
        self,
        lookahead: Lookahead,
        seed_ids: Sequence[int],
        config: GenerationConfig,
        rng: np.random.Generator,
        never: int | None = None,
    ) -> None:
        """rng: nothing else may draw from it. config: temperature (above 0), top_k, top_p and
        particles count. never: a symbol that must not be drawn.
        """
        self.config, self._lookahead, self._rng, self._never = config, lookahead, rng, never
        N, shape = config.particles, lookahead.shape
        self.size = N
        self._length = shape.length
        # Of those that are still written, in the order of their lanes: (n,) each.
        self._q = np.full(N, shape.begin)
        self._c = np.full(N, lookahead.context(seed_ids))
        self._guess = lookahead.guess(shape.length, self._q, self._c)
        self._ids = np.zeros((N, shape.longest + 1 - shape.length), int)
        self._made = 0
        self._logprobs = np.zeros(N)
        # The target's share of each draft over that of the way it was drawn, guess included.
        self._logweights = np.log(self._guess)
        self._finished: list[tuple[float, Draft]] = []

    @property
    def live(self) -> int:
        """Drafts that are still written."""
        return len(self._q)

    def draw(self, logits: Array, copy: Callable[[Array, Array], Any]) -> Array:
        """The next symbol of each draft that is written, (n,), the end symbol for those that end
        with it, or that nothing can follow: these are written no more.

        Args:
            logits: (n, V), in the order of the drafts.
            copy: told which of them (rising places) go on from where which others stand.
        """
        free, share, plain, lost = self._distributions(logits.astype(np.float64))
        guesses = self._lookahead.guesses(self._length, self._q, self._c)  # (n, V)
        sums = np.cumsum(free * guesses, axis=1)  # of r Z, times the sum of `free`
        with np.errstate(divide="ignore"):
            self._logweights += np.log(sums[:, -1]) - share - np.log(self._guess)
        origins = self._origins(self._logweights)
        if origins is not None:
            self._follow(origins)
            moved = np.flatnonzero(origins != np.arange(len(origins)))
            copy(origins[moved], moved)
            sums, guesses, plain, lost = (each[origins] for each in (sums, guesses, plain, lost))
        total = sums[:, -1]
        points = self._rng.random(len(sums)) * total  # less than the total, unless that is 0
        ids = (sums > points[:, None]).argmax(axis=1)
        rows = np.arange(len(ids))
        self._logprobs += plain[rows, ids] - lost
        self._guess = guesses[rows, ids]
        return self._take(ids, total > 0)

    def _distributions(self, logits: Array) -> tuple[Array, Array, Array, Array]:
        """The probabilities at the request's settings, (n, V), times a factor whose logarithm is
        the second, (n,). The log-probabilities at temperature 1, unconstrained, are the third
        (n, V) less the fourth (n,).
        """
        config, end = self.config, self._lookahead.end
        plain = shifted = logits - logits.max(axis=1, keepdims=True)
        free = np.exp(plain)
        lost = np.log(free.sum(axis=1))
        limited = config.top_k is not None or config.top_p is not None
        barred = [] if self._never is None else [self._never]
        if self._length == 0:  # no name is empty
            barred.append(end)
        if barred:
            logits[:, barred] = -np.inf
            shifted = logits - logits.max(axis=1, keepdims=True)
        if config.temperature != 1 or barred:
            with np.errstate(over="ignore"):  # to -inf, which is as good
                free = np.exp(shifted / config.temperature)
        if limited:
            limits = Limits([config] * len(logits), logits.shape[1])
            order, among = limits.ranked(logits)
            allowed = np.zeros(free.shape, bool)
            np.put_along_axis(allowed, order, np.broadcast_to(among, free.shape), axis=1)
            free *= allowed
        as_learned = not barred and config.temperature == 1 and not limited
        share = lost if as_learned else np.log(free.sum(axis=1))
        return free, share, plain, lost

    def _origins(self, logweights: Array) -> Array | None:
        """From which places to go on, (n,) rising, where the weights have become too uneven."""
        top = logweights.max()
        if len(logweights) < 2 or top == -np.inf:
            return None
        weights = np.exp(logweights - top)
        total = weights.sum()
        if total**2 / (weights**2).sum() >= len(weights) / 2:
            return None
        count = len(weights)
        points = (np.arange(count) + self._rng.random()) / count * total
        drawn = np.searchsorted(np.cumsum(weights), points, side="right")
        drawn = np.minimum(drawn, int(np.flatnonzero(weights)[-1]))
        logweights[:] = top + np.log(total / count)
        return _kept_in_place(drawn, count)

    def _follow(self, origins: Array) -> None:
        """Let drafts go on from others, whose weights have become alike."""
        self._q, self._c = self._q[origins], self._c[origins]
        self._ids, self._logprobs = self._ids[origins], self._logprobs[origins]

    def _take(self, ids: Array, possible: Array) -> Array:
        """Write the symbols down. Returns them, with the end symbol for the impossible ones."""
        end, guess = self._lookahead.end, self._lookahead
        ids[~possible] = end
        going = ids != end
        if not going.all():
            for one in np.flatnonzero(~going & possible).tolist():
                draft = Draft(
                    tuple(self._ids[one, : self._made].tolist()), float(self._logprobs[one])
                )
                self._finished.append((float(self._logweights[one]), draft))
            self._q, self._c, self._guess = self._q[going], self._c[going], self._guess[going]
            self._ids, self._logprobs = self._ids[going], self._logprobs[going]
            self._logweights = self._logweights[going]
        added = ids[going]
        self._ids[:, self._made] = added
        self._q = guess.shape.next[self._q, added]
        self._c = guess.contexts(self._c, added)
        self._made += 1
        self._length += 1
        return ids

    def names(self) -> list[Draft]:
        """The different names that were drawn, in a random order: the first is a draw by weight,
        each next one a draw by weight from those that are left. Empty where nothing met the shape.
        """
        weights: dict[tuple[int, ...], list[float]] = {}
        drafts: dict[tuple[int, ...], Draft] = {}
        for logweight, draft in self._finished:
            weights.setdefault(draft.ids, []).append(logweight)
            drafts.setdefault(draft.ids, draft)
        if not drafts:
            return []
        keys = sorted(drafts)
        totals = np.array([np.logaddexp.reduce(weights[key]) for key in keys])
        # The order of weights times Gumbel noise (Yellott 1977; Kool, van Hoof & Welling 2019).
        order = np.argsort(-(totals + self._rng.gumbel(size=len(keys))), kind="stable")
        return [drafts[keys[place]] for place in order.tolist()]


def _kept_in_place(drawn: Array, count: int) -> Array:
    """The same origins, arranged so that each that is drawn at all goes on in its own place."""
    times = np.bincount(drawn, minlength=count)
    origins = np.arange(count)
    free = np.flatnonzero(times == 0)
    origins[free] = np.repeat(np.arange(count), np.maximum(times - 1, 0))
    return origins
