"""Where encoded texts lie: a folder of files named by what they are made of, made once, and read by
any number of processes.

A file is made under a lock, in a temporary file that is renamed when it is whole, so two processes
that want the same one wait for one to make it, and a kill leaves nothing but a temporary file that
the next one sweeps up. The two that were used last are kept. Files may be removed at any time: who
reads one goes on.
"""

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from charrnn.errors import CorpusError
from charrnn.files import TEMPORARY, sweep

log = logging.getLogger(__name__)

SUFFIX = ".ids"
KEPT = 2  # files that stay, those used last
LOOK_SECONDS = 1.0  # how often to see whether another process is done


class TextCache:
    """The files of one folder; None for one without a name, that is gone with its process."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def find(self, key: str) -> tuple[int, str] | None:
        """A descriptor of the file of that name, and its path."""
        path = self._path(key)
        try:
            fd = os.open(path, os.O_RDONLY) if path else None
        except OSError:
            return None
        if path is None or fd is None:
            return None
        with suppress(OSError):  # of another user: it is read all the same
            os.utime(path)  # used last
        return fd, str(path)

    def check(self) -> None:
        """Raises CorpusError where the folder can't be written to, or made."""
        if self.folder is None:
            return
        there = next(
            f for f in (self.folder.absolute(), *self.folder.absolute().parents) if f.exists()
        )
        for wrong, number in (
            (not there.is_dir(), errno.ENOTDIR),
            (not os.access(there, os.W_OK), errno.EACCES),
        ):
            if wrong:
                raise self._refused(OSError(number, os.strerror(number)))

    def drop(self, key: str) -> None:
        """Remove a file that is of no use."""
        path = self._path(key)
        try:
            if path:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise self._refused(error) from None

    def make(
        self,
        key: str,
        size: int,
        write: Callable[[BinaryIO], None],
        waits: Callable[[], None] = lambda: None,
    ) -> tuple[int, str]:
        """Have `write` make the file, unless another process just has; a descriptor, and its path.

        Args:
            size: bytes that it will take.
            waits: called each second while another process is at work in the folder.

        Raises CorpusError where the folder can't be written to or has no room, and what `write`
        and `waits` raise.
        """
        try:
            if self.folder is None:
                return self._nameless(size, write)
            return self._named(self.folder, key, size, write, waits)
        except OSError as error:
            raise self._refused(error, size) from None

    def _named(
        self,
        folder: Path,
        key: str,
        size: int,
        write: Callable[[BinaryIO], None],
        waits: Callable[[], None],
    ) -> tuple[int, str]:
        from filelock import FileLock, Timeout

        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "encoding.lock", timeout=LOOK_SECONDS)
        told = False
        while True:
            try:
                lock.acquire()
                break
            except Timeout:
                if not told:
                    log.info("another process is encoding a text in %s: waiting for it", folder)
                told = True
                waits()
        try:
            if found := self.find(key):  # made in the meantime
                return found
            sweep(folder)
            self._make_room(folder, size)
            path = folder / f"{key}{SUFFIX}"
            temporary = folder / f".{key}.{os.getpid()}{TEMPORARY}"
            try:
                with temporary.open("xb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            return os.open(path, os.O_RDONLY), str(path)
        finally:
            lock.release()

    def _nameless(self, size: int, write: Callable[[BinaryIO], None]) -> tuple[int, str]:
        _check_room(Path(tempfile.gettempdir()), size)
        with tempfile.TemporaryFile() as file:
            write(file)
            file.flush()
            return os.dup(file.fileno()), "the encoded text"

    def _make_room(self, folder: Path, size: int) -> None:
        """Remove all but the files used last."""
        found = sorted(folder.glob(f"*{SUFFIX}"), key=_last_used, reverse=True)
        for path in found[KEPT - 1 :]:
            path.unlink(missing_ok=True)
        _check_room(folder, size)

    def _path(self, key: str) -> Path | None:
        return self.folder / f"{key}{SUFFIX}" if self.folder else None

    def _refused(self, error: OSError, size: int = 0) -> CorpusError:
        where = self.folder or tempfile.gettempdir()
        room = f"{size / 1e6:,.0f} MB of room in " if size else ""
        return CorpusError(
            f"{where}: the text can't be encoded there: {error.strerror}; it needs {room}a folder "
            "that can be written to: make room, or name another folder with CHARRNN_CACHE"
        )


def _check_room(folder: Path, size: int) -> None:
    """Raises OSError where the disk has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"No space left on device ({free / 1e6:,.0f} MB are free)")


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0  # gone by now
