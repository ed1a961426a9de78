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

    @property
    def rate(self) -> float:
        """Characters a second."""
        return self.characters / self.step


@dataclass(frozen=True)
class Case:
    """Runs of so many ranks with so many streams each; so many of them side by side."""

    ranks: int
    batch: int
    apart: int = 1


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


def started(path: Path, ranks: int, hidden: int, batch: int, steps: int) -> "subprocess.Popen[str]":
    """A run of so many ranks."""
    script = [sys.executable, str(Path(__file__).resolve()), "--child", str(path)]
    command = [*script, str(hidden), str(batch), str(steps)]
    if ranks > 1:
        command = [_mpiexec() or "", "--oversubscribe", "-n", str(ranks), *command]
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMPI_MCA_btl": "self,sm"}
    environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)


def measured(path: Path, case: Case, hidden: int, steps: int) -> Speed:
    """The speed of a case; of runs side by side that of all of them."""
    runs = [started(path, case.ranks, hidden, case.batch, steps) for _ in range(case.apart)]
    speeds = []
    for each in runs:
        out, _ = each.communicate()
        if each.returncode:
            raise SystemExit(f"a run of {case.ranks} ranks failed")
        speeds.append(Speed(**json.loads(out)))
    first = speeds[0]
    rate = sum(each.rate for each in speeds)
    return Speed(first.characters / rate, first.exchange, first.characters, first.gradient)


def _mpiexec() -> str | None:
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def median(runs: list[Speed]) -> Speed:
    """The run in the middle, by its step."""
    return sorted(runs, key=lambda each: each.step)[(len(runs) - 1) // 2]


def measure(chosen: argparse.Namespace) -> Report:
    report = Report(machine({}))
    here = find_spec("mpi4py") is not None and _mpiexec() is not None
    if not here:
        report.machine["mpi4py"] = NOT_INSTALLED
    steps, rounds = (6, 1) if chosen.quick else (chosen.steps, chosen.rounds)
    shares = [Case(1, BATCH // ranks) for ranks in ((1, 2) if chosen.quick else ON_PAPER)]
    pairs = [(Case(2, BATCH), Case(1, BATCH // 2, apart=2))]
    pairs += [] if chosen.quick else [(Case(2, 2 * BATCH), Case(1, BATCH, apart=2))]
    cases = [*shares, *(case for pair in pairs for case in pair if here)]
    rows: list[list[object]] = []
    paper: list[list[object]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        write_text(path, 1)
        for hidden in (16,) if chosen.quick else SIZES:
            found: dict[Case, list[Speed]] = {case: [] for case in cases}
            for _ in range(rounds):  # in turn, so that what disturbs one disturbs all
                for case in cases:
                    found[case].append(measured(path, case, hidden, steps))
            speeds = {case: median(each) for case, each in found.items()}
            name, one = f"GRU {hidden}", speeds[shares[0]]
            rows.append([name, 1, BATCH, one.rate, 1.0, None, None])
            for case, apart in pairs if here else ():
                speed, others = speeds[case], speeds[apart]
                against = [speed.rate / one.rate, speed.rate / others.rate]
                rows.append(
                    [name, 2, case.batch, speed.rate, *against, speed.exchange / speed.step]
                )
                rows.append(
                    [name, "2 apart", case.batch, others.rate, others.rate / one.rate, 1.0, 0.0]
                )
            paper += rows_on_paper(name, [speeds[case] for case in shares], chosen)
    report.add(Table("Training by ranks on this machine", COLUMNS, rows, APART))
    report.add(Table("Training by ranks on paper", PAPER, paper, _note(chosen)))
    return report


COLUMNS = [
    ("network", "s"),
    ("ranks", "d"),
    ("streams in all", "d"),
    ("characters/s", ",.0f"),
    ("to one rank", ".2f"),
    ("to two apart", ".0%"),
    ("exchange", ".0%"),
]
APART = """Two apart: two trainings of one process each, side by side, that have nothing to do with
each other; with half of the streams each. They are what the machine gives to two processes now."""
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
    run(measure, parser)
