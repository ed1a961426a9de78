"""Training by ranks that MPI starts: characters a second at 1 and 2 of them on this machine, and
what part of the time they exchange; and the same worked out for more, over a network.

    python benchmarks/mpi.py
    python benchmarks/mpi.py --gigabits 25 --microseconds 5

There are two ways to use ranks: the same batch cut in shares, and a batch for each rank. On paper a
step takes

    T(R) = t(64 / R), or t(64) for a batch of 64 each,
           + 2 (R - 1) latency + 2 (R - 1) / R gradient / bandwidth

where t(b) is the step of one rank with b streams as measured here, its update included, which each
rank makes whole. A rank sends R - 1 messages twice, one after the other in the worst case.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise

from benchmarks.big import write_text
from benchmarks.common import NOT_INSTALLED, ROOT, Report, Table, machine, options, run
from charrnn.config import CorpusConfig
from charrnn.corpus import load_corpus
from charrnn.ranks import ranks_here
from charrnn.recipe import Recipe
from charrnn.training import Listener, Run

SIZES = (128, 512)  # hidden units
BATCH, LENGTH = 64, 64  # streams, and steps of each
WARM = 3  # steps that aren't counted
ON_PAPER = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Speed:
    """Of a run: seconds of a step by the median one, the share of it that is exchange, characters
    of a step, and bytes of a gradient.
    """

    step: float
    exchange: float
    characters: float
    gradient: int


class Times(Listener):
    """When each step was over, and how long its rank had exchanged by then."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float, int]] = []

    def stepped(self, run: Run, characters: int) -> None:
        waited = run.ranks.waited if run.ranks else 0.0
        self.ends.append((time.perf_counter(), waited, characters))

    def speed(self, gradient: int) -> Speed:
        counted = self.ends[WARM:]
        seconds = statistics.median(b[0] - a[0] for a, b in pairwise(counted))
        waited = statistics.median(b[1] - a[1] for a, b in pairwise(counted))
        return Speed(seconds, waited, statistics.mean(end[2] for end in counted), gradient)


def train(path: Path, hidden: int, batch: int, steps: int) -> None:
    """What each rank does; the first one prints its figures."""
    ranks = ranks_here()
    training = {"batch_size": batch, "seq_length": LENGTH, "steps": steps}
    network = {"cell": "gru", "hidden_size": hidden, "dropout": 0.0}
    values = {"name": "mpi", "data": [path.name], "network": network, "training": training}
    corpus, times = load_corpus([path], CorpusConfig(kind="text")), Times()
    learning = Run(Recipe.checked(values), corpus, listener=times, ranks=ranks)
    learning._look = lambda: None  # type: ignore[method-assign]  # steps alone are timed
    learning._finished = lambda: None  # type: ignore[method-assign,assignment,return-value]
    learning.train()
    if ranks is None or ranks.is_first:
        print(json.dumps(vars(times.speed(learning.grads.flat.nbytes))))


def measured(path: Path, ranks: int, hidden: int, batch: int, steps: int) -> Speed:
    """A run of so many ranks."""
    script = [sys.executable, str(Path(__file__).resolve()), "--child", str(path)]
    command = [*script, str(hidden), str(batch), str(steps)]
    if ranks > 1:
        command = [_mpiexec() or "", "--oversubscribe", "-n", str(ranks), *command]
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMPI_MCA_btl": "self,sm"}
    environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, check=True
    )
    return Speed(**json.loads(done.stdout))


