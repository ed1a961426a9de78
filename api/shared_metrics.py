"""Numbers shared by the workers of one gunicorn: a folder in memory, made for each master.

`prepare` must run before the first `Metrics` is made. A worker's counters are in files named by its
slot, not by its process: the worker that takes a dead one's place counts on in them, so that
neither the files nor a scrape grow with each worker that dies.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from prometheus_client import values
from prometheus_client.multiprocess import mark_process_dead

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "charrnn-metrics-"
OWNED = "owned"  # in each folder; locked as long as its master or one of its workers lives

_slot = "master"  # of this process
_slots: dict[int, str] = {}  # in the master: by the age of each worker that lives
_folder: Path | None = None
_lock: int | None = None


def prepare() -> None:
    """Make this master's folder, once, and remove those of masters that were killed."""
    global _folder, _lock
    if _folder is not None:  # gunicorn reads its configuration again at SIGHUP
        return
    memory = Path("/dev/shm")  # a slow disk must not slow down requests
    parent = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    _sweep(parent)
    unnamed = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
    _lock = os.open(unnamed / OWNED, os.O_CREAT | os.O_RDWR)
    fcntl.flock(_lock, fcntl.LOCK_EX)
    _folder = unnamed.rename(parent / unnamed.name[1:])  # only now can another sweep find it
    os.environ[VARIABLE] = str(_folder)
    atexit.register(_remove)
    values.ValueClass = values.MultiProcessValue(lambda: _slot)


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
    if slot is not None:
        mark_process_dead(slot)


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
