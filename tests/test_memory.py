"""The process's memory, as the system counts it."""

import subprocess
import sys

import pytest

from charrnn.memory import peak_memory

pytestmark = pytest.mark.skipif(
    peak_memory() is None, reason="this system doesn't tell what a process holds"
)


def test_memory_that_was_held_counts_in_bytes_after_it_is_given_back():
    code = """
from charrnn.memory import peak_memory
before = peak_memory()
held = b"x" * 200_000_000
del held
print(peak_memory() - before)
"""
    more = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert 190_000_000 < more < 220_000_000


def test_the_peak_never_falls():
    first = peak_memory()
    assert peak_memory() >= first
