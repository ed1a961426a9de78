"""Who learns and who is held out: each sequence's side, by a hash of itself or by its place."""

import hashlib
from collections.abc import Sequence

import numpy as np

from charrnn.config import CorpusConfig
from charrnn.namelist import MANY_NAMES, NameList
from charrnn.parameters import Array

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)


def split(sequences: Sequence[str], config: CorpusConfig) -> dict[str, Sequence[str]]:
    """The sequences of each side, in their order; never an empty side. A side of very many names
    is a `NameList`.
    """
    if config.split_by == "order":
        places = by_order(len(sequences))
    else:
        hashes = (place_of(sequence, config.salt) for sequence in sequences)
        places = np.fromiter(hashes, np.float64, len(sequences))
    sides = sides_of(places, config)
    made: dict[str, Sequence[str]] = {}
    for side, name in enumerate(SPLITS):
        own = (s for s, where in zip(sequences, sides.tolist(), strict=True) if where == side)
        many = isinstance(sequences, NameList) and np.count_nonzero(sides == side) >= MANY_NAMES
        made[name] = NameList.of(own) if many else tuple(own)
    return made


def sides_of(places: Array, config: CorpusConfig) -> Array:
    """The side (0 train, 1 validation, 2 test) of each of `places` (n,), from 0 up to 1; never an
    empty one: where there are too few for the fractions, a side has the lowest place that another
    can spare.
    """
    sides = np.full(len(places), TRAIN, np.int8)
    sides[places < config.validation + config.test] = TEST
    sides[places < config.validation] = VALIDATION
    counts = np.bincount(sides, minlength=3)
    if counts.all():
        return sides
    rising = np.argsort(places, kind="stable")
    for side, order in ((VALIDATION, rising), (TEST, rising), (TRAIN, rising[::-1])):
        if side not in sides:
            spare = next(n for n in order if np.count_nonzero(sides == sides[n]) > 1)
            sides[spare] = side
    return sides


def by_order(count: int) -> Array:
    """Places that fall from the first sequence to the last, so that the end is held out, (n,)."""
    return 1 - (np.arange(count) + 0.5) / count


def place_of(sequence: str, salt: str) -> float:
    """A number from 0 up to 1 that is the sequence's own, whatever its capitals."""
    digest = hashlib.sha256(f"{salt}\0{sequence.casefold()}".encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[:8], "big") / 2**64
