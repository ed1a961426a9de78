"""From checked requests to texts: which sample is drawn in which batch, with which random numbers.
The drawing itself is `charrnn.decoding`'s; what is shown of a text is `charrnn.texts`'s.

Sample i of a request has the same bits whatever the request's count and whatever else is being
written: its random numbers are a stream of its own, and its place in the request decides which
batch it joins. The first joins the one whose products take each row alone, which is fastest for one
text; the others the one whose products take several rows at once, which is fastest for many. Of a
large network, where two rows take no longer than one, all join the second.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from charrnn.compiled import BY_ROW, KEPT_LENGTH, CompiledModel, Position
from charrnn.decoding import DecodeBatch, Parked
from charrnn.texts import Language, Request, Text, Written

SLOTS = 64  # sequences of a batch
ALONE = 1  # samples of a request whose rows are multiplied alone
# Symbols at a time while others wait for a slot, and at first where a stop string may come.
REFILL_STEPS = 8
FEWEST_READ = 16  # symbols of long prompts that are read in a turn
# Between the streams of two samples: 2^128 / golden ratio, as in numpy's PCG64.jumped.
STRIDE = 0x9E3779B97F4A7C15F39CC0605CEDC835


class Writer:
    """Writes the texts of requests, which join and leave between its turns. Belongs to one thread
    at a time.
    """

    def __init__(self, model: CompiledModel, language: Language) -> None:
        self._language, self._model = language, model
        self._alone = _Queue(DecodeBatch(model, SLOTS, end=language.vocabulary.end))
        self._together: _Queue | None = None  # made where it is needed
        self._open: dict[int, _Joined] = {}
        self._rngs: list[np.random.Generator] = []  # idle ones
        self._unread: deque[_Joined] = deque()  # whose prompts are not read to their ends
        self._next, self._steps = 0, REFILL_STEPS

    @property
    def live(self) -> int:
        """Texts that are being drawn."""
        return sum(queue.batch.live for queue in self._queues())

    @property
    def waiting(self) -> int:
        """Texts that wait for a slot."""
        return sum(queue.waiting for queue in self._queues())

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
        joined = self._open[number] = _Joined(request, count, count, request.position)
        if len(request.prompt) > KEPT_LENGTH:
            joined.unread = request.prompt
            self._unread.append(joined)
        few = 0 if self._model.begins_together else min(ALONE, count)
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
        self._drop(number)

    def end(self, number: int) -> list[Written]:
        """Write no more of a request: its texts end with what they have. Those that had not begun
        are left out.
        """
        return [text.cut("time") for text in self._drop(number)]

    def pause(self, number: int) -> None:
        """Let a request stand still until `resume`, in no other's way."""
        joined = self._open[number]
        if not joined.paused:
            joined.paused = True
            for queue in self._queues():
                joined.parked += [(queue, *parked) for parked in queue.park(number)]

    def resume(self, number: int) -> None:
        """Let a request go on, if it stands still."""
        joined = self._open[number]
        if joined.paused:
            joined.paused = False
            for queue, parked, text in joined.parked:
                queue.returning.append((parked, text))
            joined.parked = []

    def _drop(self, number: int) -> "list[Text]":
        """Forget a request. Returns its texts that had begun and not ended."""
        joined = self._open.pop(number, None)
        if joined and joined.unread:
            self._unread.remove(joined)
        texts = [text for _, _, text in joined.parked] if joined else []
        for queue in self._queues():
            queue.remove(number)
            texts += [text for _, text in queue.park(number)]
        self._rngs += [text.rng for text in texts]
        return texts

    def turn(self, steps: int) -> list[Written]:
        """Up to `steps` symbols of each text. Returns what is new: of each text at most once what
        was drawn; fewer steps while others wait for a slot, or a stop string may come.
        """
        news: list[Written] = []
        self._read(max(steps, FEWEST_READ))
        for queue in self._queues():
            queue.let_return()
            for number, indices in queue.next(self._is_held):
                self._begin(queue, number, indices, news)
        if any(joined.request.stop for joined in self._open.values()):
            self._steps = min(2 * self._steps, steps)
        else:
            self._steps = steps
        for queue in self._queues():
            most = min(REFILL_STEPS, steps) if queue.waiting else self._steps
            for stretch in queue.batch.step(most) if queue.batch.live else ():
                text = queue.texts[stretch.slot]
                new = text.add(stretch)
                if new is None:
                    continue
                news.append(new)
                if new.sample:
                    del queue.texts[stretch.slot]
                    self._rngs.append(text.rng)
                    if stretch.finish_reason is None:
                        queue.batch.cancel(stretch.slot)
                    self._finish(text.number, 1)
        return news

    def _is_held(self, number: int) -> bool:
        joined = self._open[number]
        return joined.paused or bool(joined.unread)

    def _read(self, symbols: int) -> None:
        """Read on in long prompts, the oldest first, so many symbols in all: no text waits for the
        whole of another's prompt.
        """
        while symbols and self._unread:
            joined = self._unread[0]
            taken = min(symbols, len(joined.unread) - 1)
            state = joined.position.state if joined.position else None
            joined.position = self._model.read(joined.unread[: taken + 1], state)
            joined.unread, symbols = joined.unread[taken:], symbols - taken
            if len(joined.unread) == 1:
                joined.unread = []
                self._unread.popleft()

    def _queues(self) -> "list[_Queue]":
        return [self._alone, self._together] if self._together else [self._alone]

    def _many(self) -> "_Queue":
        """The queue of the batch whose rows share products."""
        if self._together is None:
            end, block = self._language.vocabulary.end, self._model.block
            self._together = _Queue(DecodeBatch(self._model, SLOTS, end=end, block=block))
        return self._together

    def _finish(self, number: int, count: int) -> None:
        """So many more texts of a request are written."""
        joined = self._open[number]
        joined.unfinished -= count
        if not joined.unfinished:
            del self._open[number]

    def _begin(self, queue: "_Queue", number: int, indices: range, news: list[Written]) -> None:
        """Let samples of a request join a batch; adds what can be said of them at once."""
        joined = self._open[number]
        request, room = joined.request, joined.request.max_length - len(joined.request.seed)
        if not room:
            whole = self._language.sample(request.seed, 0.0, "length")
            news += [Written(number, index, "", request.seed, whole) for index in indices]
            self._finish(number, len(indices))
            return
        if joined.position is None:
            joined.position = self._model.read(request.prompt)
        if joined.stream is None:
            joined.stream = np.random.PCG64(request.random_seed).state
        position, stream = joined.position, joined.stream
        texts = [Text(self._language, number, index, request) for index in indices]
        for text in texts:
            text.rng = self._rng(stream, text.index)
        if request.seed:
            news += [text.opening() for text in texts]
        slots = queue.batch.admit(
            position,
            request.config,
            [text.rng for text in texts],
            limit=room,
            fewest=max(request.config.min_length, 1) - len(request.seed),  # no name is empty
            constraint=request.constraint,
        )
        queue.texts.update(zip(slots, texts, strict=True))
        joined.waiting -= len(texts)
        if not joined.waiting:
            joined.position = joined.stream = None

    def _rng(self, stream: Any, index: int) -> np.random.Generator:
        """The random numbers of a sample: `PCG64(random_seed).jumped(index)`, but reused."""
        rng = self._rngs.pop() if self._rngs else np.random.Generator(np.random.PCG64(0))
        rng.bit_generator.state = stream
        if index:
            rng.bit_generator.advance(STRIDE * index % (1 << 128))  # type: ignore[attr-defined]
        return rng


