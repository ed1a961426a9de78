"""Text files, piece by piece: UTF-8 in NFC with lines ended by a newline, what had to be mended on
the way, and their hash. What the text is and who learns from it is `corpus`'s to say.

A piece ends where nothing that is done with text looks beyond: behind a line, or, in lines of a
megabyte, before a space, between letters and digits of ASCII, or before a Chinese character.
"""

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from charrnn.columns import HEAD, Column, column_of, delimiter_of
from charrnn.errors import CorpusError, TrainingInterrupted

PIECE = 1 << 20  # bytes that are read at a time
LATEST_CUTS = 1 << 16  # bytes at the end of such a piece, in which a place to cut it is looked for
BOM = "\ufeff"
_CUT = re.compile(
    rb"(?=[ \t\r])|(?<=[A-Za-z0-9])(?=[A-Za-z0-9])|(?=[\xe4-\xe9][\x80-\xbf][\x80-\xbf])"
)


@dataclass(frozen=True)
class Source:
    """What was read: the normalised text, and what had to be mended on the way.

    text: empty where it wasn't to be kept in memory; is_table: whether it is the cells of a column,
    each a text of its own between blank lines; said: what a person is told of it.
    """

    text: str
    sha256: str
    size: int
    mended: dict[str, int]
    is_table: bool = False
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watch:
    """Who follows a long reading: is told how far it is, and may end it.

    tell: what is done, bytes done, bytes in all; stop: asked now and then.
    """

    tell: Callable[[str, int, int], None] = lambda what, done, total: None
    stop: Callable[[], bool] = lambda: False

    def look(self, what: str, done: int, total: int) -> None:
        """Raises TrainingInterrupted where it is to end."""
        if self.stop():
            raise TrainingInterrupted(
                f"stopped while {what} the data; the same command begins that again"
            )
        self.tell(what, done, total)


UNWATCHED = Watch()


