"""CharRNN: an embedding by row, stacked recurrent layers, a softmax over the vocabulary.

    a_x = U[id] + b, then x U + b above the first layer;  logits = V h + c;  loss in nats

Owns the parameters' names, shapes and start; `step` (generation), `forward`/`backward` (the
readable form) and `loss_and_grads` (training). What recurs belongs to the cells. A model holds
no state of a computation, so threads may share it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.cells import cell_named
from charrnn.config import ModelConfig
from charrnn.ops import (
    Array,
    Workspace,
    cross_entropy,
    dropout_mask,
    gather_rows_backward,
    matmul_rows,
)
from charrnn.parameters import Parameters

LOGITS_IN_A_BLOCK = 1 << 21  # the output layer's temporary arrays stay under 8 MB of float32


@dataclass(frozen=True)
class Batch:
    """A packed batch: time-major, sequences sorted by falling length, no padding.

    ids, targets: (N,) integers; sizes: (T,), the rows of each step, never growing.
    """

    ids: Array
    targets: Array
    sizes: Array


class CharRNN:
    """The network: a configuration and its parameters."""

    def __init__(self, config: ModelConfig, params: Parameters) -> None:
        self.config = config
        self.params = params
        self.cell = cell_named(config.cell)
        assert params.shapes == parameter_shapes(config), "parameters of another configuration"
        self._layers = [params.layer(f"layers.{n}.") for n in range(config.num_layers)]

    @classmethod
    def initialized(
        cls, config: ModelConfig, rng: np.random.Generator, dtype: Any = np.float32
    ) -> "CharRNN":
        """A new network. Weights uniform in ±1/sqrt(fan-in), or normal with standard deviation
        0.01 (Karpathy); biases zero, but for those that the cell sets (the LSTM's forget gate).
        """
        cell = cell_named(config.cell)
        params = Parameters.zeros(parameter_shapes(config), dtype)
        for name, array in params.items():
            if array.ndim == 2:
                bound = 1 / np.sqrt(array.shape[0])
                array[...] = (
                    rng.uniform(-bound, bound, array.shape)
                    if config.init == "uniform"
                    else rng.normal(0, 0.01, array.shape)
                )
            elif name.endswith(".b"):
                array[...] = cell.init_bias(config.hidden_size)
        return cls(config, params)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 to train and generate, float64 to check."""
        return self.params.flat.dtype

    def init_state(self, batch_size: int) -> Array:
        """The state before the first symbol: zeros, (L, S, B, H)."""
        c = self.config
        return np.zeros((c.num_layers, len(self.cell.parts), batch_size, c.hidden_size), self.dtype)

    def step(self, ids: Array, state: Array) -> tuple[Array, Array]:
        """One symbol for each sequence; each row's result depends on that row alone, bit for bit.

        Args:
            ids: (B,) integers.
            state: (L, S, B, H).

        Returns:
            The logits of the next symbol (B, V), and the new state (L, S, B, H).
        """
        logits, state, _ = self._step(ids, state)
        return logits, state

    def _step(self, ids: Array, state: Array) -> tuple[Array, Array, list[Any]]:
        states, caches = [], []
        x = None
        for layer, layer_state in zip(self._layers, state, strict=True):
            product = layer["U"][ids] if x is None else matmul_rows(x, layer["U"])
            new, cache = self.cell.forward(layer, product + layer["b"], layer_state)
            caches.append((x, cache))
            states.append(new)
            x = new[0]  # (B, H)
        assert x is not None
        logits = matmul_rows(x, self.params["out.V"]) + self.params["out.c"]
        return logits, np.stack(states), [*caches, x]

    def forward(self, ids: Array, state: Array) -> tuple[Array, Array, Any]:
        """T times `step`: the readable form, for tests and study; no dropout.

        Args:
            ids: (B, T) integers.
            state: (L, S, B, H).

        Returns:
            Logits (B, T, V), the last state, and the cache for `backward`.
        """
        logits, caches = [], []
        for t in range(ids.shape[1]):
            step_logits, state, cache = self._step(ids[:, t], state)
            logits.append(step_logits)
            caches.append(cache)
        return np.stack(logits, axis=1), state, (ids, caches)

    def backward(self, dlogits: Array, dstate: Array, cache: Any) -> tuple[Parameters, Array]:
        """Back through `forward`: backpropagation through time, step by step.

        Args:
            dlogits: (B, T, V).
            dstate: (L, S, B, H), the gradient by the last state.
            cache: from `forward`.

        Returns:
            The gradients by the parameters, and by the first state (L, S, B, H).
        """
        ids, caches = cache
        grads, dstate = self.params.like(), dstate.copy()
        dlayers = [grads.layer(f"layers.{n}.") for n in range(len(self._layers))]
        for t in reversed(range(ids.shape[1])):
            *layer_caches, top = caches[t]
            grads["out.V"][...] += top.T @ dlogits[:, t]
            grads["out.c"][...] += dlogits[:, t].sum(axis=0)
            dx = dlogits[:, t] @ self.params["out.V"].T  # (B, H)
            for n in reversed(range(len(self._layers))):
                layer, dlayer, (x, cell_cache) = self._layers[n], dlayers[n], layer_caches[n]
                dstate[n, 0] += dx
                da_x, dstate[n], dcell = self.cell.backward(layer, dstate[n], cell_cache)
                for name, gradient in dcell.items():
                    dlayer[name] += gradient
                dlayer["b"] += da_x.sum(axis=0)
                if x is None:
                    np.add.at(dlayer["U"], ids[:, t], da_x)
                else:
                    dlayer["U"] += x.T @ da_x
                    dx = da_x @ layer["U"].T
        return grads, dstate

    def loss(self, batch: Batch, state: Array, work: Workspace) -> tuple[float, Array]:
        """Summed cross-entropy of a packed batch, in nats, without dropout.

        Args:
            batch: packed.
            state: (L, S, B, H), for B = batch.sizes[0] sequences.
            work: buffers.

        Returns:
            The sum over all targets, and each sequence's last state.
        """
        x, final, _ = self._forward_packed(batch, state, work, None)
        total = 0.0
        for rows in self._blocks(len(x)):
            total += cross_entropy(self._logits(x[rows], work), batch.targets[rows], gradient=False)
        return total, final

    def loss_and_grads(
        self,
        batch: Batch,
        state: Array,
        grads: Parameters,
        work: Workspace,
        *,
        rng: np.random.Generator | None = None,
        dstate: Array | None = None,
    ) -> tuple[float, Array, Array]:
        """Mean cross-entropy of a packed batch, nats per character, and its gradients.

        Args:
            batch: packed.
            state: (L, S, B, H), for B = batch.sizes[0] sequences; no gradient flows out of it
                into an earlier batch (truncated backpropagation through time).
            grads: overwritten with the gradients.
            work: buffers.
            rng: draws the dropout masks; None for no dropout.
            dstate: (L, S, B, H), a gradient by the last states; None for zero.

        Returns:
            The loss, each sequence's last state, and the gradient by `state`.
        """
        x, final, caches = self._forward_packed(batch, state, work, rng)
        loss, dx = self._output_backward(batch, x, grads, work)
        dstate = np.zeros_like(state) if dstate is None else dstate
        dinitial = np.empty_like(state)
        for n in reversed(range(len(self._layers))):
            layer, dlayer = self._layers[n], grads.layer(f"layers.{n}.")
            layer_input, mask, cell_cache, layer_work = caches[n]
            if mask is not None:
                dx *= mask
            da_x, dinitial[n] = self.cell.backward_sequence(
                layer, dx, dstate[n], cell_cache, dlayer, layer_work
            )
            np.sum(da_x, axis=0, out=dlayer["b"])
            if layer_input is None:
                gather_rows_backward(batch.ids, da_x, dlayer["U"], work)
            else:
                np.matmul(layer_input.T, da_x, dlayer["U"])
                np.matmul(da_x, layer["U"].T, dx)
        return loss, final, dinitial

    def _forward_packed(
        self, batch: Batch, state: Array, work: Workspace, rng: np.random.Generator | None
    ) -> tuple[Array, Array, list[Any]]:
        """All layers over a packed batch: (the output layer's input, last states, caches)."""
        caches: list[Any] = []
        final, dropout, x = np.empty_like(state), self.config.dropout, None
        for n, layer in enumerate(self._layers):
            layer_work = work.child(f"layer {n}")
            a_x = layer_work.take("a_x", (len(batch.ids), len(layer["b"])), self.dtype)
            if x is None:
                np.take(layer["U"] + layer["b"], batch.ids, axis=0, out=a_x, mode="clip")
            else:
                np.matmul(x, layer["U"], a_x)
                a_x += layer["b"]
            layer_input: Array | None = x
            h, final[n], cache = self.cell.forward_sequence(
                layer, a_x, batch.sizes, state[n], layer_work
            )
            mask = None
            x = h
            if rng is not None and dropout:
                mask = dropout_mask(h.shape, dropout, rng)
                x = layer_work.take("dropped", h.shape, self.dtype)
                np.multiply(h, mask, x)
            caches.append((layer_input, mask, cache, layer_work))
        assert x is not None
        return x, final, caches

    def _output_backward(
        self, batch: Batch, x: Array, grads: Parameters, work: Workspace
    ) -> tuple[float, Array]:
        """The output layer, forward and backward, block by block: (mean loss, gradient by x)."""
        V, dV, dc = self.params["out.V"], grads["out.V"], grads["out.c"]
        dx = work.take("dx", x.shape, self.dtype)
        total, scale = 0.0, self.dtype.type(1 / len(x))
        dV[...] = 0
        dc[...] = 0
        for rows in self._blocks(len(x)):
            dlogits = self._logits(x[rows], work)
            total += cross_entropy(dlogits, batch.targets[rows], gradient=True)
            dlogits *= scale
            dV += x[rows].T @ dlogits
            dc += dlogits.sum(axis=0)
            np.matmul(dlogits, V.T, dx[rows])
        return total / len(x), dx

    def _logits(self, x: Array, work: Workspace) -> Array:
        logits = work.take("logits", (len(x), self.config.vocab_size), self.dtype)
        np.matmul(x, self.params["out.V"], logits)
        logits += self.params["out.c"]
        return logits

    def _blocks(self, n: int) -> list[slice]:
        size = max(1, LOGITS_IN_A_BLOCK // self.config.vocab_size)
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all parameters, in the order of the flat vector."""
    cell, H = cell_named(config.cell), config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {}
    for n in range(config.num_layers):
        width = len(cell.gates) * H
        own = cell.shapes(H)
        shapes[f"layers.{n}.U"] = (H if n else config.vocab_size, width)
        shapes[f"layers.{n}.W"] = own.pop("W")
        shapes[f"layers.{n}.b"] = (width,)
        shapes.update({f"layers.{n}.{name}": shape for name, shape in own.items()})
    return {**shapes, "out.V": (H, config.vocab_size), "out.c": (config.vocab_size,)}


def count_parameters(params: Mapping[str, Array]) -> int:
    """How many numbers the network has learned."""
    return sum(array.size for array in params.values())
