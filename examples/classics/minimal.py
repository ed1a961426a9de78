"""Classic 2: the minimal character RNN (Karpathy 2015, min-char-rnn).

    python examples/classics/minimal.py [--iterations 20000] [--text FILE]

    h_t = tanh(U x_t + W h_{t-1} + b)     p_t = softmax(V h_t + c)     loss = -sum_t ln p_t[y_t]

Normal start with standard deviation 0.01, biases 0; 25 characters an iteration, the state carried
on; each gradient clipped to ±5; Adagrad at 0.1 with 1e-8 inside its root; 100 hidden units; every
thousand iterations a sample of 200 characters; the loss smoothed by 0.999.

`published` is those equations, with one-hot columns, as the original has them. `Ours` is the same
training by `CharRNN`, whose loss is a mean: a gradient is 1/25 of the original's, so clipping is at
5/25, and epsilon is 1e-8/625; Adagrad then takes the same steps.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as `python examples/...` too

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

from charrnn.config import CorpusConfig, ModelConfig, TrainConfig
from charrnn.corpus import load_corpus
from charrnn.evaluation import evaluate
from charrnn.model import CharRNN
from charrnn.ops import Array, Workspace
from charrnn.optimizers import OPTIMIZERS, clip_by_value
from charrnn.packed import Batch
from charrnn.parameters import Parameters

STEPS, HIDDEN, RATE, CLIP, EPSILON = 25, 100, 0.1, 5.0, 1e-8
TEXT = Path(__file__).resolve().parents[2] / "data" / "rex-chat.txt"


def published(
    params: Mapping[str, Array], ids: Array, targets: Array, h: Array
) -> tuple[float, dict[str, Array], Array]:
    """The original's loss (a sum), its gradients, and the last state, as its equations have them.

    Args:
        params: U (H, V), W (H, H), V (V, H), b (H, 1), c (V, 1): columns, as in the original.
        ids, targets: (T,).
        h: (H, 1), the state to begin with.
    """
    U, W, V, b, c = (params[name] for name in "UWVbc")
    one_hot = np.eye(len(c))[:, :, None]  # column k is x for symbol k
    states, probabilities, loss = [h], [], 0.0
    for t in range(len(ids)):
        states.append(np.tanh(U @ one_hot[ids[t]] + W @ states[-1] + b))
        y = V @ states[-1] + c
        probabilities.append(np.exp(y) / np.exp(y).sum())
        loss -= float(np.log(probabilities[-1][targets[t], 0]))
    grads = {name: np.zeros_like(p) for name, p in params.items()}
    dh_next = np.zeros_like(h)
    for t in reversed(range(len(ids))):
        dy = probabilities[t] - one_hot[targets[t]]
        grads["V"] += dy @ states[t + 1].T
        grads["c"] += dy
        da = (V.T @ dy + dh_next) * (1 - states[t + 1] ** 2)
        grads["b"] += da
        grads["U"] += da @ one_hot[ids[t]].T
        grads["W"] += da @ states[t].T
        dh_next = W.T @ da
    return loss, grads, states[-1]


def as_columns(params: Mapping[str, Array]) -> dict[str, Array]:
    """Our parameters, or gradients, in the original's shapes."""
    return {
        "U": params["layers.0.U"].T,
        "W": params["layers.0.W"].T,
        "V": params["out.V"].T,
        "b": params["layers.0.b"][:, None],
        "c": params["out.c"][:, None],
    }


def network(vocab: int, seed: int = 0, hidden: int = HIDDEN, dtype: Any = np.float64) -> CharRNN:
    """A network with the original's start."""
    config = ModelConfig(cell="rnn", hidden_size=hidden, vocab_size=vocab, init="normal")
    return CharRNN.initialized(config, np.random.default_rng(seed), dtype)


