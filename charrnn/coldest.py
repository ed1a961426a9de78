"""Names of a shape at temperature 0: which these are, and whose turn it is to be searched for.

Free sampling draws a name x of symbols v_1 ... v_n with the probability

    p_T(x) = product over t of exp(l_t(v_t) / T) / sum over u of exp(l_t(u) / T)

where l_t are the logits behind the first t - 1 of them. As T falls to 0, T log p_T(x) tends to
minus the sum of the deficits, d(x) = sum over t of (max over u of l_t(u)) - l_t(v_t), since T times
the logarithm of a sum of exponentials tends to the largest term. So of the names that have the
shape, the one of the least deficit takes all the probability, and without it the one of the next;
equal ones come in the order of their symbols, as the first of equal logits does without a shape.
Where the likeliest symbols make a name of the shape by themselves, its deficit is 0: it is the name
that temperature 0 gives without a shape. It needn't be the most probable one at temperature 1,
which `beam` finds.

top_k leaves out all but the k largest of each l_t; top_p, which counts at the temperature of the
draw, all but the largest. An empty name can't be drawn: the end isn't among the first symbols.
"""

from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np

from charrnn.beam import Costs, Probable, Search
from charrnn.compiled import CompiledModel, Position
from charrnn.config import GenerationConfig
from charrnn.parameters import Array
from charrnn.sampling import Limits
from charrnn.texts import Candidate, Language, Request

AT_ONCE = 2  # searches of a batch: each holds up to a hundred megabytes and more
MOST_BATCHES = 16  # of a turn


def deficits(config: GenerationConfig, end: int, unknown: int | None = None) -> Costs:
    """The deficit of each symbol, infinite for those that can't be drawn: one above top_k or top_p,
    the unknown symbol, the end of an empty name.
    """

    def costs(logits: Array, logprobs: Array, lengths: Array) -> Array:
        if unknown is not None:
            logits[:, unknown] = -np.inf
        logits[lengths == 0, end] = -np.inf
        made: Array = logits.max(axis=1, keepdims=True) - logits
        if config.top_k is not None or config.top_p is not None:
            order, among = Limits([config] * len(logits), logits.shape[1]).ranked(logits)
            allowed = np.zeros(made.shape, bool)
            np.put_along_axis(allowed, order, np.broadcast_to(among, made.shape), axis=1)
            made[~allowed] = np.inf
        return made

    return costs


class Progress(NamedTuple):
    """What a turn of a request's search has come to: its next names, and whether it is over; why,
    where that was too early.
    """

    number: int
    names: list[Candidate]
    is_over: bool
    shortfall: str | None


class Searching:
    """The searches of many requests, which take turns."""

    def __init__(self, model: CompiledModel, language: Language) -> None:
        self._model, self._language = model, language
        self._waiting: dict[int, Request] = {}
        self._going: deque[_Searched] = deque()

    @property
    def live(self) -> int:
        """Searches that have begun."""
        return len(self._going)

    @property
    def waiting(self) -> int:
        """Those that have not."""
        return len(self._waiting)

    def add(self, number: int, request: Request) -> None:
        """Let a request wait for its turn."""
        self._waiting[number] = request

    def remove(self, number: int) -> None:
        """Forget a request."""
        self._waiting.pop(number, None)
        self._going = deque(each for each in self._going if each.number != number)

    def turn(
        self, steps: int, position_of: Callable[[int], Position | None]
    ) -> tuple[Progress | None, int]:
        """Up to `steps` batches of the next request's search. Returns what has come of it, and how
        many batches that were.

        Args:
            position_of: where the names of a request begin; None for one that stands still.
        """
        self._begin(position_of)
        for _ in range(len(self._going)):
            one = self._going[0]
            self._going.rotate(-1)
            if position_of(one.number) is not None:
                progress, made = one.advance(min(steps, MOST_BATCHES), self._language)
                if progress.is_over:
                    self._going.pop()
                return progress, made
        return None, 0

    def _begin(self, position_of: Callable[[int], Position | None]) -> None:
        """Let searches begin, as far as there is room."""
        vocabulary = self._language.vocabulary
        for number, request in list(self._waiting.items()):
            if len(self._going) == AT_ONCE:
                return
            position, shape, end = position_of(number), request.searched, vocabulary.end
            if position is None:
                continue
            assert shape
            assert end is not None
            costs = deficits(request.config, end, vocabulary.unknown)
            search = Search(self._model, position, end, shape, costs)
            self._going.append(_Searched(number, request, search))
            del self._waiting[number]


class _Searched:
    """A request whose names are being searched for."""

    def __init__(self, number: int, request: Request, search: Search) -> None:
        assert request.conditions
        self.number, self._request, self._search = number, request, search
        self._conditions = request.conditions
        self._batches = search.batches()
        self._missing = request.config.count
        self._refused: Counter[str] = Counter()

    def advance(self, steps: int, language: Language) -> tuple[Progress, int]:
        """Up to so many batches of the search, and how many these were."""
        names: list[Candidate] = []
        made = 0
        for found in islice(self._batches, steps):
            made += 1
            names += self._kept(found, language)
            if not self._missing:
                return Progress(self.number, names, True, None), made
        is_over = made < steps
        return Progress(self.number, names, is_over, self._shortfall() if is_over else None), made

    def _kept(self, found: list[Probable], language: Language) -> list[Candidate]:
        """Those names that meet the conditions, as far as they are missing; the first one as often
        as is asked for, where names may be alike.
        """
        kept: list[Candidate] = []
        for ids, logprob in found:
            if not self._missing:
                break
            text = self._request.seed + language.vocabulary.decode(ids)
            why = self._conditions.refusal(text, ends=True)
            if why:
                self._refused[why] += 1
                continue
            times = 1 if self._conditions.unique else self._missing
            kept += [Candidate(text, logprob, "end")] * times
            self._missing -= times
        return kept

    def _shortfall(self) -> str:
        """Why there are fewer names than were asked for."""
        config = self._request.config
        begins = f"{self._missing} of {config.count} texts could not be found: "
        if self._search.ended_early:
            return (
                f"{begins}the search for the names that come next at temperature 0 was ended. Ask "
                "for fewer, give a longer seed, or a temperature above 0"
            )
        limits = [name for name in ("top_k", "top_p") if getattr(config, name) is not None]
        within = f" within {' and '.join(limits)}" if limits else ""
        why = " and ".join(f"{name} ({times})" for name, times in self._refused.most_common())
        refused = f"; refused by {why}" if why else ""
        return (
            f"{begins}temperature 0 has no more names of the shape{within}{refused}. Ask for "
            "fewer, or for less"
        )
