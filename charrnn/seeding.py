"""Where the random numbers of many seeds begin: numpy's own hash of a seed, of all of them at once.

`numpy.random.PCG64(seed)` hashes its seed with `numpy.random.SeedSequence` (after O'Neill 2015,
"Developing a seed_seq Alternative"), and begins as in O'Neill 2014, "PCG: A Family of Simple Fast
Space-Efficient Statistically Good Algorithms". Both are promised not to change. For each of many
seeds that takes longer than to write a letter, so here it is done in columns
(`benchmarks/choices.py` has both).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from charrnn.parameters import Array

POOL = 4  # words of 32 bits that a seed is spread over
DRAWN = 8  # words that a generator begins with: a state and an increment of 128 bits each
MIX_LEFT, MIX_RIGHT = 0xCA01F9DD, 0x4973F715
MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645  # of PCG64


def _constants(first: int, multiplier: int, count: int) -> Array:
    """(count + 1, 1) words, each the one before times the multiplier."""
    words = [first]
    for _ in range(count):
        words.append(words[-1] * multiplier % 2**32)
    return np.array(words, np.uint32)[:, None]


SPREADING = _constants(0x43B0D7E5, 0x931E8875, POOL * POOL)
DRAWING = _constants(0x8B51F9DD, 0x58F38DED, DRAWN)


def pcg64_states(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """`numpy.random.PCG64(seed).state` of each seed, from 0 to 2^64 - 1."""
    words = np.array(seeds, np.uint64)
    pool = np.zeros((POOL, len(seeds)), np.uint32)
    pool[0], pool[1] = words & np.uint64(2**32 - 1), words >> np.uint64(32)
    pool = _hashed(pool, SPREADING[: POOL + 1])
    for source in range(POOL):
        others = [word for word in range(POOL) if word != source]
        begin = POOL + source * len(others)
        hashes = _hashed(pool[source], SPREADING[begin : begin + len(others) + 1])
        pool[others] = _folded(MIX_LEFT * pool[others] - MIX_RIGHT * hashes)
    drawn = _hashed(np.concatenate([pool, pool]), DRAWING).astype(np.uint64)
    halves = (drawn[::2] | drawn[1::2] << np.uint64(32)).T.tolist()  # by seed
    return [_begun(high << 64 | low, inc << 64 | inc_low) for high, low, inc, inc_low in halves]


def _hashed(words: Array, constants: Array) -> Array:
    """Each row of words, or the only one, by its constant and the one that follows."""
    return _folded((words ^ constants[:-1]) * constants[1:])


def _folded(words: Array) -> Array:
    return words ^ words >> 16


def _begun(initial: int, sequence: int) -> dict[str, Any]:
    """The state of a generator before its first number."""
    increment = (sequence << 1 | 1) % 2**128
    state = ((increment + initial) * MULTIPLIER + increment) % 2**128
    return {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": increment},
        "has_uint32": 0,
        "uinteger": 0,
    }
