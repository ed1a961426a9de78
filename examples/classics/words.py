"""Classic 3: the word RNN of the computation-graph tutorial, and its truncation.

    python examples/classics/words.py [--quick]

    s_t = tanh(U x_t + W s_{t-1})     p_t = softmax(V s_t)     E_t = -ln p_t[y_t]     no biases

U, W, V uniform in ±sqrt(1/n), n the width of what comes in; one sentence a step; SGD at 0.005, the
rate halved when the loss rises; `predict` takes the likeliest word at each place; the total loss is
the mean over sentences of each one's mean (so a short sentence weighs like a long one).

The tutorial truncates each E_t by itself: back from step t through itself and the four steps before
it. `per_step` is that, exactly, and O(T * 5). Chunks of five steps (what `CharRNN` does, with its
parts and batches) cut at fixed places instead: the loss of a chunk's first step reaches back
through one step, that of its last through five. In a sentence of five words or fewer, all agree.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as `python examples/...` too

import argparse
import re
from collections import Counter

import numpy as np

from charrnn.config import ModelConfig
from charrnn.gradients import relative_error
from charrnn.graph import Node, backward, constant, parameter
from charrnn.model import CharRNN
from charrnn.operations import gather, softmax_cross_entropy, tanh
from charrnn.ops import Array, Workspace, log_softmax
from charrnn.packed import Batch
from charrnn.tables import table

WORDS, HIDDEN, TRUNCATE, RATE = 8000, 100, 4, 0.005
START, END, UNKNOWN = "<start>", "<end>", "<unknown>"
LEARNED = ("layers.0.U", "layers.0.W", "out.V")  # there are no biases
TEXT = Path(__file__).resolve().parents[2] / "data" / "rex-chat.txt"
# The total loss before each epoch, by the tutorial that the original follows: Britz 2015,
# "Recurrent Neural Networks Tutorial, Part 2", on 100 sentences of Reddit comments.
PUBLISHED = [8.987425, 8.976270, 8.960212, 8.930430, 8.862264]
PUBLISHED += [6.913570, 6.302493, 6.014995, 5.833877, 5.710718]

Sentence = tuple[Array, Array]
"""A sentence as ids of words, and of the words that follow, (T,) each."""


def sentences_of(text: str, limit: int = WORDS) -> tuple[list[Sentence], int]:
    """Sentences as ids, the most frequent words first, and how many words there are."""
    lines = [line.lstrip("> ") for line in text.splitlines() if line.strip()]
    found = [s for line in lines for s in re.split(r"(?<=[.!?])\s+", line)]
    words = [[START, *re.findall(r"[\w']+|[^\w\s]", s), END] for s in found]
    counts = Counter(word for sentence in words for word in sentence)
    kept = [word for word, _ in counts.most_common(limit - 1)] + [UNKNOWN]
    ids = {word: n for n, word in enumerate(kept)}
    numbers = [np.array([ids.get(w, ids[UNKNOWN]) for w in sentence]) for sentence in words]
    return [(n[:-1], n[1:]) for n in numbers], len(kept)


def network(words: int, hidden: int = HIDDEN, seed: int = 10) -> CharRNN:
    """Ours, with biases that stay zero: its uniform start is the tutorial's."""
    config = ModelConfig(cell="rnn", hidden_size=hidden, vocab_size=words)
    return CharRNN.initialized(config, np.random.default_rng(seed), np.float64)


def per_step(model: CharRNN, sentence: Sentence, truncate: int = TRUNCATE) -> dict[str, Array]:
    """The summed gradients of all E_t, each back through t and the `truncate` steps before it.

    Step t's share, by hand: da = V^T dz_t * (1 - s_t^2), then da = W^T da * (1 - s_i^2) for each
    step i before it. O(T * (truncate + 1)).
    """
    (ids, targets), params = sentence, model.params
    U, W, V = (params[name] for name in LEARNED)
    states = [np.zeros(len(W))]
    for id_ in ids:
        states.append(np.tanh(U[id_] + states[-1] @ W))
    grads = {name: np.zeros_like(params[name]) for name in LEARNED}
    dU, dW, dV = grads.values()
    for t, target in enumerate(targets):
        dz = np.exp(log_softmax(states[t + 1] @ V))
        dz[target] -= 1
        dV += np.outer(states[t + 1], dz)
        ds = V @ dz
        for i in range(t, max(-1, t - truncate - 1), -1):
            da = ds * (1 - states[i + 1] ** 2)
            dU[ids[i]] += da
            dW += np.outer(states[i], da)
            ds = W @ da
    return grads


