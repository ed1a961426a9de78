"""The vocabulary: which characters a model knows, and how text becomes ids and comes back.

A text is matched after Unicode NFC and the model's case rule. What isn't known is an error that
shows it, unless the vocabulary has a symbol for the unknown, which is read and never written.
Nothing is mapped silently. Words are `charrnn.wordlist`'s.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, Literal

import numpy as np

from charrnn.errors import UnknownCharacterError, WeightsFormatError
from charrnn.parameters import Array

Case = Literal["keep", "title", "sentence"]
CASES: tuple[Case, ...] = ("keep", "title", "sentence")
END = "\n"  # the start and end symbol of a name
UNKNOWN = "\ufffd"  # Unicode's replacement character stands for those that aren't known
FEW_CHARACTERS = 200  # are looked up one by one
MANY_CHARACTERS = 1 << 18  # of training data, that are looked up at a time

_WORD_START = re.compile(r"(?:\A|(?<=[\s\-]))\w")


def title_case(text: str) -> str:
    """The first letter, and each after a space or a hyphen, as a capital."""
    if text.isalpha():
        return sentence_case(text)
    return _WORD_START.sub(lambda match: _capital(match[0]), text)


def sentence_case(text: str) -> str:
    """The first letter as a capital."""
    return _capital(text[0]) + text[1:] if text and text[0].isalnum() else text


def _capital(letter: str) -> str:
    capital = letter.upper()
    return capital if len(capital) == 1 else letter  # the capital of ß is two letters


def written(text: str, case: Case) -> str:
    """A text of the model as people write it."""
    if case == "keep":
        return text
    return title_case(text) if case == "title" else sentence_case(text)


def matched(text: str, case: Case) -> str:
    """A text of people as the model reads it: NFC, and lower case where the rule is not keep."""
    text = unicodedata.normalize("NFC", text)
    return text if case == "keep" else unicodedata.normalize("NFC", text.lower())


def case_of(names: Sequence[str]) -> Case:
    """The rule under which every name survives: lower case to learn, and back as it was."""
    if any(name != name.lower() for name in names):
        for case in ("title", "sentence"):
            if all(written(matched(name, case), case) == name for name in names):
                return case
    return "keep"


@dataclass(frozen=True)
class Vocabulary:
    """Characters in the order of their code points; an id is a place in that order.

    `start` is the id that a text begins after; `end`, where there is one, ends it; `unknown`, where
    there is one, stands for every character that isn't known.
    """

    symbols: str
    start: int
    end: int | None
    case: Case = "keep"
    unknown: int | None = None
    unit: ClassVar[str] = "character"

    @classmethod
    def of(
        cls, texts: Iterable[str], *, ends: bool, case: Case = "keep", fewest: int = 1
    ) -> "Vocabulary":
        """The characters of `texts`; with `ends`, the newline that begins and ends a name. Those
        that are there fewer than `fewest` times become the unknown symbol.
        """
        if fewest > 1:
            counts = Counter[str]()
            for text in texts:
                counts.update(text)
            return cls.of_counts(counts, ends=ends, case=case, fewest=fewest)
        characters = set[str]()
        for text in texts:
            characters.update(text)
        return cls.of_counts(dict.fromkeys(characters, 1), ends=ends, case=case)

    @classmethod
    def of_counts(
        cls, counts: Mapping[str, int], *, ends: bool, case: Case = "keep", fewest: int = 1
    ) -> "Vocabulary":
        """`of`, from how often each character is there."""
        characters = set(counts)
        if fewest > 1:
            characters = {one for one, count in counts.items() if count >= fewest} - {UNKNOWN}
            if not characters:
                characters = {max(counts, key=counts.__getitem__)}
            if len(characters) < len(counts):
                characters.add(UNKNOWN)
        if ends:
            characters.add(END)
        symbols = "".join(sorted(characters))
        if END in characters:
            start = symbols.index(END)
        else:
            start = max(symbols.find(" "), 0)
        unknown = symbols.index(UNKNOWN) if fewest > 1 and UNKNOWN in characters else None
        return cls(symbols, start, start if ends else None, case, unknown)

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def _code_points(self) -> Array:
        return code_points(self.symbols)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: id_ for id_, symbol in enumerate(self.symbols)}

    @property
    def known_characters(self) -> str:
        """The characters that a text may hold: the symbols, but for the end and unknown ones."""
        known = self.symbols if self.end is None else self.symbols.replace(END, "")
        return known if self.unknown is None else known.replace(UNKNOWN, "")

    def encode(self, text: str) -> Array:
        """The ids of a text that is already as the model reads it, (n,) int64.

        Raises UnknownCharacterError, for the end symbol too: it can't stand within a text.
        """
        ids = self.ids_of(text)
        if self.end is not None and END in text:
            raise UnknownCharacterError(END, text.index(END), self.known_characters)
        return ids

    def ids_of(self, text: str) -> Array:
        """`encode` for training data, in which the end symbol stands between names."""
        if len(text) < FEW_CHARACTERS and all(map(self._ids.__contains__, text)):
            return np.array([self._ids[character] for character in text], np.int64)
        points = code_points(text)
        ids = np.minimum(np.searchsorted(self._code_points, points), len(self) - 1)
        unknown = np.flatnonzero(self._code_points[ids] != points)
        if unknown.size and self.unknown is not None:
            ids[unknown] = self.unknown
        elif unknown.size:
            position = int(unknown[0])
            raise UnknownCharacterError(text[position], position, self.known_characters)
        return ids

    def joined(self, sequences: Sequence[str]) -> tuple[Array, Array]:
        """Names as ids in the smallest type, an end symbol before, between and behind; and their
        lengths with the end symbol.
        """
        lengths = np.fromiter((len(sequence) + 1 for sequence in sequences), np.int64)
        return self.small_ids([END], (name + END for name in sequences)), lengths

    def small_ids(self, *texts: Iterable[str]) -> Array:
        """`ids_of` of texts, one behind the other, in the smallest type; some of them at a time."""
        parts, size = [np.empty(0, smallest(len(self)))], 0
        pending: list[str] = []

        def finish() -> None:
            parts.append(self.ids_of("".join(pending)).astype(parts[0].dtype))
            pending.clear()

        for text in chain(*texts):
            pending.append(text)
            size += len(text)
            if size >= MANY_CHARACTERS:
                finish()
                size = 0
        finish()
        return np.concatenate(parts)

    def length(self, text: str) -> int:
        """How many symbols a text has, as the model reads it."""
        return len(self.match(text))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, as the model reads it."""
        return "".join([self.symbols[id_] for id_ in ids])

    def speller(self, prompt: Sequence[int]) -> Callable[[Iterable[int]], str]:
        """What writes one text, as the model reads it, behind its prompt: the start symbol, and its
        seed.
        """
        return self.decode

    def match(self, text: str) -> str:
        """`matched`, by this vocabulary's rule."""
        return matched(text, self.case)

    match_stop = match

    def reads_alike(self, text: str, other: Any, other_text: str) -> bool:
        """Whether another vocabulary knows the same characters of a text as this one, read as it
        reads it.
        """
        if not isinstance(other, Vocabulary) or len(text) != len(other_text):
            return False
        try:
            ours, theirs = self.encode(text), other.encode(other_text)
        except UnknownCharacterError:
            return False
        return bool(np.array_equal(ours == self.unknown, theirs == other.unknown))

    def read(self, text: str) -> tuple[str, Array]:
        """A text of people as the model reads it, and its ids.

        Raises UnknownCharacterError, which shows the character as it was typed (after NFC).
        """
        read = self.match(text)
        try:
            return read, self.encode(read)
        except UnknownCharacterError:
            known = self.known_characters
            for position, character in enumerate(unicodedata.normalize("NFC", text)):
                if not set(self.match(character)) <= set(known):
                    raise UnknownCharacterError(character, position, known) from None
            raise

    def write(self, text: str) -> str:
        """`written`, by this vocabulary's rule."""
        return written(text, self.case)

    def write_on(self, before: str, piece: str) -> str:
        """`write` of a piece that stands behind `before`, without writing all of that again."""
        if self.case == "keep" or not before:
            return self.write(piece)
        return title_case(before[-1] + piece)[1:] if self.case == "title" else piece

    def to_json(self) -> dict[str, Any]:
        """As the weights file keeps it."""
        kept = {"symbols": self.symbols, "start": self.start, "end": self.end, "case": self.case}
        return kept if self.unknown is None else {**kept, "unknown": self.unknown}

    @classmethod
    def from_json(cls, data: Any) -> "Vocabulary":
        """Back from `to_json`. Raises WeightsFormatError."""
        try:
            symbols, start, end = data["symbols"], data["start"], data["end"]
            if (
                isinstance(symbols, str)
                and list(symbols) == sorted(set(symbols))
                and type(start) is int
                and start in range(len(symbols))
                and (end is None or (type(end) is int and end == symbols.index(END)))
                and data["case"] in CASES
                and ("unknown" not in data or _is_unknown(data["unknown"], data))
            ):
                return cls(symbols, start, end, data["case"], data.get("unknown"))
        except (KeyError, TypeError, ValueError):
            pass
        raise WeightsFormatError(
            "its vocabulary must have symbols in rising order, and know its start, end and case"
        )


def smallest(symbols: int) -> np.dtype[Any]:
    """The smallest type for ids of so many symbols."""
    return np.dtype("u1" if symbols <= 1 << 8 else "u2" if symbols <= 1 << 16 else "u4")


def _is_unknown(id_: Any, data: dict[str, Any]) -> bool:
    """Whether an id is that of the unknown symbol, and something is left to write."""
    symbols = data["symbols"]
    is_it = type(id_) is int and id_ in range(len(symbols)) and symbols[id_] == UNKNOWN
    return is_it and id_ != data["start"] and len(symbols) > 1 + (data["end"] is not None)


def code_points(text: str) -> Array:
    """The code points of a text, (n,) uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
