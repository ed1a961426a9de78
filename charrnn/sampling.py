"""From logits to the next symbol: temperature, top-k, top-p, and the noise that draws.

Gumbel-max: the argmax of logits / T + g, with g from the standard Gumbel distribution, is a draw
from softmax(logits / T) (Gumbel 1954; Maddison, Tarlow & Minka 2014, "A* Sampling", section 2).
Written as the argmax of logits + T g, it needs no division, so no temperature is too small, and
T = 0 takes the likeliest symbol. Forbidden symbols are left out of the argmax, which is a draw
from the distribution given that they don't occur.
"""

import numpy as np

from charrnn.parameters import Array


def gumbel_noise(rng: np.random.Generator, steps: int, vocab_size: int) -> Array:
    """Standard Gumbel noise, (steps, V) float32: -log of standard exponentials.

    Drawn in float64, so that the upper tail, which decides rare symbols, reaches to 1e-16 and not
    to the 6e-8 of a float32 uniform. Row k is the same however the rows are split into calls.
    """
    noise = rng.standard_exponential((steps, vocab_size))
    np.maximum(noise, 1e-300, out=noise)
    np.log(noise, noise)
    np.negative(noise, noise)
    return noise.astype(np.float32)


def top_symbols(logits: Array, temperature: float, top_k: int | None, top_p: float | None) -> Array:
    """Which symbols may be drawn, (V,) bool: first the k likeliest, then of those the fewest whose
    probabilities at `temperature` add up to `top_p` (Holtzman et al. 2020, "The Curious Case of
    Neural Text Degeneration", section 3.1). The likeliest is always among them.

    Args:
        logits: (V,); -inf for a symbol that is forbidden already.
        temperature: at 0 the likeliest share all of the probability.
        top_k: at least 1, or None for no limit.
        top_p: more than 0; None or 1 for no limit, whatever rounding would lose.
    """
    order = np.argsort(-logits, kind="stable")  # equals: the lower id first
    keep = len(order) if top_k is None else min(top_k, len(order))
    if top_p is not None and top_p < 1:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            ranked = logits[order[:keep]].astype(np.float64)
            weights = np.exp(np.nan_to_num((ranked - ranked[0]) / temperature, nan=0.0))
        before = np.cumsum(weights) - weights  # what stands before each
        keep = max(1, int((before < top_p * weights.sum()).sum()))
    allowed = np.zeros(len(order), bool)
    allowed[order[:keep]] = True
    return allowed & (logits > -np.inf)
