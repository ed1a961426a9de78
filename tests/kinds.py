"""Generators of each kind, with seeds for each: what the tests of generating are run on."""

import pytest

from tests.models import generator, kept, names_model, running, titled

SENTENCE_NAMES = ("Rex ater", "Sauro rex", "Éx-rex")
ALL = {
    "titled": titled,
    "kept": kept,
    "sentence": lambda **s: generator(names_model(SENTENCE_NAMES, **s)),
    "running": lambda **s: running("ab c\n", **s),
}
SEEDS = {
    "titled": ("", "R", "rEX", "ex-r", "Tar-", "sauro "),
    "kept": ("", "x", "McR", "iPad"),
    "sentence": ("", "r", "REX", "ex-r", "sauro "),
    "running": ("", "a", "ca b", "\n\n"),
}
every_kind = pytest.mark.parametrize("kind", ALL)
every_seed = pytest.mark.parametrize(("kind", "seed"), [(k, s) for k in SEEDS for s in SEEDS[k]])


def texts(samples):
    return [sample.text for sample in samples]


def streamed(pieces):
    """The pieces by index; each list in the order in which they came."""
    found = {}
    for piece in pieces:
        found.setdefault(piece.index, []).append(piece)
    return found
