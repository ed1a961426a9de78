"""How likely each character of a text was where it stands, and what else was likely there.

For those who ask: a text is read again for it, after it was drawn, so those who don't pay nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from charrnn.compiled import CompiledModel, Lanes
from charrnn.threads import blas_threads
from charrnn.vocabulary import Vocabulary


class Spelled(NamedTuple):
    """A character as people write it: its natural log-probability at temperature 1 and without
    limits, and the likeliest symbols there with theirs, the likeliest first.
    """

    symbol: str
    logprob: float
    likeliest: tuple[tuple[str, float], ...]


class Speller:
    """Reads on in a text after an opening. Belongs to one thread at a time."""

    def __init__(
        self, model: CompiledModel, vocabulary: Vocabulary, opening: Sequence[int]
    ) -> None:
        """opening: ids, of which the first is the one that texts begin after."""
        self._vocabulary, self._bias = vocabulary, model.out_bias
        with blas_threads(1):
            position = model.read(opening)
        lanes = Lanes(model, 1)
        lanes.put(0, position)
        self._bound, self._next = lanes.alone, position.id
        self._before = vocabulary.decode(opening[1:])[-1:]

    def read(self, characters: str, likeliest: int = 0) -> list[Spelled]:
        """Each of the next characters, as the model reads them, with so many of the likeliest."""
        found, symbols = [], self._vocabulary.symbols
        with blas_threads(1):
            for id_ in self._vocabulary.ids_of(characters).tolist():
                self._bound.top(self._bound.below(self._next))
                self._bound.multiply()
                logits = (self._bound.logits + self._bias).astype(np.float64)
                logits -= logits.max()
                logprobs = logits - np.log(np.exp(logits).sum())
                order = np.argsort(-logprobs, kind="stable")[:likeliest].tolist()
                best = tuple((self._written(symbols[n]), float(logprobs[n])) for n in order)
                found.append(Spelled(self._written(symbols[id_]), float(logprobs[id_]), best))
                self._next, self._before = id_, symbols[id_]
        return found

    def _written(self, symbol: str) -> str:
        return self._vocabulary.write_on(self._before, symbol)
