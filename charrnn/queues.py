"""Samples that wait for a slot of a batch, and those that have one.

Whose turn it is: each request's samples in their order, and of the requests the one that has the
fewest slots. Where more texts are asked for than there are slots, nobody waits for another's long
text: for a request that has less than its share, texts that have had their turn stand still. They
go on as slots become free.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from charrnn.decoding import DecodeBatch
from charrnn.sequences import Parked
from charrnn.texts import Text

TURN = 32  # symbols of a text, after which it may have to stand still for others
MOST_STANDING = 128  # texts that stand still at a time: they hold memory
# Slots that new samples get, while texts that stand still wait for one, for each of theirs.
PASSED = 3


class FirstTries(Sequence[tuple[int, int]]):
    """The first tries of some samples, as pairs of sample and try."""

    def __init__(self, indices: range) -> None:
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return FirstTries(self._indices[place])
        return self._indices[place], 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((index, 0) for index in self._indices)


Tries = Sequence[tuple[int, int]]  # of samples: an index, and which try of it


class Queue:
    """A batch, and the samples that wait for a slot of it: each request's in order, and requests
    in turn.
    """

    def __init__(self, batch: DecodeBatch) -> None:
        self.batch, self._slots = batch, batch.free
        self.texts: dict[int, Text] = {}  # those in the batch, by slot
        self.returning: deque[tuple[Parked, Text]] = deque()  # that stood still, and wait too
        self._left: deque[tuple[int, Tries]] = deque()
        self._claimed = 0  # slots that new samples are to have before those that stood still
        self._passed = 0  # slots that they had since one of those got one

    @property
    def waiting(self) -> int:
        """Samples that wait."""
        return len(self.returning) + sum(len(tries) for _, tries in self._left)

    def add(self, number: int, indices: range) -> None:
        """Let samples of a request wait."""
        self._left.append((number, FirstTries(indices)))

    def add_tries(self, number: int, tries: Tries) -> None:
        """Let samples of a request that are drawn once more wait, before those that haven't begun:
        others may wait for them.
        """
        self._left.appendleft((number, tries))

    def remove(self, number: int) -> None:
        """Let samples of a request that have not begun wait no more."""
        self._left = deque(each for each in self._left if each[0] != number)

    def park(self, number: int) -> list[tuple[Parked, Text]]:
        """Take a request's samples that have begun out of the batch."""
        slots = [slot for slot, text in self.texts.items() if text.number == number]
        parked = [(self.batch.park(slot), self.texts.pop(slot)) for slot in slots]
        parked += [each for each in self.returning if each[1].number == number]
        self.returning = deque(each for each in self.returning if each[1].number != number)
        return parked

    def make_room(self, is_held: Callable[[int], bool]) -> None:
        """Let texts stand still that have had their turn, for requests that wait and have less than
        their share of the slots.
        """
        self._claimed = 0
        if not self._left or self.waiting <= self.batch.free:
            return
        left: Counter[int] = Counter()
        for number, tries in self._left:
            left[number] += len(tries)
        waiting = {number: count for number, count in left.items() if not is_held(number)}
        have = self._have()
        share = max(1, self._slots // max(1, len(have.keys() | waiting)))
        lacking = {
            number: min(count, share - have[number])
            for number, count in waiting.items()
            if have[number] < share
        }
        self._claimed = sum(lacking.values())
        room = self.batch.free
        for slot, text in list(self.texts.items()):  # that have had a slot for longest come first
            if room >= self._claimed or len(self.returning) >= MOST_STANDING:
                return
            if text.turn >= TURN and text.number not in lacking:
                self.returning.append((self.batch.park(slot), self.texts.pop(slot)))
                room += 1

    def let_return(self) -> None:
        """Let those go on that stood still, as far as there are slots that nobody else is to have;
        but one at least after so many that others had.
        """
        while self.returning and (free := self.batch.free):
            if free <= self._claimed and self._passed < PASSED:
                return
            parked, text = self.returning.popleft()
            text.turn = self._passed = 0
            self.texts[self.batch.unpark(parked)] = text

    def next(self, is_held: Callable[[int], bool]) -> Iterator[tuple[int, Tries]]:
        """Samples for the free slots, as a request's number and tries."""
        free = self.batch.free
        if not self._left or not free:
            return
        entries = [each for each in self._left if not is_held(each[0])]
        given = [len(tries) for _, tries in entries]
        if sum(given) > free:
            given = self._shared_out(entries, free)
        if self.returning:
            self._passed += sum(given)
        self._left = deque(each for each in self._left if is_held(each[0]))
        begin: list[tuple[int, Tries]] = []
        for (number, tries), count in zip(entries, given, strict=True):
            if count < len(tries):
                self._left.append((number, tries[count:]))
                tries = tries[:count]
            if count:
                begin.append((number, tries))
        yield from begin

    def _shared_out(self, entries: Sequence[tuple[int, Tries]], free: int) -> list[int]:
        """How many slots each of the entries gets: one after the other, who has the fewest."""
        have, given = self._have(), [0] * len(entries)
        heap = [(have[number], place) for place, (number, _) in enumerate(entries)]
        heapq.heapify(heap)
        while free and heap:
            slots, place = heap[0]
            lacking = len(entries[place][1]) - given[place]
            more = 1 if len(heap) > 1 else min(free, lacking)
            given[place], free = given[place] + more, free - more
            if more == lacking:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (slots + more, place))
        return given

    def _have(self) -> Counter[int]:
        """How many slots each request has."""
        return Counter(text.number for text in self.texts.values())
