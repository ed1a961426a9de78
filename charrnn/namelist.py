"""Long lists of names in few bytes: one text and where each name begins, instead of an object for
each. A million names take a quarter of what a tuple and a set of them do.

Short lists stay tuples: `kept` decides.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

MANY_NAMES = 50_000  # from which on a list is kept in this form
AT_ONCE = 8_192  # names that are objects at a time, where all are gone through


class NameList(Sequence[str]):
    """Names without line breaks, none empty, in the order given."""

    def __init__(self, text: bytes) -> None:
        """text: the names in UTF-8, a newline between two. Raises UnicodeDecodeError."""
        self.text = text
        ends = _newlines(text)
        dtype = np.uint32 if len(text) < 2**32 else np.uint64
        self._starts = np.concatenate([[0], ends + 1, [len(text) + 1]]).astype(dtype)
        for _ in self.chunks():  # what is no UTF-8 is found now
            pass

    @classmethod
    def of(cls, names: Iterable[str]) -> "NameList":
        """The list of some names, at least one."""
        names, parts = iter(names), []
        while some := list(islice(names, AT_ONCE)):
            parts.append("\n".join(some).encode("utf-8", "surrogatepass"))
        return cls(b"\n".join(parts))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            return tuple(self[k] for k in range(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        k = place % len(self)
        return _decoded(self.text[int(self._starts[k]) : int(self._starts[k + 1]) - 1])

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(some.split("\n") for some in self.chunks())

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        hashes, order = self._index
        own = hash(name)
        place = bisect_left(hashes, own)
        while place < len(hashes) and hashes[place] == own:
            if self[order[place]] == name:
                return True
            place += 1
        return False

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NameList):
            return self.text == other.text
        return isinstance(other, tuple) and tuple(self) == other

    def __hash__(self) -> int:
        return hash(self.text)

    @cached_property
    def _index(self) -> tuple[Any, Any]:
        """The names' hashes, rising, and their places in that order."""
        hashes, begin = np.empty(len(self), np.int64), 0
        for some in self.chunks():
            own = list(map(hash, some.split("\n")))
            hashes[begin : begin + len(own)] = own
            begin += len(own)
        order = np.argsort(hashes, kind="stable")
        # Views that answer with Python's own numbers: those of arrays take ten times as long.
        return hashes[order].data, order.astype(np.uint32).data

    def chunks(self) -> Iterator[str]:
        """The names, some of them at a time: as lines of one text."""
        for first in range(0, len(self), AT_ONCE):
            last = min(first + AT_ONCE, len(self))
            yield _decoded(self.text[int(self._starts[first]) : int(self._starts[last]) - 1])


def kept(names: Sequence[str]) -> tuple[str, ...] | NameList:
    """A list in the form that suits its length."""
    if isinstance(names, NameList) and len(names) >= MANY_NAMES:
        return names
    return NameList.of(names) if len(names) >= MANY_NAMES else tuple(names)


def from_text(text: bytes) -> tuple[str, ...] | NameList:
    """The list that `to_text` wrote. Raises UnicodeDecodeError."""
    if text.count(b"\n") + 1 >= MANY_NAMES:
        return NameList(text)
    return tuple(_decoded(text).split("\n")) if text else ()


def to_text(names: Sequence[str]) -> bytes:
    """A list as one text, a newline between two names."""
    if isinstance(names, NameList):
        return names.text
    return "\n".join(names).encode("utf-8", "surrogatepass")


def in_chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """A list as it is, or, in the form for many, some names at a time."""
    if not isinstance(names, NameList):
        if names:
            yield names
        return
    for some in names.chunks():
        yield some.split("\n")


def _newlines(text: bytes) -> NDArray[Any]:
    """Where they stand, looked for piece by piece."""
    data, step = np.frombuffer(text, np.uint8), 1 << 20
    found = [
        np.flatnonzero(data[begin : begin + step] == 10) + begin
        for begin in range(0, len(data), step)
    ]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")
