"""Which of the names that are drawn a request is answered with: each meets all conditions, and no
two are alike.

Sample i is the first of its own tries that is not refused and not like a sample before it. The
tries of different samples come in any order, and the outcome is the same in each: a name belongs to
the lowest sample that has tried for it, and whoever loses it goes on to its next try (Gale &
Shapley 1962, "College admissions and the stability of marriage": the outcome of deferred acceptance
doesn't depend on the order of the proposals). So samples are drawn side by side, and a larger count
only adds names. In distribution, sample i is a draw from all names that meet the conditions,
without those before it: sampling without replacement, in order.

A sample is final once all before it are. The answer ends before the first sample that can't be
found within its tries.
"""

from collections import Counter, deque
from collections.abc import Sequence

from charrnn.conditions import Conditions
from charrnn.texts import Candidate

MOST_AT_ONCE = 32  # tries of one sample that are drawn side by side, once its first ones failed


class Selection:
    """The samples of one request on their way."""

    def __init__(self, conditions: Conditions, count: int, tries: int, side_by_side: int) -> None:
        """tries: of each sample, at most; so many of them may be drawn side by side, those that
        follow one by one.
        """
        self.conditions, self.count = conditions, count
        self.tries, self._side_by_side = tries, side_by_side
        self.end = count  # no sample from here on is wanted
        self.final = 0  # samples before this one have been handed out
        self._refused: dict[int, Counter[str]] = {}  # tries of a sample, by what they didn't meet
        self._made: dict[int, int] = {}  # tries that were begun, where there was more than one
        self._drawing: dict[int, dict[int, Sequence[Candidate]]] = {}  # by sample and try
        self._wanted: dict[int, int] = {}  # tries of a sample that are being drawn
        self._left: dict[int, deque[Candidate]] = {}  # that were drawn and not looked at
        self._held: dict[int, Candidate] = {}
        self._holders: dict[str, int] = {}

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to come."""
        return self.final >= self.end

    def offer(self, index: int, attempt: int, drawn: Sequence[Candidate]) -> list[tuple[int, int]]:
        """What a try of a sample came to: names, the first preferred. Returns what is to be drawn
        now: pairs of sample and try.
        """
        if index >= self.end:
            return []
        wanted = self._wanted.get(index, 1)
        if wanted > 1:
            waiting = self._drawing.setdefault(index, {})
            waiting[attempt] = drawn
            if len(waiting) < wanted:
                return []
            del self._drawing[index]
            drawn = [name for number in sorted(waiting) for name in waiting[number]]
        if index in self._left:
            self._left[index].extend(drawn)
        else:
            self._left[index] = deque(drawn)
        return self._settle(index)

    def _settle(self, index: int) -> list[tuple[int, int]]:
        """Let a sample hold its first name that it may, and so on with who loses it."""
        tries: list[tuple[int, int]] = []
        unsettled = [index]
        while unsettled:
            one = unsettled.pop()
            name = self._next(one)
            if name is None:
                tries += self._try_again(one)
                continue
            self._held[one] = name
            if self.conditions.unique:
                loser = self._holders.get(name.text)
                self._holders[name.text] = one
                if loser is not None:
                    self._refuse(loser, "unique")
                    del self._held[loser]
                    unsettled.append(loser)
        return [each for each in tries if each[0] < self.end] if tries else tries

    def _next(self, index: int) -> Candidate | None:
        """The next of a sample's names that is not refused, nor held by a sample before it."""
        left = self._left.get(index)
        while left:
            name = left.popleft()
            why = self.conditions.refusal(name.text, name.reason == "end")
            if why is None and self._holders.get(name.text, index) < index:
                why = "unique"
            if why is None:
                return name
            self._refuse(index, why)
        self._left.pop(index, None)
        return None

    def _refuse(self, index: int, why: str) -> None:
        self._refused.setdefault(index, Counter())[why] += 1

    def _try_again(self, index: int) -> list[tuple[int, int]]:
        """More tries for a sample, each time twice as many; none is left: the answer ends here."""
        made = self._made.get(index, 1)
        at_once = min(made, MOST_AT_ONCE, max(1, self._side_by_side - made))
        more = min(at_once, self.tries - made)
        if not more:
            self.end = min(self.end, index)
            return []
        self._made[index] = made + more
        self._wanted[index] = more
        return [(index, made + n) for n in range(more)]

    def take(self) -> list[tuple[int, Candidate]]:
        """The samples that have become final, in order."""
        taken = []
        while self.final < self.end and self.final in self._held:
            index = self.final
            taken.append((index, self._held.pop(index)))
            self._left.pop(index, None)
            self._made.pop(index, None)
            self._wanted.pop(index, None)
            self._refused.pop(index, None)
            self.final += 1
        return taken

    def take_held(self) -> list[tuple[int, Candidate]]:
        """All samples that there are, when no more can be drawn: `take`, and those after a gap."""
        taken = self.take() + sorted(self._held.items())
        self._held = {}
        self.end = self.final
        return [each for each in taken if each[0] < self.count]

    def shortfall(self, temperature: float = 1.0) -> str | None:
        """Why there are fewer samples than were asked for, once all is over: what refused the tries
        of the first that is missing. Those of samples behind it are as many as there was time for.

        temperature: that they were drawn at; below 1, a higher one gives others.
        """
        missing = self.count - self.end
        if not missing:
            return None
        refused = self._refused.get(self.end, Counter())
        order = sorted(refused.items(), key=lambda each: (-each[1], each[0]))
        why = " and ".join(f"{name} ({times})" for name, times in order)
        tries = "1 try" if self.tries == 1 else f"{self.tries} tries"
        remedy = "for less, or a higher temperature" if temperature < 1 else "or for less"
        return (
            f"{missing} of {self.count} texts could not be found: {tries} of one gave none that "
            f"is left; refused by {why or 'the shape'}. Ask for fewer, {remedy}"
        )
