"""Training data: files -> names, running text or conversations -> splits.

A name, a block of text, or a conversation falls on its side by a salted hash of itself, so it stays
there as the list grows. `batches` makes of a corpus what the network is fed.
"""

import hashlib
import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from charrnn.columns import Column, column_of, delimiter_of
from charrnn.config import PERSON, CorpusConfig
from charrnn.errors import ConfigError, CorpusError, FieldProblem
from charrnn.tokens import one_line, sentences
from charrnn.vocabulary import Case, Vocabulary, case_of, matched
from charrnn.wordlist import FEWEST_TIMES, LARGEST, WORD_CASES, AnyVocabulary, WordVocabulary

log = logging.getLogger(__name__)

Kind = Literal["names", "text", "chat"]
FEWEST_NAMES = 3  # one to learn from, one to choose by, one to report on
SHORTEST_TEXT = 1_000
FEWEST_CHATS = 3
FEWEST_SENTENCES = 20
LONG_TEXT = 100_000  # characters, from which rare ones are folded into one:
RARE = 3  # those that are there fewer times
LONGEST_NAME = 200  # characters; a longer line of a list is no name, and would rule its training
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """What was read: the normalised text, and what had to be mended on the way.

    is_table: whether `text` is the cells of a column, each a text of its own between blank lines;
    said: what a person is told of it.
    """

    text: str
    sha256: str
    size: int
    mended: dict[str, int]
    is_table: bool = False
    said: tuple[str, ...] = ()


def hash_of_files(paths: Sequence[Path]) -> str:
    """The SHA-256 that `read_files` gives its source, without reading more into the files.

    Raises CorpusError for a file that can't be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        _add_to(digest, _read_bytes(path), alone=len(paths) == 1)
    return digest.hexdigest()


def _add_to(digest: "hashlib._Hash", data: bytes, *, alone: bool) -> None:
    digest.update(data if alone else f"{len(data)}\0".encode() + data)


def read_files(paths: Sequence[Path], column: str | None = None) -> Source:
    """Read UTF-8 files as one text: NFC, no byte order mark, lines ended by a newline; of a table
    one column, by name or number.

    Raises CorpusError for a file that can't be read, is empty, or isn't UTF-8; for a table that
    isn't one, or has no such column.
    """
    digest, size, texts, tables = hashlib.sha256(), 0, [], []
    mended = {
        "byte order marks": 0,
        "CRLF line ends": 0,
        "CR line ends": 0,
        "lines with characters in pieces": 0,
        "rows without the column": 0,
    }
    for path in paths:
        data = _read_bytes(path)
        _add_to(digest, data, alone=len(paths) == 1)
        size += len(data)
        text = _decoded(data, path)
        mended["byte order marks"] += text.count("\ufeff")  # within, where files were joined
        mended["CRLF line ends"] += text.count("\r\n")
        mended["CR line ends"] += text.count("\r") - text.count("\r\n")
        lines = re.sub("\r\n?", "\n", text.replace("\ufeff", "")).split("\n")
        whole = [unicodedata.normalize("NFC", line) for line in lines]
        mended["lines with characters in pieces"] += sum(map(str.__ne__, lines, whole))
        texts.append("\n".join(whole))
        empty = not texts[-1].strip()
        delimiter = None if empty else delimiter_of(texts[-1], path, told=column is not None)
        if delimiter:
            tables.append(column_of(texts[-1], delimiter, column, path))
            mended["rows without the column"] += tables[-1].short
            texts[-1] = _paragraphs(tables[-1])
    if tables and len(tables) < len(paths):
        raise CorpusError(
            f"{', '.join(map(str, paths))}: must all be tables (CSV, TSV), or none; give them to "
            "trainings of their own"
        )
    between = "\n\n" if tables else "\n"
    joined = between.join(text.removesuffix("\n") for text in texts)
    if not joined.strip():
        raise CorpusError(f"{', '.join(map(str, paths))}: no text in it; give a file with some")
    said = tuple(dict.fromkeys(table.said for table in tables))
    return Source(joined + "\n", digest.hexdigest(), size, mended, bool(tables), said)


def _paragraphs(column: Column) -> str:
    """The cells of a column, each a paragraph without blank lines in it."""
    cells = (re.sub(r"\n\s*\n", "\n", cell.strip()) for cell in column.cells)
    return "\n\n".join(cell for cell in cells if cell)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        reason = getattr(error, "strerror", error)
        raise CorpusError(f"{path}: can't be read: {reason}; give a text file") from None


def _decoded(data: bytes, path: Path) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CorpusError(f"{path}: is UTF-16, must be UTF-8; save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{path}: must be UTF-8, got byte 0x{data[error.start]:02X} in line {line}; "
            "save it as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise CorpusError(f"{path}: must be text, got a zero byte in line {line}")
    return text


def kind_of(text: str) -> Kind:
    """Names, running text or conversations, by looking: names are short lines of few words
    without punctuation; in conversations many lines begin with "> ".
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if lines[0].startswith(PERSON) and _turns(text) >= max(len(lines) / 4, FEWEST_CHATS):
        return "chat"
    words = sum(len(line.split()) for line in lines) / len(lines)
    letters = sum(map(len, lines)) / len(lines)
    sentences = sum(line[-1] in ".,;:!?…，、；：。！？」』”{}" for line in lines) / len(lines)
    is_list = words <= 3 and letters <= 30 and sentences <= 0.2 and len(lines) >= FEWEST_NAMES
    return "names" if is_list else "text"


