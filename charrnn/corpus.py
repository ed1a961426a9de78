"""Training data: files -> names, running text or conversations -> splits.

A name, a block of text, or a conversation falls on its side by a salted hash of itself, so it stays
there as the list grows. Running text from `LARGE_TEXT` bytes on is encoded into a file and read
from there; names are read line by line, and kept in few bytes where they are many; conversations,
tables and texts of words are in memory as they are. `batches` makes of a corpus what the network is
fed.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from charrnn.config import LARGE_TEXT, PERSON, CorpusConfig
from charrnn.encoding import BLOCK, EncodedText, changed, encode, key_of, scan
from charrnn.errors import ConfigError, CorpusError, FieldProblem
from charrnn.kinds import FEWEST_CHATS, FEWEST_NAMES, Kind, kind_of, turns
from charrnn.namelist import kept
from charrnn.parameters import Array
from charrnn.reading import (
    UNWATCHED,
    Source,
    TextFiles,
    Watch,
    hash_of_files,
    read_files,
    size_of_files,
)
from charrnn.splits import SPLITS, split
from charrnn.textcache import TextCache
from charrnn.tokens import one_line, sentences
from charrnn.vocabulary import Case, Vocabulary, case_of, matched, smallest
from charrnn.wordlist import FEWEST_TIMES, LARGEST, WORD_CASES, AnyVocabulary, WordVocabulary

log = logging.getLogger(__name__)

SHORTEST_TEXT = 1_000
FEWEST_SENTENCES = 20
LONG_TEXT = 100_000  # characters, from which rare ones are folded into one:
RARE = 3  # those that are there fewer times
LONGEST_NAME = 200  # characters; a longer line of a list is no name, and would rule its training


@dataclass(frozen=True)
class Corpus:
    """Training data, split. `sequences[split]` are names, blocks of text, sentences of a text of
    words, or conversations (with the newline before them, and the blank line that ends them), as
    the model reads them; `names` is the whole list (empty for all others).

    encoded: large running text. What is learned from is there alone, not in `sequences`; these have
    of what is held out no more than is looked at.
    """

    kind: Kind
    vocabulary: AnyVocabulary
    sequences: dict[str, Sequence[str]]
    names: Sequence[str]
    source: Source
    mended: dict[str, int]
    encoded: EncodedText | None = None

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
        """Symbols to predict in a split; the end of a name, or a sentence, is one. Of what is held
        out of large text, those that are looked at.
        """
        return self._counts[split]

    def size(self, split: str) -> int:
        """How many sequences a split has."""
        return self.encoded.blocks[split] if self.encoded else len(self.sequences[split])

    def learned(self) -> "Array | EncodedText":
        """Running text to learn from, as ids in the smallest type: an array, or what is read like
        one, by slices.
        """
        if self.encoded:
            return self.encoded
        assert isinstance(self.vocabulary, Vocabulary)
        return self.vocabulary.small_ids(self.sequences["train"])

    @cached_property
    def _counts(self) -> dict[str, int]:
        length, ends = self.vocabulary.length, self.vocabulary.end is not None
        counts = {
            split: sum(map(length, sequences)) + ends * len(sequences)
            for split, sequences in self.sequences.items()
        }
        return {**counts, "train": len(self.encoded)} if self.encoded else counts

    def summary(self) -> list[str]:
        """What a person is told of the data before training."""
        plural = {"name": "names", "block": "blocks of text", "conversation": "conversations"}
        of = plural.get(self.each, "sentences")
        unit = self.vocabulary.unit
        counts = ", ".join(f"{self.size(split):,} {split}" for split in SPLITS)
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
        if self.encoded and any(self.size(s) > len(self.sequences[s]) for s in SPLITS[1:]):
            looked = ", ".join(f"{len(self.sequences[s]):,} {s}" for s in SPLITS[1:])
            lines.append(f"of the blocks held out, so many are looked at: {looked}")
        mended = [f"{count:,} {what}" for what, count in self.mended.items() if count]
        return lines + ([f"mended: {', '.join(mended)}"] if mended else [])

    def _unknown_share(self) -> float:
        """The share of unknown symbols in what was not learned from."""
        held_out = [*self.sequences["validation"], *self.sequences["test"]]
        ids = [self.vocabulary.ids_of(sequence) == self.vocabulary.unknown for sequence in held_out]
        return float(sum(map(np.count_nonzero, ids)) / max(1, sum(map(len, ids))))


def load_corpus(
    paths: Sequence[Path],
    config: CorpusConfig,
    *,
    cache: Path | None = None,
    watch: Watch = UNWATCHED,
) -> Corpus:
    """Read, normalise and split files.

    Args:
        cache: the folder in which large running text is encoded, and found encoded; None for a
            temporary file.
        watch: is told how the reading goes.

    Raises CorpusError, ConfigError for settings that don't fit each other, and TrainingInterrupted.
    """
    large = None
    if config.unit != "word" and size_of_files(paths) >= LARGE_TEXT:
        large = _large(paths, config, TextCache(cache), watch)
    corpus = large or _in_memory(paths, config, watch)
    for line in corpus.summary():
        log.info(line)
    return corpus


def _in_memory(paths: Sequence[Path], config: CorpusConfig, watch: Watch) -> Corpus:
    source = read_files(paths, config.column, watch)
    of_words = config.unit == "word"
    found: Kind = "text" if of_words else kind_of(source.text)
    kind: Kind = found if config.kind == "auto" else config.kind
    for line in taken_for(kind, config, source):
        log.info(line)
    if of_words and kind != "text":
        problem = FieldProblem("kind", "must be text where unit is word", repr(kind))
        raise ConfigError([problem])
    if source.size >= LARGE_TEXT:
        what = "a table" if source.is_table else "a text of words" if of_words else "conversations"
        log.info("%s: kept in memory whole, many times its size (docs/scaling.md)", what)
    if kind == "names":
        lines = source.text.removesuffix("\n").split("\n")
        return _names(lines, lambda: source, config, paths)
    read = {"text": _sentences if of_words else _running_text, "chat": _conversations}[kind]
    return read(source, config, paths)


def _large(
    paths: Sequence[Path], config: CorpusConfig, cache: TextCache, watch: Watch
) -> Corpus | None:
    """The corpus of much text, gone through piece by piece; None for what must be in memory: tables
    and conversations.
    """
    if config.kind == "chat" or TextFiles(paths, config.column).begin_with_a_table():
        return None
    found: EncodedText | Kind = "names"
    if config.kind != "names":
        key = key_of(hash_of_files(paths, watch), config)
        found = _found(cache, key, watch) or _encoded(paths, config, cache, key, watch)
    if found == "chat":
        return None
    nothing = Source("", "", 0, {})
    for line in taken_for("text" if isinstance(found, EncodedText) else "names", config, nothing):
        log.info(line)
    if not isinstance(found, EncodedText):
        files = TextFiles(paths, watch=watch)
        return _names(files.lines(), files.source, config, paths)
    source = Source("", found.sha256, found.size, found.mended)
    sequences: dict[str, Sequence[str]] = {"train": (), **found.held_out}
    return Corpus("text", found.vocabulary, sequences, (), source, dict(found.mended), found)


def _encoded(
    paths: Sequence[Path], config: CorpusConfig, cache: TextCache, key: str, watch: Watch
) -> EncodedText | Kind:
    """Running text, encoded; or that it is of another kind, for "chat" read as too short, too."""
    cache.check()
    case: Case = "keep" if config.case == "auto" else config.case
    scanned = scan(TextFiles(paths, watch=watch), case)
    if key_of(scanned.sha256, config) != key:
        raise changed(paths)
    if config.kind == "auto" and scanned.kind != "text":
        return scanned.kind
    if block_size(scanned.characters) < BLOCK:
        return "chat"  # most of it was no text
    characters = {chr(k): int(scanned.counts[k]) for k in np.flatnonzero(scanned.counts)}
    fewest = config.fewest or (RARE if scanned.characters >= LONG_TEXT else 1)
    vocabulary = Vocabulary.of_counts(characters, ends=False, case=case, fewest=fewest)
    files = TextFiles(paths, what="encoding", watch=watch)
    made = cache.make(
        key,
        scanned.characters * smallest(len(vocabulary)).itemsize,
        lambda file: encode(files, scanned, vocabulary, config, file),
        lambda: watch.look("waiting for", 0, 1),
    )
    return EncodedText(*made, watch)


def _found(cache: TextCache, key: str, watch: Watch) -> EncodedText | None:
    """The encoded text of an earlier run, where it is whole; else it is removed."""
    if (found := cache.find(key)) is None:
        return None
    try:
        return EncodedText(*found, watch)
    except (CorpusError, ValueError, KeyError, TypeError, IndexError) as error:
        log.warning("%s: encoded anew", error)
        cache.drop(key)
        return None


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


def _names(
    lines: Iterable[str], source: Callable[[], Source], config: CorpusConfig, paths: Sequence[Path]
) -> Corpus:
    """A list, line by line; `source` is asked when all have been read."""
    found: dict[str, None] = {}
    filled = blank = stray = long = 0
    for line in lines:
        name = " ".join(line.split())
        blank += not name
        stray += line != name != ""
        if 0 < len(name) <= LONGEST_NAME:
            filled += 1
            found[name] = None
        else:
            long += bool(name)
    read_from = source()
    names = kept(tuple(found))
    del found
    case = case_of(names) if config.case == "auto" else config.case
    names = kept(tuple(dict.fromkeys(matched(name, case) for name in names)))
    mended = {
        **read_from.mended,
        "blank lines": 0 if read_from.is_table else blank,
        f"lines left out, longer than {LONGEST_NAME} characters": long,
        "lines with stray spaces": stray,
        "duplicates": filled - len(names),
    }
    if len(names) < FEWEST_NAMES:
        raise CorpusError(
            f"{', '.join(map(str, paths))}: needs at least {FEWEST_NAMES} different names (one a "
            f"line) to learn from some and test on others, got {len(names)}"
        )
    vocabulary = Vocabulary.of(names, ends=True, case=case, fewest=config.fewest or 1)
    return Corpus("names", vocabulary, split(names, config), names, read_from, mended)


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
    whole = [block for block in blocks if turns(block)]
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
