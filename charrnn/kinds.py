"""What a text is, by looking: names, running text or conversations; told piece by piece, so that a
text need not be in memory.
"""

from itertools import pairwise
from typing import Literal

from charrnn.config import PERSON

Kind = Literal["names", "text", "chat"]
FEWEST_NAMES = 3  # one to learn from, one to choose by, one to report on
FEWEST_CHATS = 3
ENDS = ".,;:!?…，、；：。！？」』”{}"  # of lines that aren't names


def kind_of(text: str) -> Kind:
    """The kind of a whole text, in which something is."""
    look = Look()
    look.add(text)
    return look.kind()


def turns(text: str) -> int:
    """How often a person is answered."""
    lines = text.split("\n")
    return sum(
        line.startswith(PERSON) and bool(answer) and not answer.startswith(PERSON)
        for line, answer in pairwise(lines)
    )


class Look:
    """A look at the lines of a text, piece by piece."""

    def __init__(self) -> None:
        self._lines = self._words = self._letters = self._ended = self._turns = 0
        self._talks: bool | None = None  # what the first line that isn't blank says
        self._asked = False  # whether the line before was a person's
        self._open: _Line | None = None  # a line of which some pieces have come

    def add(self, text: str) -> None:
        """The next piece; it may end within a line."""
        *lines, rest = text.split("\n")
        if self._open and lines:
            self._open.add(lines.pop(0))
            self._close(self._open)
            self._open = None
        if lines:
            self._add_lines(lines)
        if rest:
            self._open = self._open or _Line()
            self._open.add(rest)

    def kind(self) -> Kind:
        """Names are short lines of few words without punctuation; in conversations many lines begin
        with "> ".
        """
        if self._open:
            self._close(self._open)
            self._open = None
        if self._talks and self._turns >= max(self._lines / 4, FEWEST_CHATS):
            return "chat"
        words, letters = self._words / self._lines, self._letters / self._lines
        ended = self._ended / self._lines
        short = words <= 3 and letters <= 30 and ended <= 0.2
        return "names" if short and self._lines >= FEWEST_NAMES else "text"

    def _add_lines(self, lines: list[str]) -> None:
        tidy = [stripped for line in lines if (stripped := line.strip())]
        self._lines += len(tidy)
        self._letters += sum(map(len, tidy))
        self._words += len("\n".join(tidy).split())
        self._ended += sum(line[-1] in ENDS for line in tidy)
        if self._talks is None and tidy:
            self._talks = tidy[0].startswith(PERSON)
        if self._talks:
            for line in lines:
                self._heard(line[: len(PERSON)])

    def _close(self, line: "_Line") -> None:
        """A line that came in pieces."""
        if line.letters:
            self._lines += 1
            self._letters += line.letters
            self._words += line.words
            self._ended += line.last in ENDS
            if self._talks is None:
                self._talks = line.stripped_begin.startswith(PERSON)
        self._heard(line.begin)

    def _heard(self, begin: str) -> None:
        asks = begin.startswith(PERSON)
        self._turns += self._asked and bool(begin) and not asks
        self._asked = asks


class _Line:
    """A line in pieces: the figures of the whole one."""

    def __init__(self) -> None:
        self.begin = self.stripped_begin = self.last = ""
        self.letters = self.words = 0
        self._spaces = 0  # behind the last letter
        self._in_word = False

    def add(self, text: str) -> None:
        self.begin = (self.begin + text[: len(PERSON)])[: len(PERSON)]
        self.words += len(text.split()) - (self._in_word and not text[:1].isspace() and text != "")
        if not self.letters:
            text = text.lstrip()
        core = text.rstrip()
        if core:
            self.stripped_begin = (self.stripped_begin + core)[: 2 * len(PERSON)]
            self.letters += self._spaces + len(core)
            self._spaces, self.last = len(text) - len(core), core[-1]
        else:
            self._spaces += len(text) if self.letters else 0
        if text:
            self._in_word = not text[-1].isspace()
