"""Large running text as numbers in a file: made in two passes over the text, read a stretch at a
time. So a training holds some megabytes of it, however long it is.

The file has the id of each symbol of the text in the smallest integer type, then what else a
training needs of the text, as JSON, and a hash of it all. It is read by `pread` into buffers of our
own: pages of a memory-mapped file would count as resident memory, and a file that is cut short
would end the process by a signal. Where such files lie is `textcache`'s business.
"""

import hashlib
import heapq
import json
import os
import unicodedata
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from charrnn.config import MOST_HELD_OUT, CorpusConfig
from charrnn.errors import CorpusError
from charrnn.files import canonical_json
from charrnn.kinds import Kind, Look
from charrnn.parameters import Array
from charrnn.reading import PIECE, UNWATCHED, TextFiles, Watch
from charrnn.splits import SPLITS, TEST, TRAIN, VALIDATION, by_order, place_of, sides_of
from charrnn.vocabulary import Case, Vocabulary, code_points, matched, smallest

FORMAT = 1  # changes when the same text gives another file
MAGIC = b"charrnn\n"
TAIL_END = 8 + len(MAGIC)  # its length, and the mark
CODE_POINTS = 0x110000
BLOCK = 4096  # characters of a block of large text


@dataclass(frozen=True)
class Scan:
    """What a first pass over a text tells: its kind, how often each code point is there once it is
    matched by `case`, and the hash of the files.
    """

    kind: Kind
    case: Case
    counts: Array
    sha256: str

    @property
    def characters(self) -> int:
        """Of the text as the model reads it."""
        return int(self.counts.sum())


def scan(files: TextFiles, case: Case) -> Scan:
    """Go through a text once. Raises CorpusError."""
    look, counts = Look(), np.zeros(CODE_POINTS, np.int64)
    for piece in files.pieces():
        look.add(piece)
        points = code_points(matched(piece, case))
        found = np.bincount(points)
        counts[: len(found)] += found
    sha256 = files.source().sha256
    return Scan(look.kind(), case, counts, sha256)


def key_of(sha256: str, config: CorpusConfig) -> str:
    """The name of what becomes of a text by these settings."""
    facts = [FORMAT, sha256, config.values(), unicodedata.unidata_version]
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()


