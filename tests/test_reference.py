"""The graph as a workbench: a new cell without a backward, and truncation as the graph sees it."""

from pathlib import Path

import numpy as np
import pytest

from charrnn.batches import NameFeed, evaluation_batches
from charrnn.cells import CELLS
from charrnn.config import CorpusConfig, ModelConfig, TrainConfig
from charrnn.corpus import load_corpus
from charrnn.graph import backward, constant, parameter
from charrnn.model import CharRNN
from charrnn.operations import sigmoid, tanh
from charrnn.ops import Workspace
from charrnn.optimizers import OPTIMIZERS, clip_by_norm
from charrnn.packed import Batch
from charrnn.parameters import Parameters
from charrnn.reference import GRAPH_CELLS, column_blocks, gradient, graph_loss

ROOT = Path(__file__).parent.parent
HIDDEN = 32


# A cell of one's own, as docs/how-it-works.md shows it.
def minimal_gated_unit(params, a_x, state):
    """f = sigmoid(a_f + h W_f), g = tanh(a_g + (f * h) W_g), h' = (1 - f) * h + f * g."""
    (h,) = state
    (a_f, a_g), (W_f, W_g) = (column_blocks(x, h.value.shape[1]) for x in (a_x, params["W"]))
    f = sigmoid(a_f + h @ W_f)
    g = tanh(a_g + (f * h) @ W_g)
    return [(1 - f) * h + f * g]


def mgu_backward(params, dh, cache):
    """The way back of the unit, by hand: the gradients by a_x, by the state and by W."""
    h, f, g = cache
    W_f, W_g = np.split(params["W"], 2, axis=1)
    df, dg, dh_prev = dh * (g - h), dh * f, dh * (1 - f)  # 3
    da_g = dg * (1 - g * g)  # 2
    dfh = da_g @ W_g.T  # 2
    df, dh_prev = df + dfh * h, dh_prev + dfh * f  # 2
    da_f = df * f * (1 - f)  # 1
    dh_prev = dh_prev + da_f @ W_f.T  # 1
    dW = np.concatenate([h.T @ da_f, (f * h).T @ da_g], axis=1)
    return np.concatenate([da_f, da_g], axis=1), dh_prev, dW


def test_the_backward_written_for_it_is_the_graphs():
    B, H = 2, 3
    rng = np.random.default_rng(0)
    h, dh = rng.normal(size=(2, B, H))
    W, a_x = rng.normal(size=(H, 2 * H)), rng.normal(size=(B, 2 * H))
    nodes = [parameter(array) for array in (a_x, h, W)]
    (new,) = minimal_gated_unit({"W": nodes[2]}, nodes[0], [nodes[1]])
    backward(new, dh)
    f = 1 / (1 + np.exp(-(a_x[:, :H] + h @ W[:, :H])))
    g = np.tanh(a_x[:, H:] + (f * h) @ W[:, H:])
    for by_hand, node in zip(mgu_backward({"W": W}, dh, (h, f, g)), nodes, strict=True):
        assert np.abs(by_hand - node.grad).max() < 1e-12


def start(vocab, rng):
    """Parameters of a layer with two gates, begun as ours are."""
    shapes = {"layers.0.U": (vocab, 2 * HIDDEN), "layers.0.W": (HIDDEN, 2 * HIDDEN)}
    shapes |= {"layers.0.b": (2 * HIDDEN,), "out.V": (HIDDEN, vocab), "out.c": (vocab,)}
    params = Parameters.zeros(shapes, np.float64)
    for array in params.values():
        if array.ndim == 2:
            array[:] = rng.uniform(-1, 1, array.shape) / np.sqrt(len(array))
    return params


def loss_on(params, names, vocabulary):
    """Nats per character on names, by the graph, from a zero state."""
    nodes, total, characters = {n: constant(p) for n, p in params.items()}, 0.0, 0
    for batch, begins in evaluation_batches(names, vocabulary):
        assert begins
        h = constant(np.zeros((batch.sizes[0], HIDDEN)))
        mean, _ = graph_loss(minimal_gated_unit, nodes, batch, [[h]])
        total += float(mean.value) * len(batch.ids)
        characters += len(batch.ids)
    return total / characters


def bigram_loss(corpus):
    """Nats per character of the pair counts of the training names: what needs no memory."""
    V = len(corpus.vocabulary)
    counts = np.ones((V, V))
    for batch, _ in evaluation_batches(corpus.sequences["train"], corpus.vocabulary):
        np.add.at(counts, (batch.ids, batch.targets), 1)
    p, batches = counts / counts.sum(axis=1, keepdims=True), []
    for batch, _ in evaluation_batches(corpus.sequences["validation"], corpus.vocabulary):
        batches.append(-np.log(p[batch.ids, batch.targets]))
    return np.concatenate(batches).mean()


def test_a_cell_given_by_its_forward_alone_learns_dinosaurs_better_than_pairs_of_letters():
    corpus = load_corpus([ROOT / "data" / "dinosaurs.txt"], CorpusConfig())
    config = TrainConfig(optimizer="adam", learning_rate=0.02)
    params = start(len(corpus.vocabulary), np.random.default_rng(0))
    grads, optimizer = params.like(), OPTIMIZERS["adam"](params, config)
    feed = NameFeed(corpus, 32, 0)
    for step in range(160):
        batch = feed.batch(step)
        nodes = {name: parameter(array) for name, array in params.items()}
        h = constant(np.zeros((batch.sizes[0], HIDDEN)))
        loss, _ = graph_loss(minimal_gated_unit, nodes, batch, [[h]])
        backward(loss)
        for name, node in nodes.items():
            grads[name][...] = gradient(node)
        clip_by_norm(grads.flat, 1.0)
        optimizer.step(params.flat, grads.flat, config.learning_rate, step + 1)
    held_out = corpus.sequences["validation"]
    assert loss_on(params, held_out, corpus.vocabulary) < bigram_loss(corpus) - 0.2


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_truncated_gradients_equal_those_of_a_graph_cut_at_the_same_places(cell, layers):
    B, T, V, span = 2, 9, 5, 3
    config = ModelConfig(cell=cell, hidden_size=4, num_layers=layers, vocab_size=V)
    rng = np.random.default_rng(5)
    model = CharRNN.initialized(config, rng, np.float64)
    ids, targets = rng.integers(0, V, (2, T, B))
    by_hand, state, grads = model.params.like(), model.init_state(B), model.params.like()
    nodes = {name: parameter(array.copy()) for name, array in model.params.items()}
    states = [[constant(part) for part in layer] for layer in state]
    for begin in range(0, T, span):
        rows = slice(begin, begin + span)
        chunk = Batch(ids[rows].ravel(), targets[rows].ravel(), np.full(span, B))
        _, state, _ = model.loss_and_grads(chunk, state, grads, Workspace())
        by_hand.flat[:] += grads.flat
        loss, states = graph_loss(GRAPH_CELLS[cell], nodes, chunk, states)
        backward(loss)
        states = [[constant(part.value) for part in layer] for layer in states]  # the cut
    for name, node in nodes.items():
        assert np.abs(by_hand[name]).max() > 0
        assert np.abs(by_hand[name] - node.grad).max() < 1e-10
