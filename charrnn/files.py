"""Files that are whole or absent: a crash at any instant leaves the old bytes or the new ones."""

import errno
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TEMPORARY = ".partial"


def write_atomically(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a temporary file beside `path`, flush it to the disk, and rename it over `path`.

    Without `replace` a file that is there stays: FileExistsError. Raises OSError (a full disk, a
    read-only folder); `path` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            _rename_anew(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise
    _sync_folder(path.parent)


def _rename_anew(temporary: Path, path: Path) -> None:
    """Rename to a name that nothing has. Two at once: the second one fails, where the file system
    has hard links.
    """
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # no hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.replace(path)
    else:
        temporary.unlink()


def append_line(path: Path, line: str) -> None:
    """Append one line, in one write, and flush it to the disk. A line cut off by a crash before is
    ended first, so that it can't spoil this one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that a crash cut off is passed over."""
    try:
        lines = path.read_text("utf-8", errors="replace").split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    objects = []
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects


def canonical_json(value: Any) -> str:
    """The one way to write a value: sorted keys, no spaces, ASCII, finite numbers only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left behind. Only where no writer is at work."""
    for orphan in _orphans(folder):
        orphan.unlink(missing_ok=True)


def _orphans(folder: Path) -> Iterable[Path]:
    return list(folder.glob(f".*{TEMPORARY}")) if folder.is_dir() else []


def _sync_folder(folder: Path) -> None:
    """A rename lasts once its folder is on the disk. Not every system lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
