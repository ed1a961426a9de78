"""The network a second time, on the graph, from its equations alone: no backward is written here.

Owns each cell's forward on nodes, and the loss of a packed batch through any such cell. `checking`
and the tests hold the hand-written passes to it. It is slow, and it is the workbench: a cell that
is nothing yet but a function from (params, a_x, state) to its new state trains through
`graph_loss` (docs/how-it-works.md, "A cell of your own").
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from charrnn.graph import Node, backward, constant, parameter
from charrnn.model import CharRNN
from charrnn.operations import gather, sigmoid, softmax_cross_entropy, tanh
from charrnn.packed import Batch
from charrnn.parameters import Array

GraphCell = Callable[[Mapping[str, Node], Node, list[Node]], list[Node]]
"""(recurrent parameters, a_x (B, G*H), state parts (B, H)) -> the new state; [0] is the output."""


def column_blocks(x: Node, width: int) -> list[Node]:
    """(B, G*H) -> G times (B, H)."""
    return [x[:, start : start + width] for start in range(0, x.value.shape[1], width)]


def rnn(params: Mapping[str, Node], a_x: Node, state: list[Node]) -> list[Node]:
    """h = tanh(a_x + h_prev W)."""
    return [tanh(a_x + state[0] @ params["W"])]


def lstm(params: Mapping[str, Node], a_x: Node, state: list[Node]) -> list[Node]:
    """c = f * c_prev + i * g; h = o * tanh(c)."""
    h, c = state
    a_i, a_f, a_o, a_g = column_blocks(a_x + h @ params["W"], h.value.shape[1])
    c = sigmoid(a_f) * c + sigmoid(a_i) * tanh(a_g)
    return [sigmoid(a_o) * tanh(c), c]


def gru(params: Mapping[str, Node], a_x: Node, state: list[Node]) -> list[Node]:
    """n = tanh(a_n + r * (h_prev W_n + b_h)); h = (1 - z) * n + z * h_prev."""
    (h,) = state
    a_r, a_z, a_n = column_blocks(a_x, h.value.shape[1])
    p_r, p_z, p_n = column_blocks(h @ params["W"], h.value.shape[1])
    r, z = sigmoid(a_r + p_r), sigmoid(a_z + p_z)
    n = tanh(a_n + r * (p_n + params["b_h"]))
    return [(1 - z) * n + z * h]


GRAPH_CELLS: dict[str, GraphCell] = {"rnn": rnn, "lstm": lstm, "gru": gru}


def graph_loss(
    cell: GraphCell, params: Mapping[str, Node], batch: Batch, first: list[list[Node]]
) -> tuple[Node, list[list[Node]]]:
    """Mean cross-entropy of a packed batch, nats per character, as a node; and the last states of
    the sequences that reach the end.

    Args:
        cell: what recurs.
        params: leaves under the names of the weights file: layers.0.U, ..., out.V, out.c.
        batch: packed.
        first: for each layer the parts of its state (B, H), for B = batch.sizes[0] sequences.
    """
    layers = [_layer(params, n) for n in range(len(first))]
    states, start = [list(parts) for parts in first], 0
    total = constant(np.zeros((), params["out.c"].value.dtype))
    for size in batch.sizes.tolist():
        rows = slice(start, start + size)
        x = gather(layers[0]["U"], batch.ids[rows])
        for n, layer in enumerate(layers):
            a_x = (x @ layer["U"] if n else x) + layer["b"]
            states[n] = cell(layer, a_x, [part[:size] for part in states[n]])
            x = states[n][0]
        logits = x @ params["out.V"] + params["out.c"]
        total = total + softmax_cross_entropy(logits, batch.targets[rows])
        start += size
    return total * (1 / start), states


def _layer(params: Mapping[str, Node], n: int) -> dict[str, Node]:
    prefix = f"layers.{n}."
    return {key.removeprefix(prefix): p for key, p in params.items() if key.startswith(prefix)}


def graph_gradients(
    model: CharRNN, batch: Batch, state: Array
) -> tuple[float, dict[str, Array], Array]:
    """What `CharRNN.loss_and_grads` computes by hand: the mean loss, the gradients by the
    parameters, and the one by the first state (L, S, B, H).
    """
    params = {name: parameter(array.copy()) for name, array in model.params.items()}
    first = [[parameter(part.copy()) for part in layer] for layer in state]
    mean, _ = graph_loss(GRAPH_CELLS[model.config.cell], params, batch, first)
    backward(mean)
    grads = {name: gradient(node) for name, node in params.items()}
    dstate = np.array([[gradient(part) for part in layer] for layer in first])
    return float(mean.value), grads, dstate


def gradient(node: Node) -> Any:
    """A leaf's gradient; zero where the loss doesn't depend on it."""
    return np.zeros_like(node.value) if node.grad is None else node.grad
