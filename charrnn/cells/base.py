"""The contract of a recurrent cell. A fourth cell is one new file and one line in `CELLS`.

Axes: B batch, N packed rows, T time, S state parts, H hidden, G gates. A cell is given `a_x`, the
input's share of its pre-activations (x U + b, made by the model), and owns what recurs: W.

A packed sequence is time-major without padding. Step t holds `sizes[t]` rows, sizes never grow,
and row j of a step continues row j of the step before: sequences are sorted by falling length.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
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

    # The compiled form, for generation: see `charrnn.compiled`.

    stored_scale: ClassVar[float] = 1.0
    """The output times this power of two is what the compiled form stores, and multiplies by W."""
    buffer_parts: ClassVar[int]
    """Parts of H numbers that the compiled form keeps for each sequence."""
    stored_parts: ClassVar[tuple[int, ...]]
    """Which of these hold the parts of the state."""

    @abstractmethod
    def fold(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """A layer's parameters with all constants of the compiled form folded in.

        Scales are powers of two, so nothing is rounded. Columns stand in the order of the compiled
        form; the rows of W expect the stored output.
        """

    @abstractmethod
    def bind(
        self, folded: Mapping[str, Array], parts: Array, product: Array
    ) -> Callable[[Array], None]:
        """A step over fixed arrays: equals `forward`, but for rounding.

        Args:
            folded: from `fold`.
            parts: (buffer_parts, ..., H); its `stored_parts` are the state, updated by each step.
            product: (G, ..., H), the recurrent product of the state, with the folded W.

        Returns:
            The step. It takes the input's share, (G, ..., H).
        """


def weighted_sum(weights: tuple[float, float], pair: Array, out: Array) -> Callable[[], Any]:
    """A function that leaves weights[0] pair[0] + weights[1] pair[1] in `out`, bound to them.

    With weights 1 and 1/2 nothing but the sum is rounded, so both ways give the same bits; without
    lanes a product is one call where the plain way takes two.

    Args:
        weights: (1/2, 1/2) or (1, 1/2).
        pair: (2, ..., H).
        out: (..., H).
    """
    if pair.ndim == 2:
        return partial(np.array(weights, pair.dtype).dot, pair, out)
    half = np.array(0.5, pair.dtype)
    x, y = pair

    def both_halved() -> None:
        np.add(x, y, out)
        np.multiply(out, half, out)

    def second_halved() -> None:
        np.multiply(y, half, y)
        np.add(x, y, out)

    return both_halved if weights[0] == 0.5 else second_halved


def scaled_columns(array: Array, scales: tuple[float, ...], order: tuple[int, ...]) -> Array:
    """Column block k of the result is block order[k] of `array`, times scales[k]."""
    parts = np.split(array, len(scales), axis=-1)
    scaled = [parts[k] * array.dtype.type(scale) for k, scale in zip(order, scales, strict=True)]
    return np.concatenate(scaled, axis=-1)


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
