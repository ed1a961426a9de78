"""Classic 5: the course notes' RNN, GRU and LSTM, forward and backward, in their notation.

    python examples/classics/course.py

Columns, (n_a, m): a the hidden state, c the memory, x the input; G_u, G_f, G_o, G_r stand for the
notes' gates (capital gamma), c~ is `cct`. In our letters, where rows are samples:

    theirs     a   x   c   G_u       G_f   G_o   c~   W_aa^T  W_ax^T  W_ya^T
    ours       h   x   c   i         f     o     g    W       U       V
    GRU        h   x       1 - z                 n    G_r is our r

The notes' GRU resets the memory before its product, W_c [G_r * c, x]; ours, like cuDNN's, after it.
With one hidden unit the two are one function; with more they are not.

Their LSTM gradients (equations 8 to 10 of the course) lack a bracket: both terms belong before the
gate's own slope. `Form` makes each of the mistakes, and the errors against central differences show
which are mistakes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as `python examples/...` too

from dataclasses import dataclass

import numpy as np

from charrnn.gradients import numerical_gradient, relative_error
from charrnn.ops import Array, sigmoid
from charrnn.tables import table

N_A, N_X, SAMPLES, STEPS = 5, 3, 2, 4
Params = dict[str, Array]
Grads = dict[str, Array]


def rnn_forward(params: Params, x: Array, a_prev: Array) -> tuple[Array, tuple[Array, ...]]:
    """a = tanh(W_aa a_prev + W_ax x + b_a)."""
    a = np.tanh(params["Waa"] @ a_prev + params["Wax"] @ x + params["ba"])
    return a, (x, a_prev, a)


def rnn_backward(params: Params, da: Array, cache: tuple[Array, ...]) -> Grads:
    """dz = da * (1 - a^2), and on to W_aa, W_ax, b_a, x and a_prev."""
    x, a_prev, a = cache
    dz = da * (1 - a**2)
    grads = {"Waa": dz @ a_prev.T, "Wax": dz @ x.T, "ba": dz.sum(axis=1, keepdims=True)}
    return {**grads, "x": params["Wax"].T @ dz, "a_prev": params["Waa"].T @ dz}


def gru_forward(params: Params, x: Array, c_prev: Array) -> tuple[Array, tuple[Array, ...]]:
    """c~ = tanh(W_c [G_r * c_prev; x] + b_c), c = G_u * c~ + (1 - G_u) * c_prev."""
    both = np.concatenate([c_prev, x])
    G_u, G_r = (sigmoid(params[f"W{g}"] @ both + params[f"b{g}"]) for g in "ur")
    reset = np.concatenate([G_r * c_prev, x])
    cct = np.tanh(params["Wc"] @ reset + params["bc"])
    return G_u * cct + (1 - G_u) * c_prev, (both, reset, c_prev, G_u, G_r, cct)


def gru_backward(params: Params, dc: Array, cache: tuple[Array, ...]) -> Grads:
    """Back through `gru_forward`; the notes leave it out."""
    both, reset, c_prev, G_u, G_r, cct = cache
    n_a = len(c_prev)
    dz_c = dc * G_u * (1 - cct**2)
    dreset = params["Wc"].T @ dz_c
    dz_u = dc * (cct - c_prev) * G_u * (1 - G_u)
    dz_r = dreset[:n_a] * c_prev * G_r * (1 - G_r)
    dboth = params["Wu"].T @ dz_u + params["Wr"].T @ dz_r
    grads = {"Wc": dz_c @ reset.T, "Wu": dz_u @ both.T, "Wr": dz_r @ both.T}
    for gate, dz in (("c", dz_c), ("u", dz_u), ("r", dz_r)):
        grads[f"b{gate}"] = dz.sum(axis=1, keepdims=True)
    grads["a_prev"] = dc * (1 - G_u) + dreset[:n_a] * G_r + dboth[:n_a]
    grads["x"] = dreset[n_a:] + dboth[n_a:]
    return grads


def lstm_forward(
    params: Params, x: Array, a_prev: Array, c_prev: Array
) -> tuple[Array, Array, tuple[Array, ...]]:
    """c = G_u * c~ + G_f * c_prev, a = G_o * tanh(c)."""
    both = np.concatenate([a_prev, x])
    G_u, G_f, G_o = (sigmoid(params[f"W{g}"] @ both + params[f"b{g}"]) for g in "ufo")
    cct = np.tanh(params["Wc"] @ both + params["bc"])
    c = G_u * cct + G_f * c_prev
    return G_o * np.tanh(c), c, (both, c_prev, G_u, G_f, G_o, cct, c)


@dataclass(frozen=True)
class Form:
    """How the LSTM's gradients are put together; the default is right.

    bracket: whether the gate's slope multiplies both terms. slope: of c~, as it must be or as the
    notes print it. i_t: the gate that stands for the notes' stray i_t. state, output: the term that
    comes back through the next cell state, and the one through this step's output.
    """

    bracket: bool = True
    slope: str = "1 - c~^2"
    i_t: str = "G_u"
    state: bool = True
    output: bool = True


def lstm_backward(
    params: Params, da: Array, dc: Array, cache: tuple[Array, ...], form: Form = Form()
) -> Grads:
    """Back through `lstm_forward`, for the gradients by its a and its c."""
    both, c_prev, G_u, G_f, G_o, cct, c = cache
    first, second = dc * form.state, G_o * (1 - np.tanh(c) ** 2) * da * form.output
    i_t = {"G_u": G_u, "G_f": G_f, "G_o": G_o}[form.i_t]
    slope = 1 - cct**2 if form.slope == "1 - c~^2" else cct * (1 - np.tanh(cct**2))

    def joined(times: Array, own: Array, times_second: Array | None = None) -> Array:
        again = times if times_second is None else times_second
        if form.bracket:
            return (first * times + second * again) * own
        return first * times + second * again * own

    dz = {
        "o": da * np.tanh(c) * G_o * (1 - G_o),
        "c": joined(G_u, slope, i_t),
        "u": joined(cct, G_u * (1 - G_u)),
        "f": joined(c_prev, G_f * (1 - G_f)),
    }
    grads = {f"W{gate}": each @ both.T for gate, each in dz.items()}
    grads |= {f"b{gate}": each.sum(axis=1, keepdims=True) for gate, each in dz.items()}
    dboth = sum(params[f"W{gate}"].T @ each for gate, each in dz.items())
    n_a = len(c_prev)
    return {**grads, "a_prev": dboth[:n_a], "x": dboth[n_a:], "c_prev": (first + second) * G_f}


def lstm_sequence(
    params: Params, xs: Array, a: Array, c: Array
) -> tuple[list[Array], list[tuple[Array, ...]]]:
    """All a (n_a, m), and the caches, for xs (T, n_x, m)."""
    states, caches = [], []
    for x in xs:
        a, c, cache = lstm_forward(params, x, a, c)
        states.append(a)
        caches.append(cache)
    return states, caches


def lstm_sequence_backward(
    params: Params, das: Array, caches: list[tuple[Array, ...]], hand_on: str
) -> Grads:
    """Back through time, for the gradients `das` by each a. What is handed from a step to the one
    before it: "a" and "c" (right); the course's first `lstm_backward` handed on neither.
    """
    grads = {name: np.zeros_like(p) for name, p in params.items()}
    da_next, dc_next, dxs = np.zeros_like(das[0]), np.zeros_like(das[0]), []
    found: Grads = {}
    for da, cache in zip(das[::-1], caches[::-1], strict=True):
        found = lstm_backward(params, da + da_next, dc_next, cache)
        for name in params:
            grads[name] += found[name]
        dxs.append(found["x"])
        da_next = found["a_prev"] * ("a" in hand_on)
        dc_next = found["c_prev"] * ("c" in hand_on)
    return {**grads, "x": np.array(dxs[::-1]), "a0": found["a_prev"]}


def drawn(gates: str, seed: int = 0, n_a: int = N_A) -> tuple[np.random.Generator, Params]:
    """Random weights and biases for gates on [a; x]."""
    rng = np.random.default_rng(seed)
    params = {f"W{gate}": rng.normal(size=(n_a, n_a + N_X)) for gate in gates}
    return rng, {**params, **{f"b{gate}": rng.normal(size=(n_a, 1)) for gate in gates}}


def step_errors(form: Form = Form()) -> dict[str, float]:
    """One LSTM step's gradients in a form, against central differences."""
    rng, params = drawn("ufoc")
    x, (a, c, da, dc) = rng.normal(size=(N_X, SAMPLES)), rng.normal(size=(4, N_A, SAMPLES))

    def loss(_: Array) -> float:
        a_next, c_next, _cache = lstm_forward(params, x, a, c)
        return float((a_next * da + c_next * dc).sum())

    found = lstm_backward(params, da, dc, lstm_forward(params, x, a, c)[2], form)
    arrays = {**params, "x": x, "a_prev": a, "c_prev": c}
    return {n: relative_error(found[n], numerical_gradient(loss, p)) for n, p in arrays.items()}


