"""The network in the form that generation runs: the same equations as `CharRNN.step`, with all that
can be worked out beforehand worked out.

- The first layer's x U + b is a table of rows, one for each symbol.
- A layer's output is multiplied once a step: [W | U of the layer above] or, at the top, [W | V],
  side by side. The left part waits for the layer's next step.
- Each cell folds its constants into the weights (`Cell.fold`).

Sequences stand in lanes. What a lane holds is a function of its own symbols and of the way that
rows are multiplied (`charrnn.products`), bit for bit, whatever the other lanes hold.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from charrnn import lines
from charrnn.model import CharRNN
from charrnn.parameters import Array
from charrnn.products import (
    BY_ROW,
    MOST_ROWS,
    Block,
    by_gate,
    compiled_layer,
    products,
    rounded,
    shortest,
)
from charrnn.trial import LARGE_BYTES, WIDTHS, best_block

KEPT_POSITIONS, KEPT_LENGTH = 64, 64  # after prompts of so many symbols
CLEARLY = 1.1  # times as fast
MANIES = (2, 4, 8, 12, 16, 24, 32, 48)  # sequences, tried together
MOST_BOUND = 128  # numbers of lanes whose steps are kept
BEGINNING_BYTES = 1 << 25  # read and written at most to work out a beginning, about


class Position(NamedTuple):
    """Where a sequence stands: its next symbol to read, and the state before it.

    state: (L, S, H). waiting: the recurrent products (G, H) of that state, a layer each.
    """

    id: int
    state: Array
    waiting: tuple[Array, ...]


class CompiledModel:
    """The frozen network, ready to generate. Holds no state: threads may share it."""

    def __init__(self, model: CharRNN, never: int | None = None) -> None:
        """`never`: a symbol that must not be drawn, the unknown one."""
        self.config = model.config
        self.cell = model.cell
        layers = [
            model.cell.fold(model.params.layer(f"layers.{n}."))
            for n in range(self.config.num_layers)
        ]
        self.table = lines.copy(layers[0]["U"] + layers[0]["b"])  # (V, G*H)
        self.out_bias = model.params["out.c"]  # (V,), of the logits
        self.never = never
        self.drawn_bias = self.out_bias  # of what is drawn from
        if never is not None:
            self.drawn_bias = self.out_bias.copy()
            self.drawn_bias[never] = -np.inf
        stored = self.table.dtype.type(1 / model.cell.stored_scale)
        following = [layer["U"] * stored for layer in layers[1:]]
        following.append(model.params["out.V"] * stored)
        self.gates = len(model.cell.gates)
        self._positions: dict[tuple[int, ...], Position] = {}  # after short prompts, read before
        self._beginnings: dict[tuple[int, Block], Beginning | None] = {}
        self.layers = []
        for n, (layer, above) in enumerate(zip(layers, following, strict=True), 1):
            is_top = n == len(layers)
            self.layers.append(compiled_layer(layer, above, self.gates, is_top=is_top))

    def start(self, id_: int, state: Array | None = None) -> Position:
        """The position before symbol `id_`, in `state` (L, S, H), or zeros."""
        config, H = self.config, self.config.hidden_size
        if state is None:
            shape = (config.num_layers, len(self.cell.parts), H)
            zero = np.zeros((self.gates, H), self.table.dtype)
            return Position(id_, np.zeros(shape, self.table.dtype), (zero,) * config.num_layers)
        scale = self.table.dtype.type(self.cell.stored_scale)
        waiting = tuple(
            by_gate((h * scale).dot(layer.matrix)[: self.gates * H], self.gates)
            for h, layer in zip(state[:, 0], self.layers, strict=True)
        )
        return Position(id_, np.array(state, self.table.dtype), waiting)

    def read(self, ids: Sequence[int], state: Array | None = None) -> Position:
        """The position before the last of `ids`, after all those before it."""
        if state is not None or len(ids) > KEPT_LENGTH:
            return self._read(ids, state)
        key = tuple(ids)
        position = self._positions.get(key)
        if position is None:
            position = self._read(ids, None)
            if len(self._positions) >= KEPT_POSITIONS:
                self._positions.clear()
            self._positions[key] = position
        return position

    def _read(self, ids: Sequence[int], state: Array | None) -> Position:
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

    def beginning(self, position: Position, block: Block) -> "Beginning | None":
        """What sequences begin with that begin with nothing but a start symbol, at the position
        that `read` keeps, of a network that is small enough; worked out when it is asked for a
        second time.
        """
        is_start = self._positions.get((position.id,)) is position
        symbols = len(self.out_bias)
        logits = symbols * self.out_bias.nbytes
        if not is_start or symbols * self.matrix_bytes + logits > BEGINNING_BYTES:
            return None
        key = position.id, block
        if key not in self._beginnings:
            self._beginnings[key] = None
        elif self._beginnings[key] is None:
            self._beginnings[key] = Beginning(self, position, block)
        return self._beginnings[key]

    @property
    def matrix_bytes(self) -> int:
        """What a step of one sequence reads."""
        return sum(layer.matrix.nbytes for layer in self.layers)

    @cached_property
    def rows(self) -> list[Array]:
        """The rows of the table, (G, H) each."""
        return [by_gate(row, self.gates) for row in self.table]

    @cached_property
    def begins_together(self) -> bool:
        """Whether a row among others costs no more than one alone: the matrices are read from
        memory, and two rows take as long as one.
        """
        return self.matrix_bytes > LARGE_BYTES and self.block.width == WIDTHS[0]

    @cached_property
    def has_use_for_fours(self) -> bool:
        """Whether a few rows that are multiplied as fours spare the filling up of twelves, and that
        is worth the thought.
        """
        return self.matrix_bytes > LARGE_BYTES and self.block.has_fours

    @cached_property
    def many(self) -> int:
        """So many sequences, and more, take clearly less time in products together than in as many
        products, on this machine: by trial; at most as many as a product has rows. It may decide
        nothing but what is free to be either: what a random seed leads to is settled.
        """
        many = MOST_ROWS
        for count in reversed(MANIES if self.block != BY_ROW else ()):
            ids = np.zeros(count, int)
            ways = (Lanes(self, count, block).bound(count).read for block in (BY_ROW, self.block))
            alone, shared = shortest(*(partial(read, ids) for read in ways))
            if CLEARLY * shared > alone:
                break
            many = count
        return many

    @cached_property
    def block(self) -> "Block":
        """How several rows are multiplied at once, on this machine."""
        return best_block(self.layers)


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
        self.model, self.block = model, block
        self.capacity = capacity = rounded(capacity, block.width)
        cell, dtype, H, G = model.cell, model.table.dtype, model.config.hidden_size, model.gates
        self._parts = [lines.zeros((cell.buffer_parts, capacity, H), dtype) for _ in model.layers]
        self._products = [
            products(layer, capacity, block, n) for n, layer in enumerate(model.layers)
        ]
        self._waiting = [each.waiting for each in self._products]
        self._rows = lines.zeros(G * capacity * H, dtype)  # of the table
        self._biased = [lines.zeros((G, capacity, H), dtype) for _ in model.layers[1:]]
        self._bound: dict[tuple[int, int], Bound] = {}

    def put(self, lanes: int | slice, position: Position) -> None:
        """Let lanes hold a position; its symbol is the caller's to keep."""
        cell = self.model.cell
        several = (slice(None), None) if isinstance(lanes, slice) else slice(None)
        for n, (parts, waiting) in enumerate(zip(self._parts, self._waiting, strict=True)):
            h, *others = position.state[n]
            parts[cell.stored_parts[0], lanes] = h * parts.dtype.type(cell.stored_scale)
            for part, state in zip(cell.stored_parts[1:], others, strict=True):
                parts[part, lanes] = state
            waiting[:, lanes] = position.waiting[n][several]

    def position(self, lane: int, id_: int) -> Position:
        """A copy of where a lane stands, before reading `id_`."""
        cell = self.model.cell
        state = np.stack([parts[list(cell.stored_parts), lane] for parts in self._parts])
        state[:, 0] /= cell.stored_scale
        return Position(id_, state, tuple(waiting[:, lane].copy() for waiting in self._waiting))

    def move(self, sources: Array, targets: Array) -> None:
        """Copy what some lanes hold into others."""
        for parts, waiting in zip(self._parts, self._waiting, strict=True):
            for part in self.model.cell.stored_parts:
                parts[part, targets] = parts[part, sources]
            waiting[:, targets] = waiting[:, sources]

    def hand(self, lane: Array | int, other: "Lanes", target: slice | int) -> None:
        """Copy what a lane holds into a lane of others, or what some hold into as many."""
        for parts, waiting, other_parts, other_waiting in zip(
            self._parts, self._waiting, other._parts, other._waiting, strict=True
        ):
            for part in self.model.cell.stored_parts:
                other_parts[part, target] = parts[part, lane]
            other_waiting[:, target] = waiting[:, lane]

    def bound(self, count: int, fours: int = 0) -> Bound:
        """The step over the first `count` lanes, the last of which are multiplied as fours; without
        such, over a few more where that spares rebinding.
        """
        if not fours:
            count = min(rounded(count, self.block.width), self.capacity)
        key = count, fours
        if key not in self._bound:
            if len(self._bound) >= MOST_BOUND:
                self._bound.clear()
            self._bound[key] = self._bind(slice(count), fours)
        return self._bound[key]

    @cached_property
    def alone(self) -> Bound:
        """The step of the only lane, over arrays without a lane axis: its row multiplied alone."""
        assert (self.block, self.capacity) == (BY_ROW, 1)
        return self._bind(0)

    def _bind(self, lanes: slice | int, fours: int = 0) -> Bound:
        model, G = self.model, self.model.gates
        several = (slice(None), None) if isinstance(lanes, slice) else slice(None)
        layers = []
        for n, layer in enumerate(model.layers):
            parts, waiting = self._parts[n][:, lanes], self._waiting[n][:, lanes]
            following = self._products[n].following[..., lanes, :]
            step = model.cell.bind(layer.folded, parts, waiting)
            h = parts[model.cell.stored_parts[0]]
            multiply = self._multiplication(n, h, lanes, fours)
            layers.append((step, multiply, following))
        *lower, (top, multiply, logits) = layers
        below: list[tuple[Any, ...]] = []
        for n, (step, product, following) in enumerate(lower):
            bias = model.layers[n + 1].folded["b"].reshape(G, -1)[several]
            biased = self._biased[n][:, lanes]
            below.append((step, product, partial(np.add, following, bias, biased), biased))
        lookup = self._lookup(lanes)
        logits = logits[..., : len(model.out_bias)]
        return Bound(partial(_below, lookup, below) if below else lookup, top, multiply, logits)

    def _lookup(self, lanes: slice | int) -> Callable[[Any], Array]:
        """From ids to rows of the table, gate by gate."""
        table, G = self.model.table, self.model.gates
        if isinstance(lanes, int):
            return self.model.rows.__getitem__
        take = table.reshape(len(table) * G, -1).take
        count, offsets = lanes.stop, np.arange(G)[:, None]
        rows = self._rows[: G * count * self.model.config.hidden_size].reshape(G, count, -1)
        firsts, index = np.zeros(count, int), np.zeros((G, count), int)

        def lookup(ids: Array) -> Array:
            np.multiply(ids, G, firsts[: len(ids)])
            np.add(firsts, offsets, index)
            take(index, 0, rows, "clip")
            return rows

        return lookup

    def _multiplication(
        self, n: int, h: Array, lanes: slice | int, fours: int
    ) -> Callable[[], Any]:
        """A function that leaves the products of a layer's output in their places."""
        return self._products[n].bind(h, lanes, fours)


