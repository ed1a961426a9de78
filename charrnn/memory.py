"""How much memory this process has taken, as the system counts it."""

import re
from pathlib import Path

STATUS = Path("/proc/self/status")  # Linux has it


def peak_memory() -> int | None:
    """The most bytes that this process has held in memory so far; None where that isn't told.

    `resource.getrusage` would tell it on more systems, but on Linux its figure begins with what
    the process that started this one held.
    """
    try:
        peak = re.search(rb"^VmHWM:\s+(\d+) kB$", STATUS.read_bytes(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(peak[1]) if peak else None