@dataclass(frozen=True)
class Corpus:
    """Training data, split. `sequences[split]` are names, blocks of text, sentences of a text of
    words, or conversations (with the newline before them, and the blank line that ends them), as
    the model reads them; `names` is the whole list (empty for all others).
    """

    kind: Kind
    vocabulary: AnyVocabulary
    sequences: dict[str, tuple[str, ...]]
    names: tuple[str, ...]
    source: Source
    mended: dict[str, int]

    @property
    def carries_state(self) -> bool:
        """Whether the state goes on from one training batch to the next."""
        return self.kind != "chat" and self.vocabulary.end is None

    @property
    def each(self) -> str:
        """What a sequence is, in one word."""
        if self.kind != "text":
            return "name" if self.kind == "names" else "conversation"
        return "block" if self.carries_state else "sentence"

    def characters(self, split: str) -> int:
        """Symbols to predict in a split; the end of a name, or a sentence, is one."""
        return self._counts[split]

    @cached_property
    def _counts(self) -> dict[str, int]:
        length, ends = self.vocabulary.length, self.vocabulary.end is not None
        return {
            split: sum(map(length, sequences)) + ends * len(sequences)
            for split, sequences in self.sequences.items()
        }

    def summary(self) -> list[str]:
        """What a person is told of the data before training."""
        plural = {"name": "names", "block": "blocks of text", "conversation": "conversations"}
        of = plural.get(self.each, "sentences")
        unit = self.vocabulary.unit
        counts = ", ".join(f"{len(self.sequences[split]):,} {split}" for split in SPLITS)
        case = {"keep": "letters kept as they are"}.get(
            self.vocabulary.case, f"learned in lower case, written in {self.vocabulary.case} case"
        )
        lines = [
            f"{of}: {counts}; {self.characters('train'):,} {unit}s to learn from",
            f"{len(self.vocabulary)} symbols, {case}",
        ]
        if self.vocabulary.unknown is not None:
            lines[1] += (
                f"; {self._unknown_share():.1%} of the text is of rarer ones, not told apart"
            )
        mended = [f"{count:,} {what}" for what, count in self.mended.items() if count]
        return lines + ([f"mended: {', '.join(mended)}"] if mended else [])

    def _unknown_share(self) -> float:
        """The share of unknown symbols in what was not learned from."""
        held_out = [*self.sequences["validation"], *self.sequences["test"]]
        ids = [self.vocabulary.ids_of(sequence) == self.vocabulary.unknown for sequence in held_out]
        return float(sum(map(np.count_nonzero, ids)) / max(1, sum(map(len, ids))))


