"""How likely a text is: symbol by symbol, as a whole, and beside the names of the training list."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from charrnn.compiled import CompiledModel, Lanes
from charrnn.ops import chosen_log_softmax
from charrnn.parameters import Array
from charrnn.wordlist import AnyVocabulary

ROWS = 64  # texts that are read side by side
COMPARED = 2000  # names of the list that a text is compared with, evenly from all over it
MOST_NATS = 700.0  # a symbol: its perplexity is still a finite number


class Expected(NamedTuple):
    """What the network expected, and how much."""

    symbol: str
    probability: float


class SymbolScore(NamedTuple):
    """One symbol of a scored text: its natural log-probability, what was likeliest there, and the
    few likeliest with their probabilities.
    """

    symbol: str
    logprob: float
    likeliest: str
    expected: tuple[Expected, ...]

    @property
    def probability(self) -> float:
        """exp of the log-probability."""
        return math.exp(self.logprob)


@dataclass(frozen=True)
class Score:
    """How likely a text is. `symbols` are its own, and the end symbol where the model has one.
    `likelier_than`: the share of the model's list whose perplexity is higher, from 0 to 1, by 2,000
    names of a longer list; None for running text.
    """

    text: str
    logprob: float
    perplexity: float
    symbols: tuple[SymbolScore, ...]
    likelier_than: float | None

    def to_json(self) -> dict[str, Any]:
        """As the service and the command line tell it."""
        symbols = [
            {
                "symbol": each.symbol,
                "probability": each.probability,
                "logprob": each.logprob,
                "expected": [one._asdict() for one in each.expected],
            }
            for each in self.symbols
        ]
        return {
            "text": self.text,
            "logprob": self.logprob,
            "perplexity": self.perplexity,
            "likelier_than": self.likelier_than,
            "symbols": symbols,
        }


class Scoring:
    """Scores of one model. Threads may share it."""

    def __init__(
        self, model: CompiledModel, vocabulary: AnyVocabulary, names: Sequence[str] | None
    ) -> None:
        """names: the model's list, to compare with; None or empty where there is none."""
        self._model, self._vocabulary, self._names = model, vocabulary, names

    def scores(self, texts: Sequence[str], expected: int) -> list[Score]:
        """Scores of texts as the model reads them, none empty where it has no end symbol; each with
        so many expected symbols. A score doesn't depend on the other texts.
        """
        sequences = [self._ids(text) for text in texts]
        return [
            self._score(text, ids, logits, expected)
            for text, ids, logits in zip(texts, sequences, self._read(sequences), strict=True)
        ]

    def _ids(self, text: str) -> list[int]:
        end = self._vocabulary.end
        return [*self._vocabulary.encode(text).tolist(), *([] if end is None else [end])]

    def _score(self, text: str, ids: list[int], logits: Array, expected: int) -> Score:
        own = chosen_log_softmax(logits, np.array(ids)).tolist()  # as of what is generated
        logprobs = _log_softmax(logits.astype(np.float64))
        symbols = self._vocabulary.symbols
        order = np.argsort(-logprobs, axis=1, kind="stable")[:, : max(1, expected)].tolist()
        made = [
            SymbolScore(
                symbols[id_],
                logprob,
                symbols[best[0]],
                tuple(Expected(symbols[k], math.exp(row[k])) for k in best[:expected]),
            )
            for id_, logprob, row, best in zip(ids, own, logprobs, order, strict=True)
        ]
        total = math.fsum(symbol.logprob for symbol in made)
        nats = -total / len(made)
        share = None
        if self._names:
            share = 1 - float(np.searchsorted(self._ranking, nats, "right")) / len(self._ranking)
        perplexity = math.exp(min(nats, MOST_NATS))
        return Score(self._vocabulary.write(text), total, perplexity, tuple(made), share)

    @cached_property
    def _ranking(self) -> Array:
        """The nats per character of names of the list, rising."""
        assert self._names
        places = np.linspace(0, len(self._names) - 1, min(len(self._names), COMPARED)).astype(int)
        sequences = [self._ids(self._names[place]) for place in places.tolist()]
        nats = [
            -math.fsum(chosen_log_softmax(logits, np.array(ids)).tolist()) / len(ids)
            for ids, logits in zip(sequences, self._read(sequences), strict=True)
        ]
        return np.sort(nats)

    def _read(self, sequences: Sequence[list[int]]) -> list[Array]:
        """The logits before each symbol of each sequence, (T, V) each: rows alone, so that they are
        those of generation.
        """
        read: list[Array] = [np.zeros(0)] * len(sequences)
        by_length = sorted(range(len(sequences)), key=lambda n: -len(sequences[n]))
        lanes = Lanes(self._model, ROWS)
        start = self._model.start(self._vocabulary.start)
        bias = self._model.out_bias
        for first in range(0, len(by_length), ROWS):
            some = by_length[first : first + ROWS]
            lanes.put(slice(len(some)), start)
            before = np.full(len(some), self._vocabulary.start)
            rows: list[Array] = []  # of each step, those that go on
            for step in range(len(sequences[some[0]])):
                live = sum(len(sequences[n]) > step for n in some)
                rows.append(lanes.bound(live).read(before[:live]) + bias)
                before = np.array([sequences[n][step] for n in some[:live]])
            for place, n in enumerate(some):
                read[n] = np.stack([row[place] for row in rows[: len(sequences[n])]])
        return read


def _log_softmax(logits: Array) -> Array:
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
