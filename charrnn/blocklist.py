"""Words that are not fit to print, and where they count.

The list that ships is the English one of LDNOOBW, the "List of Dirty, Naughty, Obscene, and
Otherwise Bad Words", its single words, under CC BY 4.0. It is stored in ROT13, so that nobody reads
it by accident; `words/LICENSE` has its source and terms. A line of a list is a word, and how it
counts in a name:

    word      where it is a whole part of a name: between its ends, spaces, hyphens and apostrophes
    word*     also where a part begins with it
    *word*    anywhere
    !word     not at all, whatever another list says

In running text a word counts as a whole word only. Accents and the usual digits in place of letters
(0 1 3 4 5 7 @ $) don't hide a word.
"""

import codecs
import re
import unicodedata
from collections.abc import Iterable
from functools import cache, cached_property
from itertools import groupby, islice
from pathlib import Path

from charrnn.errors import ConfigError, FieldProblem, shown

SHIPPED = Path(__file__).parent / "words" / "blocked.txt"
LONGEST_WORD, MOST_BYTES = 50, 1 << 20
JUDGED = 100  # characters of a word of running text, which may have no spaces at all
DISGUISES = str.maketrans("013457@$", "oieastas")
_LINE = re.compile(r"(\*?)([^\W_]+)(\*?)")
_PARTS = re.compile(r"[^\W_]+")
_SYMBOLS = frozenset("@$")  # in place of letters, and no letters themselves


def folded(text: str) -> str:
    """Lower case, without accents and disguises."""
    if not text.isascii():
        text = "".join(
            c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
        )
    text = text.lower()
    return text if text.isalpha() else text.translate(DISGUISES)  # no letter is a disguise


def is_of_a_word(character: str) -> bool:
    """Whether a character of running text belongs to a word: a letter or digit, what is usual in
    place of one, an accent.
    """
    return (
        character.isalnum()
        or character in _SYMBOLS
        or (not character.isascii() and unicodedata.combining(character) != 0)
    )


def words_of(text: str) -> list[str]:
    """The words of running text, folded; of long ones what they begin with."""
    if text.isascii():  # where each character is folded to one
        return _PARTS.findall(folded(text))
    words = (word for is_one, word in groupby(text, is_of_a_word) if is_one)
    return [folded("".join(islice(word, JUDGED))) for word in words]


class Blocklist:
    """Words, and how each counts. Immutable: threads may share it."""

    def __init__(self, lines: Iterable[str], where: str = "the block list") -> None:
        """Lines as the module says; blank ones and those that begin with # are nothing.

        Raises ConfigError, which names the line.
        """
        self.whole: set[str] = set()
        self.first: set[str] = set()
        self.anywhere: set[str] = set()
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            taken_off = text.startswith("!")
            match = _LINE.fullmatch(folded(text.removeprefix("!")))
            if not match or len(match[2]) > LONGEST_WORD or (match[1] and not match[3]):
                rule = (
                    f"must be a word of at most {LONGEST_WORD} letters, as word, word*, *word* or "
                    "!word"
                )
                raise ConfigError([FieldProblem("line", rule, shown(text), line=number)], where)
            for words in (self.whole, self.first, self.anywhere):
                words.discard(match[2])
            if not taken_off:
                kind = self.anywhere if match[1] else self.first if match[3] else self.whole
                kind.add(match[2])
                self.whole.add(match[2])
        self.whole |= {f"{word}s" for word in self.whole}

    @classmethod
    def shipped(cls) -> "Blocklist":
        """The list that comes with the library."""
        return _shipped()

    @classmethod
    def read(cls, path: Path | str) -> "Blocklist":
        """The shipped list and a file of one's own, UTF-8, whose lines come after.

        Raises ConfigError for a file that can't be read or has a wrong line.
        """
        try:
            if not Path(path).is_file() and Path(path).exists():  # one may never end
                raise ValueError("not a regular file")
            data = Path(path).read_bytes()
            if len(data) > MOST_BYTES:
                raise ValueError(f"must have at most {MOST_BYTES} bytes, has {len(data)}")
            lines = data.decode("utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            rule = "must be a file of words, one a line, in UTF-8"
            raise ConfigError([FieldProblem("blocklist", rule, f"{path}: {why}")]) from None
        own = cls(lines, str(path))  # its own errors, with its own numbers of lines
        del own
        return cls([*_shipped_lines(), *lines], str(path))

    @cached_property
    def beginnings(self) -> frozenset[str]:
        """Every beginning of a word, the words themselves among them."""
        return frozenset(word[:size] for word in self.whole for size in range(1, len(word) + 1))

    def refuses(self, name: str) -> bool:
        """Whether a name is not fit to print."""
        text = folded(name)
        if text.isalnum():
            return self._refuses_part(text)
        return any(map(self._refuses_part, _PARTS.findall(text)))

    def _refuses_part(self, part: str) -> bool:
        """Whether a word counts in a part of a name, letters and digits."""
        if part in self.whole or self._first.begin(part):
            return True
        anywhere, size = self._anywhere, self._anywhere.size
        heads = [part[begin : begin + size] for begin in range(len(part) - size + 1)]
        return (
            not anywhere.heads.isdisjoint(heads)
            and any(  # which is seldom
                anywhere.begin(part[begin:]) for begin in range(len(heads))
            )
        )

    @cached_property
    def _first(self) -> "_Beginnings":
        return _Beginnings(self.first)

    @cached_property
    def _anywhere(self) -> "_Beginnings":
        return _Beginnings(self.anywhere)

    def finds_word(self, text: str) -> bool:
        """Whether a text has a word that `blocks` would refuse."""
        return not self.whole.isdisjoint(words_of(text))

    def blocks(self, word: str) -> bool:
        """Whether a word of running text is not fit to print."""
        return folded(word) in self.whole


@cache
def _shipped() -> Blocklist:
    return Blocklist(_shipped_lines())


def _shipped_lines() -> list[str]:
    return codecs.decode(SHIPPED.read_text(encoding="ascii"), "rot13").splitlines()


class _Beginnings:
    """Words that a text may begin with.

    Attributes:
        size: letters of the shortest one.
        heads: so many of each.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(words)
        self._sizes = sorted(set(map(len, self._words)))
        self.size = min(self._sizes, default=1)
        self.heads = frozenset(word[: self.size] for word in self._words)

    def begin(self, text: str) -> bool:
        """Whether a text begins with one of them."""
        return text[: self.size] in self.heads and not self._words.isdisjoint(
            [text[:size] for size in self._sizes]
        )
