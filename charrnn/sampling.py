"""From logits to the next symbol: temperature, top-k, top-p, and the noise that draws.

Gumbel-max: the argmax of logits / T + g, with g from the standard Gumbel distribution, is a draw
from softmax(logits / T) (Gumbel 1954; Maddison, Tarlow & Minka 2014, "A* Sampling", section 2).
Written as the argmax of logits + T g, it needs no division, so no temperature is too small, and
T = 0 takes the likeliest symbol. Forbidden symbols are left out of the argmax, which is a draw
from the distribution given that they don't occur.
"""

from collections.abc import Sequence
from itertools import repeat

import numpy as np

from charrnn.config import GenerationConfig
from charrnn.parameters import Array


def scaled_noise(
    rngs: Sequence[np.random.Generator],
    temperatures: Sequence[float],
    bias: Array,
    out: Array,
    begins: Sequence[int] | None = None,
) -> None:
    """What is added to each sequence's logits before the argmax: its Gumbel noise times its
    temperature, and the output bias, which the logits lack.

    -log(e) is Gumbel noise for a standard exponential e. It is drawn in float64, so that the upper
    tail, which decides rare symbols, reaches to 1e-16 and not to the 6e-8 of a float32 uniform.

    Args:
        rngs: of R sequences.
        temperatures: theirs.
        bias: (V,).
        out: (R, steps, V), overwritten. Row k is the same however the rows are split into calls.
        begins: the first row of each for which numbers are drawn; None for all of them.
    """
    drawn = np.empty(out.shape) if begins is None else np.ones(out.shape)
    for rng, rows, begin in zip(rngs, drawn, begins or repeat(0), strict=False):
        rng.standard_exponential(out=rows[begin:])
    np.maximum(drawn, np.finfo(out.dtype).tiny, out=out, casting="same_kind")
    np.log(out, out)
    if any(temperature != 1 for temperature in temperatures):
        out *= np.array(temperatures, out.dtype)[:, None, None]
    np.subtract(bias, out, out)


class Limits:
    """Which symbols each of B sequences may draw: first its top_k likeliest, then of those the
    fewest whose probabilities at its temperature add up to its top_p (Holtzman et al. 2020, "The
    Curious Case of Neural Text Degeneration", section 3.1). The likeliest is always among them.
    """

    def __init__(self, configs: Sequence[GenerationConfig], vocab_size: int) -> None:
        """configs: temperature, at 0 of which the likeliest share all of the probability; top_k, at
        least 1, or None; top_p, more than 0, where None and 1 are no limit, whatever rounding would
        lose.
        """
        keep = np.array([[c.top_k or vocab_size] for c in configs])
        shares = [2.0 if c.top_p is None or c.top_p == 1 else c.top_p for c in configs]
        self._rows = np.arange(len(configs))[:, None]  # (B, 1)
        self._among = np.arange(vocab_size) < keep  # (B, V), by rank
        self._shares = np.array(shares)[:, None] if min(shares) < 1 else None  # (B, 1)
        # A difference over the smallest number is infinite, or 0 among the likeliest.
        self._temperatures = np.array([[max(c.temperature, 5e-324)] for c in configs])

    @np.errstate(over="ignore", under="ignore")
    def ranked(self, logits: Array) -> tuple[Array, Array]:
        """Symbols by falling logit, of equals the lower id first, and which of these ranks may be
        drawn: both (B, V).

        Args:
            logits: (B, V); -inf for a symbol that is forbidden already, of which ranks may tell
                nothing: their scores are -inf too.
        """
        order = np.argsort(-logits, axis=1, kind="stable")
        if self._shares is None:
            return order, self._among
        weights = logits[self._rows, order].astype(np.float64)
        weights -= weights[:, :1].copy()
        weights /= self._temperatures
        np.exp(weights, weights)
        weights *= self._among
        before = np.cumsum(weights, axis=1)
        reached = self._shares * before[:, -1:]
        before -= weights  # what stands before each
        return order, (before < reached) & self._among

    def choose(self, logits: Array, scores: Array) -> Array:
        """The symbols with the largest scores among those that may be drawn, (B,)."""
        order, allowed = self.ranked(logits)
        best = np.where(allowed, scores[self._rows, order], -np.inf).argmax(axis=1)
        return order[self._rows[:, 0], best]
