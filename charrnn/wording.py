"""Running text, word by word, against the block list: what may be shown, and where to go back to.

A word counts once it has ended. Until then it is held back if a blocked word begins as it does, so
that none is ever shown; nothing else waits. Where one has been drawn, the text goes back to before
it and goes on from there on other random numbers. Words of the seed are the caller's: not judged.
"""

from collections.abc import Sequence
from typing import NamedTuple

from charrnn.blocklist import JUDGED, Blocklist, folded, is_of_a_word


class Mark(NamedTuple):
    """A place in a text to go back to: how many of the symbols that are kept are before it, how
    many characters had not been shown, and the log-probability.
    """

    ids: int = 0
    unshown: int = 0
    logprob: float = 0.0


class Wording:
    """The word at the end of one text, and the symbols that it may have to draw again."""

    def __init__(self, blocklist: Blocklist, before: str) -> None:
        """before: what the text begins with."""
        self._blocklist = blocklist
        self.ids: list[int] = []
        self._word = self._given = last_word(before)[:JUDGED]
        self.mark = Mark()  # before the word at the end

    def add(self, id_: int, symbol: str, unshown: int, logprob: float) -> bool:
        """One more symbol, and what had not been shown before it, and the log-probability there.
        Returns whether a blocked word ends before it or in it.
        """
        for character in symbol:
            if is_of_a_word(character):
                if not self._word:
                    self.mark = Mark(len(self.ids), unshown, logprob)
                if len(self._word) < JUDGED:
                    self._word += character
            elif self.is_blocked():
                return True
            else:
                self._word = self._given = ""
        self.ids.append(id_)
        return False

    def add_clean(self, ids: Sequence[int], characters: str) -> int | None:
        """Several symbols at once, of a character each, if no word of theirs is blocked. Returns at
        which of them the word at the end begins, or how many there are where it began before; None
        where they are to be added one by one. The caller sets the mark.
        """
        text = self._word + characters
        if len(characters) != len(ids) or self._blocklist.finds_word(text):
            return None
        word = last_word(characters)
        begins = len(characters) - len(word)
        if begins or not self._word:
            self._word, self._given = word[:JUDGED], ""
        else:
            self._word, begins = text[:JUDGED], len(ids)
        self.ids.extend(ids)
        return begins

    def is_blocked(self) -> bool:
        """Whether the text can't end here."""
        return self._word != self._given and self._blocklist.blocks(self._word)

    def is_suspect(self) -> bool:
        """Whether the word at the end may be, or become, a blocked one."""
        begins = folded(self._word)  # of accents alone nothing is left
        return bool(self._word) and (not begins or begins in self._blocklist.beginnings)

    def go_back(self) -> int:
        """Forget the word at the end. Returns of how many symbols that was."""
        drawn = len(self.ids)
        del self.ids[self.mark.ids :]
        self._word = self._given
        return drawn - len(self.ids)

    def forget(self, count: int) -> list[int]:
        """Keep so many symbols less, the first ones, which are returned."""
        before, self.ids = self.ids[:count], self.ids[count:]
        self.mark = self.mark._replace(ids=self.mark.ids - count)
        return before


def last_word(text: str) -> str:
    """The word that a text ends with."""
    size = len(text)
    while size and is_of_a_word(text[size - 1]):
        size -= 1
    return text[size:]