def size_of_files(paths: Sequence[Path]) -> int:
    """Bytes of files, together. Raises CorpusError."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None
    return total


def hash_of_files(paths: Sequence[Path], watch: Watch = UNWATCHED) -> str:
    """The SHA-256 that `read_files` gives its source, without reading more into the files.

    Raises CorpusError for a file that can't be read.
    """
    digest, done, total = hashlib.sha256(), 0, size_of_files(paths)
    for path in paths:
        for data in _read(path, digest, alone=len(paths) == 1):
            done += len(data)
            watch.look("hashing", done, total)
    return digest.hexdigest()


def read_files(
    paths: Sequence[Path], column: str | None = None, watch: Watch = UNWATCHED
) -> Source:
    """Read UTF-8 files as one text: NFC, no byte order mark, lines ended by a newline; of a table
    one column, by name or number.

    Raises CorpusError for a file that can't be read, is empty, or isn't UTF-8; for a table that
    isn't one, or has no such column.
    """
    files = TextFiles(paths, column, watch=watch)
    text = "".join(files.pieces())
    return files.source(text)


@dataclass
class TextFiles:
    """One pass over files. `pieces` goes through them once; `source` tells of it afterwards."""

    paths: Sequence[Path]
    column: str | None = None
    what: str = "reading"
    watch: Watch = UNWATCHED
    _mended: dict[str, int] = field(init=False)
    _tables: list[Column] = field(default_factory=list, init=False)
    _size: int = field(default=0, init=False)
    _filled: bool = field(default=False, init=False)
    _counted: bool = field(default=False, init=False)  # the line in progress, as mended

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256()
        self._mended = {
            "byte order marks": 0,
            "CRLF line ends": 0,
            "CR line ends": 0,
            "lines with characters in pieces": 0,
            "rows without the column": 0,
        }

    def begin_with_a_table(self) -> bool:
        """Whether the first file is one, by its beginning. Raises CorpusError."""
        first = TextFiles(self.paths[:1])
        head = first._head(first._mended_pieces(self.paths[0]))
        told = self.column is not None
        return bool(head.strip() and delimiter_of(head, self.paths[0], told=told))

    @staticmethod
    def _head(pieces: Iterator[str]) -> str:
        """As much of a file as tells whether it is a table."""
        head = ""
        while len(head) < HEAD and (piece := next(pieces, "")):
            head += piece
        return head

    def pieces(self) -> Iterator[str]:
        """The text. Raises CorpusError."""
        for number, path in enumerate(self.paths):
            pieces = self._mended_pieces(path)
            head, delimiter = self._head(pieces), None
            if head.strip():
                delimiter = delimiter_of(head, path, told=self.column is not None)
                if number and bool(delimiter) != bool(self._tables):
                    raise self._mixed()
            if delimiter:
                table = column_of(head + "".join(pieces), delimiter, self.column, path)
                self._mended["rows without the column"] += table.short
                text = _paragraphs(table)
                self._filled = self._filled or bool(text)
                yield "\n\n" * bool(self._tables) + text
                self._tables.append(table)
                continue
            self._filled = self._filled or bool(head.strip())
            last = head[-1:]
            yield head
            for piece in pieces:
                self._filled = self._filled or not piece.isspace()
                last = piece[-1]
                yield piece
            if last != "\n":
                yield "\n"
        if self._tables:
            if len(self._tables) < len(self.paths):
                raise self._mixed()
            yield "\n"

    def lines(self) -> Iterator[str]:
        """The lines of the text, without their ends."""
        rest = ""
        for piece in self.pieces():
            *lines, rest = (rest + piece).split("\n")
            yield from lines
        if rest:
            yield rest

    def source(self, text: str = "") -> Source:
        """What was read. Raises CorpusError where it is nothing."""
        if not self._filled:
            names = ", ".join(map(str, self.paths))
            raise CorpusError(f"{names}: no text in it; give a file with some")
        said = tuple(dict.fromkeys(table.said for table in self._tables))
        return Source(
            text, self._digest.hexdigest(), self._size, self._mended, bool(self._tables), said
        )

    def _mixed(self) -> CorpusError:
        return CorpusError(
            f"{', '.join(map(str, self.paths))}: must all be tables (CSV, TSV), or none; give them "
            "to trainings of their own"
        )

    def _mended_pieces(self, path: Path) -> Iterator[str]:
        """The text of a file, mended."""
        total, lines, kept = size_of_files(self.paths), 0, b""
        self._counted = False
        for data in _read(path, self._digest, alone=len(self.paths) == 1):
            self._size += len(data)
            self.watch.look(self.what, self._size, total)
            whole, kept = _cut(kept + data)
            if whole:
                if text := self._mend(_decoded(whole, path, lines)):
                    yield text
                lines += whole.count(b"\n")
        if kept:
            yield self._mend(_decoded(kept, path, lines))

    def _mend(self, text: str) -> str:
        mended = self._mended
        mended["byte order marks"] += text.count(BOM)  # within, where files were joined
        mended["CRLF line ends"] += text.count("\r\n")
        mended["CR line ends"] += text.count("\r") - text.count("\r\n")
        if "\r" in text or BOM in text:
            text = re.sub("\r\n?", "\n", text.replace(BOM, ""))
        if text.isascii() or unicodedata.is_normalized("NFC", text):
            self._counted = self._counted and "\n" not in text
            return text
        lines = text.split("\n")
        whole = [unicodedata.normalize("NFC", line) for line in lines]
        changed = [a != b for a, b in zip(lines, whole, strict=True)]
        mended["lines with characters in pieces"] += sum(changed) - (changed[0] and self._counted)
        self._counted = changed[-1] or (self._counted and len(lines) == 1)
        return "\n".join(whole)


def _read(path: Path, digest: "hashlib._Hash", *, alone: bool) -> Iterator[bytes]:
    """The bytes of a file, piece by piece, added to the hash. Raises CorpusError."""
    try:
        with path.open("rb") as file:
            status, done = os.fstat(file.fileno()), 0
            if not alone:
                digest.update(f"{status.st_size}\0".encode())
            while data := file.read(PIECE):
                digest.update(data)
                done += len(data)
                yield data
            if done != status.st_size and stat.S_ISREG(status.st_mode):
                raise CorpusError(
                    f"{path}: changed while it was read ({status.st_size:,} bytes, then {done:,}); "
                    "give the same command again when nobody writes to it"
                )
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> CorpusError:
    reason = getattr(error, "strerror", None) or error
    return CorpusError(f"{path}: can't be read: {reason}; give a text file")


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """Bytes up to a place where a piece may end, and those behind it."""
    place = data.rfind(b"\n") + 1
    if not place and len(data) >= PIECE:
        begin = max(0, len(data) - LATEST_CUTS)
        for found in _CUT.finditer(data, begin):
            place = found.start()
    return data[:place], data[place:]


def _decoded(data: bytes, path: Path, lines: int) -> str:
    """The text of a piece of a file, before which there were so many `lines`."""
    if not lines and data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CorpusError(f"{path}: is UTF-16, must be UTF-8; save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = lines + data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{path}: must be UTF-8, got byte 0x{data[error.start]:02X} in line {line}; "
            "save it as UTF-8"
        ) from None
    if "\0" in text:
        line = lines + text.count("\n", 0, text.index("\0")) + 1
        raise CorpusError(f"{path}: must be text, got a zero byte in line {line}")
    return text


def _paragraphs(column: Column) -> str:
    """The cells of a column, each a paragraph without blank lines in it."""
    cells = (re.sub(r"\n\s*\n", "\n", cell.strip()) for cell in column.cells)
    return "\n\n".join(cell for cell in cells if cell)
