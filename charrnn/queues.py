"""Samples that wait for a slot of a batch, and those that have one.

Whose turn it is: each request's samples in their order, and requests in turn, each with its share
of the slots that are free.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from charrnn.decoding import DecodeBatch
from charrnn.sequences import Parked
from charrnn.texts import Text


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
        self.batch = batch
        self.texts: dict[int, Text] = {}  # those in the batch, by slot
        self.returning: deque[tuple[Parked, Text]] = deque()  # that stood still, and wait too
        self._left: deque[tuple[int, Tries]] = deque()

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

    def let_return(self) -> None:
        """Let those go on that stood still, as far as there are slots."""
        while self.returning and self.batch.free:
            parked, text = self.returning.popleft()
            self.texts[self.batch.unpark(parked)] = text

    def next(self, is_held: Callable[[int], bool]) -> Iterator[tuple[int, Tries]]:
        """Samples for the free slots, as a request's number and tries."""
        if not self._left:
            return
        free, held = self.batch.free, [each for each in self._left if is_held(each[0])]
        waiting = deque(each for each in self._left if not is_held(each[0]))
        while free and waiting:
            number, tries = waiting.popleft()
            share = max(1, free // (len(waiting) + 1))
            if len(tries) > share:
                waiting.append((number, tries[share:]))
                tries = tries[:share]
            free -= len(tries)
            yield number, tries
        self._left = waiting + deque(held)