class _Lowest:
    """The blocks of lowest place, of those that are offered."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[float, int, str]] = []  # a heap, the highest place first

    def offer(self, number: int, place: float, text: str) -> None:
        heapq.heappush(self._kept, (-place, -number, text))
        if len(self._kept) > self._most:
            heapq.heappop(self._kept)

    def texts(self) -> dict[int, str]:
        """By their numbers."""
        return {-number: text for _, number, text in self._kept}


def encode(
    files: TextFiles, scanned: Scan, vocabulary: Vocabulary, config: CorpusConfig, to: BinaryIO
) -> None:
    """Write what `open_encoded` reads. Raises CorpusError where the text isn't the one that was
    scanned, and OSError.
    """
    blocks = -(-scanned.characters // BLOCK)
    blocks -= scanned.characters % BLOCK > 0 and blocks > 1  # the last one takes on what is left
    places = by_order(blocks) if config.split_by == "order" else np.zeros(blocks)
    most = MOST_HELD_OUT // BLOCK
    sides = {VALIDATION: _Lowest(most), TEST: _Lowest(most)}
    spare = _Lowest(3)  # should a side be empty
    table, dtype = _table(vocabulary), smallest(len(vocabulary))
    digest = hashlib.sha256()
    for number, text in enumerate(_blocks(files, scanned.case, blocks)):
        ids = table[code_points(text)].astype(dtype).tobytes()
        digest.update(ids)
        to.write(ids)
        if config.split_by == "hash":
            places[number] = place_of(text, config.salt)
        place = float(places[number])
        spare.offer(number, place, text)
        if place < config.validation:
            sides[VALIDATION].offer(number, place, text)
        elif place < config.validation + config.test:
            sides[TEST].offer(number, place, text)
    source = files.source()
    if source.sha256 != scanned.sha256:
        raise changed(files.paths)
    side = sides_of(places, config)
    known = spare.texts() | sides[VALIDATION].texts() | sides[TEST].texts()
    tail = {
        "format": FORMAT,
        "sha256": source.sha256,
        "size": source.size,
        "mended": source.mended,
        "characters": scanned.characters,
        "itemsize": dtype.itemsize,
        "vocabulary": vocabulary.to_json(),
        "kind": scanned.kind,
        "train": _runs(side == TRAIN),
        "blocks": {name: int(np.count_nonzero(side == n)) for n, name in enumerate(SPLITS)},
        "held_out": {
            SPLITS[n]: [known[k] for k in np.flatnonzero(side == n).tolist() if k in known]
            for n in (VALIDATION, TEST)
        },
    }
    data = json.dumps(tail).encode()
    digest.update(data)
    to.write(data + digest.digest() + len(data).to_bytes(8, "big") + MAGIC)


def _blocks(files: TextFiles, case: Case, count: int) -> Iterator[str]:
    """The text in `count` blocks, as the model reads it. Raises CorpusError where it has fewer."""
    kept, begin, made = "", 0, 0
    for piece in files.pieces():
        kept, begin = kept[begin:] + matched(piece, case), 0
        while made < count - 1 and len(kept) - begin >= BLOCK:
            yield kept[begin : begin + BLOCK]
            begin += BLOCK
            made += 1
        if len(kept) - begin >= 2 * BLOCK:
            raise changed(files.paths)
    if made != count - 1 or begin == len(kept):
        raise changed(files.paths)
    yield kept[begin:]


def _table(vocabulary: Vocabulary) -> Array:
    """The id of each code point; the unknown symbol's, where there is one, of all that are not
    known.
    """
    table = np.full(CODE_POINTS, vocabulary.unknown or 0, np.uint32)
    table[code_points(vocabulary.symbols)] = np.arange(len(vocabulary))
    return table


def _runs(chosen: Array) -> list[int]:
    """Booleans as lengths of runs in turn, beginning with one of False."""
    ends = np.flatnonzero(np.diff(chosen)) + 1
    lengths = np.diff(np.concatenate([[0], ends, [len(chosen)]])).tolist()
    return [0, *lengths] if chosen[0] else lengths


def _from_runs(lengths: Sequence[int]) -> Array:
    return np.flatnonzero(np.repeat(np.arange(len(lengths)) % 2 == 1, lengths))


def changed(paths: Sequence[Path]) -> CorpusError:
    """The error where files were written to between two passes."""
    return CorpusError(
        f"{', '.join(map(str, paths))}: changed while it was read; give the same command again "
        "when nobody writes to it"
    )


class EncodedText:
    """What is learned from of a text in a file, as an array of ids that is read a slice at a time;
    and all else that is known of the text. Several threads may read.
    """

    def __init__(self, fd: int, path: str, watch: Watch = UNWATCHED) -> None:
        """Takes over `fd`. Raises CorpusError for a file that isn't whole."""
        self._fd, self._path = fd, path
        weakref.finalize(self, os.close, fd)
        tail = self._checked(watch)
        self.sha256, self.size = str(tail["sha256"]), int(tail["size"])
        self.mended: dict[str, int] = tail["mended"]
        self.vocabulary = Vocabulary.from_json(tail["vocabulary"])
        self.blocks: dict[str, int] = tail["blocks"]
        self.kind: Kind = tail["kind"]
        self.held_out = {name: tuple(texts) for name, texts in tail["held_out"].items()}
        self.dtype = np.dtype(f"u{tail['itemsize']}")
        self._train = _from_runs(tail["train"])
        all_blocks = sum(self.blocks.values())
        last = tail["characters"] - BLOCK * (all_blocks - 1)  # characters of the last block
        self._length = BLOCK * len(self._train)
        self._length += last - BLOCK if self._train[-1] == all_blocks - 1 else 0

    def __len__(self) -> int:
        """Characters to learn from."""
        return self._length

    def __getitem__(self, stretch: slice) -> Array:
        """A stretch of the ids, (n,). Raises CorpusError where the file was cut short."""
        begin, end, _ = stretch.indices(self._length)
        whole = np.empty(max(0, end - begin), self.dtype)
        place, last = begin, len(self._train) - 1
        while place < end:
            # As many blocks as lie side by side in the file too.
            first = number = min(place // BLOCK, last)
            until = min(end // BLOCK, last)
            while number < until and self._train[number + 1] == self._train[number] + 1:
                number += 1
            stop = end if number == last else min(end, BLOCK * (number + 1))
            at = BLOCK * int(self._train[first]) + place - BLOCK * first
            self._read(whole[place - begin : stop - begin], at)
            place = stop
        return whole

    def _read(self, into: Array, at: int) -> None:
        view, offset = into.data.cast("B"), at * self.dtype.itemsize
        while len(view):
            count = os.preadv(self._fd, [view], offset)
            if not count:
                raise CorpusError(
                    f"{self._path}: was cut short while it was in use; remove it and give the same "
                    "command again: it goes on from the checkpoint"
                )
            view, offset = view[count:], offset + count

    def _checked(self, watch: Watch) -> dict[str, Any]:
        """The tail of a file whose bytes are those that were written."""
        size = os.fstat(self._fd).st_size
        end = os.pread(self._fd, TAIL_END, max(0, size - TAIL_END))
        length = int.from_bytes(end[:8], "big")
        body = size - TAIL_END - 32
        if end[8:] != MAGIC or not 0 < length <= body:
            raise CorpusError(f"{self._path}: not a whole encoded text; remove it")
        digest, done = hashlib.sha256(), 0
        while done < body:
            data = os.pread(self._fd, min(PIECE, body - done), done)
            if not data:
                break
            digest.update(data)
            done += len(data)
            watch.look("checking", done, body)
        if os.pread(self._fd, 32, body) != digest.digest():
            raise CorpusError(f"{self._path}: altered after it was written; remove it")
        tail = json.loads(os.pread(self._fd, length, body - length))
        if tail.get("format") != FORMAT:
            raise CorpusError(f"{self._path}: of another version of charrnn; remove it")
        return tail
