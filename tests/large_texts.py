"""Running text of random letters, for what reads much of it."""

import numpy as np

LETTERS = "abcdefgh ijk, lmno.\n"


def some_text(size=100_000, letters=LETTERS, seed=0):
    picks = np.random.default_rng(seed).integers(0, len(letters), size).tolist()
    return "".join(map(letters.__getitem__, picks))
