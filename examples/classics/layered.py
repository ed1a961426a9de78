"""Classic 4: layers that hold their own weights, and the LSTM whose gradients were wrong.

    python examples/classics/layered.py [--quick]

A layer takes a list of inputs and returns a list of states; on the way back it takes the list of
gradients by its states and returns the one by its inputs, in one loop through time. Layers stack;
an output layer ends them. That is what `CharRNN` is, and the numbers are the same.

The LSTM of the original (no peepholes; each gate with U, W and a bias) has two mistakes on its way
back, which `LSTMLayer` makes on demand:

    input gate    its delta is  dc * h(c)  with h = tanh, the cell's output non-linearity;
                  it must be    dc * g,    g the cell's input (Graves 2012, "Supervised Sequence
                  Labelling with Recurrent Neural Networks", section 4.6: g(a_c), not h(s_c))
    list of dx    gathered from the last step to the first, and handed to the layer below unturned
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as `python examples/...` too

import argparse
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from charrnn.config import ModelConfig
from charrnn.gradients import numerical_gradient, relative_error
from charrnn.model import CharRNN
from charrnn.ops import Array, Workspace, blocks, log_softmax, sigmoid
from charrnn.packed import Batch
from charrnn.tables import table

HIDDEN, VOCABULARY, STEPS, LAYERS = 4, 5, 6, 2
NAMES = Path(__file__).resolve().parents[2] / "data" / "dinosaurs.txt"
MISTAKES = ("input gate", "list of dx")


class Layer(Protocol):
    """What goes through time in one loop, there and back."""

    grads: dict[str, Array]

    def forward(self, inputs: Sequence[Array]) -> list[Array]:
        """States (H,) for inputs (n,), from a zero state."""

    def backward(self, dstates: Sequence[Array]) -> list[Array]:
        """Gradients by the inputs, for those by the states; leaves `grads`."""


class RNNLayer:
    """s_t = tanh(x_t U + s_{t-1} W + b), with weights of its own."""

    def __init__(self, params: dict[str, Array]) -> None:
        self.params = params
        self.grads = {name: np.zeros_like(p) for name, p in params.items()}

    def forward(self, inputs: Sequence[Array]) -> list[Array]:
        U, W, b = (self.params[name] for name in "UWb")
        self.inputs, self.states = inputs, [np.zeros(len(W))]
        for x in inputs:
            self.states.append(np.tanh(x @ U + self.states[-1] @ W + b))
        return self.states[1:]

    def backward(self, dstates: Sequence[Array]) -> list[Array]:
        dinputs, ds_next = [], np.zeros(len(self.params["W"]))
        for t in reversed(range(len(dstates))):
            da = (dstates[t] + ds_next) * (1 - self.states[t + 1] ** 2)
            self.grads["U"] += np.outer(self.inputs[t], da)
            self.grads["W"] += np.outer(self.states[t], da)
            self.grads["b"] += da
            ds_next = self.params["W"] @ da
            dinputs.append(self.params["U"] @ da)
        return dinputs[::-1]


class LSTMLayer:
    """Gates i, f, o and the cell's input g, columns in that order; `mistakes` of the original."""

    def __init__(self, params: dict[str, Array], mistakes: Sequence[str] = ()) -> None:
        self.params, self.mistakes = params, mistakes
        self.grads = {name: np.zeros_like(p) for name, p in params.items()}

    def forward(self, inputs: Sequence[Array]) -> list[Array]:
        U, W, b = (self.params[name] for name in "UWb")
        self.inputs, self.states, self.cells = inputs, [np.zeros(len(W))], [np.zeros(len(W))]
        self.gates = []
        for x in inputs:
            a_i, a_f, a_o, a_g = blocks((x @ U + self.states[-1] @ W + b)[None], 4)
            i, f, o = (sigmoid(a[0]) for a in (a_i, a_f, a_o))
            g = np.tanh(a_g[0])
            self.gates.append((i, f, o, g))
            self.cells.append(f * self.cells[-1] + i * g)
            self.states.append(o * np.tanh(self.cells[-1]))
        return self.states[1:]

    def backward(self, dstates: Sequence[Array]) -> list[Array]:
        dinputs, H = [], len(self.params["W"])
        ds_next, dc_next = np.zeros(H), np.zeros(H)
        for t in reversed(range(len(dstates))):
            (i, f, o, g), c, c_prev = self.gates[t], self.cells[t + 1], self.cells[t]
            ds, h_c = dstates[t] + ds_next, np.tanh(c)
            dc = dc_next + ds * o * (1 - h_c**2)
            di = dc * (h_c if "input gate" in self.mistakes else g)
            da = np.concatenate(
                [
                    di * i * (1 - i),
                    dc * c_prev * f * (1 - f),
                    ds * h_c * o * (1 - o),
                    dc * i * (1 - g**2),
                ]
            )
            self.grads["U"] += np.outer(self.inputs[t], da)
            self.grads["W"] += np.outer(self.states[t], da)
            self.grads["b"] += da
            ds_next, dc_next = self.params["W"] @ da, dc * f
            dinputs.append(self.params["U"] @ da)
        return dinputs if "list of dx" in self.mistakes else dinputs[::-1]


