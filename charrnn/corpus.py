"""Training data: files -> names or running text -> splits -> packed batches.

Which batch comes at which step is a function of the random seed and the step alone, so a run that
is resumed sees the same data. A name, or a block of text, falls on its side by a salted hash of
itself, so it stays there as the list grows.
"""

import hashlib
import logging
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from charrnn.config import CorpusConfig
from charrnn.errors import CorpusError
from charrnn.model import Batch
from charrnn.parameters import Array
from charrnn.vocabulary import END, Case, Vocabulary, case_of, matched

log = logging.getLogger(__name__)

Kind = Literal["names", "text"]
FEWEST_NAMES = 3  # one to learn from, one to choose by, one to report on
SHORTEST_TEXT = 1_000
EVALUATION_ROWS = 16_384  # rows of a packed batch in evaluation: bounds its memory
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """What was read: the normalised text, and what had to be mended on the way."""

    text: str
    sha256: str
    size: int
    mended: dict[str, int]


def read_files(paths: Sequence[Path]) -> Source:
    """Read UTF-8 files as one text: NFC, no byte order mark, lines ended by a newline.

    Raises CorpusError for a file that can't be read, is empty, or isn't UTF-8.
    """
    digest, size, texts = hashlib.sha256(), 0, []
    mended = {
        "byte order marks": 0,
        "CRLF line ends": 0,
        "CR line ends": 0,
        "lines with characters in pieces": 0,
    }
    for path in paths:
        data = _read_bytes(path)
        digest.update(data)
        size += len(data)
        text = _decoded(data, path)
        mended["byte order marks"] += text.count("\ufeff")  # within, where files were joined
        mended["CRLF line ends"] += text.count("\r\n")
        mended["CR line ends"] += text.count("\r") - text.count("\r\n")
        lines = re.sub("\r\n?", "\n", text.replace("\ufeff", "")).split("\n")
        whole = [unicodedata.normalize("NFC", line) for line in lines]
        mended["lines with characters in pieces"] += sum(map(str.__ne__, lines, whole))
        texts.append("\n".join(whole))
    joined = "\n".join(text.removesuffix("\n") for text in texts)
    if not joined.strip():
        raise CorpusError(f"{', '.join(map(str, paths))}: no text in it; give a file with some")
    return Source(joined + "\n", digest.hexdigest(), size, mended)


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
    """Names or running text, by looking: names are short lines of few words without punctuation."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    words = sum(len(line.split()) for line in lines) / len(lines)
    letters = sum(map(len, lines)) / len(lines)
    sentences = sum(line[-1] in ".,;:!?…，、；：。！？」』”{}" for line in lines) / len(lines)
    is_list = words <= 3 and letters <= 30 and sentences <= 0.2 and len(lines) >= FEWEST_NAMES
    return "names" if is_list else "text"


@dataclass(frozen=True)
class Corpus:
    """Training data, split. `sequences[split]` are names, or blocks of text, as the model reads
    them; `names` is the whole list (empty for running text).
    """

    kind: Kind
    vocabulary: Vocabulary
    sequences: dict[str, tuple[str, ...]]
    names: tuple[str, ...]
    source: Source
    mended: dict[str, int]

    @property
    def carries_state(self) -> bool:
        """Whether the state goes on from one training batch to the next."""
        return self.kind == "text"

    def characters(self, split: str) -> int:
        """Symbols to predict in a split; a name's end is one."""
        return sum(map(len, self.sequences[split])) + (
            len(self.sequences[split]) if self.kind == "names" else 0
        )

    def longest(self) -> int:
        """Characters of the longest name; 0 for running text."""
        return max(map(len, self.names), default=0)

    def summary(self) -> list[str]:
        """What a person is told of the data before training."""
        of = {"names": "names", "text": "blocks of text"}[self.kind]
        counts = ", ".join(f"{len(self.sequences[split]):,} {split}" for split in SPLITS)
        case = {"keep": "letters kept as they are"}.get(
            self.vocabulary.case, f"learned in lower case, written in {self.vocabulary.case} case"
        )
        lines = [
            f"{of}: {counts}; {self.characters('train'):,} characters to learn from",
            f"{len(self.vocabulary)} symbols, {case}",
        ]
        mended = [f"{count:,} {what}" for what, count in self.mended.items() if count]
        return lines + ([f"mended: {', '.join(mended)}"] if mended else [])


def load_corpus(paths: Sequence[Path], config: CorpusConfig) -> Corpus:
    """Read, normalise and split files. Raises CorpusError."""
    source = read_files(paths)
    kind: Kind = kind_of(source.text) if config.kind == "auto" else config.kind
    corpus = (_names if kind == "names" else _running_text)(source, config, paths)
    for line in corpus.summary():
        log.info(line)
    return corpus


def _names(source: Source, config: CorpusConfig, paths: Sequence[Path]) -> Corpus:
    lines = source.text.removesuffix("\n").split("\n")
    tidy = [" ".join(line.split()) for line in lines]
    filled = [name for name in tidy if name]
    names = list(dict.fromkeys(filled))
    case = case_of(names) if config.case == "auto" else config.case
    read = tuple(dict.fromkeys(matched(name, case) for name in names))
    mended = {
        **source.mended,
        "blank lines": len(tidy) - len(filled),
        "lines with stray spaces": sum(a != b != "" for a, b in zip(lines, tidy, strict=True)),
        "duplicates": len(filled) - len(read),
    }
    if len(read) < FEWEST_NAMES:
        raise CorpusError(
            f"{', '.join(map(str, paths))}: needs at least {FEWEST_NAMES} different names (one a "
            f"line) to learn from some and test on others, got {len(read)}"
        )
    vocabulary = Vocabulary.of(read, ends=True, case=case)
    return Corpus("names", vocabulary, split(read, config), read, source, mended)