class Beginning:
    """The first two steps of sequences that begin at one position, looked up: all draw their first
    symbol from the same logits, and hold one of V states after it. The same bits as by `Bound.read`
    for rows that are multiplied alike. Threads may share it.
    """

    def __init__(self, model: CompiledModel, position: Position, block: Block) -> None:
        symbols = np.arange(len(model.out_bias))
        self._lanes = Lanes(model, len(symbols), block)
        self._lanes.put(slice(1), position)
        first = self._lanes.bound(1).read(np.array([position.id]))
        self._first = first[0].copy()  # logits (V,)
        self._lanes.move(np.zeros_like(symbols), symbols)
        self._second = self._lanes.bound(len(symbols)).read(symbols).copy()  # logits (V, V)

    def reads(self, lanes: Lanes, where: slice | int) -> list[Callable[[Any], Array]]:
        """In place of `Bound.read` for some lanes, or of a lane alone: what reads the first symbol
        that was drawn, and, to be called before it, the position's. The second call fills the
        lanes: who makes only the first reads the position's symbol himself.
        """

        def first(ids: Any) -> Array:
            return self._first if isinstance(where, int) else np.tile(self._first, (len(ids), 1))

        def second(ids: Any) -> Array:
            self._lanes.hand(ids, lanes, where)
            return self._second[ids]

        return [second, first]


def _below(lookup: Callable[[Any], Array], layers: list[tuple[Any, ...]], ids: Any) -> Array:
    """The layers under the top one. Returns the top one's input share."""
    up = lookup(ids)
    for step, multiply, add, following in layers:
        step(up)
        multiply()
        add()
        up = following
    return up
