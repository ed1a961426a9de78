"""The network written a second time, on the graph, from the equations alone: what tests compare
the hand-written passes with.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from charrnn.config import ModelConfig
from charrnn.graph import (
    Node,
    backward,
    constant,
    gather,
    parameter,
    sigmoid,
    softmax_cross_entropy,
    tanh,
)
from charrnn.model import Batch, CharRNN
from charrnn.parameters import Array

GraphCell = Callable[[Mapping[str, Node], Node, list[Node]], list[Node]]


def rnn(params: Mapping[str, Node], a_x: Node, state: list[Node]) -> list[Node]:
    return [tanh(a_x + state[0] @ params["W"])]


def lstm(params: Mapping[str, Node], a_x: Node, state: list[Node]) -> list[Node]:
    h, c = state
    a, H = a_x + h @ params["W"], h.value.shape[1]
    i, f, o = (sigmoid(a[:, k * H : (k + 1) * H]) for k in range(3))
    c = f * c + i * tanh(a[:, 3 * H :])
    return [o * tanh(c), c]


def gru(params: Mapping[str, Node], a_x: Node, state: list[Node]) -> list[Node]:
    (h,) = state
    p, H = h @ params["W"], h.value.shape[1]
    r, z = (sigmoid(a_x[:, k * H : (k + 1) * H] + p[:, k * H : (k + 1) * H]) for k in range(2))
    n = tanh(a_x[:, 2 * H :] + r * (p[:, 2 * H :] + params["b_h"]))
    return [(1 - z) * n + z * h]


GRAPH_CELLS: dict[str, GraphCell] = {"rnn": rnn, "lstm": lstm, "gru": gru}


def graph_gradients(
    model: CharRNN, batch: Batch, state: Array
) -> tuple[float, dict[str, Array], Array]:
    """Mean loss, gradients by the parameters and by the first state (L, S, B, H), by the graph."""
    config: ModelConfig = model.config
    nodes = {name: parameter(array.copy()) for name, array in model.params.items()}
    layers = [
        {n.split(".", 2)[2]: node for n, node in nodes.items() if n.startswith(f"layers.{k}.")}
        for k in range(config.num_layers)
    ]
    first = [[parameter(part.copy()) for part in layer] for layer in state]
    states = [list(parts) for parts in first]
    total, start = constant(np.zeros((), model.dtype)), 0
    for size in batch.sizes.tolist():
        x = gather(layers[0]["U"], ids=batch.ids[start : start + size])
        for k, layer in enumerate(layers):
            product = x @ layer["U"] if k else x
            alive = [part[:size] for part in states[k]]
            states[k] = GRAPH_CELLS[config.cell](layer, product + layer["b"], alive)
            x = states[k][0]
        logits = x @ nodes["out.V"] + nodes["out.c"]
        loss = softmax_cross_entropy(logits, targets=batch.targets[start : start + size])
        total = total + loss
        start += size
    mean = total * (1 / start)
    backward(mean)
    grads = {name: np.asarray(node.grad) for name, node in nodes.items()}
    return float(mean.value), grads, np.array([[part.grad for part in layer] for layer in first])


def pack(sequences: Sequence[tuple[Array, Array]]) -> Batch:
    """A packed batch from (ids, targets) pairs that are already sorted by falling length."""
    longest = len(sequences[0][0])
    sizes = np.array([sum(len(ids) > t for ids, _ in sequences) for t in range(longest)])
    ids = [ids[t] for t in range(longest) for ids, _ in sequences if len(ids) > t]
    targets = [tgt[t] for t in range(longest) for _, tgt in sequences if len(tgt) > t]
    return Batch(np.array(ids), np.array(targets), sizes)


__all__ = ["GRAPH_CELLS", "graph_gradients", "pack"]
