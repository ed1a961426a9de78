"""The network over packed batches, as training needs it: loss and gradients, written for speed.

Feature-major but where `Cell.rows_first` says otherwise; a batch in parts that stay in the cache.
The same equations in their readable form are `charrnn.model`'s, to which tests hold these.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from charrnn import lines
from charrnn.cells import cell_named
from charrnn.cells.base import Step, packed_steps, scratch
from charrnn.config import ModelConfig
from charrnn.dropping import Drops, Share
from charrnn.ops import (
    Array,
    Workspace,
    add_product,
    cross_entropy,
    gather_rows_backward,
    step_product,
    turned,
    wide_product,
)
from charrnn.parameters import Parameters

SMALL_VOCABULARY = 1024  # symbols up to which all of U is folded for each batch
CHARACTERS_IN_A_PART = 1024  # passed forward, and back, at once: mostly in the cache still
# Between two layers, steps that all have so few sequences are multiplied as many at once as make so
# many columns: one good product for several poor ones.
PROJECTED, PROJECTED_SIZES = 64, (16, 32)
LOGITS_IN_A_BLOCK = 1 << 21  # the output layer's temporary arrays stay under 8 MB of float32


@dataclass(frozen=True)
class Batch:
    """A packed batch: time-major, sequences sorted by falling length, no padding.

    ids, targets: (N,) integers; sizes: (T,), the rows of each step, never growing. span: steps
    after each of which no gradient flows back through time, though the state flows on; 0 for never.
    whole: the characters of the batch that it is a share of; 0 for one that is whole itself.
    """

    ids: Array
    targets: Array
    sizes: Array
    span: int = 0
    whole: int = 0


class PackedRNN:
    """A configuration and its parameters, and what training does with them."""

    def __init__(self, config: ModelConfig, params: Parameters) -> None:
        self.config = config
        self.params = params
        self.cell = cell_named(config.cell)
        assert not (self.cell.rows_first and self.cell.sigmoids), "see `Cell.rows_first`"
        self._layers = [params.layer(f"layers.{n}.") for n in range(config.num_layers)]
        self._input_scale = self.cell.input_scale(config.hidden_size).astype(self.dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 to train and generate, float64 to check."""
        return self.params.flat.dtype

    def loss(self, batch: Batch, state: Array, work: Workspace) -> tuple[float, Array]:
        """Summed cross-entropy of a packed batch, in nats, without dropout.

        Args:
            batch: packed.
            state: (L, S, B, H), for B = batch.sizes[0] sequences.
            work: buffers.

        Returns:
            The sum over all targets, and each sequence's last state.
        """
        batch, symbols = self._own_symbols(batch)
        layers, total = self._folded(work, symbols), 0.0
        state = _feature_major(state, work, "state")
        for part in _parts(batch):
            x, _ = self._forward_part(part, layers, state, work, work, None)
            for columns in self._blocks(len(part.ids)):
                logits = self._logits(x[:, columns], work)
                total += cross_entropy(logits, part.targets[columns])
        return total, _batch_major(state)

    def loss_and_grads(
        self,
        batch: Batch,
        state: Array,
        grads: Parameters,
        work: Workspace,
        *,
        rng: np.random.Generator | None = None,
        dstate: Array | None = None,
        share: Share | None = None,
    ) -> tuple[float, Array, Array]:
        """Mean cross-entropy of a packed batch, nats per character, and its gradients.

        Args:
            batch: packed. Of a share of a larger one, what it adds to that one's mean.
            state: (L, S, B, H), for B = batch.sizes[0] sequences; no gradient flows out of it
                into an earlier batch (truncated backpropagation through time).
            grads: overwritten with the gradients.
            work: buffers.
            rng: draws the masks of what is dropped; None to drop nothing.
            dstate: (L, S, B, H), a gradient by the last states; None for zero.
            share: of a larger batch, with whose masks these sequences are masked.

        Returns:
            The loss, each sequence's last state, and the gradient by `state`.
        """
        batch, symbols = self._own_symbols(batch)
        drops = None
        if rng is not None:
            recurrent = [layer["W"] for layer in self._layers]
            drops = Drops(self.config, recurrent, int(batch.sizes[0]), rng, work, share)
        weights = drops.weights if drops else []
        layers = self._folded(work, symbols, weights)
        dstate = _feature_major(np.zeros_like(state) if dstate is None else dstate, work, "dstate")
        state = _feature_major(state, work, "state")
        parts = _parts(batch)
        passed = [
            self._forward_part(part, layers, state, work.child(f"part {k}"), work, drops)
            for k, part in enumerate(parts)
        ]
        assert len(batch.ids), "an empty batch has no gradient"
        for gradient in grads.values():
            if gradient.ndim == 1:  # of matrices the first part overwrites what is there
                gradient[...] = 0
        dU = grads["layers.0.U"]
        dtable = dU if symbols is None else np.empty((len(symbols), dU.shape[1]), self.dtype)
        total, characters = 0.0, batch.whole or len(batch.ids)
        scale = self.dtype.type(1 / characters)
        for k in reversed(range(len(parts))):
            (x, caches), begins = passed[k], k == len(parts) - 1
            loss, dx = self._output_backward(parts[k], x, scale, grads, work, begins=begins)
            dstate[..., : parts[k].cut] = 0
            self._backward_part(
                parts[k], layers, dx, dstate, caches, grads, dtable, work, begins=begins
            )
            total += loss
        # Each symbol read one row of U, and b.
        np.sum(dtable, axis=0, out=grads["layers.0.b"])
        if symbols is not None:
            dU[...] = 0
            dU[symbols] = dtable
        for n, mask in enumerate(weights):
            grads[f"layers.{n}.W"][...] *= mask
        return total / characters, _batch_major(state), _batch_major(dstate)

    def _own_symbols(self, batch: Batch) -> tuple[Batch, Array | None]:
        """A batch that numbers only the symbols that it reads, and these, (K,) rising: of a large
        vocabulary nothing else of U is touched. Of a small one the batch as it is, and None.
        """
        if self.config.vocab_size <= SMALL_VOCABULARY:
            return batch, None
        symbols, ids = np.unique(batch.ids, return_inverse=True)
        return replace(batch, ids=ids), symbols

    def _folded(
        self, work: Workspace, symbols: Array | None, weights: Sequence[Array] = ()
    ) -> list[dict[str, Array]]:
        """The layers with what `forward_sequence` multiplies by, made once for all steps.

        W_T (G*H, H), U_T (G*H, H), transposed, and b_T (G*H, 1); for the first layer instead of U_T
        `table` (K, G*H and zeros), the rows of U for `symbols` (None for all) with b in each. All
        times the cell's `input_scale`. Of a cell whose rows are first nothing but the table, (K,
        G*H). `weights` are masks of each layer's W, where some of it is dropped.
        """
        scale, layers = self._input_scale, []
        for n, layer in enumerate(self._layers):
            U, W, own = layer["U"], layer["W"], work.child(f"layer {n}")
            if weights:
                W = np.multiply(W, weights[n], own.take("W dropped", W.shape, self.dtype))
            folded = {**layer, "W": W}
            if not self.cell.rows_first:
                W_T = own.take("W_T", W.shape[::-1], self.dtype)
                folded["W_T"] = turned(W, scale[:, None], W_T, work)
                folded["b_T"] = (layer["b"] * scale)[:, None]
            if n == 0:
                U = U if symbols is None else U[symbols]
                # Rows that are taken from it are then read by columns, which a line more between
                # rows keeps apart in the cache; not where rows are first.
                more = 0 if self.cell.rows_first else lines.LINE // scale.itemsize
                table = folded["table"] = own.take("table", (len(U), len(scale) + more), self.dtype)
                np.add(U, layer["b"], table[:, : len(scale)])
                table[:, : len(scale)] *= scale
                table[:, len(scale) :] = 0
            elif not self.cell.rows_first:
                U_T = own.take("U_T", U.shape[::-1], self.dtype)
                folded["U_T"] = turned(U, scale[:, None], U_T, work)
            layers.append(folded)
        return layers

    def _forward_part(
        self,
        part: Batch,
        layers: Sequence[Mapping[str, Array]],
        state: Array,
        kept: Workspace,
        work: Workspace,
        drops: Drops | None,
    ) -> tuple[Array, list[Any]]:
        """All layers over a part: (the output layer's input (H, N), caches).

        `state` (L, S, H, B) becomes each sequence's last. What backward needs stays in `kept`:
        for each character and layer, the `kept` vectors of the cell, and with dropout two more:
        the mask, and what it let through.
        """
        caches: list[Any] = []
        steps, x = packed_steps(tuple(part.sizes.tolist())), None
        for n, layer in enumerate(layers):
            own = kept.child(f"layer {n}")
            a_x = self._input_share(layer, part.ids, x, steps, work)
            layer_input: Array | None = x
            alive = state[n, :, :, : steps[0].size]
            x, cache = self.cell.forward_sequence(layer, a_x, steps, alive, own, work)
            mask = None
            if drops and self.config.dropout:
                mask = drops.outputs(n, part.sizes, self._like_outputs(own, "mask", x.shape))
                x = np.multiply(x, mask, self._like_outputs(own, "dropped", x.shape))
            caches.append((layer_input, mask, cache))
        assert x is not None
        return x, caches

    def _backward_part(
        self,
        part: Batch,
        layers: Sequence[Mapping[str, Array]],
        dx: Array,
        dstate: Array,
        caches: list[Any],
        grads: Parameters,
        dtable: Array,
        work: Workspace,
        *,
        begins: bool,
    ) -> None:
        """Back through `_forward_part`: adds to `grads`, and to `dtable` (K, G*H), the gradient by
        the rows of U, or overwrites these matrices, where it `begins` with them; `dstate` becomes
        that by its state.
        """
        rows = int(part.sizes[0])
        for n in reversed(range(len(layers))):
            layer, dlayer = layers[n], grads.layer(f"layers.{n}.")
            layer_input, mask, cache = caches[n]
            if mask is not None:
                dx *= mask
            alive = dstate[n, :, :, :rows]
            da_x = self.cell.backward_sequence(layer, dx, alive, cache, dlayer, work, begins=begins)
            if layer_input is None:
                gather_rows_backward(part.ids, da_x, dtable, work, begins=begins)
            else:
                add_product(layer_input, da_x.T, dlayer["U"], work, begins=begins)
                dlayer["b"] += da_x.sum(axis=1)
                np.matmul(layer["U"], da_x, dx)

    def _input_share(
        self,
        layer: Mapping[str, Array],
        ids: Array,
        x: Array | None,
        steps: Sequence[Step],
        work: Workspace,
    ) -> Iterator[Array]:
        """A layer's share of the pre-activations, step by step, (G*H, n): U[id] + b, or x U + b."""
        if self.cell.rows_first:
            rows = self._input_rows(layer, ids, x, work)
            return (rows[step.columns].T for step in steps)
        if x is None:
            return self._embedded(layer, ids, steps, work)
        return self._projected(layer, x, steps, work)

    def _input_rows(
        self, layer: Mapping[str, Array], ids: Array, x: Array | None, work: Workspace
    ) -> Array:
        """That of all steps at once, (N, G*H), for a cell whose rows are first."""
        rows = work.take("a_x", (len(ids), len(layer["b"])), self.dtype)
        if x is None:
            return np.take(layer["table"], ids, 0, rows, "clip")
        np.matmul(x.T, layer["U"], rows)
        rows += layer["b"]
        return rows

    def _embedded(
        self, layer: Mapping[str, Array], ids: Array, steps: Sequence[Step], work: Workspace
    ) -> Iterator[Array]:
        table, width = layer["table"], len(layer["b"])
        rows = work.take("rows", (steps[0].size, table.shape[1]), self.dtype)
        a_x = scratch(work, "a_x", width, steps, self.dtype)
        for step in steps:
            taken = np.take(table, ids[step.columns], 0, rows[: step.size], "clip")
            np.copyto(a_x[step.size], taken[:, :width].T)
            yield a_x[step.size]

    def _projected(
        self, layer: Mapping[str, Array], x: Array, steps: Sequence[Step], work: Workspace
    ) -> Iterator[Array]:
        height, n = len(layer["U_T"]), steps[0].size
        many = PROJECTED // n if n in PROJECTED_SIZES and steps[-1].size == n else 1
        for first in range(0, len(steps), many):
            some = steps[first : first + many]
            start, stop = some[0].columns.start, some[-1].columns.stop
            a_x = work.take("a_x", (height, stop - start), self.dtype)
            step_product(layer["U_T"], x[:, start:stop], a_x)
            a_x += layer["b_T"]
            for step in some:
                yield a_x[:, step.columns.start - start : step.columns.stop - start]

    def _output_backward(
        self,
        part: Batch,
        x: Array,
        scale: float,
        grads: Parameters,
        work: Workspace,
        *,
        begins: bool,
    ) -> tuple[float, Array]:
        """The output layer, forward and backward, block by block: (summed loss, gradient by x)."""
        V, dV, dc = self.params["out.V"], grads["out.V"], grads["out.c"]
        dx, total = self._like_outputs(work, "dx", x.shape), 0.0
        for columns in self._blocks(len(part.ids)):
            dlogits = self._logits(x[:, columns], work)
            total += cross_entropy(dlogits, part.targets[columns], scale)
            add_product(x[:, columns], dlogits.T, dV, work, begins=begins and not columns.start)
            dc += dlogits.sum(axis=1)
            wide_product(V, dlogits, dx[:, columns])
        return total, dx

    def _like_outputs(self, work: Workspace, name: str, shape: tuple[int, ...]) -> Array:
        """A buffer (H, N) that stands in memory as the cell's outputs do."""
        height, width = shape
        if self.cell.rows_first:
            return work.take(name, (width, height), self.dtype).T
        return work.columns(name, height, width, self.dtype)

    def _logits(self, x: Array, work: Workspace) -> Array:
        logits = work.columns("logits", self.config.vocab_size, x.shape[1], self.dtype)
        wide_product(self.params["out.V"].T, x, logits)
        logits += self.params["out.c"][:, None]
        return logits

    def _blocks(self, n: int) -> list[slice]:
        size = max(1, LOGITS_IN_A_BLOCK // self.config.vocab_size)
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _feature_major(state: Array, work: Workspace, name: str) -> Array:
    """A copy (L, S, H, B) of a state (L, S, B, H), in a buffer."""
    swapped = state.swapaxes(2, 3)
    copied = work.take(name, swapped.shape, state.dtype)
    copied[...] = swapped
    return copied


def _batch_major(state: Array) -> Array:
    """A copy (L, S, B, H) of a state (L, S, H, B)."""
    return state.swapaxes(2, 3).copy()


@dataclass(frozen=True)
class _Part(Batch):
    """A part of a batch. cut: so many sequences go on behind it, and hand no gradient back."""

    cut: int = 0


def _parts(batch: Batch) -> list[_Part]:
    """A batch cut into shorter ones, each going on where the one before it ends.

    What a part needs besides its caches (above all the gradient by its pre-activations, the
    largest array) is small, and used while it still is in the processor's cache.
    """
    parts, begin, start, end, steps = [], 0, 0, 0, len(batch.sizes)
    for t, size in enumerate([*batch.sizes.tolist(), CHARACTERS_IN_A_PART]):
        is_cut = bool(batch.span) and 0 < t < steps and t % batch.span == 0
        if is_cut or (end > start and end + size - start > CHARACTERS_IN_A_PART):
            rows, sizes = slice(start, end), batch.sizes[begin:t]
            cut = size if is_cut else 0
            parts.append(_Part(batch.ids[rows], batch.targets[rows], sizes, batch.span, cut=cut))
            begin, start = t, end
        end += size
    return parts


def parts_of(batch: Batch) -> list[Array]:
    """The rows of each step, of each part that a batch is passed in."""
    return [part.sizes for part in _parts(batch)]
