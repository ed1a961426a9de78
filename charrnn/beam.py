"""The most probable names, in order, proven: best-first search over their beginnings.

A name is at most as probable as each of its beginnings. So if beginnings are continued in the order
of their probability, a name that comes to the front of the queue is likelier than everything that
has not been written yet (Hart, Nilsson & Raphael 1968, "A formal basis for the heuristic
determination of minimum cost paths", with a heuristic of 0). Several of the likeliest beginnings
are continued in one batch: some of these in vain, none in another order. Of the symbols after a
beginning only the next likely one is in the queue, so that memory grows with the beginnings that
were continued alone.

`Search` is the same for any cost of a symbol that isn't below 0 and follows from what stands before
it (`charrnn.coldest` has another one than the log-probability, turned round).
"""

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from charrnn.compiled import CompiledModel, Lanes, Position
from charrnn.parameters import Array
from charrnn.shapes import Shape

ROWS = 32  # beginnings that are continued together
MOST_BEGINNINGS, MOST_BYTES = 50_000, 1 << 27  # that are continued, and what they take in memory


class Probable(NamedTuple):
    """A name's symbols behind the seed, and its natural log-probability at temperature 1, the end
    included.
    """

    ids: tuple[int, ...]
    logprob: float


@dataclass(frozen=True)
class Found:
    """The likeliest names, in falling order. Where the search ended early, every name that is not
    among them has at most this log-probability; None where it didn't.
    """

    names: list[Probable]
    unproven_below: float | None


@dataclass(frozen=True, eq=False)
class _Beginning:
    """A beginning that was continued: where the network stands, and what may follow."""

    ids: tuple[int, ...]
    q: int
    position: Position
    order: Array  # symbols, the cheapest first
    costs: Array  # of the whole with each of these
    logprobs: Array  # likewise


class _Step(NamedTuple):
    """A beginning to continue: `position` is where the network stands before its last symbol,
    `id`.
    """

    ids: tuple[int, ...]
    q: int
    position: Position
    id: int
    cost: float
    logprob: float


# A beginning that waits: its cost, its symbols, its rank among what may follow the one before it,
# and that one.
_Waiting = tuple[float, tuple[int, ...], int, _Beginning]

# From logits (n, V), a float64 array that is the callee's own, and log-probabilities (n, V) at
# temperature 1, of beginnings of these lengths (n,), the seed counted: the cost of each symbol.
Costs = Callable[[Array, Array, Array], Array]


def improbability(logits: Array, logprobs: Array, lengths: Array) -> Array:
    """Costs by which the most probable names at temperature 1 come first."""
    return -logprobs


