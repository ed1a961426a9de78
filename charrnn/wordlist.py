"""The vocabulary of a model of words: the most frequent ones, and how they are put together again.

It has what `vocabulary.Vocabulary` has, so that nobody else asks what a symbol is. A text is a
sentence here: its words and marks, begun and ended by one symbol. Another symbol stands for all
words that aren't known; it is read, and never written.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np

from charrnn.errors import WeightsFormatError
from charrnn.parameters import Array
from charrnn.tokens import (
    LONGEST_TOKEN,
    QUOTE,
    counted,
    is_word,
    one_line,
    words_of,
)
from charrnn.vocabulary import END, UNKNOWN, Case, Vocabulary

WORD_CASES: tuple[Case, ...] = ("keep", "sentence")
LARGEST = 8_000  # symbols, the end and the unknown one among them, where a recipe doesn't say
GLUED = ("glued_before", "glued_behind", "glued_to_marks")  # in the weights file
FEWEST_TIMES = 2  # a word must have been seen, to be one of them: likewise


@dataclass(frozen=True)
class WordVocabulary:
    """Words and marks, the most frequent first, behind the end symbol and the unknown one.

    symbols: as they are written in the midst of a sentence. glued: the ids of those that no space
    stands before, that none stands behind, and of marks that none stands before behind a mark.
    capital: of marks with a capital behind them.
    """

    symbols: tuple[str, ...]
    case: Case
    glued: tuple[frozenset[int], ...]
    capital: frozenset[int]
    start: int = 0
    end: int = 0
    unknown: int = 1
    unit: ClassVar[str] = "word"
    known_characters: ClassVar[str] = ""  # it asks for none: what it doesn't know is unknown

    @classmethod
    def of(
        cls, sentences: Iterable[str], *, case: Case = "sentence", largest: int, fewest: int
    ) -> "WordVocabulary":
        """At most `largest` symbols, of words and marks that stand in `sentences` at least `fewest`
        times.
        """
        counts = counted(sentences, folded=case != "keep")
        ranked = sorted(counts.counts, key=lambda key: (-counts.counts[key], key))
        kept = [
            key
            for key in ranked
            if counts.counts[key] >= fewest and len(key) <= LONGEST_TOKEN and key != UNKNOWN
        ][: largest - 2]
        written = [counts.written(key) if case != "keep" else key for key in kept]
        glued = tuple(_those(kept, partial(counts.is_glued, side=side)) for side in range(3))
        capital = _those(kept, lambda key: case != "keep" and counts.capital[key] > 0)
        return cls((END, UNKNOWN, *written), case, glued, capital)

    def __len__(self) -> int:
        return len(self.symbols)

    def _key(self, word: str) -> str:
        return word if self.case == "keep" else word.lower()

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {self._key(symbol): id_ for id_, symbol in enumerate(self.symbols)}

    @cached_property
    def _words(self) -> tuple[bool, ...]:
        return tuple(map(is_word, self.symbols))

    def ids_of(self, text: str) -> Array:
        """The ids of a text's words and marks, (n,) int64; the unknown symbol's for others."""
        words = words_of(text)
        if self.case != "keep":
            words = [word.lower() for word in words]
        get, unknown = self._ids.get, self.unknown
        return np.array([get(word, unknown) for word in words], np.int64)

    encode = ids_of

    def joined(self, sequences: Sequence[str]) -> tuple[Array, Array]:
        """Sequences as ids, an end symbol before, between and behind; and their lengths with the
        end symbol.
        """
        each = [self.ids_of(sequence) for sequence in sequences]
        end = np.array([self.end])
        parts = [end, *(part for ids in each for part in (ids, end))]
        return np.concatenate(parts), np.array([len(ids) + 1 for ids in each])

    def length(self, text: str) -> int:
        """How many words and marks a text has."""
        return len(words_of(text))

    def match(self, text: str) -> str:
        """A text as it is kept: in NFC, on one line."""
        return one_line(text)

    def match_stop(self, text: str) -> str:
        """A stop string as it is looked for, in what is written."""
        return text

    def read(self, text: str) -> tuple[str, Array]:
        """A text as it is shown again, and its ids."""
        text = one_line(text)
        return text, self.ids_of(text)

    def reads_alike(self, text: str, other: Any, other_text: str) -> bool:
        """Whether another vocabulary knows the same words of a text as this one."""
        if not isinstance(other, WordVocabulary):
            return False
        theirs = other.ids_of(other_text) == other.unknown
        return np.array_equal(self.ids_of(text) == self.unknown, theirs)

    def write(self, text: str) -> str:
        """A text is kept as it is written."""
        return text

    def write_on(self, before: str, piece: str) -> str:
        """Likewise."""
        return piece

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence of `ids`, as it is written."""
        return self.speller([self.start])(ids)

    def speller(self, prompt: Sequence[int]) -> Callable[[Iterable[int]], str]:
        """What writes one text, ids by ids, behind its prompt: see `Spelling`."""
        spelling = Spelling(self)
        spelling(prompt[1:])
        return spelling

    def to_json(self) -> dict[str, Any]:
        """As the weights file keeps it."""
        return {
            "unit": self.unit,
            "symbols": list(self.symbols[2:]),
            "case": self.case,
            **{key: sorted(ids) for key, ids in zip(GLUED, self.glued, strict=True)},
            "capital": sorted(self.capital),
        }

    @classmethod
    def from_json(cls, data: Any) -> "WordVocabulary":
        """Back from `to_json`. Raises WeightsFormatError."""
        try:
            words, case = data["symbols"], data["case"]
            ids = (_checked_ids(data[key], len(words)) for key in (*GLUED, "capital"))
            *glued, capital = ids
            if (
                isinstance(words, list)
                and words
                and all(type(w) is str and 0 < len(w) <= LONGEST_TOKEN for w in words)
                and not any(character.isspace() for word in words for character in word)
                and case in WORD_CASES
            ):
                found = cls((END, UNKNOWN, *words), case, tuple(glued), capital)
                if len(found._ids) == len(found):
                    return found
        except (KeyError, TypeError, ValueError):
            pass
        raise WeightsFormatError(
            "its vocabulary must have words, all different and none with a space in it, and know "
            "its case, where no spaces stand, and what a capital comes behind"
        )


