"""Numbers shared by the workers of one gunicorn: a folder in memory, made for each master.

`prepare` must run before the first `Metrics` is made. A worker's counters are in files named by its
slot, not by its process: the worker that takes a dead one's place counts on in them, so that
neither the files nor a scrape grow with each worker that dies.

Nothing that happens to the folder reaches a request. The room of a file is had before it is mapped,
since a write to a page that there is no room for would end the process; where there is none, a
worker counts for itself. A folder that somebody removed, as systems do with a user's files in
memory at the end of a session, is made again.
"""

import atexit
import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "charrnn-metrics-"
OWNED = "owned"  # in each folder; locked as long as its master or one of its workers lives
ROOM = {"gauge": 1 << 12, "counter": 1 << 17, "histogram": 1 << 18}  # bytes of a file, by its kind
FREE = 1 << 22  # bytes that memory must have for the folder to be there

log = logging.getLogger(__name__)

_slot = "master"  # of this process
_lost = 0  # times that the files of this process were gone
_shares = True  # whether this process has files
_slots: dict[int, str] = {}  # in the master: by the age of each worker that lives
_folder: Path | None = None
_lock: int | None = None


def prepare() -> None:
    """Make this master's folder, once, and remove those of masters that were killed."""
    global _folder, _lock
    if _folder is not None:  # gunicorn reads its configuration again at SIGHUP
        return
    for parent in _parents():
        try:
            _sweep(parent)
            unnamed = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
            _lock = _own(unnamed)
            _folder = unnamed.rename(parent / unnamed.name[1:])  # now another sweep can find it
        except OSError as error:
            log.warning("the numbers of /metrics can't be in %s: %s", parent, error)
        else:
            os.environ[VARIABLE] = str(_folder)
            atexit.register(_remove)
            values.ValueClass = values.MultiProcessValue(_name)
            values.MmapedDict = _file  # type: ignore[assignment, attr-defined]
            return


def restore() -> bool:
    """Make files of this process anew that are gone, and the folder. Returns whether there is one;
    what had been counted is lost.
    """
    global _lost
    if _folder is None:
        return False
    if _shares and not (_folder / f"gauge_livesum_{_name()}.db").exists():
        _lost += 1  # another name: with the next number they are opened again
        log.warning("%s is gone, and with it what was counted: counting begins anew", _folder)
    return _folder.is_dir() or _make(_folder)


def take_slot(age: int) -> None:
    """In the master, before it forks the worker of this age: the first slot that is free."""
    taken = set(_slots.values())
    _slots[age] = next(str(n) for n in range(len(taken) + 1) if str(n) not in taken)


def enter_slot(age: int) -> None:
    """In the worker, before it counts anything."""
    global _slot
    _slot = _slots[age]


def leave_slot(age: int) -> None:
    """In the master, once the worker is dead: what it counted stays, what it was doing is over."""
    slot = _slots.pop(age, None)
    if slot is not None and _folder is not None:
        for path in _folder.glob(f"gauge_livesum_{slot}-*.db"):  # of a process that lost its files
            mark_process_dead(path.stem.rpartition("_")[2])
        mark_process_dead(slot)


class _File(MmapedDict):
    """Numbers in a file that has its room. Raises OSError where there is none."""

    def __init__(self, filename: str) -> None:
        path = Path(filename)
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, ROOM[path.name.partition("_")[0]])
        super().__init__(filename)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        if self._used + 2 * len(key.encode()) + 64 > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, 2 * self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def read_value(self, key: str) -> tuple[float, float]:
        try:
            found: tuple[float, float] = super().read_value(key)  # type: ignore[no-untyped-call]
        except OSError:  # no room for one number more
            return 0.0, 0.0
        return found

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        try:  # noqa: SIM105  cheaper than `suppress`, in the way of every request
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]
        except OSError:
            pass


class _Unshared:
    """Stands for a file that can't be had: numbers that only this process knows."""

    def read_value(self, key: str) -> tuple[float, float]:
        return 0.0, 0.0

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        pass

    def close(self) -> None:
        pass


def _file(filename: str) -> _File | _Unshared:
    """Numbers of this process, of one kind."""
    global _shares
    folder = Path(filename).parent
    try:
        if folder.is_dir() or _make(folder):
            return _File(filename)
    except OSError as error:
        if _shares:
            log.warning("what this worker counts can't be in %s: %s", folder, error.strerror)
    _shares = False
    return _Unshared()


def _name() -> str:
    """What the files of this process are named by."""
    return f"{_slot}-{_lost}" if _lost else _slot


def _parents() -> list[Path]:
    """Where the folder may be: in memory, for a slow disk must not slow down requests."""
    memory, disk = Path("/dev/shm"), Path(tempfile.gettempdir())
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= FREE:
        return [memory, disk]
    return [disk]


def _own(folder: Path) -> int:
    """Lock a folder as long as this process or one forked from it lives. Raises OSError."""
    lock = os.open(folder / OWNED, os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _make(folder: Path) -> bool:
    """A folder that is gone again, as this process's own. Returns whether there is one."""
    global _lock
    try:
        folder.mkdir(mode=0o700)
        _lock = _own(folder)
    except OSError:
        pass
    return folder.is_dir()


def _remove() -> None:
    """At the end of the master; the ends of its workers must leave the folder alone."""
    if _slot == "master" and _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, in use, or swept by another this very moment
            lock = os.open(folder / OWNED, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)
