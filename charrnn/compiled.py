"""The network in the form that generation runs: the same equations as `CharRNN.step`, with all that
can be worked out beforehand worked out.

- The first layer's x U + b is a table of rows, one for each symbol.
- A layer's output is multiplied once a step: [W | U of the layer above] or, at the top, [W | V],
  side by side. The left part waits for the layer's next step.
- Each cell folds its constants into the weights (`Cell.fold`).

Sequences stand in lanes. What a lane holds is a function of its own symbols and of the way that
rows are multiplied, bit for bit, whatever the other lanes hold. A product of another number of rows
may differ in its last bits, and so may a row at another place of it. So rows are multiplied alone,
or in blocks of a form that `CompiledModel.block` has tried.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from charrnn.model import CharRNN
from charrnn.parameters import Array
from charrnn.threads import blas_threads

ALIGNED = 16  # columns: an odd matrix is multiplied by another kernel than its own pieces
BLOCK_WIDTH = 8  # rows of a block
MOST_ROWS = 64  # of one product of several blocks
CACHE_BYTES = 1 << 18  # of a matrix, read again and again for rows alone: stays in the cache


@dataclass(frozen=True)
class Position:
    """Where a sequence stands: its next symbol to read, and the state before it.

    state: (L, S, H). waiting: the recurrent products (G*H,) of that state, a layer each.
    """

    id: int
    state: Array
    waiting: tuple[Array, ...]


class CompiledLayer(NamedTuple):
    """One layer: its folded biases, and the matrix that its output is multiplied by."""

    folded: dict[str, Array]
    matrix: Array  # (H, G*H + what follows)


class CompiledModel:
    """The frozen network, ready to generate. Holds no state: threads may share it."""

    def __init__(self, model: CharRNN) -> None:
        self.config = model.config
        self.cell = model.cell
        layers = [
            model.cell.fold(model.params.layer(f"layers.{n}."))
            for n in range(self.config.num_layers)
        ]
        self.table = layers[0]["U"] + layers[0]["b"]  # (V, G*H)
        self.out_bias = model.params["out.c"]  # (V,)
        stored = self.table.dtype.type(1 / model.cell.stored_scale)
        following = [layer["U"] * stored for layer in layers[1:]]
        following.append(model.params["out.V"] * stored)
        self.layers = [
            CompiledLayer(_biases(layer), _side_by_side(layer["W"], above))
            for layer, above in zip(layers, following, strict=True)
        ]
        self.gates = len(model.cell.gates)

    def start(self, id_: int, state: Array | None = None) -> Position:
        """The position before symbol `id_`, in `state` (L, S, H), or zeros."""
        config, width = self.config, self.gates * self.config.hidden_size
        if state is None:
            shape = (config.num_layers, len(self.cell.parts), config.hidden_size)
            zero = np.zeros(width, self.table.dtype)
            return Position(id_, np.zeros(shape, self.table.dtype), (zero,) * config.num_layers)
        scale = self.table.dtype.type(self.cell.stored_scale)
        waiting = tuple(
            (h * scale).dot(layer.matrix)[:width]
            for h, layer in zip(state[:, 0], self.layers, strict=True)
        )
        return Position(id_, np.array(state, self.table.dtype), waiting)

    def read(self, ids: Sequence[int], state: Array | None = None) -> Position:
        """The position before the last of `ids`, after all those before it."""
        position = self.start(ids[0], state)
        if len(ids) == 1:
            return position
        lanes = Lanes(self, 1)
        lanes.put(0, position)
        bound = lanes.alone
        for before in ids[:-1]:
            bound.top(bound.below(before))
            bound.multiply()
        return lanes.position(0, ids[-1])

    def logits(self, ids: Sequence[int]) -> Iterator[Array]:
        """The logits (V,) after each of `ids`, read from the zero state."""
        bound = Lanes(self, 1).alone
        for id_ in ids:
            bound.top(bound.below(id_))
            bound.multiply()
            yield bound.logits + self.out_bias

    @property
    def matrix_bytes(self) -> int:
        """What a step of one sequence reads."""
        return sum(layer.matrix.nbytes for layer in self.layers)

    @cached_property
    def rows(self) -> list[Array]:
        """The rows of the table, (G, H) each."""
        return [by_gate(row, self.gates) for row in self.table]

    @cached_property
    def block(self) -> "Block":
        """How to multiply several rows at once on this machine so that a row's bits depend neither
        on its place nor on the number of rows: by trying all numbers and places.
        """
        rng = np.random.default_rng(0)
        row = rng.standard_normal(self.config.hidden_size).astype(self.table.dtype)
        rows = np.repeat(row[None], MOST_ROWS, axis=0)
        with blas_threads(1):
            expected = [(rows[:BLOCK_WIDTH] @ layer.matrix)[0] for layer in self.layers]
            for count in range(BLOCK_WIDTH, MOST_ROWS + 1, BLOCK_WIDTH):
                for layer, product in zip(self.layers, expected, strict=True):
                    if not (rows[:count] @ layer.matrix == product).all():
                        return Block(BLOCK_WIDTH, joined=False) if count > BLOCK_WIDTH else BY_ROW
        return Block(BLOCK_WIDTH, joined=True)


class Block(NamedTuple):
    """A way to multiply rows: so many of them together, always as many; or, joined, any multiple
    of that."""

    width: int
    joined: bool


BY_ROW = Block(1, joined=False)


def _biases(folded: dict[str, Array]) -> dict[str, Array]:
    """Without U and W, which stand in the table and the matrices: no second copy is held."""
    return {name: array for name, array in folded.items() if name not in ("U", "W")}


def _side_by_side(left: Array, right: Array) -> Array:
    """[left | right | zeros up to a multiple of `ALIGNED` columns]."""
    filling = -(left.shape[1] + right.shape[1]) % ALIGNED
    return np.concatenate([left, right, np.zeros((len(left), filling), left.dtype)], axis=1)


class Bound(NamedTuple):
    """The operations of a step over some lanes, bound to their arrays.

    `below(ids)` runs the layers under the top one, and returns the top one's input share; `top`
    runs that one; `multiply` then leaves the logits in place.
    """

    below: Callable[[Any], Array]
    top: Callable[[Array], None]
    multiply: Callable[[], Any]
    logits: Array  # without the output bias, (B, V); (V,) for one lane alone

    def read(self, ids: Array) -> Array:
        """Read a symbol in each of the first lanes, (B,) integers. Returns their logits without the
        output bias, (B, V), valid until the next step.
        """
        self.top(self.below(ids))
        self.multiply()
        return self.logits[: len(ids)]


class Lanes:
    """Up to `capacity` sequences of one model, in lanes from 0, stepped together.

    A layer's arrays stand part by part, (P, capacity, H): a slice of parts over the first lanes is
    a few long runs of memory.
    """

    def __init__(self, model: CompiledModel, capacity: int, block: Block = BY_ROW) -> None:
        capacity = -(-capacity // block.width) * block.width
        cell, dtype, H = model.cell, model.table.dtype, model.config.hidden_size
        self.model, self.block = model, block
        self._parts = [np.zeros((cell.buffer_parts, capacity, H), dtype) for _ in model.layers]
        self._products = [
            np.zeros((capacity, layer.matrix.shape[1]), dtype) for layer in model.layers
        ]
        self._rows = np.zeros((capacity, model.table.shape[1]), dtype)  # of the table
        self._biased = [np.zeros((capacity, model.table.shape[1]), dtype) for _ in model.layers[1:]]
        self._bound: dict[int, Bound] = {}

    def put(self, lanes: int | slice, position: Position) -> None:
        """Let lanes hold a position; its symbol is the caller's to keep."""
        cell, width = self.model.cell, self.model.table.shape[1]
        for n, (parts, product) in enumerate(zip(self._parts, self._products, strict=True)):
            h, *others = position.state[n]
            parts[cell.stored_parts[0], lanes] = h * parts.dtype.type(cell.stored_scale)
            for part, state in zip(cell.stored_parts[1:], others, strict=True):
                parts[part, lanes] = state
            product[lanes, :width] = position.waiting[n]

    def position(self, lane: int, id_: int) -> Position:
        """A copy of where a lane stands, before reading `id_`."""
        cell, width = self.model.cell, self.model.table.shape[1]
        state = np.stack([parts[list(cell.stored_parts), lane] for parts in self._parts])
        state[:, 0] /= cell.stored_scale
        waiting = tuple(product[lane, :width].copy() for product in self._products)
        return Position(id_, state, waiting)

    def move(self, sources: Array, targets: Array) -> None:
        """Copy what some lanes hold into others."""
        width = self.model.table.shape[1]
        for parts, product in zip(self._parts, self._products, strict=True):
            for part in self.model.cell.stored_parts:
                parts[part, targets] = parts[part, sources]
            product[targets, :width] = product[sources, :width]

    def hand(self, lane: int, other: "Lanes", target: int) -> None:
        """Copy what a lane holds into a lane of others."""
        width = self.model.table.shape[1]
        for parts, product, other_parts, other_product in zip(
            self._parts, self._products, other._parts, other._products, strict=True
        ):
            for part in self.model.cell.stored_parts:
                other_parts[part, target] = parts[part, lane]
            other_product[target, :width] = product[lane, :width]

    def bound(self, count: int) -> Bound:
        """The step over the first `count` lanes, and a few more where that spares rebinding."""
        count = self._rounded(count)
        if count not in self._bound:
            self._bound[count] = self._bind(slice(count))
        return self._bound[count]

    @cached_property
    def alone(self) -> Bound:
        """The step of the only lane, over arrays without a lane axis: its row multiplied alone."""
        assert (self.block, len(self._rows)) == (BY_ROW, 1)
        return self._bind(0)

    def _rounded(self, count: int) -> int:
        """Up to a multiple of the width, or of an eighth of the next power of two."""
        unit = max(self.block.width, (1 << (count - 1).bit_length()) // 8)
        return min(-(-count // unit) * unit, len(self._rows))

    def _bind(self, lanes: slice | int) -> Bound:
        model, cell = self.model, self.model.cell
        width, lookup = model.table.shape[1], self._lookup(lanes)
        above = [*(layer.folded["b"] for layer in model.layers[1:]), model.out_bias]
        layers = []
        for layer, parts, product, bias in zip(
            model.layers, self._parts, self._products, above, strict=True
        ):
            output, h = product[lanes], parts[cell.stored_parts[0], lanes]
            waiting = by_gate(output[..., :width], model.gates)
            following = output[..., width : width + len(bias)]
            step = cell.bind(layer.folded, parts[:, lanes], waiting)
            layers.append((step, self._multiplication(h, layer.matrix, output), following, bias))
        *lower, (top, multiply, logits, _) = layers
        below = [
            (step, product, partial(np.add, following, bias, biased), by_gate(biased, model.gates))
            for (step, product, following, bias), biased in zip(
                lower, [array[lanes] for array in self._biased], strict=True
            )
        ]
        return Bound(partial(_below, lookup, below) if below else lookup, top, multiply, logits)

    def _lookup(self, lanes: slice | int) -> Callable[[Any], Array]:
        """From ids to rows of the table, gate by gate."""
        table, G = self.model.table, self.model.gates
        if isinstance(lanes, int):
            return self.model.rows.__getitem__
        rows = self._rows[lanes]
        gates_first = by_gate(rows, G)

        def lookup(ids: Array) -> Array:
            np.take(table, ids, 0, rows[: len(ids)], "clip")
            return gates_first

        return lookup

    def _multiplication(self, h: Array, matrix: Array, output: Array) -> Callable[[], Any]:
        if h.ndim == 1:
            return partial(h.dot, matrix, output)
        if self.block.joined:
            pieces = [
                (h[start : start + MOST_ROWS], matrix, output[start : start + MOST_ROWS])
                for start in range(0, len(h), MOST_ROWS)
            ]
        else:
            grouped = h.reshape(-1, self.block.width, h.shape[1])
            outputs = output.reshape(-1, self.block.width, output.shape[1])
            columns = matrix.shape[1]
            if self.block.width == 1 and matrix.nbytes > 2 * CACHE_BYTES:
                columns = max(ALIGNED, CACHE_BYTES // matrix[:, 0].nbytes // ALIGNED * ALIGNED)
            pieces = [
                (grouped, matrix[:, start : start + columns], outputs[..., start : start + columns])
                for start in range(0, matrix.shape[1], columns)
            ]
        if len(pieces) == 1:
            return partial(np.matmul, *pieces[0])

        def multiply() -> None:
            for rows, columns, out in pieces:
                np.matmul(rows, columns, out)

        return multiply


def _below(lookup: Callable[[Any], Array], layers: list[tuple[Any, ...]], ids: Any) -> Array:
    """The layers under the top one. Returns the top one's input share."""
    up = lookup(ids)
    for step, multiply, add, following in layers:
        step(up)
        multiply()
        add()
        up = following
    return up


def by_gate(x: Array, gates: int) -> Array:
    """The blocks of x's last axis, first: (B, G*H) -> (G, B, H), and (G*H,) -> (G, H). A view."""
    if x.ndim == 1:
        return x.reshape(gates, -1)
    return x.reshape(len(x), gates, -1).transpose(1, 0, 2)


@blas_threads(1)
def rows_are_exact(model: CompiledModel, steps: int = 4) -> bool:
    """Whether this machine's products keep the promise: in both forms, a sequence alone, and in
    every lane among others, has the same states and logits to the last bit.
    """
    rng = np.random.default_rng(0)
    ids = rng.integers(0, model.config.vocab_size, (steps, 1))
    for block in {BY_ROW, model.block}:
        expected = _trace(model, ids, block)[0]
        for size in (2, 5, 8, 13) if model.config.hidden_size <= 512 else (2,):
            others = rng.integers(0, model.config.vocab_size, (steps, size))
            for lane in range(size):
                others[:, lane] = ids[:, 0]
                if _trace(model, others, block)[lane] != expected:
                    return False
    return True


def _trace(model: CompiledModel, ids: Array, block: Block) -> list[bytes]:
    """Every bit of each lane's logits and states after each step of `ids` (T, B)."""
    B = ids.shape[1]
    lanes = Lanes(model, B, block)
    traces = [b""] * B
    for row in ids:
        if B == 1 and block == BY_ROW:
            lanes.alone.top(lanes.alone.below(int(row[0])))
            lanes.alone.multiply()
            logits = lanes.alone.logits[None]
        else:
            logits = lanes.bound(B).read(row)
        for lane in range(B):
            state = lanes.position(lane, 0).state
            traces[lane] += logits[lane].tobytes() + state.tobytes()
    return traces