class Search:
    """The names of a shape behind a prompt, the cheapest first: a batch of beginnings at a time."""

    def __init__(
        self,
        model: CompiledModel,
        start: Position,
        end: int,
        shape: Shape,
        costs: Costs = improbability,
    ) -> None:
        """start: where the last symbol of the prompt is about to be read."""
        self._model, self._end, self._shape, self._costs = model, end, shape, costs
        self._lanes = Lanes(model, ROWS, model.block)
        kept = sum(array.nbytes for array in (start.state, *start.waiting))
        self._left = min(MOST_BEGINNINGS, max(ROWS, MOST_BYTES // kept))
        self._queue: list[_Waiting] = []
        self._batch = [_Step((), shape.begin, start, start.id, 0.0, 0.0)]
        self.ended_early = False  # there is more than could be looked at

    @property
    def is_over(self) -> bool:
        """Whether there are no more names."""
        return not self._batch

    @property
    def unproven_from(self) -> float:
        """No name that hasn't come yet costs less."""
        return self._batch[0].cost

    def batches(self) -> Iterator[list[Probable]]:
        """Continue a batch of beginnings, and give the names that are the next ones for certain;
        then the next batch, until there is nothing left or `ended_early`.
        """
        while self._batch:
            if self._left < len(self._batch):
                self.ended_early = True
                return
            self._left -= len(self._batch)
            for beginning in self._continued(self._batch):
                self._push(beginning, 0)
            yield self._next_names()

    def _next_names(self) -> list[Probable]:
        """The names that come before everything that could still be continued; the batch is then
        what may come right behind them.
        """
        names: list[Probable] = []
        batch: list[_Step] = []
        self._batch, queue = batch, self._queue
        while queue and len(batch) < ROWS:
            cost, ids, rank, parent = heapq.heappop(queue)
            if ids[-1] == self._end and batch:  # not proven before those of the batch
                heapq.heappush(queue, (cost, ids, rank, parent))
                break
            self._push(parent, rank + 1)
            logprob = float(parent.logprobs[rank])
            if ids[-1] == self._end:
                names.append(Probable(ids[:-1], logprob))
            else:
                q = int(self._shape.next[parent.q, ids[-1]])
                batch.append(_Step(ids, q, parent.position, ids[-1], cost, logprob))
        return names

    def _push(self, parent: _Beginning, rank: int) -> None:
        """Let a beginning's symbol of this rank wait, if it has one."""
        if rank < len(parent.order):
            ids = (*parent.ids, int(parent.order[rank]))
            # No two have the same ids, so that what follows them is never compared.
            heapq.heappush(self._queue, (float(parent.costs[rank]), ids, rank, parent))

    def _continued(self, batch: list[_Step]) -> list[_Beginning]:
        """Beginnings, continued by every symbol that may follow."""
        lanes, shape = self._lanes, self._shape
        for lane, one in enumerate(batch):
            lanes.put(lane, one.position)
        read = np.array([one.id for one in batch])
        logits = (lanes.bound(len(batch)).read(read) + self._model.out_bias).astype(np.float64)
        plain = logits - logits.max(axis=1, keepdims=True)
        plain -= np.log(np.exp(plain).sum(axis=1, keepdims=True))
        lengths = np.array([shape.length + len(one.ids) for one in batch])
        costs = self._costs(logits, plain, lengths)
        made = []
        for lane, (one, length) in enumerate(zip(batch, lengths.tolist(), strict=True)):
            may = np.zeros(costs.shape[1], bool)
            if length < shape.longest:
                nexts = shape.next[one.q]
                may = (nexts >= 0) & shape.can[length + 1][nexts]
            may[self._end] = shape.may_end(length)[one.q]
            symbols = np.flatnonzero(may & np.isfinite(costs[lane]))
            order = symbols[np.argsort(costs[lane, symbols], kind="stable")]
            totals = one.cost + costs[lane, order]
            logprobs = one.logprob + plain[lane, order]
            position = lanes.position(lane, one.id)
            made.append(_Beginning(one.ids, one.q, position, order, totals, logprobs))
        return made


def search(
    model: CompiledModel,
    prompt: list[int],
    end: int,
    shape: Shape,
    *,
    count: int,
    keeps: Callable[[tuple[int, ...]], bool],
    goes_on: Callable[[], bool] = lambda: True,
) -> Found:
    """The likeliest names of a shape behind a prompt, at temperature 1.

    Args:
        keeps: whether a name counts, by its symbols behind the prompt.
        goes_on: asked between two batches; False ends the search early.
    """
    going = Search(model, model.read(prompt), end, shape)
    found: list[Probable] = []
    for names in going.batches():
        found += [name for name in names if keeps(name.ids)]
        if len(found) >= count:
            return Found(found[:count], None)
        if not going.is_over and not goes_on():
            going.ended_early = True
            break
    return Found(found, -going.unproven_from if going.ended_early else None)


def shortfall(found: Found, count: int) -> str | None:
    """Why there are fewer names than were asked for."""
    missing = count - len(found.names)
    if not missing:
        return None
    if found.unproven_below is None:
        return f"there are no more than {len(found.names)} such names"
    chance = math.exp(found.unproven_below)
    return (
        f"{missing} of {count} names could not be proven to come next: the search was ended. Every "
        f"other name has a probability of at most {chance:.2g}; ask for fewer, or give a longer "
        "seed"
    )
