"""One text as it is written: what has been drawn of it, what may be shown, and how it ends."""

import operator
from collections.abc import Container
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from charrnn.blocklist import JUDGED, Blocklist
from charrnn.compiled import Position
from charrnn.conditions import Conditions
from charrnn.config import FIRST_SHARED_SEED, SEEDS_OF_FOURS, GenerationConfig
from charrnn.constraints import Constraint
from charrnn.lookahead import Lookahead
from charrnn.runs import FinishReason, Stretch
from charrnn.shapes import Shape
from charrnn.wording import Mark, Wording, last_word
from charrnn.wordlist import AnyVocabulary

MOST_PARTS = 256  # of a text that is streamed, before they are joined
NOTED = 64  # symbols from one place of a text that is noted to the next, or more


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


class Request(NamedTuple):
    """A checked call: seed and stop strings as the model reads them, the prompt's ids, and how many
    symbols a text may have.

    conditions: of whole names; None for none. lookahead: of the shape that is asked for. tries: to
    draw a name freely, and then by `charrnn.particles`. searched: the shape at temperature 0, where
    nothing is drawn: `charrnn.coldest`. blocklist: of running text. position: where the prompt
    begins, which then is one symbol, not read yet; None for the zero state. constraint: which
    symbols may come, besides what the settings say.
    """

    seed: str
    prompt: list[int]
    config: GenerationConfig
    max_length: int
    random_seed: int
    stop: tuple[str, ...]
    conditions: Conditions | None = None
    lookahead: Lookahead | None = None
    tries: tuple[int, int] = (1, 0)
    searched: Shape | None = None
    blocklist: Blocklist | None = None
    position: Position | None = None
    constraint: Constraint | None = None

    @property
    def seed_length(self) -> int:
        """Symbols of the seed; the prompt has the start symbol before them."""
        return len(self.prompt) - 1

    @property
    def is_whole(self) -> bool:
        """Whether the seed leaves no room for more."""
        return self.seed_length == self.max_length

    @property
    def is_shared(self) -> bool:
        """Whether its first text shares products too."""
        return self.random_seed >= FIRST_SHARED_SEED

    @property
    def is_of_fours(self) -> bool:
        """Whether its first text shares products as one of four, where the network has such."""
        return self.random_seed in SEEDS_OF_FOURS

    def among_others(self) -> "Request":
        """The same, to be written along with many others, where the caller gave no random seed."""
        if self.config.random_seed is not None or self.is_shared:
            return self
        return self._replace(random_seed=self.random_seed + FIRST_SHARED_SEED)

    def as_fours(self) -> "Request":
        """The same, as `is_of_fours`, where the caller gave no random seed."""
        if self.config.random_seed is not None or self.random_seed >= SEEDS_OF_FOURS.start:
            return self
        place = self.random_seed % FIRST_SHARED_SEED
        return self._replace(random_seed=SEEDS_OF_FOURS[place])


class Candidate(NamedTuple):
    """A name that was drawn, as the model reads it: it may be refused."""

    text: str
    logprob: float
    reason: FinishReason


class Written(NamedTuple):
    """News of a text: characters that can't be withdrawn any more, as the model reads them; with
    the last of them, the sample. `before` is what stands right before them.
    """

    request: int
    sample_index: int
    before: str
    characters: str
    sample: Sample | None


class Language(NamedTuple):
    """What texts consist of, and the list that they may be new to; None for running text."""

    vocabulary: AnyVocabulary
    names: Container[str] | None

    def sample(self, text: str, logprob: float, reason: FinishReason) -> Sample:
        """A sample from a text as the model reads it."""
        novel = None if self.names is None else text not in self.names
        return Sample(self.vocabulary.write(text), logprob, reason, novel)


