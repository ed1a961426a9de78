"""The contract of a recurrent cell. A fourth cell is one new file and one line in `CELLS`.

Axes: B batch, N packed rows, T time, S state parts, H hidden, G gates. A cell is given `a_x`, the
input's share of its pre-activations (x U + b, made by the model), and owns what recurs: W.

`forward` and `backward` are one step, as the equations are written, batch first. The same for a
packed sequence, as training needs it, is written for speed: feature-major, (features, rows).

A packed sequence is time-major without padding. Step t holds `sizes[t]` rows, sizes never grow,
and row j of a step continues row j of the step before: sequences are sorted by falling length.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any, ClassVar, NamedTuple

import numpy as np

from charrnn.ops import Array, Workspace

Cache = Any


class Step(NamedTuple):
    """A step of a packed sequence of N rows, which begins with B sequences."""

    columns: slice
    """Where it stands in an array (..., N)."""
    size: int
    """How many rows it has."""
    lasting: int
    """How many of their sequences go on after it."""
    before: slice
    """In an array (H, B + N) of the initial state and the outputs: the outputs it begins from."""
    after: slice
    """In the same array: its own outputs."""


class Cell(ABC):
    """One kind of recurrent layer. Holds no state: parameters and caches are passed."""

    name: ClassVar[str]
    gates: ClassVar[tuple[str, ...]]
    """The blocks of the pre-activations, in the order of their columns."""
    sigmoids: ClassVar[int]
    """How many of them, the first ones, are gates between 0 and 1."""
    parts: ClassVar[tuple[str, ...]]
    """The parts of the state; parts[0] is the output."""
    kept: ClassVar[int]
    """How many vectors of H numbers `forward_sequence` keeps of each character for backward."""

    rows_first: ClassVar[bool] = False
    """Whether `forward_sequence` and `backward_sequence` hold the features of a row side by side.
    What they take and give is shaped as ever: transposed views, and sooner taken as such. Only a
    cell without sigmoids may say so: nothing is scaled for it."""

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
    def gate_values(self, cache: Cache) -> tuple[Array, ...]:
        """What the gates were in a `forward`, in the order of `gates`, (B, H) each: sigmoids from
        0 to 1, the others from -1 to 1.

        Args:
            cache: from `forward`.
        """

    def input_scale(self, hidden_size: int) -> Array:
        """What `forward_sequence` wants its pre-activations multiplied by, (G*H,): a half for
        the sigmoid gates. For sigmoid(x) = (1 + tanh(x / 2)) / 2, and with the halves in the
        weights one tanh serves all gates.
        """
        scale = np.ones((len(self.gates), hidden_size))
        scale[: self.sigmoids] = 0.5
        return scale.ravel()

    @abstractmethod
    def forward_sequence(
        self,
        params: Mapping[str, Array],
        a_x: Iterable[Array],
        steps: Sequence[Step],
        state: Array,
        kept: Workspace,
        work: Workspace,
    ) -> tuple[Array, Cache]:
        """All steps of a packed sequence; equals `forward` step by step.

        Arrays are feature-major here, a step's (features, rows) in one piece: each gate is then
        one block of memory, and the products run at their best size. See `rows_first`, too.

        Args:
            params: the recurrent parameters, and `W_T` (G*H, H): W transposed, its rows times
                `input_scale` (not where `rows_first`).
            a_x: yields each step's (G*H, n), times `input_scale`, in one piece or not; gone when
                the next is asked for.
            steps: of the packed sequence.
            state: (S, H, B), the state to begin with; overwritten with each sequence's last.
            kept: where the outputs and the cache live, until its next use.
            work: temporary arrays, which layers share.

        Returns:
            The outputs (H, N), and the cache.
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
        *,
        begins: bool = False,
    ) -> Array:
        """Back through `forward_sequence`, in one pass through time.

        Args:
            params: as in `forward_sequence`.
            dh: (H, N), the gradient by the outputs.
            dstate: (S, H, B), the gradient by the final states; overwritten with that by the
                initial state.
            cache: from `forward_sequence`.
            grads: the parameters' gradients, which are added to.
            work: temporary arrays, which layers share, and the result.
            begins: overwrite the matrices of `grads`, the last part of a sequence comes first; its
                vectors are zero then.

        Returns:
            da_x (G*H, N), not scaled.
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


@lru_cache(maxsize=16)
def packed_steps(rows: tuple[int, ...]) -> tuple[Step, ...]:
    """The steps of a packed sequence with so many rows each."""
    ends = list(accumulate(rows))
    starts, first = [0, *ends[:-1]], rows[0]
    lasting = [*rows[1:], 0]
    columns = map(slice, starts, ends)
    begins = [0, *(first + start for start in starts[:-1])]
    before = map(slice, begins, map(operator.add, begins, rows))
    after = map(slice, [first + start for start in starts], [first + end for end in ends])
    return tuple(map(Step._make, zip(columns, rows, lasting, before, after, strict=True)))


def scratch(
    work: Workspace, name: str, height: int, steps: Sequence[Step], dtype: Any
) -> dict[int, Array]:
    """For each size n of a step an array (height, n), all of them over the same memory."""
    sizes = {step.size for step in steps}
    buffer = work.take(name, (height * max(sizes),), dtype)
    return {n: buffer[: height * n].reshape(height, n) for n in sizes}


def step_blocks(
    kept: Workspace, name: str, height: int, steps: Sequence[Step], dtype: Any
) -> list[Array]:
    """For each step an array (height, n), one behind the other in memory."""
    total, first = steps[-1].columns.stop, steps[0].size
    buffer = kept.take(name, (height * total,), dtype)
    if total == first * len(steps):  # the same views, made at once
        return list(buffer.reshape(len(steps), height, first))
    return [
        buffer[height * step.columns.start : height * step.columns.stop].reshape(height, step.size)
        for step in steps
    ]


def previous_outputs(outputs: Array, steps: Sequence[Step], work: Workspace) -> Array:
    """For each column, that of the same sequence one step before, (H, N).

    Args:
        outputs: (H, B + N), the initial state and then the outputs.
        steps: of the packed sequence; where they are of one size the result is a view.
        work: where it lives else.
    """
    total = steps[-1].columns.stop
    if steps[-1].before.stop == total:
        return outputs[:, :total]
    previous = work.columns("previous", len(outputs), total, outputs.dtype)
    for step in steps:
        previous[:, step.columns] = outputs[:, step.before]
    return previous
