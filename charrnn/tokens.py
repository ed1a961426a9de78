"""Words: text to sentences, sentences to tokens, and tokens back to text that reads well.

Where words begin and end is Unicode's default (UAX #29, "Unicode Text Segmentation", section 4), as
the `regex` module has it: "don't", "3.14" and "नमस्ते" are one token, each Chinese character is one,
and each mark is, several equal ones in a row ("...", "--") together. Sentence ends are a rule of
our own; so is the way back, which learns from the text where spaces stand. What is known of a token
belongs to the vocabulary.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

LONGEST_TOKEN = 60  # characters; a longer one is no word, and never in a vocabulary
LONGEST_SENTENCE = 200  # tokens; a longer one is cut, so that it doesn't rule its batch
WRAPPED_AT = 200  # characters; a text with longer lines isn't wrapped: each line stands for itself
QUOTE = '"'  # opens and closes
TERMINAL = ".!?…‽।。！？"
CLOSING = "\"'”’)]»」』）"
# A full stop behind one of these ends no sentence.
ABBREVIATIONS = r"\p{Lu}|Mrs?|Ms|Dr|Prof|St|Sr|Jr|vs|Mt|No|Nos|Capt|Col|Gen|Lt|Rev|Hon|Mme|Mlle"


class Token(NamedTuple):
    """A piece of text without spaces, and whether a space or a new line stood before it."""

    text: str
    spaced: bool
    new_line: bool = False


@cache
def _word_boundary() -> Any:
    import regex  # a tenth of a second, which models of characters need not wait for

    return regex.compile(r"\b", regex.WORD | regex.V1)


@cache
def _sentence_boundary() -> Any:
    import regex

    closing = regex.escape(CLOSING)
    return regex.compile(
        rf"(?<=[.!?…‽।][{closing}]{{0,3}})(?<!(?<!\p{{L}})(?:{ABBREVIATIONS})\.)\s+(?![\p{{Ll}},;:])"
        rf"|(?<=[。！？][{closing}]{{0,3}})\s*(?![\s{closing}。！？])",
        regex.V1,
    )


def is_word(token: str) -> bool:
    """Whether a token has a letter or a digit: anything else is a mark."""
    return any(map(str.isalnum, token))


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text."""
    spaced = new_line = False
    pending = ""  # equal marks, as far as they have come
    for piece in _word_boundary().split(text):
        if not piece:
            continue
        if piece.isspace():
            if pending:
                yield Token(pending, spaced, new_line)
                pending, spaced, new_line = "", False, False
            spaced, new_line = True, new_line or "\n" in piece
        elif pending and piece == pending[0]:
            pending += piece
        else:
            if pending:
                yield Token(pending, spaced, new_line)
                spaced = new_line = False
            if len(piece) == 1 and not piece.isalnum():
                pending = piece
            else:
                pending = ""
                yield Token(piece, spaced, new_line)
                spaced = new_line = False
    if pending:
        yield Token(pending, spaced, new_line)


def words_of(text: str) -> list[str]:
    """The tokens of a text, without what stands between them."""
    return [token.text for token in tokens(text)]


def sentences(text: str) -> list[str]:
    """The sentences of a text, as they stand in it, line breaks included.

    A sentence ends behind . ! ? … and their like, closing quotes and brackets included, before a
    space and anything but a small letter; not behind an initial or a usual abbreviation; behind the
    Chinese and Japanese stops without a space, too; and where a paragraph ends. A blank line ends a
    paragraph; where lines are longer than anybody wraps them, each line is one.
    """
    wrapped = max(map(len, text.split("\n")), default=0) <= WRAPPED_AT
    found = []
    for paragraph in re.split(r"\n\s*\n" if wrapped else r"\n+", text):
        for sentence in _sentence_boundary().split(paragraph):
            found += _shortened(sentence.strip())
    return found


def _shortened(sentence: str) -> list[str]:
    """A sentence, in pieces where it has too many tokens; nothing where it has none."""
    if len(sentence) <= LONGEST_SENTENCE:  # each token has a character at least
        return [sentence] if sentence else []
    pieces, whole, count = [""], [], 0
    for piece in _word_boundary().split(sentence):
        if piece.strip():
            if count == LONGEST_SENTENCE:
                whole.append(pieces)
                pieces, count = [], 0
            count += 1
        pieces.append(piece)
    return [text for each in [*whole, pieces] if (text := "".join(each).strip())]


def one_line(text: str) -> str:
    """A text in NFC, and each run of white space in it one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _three() -> tuple[Counter[str], ...]:
    return Counter(), Counter(), Counter()


@dataclass
class Counts:
    """What a text tells of its tokens, by their keys: as they are, or in lower case.

    forms: how each is written where a capital isn't owed to its place (else not counted);
    apart, glued: how often a space stands before it (0; of a mark, behind a word), behind it (1;
    before a word), and between it and a mark before it, if it is one itself (2); how often none;
    capital: of a mark, how much oftener a capital comes behind it than a small letter.
    """

    folded: bool
    counts: Counter[str] = field(default_factory=Counter)
    forms: dict[str, Counter[str]] = field(default_factory=dict)
    apart: tuple[Counter[str], ...] = field(default_factory=_three)
    glued: tuple[Counter[str], ...] = field(default_factory=_three)
    capital: Counter[str] = field(default_factory=Counter)

    def key(self, token: str) -> str:
        """What a token is looked up by."""
        return token.lower() if self.folded else token

    def add(self, sentence: str) -> None:
        """Count a sentence, as it stands in its text."""
        before, before_is_word, begins = None, False, True
        for token in tokens(sentence):
            key, word = self.key(token.text), is_word(token.text)
            self.counts[key] += 1
            if word:
                # Capitals say nothing where a sentence or a line of verse begins, or a name stands
                # before what somebody says.
                if not (begins or token.new_line):
                    self.forms.setdefault(key, Counter())[token.text] += 1
                begins = False
            else:
                begins = begins or token.text[-1] in TERMINAL + ":\"“„«'‘-–—"
            if before is not None:
                seen = self.apart if token.spaced else self.glued
                # Whether a space stands between a word and a mark is the mark's affair.
                seen[0 if before_is_word or word else 2][key] += before_is_word or not word
                seen[1][before] += word
                if word and not before_is_word and token.text[0].lower() != token.text[0].upper():
                    self.capital[before] += 1 if token.text[0].isupper() else -1
            before, before_is_word = key, word

    def written(self, key: str) -> str:
        """How a token is written in the midst of a sentence: as it mostly is."""
        forms = self.forms.get(key)
        return max(sorted(forms), key=forms.__getitem__) if forms else key

    def is_glued(self, key: str, side: int) -> bool:
        """Whether mostly no space stands before (0) or behind (1) a token, or before a mark behind
        a mark (2).
        """
        if side == 2 and not self.glued[2][key] + self.apart[2][key]:
            side = 0
        return self.glued[side][key] > self.apart[side][key]


def counted(texts: Iterable[str], *, folded: bool) -> Counts:
    """The counts of some sentences."""
    counts = Counts(folded)
    for text in texts:
        counts.add(text)
    return counts
