"""Tables of text: whether a file is one (CSV, TSV), and the column of it that is meant."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charrnn.errors import CorpusError, shown

SUFFIXES = {".csv": ",;\t|", ".tsv": "\t", ".tab": "\t"}  # and what may stand between cells
LOOKED_AT = 200  # rows, to find out what a file is
HEAD = 2_000_000  # characters, likewise
LARGEST_CELL = 10_000_000  # characters
# Names of columns of text, as tables on the net have them.
TEXT_COLUMNS = ("text", "body", "comment", "comments", "content", "message", "sentence", "title")
NAME_COLUMNS = ("name", "names", "word", "words")
Row = tuple[int, list[str]]
"""The line where it begins, and its cells."""


@dataclass(frozen=True)
class Column:
    """The cells of a column, and how a person is told of it."""

    cells: tuple[str, ...]
    said: str
    short: int  # rows without this column


def delimiter_of(text: str, path: Path, *, told: bool) -> str | None:
    """What stands between the cells of a file; None for one that is no table.

    A file named .csv or .tsv is a table, and so is one of which a column is asked for (`told`).
    Another is one if all rows have as many cells, at least two, and either tabs stand between them,
    or cells in quotation marks, or its first row names a column as tables usually do.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or told:
        choices = SUFFIXES.get(suffix, ",;\t|")
        return max(choices, key=lambda each: (_evenness(text, each), -choices.index(each)))
    for delimiter in "\t,;":
        if _evenness(text, delimiter) == 1:
            first = _head(text, delimiter)[0]
            quoted = f'"{delimiter}"' in text[:100_000]
            if delimiter == "\t" or quoted or any(_plain(cell) in _known() for cell in first):
                return delimiter
    return None


def column_of(text: str, delimiter: str, column: str | None, path: Path) -> Column:
    """A column, by name or number from 1, or the one that looks most like text.

    Raises CorpusError, which names the line, for what is no table, and for a column that isn't
    there.
    """
    rows = _rows(text, delimiter, path)
    if not rows:
        raise CorpusError(f"{path}: no row in it; give a table with some")
    first = rows[0][1]
    named = [number for number, cell in enumerate(first) if _plain(cell) == _plain(column or "")]
    if column and named:
        number, has_head = named[0], True
    elif column and re.fullmatch(r"[1-9][0-9]{0,5}", column):
        number = int(column) - 1
        if number >= max(len(cells) for _, cells in rows):
            raise CorpusError(f"{path}: {_no_such(column, rows, first)}")
        has_head = _has_head(rows, number)
    elif column:
        raise CorpusError(f"{path}: {_no_such(column, rows, first)}")
    else:
        number = _likeliest(rows)
        has_head = _has_head(rows, number)
    body = rows[1:] if has_head else rows
    cells = tuple(row[number] for _, row in body if len(row) > number)
    name = f"{first[number].strip()!r}" if has_head else "without a name"
    said = f"column {number + 1} ({name}) of a table of {len(first)}, {len(body):,} rows"
    return Column(cells, said, len(body) - len(cells))


def _no_such(column: str, rows: Sequence[Row], first: Sequence[str]) -> str:
    names = ", ".join(f"{n} {shown(cell.strip())}" for n, cell in enumerate(first[:30], 1))
    most = max(len(cells) for _, cells in rows)
    return (
        f"column must be one of its {most}, by number or by the name in its first row ({names}), "
        f"got {shown(column)}"
    )


def _rows(text: str, delimiter: str, path: Path, most: int | None = None) -> list[Row]:
    """The rows that have something in them. Raises CorpusError."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    before = csv.field_size_limit(LARGEST_CELL)
    begun = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((begun, cells))
            begun = reader.line_num + 1
            if most and len(rows) == most:
                break
    except csv.Error as error:
        raise CorpusError(
            f"{path}: the row that begins in line {begun} is no row of a table ({error}); mend its "
            "quotation marks, or say what the file is with --kind names or --kind text and another "
            "ending than .csv"
        ) from None
    finally:
        csv.field_size_limit(before)
    return rows


def _head(text: str, delimiter: str) -> list[list[str]]:
    """The cells of the first rows; none where they can't be read."""
    try:
        return [cells for _, cells in _rows(text[:HEAD], delimiter, Path(), LOOKED_AT)]
    except CorpusError:
        return []


def _evenness(text: str, delimiter: str) -> float:
    """The share of the first rows that have as many cells as the first one; 0 for single cells."""
    rows = _head(text, delimiter)
    if len(rows) < 2 or len(rows[0]) < 2:
        return 0.0
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows)


def _known() -> tuple[str, ...]:
    return TEXT_COLUMNS + NAME_COLUMNS


def _plain(cell: str) -> str:
    return unicodedata.normalize("NFC", cell).strip().casefold()


def _likeliest(rows: Sequence[Row]) -> int:
    """The column that is named as text or names are; else the one with the most letters."""
    plain = [_plain(cell) for cell in rows[0][1]]
    for name in _known():
        if name in plain:
            return plain.index(name)
    letters = [0] * max(len(cells) for _, cells in rows)
    for _, cells in rows[:LOOKED_AT]:
        for number, cell in enumerate(cells):
            letters[number] += sum(map(str.isalpha, cell))
    return letters.index(max(letters))


def _has_head(rows: Sequence[Row], number: int) -> bool:
    """Whether the first row names the columns: it says so of this one, or a column whose cells are
    all numbers begins with something else.
    """
    first, body = rows[0][1], rows[1 : LOOKED_AT + 1]
    if len(first) > number and _plain(first[number]) in _known():
        return True
    for n, cell in enumerate(first):
        below = [cells[n] for _, cells in body if len(cells) > n and cells[n].strip()]
        if len(below) >= 2 and all(map(_is_number, below)) and not _is_number(cell):
            return True
    return False


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"\s*[+-]?[\d.,]*\d%?\s*", cell) is not None
