"""A warm start: a new network begins with what an older one has learned, symbol by symbol."""

from dataclasses import dataclass

from charrnn.model import CharRNN
from charrnn.weights import FrozenModel
from charrnn.wordlist import AnyVocabulary

INPUT, OUTPUT, OUTPUT_BIAS = "layers.0.U", "out.V", "out.c"


@dataclass(frozen=True)
class Start:
    """The version that a training begins with."""

    version: str
    model: FrozenModel


def fits(start: FrozenModel, model: CharRNN) -> bool:
    """Whether the networks differ in their vocabularies at most."""
    old, new = start.config, model.config
    shape = ("cell", "hidden_size", "num_layers")
    return all(getattr(old, name) == getattr(new, name) for name in shape)


def carry_over(start: FrozenModel, model: CharRNN, vocabulary: AnyVocabulary) -> None:
    """Write the older network's parameters into `model`, in place.

    What belongs to a symbol (a row of U, a column of V, a number of c) goes where the symbol is
    now. A symbol that is new keeps its random row and column, and is as likely at first as the
    rarest that was known.
    """
    assert fits(start, model), "networks of other shapes"
    old_ids = {symbol: id_ for id_, symbol in enumerate(start.vocabulary.symbols)}
    common = [
        (id_, old_ids[symbol]) for id_, symbol in enumerate(vocabulary.symbols) if symbol in old_ids
    ]
    new, old = [pair[0] for pair in common], [pair[1] for pair in common]
    for name, array in model.params.items():
        before = start.params[name]
        if name == INPUT:  # (V, G*H)
            array[new] = before[old]
        elif name == OUTPUT:  # (H, V)
            array[:, new] = before[:, old]
        elif name == OUTPUT_BIAS:  # (V,)
            array[:] = before.min()
            array[new] = before[old]
        else:
            array[...] = before
