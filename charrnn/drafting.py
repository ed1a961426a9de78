"""The batch in which names of a rare shape are drafted: whose turn it is, and what has come of it.

All drafts of all requests for one model step together. They have a batch of their own beside that
of plain texts, since a swarm needs as many slots at once as it has drafts; the steps are the same
ones of `DecodeBatch`. Requests take turns, a name each.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.compiled import CompiledModel
from charrnn.config import GenerationConfig
from charrnn.decoding import DecodeBatch
from charrnn.particles import Draft, Swarm
from charrnn.texts import Request

SLOTS: int = GenerationConfig.fields()["particles"].rules["le"]
FEW_SLOTS = 64  # where no request has more drafts for a name
STEPS = 16  # of a run, at most


@dataclass(frozen=True, eq=False)
class Ended:
    """A try of a sample that is over: the names that came of it, the first preferred."""

    number: int
    index: int
    attempt: int
    rng: np.random.Generator
    names: Sequence[Draft]


class Drafting:
    """The swarms of many requests."""

    def __init__(self, model: CompiledModel, end: int | None) -> None:
        self._model, self._end = model, end
        self._slots = FEW_SLOTS
        self._batch = self._new_batch()
        self._requests: dict[int, Request] = {}
        self._waiting: dict[int, deque[tuple[int, int]]] = {}  # tries, by request
        self._swarms: list[tuple[int, int, int, np.random.Generator, Swarm]] = []

    def _new_batch(self) -> DecodeBatch:
        block = self._model.block
        return DecodeBatch(self._model, self._slots, end=self._end, block=block, most_steps=STEPS)

    @property
    def live(self) -> int:
        """Drafts that are being written."""
        return self._batch.live

    @property
    def waiting(self) -> int:
        """Names whose drafts wait for slots."""
        return sum(map(len, self._waiting.values()))

    def add(self, number: int, request: Request, tries: Sequence[tuple[int, int]]) -> None:
        """Let tries of a request's samples wait."""
        self._requests[number] = request
        self._waiting.setdefault(number, deque()).extend(tries)

    def remove(self, number: int) -> list[np.random.Generator]:
        """Forget a request. Returns the random numbers that it used."""
        self._waiting.pop(number, None)
        self._requests.pop(number, None)
        gone = [each for each in self._swarms if each[0] == number]
        self._swarms = [each for each in self._swarms if each[0] != number]
        for *_, swarm in gone:
            self._batch.cancel_group(swarm)
        return [rng for *_, rng, _ in gone]

    def next(self, is_held: Callable[[int], bool]) -> Iterator[tuple[int, int, int]]:
        """Tries to begin now, as request, sample and try: `begin` must follow each."""
        while True:
            number = next((number for number in self._waiting if not is_held(number)), None)
            if number is None or not self._has_room(number):
                return
            tries = self._waiting.pop(number)
            index, attempt = tries.popleft()
            if tries:
                self._waiting[number] = tries  # behind the others
            yield number, index, attempt

    def _has_room(self, number: int) -> bool:
        """Whether there are slots for the drafts of a name. A batch that is too small is made anew
        as soon as it is empty.
        """
        needed = self._requests[number].config.particles
        if needed > self._slots and not self._swarms:
            self._slots = SLOTS
            self._batch = self._new_batch()
        return self._batch.free >= needed

    def begin(
        self,
        number: int,
        index: int,
        attempt: int,
        position: Any,
        rng: np.random.Generator,
    ) -> None:
        """Let the drafts of a name join."""
        request = self._requests[number]
        lookahead = request.lookahead
        assert lookahead
        swarm = Swarm(lookahead, request.prompt[1:], request.config, rng, self._model.never)
        self._batch.admit_group(position, swarm)
        self._swarms.append((number, index, attempt, rng, swarm))

    def step(self, steps: int) -> tuple[list[Ended], int]:
        """Up to `steps` symbols of each draft. Returns the tries that are over, and how many
        symbols that were.
        """
        made = min(steps, self._batch.most_steps) if self._batch.live else 0
        if made:
            self._batch.step(made)
        ended = [each for each in self._swarms if not each[-1].live]
        if ended:
            self._swarms = [each for each in self._swarms if each[-1].live]
        return [
            Ended(number, index, attempt, rng, swarm.names())
            for number, index, attempt, rng, swarm in ended
        ], made
