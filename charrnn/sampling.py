"""From logits to the next symbol: temperature, top-k, top-p, and the noise that draws.

Gumbel-max: the argmax of logits / T + g, with g from the standard Gumbel distribution, is a draw
from softmax(logits / T) (Gumbel 1954; Maddison, Tarlow & Minka 2014, "A* Sampling", section 2).
Written as the argmax of logits + T g, it needs no division, so no temperature is too small, and
T = 0 takes the likeliest symbol. Forbidden symbols are left out of the argmax, which is a draw
from the distribution given that they don't occur.
"""

from collections.abc import Sequence

import numpy as np

from charrnn.config import GenerationConfig
from charrnn.parameters import Array


def gumbel_noise(rng: np.random.Generator, steps: int, vocab_size: int) -> Array:
    """Standard Gumbel noise, (steps, V) float32: -log of standard exponentials.

    Drawn in float64, so that the upper tail, which decides rare symbols, reaches to 1e-16 and not
    to the 6e-8 of a float32 uniform. Row k is the same however the rows are split into calls.
    """
    return gumbel_of(rng.standard_exponential((steps, vocab_size)).astype(np.float32))


def gumbel_of(exponentials: Array) -> Array:
    """Standard Gumbel noise from standard exponentials, float32, overwritten."""
    np.maximum(exponentials, np.finfo(np.float32).tiny, out=exponentials)
    np.log(exponentials, exponentials)
    return np.negative(exponentials, exponentials)


def scaled_noise(
    rngs: Sequence[np.random.Generator], temperatures: Sequence[float], steps: int, bias: Array
) -> Array:
    """What is added to each sequence's logits before the argmax: its Gumbel noise times its
    temperature, and the output bias, which the logits lack. (R, steps, V) for R sequences.
    """
    noise = np.empty((len(rngs), steps, len(bias)), np.float32)
    for rng, rows in zip(rngs, noise, strict=True):
        rows[...] = rng.standard_exponential(rows.shape)
    noise = gumbel_of(noise) * np.array(temperatures, bias.dtype)[:, None, None]
    noise += bias
    return noise


def top_symbols(logits: Array, configs: Sequence[GenerationConfig]) -> Array:
    """Which symbols each sequence may draw, (B, V) bool: first its top_k likeliest, then of those
    the fewest whose probabilities at its temperature add up to its top_p (Holtzman et al. 2020,
    "The Curious Case of Neural Text Degeneration", section 3.1). The likeliest is always among
    them.

    Args:
        logits: (B, V); -inf for a symbol that is forbidden already.
        configs: temperature, at 0 of which the likeliest share all of the probability; top_k, at
            least 1, or None; top_p, more than 0, where None and 1 are no limit, whatever rounding
            would lose.
    """
    B, V = logits.shape
    order = np.argsort(-logits, axis=1, kind="stable")  # equals: the lower id first
    keep = np.array([min(c.top_k or V, V) for c in configs])  # (B,)
    if any(c.top_p is not None and c.top_p < 1 for c in configs):
        ranks = np.arange(V)
        ranked = np.take_along_axis(logits, order, axis=1).astype(np.float64)
        temperatures = np.array([[c.temperature] for c in configs])
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            weights = np.exp(np.nan_to_num((ranked - ranked[:, :1]) / temperatures, nan=0.0))
        weights[ranks >= keep[:, None]] = 0
        before = np.cumsum(weights, axis=1) - weights  # what stands before each
        share = np.array([[2.0 if c.top_p is None or c.top_p == 1 else c.top_p] for c in configs])
        reached = before >= share * weights.sum(axis=1, keepdims=True)
        keep = np.minimum(keep, np.where(reached.any(axis=1), reached.argmax(axis=1), V))
    allowed = np.zeros((B, V), bool)
    np.put_along_axis(allowed, order, np.arange(V) < np.maximum(keep, 1)[:, None], axis=1)
    return allowed & (logits > -np.inf)