def load_corpus(paths: Sequence[Path], config: CorpusConfig) -> Corpus:
    """Read, normalise and split files. Raises CorpusError, and ConfigError for settings that don't
    fit each other.
    """
    source = read_files(paths, config.column)
    of_words = config.unit == "word"
    found: Kind = "text" if of_words else kind_of(source.text)
    kind: Kind = found if config.kind == "auto" else config.kind
    for line in taken_for(kind, config, source):
        log.info(line)
    if of_words and kind != "text":
        problem = FieldProblem("kind", "must be text where unit is word", repr(kind))
        raise ConfigError([problem])
    text = _sentences if of_words else _running_text
    read = {"names": _names, "text": text, "chat": _conversations}[kind]
    corpus = read(source, config, paths)
    for line in corpus.summary():
        log.info(line)
    return corpus


def taken_for(kind: Kind, config: CorpusConfig, source: Source) -> list[str]:
    """What a person is told that the data was taken for, where nobody had said it."""
    what = {
        "names": "a list of names, one a line",
        "text": "running text",
        "chat": 'conversations, in which a person\'s lines begin with "> "',
    }[kind]
    if source.is_table and kind == "names":
        what = "a list of names"
    said = ", ".join(source.said)
    if config.kind == "auto" and config.unit != "word":
        said = f"{said}: {what}" if said else what
        other = "text" if kind == "names" else "names"
        more = " --column another column," if source.is_table and not config.column else ""
        return [f"taken for {said} (to say otherwise:{more} --kind {other})"]
    return [f"taken for {said}"] if said else []


def _names(source: Source, config: CorpusConfig, paths: Sequence[Path]) -> Corpus:
    lines = source.text.removesuffix("\n").split("\n")
    tidy = [" ".join(line.split()) for line in lines]
    filled = [name for name in tidy if 0 < len(name) <= LONGEST_NAME]
    names = list(dict.fromkeys(filled))
    case = case_of(names) if config.case == "auto" else config.case
    read = tuple(dict.fromkeys(matched(name, case) for name in names))
    mended = {
        **source.mended,
        "blank lines": 0 if source.is_table else tidy.count(""),
        f"lines left out, longer than {LONGEST_NAME} characters": len(tidy)
        - tidy.count("")
        - len(filled),
        "lines with stray spaces": sum(a != b != "" for a, b in zip(lines, tidy, strict=True)),
        "duplicates": len(filled) - len(read),
    }
    if len(read) < FEWEST_NAMES:
        raise CorpusError(
            f"{', '.join(map(str, paths))}: needs at least {FEWEST_NAMES} different names (one a "
            f"line) to learn from some and test on others, got {len(read)}"
        )
    vocabulary = Vocabulary.of(read, ends=True, case=case, fewest=config.fewest or 1)
    return Corpus("names", vocabulary, split(read, config), read, source, mended)


def _running_text(source: Source, config: CorpusConfig, paths: Sequence[Path]) -> Corpus:
    case: Case = "keep" if config.case == "auto" else config.case
    text = matched(re.sub("\n+", "\n", source.text) if source.is_table else source.text, case)
    if len(text) < SHORTEST_TEXT:
        raise CorpusError(
            f"{', '.join(map(str, paths))}: taken for running text, which needs at least "
            f"{SHORTEST_TEXT:,} characters, got {len(text):,}; if its lines are names (at least "
            f"{FEWEST_NAMES}), say so with --kind names"
        )
    size = block_size(len(text))
    blocks = [text[start : start + size] for start in range(0, len(text), size)]
    if len(blocks[-1]) < size:
        blocks[-2:] = ["".join(blocks[-2:])]
    fewest = config.fewest or (RARE if len(text) >= LONG_TEXT else 1)
    vocabulary = Vocabulary.of([text], ends=False, case=case, fewest=fewest)
    return Corpus("text", vocabulary, split(blocks, config), (), source, dict(source.mended))


