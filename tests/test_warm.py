"""A warm start: what is known is carried over symbol by symbol."""

import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.model import CharRNN
from charrnn.vocabulary import Vocabulary
from charrnn.warm import carry_over, fits
from tests import builders


def network(vocabulary, cell="gru", **values):
    config = ModelConfig(
        **{"cell": cell, "hidden_size": 2, **values, "vocab_size": len(vocabulary)}
    )
    return CharRNN.initialized(config, np.random.default_rng(7))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_same_vocabulary_gives_the_same_network(cell):
    start = builders.frozen(cell=cell)
    model = network(start.vocabulary, cell)
    carry_over(start, model, start.vocabulary)
    assert model.params.flat.tobytes() == start.params.flat.tobytes()


def test_new_and_lost_characters_leave_the_others_what_they_were():
    start = builders.frozen()
    # A character before all others, one after, and without the "x" of tarbo-rex.
    vocabulary = Vocabulary.of(["!allo", "brachio", "tarbo-reß"], ends=True, case="title")
    model = network(vocabulary)
    fresh = {name: array.copy() for name, array in model.params.items()}
    carry_over(start, model, vocabulary)
    for name in ("layers.0.U", "out.V", "out.c"):
        before, after = start.params[name], model.params[name]
        if name == "out.V":
            before, after, fresh[name] = before.T, after.T, fresh[name].T
        for symbol in set(vocabulary.symbols) & set(start.vocabulary.symbols):
            old, new = (v.symbols.index(symbol) for v in (start.vocabulary, vocabulary))
            assert (after[new] == before[old]).all()
        for symbol in "!ß":
            new = vocabulary.symbols.index(symbol)
            expected = before.min() if name == "out.c" else fresh[name][new]
            assert (after[new] == expected).all()
    assert (model.params["layers.0.W"] == start.params["layers.0.W"]).all()


@pytest.mark.parametrize("change", [{"cell": "lstm"}, {"hidden_size": 3}, {"num_layers": 2}])
def test_another_shape_does_not_fit(change):
    start = builders.frozen()
    assert fits(start, network(start.vocabulary))
    assert not fits(start, network(start.vocabulary, **change))
