"""The most probable names, in order, proven: best-first search over their beginnings.

A name is at most as probable as each of its beginnings. So if beginnings are continued in the order
of their probability, a name that comes to the front of the queue is likelier than everything that
has not been written yet (Hart, Nilsson & Raphael 1968, "A formal basis for the heuristic
determination of minimum cost paths", with a heuristic of 0). Several of the likeliest beginnings
are continued in one batch: some of these in vain, none in another order. Of the symbols after a
beginning only the next likely one is in the queue, so that memory grows with the beginnings that
were continued alone.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from charrnn.compiled import CompiledModel, Lanes, Position
from charrnn.parameters import Array
from charrnn.shapes import Shape

ROWS = 32  # beginnings that are continued together
MOST_BEGINNINGS, MOST_BYTES = 50_000, 1 << 27  # that are continued, and what they take in memory


class Probable(NamedTuple):
    """A name's symbols behind the seed, and its natural log-probability, the end included."""

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
    order: Array  # symbols, the likeliest first
    logprobs: Array  # of the whole with each of these


# A beginning to continue: its symbols, the shape's state, where the network stands before its last
# symbol, that symbol, its log-probability. And one that waits: minus its log-probability, its
# symbols, its rank among what may follow the one before it, and that one.
_Step = tuple[tuple[int, ...], int, Position, int, float]
_Waiting = tuple[float, tuple[int, ...], int, _Beginning]


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
    lanes = Lanes(model, ROWS, model.block)
    kept = sum(array.nbytes for array in _arrays(model.start(0)))
    left = min(MOST_BEGINNINGS, max(ROWS, MOST_BYTES // kept))
    found: list[Probable] = []
    seed: _Step = ((), shape.begin, model.read(prompt), prompt[-1], 0.0)
    queue: list[_Waiting] = []
    for beginning in _continued(model, lanes, [seed], end, shape):
        _push(queue, beginning, 0)
    while queue:
        batch: list[_Step] = []
        whole = []
        while queue and len(batch) < ROWS:
            cost, ids, rank, parent = heapq.heappop(queue)
            if ids[-1] == end:
                if not batch:
                    _push(queue, parent, rank + 1)
                    if keeps(ids[:-1]):
                        found.append(Probable(ids[:-1], -cost))
                        if len(found) == count:
                            return Found(found, None)
                    continue
                whole.append((cost, ids, rank, parent))  # not proven before those of the batch
                break
            _push(queue, parent, rank + 1)
            q = int(shape.next[parent.q, ids[-1]])
            batch.append((ids, q, parent.position, ids[-1], -cost))
        if not batch:
            continue
        if left < len(batch) or not goes_on():
            return Found(found, batch[0][-1])
        left -= len(batch)
        for each in whole:
            heapq.heappush(queue, each)
        for beginning in _continued(model, lanes, batch, end, shape):
            _push(queue, beginning, 0)
    return Found(found, None)


def _push(queue: list[_Waiting], parent: _Beginning, rank: int) -> None:
    """Let a beginning's symbol of this rank wait, if it has one."""
    if rank < len(parent.order):
        ids = (*parent.ids, int(parent.order[rank]))
        # No two have the same ids, so that what follows them is never compared.
        heapq.heappush(queue, (-float(parent.logprobs[rank]), ids, rank, parent))


def _continued(
    model: CompiledModel,
    lanes: Lanes,
    batch: list[_Step],
    end: int,
    shape: Shape,
) -> list[_Beginning]:
    """Beginnings, as their symbols, state of the shape, the position before their last symbol, that
    symbol, and their log-probability; continued by every symbol that may follow.
    """
    for lane, (_, _, position, _, _) in enumerate(batch):
        lanes.put(lane, position)
    read = np.array([id_ for _, _, _, id_, _ in batch])
    logits = (lanes.bound(len(batch)).read(read) + model.out_bias).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    made = []
    for lane, (ids, q, _, id_, logprob) in enumerate(batch):
        length = shape.length + len(ids)
        may = np.zeros(logits.shape[1], bool)
        if length < shape.longest:
            nexts = shape.next[q]
            may = (nexts >= 0) & shape.can[length + 1][nexts]
        may[end] = shape.may_end(length)[q]
        symbols = np.flatnonzero(may)
        order = symbols[np.argsort(-logits[lane, symbols], kind="stable")]
        logprobs = logprob + logits[lane, order]
        made.append(_Beginning(ids, q, lanes.position(lane, id_), order, logprobs))
    return made


def _arrays(position: Position) -> list[Array]:
    return [position.state, *position.waiting]


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