def _mpiexec() -> str | None:
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def median(runs: list[Speed]) -> Speed:
    """The run in the middle, by its step."""
    return sorted(runs, key=lambda each: each.step)[len(runs) // 2]


def measure(chosen: argparse.Namespace) -> Report:
    report = Report(machine({}))
    here = find_spec("mpi4py") is not None and _mpiexec() is not None
    if not here:
        report.machine["mpi4py"] = NOT_INSTALLED
    steps, rounds = (6, 1) if chosen.quick else (chosen.steps, chosen.rounds)
    batches = [BATCH // ranks for ranks in ((1, 2) if chosen.quick else ON_PAPER)]
    cases = [(1, batch) for batch in batches]
    cases += [(2, BATCH), (2, 2 * BATCH)] if here else []
    rows: list[list[object]] = []
    paper: list[list[object]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        write_text(path, 1)
        for hidden in (16,) if chosen.quick else SIZES:
            found: dict[tuple[int, int], list[Speed]] = {case: [] for case in cases}
            for _ in range(rounds):  # in turn, so that what disturbs one disturbs all
                for case in cases:
                    found[case].append(measured(path, case[0], hidden, case[1], steps))
            speeds = {case: median(each) for case, each in found.items()}
            name, one = f"GRU {hidden}", speeds[1, BATCH]
            for case in ((1, BATCH), *(case for case in cases if case[0] > 1)):
                rows.append(row(name, *case, speeds[case], one))
            shares = [speeds[1, batch] for batch in batches]
            paper += rows_on_paper(name, shares, chosen)
    report.add(Table("Training by ranks on this machine", COLUMNS, rows))
    report.add(Table("Training by ranks on paper", PAPER, paper, _note(chosen)))
    return report


def row(name: str, ranks: int, batch: int, speed: Speed, one: Speed) -> list[object]:
    """What ranks do here, beside one."""
    rate, alone = (each.characters / each.step for each in (speed, one))
    shares = [rate / alone, rate / alone / ranks, speed.exchange / speed.step]
    return [name, ranks, batch, rate, *shares]


COLUMNS = [
    ("network", "s"),
    ("ranks", "d"),
    ("global batch", "d"),
    ("characters/s", ",.0f"),
    ("to one rank", ".2f"),
    ("efficiency", ".0%"),
    ("exchange", ".0%"),
]
PAPER = [
    ("network", "s"),
    ("ranks", "d"),
    ("gradient, MB", ".2f"),
    ("exchange, ms", ".2f"),
    ("64 cut: step, ms", ".1f"),
    ("times as fast", ".1f"),
    ("efficiency", ".0%"),
    ("64 each: step, ms", ".1f"),
    ("times as fast", ".1f"),
    ("efficiency", ".0%"),
]


def rows_on_paper(name: str, shares: list[Speed], chosen: argparse.Namespace) -> list[list[object]]:
    """A batch that is cut, and one that grows with the ranks. `shares`: steps of one rank here, of
    each rank's share of the batch that is cut.
    """
    bandwidth, latency = chosen.gigabits * 1e9 / 8, chosen.microseconds * 1e-6
    one, rows = shares[0], list[list[object]]()
    for ranks, share in zip(ON_PAPER, shares, strict=False):
        wire = 2 * (ranks - 1) / ranks * one.gradient / bandwidth
        exchange = 2 * (ranks - 1) * latency + wire
        cut, grown = share.step + exchange, one.step + exchange
        rows.append(
            [
                *(name, ranks, one.gradient / 1e6, 1e3 * exchange),
                *(1e3 * cut, one.step / cut, one.step / ranks / cut),
                *(1e3 * grown, ranks * one.step / grown, one.step / grown),
            ]
        )
    return rows


def _note(chosen: argparse.Namespace) -> str:
    return (
        f"{chosen.gigabits:g} Gbit/s, {chosen.microseconds:g} microseconds a message, and a core "
        "as the one here for each rank."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        train(Path(sys.argv[2]), *map(int, sys.argv[3:6]))
        sys.exit()
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=30, help="of each run  [default: 30]")
    parser.add_argument("--rounds", type=int, default=3, help="of all runs  [default: 3]")
    parser.add_argument("--gigabits", type=float, default=10, help="a second  [default: 10]")
    parser.add_argument("--microseconds", type=float, default=20, help="a message  [default: 20]")
    run(measure, parser, kernels=False)
