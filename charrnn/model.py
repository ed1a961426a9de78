"""CharRNN: an embedding by row, stacked recurrent layers, a softmax over the vocabulary.

    a_x = U[id] + b, then x U + b above the first layer;  logits = V h + c;  loss in nats

Owns the parameters' names, shapes and start, `step`, and `forward`/`backward`, the readable form;
`loss_and_grads`, for training, it has from `charrnn.packed`. What recurs belongs to the cells. A
model holds no state of a computation, so threads may share it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from charrnn.cells import cell_named
from charrnn.config import ModelConfig
from charrnn.ops import Array
from charrnn.packed import PackedRNN
from charrnn.parameters import Parameters


class CharRNN(PackedRNN):
    """The network: a configuration and its parameters."""

    def __init__(self, config: ModelConfig, params: Parameters) -> None:
        assert params.shapes == parameter_shapes(config), "parameters of another configuration"
        super().__init__(config, params)

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

    def init_state(self, batch_size: int) -> Array:
        """The state before the first symbol: zeros, (L, S, B, H)."""
        c = self.config
        return np.zeros((c.num_layers, len(self.cell.parts), batch_size, c.hidden_size), self.dtype)

    def step(self, ids: Array, state: Array) -> tuple[Array, Array]:
        """One symbol for each sequence, as the equations are written: `CompiledModel` is fast, and
        exact in every row.

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
            product = layer["U"][ids] if x is None else x @ layer["U"]
            new, cache = self.cell.forward(layer, product + layer["b"], layer_state)
            caches.append((x, cache))
            states.append(new)
            x = new[0]  # (B, H)
        assert x is not None
        logits = x @ self.params["out.V"] + self.params["out.c"]
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

    def inside(self, ids: Array) -> tuple[Array, Array, Array]:
        """What the network holds after each symbol, read from the zero state by `forward`.

        Args:
            ids: (B, T) integers.

        Returns:
            The logits of the next symbol (B, T, V); the states (T, L, S, B, H), whose part 0 is
            the output; the gates (T, L, G, B, H), in the order of the cell's `gates`.
        """
        state, logits, states, gates = self.init_state(len(ids)), [], [], []
        for t in range(ids.shape[1]):
            step_logits, state, (*layers, _) = self._step(ids[:, t], state)
            logits.append(step_logits)
            states.append(state)
            gates.append(np.stack([np.stack(self.cell.gate_values(cache)) for _, cache in layers]))
        return np.stack(logits, axis=1), np.stack(states), np.stack(gates)

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
