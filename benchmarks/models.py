"""The networks that are measured: made in memory, the same in every process."""

from typing import Any

import numpy as np

from benchmarks.common import ROOT
from charrnn.config import ModelConfig
from charrnn.corpus import load_corpus
from charrnn.generator import Generator
from charrnn.model import CharRNN
from charrnn.recipe import Recipe
from charrnn.training import Run
from charrnn.vocabulary import Vocabulary
from charrnn.weights import FrozenModel

SPREAD_OF_LOGITS = 2.0  # standard deviation: as sure as a trained one, roughly
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5]  # what the contenders are checked on
STEPS, BATCH = 200, 32  # of the brief training of names

# The least that a layer's step needs beside its products, in calls of numpy. An LSTM adds the
# input's row, takes tanh of all gates at once, adds one to the sigmoids, makes (i, f) * (g, c) in
# one, adds, takes tanh again, and multiplies by o.
CALLS_OF_A_LAYER = {"rnn": 2, "lstm": 7, "gru": 8}


def network(cell: str, hidden_size: int, vocab_size: int, num_layers: int = 1) -> CharRNN:
    """A network with random weights, whose distributions are about as uneven as learned ones."""
    config = ModelConfig(
        cell=cell, hidden_size=hidden_size, num_layers=num_layers, vocab_size=vocab_size
    )
    rng = np.random.default_rng(0)
    model = CharRNN.initialized(config, rng)
    for name, array in model.params.items():
        if array.ndim == 2:
            array *= 1.5
        if name.endswith(".U") and array.shape[0] == vocab_size:
            array[...] = rng.normal(0, 0.5, array.shape)  # an input is one row, whatever the rows
    state = model.init_state(16)
    logits = np.zeros((16, vocab_size))
    for _ in range(8):
        logits, state = model.step(rng.integers(0, vocab_size, 16), state)
    model.params["out.V"][...] *= SPREAD_OF_LOGITS / logits.std()
    return model


def text_generator(cell: str, hidden_size: int, vocab_size: int, num_layers: int = 1) -> Generator:
    """A generator of running text with random weights."""
    model = network(cell, hidden_size, vocab_size, num_layers)
    vocabulary = Vocabulary.of([symbols(vocab_size)], ends=False)
    frozen = FrozenModel("text", model.config, model.params.freeze(), vocabulary)
    return Generator("bench", "0" * 64, frozen)


def symbols(count: int) -> str:
    """So many characters: a space and printable ones from the letters on, then ideographs."""
    plain = " " + "".join(map(chr, range(ord("A"), ord("~") + 1)))
    return plain[:count] + "".join(chr(0x4E00 + k) for k in range(count - len(plain)))


def names_generator(cell: str, hidden_size: int, *, steps: int = STEPS) -> Generator:
    """A generator of names, trained for a moment on the list in `data`: its names end where such
    names end, which decides how much a batch of them costs.
    """
    training: dict[str, Any] = {
        "steps": steps,
        "batch_size": BATCH,
        "evaluate_every": steps,
        "learning_rate": 0.01,
    }
    path = ROOT / "data" / "dinosaurs.txt"
    recipe = Recipe.checked(
        {
            "name": "bench",
            "data": [str(path)],
            "network": {
                "cell": cell,
                "hidden_size": hidden_size,
                "dropout": 0.0,
                "recurrent_dropout": 0.0,
            },
            "training": training,
        }
    )
    frozen = Run(recipe, load_corpus([path], recipe.corpus)).train().model
    return Generator("bench", "0" * 64, frozen)


def shapes_of(config: ModelConfig) -> list[tuple[int, int]]:
    """The matrices that a step multiplies by; the first layer's input is a row, not a product."""
    H, G = config.hidden_size, {"rnn": 1, "gru": 3, "lstm": 4}[config.cell]
    recurrent = [(H, G * H)] * config.num_layers
    return [*recurrent, *recurrent[1:], (H, config.vocab_size)]
