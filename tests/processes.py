"""Watching processes; and one with a team of workers, to be killed.

python -m tests.processes DOING    # prints its workers, and a fork where it is `held`
"""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from charrnn.config import ModelConfig
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.packed import Batch
from charrnn.parallel import Team


def process_ids(team: Team) -> list[int]:
    """The workers of a team."""
    return [worker._process.pid for worker in team._workers]


def state_of(pid: int) -> str:
    """R runs, S sleeps, Z has ended and nobody asked; nothing where there is no such process, or
    no such system.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return state_of(pid) != "Z"


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something, not for ever."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def kill(pid: int) -> None:
    """Kill a process, and see it ended."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))


def open_files() -> int:
    """How many file descriptors this process has, without those of objects that are gone. The least
    of some looks: threads of other tests may have one open for a moment.
    """
    gc.collect()
    seen = []
    for _ in range(12):
        seen.append(len(list(Path("/dev/fd").iterdir())))
        time.sleep(0.004)  # in which those threads run
    return min(seen)


def main() -> None:
    """Print the workers, and a fork where there is one; work or wait until a kill."""
    doing = sys.argv[1]
    hidden, steps = (1024, 400) if doing == "computing" else (4, 2)
    config = ModelConfig(cell="lstm", hidden_size=hidden, vocab_size=5)
    team = Team(CharRNN.initialized(config, np.random.default_rng(0)), 3, Workspace())

    def compute(steps: int) -> None:
        ids = np.zeros(30 * steps, np.int64)
        team.loss_and_grads(Batch(ids, ids, np.full(steps, 30)), team.model.init_state(30))

    compute(1)
    fork = os.fork() if doing == "held" else 0
    if doing == "held" and not fork:
        time.sleep(300)
        os._exit(0)
    forks = [fork] if fork else []
    sys.stdout.write(f"{' '.join(map(str, process_ids(team)))}\n{' '.join(map(str, forks))}\n")
    sys.stdout.flush()
    while doing == "computing":
        compute(steps)
    sys.stdin.read()


if __name__ == "__main__":
    main()
