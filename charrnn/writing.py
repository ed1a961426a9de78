"""From checked requests to texts: which sample is drawn in which batch, with which random numbers,
and what of a text may be shown already. The drawing itself is `charrnn.decoding`'s.

Sample i of a request has the same bits whatever the request's count and whatever else is being
written: its random numbers are a stream of its own, and its place in the request decides which
batch it joins. The first few join the one whose products take each row alone, which is fastest for
few; the others the one whose products take several rows at once, which is fastest for many. How
many are few follows from the model: from a size on, reading its matrices is what counts.
"""

import operator
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from charrnn.compiled import BY_ROW, CompiledModel, Position
from charrnn.config import GenerationConfig
from charrnn.decoding import DecodeBatch, FinishReason, Stretch
from charrnn.vocabulary import Vocabulary

SLOTS = 64  # sequences of a batch
ALONE, LARGE_ALONE = 4, 1  # samples of a request whose rows are multiplied alone,
LARGE_BYTES = 1 << 21  # and of a network whose matrices take more than so many bytes
MOST_PARTS = 256  # of a text that is streamed, before they are joined
# Symbols at a time while others wait for a slot, and at first where a stop string may come.
REFILL_STEPS = 8
# Between the streams of two samples: 2^128 / golden ratio, as in numpy's PCG64.jumped.
STRIDE = 0x9E3779B97F4A7C15F39CC0605CEDC835


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
    symbols a text may have.
    """

    seed: str
    prompt: list[int]
    config: GenerationConfig
    max_length: int
    random_seed: int
    stop: tuple[str, ...]


class Written(NamedTuple):
    """News of a text: characters that can't be withdrawn any more, as the model reads them; with
    the last of them, the sample. `before` is what stands right before them.
    """

    request: int
    sample_index: int
    before: str
    characters: str
    sample: Sample | None


class Writer:
    """Writes the texts of several requests at once. Belongs to one thread at a time."""

    def __init__(
        self, model: CompiledModel, vocabulary: Vocabulary, names: frozenset[str] | None
    ) -> None:
        """`names`: the list that samples may be new to; None for running text."""
        self.vocabulary, self._names, self._model = vocabulary, names, model
        self._alone = DecodeBatch(model, SLOTS, end=vocabulary.end)
        self._together: DecodeBatch | None = None  # made where it is needed
        self._rngs: list[np.random.Generator] = []  # idle ones

    def write(self, requests: Sequence[Request], steps: int) -> Iterator[Written]:
        """All texts of all requests, up to `steps` symbols of each at a time; between two of these
        turns each text says at most once what is new. A writer that is left before the end is of
        no more use.
        """
        texts: dict[tuple[DecodeBatch, int], _Text] = {}
        few = LARGE_ALONE if self._model.matrix_bytes > LARGE_BYTES else ALONE
        many = any(request.config.count > few for request in requests)
        if many and self._model.block == BY_ROW:  # no larger products are exact here
            few, many = sys.maxsize, False
        queues = [_Queue(self._alone, requests, range(few))]
        if many:
            queues.append(_Queue(self._many(), requests, range(few, sys.maxsize)))
        watching, turn = any(request.stop for request in requests), REFILL_STEPS
        begun: dict[int, _Beginning] = {}
        while texts or any(queue.waiting for queue in queues):
            for queue in queues:
                for number, indices in queue.next():
                    request = requests[number]
                    beginning = begun.get(number) or self._beginning(request)
                    begun[number] = beginning
                    beginning.left -= len(indices)
                    if not beginning.left:
                        del begun[number]
                    yield from self._join(queue.batch, number, request, beginning, indices, texts)
            turn = min(2 * turn, steps)
            for queue in queues:
                most = min(REFILL_STEPS if queue.waiting else turn if watching else steps, steps)
                for stretch in queue.batch.step(most) if queue.batch.live else ():
                    text = texts[queue.batch, stretch.slot]
                    news = text.add(stretch)
                    if news and news.sample:
                        del texts[queue.batch, stretch.slot]
                        self._rngs.append(text.rng)
                        if stretch.finish_reason is None:
                            queue.batch.cancel(stretch.slot)
                    if news:
                        yield news

    def _join(
        self,
        batch: DecodeBatch,
        number: int,
        request: Request,
        beginning: "_Beginning",
        indices: range,
        texts: "dict[tuple[DecodeBatch, int], _Text]",
    ) -> Iterator[Written]:
        """Let samples of a request join a batch; what can be said of them at once."""
        if beginning.position is None:
            whole = self.sample(request.seed, 0.0, "length")
            for index in indices:
                yield Written(number, index, "", request.seed, whole)
            return
        joined = [_Text(self, number, index, request) for index in indices]
        for text in joined:
            text.rng = self._rng(beginning.stream, text.index)
            if request.seed:
                yield text.opening()
        slots = batch.admit(
            beginning.position,
            request.config,
            [text.rng for text in joined],
            limit=request.max_length - len(request.seed),
            fewest=max(request.config.min_length, 1) - len(request.seed),  # no name is empty
        )
        texts.update(((batch, slot), text) for slot, text in zip(slots, joined, strict=True))

    def sample(self, text: str, logprob: float, reason: FinishReason) -> Sample:
        """A sample from a text as the model reads it."""
        novel = None if self._names is None else text not in self._names
        return Sample(self.vocabulary.write(text), logprob, reason, novel)

    def _many(self) -> DecodeBatch:
        """The batch of those that share products."""
        if self._together is None:
            end, block = self.vocabulary.end, self._model.block
            self._together = DecodeBatch(self._model, SLOTS, end=end, block=block)
        return self._together

    def _beginning(self, request: Request) -> "_Beginning":
        room = request.max_length > len(request.seed)
        position = self._model.read(request.prompt) if room else None
        stream = np.random.PCG64(request.random_seed).state
        return _Beginning(position, stream, request.config.count)

    def _rng(self, stream: Any, index: int) -> np.random.Generator:
        """The random numbers of a sample: `PCG64(random_seed).jumped(index)`, but reused."""
        rng = self._rngs.pop() if self._rngs else np.random.Generator(np.random.PCG64(0))
        rng.bit_generator.state = stream
        rng.bit_generator.advance(STRIDE * index % (1 << 128))  # type: ignore[attr-defined]
        return rng


@dataclass
class _Beginning:
    """What all samples of a request begin with, until the last of them has joined: a position, None
    where the seed leaves no room to draw, and a stream of random numbers.
    """

    position: Position | None
    stream: Any
    left: int


class _Queue:
    """The samples that wait for a slot of a batch, in order."""

    def __init__(self, batch: DecodeBatch, requests: Sequence[Request], places: range) -> None:
        counts = [len(range(places.start, min(r.config.count, places.stop))) for r in requests]
        self.batch, self.waiting = batch, sum(counts)
        self._left = [
            (number, places.start, places.start + count)
            for number, count in reversed(list(enumerate(counts)))
            if count
        ]

    def next(self) -> Iterator[tuple[int, range]]:
        """Samples for the free slots, as a request's number and indices."""
        free = self.batch.free
        while free and self._left:
            number, start, end = self._left.pop()
            taken = min(free, end - start)
            if start + taken < end:
                self._left.append((number, start + taken, end))
            free -= taken
            self.waiting -= taken
            yield number, range(start, start + taken)


class _Text:
    """One text as it is drawn: its parts, what is held back for a stop string, and its end."""

    rng: np.random.Generator

    def __init__(self, writer: Writer, number: int, index: int, request: Request) -> None:
        self.writer, self.number, self.index, self.request = writer, number, index, request
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
        symbols = self.writer.vocabulary.symbols
        return self.news("".join([symbols[id_] for id_ in ids]), stretch.finish_reason)

    def news(self, characters: str, reason: FinishReason | None) -> Written:
        """Characters that are shown from now on; with a reason, they are the last."""
        before, sample = self._parts[-1], None
        if reason:
            text = "".join([*self._parts, characters])
            sample = self.writer.sample(text, self._logprob, reason)
        elif characters:
            if len(self._parts) == MOST_PARTS:
                self._parts = ["".join(self._parts)]
            self._parts.append(characters)
        return Written(self.number, self.index, before, characters, sample)

    def _add_watching(self, stretch: Stretch) -> Written | None:
        """`add`, symbol by symbol, on the look-out for stop strings."""
        symbols, reason = self.writer.vocabulary.symbols, stretch.finish_reason
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