def sequence_errors(hand_on: str) -> dict[str, float]:
    """The gradients of a whole sequence, against central differences."""
    rng, params = drawn("ufoc")
    xs, das = rng.normal(size=(STEPS, N_X, SAMPLES)), rng.normal(size=(STEPS, N_A, SAMPLES))
    a, c = rng.normal(size=(N_A, SAMPLES)), np.zeros((N_A, SAMPLES))

    def loss(_: Array) -> float:
        return float((np.array(lstm_sequence(params, xs, a, c)[0]) * das).sum())

    found = lstm_sequence_backward(params, das, lstm_sequence(params, xs, a, c)[1], hand_on)
    arrays = {**params, "x": xs, "a0": a}
    return {n: relative_error(found[n], numerical_gradient(loss, p)) for n, p in arrays.items()}


FORMS = {
    "right": Form(),
    "as printed": Form(bracket=False, slope="printed"),
    "no bracket": Form(bracket=False),
    "slope c~ (1 - tanh(c~^2))": Form(slope="printed"),
    "i_t = G_f": Form(i_t="G_f"),
    "i_t = G_o": Form(i_t="G_o"),
    "first term only": Form(output=False),
    "second term only": Form(state=False),
}
LOOPS = {"right": "ac", "as in the course": "", "only da handed on": "a", "only dc handed on": "c"}


def main() -> None:
    """Print the errors of each form of a step, and of each loop through time."""
    shown = ("Wc", "Wu", "Wf", "Wo", "a_prev", "c_prev", "x")
    rows = [(name, *(f"{step_errors(form)[k]:.1e}" for k in shown)) for name, form in FORMS.items()]
    print("one LSTM step, relative distance from central differences")
    print(table(("form", *(f"d{name}" for name in shown)), rows))
    columns = ("Wc", "Wu", "Wf", "Wo", "a0", "x")
    lines = [
        (n, *(f"{sequence_errors(loop)[k]:.1e}" for k in columns)) for n, loop in LOOPS.items()
    ]
    print(f"\nlstm_backward over {STEPS} steps")
    print(table(("loop", *(f"d{name}" for name in columns)), lines))


if __name__ == "__main__":
    main()
