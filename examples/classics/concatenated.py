"""Classic 1: one weight matrix for [h, x] together.

    python examples/classics/concatenated.py

Many introductions write a recurrent step on the concatenation of the last state and the input:

    h' = tanh([h, x] w + b)                                w (H + n, H)
    gate = sigmoid([h, x] W_gate + b_gate)                 the LSTM's W_f, W_i, W_o, and W_t (tanh)

Ours keeps two matrices, U for the input and W for the state. A product with a concatenation is the
sum of two products, so w is W above U, and nothing else differs: the gradient of w is that of W
above that of U. Sizes as in the original: 2 features, 5 hidden units, 3 steps, one sequence.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as `python examples/...` too

from dataclasses import dataclass

import numpy as np

from charrnn.cells import CELLS
from charrnn.gradients import numerical_gradient, relative_error
from charrnn.ops import Array, sigmoid
from charrnn.tables import table

FEATURES, HIDDEN, STEPS = 2, 5, 3
LSTM_ORDER = ("i", "f", "o", "t")  # the blocks of our columns; t is our g


def rnn_step(x: Array, h: Array, w: Array, b: Array) -> Array:
    """The original's step: (1, n), (1, H) -> (1, H)."""
    return np.tanh(np.concatenate([h, x], axis=-1) @ w + b)


def rnn_sequence(x: Array, h: Array, w: Array, b: Array) -> Array:
    """The last state after all rows of x (T, n)."""
    for row in x:
        h = rnn_step(row[None], h, w, b)
    return h


def lstm_step(
    x: Array, h: Array, c: Array, w: dict[str, Array], b: dict[str, Array]
) -> tuple[Array, Array]:
    """One step with a matrix for each gate on [h, x], as drawn in the original."""
    hx = np.concatenate([h, x], axis=-1)
    f, i, o = (sigmoid(hx @ w[gate] + b[gate]) for gate in "fio")
    c = f * c + i * np.tanh(hx @ w["t"] + b["t"])
    return o * np.tanh(c), c


def split(w: Array) -> tuple[Array, Array]:
    """(W, U): the rows for h, and those for x."""
    return w[:HIDDEN], w[HIDDEN:]


def ours(cell: str, x: Array, state: Array, w: Array, b: Array) -> tuple[Array, list[object]]:
    """The same sequence through our cell: its last state (S, 1, H), and the caches."""
    (W, U), caches = split(w), []
    for row in x:
        state, cache = CELLS[cell].forward({"W": W}, row[None] @ U + b, state)
        caches.append(cache)
    return state, caches


def our_gradient(x: Array, w: Array, b: Array, h: Array, dh: Array) -> Array:
    """The gradient of sum(dh * last state) by w, back through our vanilla cell."""
    W, U = split(w)
    _, caches = ours("rnn", x, h[None], w, b)
    dW, dU, dstate = np.zeros_like(W), np.zeros_like(U), dh[None]
    for row, cache in zip(x[::-1], caches[::-1], strict=True):
        da, dstate, grads = CELLS["rnn"].backward({"W": W}, dstate, cache)
        dW += grads["W"]
        dU += row[:, None] @ da
    return np.concatenate([dW, dU])


@dataclass(frozen=True)
class Figures:
    """Largest absolute differences; the last is relative."""

    rnn_step: float
    rnn_sequence: float
    lstm_sequence: float
    gradient: float


def compare(seed: int = 0) -> Figures:
    """The original's form against ours, on random weights."""
    rng = np.random.default_rng(seed)
    x, h = rng.normal(size=(STEPS, FEATURES)), rng.normal(size=(1, HIDDEN))
    w, b = rng.normal(size=(HIDDEN + FEATURES, HIDDEN)), rng.normal(size=(1, HIDDEN))
    one, _ = ours("rnn", x[:1], h[None], w, b)
    all_steps, _ = ours("rnn", x, h[None], w, b)
    dh = rng.normal(size=h.shape)
    numeric = numerical_gradient(lambda w: float((rnn_sequence(x, h, w, b) * dh).sum()), w)

    gates = {gate: rng.normal(size=w.shape) for gate in LSTM_ORDER}
    biases = {gate: rng.normal(size=b.shape) for gate in LSTM_ORDER}
    c = rng.normal(size=h.shape)
    columns = [np.concatenate([each[g] for g in LSTM_ORDER], axis=1) for each in (gates, biases)]
    last, _ = ours("lstm", x, np.stack([h, c]), *columns)
    state = (h, c)
    for row in x:
        state = lstm_step(row[None], *state, gates, biases)
    return Figures(
        float(np.abs(one[0] - rnn_step(x[:1], h, w, b)).max()),
        float(np.abs(all_steps[0] - rnn_sequence(x, h, w, b)).max()),
        float(np.abs(last - np.stack(state)).max()),
        relative_error(our_gradient(x, w, b, h, dh), numeric),
    )


def main() -> None:
    """Print the differences."""
    found = compare()
    rows = [
        ("one step of the vanilla network", f"{found.rnn_step:.1e}"),
        (f"{STEPS} steps of it", f"{found.rnn_sequence:.1e}"),
        (f"{STEPS} steps of the LSTM, h and c", f"{found.lstm_sequence:.1e}"),
        ("gradient by w, against differences", f"{found.gradient:.1e}"),
    ]
    print(table(("[h, x] with one matrix, beside U and W", "largest difference"), rows))


if __name__ == "__main__":
    main()