class Text:
    """One text as it is drawn: its parts, what is held back for a stop string, and its end."""

    rng: np.random.Generator

    def __init__(
        self, language: Language, number: int, index: int, request: Request, attempt: int = 0
    ) -> None:
        self.language, self.number, self.index, self.request = language, number, index, request
        self.attempt = attempt  # which of the sample's tries this is
        self.as_fours = request.is_of_fours and index == attempt == 0
        self.reason: FinishReason | None = None  # why it has ended
        self.turn = 0  # symbols that were drawn since it got its slot
        self._parts = [request.seed]
        self._tail = ""  # drawn, and not shown yet: it may be the beginning of a stop string
        self._length = request.seed_length
        self._spell = language.vocabulary.speller(request.prompt)
        self._logprob = 0.0
        blocklist = request.blocklist
        self._wording = Wording(blocklist, request.seed) if blocklist else None
        self.goes_back = False  # a blocked word was drawn: it is to be drawn again
        self.times = 0  # that it went back to where it last did
        self._back_to = -1  # which was behind so many symbols
        # Where the symbols begin that the wording keeps, and a place behind so many of them; None:
        # behind the prompt, and no place.
        self._base: Position | None = None
        self._noted: tuple[int, Position] | None = None
        self._is_of_words = language.vocabulary.unit != "character"
        self._before_base: list[int] = []  # symbols, of words only: spelling depends on them
        self._again = 0  # symbols that are drawn again, and not new
        # Of a name that must meet conditions nothing is shown before it is whole.
        self.is_hidden = bool(request.conditions) and not (request.stop or blocklist)

    def opening(self) -> Written:
        """The first news: the seed."""
        return Written(self.number, self.index, "", self.request.seed, None)

    def add(self, stretch: Stretch) -> Written | None:
        """What is new after a stretch of symbols, if anything."""
        if self._again:
            n, (slot, ids, logprobs, reason) = self._again, stretch
            stretch = Stretch(slot, ids[n:], logprobs[n:], reason)
            self._again -= len(ids) - len(stretch.ids)
        if self.request.stop:
            return self._add_watching(stretch)
        if self._wording:
            return self._add_clean(stretch, self._wording)
        ids = stretch.ids[:-1] if stretch.finish_reason == "end" else stretch.ids
        self._logprob = reduce(operator.add, stretch.logprobs, self._logprob)
        return self.news(self._spell(ids), stretch.finish_reason)

    def cut(self, reason: FinishReason) -> Written:
        """The end, here."""
        wording = self._wording
        # Cut off in time, a word that may yet be taken back is not there: the text begins as it
        # would have been.
        if wording and (wording.is_blocked() or (reason == "time" and wording.is_suspect())):
            self._tail, self._logprob = self._tail[: wording.mark.unshown], wording.mark.logprob
        characters, self._tail = self._tail, ""
        return self.news(characters, reason)

    def news(self, characters: str, reason: FinishReason | None) -> Written:
        """Characters that are shown from now on; with a reason, they are the last. A text that must
        meet conditions is a candidate then, and no sample yet.
        """
        before, sample, self.reason = self._parts[-1], None, reason
        if characters:
            if len(self._parts) == MOST_PARTS:
                self._parts = ["".join(self._parts)]
            self._parts.append(characters)
        if reason and not self.request.conditions:
            sample = self.language.sample("".join(self._parts), self._logprob, reason)
        return Written(self.number, self.index, before, characters, sample)

    def candidate(self) -> Candidate:
        """The whole text, which has ended."""
        assert self.reason
        return Candidate("".join(self._parts), self._logprob, self.reason)

    def last(self, stretch: Stretch) -> Candidate:
        """`add`, and then `candidate`, of one that `is_hidden` and ends with the stretch."""
        _, ids, logprobs, reason = stretch
        assert reason
        characters = self._spell(ids[:-1] if reason == "end" else ids)
        text = "".join((*self._parts, characters))
        return Candidate(text, reduce(operator.add, logprobs, self._logprob), reason)

    def lacks_place(self) -> bool:
        """Whether it would be of use to `note` where the text stands."""
        if not self._wording:
            return False
        self._pass_place()
        return self._noted is None and len(self._wording.ids) - self._again >= NOTED

    def note(self, position: Position) -> None:
        """The text stands here: it need not go back farther, once a word has begun behind it."""
        assert self._wording
        self._noted = len(self._wording.ids) - self._again, position

    def go_back(self) -> tuple[Position | None, list[int], int]:
        """Forget the blocked word. Returns a place before it, None for the prompt's end, the
        symbols from there that stand, and how many symbols the text has.
        """
        wording, vocabulary = self._wording, self.language.vocabulary
        assert wording
        self._pass_place()
        self._length -= wording.go_back()
        self._noted = None
        if self._is_of_words:
            stands = [*self._before_base, *wording.ids]
            self._spell = vocabulary.speller([*self.request.prompt, *stands])
        self._tail, self._logprob = self._tail[: wording.mark.unshown], wording.mark.logprob
        self.goes_back, self._again = False, len(wording.ids)
        self.times = self.times + 1 if self._length == self._back_to else 1
        self._back_to = self._length
        return self._base, list(wording.ids), self._length

    def _pass_place(self) -> None:
        """Keep nothing before the place that was noted, once the word at the end is behind it."""
        assert self._wording
        if self._noted and self._noted[0] <= self._wording.mark.ids:
            count, self._base = self._noted
            before, self._noted = self._wording.forget(count), None
            if self._is_of_words:
                self._before_base += before

    def _add_clean(self, stretch: Stretch, wording: Wording) -> Written | None:
        """`add`, on the look-out for blocked words."""
        if self._is_of_words:
            return self._add_watching(stretch)
        symbols, ids, reason = self.language.vocabulary.symbols, stretch.ids, stretch.finish_reason
        characters = "".join([symbols[id_] for id_ in ids])
        begins = None if reason == "end" else wording.add_clean(ids, characters)
        if begins is None:
            return self._add_watching(stretch)
        self._logprob = reduce(operator.add, stretch.logprobs[:begins], self._logprob)
        self._tail += characters
        self._length += len(characters)
        if begins < len(ids):
            unshown = len(self._tail) - len(ids) + begins
            wording.mark = Mark(len(wording.ids) - len(ids) + begins, unshown, self._logprob)
        self._logprob = reduce(operator.add, stretch.logprobs[begins:], self._logprob)
        return self._show(reason)

    def _add_watching(self, stretch: Stretch) -> Written | None:
        """`add`, symbol by symbol, on the look-out for stop strings and blocked words."""
        wording, spell, reason = self._wording, self._spell, stretch.finish_reason
        last = len(stretch.ids) - 1
        for n, (id_, logprob) in enumerate(zip(stretch.ids, stretch.logprobs, strict=True)):
            before, self._logprob = self._logprob, self._logprob + logprob
            if n == last and reason == "end":
                break
            characters = spell((id_,))  # of a word several
            if wording and wording.add(id_, characters, len(self._tail), before):
                self.goes_back = True
                return None
            self._length += 1
            for character in characters:
                self._tail += character
                stop = self._stop()
                if stop:
                    left = self._tail.removesuffix(stop)
                    if self._ends_blocked(left):
                        self.goes_back = True
                        return None
                    self._tail = ""
                    return self.news(left, "stop")
        if reason and wording and wording.is_blocked():
            self.goes_back = True
            return None
        return self._show(reason)

    def _show(self, reason: FinishReason | None) -> Written | None:
        """What of the tail is clear by now."""
        clear = len(self._tail) - (0 if reason else self._held_back())
        if not clear and not reason:
            return None
        characters, self._tail = self._tail[:clear], self._tail[clear:]
        wording = self._wording
        if wording:
            wording.mark = wording.mark._replace(unshown=max(0, wording.mark.unshown - clear))
        return self.news(characters, reason)

    def _stop(self) -> str | None:
        """The longest stop string that the text now ends with, where it leaves enough text."""
        found = [
            stop
            for stop in self.request.stop
            if self._tail.endswith(stop)
            and self._length - self.language.vocabulary.length(stop)
            >= self.request.config.min_length
        ]
        return max(found, key=len, default=None)

    def _held_back(self) -> int:
        """How many of the last characters may be the beginning of a stop string or a blocked
        word.
        """
        tail, wording = self._tail, self._wording
        held, may_go_back = self._held_for_stops(tail)
        if wording and wording.is_suspect():
            held, may_go_back = max(held, len(tail) - wording.mark.unshown), True
        if wording and may_go_back:  # what stands before may then begin a stop string once more
            before = tail[: wording.mark.unshown]
            again, _ = self._held_for_stops(before)
            held = max(held, len(tail) - len(before) + again if again else 0)
        return held

    def _held_for_stops(self, tail: str) -> tuple[int, bool]:
        """How many of the last characters of a tail may be the beginning of a stop string, and the
        blocked word that the text would end with, cut there; and whether it would.
        """
        longest, held, blocked = max(map(len, self.request.stop), default=1) - 1, 0, False
        for size in range(min(longest, len(tail)), 0, -1):
            if any(stop.startswith(tail[-size:]) for stop in self.request.stop):
                left, held = tail[:-size], max(held, size)
                if self._ends_blocked(left):
                    held, blocked = max(held, size + len(last_word(left))), True
        return held, blocked

    def _ends_blocked(self, tail: str) -> bool:
        """Whether the text, cut off behind so much of what is not shown yet, would end with a
        blocked word.
        """
        blocklist = self.request.blocklist
        if not (blocklist and tail):  # what is shown is fit to be, or the seed
            return False
        end = tail
        for part in reversed(self._parts):
            if len(end) > JUDGED:
                break
            end = part + end
        return blocklist.blocks(last_word(end)[:JUDGED])