class Ours:
    """The training, with our passes and our Adagrad."""

    def __init__(self, model: CharRNN, ids: Array) -> None:
        self.model, self.ids, self.work = model, ids, Workspace()
        config = TrainConfig(optimizer="adagrad", epsilon=EPSILON / STEPS**2)
        self.optimizer = OPTIMIZERS["adagrad"](model.params, config)
        self.grads = model.params.like()
        self.state, self.place, self.count = model.init_state(1), 0, 0

    def step(self) -> float:
        """One iteration; its loss, summed over the characters."""
        if self.place + STEPS + 1 > len(self.ids):
            self.state, self.place = self.model.init_state(1), 0
        a = self.place
        window = slice(a, a + STEPS), slice(a + 1, a + STEPS + 1)
        batch = Batch(self.ids[window[0]], self.ids[window[1]], np.ones(STEPS, int))
        loss, self.state, _ = self.model.loss_and_grads(batch, self.state, self.grads, self.work)
        clip_by_value(self.grads.flat, CLIP / STEPS)
        self.count += 1
        self.optimizer.step(self.model.params.flat, self.grads.flat, RATE, self.count)
        self.place += STEPS
        return loss * STEPS


def published_training(params: Parameters, ids: Array, iterations: int) -> list[float]:
    """The original's training, which changes `params`; the loss of each iteration."""
    columns = as_columns(params)  # views: what changes them changes the parameters
    memory = {name: np.zeros_like(p) for name, p in columns.items()}
    h, place, losses = np.zeros((len(columns["b"]), 1)), 0, []
    for _ in range(iterations):
        if place + STEPS + 1 > len(ids):
            h, place = np.zeros_like(h), 0
        window = ids[place : place + STEPS + 1]
        loss, grads, h = published(columns, window[:-1], window[1:], h)
        for name, p in columns.items():
            g = np.clip(grads[name], -CLIP, CLIP)
            memory[name] += g * g
            p -= RATE * g / np.sqrt(memory[name] + EPSILON)
        losses.append(loss)
        place += STEPS
    return losses


def sample(model: CharRNN, first: int, length: int, rng: np.random.Generator) -> list[int]:
    """Symbols drawn one after the other, each read before the next."""
    state, drawn = model.init_state(1), [first]
    for _ in range(length):
        logits, state = model.step(np.array(drawn[-1:]), state)
        p = np.exp(logits[0] - logits[0].max(), dtype=np.float64)
        drawn.append(int(rng.choice(len(p), p=p / p.sum())))
    return drawn


def main() -> None:
    """Train on a text, and show samples and losses."""
    parser = argparse.ArgumentParser(description="The minimal character RNN, by our passes.")
    parser.add_argument("--iterations", type=int, default=20_000)
    parser.add_argument("--text", type=Path, default=TEXT)
    chosen = parser.parse_args()
    corpus = load_corpus([chosen.text], CorpusConfig(kind="text"))
    vocabulary = corpus.vocabulary
    model = network(len(vocabulary), dtype=np.float32)
    run = Ours(model, vocabulary.ids_of("".join(corpus.sequences["train"])))
    smooth, rng = np.log(len(vocabulary)) * STEPS, np.random.default_rng(1)
    print(f"iteration 0: loss {smooth:.3f} for 25 characters, ln V = {smooth / STEPS:.3f} for one")
    for n in range(1, chosen.iterations + 1):
        smooth = 0.999 * smooth + 0.001 * run.step()
        if n % max(1, chosen.iterations // 5) == 0:
            drawn = sample(model, int(run.ids[0]), 200, rng)
            print(f"---- iteration {n}: loss {smooth:.3f}, {smooth / STEPS:.3f} a character")
            print("".join(vocabulary.symbols[k] for k in drawn))
    held_out = evaluate(model, corpus.sequences["test"], vocabulary, Workspace())
    print(f"---- held-out text: {held_out.nats_per_character:.3f} nats a character")


if __name__ == "__main__":
    main()
