"""Whether this machine keeps the promise of exact rows on a network: tried, not assumed."""

import numpy as np

from charrnn.compiled import CompiledModel, Lanes
from charrnn.panels import FOUR, TWELVE
from charrnn.parameters import Array
from charrnn.products import BY_ROW, Block
from charrnn.threads import blas_threads


@blas_threads(1)
def rows_are_exact(model: CompiledModel, steps: int = 4) -> bool:
    """Whether this machine's products keep the promise: in each form, a sequence alone, and in
    every lane among others, has the same states and logits to the last bit.
    """
    rng = np.random.default_rng(0)
    ids = rng.integers(0, model.config.vocab_size, (steps, 1))
    sizes = (2, 5, 8, 13) if model.config.hidden_size <= 512 else (2,)
    for block in {BY_ROW, model.block}:
        alone = [_trace(model, ids, block, fours)[0] for fours in range(1 + block.has_fours)]
        tried = [(size, 0, range(size)) for size in sizes]
        if block.has_fours:  # behind twelves, at each place of a four, and who stands before it
            tried.append((TWELVE + FOUR, FOUR, range(TWELVE - 1, TWELVE + FOUR)))
        for size, fours, places in tried:
            others = rng.integers(0, model.config.vocab_size, (steps, size))
            for lane in places:
                others[:, lane] = ids[:, 0]
                if _trace(model, others, block, fours)[lane] != alone[lane >= size - fours]:
                    return False
    return True


def _trace(model: CompiledModel, ids: Array, block: Block, fours: int) -> list[bytes]:
    """Every bit of each lane's logits and states after each step of `ids` (T, B), the last lanes
    being so many fours.
    """
    count = ids.shape[1]
    lanes = Lanes(model, count, block)
    traces = [b""] * count
    for row in ids:
        if count == 1 and block == BY_ROW:
            lanes.alone.top(lanes.alone.below(int(row[0])))
            lanes.alone.multiply()
            logits = lanes.alone.logits[None]
        else:
            logits = lanes.bound(count, fours).read(row)
        for lane in range(count):
            state = lanes.position(lane, 0).state
            traces[lane] += logits[lane].tobytes() + state.tobytes()
    return traces
