"""How well a network predicts text that it didn't learn from."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from charrnn.batches import evaluation_batches
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.ranks import Ranks
from charrnn.wordlist import AnyVocabulary

TRIED_SECONDS = 0.5  # of an evaluation, to tell how long a whole one takes


@dataclass(frozen=True)
class Loss:
    """The cross-entropy of a split. `characters` counts the symbols that were predicted, which are
    words and marks for a model of words: for names and sentences, the end symbol of each too; for
    running text, all but each block's first. So `nats_per_character` are nats per symbol.
    """

    nats_per_character: float
    sequences: int
    characters: int

    @property
    def bits_per_character(self) -> float:
        """The same in bits."""
        return float(self.nats_per_character / np.log(2))

    @property
    def perplexity(self) -> float:
        """exp of the nats per character: as unsure as among so many equal choices."""
        return float(np.exp(self.nats_per_character))

    @property
    def nats_per_sequence(self) -> float:
        """Nats for a whole name (its end included), or a block of text."""
        return self.nats_per_character * self.characters / self.sequences

    def to_json(self) -> dict[str, Any]:
        """As the weights file keeps it."""
        return asdict(self)


def evaluate(
    model: CharRNN,
    sequences: Sequence[str],
    vocabulary: AnyVocabulary,
    work: Workspace,
    ranks: Ranks | None = None,
    heed: Callable[[], None] = lambda: None,
) -> Loss:
    """The loss over `sequences`, each from a zero state, without dropout. Ranks share the work, and
    find what one process does. `heed` is called before each batch, and may raise.
    """
    groups: list[list[float]] = []
    characters = 0
    state = model.init_state(0)
    for batch, begins in evaluation_batches(
        sequences, vocabulary, *((ranks.number, ranks.count) if ranks else ())
    ):
        heed()
        size = int(batch.sizes[0])
        state = model.init_state(size) if begins else state[:, :, :size]
        nats, state = model.loss(batch, state, work)
        if begins:
            groups.append([])
        groups[-1].append(nats)
        characters += len(batch.ids)
    if ranks:
        groups, characters = _of_all(ranks, groups, characters)
    total = 0.0
    for nats in chain.from_iterable(groups):
        total += nats  # in the order of the batches, whoever worked them out
    return Loss(total / characters, len(sequences), characters)


def seconds_for_a_symbol(
    model: CharRNN, sequences: Sequence[str], vocabulary: AnyVocabulary, work: Workspace
) -> float:
    """How long `evaluate` takes here for each symbol, by trying some."""
    batches = evaluation_batches(sequences, vocabulary)
    first = next(batches)  # with it come the ids of all
    begun, symbols = time.monotonic(), 0
    for batch, _ in chain([first], batches):
        model.loss(batch, model.init_state(int(batch.sizes[0])), work)
        symbols += len(batch.ids)
        if time.monotonic() - begun > TRIED_SECONDS:
            break
    return (time.monotonic() - begun) / symbols


def _of_all(ranks: Ranks, groups: list[list[float]], count: int) -> tuple[list[list[float]], int]:
    """The nats of all groups, in order, and all characters."""
    told = [json.loads(each) for each in ranks.exchange(json.dumps([groups, count]).encode())]
    found = chain.from_iterable(zip_longest(*(own for own, _ in told), fillvalue=[]))
    return list(found), sum(count for _, count in told)
