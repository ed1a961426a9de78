"""Packed batches to compare passes on; what they are compared with is `charrnn.reference`."""

from collections.abc import Sequence

import numpy as np

from charrnn.model import Batch
from charrnn.parameters import Array
from charrnn.reference import GRAPH_CELLS, graph_gradients


def pack(sequences: Sequence[tuple[Array, Array]]) -> Batch:
    """A packed batch from (ids, targets) pairs that are already sorted by falling length."""
    longest = len(sequences[0][0])
    sizes = np.array([sum(len(ids) > t for ids, _ in sequences) for t in range(longest)])
    ids = [ids[t] for t in range(longest) for ids, _ in sequences if len(ids) > t]
    targets = [tgt[t] for t in range(longest) for _, tgt in sequences if len(tgt) > t]
    return Batch(np.array(ids), np.array(targets), sizes)


__all__ = ["GRAPH_CELLS", "graph_gradients", "pack"]
