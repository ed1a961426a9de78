"""Whether this machine keeps the promise of exact rows on a network: tried, not assumed."""

import numpy as np

from charrnn.compiled import CompiledModel, Lanes
from charrnn.parameters import Array
from charrnn.products import BY_ROW, Block
from charrnn.threads import blas_threads


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
    count = ids.shape[1]
    lanes = Lanes(model, count, block)
    traces = [b""] * count
    for row in ids:
        if count == 1 and block == BY_ROW:
            lanes.alone.top(lanes.alone.below(int(row[0])))
            lanes.alone.multiply()
            logits = lanes.alone.logits[None]
        else:
            logits = lanes.bound(count).read(row)
        for lane in range(count):
            state = lanes.position(lane, 0).state
            traces[lane] += logits[lane].tobytes() + state.tobytes()
    return traces