def per_step_by_graph(model: CharRNN, sentence: Sentence) -> dict[str, Array]:
    """The same by the graph: for each t, five steps from a state that is taken as given."""
    ids, targets = sentence
    nodes = {name: parameter(model.params[name]) for name in LEARNED}
    U, W, V = nodes.values()
    states = [constant(np.zeros((1, len(W.value))))]

    def step(s: Node, t: int) -> Node:
        return tanh(gather(U, ids[t : t + 1]) + s @ W)

    for t in range(len(ids)):
        states.append(constant(step(states[-1], t).value))
        first = max(0, t - TRUNCATE)
        s = states[first]
        for i in range(first, t + 1):
            s = step(s, i)
        backward(softmax_cross_entropy(s @ V, targets[t : t + 1]))
    return {name: np.asarray(node.grad) for name, node in nodes.items()}


def chunked(model: CharRNN, sentence: Sentence, span: int) -> dict[str, Array]:
    """The summed gradients with truncation at every `span` steps, by our training pass."""
    (ids, targets), state, work = sentence, model.init_state(1), Workspace()
    total, grads = model.params.like(), model.params.like()
    for begin in range(0, len(ids), span):
        rows = slice(begin, begin + span)
        batch = Batch(ids[rows], targets[rows], np.ones(len(ids[rows]), int))
        _, state, _ = model.loss_and_grads(batch, state, grads, work)
        total.flat[:] += grads.flat * len(batch.ids)
    return {name: total[name] for name in LEARNED}


def predict(model: CharRNN, ids: Array) -> Array:
    """The likeliest next word at each place, given the true words before it."""
    return np.argmax(model.forward(ids[None], model.init_state(1))[0][0], axis=1)


def total_loss(model: CharRNN, sentences: list[Sentence]) -> float:
    """The mean over sentences of each one's mean loss."""
    work, state = Workspace(), model.init_state(1)
    losses = [
        model.loss(Batch(ids, targets, np.ones(len(ids), int)), state, work)[0] / len(ids)
        for ids, targets in sentences
    ]
    return float(np.mean(losses))


def train(
    model: CharRNN, sentences: list[Sentence], epochs: int, rate: float = RATE
) -> list[float]:
    """The tutorial's training; the total loss before each epoch."""
    losses: list[float] = []
    for _ in range(epochs):
        losses.append(total_loss(model, sentences))
        if len(losses) > 1 and losses[-1] > losses[-2]:
            rate *= 0.5
        for sentence in sentences:
            for name, gradient in per_step(model, sentence).items():
                model.params[name][...] -= rate * gradient
    return losses


def distances(model: CharRNN, sentences: list[Sentence]) -> dict[str, tuple[float, float]]:
    """For the gradients by U and W over all sentences: how far per-step truncation and chunks of
    five lie from the whole gradient, in norms of the whole.
    """
    found = {name: [np.zeros_like(model.params[name])] * 3 for name in LEARNED[:2]}
    for sentence in sentences:
        forms = (
            chunked(model, sentence, len(sentence[0])),
            per_step(model, sentence),
            chunked(model, sentence, TRUNCATE + 1),
        )
        for name, sums in found.items():
            for k, form in enumerate(forms):
                sums[k] = sums[k] + form[name]
    norm = np.linalg.norm
    return {
        name: (
            float(norm(steps - whole) / norm(whole)),
            float(norm(chunks - whole) / norm(whole)),
        )
        for name, (whole, steps, chunks) in found.items()
    }


def main() -> None:
    """Print the losses beside the tutorial's, and what the truncations leave out."""
    parser = argparse.ArgumentParser(description="The word RNN, truncated at each step.")
    parser.add_argument("--quick", action="store_true", help="few sentences, small network")
    quick = parser.parse_args().quick
    sentences, words = sentences_of(TEXT.read_text(encoding="utf-8"))
    sentences = sentences[: 10 if quick else 100]
    model = network(words, 8 if quick else HIDDEN)
    graph, by_hand = (form(model, sentences[0]) for form in (per_step_by_graph, per_step))
    worst = max(relative_error(by_hand[name], graph[name]) for name in LEARNED)
    print(f"per-step truncation by hand and by the graph: relative error {worst:.1e}")
    start = distances(model, sentences)
    losses = train(model, sentences, len(PUBLISHED))
    rows = [
        (f"{n}", f"{loss:.6f}", f"{published:.6f}")
        for n, (loss, published) in enumerate(zip(losses, PUBLISHED, strict=True))
    ]
    print(
        f"{len(sentences)} sentences, {words:,} words (ln {np.log(words):.3f}), the original 8,000"
    )
    print(table(("epoch", "total loss here", "the original's"), rows))
    hits = [np.mean(predict(model, ids) == targets) for ids, targets in sentences]
    print(f"predict() is right at {np.mean(hits):.1%} of the places, on average over sentences")
    lines = [
        (when, name, f"{steps:.4f}", f"{chunks:.4f}")
        for when, found in (("at the start", start), ("trained", distances(model, sentences)))
        for name, (steps, chunks) in found.items()
    ]
    print(table(("distance from the whole gradient", "by", "per step", "chunks of 5"), lines))


if __name__ == "__main__":
    main()
