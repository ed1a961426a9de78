"""The contract of a recurrent cell. A fourth cell is one new file and one line in `CELLS`.

Axes: B batch, N packed rows, T time, S state parts, H hidden, G gates. A cell is given `a_x`, the
input's share of its pre-activations (x U + b, made by the model), and owns what recurs: W.

A packed sequence is time-major without padding. Step t holds `sizes[t]` rows, sizes never grow,
and row j of a step continues row j of the step before: sequences are sorted by falling length.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from charrnn.ops import Array, Workspace

Cache = Any


class Cell(ABC):
    """One kind of recurrent layer. Holds no state: parameters and caches are passed."""

    name: ClassVar[str]
    gates: ClassVar[tuple[str, ...]]
    """The blocks of the pre-activations, in the order of their columns."""
    parts: ClassVar[tuple[str, ...]]
    """The parts of the state; parts[0] is the output."""

    def shapes(self, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the recurrent parameters."""
        return {"W": (hidden_size, len(self.gates) * hidden_size)}

    def init_bias(self, hidden_size: int) -> Array:
        """The input bias to start from, (G*H,)."""
        return np.zeros(len(self.gates) * hidden_size)

    @abstractmethod
    def forward(self, params: Mapping[str, Array], a_x: Array, state: Array) -> tuple[Array, Cache]:
        """One step, as the equations are written.

        Args:
            params: the recurrent parameters.
            a_x: (B, G*H), the input's share of the pre-activations.
            state: (S, B, H).

        Returns:
            The new state (S, B, H), and what `backward` needs.
        """

    @abstractmethod
    def backward(
        self, params: Mapping[str, Array], dstate: Array, cache: Cache
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Back through `forward`.

        Args:
            params: as in `forward`.
            dstate: (S, B, H), the gradient of the loss by the new state.
            cache: from `forward`.

        Returns:
            da_x (B, G*H); the gradient by the previous state (S, B, H); those by the parameters.
        """

    @abstractmethod
    def forward_sequence(
        self, params: Mapping[str, Array], a_x: Array, sizes: Array, state: Array, work: Workspace
    ) -> tuple[Array, Array, Cache]:
        """All steps of a packed sequence; equals `forward` step by step.

        Args:
            params: the recurrent parameters.
            a_x: (N, G*H), overwritten.
            sizes: (T,), the rows of each step, never growing.
            state: (S, B, H), the state to begin with.
            work: where outputs and caches live, until its next use by the same layer.

        Returns:
            The outputs (N, H); each sequence's state after its last step (S, B, H); the cache.
        """

    @abstractmethod
    def backward_sequence(
        self,
        params: Mapping[str, Array],
        dh: Array,
        dstate: Array,
        cache: Cache,
        grads: Mapping[str, Array],
        work: Workspace,
    ) -> tuple[Array, Array]:
        """Back through `forward_sequence`, in one pass through time.

        Args:
            params: as in `forward_sequence`.
            dh: (N, H), the gradient by the outputs.
            dstate: (S, B, H), the gradient by the final states.
            cache: from `forward_sequence`; used up.
            grads: where the parameters' gradients are written.
            work: as in `forward_sequence`.

        Returns:
            da_x (N, G*H), and the gradient by the initial state (S, B, H).
        """


def previous_rows(h: Array, sizes: Array, initial: Array, out: Array) -> None:
    """For each packed row, the row of the same sequence one step before.

    Args:
        h: (N, H), packed.
        sizes: (T,).
        initial: (B, H), the rows before the first step.
        out: (N, H), overwritten.
    """
    first = int(sizes[0])
    out[:first] = initial
    start = 0
    for size, following in pairwise(sizes.tolist()):
        end = start + size
        out[end : end + following] = h[start : start + following]
        start = end