@dataclass(eq=False)
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
    unread: list[int] = field(default_factory=list)  # of a long prompt, from the position on
    paused: bool = False
    parked: "list[tuple[_Queue, Parked, Text]]" = field(default_factory=list)


class _Queue:
    """A batch, and the samples that wait for a slot of it: each request's in order, and requests
    in turn.
    """

    def __init__(self, batch: DecodeBatch) -> None:
        self.batch = batch
        self.texts: dict[int, Text] = {}  # those in the batch, by slot
        self.returning: deque[tuple[Parked, Text]] = deque()  # that stood still, and wait too
        self._left: deque[tuple[int, range]] = deque()

    @property
    def waiting(self) -> int:
        """Samples that wait."""
        return len(self.returning) + sum(len(indices) for _, indices in self._left)

    def add(self, number: int, indices: range) -> None:
        """Let samples of a request wait."""
        self._left.append((number, indices))

    def remove(self, number: int) -> None:
        """Let samples of a request that have not begun wait no more."""
        self._left = deque(each for each in self._left if each[0] != number)

    def park(self, number: int) -> "list[tuple[Parked, Text]]":
        """Take a request's samples that have begun out of the batch."""
        slots = [slot for slot, text in self.texts.items() if text.number == number]
        parked = [(self.batch.park(slot), self.texts.pop(slot)) for slot in slots]
        parked += [each for each in self.returning if each[1].number == number]
        self.returning = deque(each for each in self.returning if each[1].number != number)
        return parked

    def let_return(self) -> None:
        """Let those go on that stood still, as far as there are slots."""
        while self.returning and self.batch.free:
            parked, text = self.returning.popleft()
            self.texts[self.batch.unpark(parked)] = text

    def next(self, is_held: Callable[[int], bool]) -> Iterator[tuple[int, range]]:
        """Samples for the free slots, as a request's number and indices."""
        if not self._left:
            return
        free, held = self.batch.free, [each for each in self._left if is_held(each[0])]
        waiting = deque(each for each in self._left if not is_held(each[0]))
        while free and waiting:
            number, indices = waiting.popleft()
            share = max(1, free // (len(waiting) + 1))
            if len(indices) > share:
                waiting.append((number, indices[share:]))
            free -= len(indices[:share])
            yield number, indices[:share]
        self._left = waiting + deque(held)
