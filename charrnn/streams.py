"""The random numbers of each try of each sample: a stream of its own.

The first try of sample i of a request draws from `PCG64(random_seed).jumped(i)`; each further try
from a stream that is as far away as no sample is. A stream is set in a generator that is used
again, which takes a small part of the time of making one (`benchmarks/choices.py`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from charrnn.seeding import pcg64_states

# Between the streams of two samples: 2^128 / golden ratio, as in numpy's PCG64.jumped.
STRIDE = 0x9E3779B97F4A7C15F39CC0605CEDC835
MANY = 8  # seeds, which are sooner hashed together
NEXT_TRY = 1 << 40  # streams from a try of a sample to its next one: more than there are samples


class Streams:
    """Hands out generators, each set to the stream of a try, and takes them back."""

    def __init__(self) -> None:
        self._idle: list[np.random.Generator] = []

    @staticmethod
    def of(random_seeds: Sequence[int]) -> list[Any]:
        """What the streams of requests with these seeds begin with, for `take`."""
        if len(random_seeds) < MANY:
            return [np.random.PCG64(seed).state for seed in random_seeds]
        return list(pcg64_states(random_seeds))

    def take(self, first: Any, index: int, attempt: int) -> np.random.Generator:
        """The stream of a try of a sample.

        Args:
            first: what `of` gave for the request's random seed.
            index: of the sample.
            attempt: from 0.
        """
        rng = self._idle.pop() if self._idle else np.random.Generator(np.random.PCG64(0))
        rng.bit_generator.state = first
        jumps = index + NEXT_TRY * attempt
        if jumps:
            rng.bit_generator.advance(STRIDE * jumps % (1 << 128))  # type: ignore[attr-defined]
        return rng

    def give_back(self, rngs: Iterable[np.random.Generator]) -> None:
        """Nobody draws from these any more."""
        self._idle += rngs
