"""What training leaves out at random: outputs of layers, and recurrent weights.

Srivastava et al. 2014, JMLR 15 (dropout); Gal & Ghahramani 2016, "A theoretically grounded
application of dropout in recurrent neural networks" (one mask for a whole sequence); Wan et al.
2013, "Regularization of neural networks using DropConnect", of recurrent weights as in Merity,
Keskar & Socher 2018, "Regularizing and optimizing LSTM language models".
"""

from collections.abc import Sequence

import numpy as np

from charrnn.config import NetworkConfig
from charrnn.ops import Array, Workspace, dropout_mask


def drops_anything(config: NetworkConfig) -> bool:
    """Whether a network's training needs random numbers."""
    return config.dropout > 0 or config.recurrent_dropout > 0


class Drops:
    """The masks of one batch. Each is 0, or one over the share that is kept.

    `weights[n]` is the one of layer n's W; no list where none is dropped.
    """

    def __init__(
        self,
        config: NetworkConfig,
        recurrent: Sequence[Array],
        rows: int,
        rng: np.random.Generator,
        work: Workspace,
    ) -> None:
        """
        Args:
            config: what is dropped.
            recurrent: each layer's W (H, G*H).
            rows: sequences of the batch.
            rng: draws the masks.
            work: where those of the whole batch live, until the next one.
        """
        self._config, self._rng, self._rows = config, rng, list[Array]()
        self.weights: list[Array] = []
        for n, weights in enumerate(recurrent):
            own = work.child(f"layer {n}")
            if config.recurrent_dropout:
                mask = own.take("W mask", weights.shape, weights.dtype)
                self.weights.append(dropout_mask(config.recurrent_dropout, rng, mask))
            if config.dropout and config.dropout_mask == "sequence":
                mask = own.take("row mask", (config.hidden_size, rows), weights.dtype)
                self._rows.append(dropout_mask(config.dropout, rng, mask))

    def outputs(self, layer: int, sizes: Array, out: Array) -> Array:
        """The mask of a layer's outputs over some steps, in `out`.

        Args:
            layer: from 0, the lowest.
            sizes: (T,), the rows of each step.
            out: (H, N), for all steps; overwritten.
        """
        if not self._rows:
            return dropout_mask(self._config.dropout, self._rng, out)
        start = 0
        for size in sizes.tolist():
            out[:, start : start + size] = self._rows[layer][:, :size]
            start += size
        return out
