"""How much memory a process has taken, as the system counts it."""

import re
from pathlib import Path

PROCESSES = Path("/proc")  # Linux has it


def peak_memory(process: int | None = None) -> int | None:
    """The most bytes that a process, by its id, or this one, has held in memory so far; None where
    that isn't told.

    `resource.getrusage` would tell it on more systems, but on Linux its figure begins with what
    the process that started this one held.
    """
    status = PROCESSES / str(process or "self") / "status"
    try:
        peak = re.search(rb"^VmHWM:\s+(\d+) kB$", status.read_bytes(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(peak[1]) if peak else None
