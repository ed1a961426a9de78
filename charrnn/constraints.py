"""What a text may still become: which symbols are allowed next, as a walk over states.

A constraint holds no state of its own; the decoder carries `q` for each sequence.
"""

from typing import Any, Protocol

import numpy as np

from charrnn.parameters import Array


class Constraint(Protocol):
    """Which symbols may come next. At least one always may."""

    def start(self) -> Any:
        """The state before the first drawn symbol."""

    def allowed(self, q: Any) -> Array | None:
        """(V,) bool, or None where every symbol may come."""

    def advance(self, q: Any, id_: int) -> Any:
        """The state after a symbol."""


class MinLength:
    """Forbids the end symbol until enough symbols are drawn; it never loops, it only forbids."""

    def __init__(self, symbols: int, end: int, vocab_size: int) -> None:
        self._symbols = symbols
        self._all_but_end = np.ones(vocab_size, bool)
        self._all_but_end[end] = False

    def start(self) -> int:
        return 0

    def allowed(self, q: int) -> Array | None:
        return self._all_but_end if q < self._symbols else None

    def advance(self, q: int, id_: int) -> int:
        return q + 1