class OutputLayer:
    """p_t = softmax(s_t V + c); the loss is the sum over steps."""

    def __init__(self, V: Array, c: Array) -> None:
        self.params = {"V": V, "c": c}
        self.grads = {name: np.zeros_like(p) for name, p in self.params.items()}

    def loss(self, states: Sequence[Array], targets: Array) -> tuple[float, list[Array]]:
        """The loss, and its gradients by the states."""
        V, loss, dstates = self.params["V"], 0.0, []
        for s, target in zip(states, targets, strict=True):
            log_p = log_softmax(s @ V + self.params["c"])
            loss -= float(log_p[target])
            dz = np.exp(log_p)
            dz[target] -= 1
            self.grads["V"] += np.outer(s, dz)
            self.grads["c"] += dz
            dstates.append(V @ dz)
        return loss, dstates


KINDS = {"rnn": RNNLayer, "lstm": LSTMLayer}


def gradients(
    model: CharRNN, ids: Array, targets: Array, mistakes: Sequence[str] = ()
) -> tuple[float, dict[str, Array]]:
    """The loss and the gradients of a network's parameters, by layers as above."""
    kind, settings = KINDS[model.config.cell], (mistakes,) if mistakes else ()
    prefixes = [f"layers.{n}." for n in range(model.config.num_layers)]
    layers: list[Layer] = [kind(model.params.layer(p), *settings) for p in prefixes]
    output = OutputLayer(model.params["out.V"], model.params["out.c"])
    xs = list(np.eye(model.config.vocab_size)[ids])
    for layer in layers:
        xs = layer.forward(xs)
    loss, dxs = output.loss(xs, targets)
    for layer in reversed(layers):
        dxs = layer.backward(dxs)
    found = {
        p + name: g
        for p, layer in zip(prefixes, layers, strict=True)
        for name, g in layer.grads.items()
    }
    return loss, {**found, "out.V": output.grads["V"], "out.c": output.grads["c"]}


def case(cell: str, seed: int = 0) -> tuple[CharRNN, Array, Array]:
    """A network with random parameters, a sequence, and what follows."""
    config = ModelConfig(cell=cell, hidden_size=HIDDEN, num_layers=LAYERS, vocab_size=VOCABULARY)
    rng = np.random.default_rng(seed)
    model = CharRNN.initialized(config, rng, np.float64)
    model.params.flat[:] += rng.normal(0, 0.3, model.params.flat.size)
    ids, targets = rng.integers(0, VOCABULARY, (2, STEPS))
    return model, ids, targets


def errors(cell: str, mistakes: Sequence[str] = ()) -> dict[str, float]:
    """How far the layers' gradients lie from central differences of their own loss, relatively."""
    model, ids, targets = case(cell)
    _, found = gradients(model, ids, targets, mistakes)

    def loss(_: Array) -> float:
        return gradients(model, ids, targets)[0]

    numeric = {name: numerical_gradient(loss, array) for name, array in model.params.items()}
    return {name: relative_error(found[name], g) for name, g in numeric.items()}


def distance_from_ours(cell: str) -> float:
    """How far the layers' gradients lie from those of `CharRNN`, at most, relatively."""
    model, ids, targets = case(cell)
    _, found = gradients(model, ids, targets)
    grads, batch = model.params.like(), Batch(ids, targets, np.ones(STEPS, int))
    model.loss_and_grads(batch, model.init_state(1), grads, Workspace())
    return max(relative_error(found[name], g * STEPS) for name, g in grads.items())


def learned(mistakes: Sequence[str] = (), steps: int = 1500) -> tuple[float, float]:
    """Plain gradient steps on dinosaur names with two layers of 16 units: the mean loss of the
    first and of the last hundred names, nats a character. Wrong gradients learn too.
    """
    names = [name for name in NAMES.read_text(encoding="utf-8").lower().split("\n") if name]
    letters = sorted({"\n", *"".join(names)})
    config = ModelConfig(cell="lstm", hidden_size=16, num_layers=LAYERS, vocab_size=len(letters))
    rng = np.random.default_rng(0)
    model = CharRNN.initialized(config, rng, np.float64)
    losses = []
    for k in rng.permutation(len(names))[:steps]:
        ids = np.array([letters.index(letter) for letter in f"\n{names[k]}\n"])
        loss, grads = gradients(model, ids[:-1], ids[1:], mistakes)
        losses.append(loss / len(ids[1:]))
        for name, gradient in grads.items():
            model.params[name][...] -= 0.02 * gradient
    return float(np.mean(losses[:100])), float(np.mean(losses[-100:]))


def main() -> None:
    """Print the distance from ours, then the errors of each mistake alone, and that it learns."""
    parser = argparse.ArgumentParser(description="Layers, and the LSTM with wrong gradients.")
    parser.add_argument("--quick", action="store_true", help="100 names to learn from")
    steps = 100 if parser.parse_args().quick else 1500
    for cell in KINDS:
        print(
            f"{LAYERS} layers of {cell}: relative distance from ours {distance_from_ours(cell):.1e}"
        )
    columns = [errors("lstm"), *(errors("lstm", [mistake]) for mistake in MISTAKES)]
    rows = [(name, *(f"{column[name]:.1e}" for column in columns)) for name in columns[0]]
    head = ("LSTM, gradient by", "right", *(f"mistake: {m}" for m in MISTAKES))
    print("relative distance from central differences:")
    print(table(head, rows))
    for mistakes in ((), *((mistake,) for mistake in MISTAKES)):
        first, last = learned(mistakes, steps)
        what = ", ".join(mistakes) or "no mistake"
        print(f"{steps:,} names, {what}: {first:.3f} nats a character at first, {last:.3f} at last")


if __name__ == "__main__":
    main()