def _conversations(source: Source, config: CorpusConfig, paths: Sequence[Path]) -> Corpus:
    """Turns between blank lines: a person's begin with "> ", all other lines are the bot's."""
    case: Case = "keep" if config.case == "auto" else config.case
    text = matched(source.text, case)
    lines = ["\n".join(" ".join(line.split()) for line in text.split("\n"))]
    blocks = [block.strip("\n") for block in re.split("\n{2,}", lines[0]) if block.strip("\n")]
    whole = [block for block in blocks if _turns(block)]
    read = list(dict.fromkeys(f"\n{block}\n\n" for block in whole))
    if len(read) < FEWEST_CHATS:
        raise CorpusError(
            f"{', '.join(map(str, paths))}: needs at least {FEWEST_CHATS} different conversations "
            f'(a person\'s lines begin with "{PERSON}", a blank line ends each), got {len(read)}'
        )
    mended = {
        **source.mended,
        "conversations left out, in which nobody is answered": len(blocks) - len(whole),
        "duplicates": len(whole) - len(read),
    }
    vocabulary = Vocabulary.of(read, ends=False, case=case, fewest=config.fewest or 1)
    return Corpus("chat", vocabulary, split(read, config), (), source, mended)


def _turns(text: str) -> int:
    """How often a person is answered."""
    lines = text.split("\n")
    return sum(
        line.startswith(PERSON) and bool(answer) and not answer.startswith(PERSON)
        for line, answer in pairwise(lines)
    )


def _sentences(source: Source, config: CorpusConfig, paths: Sequence[Path]) -> Corpus:
    """A corpus of words. Which of them are known follows from what is learned from, alone."""
    case: Case = "sentence" if config.case == "auto" else config.case
    if case not in WORD_CASES:
        rule = f"must be one of {', '.join(WORD_CASES)} where unit is word"
        raise ConfigError([FieldProblem("case", rule, repr(case))])
    found = sentences(source.text)
    as_read = [one_line(sentence) for sentence in found]
    if len(found) < FEWEST_SENTENCES:
        raise CorpusError(
            f"{', '.join(map(str, paths))}: needs at least {FEWEST_SENTENCES} sentences to learn "
            f"words from, got {len(found)}"
        )
    sides = split(as_read, config)
    learned = frozenset(sides["train"])
    vocabulary = WordVocabulary.of(
        (raw for raw, sentence in zip(found, as_read, strict=True) if sentence in learned),
        case=case,
        largest=config.vocabulary or LARGEST,
        fewest=config.fewest or FEWEST_TIMES,
    )
    if len(vocabulary) < 3:
        raise CorpusError(
            f"{', '.join(map(str, paths))}: no word is there {config.fewest or FEWEST_TIMES} "
            "times; lower fewest in the recipe, or give more text"
        )
    return Corpus("text", vocabulary, sides, (), source, dict(source.mended))


def block_size(characters: int) -> int:
    """Characters of the blocks that running text is split in: a power of two, so that blocks stay
    the same while the text grows, up to 4,096.
    """
    return min(4096, 1 << max(5, (characters // 20).bit_length() - 1))


def split(sequences: Sequence[str], config: CorpusConfig) -> dict[str, tuple[str, ...]]:
    """Each sequence's side, by its place from 0 up to 1; never an empty side.

    The place is the sequence's own hash; or, by order, it falls from the first sequence to the
    last, so the end of the data is held out.
    """
    n = len(sequences)
    if config.split_by == "order":
        places = [1 - (k + 0.5) / n for k in range(n)]
    else:
        places = [_hash(sequence, config.salt) for sequence in sequences]
    sides = [
        "validation"
        if place < config.validation
        else "test"
        if place < config.validation + config.test
        else "train"
        for place in places
    ]
    rising = sorted(range(n), key=places.__getitem__)
    for side, order in (("validation", rising), ("test", rising), ("train", rising[::-1])):
        if side not in sides:  # too few for the fractions: the lowest place that another can spare
            spare = next(n for n in order if sides.count(sides[n]) > 1)
            sides[spare] = side
    return {
        name: tuple(s for s, side in zip(sequences, sides, strict=True) if side == name)
        for name in SPLITS
    }


def _hash(sequence: str, salt: str) -> float:
    """A number from 0 up to 1 that is the sequence's own, whatever its capitals."""
    digest = hashlib.sha256(f"{salt}\0{sequence.casefold()}".encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[:8], "big") / 2**64
