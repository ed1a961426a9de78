"""Workers end with the process that started them, however it ends and whatever they are doing."""

import os
import signal
import subprocess
import sys

import pytest

from tests.builders import ROOT
from tests.processes import alive, until


@pytest.mark.parametrize("doing", ["computing", "waiting", "held"])
def test_workers_end_when_the_first_process_is_killed(doing):
    """`held`: a fork of the first process lives on, and with it the other ends of the pipes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.processes", doing],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    workers = [int(pid) for pid in process.stdout.readline().split()]
    fork = [int(pid) for pid in process.stdout.readline().split()]
    try:
        assert len(workers) == 2
        assert all(map(alive, workers))
        process.kill()
        process.wait()
        until(lambda: not any(map(alive, workers)))
        assert all(map(alive, fork))
    finally:
        for pid in fork:
            os.kill(pid, signal.SIGKILL)
        process.stdin.close()
        process.stdout.close()
