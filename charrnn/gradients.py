"""What a gradient is checked with: central differences, and a measure of how far two are apart."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from charrnn.graph import Array


def numerical_gradient(f: Callable[[Array], float], x: Array, eps: float = 1e-5) -> Array:
    """The gradient of f at x by central differences: (f(x + eps) - f(x - eps)) / 2 eps, each entry.

    `x` must be float64. It is changed in place, so f may read it from where it lives, and is put
    back exactly. The error is near 1e-10 for an f of size 1 with derivatives of size 1.
    """
    if x.dtype != np.float64:
        raise TypeError(f"numerical_gradient needs float64, got {x.dtype}: eps is lost in less")
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        try:
            x[index] = above = kept + eps
            f_above = float(f(x))
            x[index] = below = kept - eps
            gradient[index] = (f_above - float(f(x))) / (above - below)  # 2 eps, as rounded
        finally:
            x[index] = kept
    return gradient


def relative_error(a: ArrayLike, b: ArrayLike) -> float:
    """max |a - b| / max(|a|, |b|), both maxima over all entries; 0 where all is 0, nan with a nan.

    Scaled by the largest entry and by nothing absolute: a gradient of size 1e-6 that is all wrong
    scores 1 like any other, while an entry near 0 next to large ones is not held to its own size.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"relative_error compares equal shapes, got {a.shape} and {b.shape}")
    scale = np.max(np.abs([a, b]), initial=0.0)
    return float(np.max(np.abs(a - b), initial=0.0) / scale) if scale != 0 else 0.0