def _those(kept: Sequence[str], which: Callable[[str], bool]) -> frozenset[int]:
    return frozenset(id_ for id_, key in enumerate(kept, 2) if which(key))


def _checked_ids(ids: Any, words: int) -> frozenset[int]:
    if not (isinstance(ids, list) and all(type(i) is int and 1 < i < words + 2 for i in ids)):
        raise ValueError("no list of ids of words")
    return frozenset(ids)


class Spelling:
    """Writes a text of words, piece by piece: where spaces stand, and what has a capital.

    A space stands between two symbols unless the one before it mostly has none behind it, or the
    one behind it mostly none before it, in the text that was learned from; a straight quotation
    mark opens and closes in turn. Where words were learned in lower case, a first word has a
    capital, and one behind a mark that mostly has one behind it, as a full stop. Pieces add up to
    what one piece would be.
    """

    def __init__(self, vocabulary: WordVocabulary) -> None:
        self._vocabulary = vocabulary
        self._open = self._mark = False  # a quotation; the last symbol was a mark
        self._close = True  # to what comes next: no space between
        self._capital = vocabulary.case != "keep"

    def __call__(self, ids: Iterable[int]) -> str:
        """The text of some more symbols."""
        v = self._vocabulary
        before, behind, behind_mark = v.glued
        pieces = []
        for id_ in ids:
            symbol = v.symbols[id_]
            quote = symbol == QUOTE
            glued = self._open if quote else id_ in (behind_mark if self._mark else before)
            if not (self._close or glued):
                pieces.append(" ")
            if quote:
                self._open = not self._open
            self._close = self._open if quote else id_ in behind
            self._mark = not (v._words[id_] or id_ == v.unknown)
            if not self._mark:
                pieces.append(_capitalised(symbol) if self._capital else symbol)
                self._capital = False
            else:
                pieces.append(symbol)
                self._capital = self._capital or id_ in v.capital
        return "".join(pieces)


def _capitalised(word: str) -> str:
    first = word[:1].upper()
    return first + word[1:] if len(first) == 1 else word


AnyVocabulary = Vocabulary | WordVocabulary


def vocabulary_from_json(data: Any) -> AnyVocabulary:
    """The vocabulary that a weights file describes. Raises WeightsFormatError."""
    if isinstance(data, dict) and "unit" in data:
        if data["unit"] != WordVocabulary.unit:
            raise WeightsFormatError("its vocabulary must be of characters or of words")
        return WordVocabulary.from_json(data)
    return Vocabulary.from_json(data)
