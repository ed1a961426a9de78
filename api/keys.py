"""API keys: only digests of them are kept, and a file of them is followed as it changes.

Where a key may come from in a request, and what needs none, stands in `security`.
"""

import hashlib
import hmac
import logging
import stat
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from api.errors import StartError

SHORTEST = 16  # characters; a key is all that stands between the public and the service
LONGEST = 256
MOST_KEYS = 1000  # each is compared at every request
LARGEST_FILE = 1024 * 1024
RECHECK_SECONDS = 0.5
GOOD_KEY = "`openssl rand -hex 24` makes a good one"

log = logging.getLogger(__name__)


class Keys:
    """Some keys, as their digests. What a key was can't be had from it, nor seen in its repr."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        """Raises ValueError, whose message tells which key is wrong by its number alone."""
        digests = set()
        for number, word in enumerate(words, 1):
            _check(word, number)
            digests.add(_digest(word))
        if len(digests) > MOST_KEYS:
            raise ValueError(f"must have at most {MOST_KEYS} keys, and has {len(digests)}")
        self._digests = tuple(sorted(digests))

    @classmethod
    def listed(cls, text: str) -> Self:
        """Keys separated by commas. Raises ValueError where one is wrong or there is none."""
        keys = cls(word for part in text.split(",") if (word := part.strip()))
        if not keys:
            raise ValueError(f"must have at least one key; {GOOD_KEY}")
        return keys

    @classmethod
    def read(cls, path: Path) -> Self:
        """Keys of a file, one a line; `#` begins a comment, blank lines count for nothing.

        Raises ValueError and OSError.
        """
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # one can't be read twice, or makes the reader wait
            raise ValueError("must be a regular file")
        if found.st_size > LARGEST_FILE:
            raise ValueError(f"must have at most {LARGEST_FILE} bytes")
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError("must be UTF-8") from None
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        return cls(line for line in lines if line)

    def know(self, presented: str) -> bool:
        """Whether this is one of them. All are compared, each in constant time."""
        digest, found = _digest(presented), False
        for each in self._digests:
            found |= hmac.compare_digest(each, digest)
        return found

    def __len__(self) -> int:
        return len(self._digests)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and self._digests == other._digests

    def __hash__(self) -> int:
        return hash(self._digests)

    def __repr__(self) -> str:
        return f"<{len(self)} keys>"


class KeyRing:
    """The keys of the settings and those of a file, which is looked at twice a second.

    The file is the truth: a key that is taken out of it is refused within the second, and an
    empty one leaves no key. What can't be read, or breaks a rule, is logged and changes nothing.
    """

    def __init__(self, own: Keys | None = None, file: str | None = None) -> None:
        """Raises StartError where the file can't be read, breaks a rule or has no key."""
        self._own = own or Keys()
        self._path = Path(file) if file else None
        self._filed = Keys()
        self._lock = threading.Lock()
        self._complaint = ""
        self._checked = time.monotonic()
        if self._path:
            self._stamp = _stamp(self._path)
            try:
                self._filed = Keys.read(self._path)
            except (OSError, ValueError) as error:
                raise StartError(_complaint(self._path, error)) from None
            if not self._filed:
                raise StartError(f"{_named(self._path)} has no key; {GOOD_KEY}")

    def know(self, presented: str) -> bool:
        """Whether this is a key."""
        self._follow()
        return self._own.know(presented) | self._filed.know(presented)

    def __len__(self) -> int:
        return len(self._own) + len(self._filed)

    def _follow(self) -> None:
        """Read the file again if it has changed since the last look, and that was a while ago."""
        if self._path is None or time.monotonic() - self._checked < RECHECK_SECONDS:
            return
        if not self._lock.acquire(blocking=False):
            return  # another thread is at it
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._filed = Keys.read(self._path)
                log.info("%s: %d keys are in force", _named(self._path), len(self._filed))
                self._stamp, self._complaint = stamp, ""
        except (OSError, ValueError) as error:
            complaint = _complaint(self._path, error)
            if complaint != self._complaint:  # once, not twice a second
                log.error("%s; the keys of before stay in force", complaint)
            self._complaint = complaint
        finally:
            self._checked = time.monotonic()
            self._lock.release()


def _check(word: str, number: int) -> None:
    if not SHORTEST <= len(word) <= LONGEST:
        raise ValueError(
            f"must have keys of {SHORTEST} to {LONGEST} characters; key {number} has {len(word)} "
            f"({GOOD_KEY})"
        )
    if not all("!" <= character <= "~" and character != "," for character in word):
        raise ValueError(
            f"must have keys of ASCII letters, digits and signs, without spaces and commas; "
            f"key {number} has something else ({GOOD_KEY})"
        )


def _digest(word: str) -> bytes:
    return hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does; nothing where it can't be looked at."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _named(path: Path) -> str:
    return f"CHARRNN_API_KEYS_FILE ({path})"


def _complaint(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"{_named(path)} can't be read: {error.strerror}"
    return f"{_named(path)} {error}"