def _running_text(source: Source, config: CorpusConfig, paths: Sequence[Path]) -> Corpus:
    case: Case = "keep" if config.case == "auto" else config.case
    text = matched(source.text, case)
    if len(text) < SHORTEST_TEXT:
        raise CorpusError(
            f"{', '.join(map(str, paths))}: needs at least {SHORTEST_TEXT:,} characters of running "
            f"text, or {FEWEST_NAMES} names, one a line; got {len(text):,} characters"
        )
    size = block_size(len(text))
    blocks = [text[start : start + size] for start in range(0, len(text), size)]
    if len(blocks[-1]) < size:
        blocks[-2:] = ["".join(blocks[-2:])]
    vocabulary = Vocabulary.of([text], ends=False, case=case)
    return Corpus("text", vocabulary, split(blocks, config), (), source, dict(source.mended))


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


class NameFeed:
    """Training batches of whole names: every name once an epoch, in a new order each time."""

    def __init__(self, corpus: Corpus, batch_size: int, random_seed: int) -> None:
        vocabulary, names = corpus.vocabulary, corpus.sequences["train"]
        assert vocabulary.end is not None
        self._symbols, self._starts, self._lengths = _joined(names, vocabulary)
        self._random_seed = random_seed
        self.batch_size = min(batch_size, len(names))
        self.steps_in_epoch = -(-len(names) // self.batch_size)
        self._order: tuple[int, Array] = (-1, self._starts)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        epoch, index = divmod(step, self.steps_in_epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._random_seed, 1, epoch])
            self._order = (epoch, rng.permutation(len(self._starts)))
        chosen = self._order[1][index * self.batch_size : (index + 1) * self.batch_size]
        return packed(self._symbols, self._starts[chosen], self._lengths[chosen])

    def starts_afresh(self, step: int) -> bool:
        """Whether the state is zero before a step: always, for names."""
        return True


class TextFeed:
    """Training batches of running text: `batch_size` streams read side by side, `seq_length`
    characters a step, the state carried on. Each epoch begins at another place.
    """

    def __init__(self, corpus: Corpus, batch_size: int, seq_length: int, random_seed: int) -> None:
        self._symbols = corpus.vocabulary.ids_of("".join(corpus.sequences["train"]))
        self._random_seed = random_seed
        targets = len(self._symbols) - 1
        self.seq_length = min(seq_length, targets)
        self.batch_size = max(1, min(batch_size, targets // self.seq_length))
        self.steps_in_epoch = targets // (self.batch_size * self.seq_length)
        self._spare = targets - self.steps_in_epoch * self.batch_size * self.seq_length

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        epoch, index = divmod(step, self.steps_in_epoch)
        rng = np.random.default_rng([self._random_seed, 1, epoch])
        stream = self.steps_in_epoch * self.seq_length
        first = rng.integers(self._spare + 1) + index * self.seq_length
        starts = first + stream * np.arange(self.batch_size)
        places = (starts + np.arange(self.seq_length)[:, None]).ravel()  # time-major
        sizes = np.full(self.seq_length, self.batch_size)
        return Batch(self._symbols[places], self._symbols[places + 1], sizes)

    def starts_afresh(self, step: int) -> bool:
        """Whether the state is zero before a step: where an epoch begins."""
        return step % self.steps_in_epoch == 0


Feed = NameFeed | TextFeed


def _joined(names: Sequence[str], vocabulary: Vocabulary) -> tuple[Array, Array, Array]:
    """Names as one array of ids, an end symbol before, between and behind: (ids, starts, targets).

    starts: where the end symbol before each name stands; targets: its symbols, its end included.
    """
    symbols = vocabulary.ids_of(END + END.join(names) + END)
    lengths = np.array([len(name) + 1 for name in names])
    return symbols, np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths


def packed(symbols: Array, starts: Array, lengths: Array) -> Batch:
    """A packed batch of the sequences that begin at `starts` and have `lengths` targets each."""
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    alive = lengths > np.arange(lengths[0])[:, None]  # (T, B)
    places = (starts + np.arange(lengths[0])[:, None])[alive]  # time-major, without padding
    return Batch(symbols[places], symbols[places + 1], alive.sum(axis=1))


def evaluation_batches(
    sequences: Sequence[str], vocabulary: Vocabulary
) -> Iterator[tuple[Batch, bool]]:
    """Packed batches that cover `sequences` once, each from a zero state.

    Yields a batch, and whether it begins new sequences (else it continues, row by row, the longest
    of those before it).
    """
    if vocabulary.end is not None:
        symbols, starts, lengths = _joined(sequences, vocabulary)
    else:
        symbols = vocabulary.ids_of("".join(sequences))
        sizes = np.array([len(sequence) for sequence in sequences])
        starts, lengths = np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes - 1
    order = np.argsort(-lengths, kind="stable")
    for first in range(0, len(order), 256):
        chosen = order[first : first + 256]
        span = max(1, EVALUATION_ROWS // len(chosen))
        for begin in range(0, int(lengths[chosen[0]]), span):
            left = lengths[chosen] - begin
            rows = chosen[left > 0]
            lasting = np.minimum(lengths[rows] - begin, span)
            yield packed(symbols, starts[rows] + begin, lasting), begin == 0
