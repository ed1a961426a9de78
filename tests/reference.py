"""Packed batches to compare passes on, and buffers that hold nothing of use between two of them;
what passes are compared with is `charrnn.reference`.
"""

from collections.abc import Sequence

import numpy as np

from charrnn.ops import Workspace
from charrnn.packed import Batch
from charrnn.parameters import Array
from charrnn.reference import GRAPH_CELLS, graph_gradients


def pack(sequences: Sequence[tuple[Array, Array]]) -> Batch:
    """A packed batch from (ids, targets) pairs that are already sorted by falling length."""
    longest = len(sequences[0][0])
    sizes = np.array([sum(len(ids) > t for ids, _ in sequences) for t in range(longest)])
    ids = [ids[t] for t in range(longest) for ids, _ in sequences if len(ids) > t]
    targets = [tgt[t] for t in range(longest) for _, tgt in sequences if len(tgt) > t]
    return Batch(np.array(ids), np.array(targets), sizes)


def poison(work: Workspace) -> None:
    """Fill all buffers with NaN: who reads what he hasn't written is found out."""
    for buffer in work._buffers.values():
        if buffer.dtype.kind == "f":
            buffer[...] = np.nan
    for child in work._children.values():
        poison(child)


__all__ = ["GRAPH_CELLS", "graph_gradients", "pack", "poison"]
