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
    ) -> None:
        """rng: nothing else may draw from it. config: temperature (above 0), top_k, top_p and
        particles count.
        """
        self.config, self._lookahead, self._rng = config, lookahead, rng
        N, shape = config.particles, lookahead.shape
        self.size = N
        self._length = shape.length
        self._q = np.full(N, shape.begin)
        self._c = np.full(N, lookahead.context(seed_ids))
        self._ids = np.zeros((N, shape.longest + 1 - shape.length), int)
        self._made = 0
        self._logprobs = np.zeros(N)
        # The target's share of each draft over that of the way it was drawn, guess included.
        self._logweights = np.log(lookahead.guess(shape.length, self._q, self._c))
        self._live = np.arange(N)  # those that are still written, in the order of their lanes
        self._finished: list[tuple[float, Draft]] = []

    @property
    def live(self) -> int:
        """Drafts that are still written."""
        return len(self._live)

    def draw(self, logits: Array, copy: Callable[[Array, Array], Any]) -> Array:
        """The next symbol of each draft that is written, (n,), the end symbol for those that end
        with it, or that nothing can follow: these are written no more.

        Args:
            logits: (n, V), in the order of the drafts.
            copy: told which of them (rising places) go on from where which others stand.
        """
        live, guess = self._live, self._lookahead
        free, plain = self._distributions(logits.astype(np.float64))
        joint = free * guess.guesses(self._length, self._q[live], self._c[live])  # (n, V)
        total = joint.sum(axis=1)
        before = guess.guess(self._length, self._q[live], self._c[live])
        with np.errstate(divide="ignore"):
            self._logweights[live] += np.log(total) - np.log(before)
        origins = self._origins(self._logweights[live])
        if origins is not None:
            self._follow(origins)
            moved = np.flatnonzero(origins != np.arange(len(live)))
            copy(origins[moved], moved)
            joint, total, plain = joint[origins], total[origins], plain[origins]
        points = self._rng.random(len(live)) * total
        sums = np.cumsum(joint, axis=1)
        ids = np.minimum((sums <= points[:, None]).sum(axis=1), joint.shape[1] - 1)
        # Rounding may lead to the last symbol: to the last that may come, then.
        wrong = np.flatnonzero(joint[np.arange(len(live)), ids] <= 0)
        ids[wrong] = joint.shape[1] - 1 - (joint[wrong, ::-1] > 0).argmax(axis=1)
        return self._take(ids, plain, total > 0)

    def _distributions(self, logits: Array) -> tuple[Array, Array]:
        """The probabilities at the request's settings, and the log-probabilities at temperature 1,
        unconstrained: (n, V) both.
        """
        plain = logits - logits.max(axis=1, keepdims=True)
        plain -= np.log(np.exp(plain).sum(axis=1, keepdims=True))
        if self._length == 0:  # no name is empty
            logits = logits.copy()
            logits[:, self._lookahead.end] = -np.inf
        config = self.config
        scaled = (logits - logits.max(axis=1, keepdims=True)) / config.temperature
        free = np.exp(scaled)
        if config.top_k is not None or config.top_p is not None:
            limits = Limits([config] * len(logits), logits.shape[1])
            order, among = limits.ranked(logits)
            allowed = np.zeros(free.shape, bool)
            np.put_along_axis(allowed, order, np.broadcast_to(among, free.shape), axis=1)
            free *= allowed
        return free / free.sum(axis=1, keepdims=True), plain

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
        self._logweights[self._live] = top + np.log(total / count)
        return _kept_in_place(drawn, count)

    def _follow(self, origins: Array) -> None:
        """Let drafts go on from others."""
        sources = self._live[origins]
        for array in (self._q, self._c, self._ids, self._logprobs):
            array[self._live] = array[sources]

    def _take(self, ids: Array, plain: Array, possible: Array) -> Array:
        """Write the symbols down. Returns them, with the end symbol for the impossible ones."""
        live, end, guess = self._live, self._lookahead.end, self._lookahead
        self._logprobs[live] += plain[np.arange(len(live)), ids]
        ids[~possible] = end
        ended = ids == end
        for place in np.flatnonzero(ended & possible).tolist():
            one = live[place]
            draft = Draft(tuple(self._ids[one, : self._made].tolist()), float(self._logprobs[one]))
            self._finished.append((float(self._logweights[one]), draft))
        self._live = live = live[~ended]
        if len(live):
            going = ids[~ended]
            self._ids[live, self._made] = going
            self._q[live] = guess.shape.next[self._q[live], going]
            self._c[live] = guess.contexts(self._c[live], going)
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
