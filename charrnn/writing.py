"""From checked requests to texts: which sample is drawn in which batch, with which random numbers,
and what of a text may be shown already. The drawing itself is `charrnn.decoding`'s.

Sample i of a request has the same bits whatever the request's count and whatever else is being
written: its random numbers are a stream of its own, and its place in the request decides which
batch it joins. The first joins the one whose products take each row alone, which is fastest for one
text; the others the one whose products take several rows at once, which is fastest for many.
"""

import operator
from collections import deque
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
ALONE = 1  # samples of a request whose rows are multiplied alone
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
    """Writes the texts of requests, which join and leave between its turns. Belongs to one thread
    at a time.
    """

    def __init__(
        self, model: CompiledModel, vocabulary: Vocabulary, names: frozenset[str] | None
    ) -> None:
        """`names`: the list that samples may be new to; None for running text."""
        self.vocabulary, self._names, self._model = vocabulary, names, model
        self._alone = _Queue(DecodeBatch(model, SLOTS, end=vocabulary.end))
        self._together: _Queue | None = None  # made where it is needed
        self._open: dict[int, _Joined] = {}
        self._texts: dict[tuple[DecodeBatch, int], _Text] = {}
        self._rngs: list[np.random.Generator] = []  # idle ones
        self._next, self._steps = 0, REFILL_STEPS

    @property
    def busy(self) -> bool:
        """Whether texts are still to be written."""
        return bool(self._open)

    def write(self, requests: Sequence[Request], steps: int) -> Iterator[Written]:
        """All texts of all requests, in turns of up to `steps` symbols; news bear a request's
        place. A writer that is left before the end is of no more use.
        """
        assert not self._open
        self._next = 0
        for request in requests:
            self.join(request)
        while self._open:
            yield from self.turn(steps)

    def join(self, request: Request) -> int:
        """Let a request's texts be written. Returns the number that its news bear."""
        number, count = self._next, request.config.count
        self._next += 1
        self._open[number] = _Joined(request, count, count)
        few = min(ALONE, count)
        if few < count and self._model.block == BY_ROW:  # no larger products are exact here
            few = count
        self._alone.add(number, range(few))
        if few < count:
            self._many().add(number, range(few, count))
        if request.stop:
            self._steps = REFILL_STEPS
        return number

    def leave(self, number: int) -> None:
        """Write no more of a request, if it isn't finished; its slots are free at once."""
        self._open.pop(number, None)
        for queue in self._queues():
            queue.remove(number)
        for key, text in list(self._texts.items()):
            if text.number == number:
                batch, slot = key
                batch.cancel(slot)
                self._rngs.append(self._texts.pop(key).rng)

    def turn(self, steps: int) -> list[Written]:
        """Up to `steps` symbols of each text. Returns what is new: of each text at most once what
        was drawn; fewer steps while others wait for a slot, or a stop string may come.
        """
        news: list[Written] = []
        for queue in self._queues():
            for number, indices in queue.next():
                self._begin(queue.batch, number, indices, news)
        if any(joined.request.stop for joined in self._open.values()):
            self._steps = min(2 * self._steps, steps)
        else:
            self._steps = steps
        for queue in self._queues():
            most = min(REFILL_STEPS, steps) if queue.waiting else self._steps
            for stretch in queue.batch.step(most) if queue.batch.live else ():
                key = queue.batch, stretch.slot
                text = self._texts[key]
                new = text.add(stretch)
                if new is None:
                    continue
                news.append(new)
                if new.sample:
                    del self._texts[key]
                    self._rngs.append(text.rng)
                    if stretch.finish_reason is None:
                        queue.batch.cancel(stretch.slot)
                    self._finish(text.number, 1)
        return news

    def _queues(self) -> "list[_Queue]":
        return [self._alone, self._together] if self._together else [self._alone]

    def _many(self) -> "_Queue":
        """The queue of the batch whose rows share products."""
        if self._together is None:
            end, block = self.vocabulary.end, self._model.block
            self._together = _Queue(DecodeBatch(self._model, SLOTS, end=end, block=block))
        return self._together

    def _finish(self, number: int, count: int) -> None:
        """So many more texts of a request are written."""
        joined = self._open[number]
        joined.unfinished -= count
        if not joined.unfinished:
            del self._open[number]

    def _begin(self, batch: DecodeBatch, number: int, indices: range, news: list[Written]) -> None:
        """Let samples of a request join a batch; adds what can be said of them at once."""
        joined = self._open[number]
        request, room = joined.request, joined.request.max_length - len(joined.request.seed)
        if not room:
            whole = self.sample(request.seed, 0.0, "length")
            news += [Written(number, index, "", request.seed, whole) for index in indices]
            self._finish(number, len(indices))
            return
        position, stream = joined.position, joined.stream
        if position is None:
            position = joined.position = self._model.read(request.prompt)
            stream = joined.stream = np.random.PCG64(request.random_seed).state
        texts = [_Text(self, number, index, request) for index in indices]
        for text in texts:
            text.rng = self._rng(stream, text.index)
        if request.seed:
            news += [text.opening() for text in texts]
        slots = batch.admit(
            position,
            request.config,
            [text.rng for text in texts],
            limit=room,
            fewest=max(request.config.min_length, 1) - len(request.seed),  # no name is empty
        )
        for slot, text in zip(slots, texts, strict=True):
            self._texts[batch, slot] = text
        joined.waiting -= len(texts)
        if not joined.waiting:
            joined.position = joined.stream = None

    def sample(self, text: str, logprob: float, reason: FinishReason) -> Sample:
        """A sample from a text as the model reads it."""
        novel = None if self._names is None else text not in self._names
        return Sample(self.vocabulary.write(text), logprob, reason, novel)

    def _rng(self, stream: Any, index: int) -> np.random.Generator:
        """The random numbers of a sample: `PCG64(random_seed).jumped(index)`, but reused."""
        rng = self._rngs.pop() if self._rngs else np.random.Generator(np.random.PCG64(0))
        rng.bit_generator.state = stream
        if index:
            rng.bit_generator.advance(STRIDE * index % (1 << 128))  # type: ignore[attr-defined]
        return rng


@dataclass
class _Joined:
    """A request that is being written: how many of its texts have not begun and not ended, and
    what they all begin with, from the first to the last of them: a position, and a stream of random
    numbers.
    """

    request: Request
    waiting: int
    unfinished: int
    position: Position | None = None
    stream: Any = None


class _Queue:
    """A batch, and the samples that wait for a slot of it: each request's in order, and requests
    in turn.
    """

    def __init__(self, batch: DecodeBatch) -> None:
        self.batch = batch
        self._left: deque[tuple[int, range]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether any sample waits."""
        return bool(self._left)

    def add(self, number: int, indices: range) -> None:
        """Let samples of a request wait."""
        self._left.append((number, indices))

    def remove(self, number: int) -> None:
        """Let a request's samples wait no more."""
        self._left = deque(each for each in self._left if each[0] != number)

    def next(self) -> Iterator[tuple[int, range]]:
        """Samples for the free slots, as a request's number and indices."""
        free = self.batch.free
        while free and self._left:
            number, indices = self._left.popleft()
            share = max(1, free // (len(self._left) + 1))
            if len(indices) > share:
                self._left.append((number, indices[share:]))
            free -= len(indices[:share])
            yield number, indices[:share]


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
