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
from itertools import pairwise
from pathlib import Path
from typing import Literal

from charrnn.config import PERSON, CorpusConfig
from charrnn.errors import CorpusError
from charrnn.vocabulary import Case, Vocabulary, case_of, matched

log = logging.getLogger(__name__)

Kind = Literal["names", "text", "chat"]
FEWEST_NAMES = 3  # one to learn from, one to choose by, one to report on
SHORTEST_TEXT = 1_000
FEWEST_CHATS = 3
LONGEST_NAME = 200  # characters; a longer line of a list is no name, and would rule its training
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """What was read: the normalised text, and what had to be mended on the way."""

    text: str
    sha256: str
    size: int
    mended: dict[str, int]


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
    """Training data, split. `sequences[split]` are names, blocks of text, or conversations (with
    the newline before them, and the blank line that ends them), as the model reads them; `names`
    is the whole list (empty for the others).
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

    def summary(self) -> list[str]:
        """What a person is told of the data before training."""
        of = {"names": "names", "text": "blocks of text", "chat": "conversations"}[self.kind]
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
    read = {"names": _names, "text": _running_text, "chat": _conversations}[kind]
    corpus = read(source, config, paths)
    for line in corpus.summary():
        log.info(line)
    return corpus


def _names(source: Source, config: CorpusConfig, paths: Sequence[Path]) -> Corpus:
    lines = source.text.removesuffix("\n").split("\n")
    tidy = [" ".join(line.split()) for line in lines]
    filled = [name for name in tidy if 0 < len(name) <= LONGEST_NAME]
    names = list(dict.fromkeys(filled))
    case = case_of(names) if config.case == "auto" else config.case
    read = tuple(dict.fromkeys(matched(name, case) for name in names))
    mended = {
        **source.mended,
        "blank lines": tidy.count(""),
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
    vocabulary = Vocabulary.of(read, ends=True, case=case)
    return Corpus("names", vocabulary, split(read, config), read, source, mended)


def _running_text(source: Source, config: CorpusConfig, paths: Sequence[Path]) -> Corpus:
    case: Case = "keep" if config.case == "auto" else config.case
    text = matched(source.text, case)
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
    vocabulary = Vocabulary.of([text], ends=False, case=case)
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
    vocabulary = Vocabulary.of(read, ends=False, case=case)
    return Corpus("chat", vocabulary, split(read, config), (), source, mended)


def _turns(text: str) -> int:
    """How often a person is answered."""
    lines = text.split("\n")
    return sum(
        line.startswith(PERSON) and bool(answer) and not answer.startswith(PERSON)
        for line, answer in pairwise(lines)
    )


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
