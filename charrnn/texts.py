"""One text as it is written: what has been drawn of it, what may be shown, and how it ends."""

import operator
from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

import numpy as np

from charrnn.compiled import Position
from charrnn.config import GenerationConfig
from charrnn.constraints import Constraint
from charrnn.decoding import FinishReason, Stretch
from charrnn.vocabulary import Vocabulary

MOST_PARTS = 256  # of a text that is streamed, before they are joined


@dataclass(frozen=True)
class Sample:
    """One text. `logprob` is natural, at temperature 1 and unconstrained, of what was drawn: the
    seed excluded, the end symbol (or the stop string) included. `novel`: nowhere in the list that
    the model learned from and was tested on; None for running text.
    """

    text: str
    logprob: float
    finish_reason: FinishReason
    novel: bool | None


@dataclass(frozen=True)
class Request:
    """A checked call: seed and stop strings as the model reads them, the prompt's ids, and how many
    symbols a text may have. `position`: where the prompt begins, which then is one symbol, not read
    yet; None for the zero state. `constraint`: which symbols may come, besides the settings.
    """

    seed: str
    prompt: list[int]
    config: GenerationConfig
    max_length: int
    random_seed: int
    stop: tuple[str, ...]
    position: Position | None = field(default=None, compare=False)
    constraint: Constraint | None = field(default=None, compare=False)


class Written(NamedTuple):
    """News of a text: characters that can't be withdrawn any more, as the model reads them; with
    the last of them, the sample. `before` is what stands right before them.
    """

    request: int
    sample_index: int
    before: str
    characters: str
    sample: Sample | None


@dataclass(frozen=True)
class Language:
    """What texts consist of, and the list that they may be new to; None for running text."""

    vocabulary: Vocabulary
    names: frozenset[str] | None

    def sample(self, text: str, logprob: float, reason: FinishReason) -> Sample:
        """A sample from a text as the model reads it."""
        novel = None if self.names is None else text not in self.names
        return Sample(self.vocabulary.write(text), logprob, reason, novel)


class Text:
    """One text as it is drawn: its parts, what is held back for a stop string, and its end."""

    rng: np.random.Generator

    def __init__(self, language: Language, number: int, index: int, request: Request) -> None:
        self.language, self.number, self.index, self.request = language, number, index, request
        self._parts = [request.seed]
        self._tail = ""  # drawn, and not shown yet: it may be the beginning of a stop string
        self._length = len(request.seed)
        self._logprob = 0.0

    def opening(self) -> Written:
        """The first news: the seed."""
        return Written(self.number, self.index, "", self.request.seed, None)

    def add(self, stretch: Stretch) -> Written | None:
        """What is new after a stretch of symbols, if anything."""
        if self.request.stop:
            return self._add_watching(stretch)
        ids = stretch.ids[:-1] if stretch.finish_reason == "end" else stretch.ids
        self._logprob = reduce(operator.add, stretch.logprobs, self._logprob)
        symbols = self.language.vocabulary.symbols
        return self.news("".join([symbols[id_] for id_ in ids]), stretch.finish_reason)

    def cut(self, reason: FinishReason) -> Written:
        """The end, here."""
        characters, self._tail = self._tail, ""
        return self.news(characters, reason)

    def news(self, characters: str, reason: FinishReason | None) -> Written:
        """Characters that are shown from now on; with a reason, they are the last."""
        before, sample = self._parts[-1], None
        if reason:
            text = "".join([*self._parts, characters])
            sample = self.language.sample(text, self._logprob, reason)
        elif characters:
            if len(self._parts) == MOST_PARTS:
                self._parts = ["".join(self._parts)]
            self._parts.append(characters)
        return Written(self.number, self.index, before, characters, sample)

    def _add_watching(self, stretch: Stretch) -> Written | None:
        """`add`, symbol by symbol, on the look-out for stop strings."""
        symbols, reason = self.language.vocabulary.symbols, stretch.finish_reason
        last = len(stretch.ids) - 1
        for n, (id_, logprob) in enumerate(zip(stretch.ids, stretch.logprobs, strict=True)):
            self._logprob += logprob
            if n == last and reason == "end":
                break
            self._tail += symbols[id_]
            self._length += 1
            stop = self._stop()
            if stop:
                return self.news(self._tail.removesuffix(stop), "stop")
        clear = len(self._tail) - (0 if reason else self._held_back())
        if not clear and not reason:
            return None
        characters, self._tail = self._tail[:clear], self._tail[clear:]
        return self.news(characters, reason)

    def _stop(self) -> str | None:
        """The longest stop string that the text now ends with, where it leaves enough text."""
        found = [
            stop
            for stop in self.request.stop
            if self._tail.endswith(stop)
            and self._length - len(stop) >= self.request.config.min_length
        ]
        return max(found, key=len, default=None)

    def _held_back(self) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = max(map(len, self.request.stop), default=1) - 1
        for size in range(min(longest, len(self._tail)), 0, -1):
            if any(stop.startswith(self._tail[-size:]) for stop in self.request.stop):
                return size
        return 0
