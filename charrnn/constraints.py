"""What a text may still become: which symbols are allowed next, as a walk over states.

A constraint holds no state of its own; the decoder carries `q` for each sequence.
"""

from typing import Any, Protocol

from charrnn.parameters import Array


class Constraint(Protocol):
    """Which symbols may come next. At least one always may."""

    def start(self) -> Any:
        """The state before the first drawn symbol."""

    def allowed(self, q: Any) -> Array | None:
        """(V,) bool, or None where every symbol may come."""

    def advance(self, q: Any, id_: int) -> Any:
        """The state after a symbol."""
