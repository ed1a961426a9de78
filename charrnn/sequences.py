"""What a batch knows of one sequence, of a group, and of the choice of those that have limits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from charrnn.compiled import Position
from charrnn.config import GenerationConfig
from charrnn.constraints import Constraint
from charrnn.parameters import Array
from charrnn.sampling import Limits


class Group(Protocol):
    """Sequences that are drawn together, by what they are worth beside one another."""

    config: GenerationConfig

    @property
    def size(self) -> int:
        """How many there are at first."""

    def draw(self, logits: Array, copy: Callable[[Array, Array], Any]) -> Array:
        """The next symbol of each that hasn't ended, (n,), the end symbol for those that end.

        Args:
            logits: (n, V), in the order of the sequences.
            copy: called, if at all, with places (k,) among these from which those at other places
                (k,) go on.
        """


class Arrival(NamedTuple):
    """A sequence that is to join a batch.

    Attributes:
        config: temperature, top_k and top_p count here; lengths are `limit` and `fewest`.
        rng: its random numbers; nothing else may draw from them.
        limit: symbols to draw at most, at least 1.
        fewest: symbols to draw before the end symbol may come.
        constraint: which symbols may be drawn.
        again: symbols that were drawn before, to be drawn once more first. They take nothing of the
            random numbers, and count for neither `limit` nor `fewest`.
    """

    config: GenerationConfig
    rng: np.random.Generator
    limit: int
    fewest: int = 0
    constraint: Constraint | None = None
    again: Sequence[int] = ()


@dataclass
class DrawnSequence:
    """A sequence of a batch: whose slot it has, and how its symbols are drawn. `q` is the state of
    its constraint, `as_fours` how its row is multiplied, `place` its place in its group, `again`
    what is left of its arrival's.
    """

    slot: int
    config: GenerationConfig
    rng: np.random.Generator
    constraint: Constraint | None
    q: Any
    as_fours: bool = False
    group: Group | None = None
    place: int = 0
    again: Sequence[int] = ()

    def __post_init__(self) -> None:
        config = self.config
        self.limited = self.group is None and (
            bool(self.constraint) or config.top_k is not None or config.top_p is not None
        )


class Parked(NamedTuple):
    """A sequence out of its batch: where it stands, its numbers, and the noise that it has left."""

    sequence: DrawnSequence
    position: Position
    numbers: Array
    noise: Array


def chooser(sequences: Sequence[DrawnSequence], bias: Array) -> Callable[[Array, Array], Array]:
    """The choice for sequences with constraints, top_k or top_p: from their logits without the
    output bias (n, V), and their scores (n, V), overwritten, to their symbols (n,).

    Args:
        bias: of the output, (V,), minus infinity for a symbol that is never drawn.
    """
    limits = Limits([sequence.config for sequence in sequences], len(bias))
    constrained = [(n, one, one.constraint) for n, one in enumerate(sequences) if one.constraint]

    def choose(logits: Array, scores: Array) -> Array:
        logits = logits + bias
        logits[scores == -np.inf] = -np.inf  # the end symbol, too early
        for n, sequence, constraint in constrained:
            allowed = constraint.allowed(sequence.q)
            if allowed is not None:
                logits[n, ~allowed] = scores[n, ~allowed] = -np.inf
        ids = limits.choose(logits, scores)
        for n, sequence, constraint in constrained:
            sequence.q = constraint.advance(sequence.q, int(ids[n]))
        return ids

    return choose
