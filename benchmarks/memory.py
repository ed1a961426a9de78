"""How cost grows: characters a second and memory of generation and training, against the hidden
size, the batch, the length and the vocabulary: of training with one process and two, of generation
with one BLAS thread and two. Draws one picture.

    python benchmarks/memory.py --svg docs/growth.svg
    python benchmarks/memory.py --quick --json figures.json

Memory is the peak of what numpy and Python hold during the call, by tracemalloc, beyond what was
there before: of training with its gradients, Adam's moments and the workspace, without the weights,
in one process.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common import Report, Table, Timing, machine, options, run
from benchmarks.growth import Panel, picture
from benchmarks.models import network, text_generator
from charrnn import Generator, blas_threads
from charrnn.config import TrainConfig
from charrnn.ops import Workspace
from charrnn.optimizers import clip_by_norm
from charrnn.packed import Batch
from charrnn.parallel import Team

CELL = "lstm"
SECONDS = 0.6  # of a point, beyond its first two calls

# Each axis: its name, its values, and the rest held at BASE.
BASE = {"H": 256, "B": 32, "T": 64, "V": 65}
AXES = {
    "H": (64, 128, 256, 512, 1024, 2048),
    "B": (1, 4, 16, 64, 256, 512),
    "T": (16, 32, 64, 128, 256, 512),
    "V": (27, 65, 256, 1000, 4000, 8000),
}
SMALL = {"H": 8, "B": 2, "T": 4, "V": 6}
SMALL_AXES = {"H": (8, 16), "B": (1, 2), "T": (2, 4), "V": (5, 600)}
LENGTHS = (200, 500, 1000, 2000, 5000, 10_000)
CHARACTERS = 60  # of each text at most, where generation is timed
WORDS = {
    "H": "hidden size",
    "B": "batch",
    "T": "steps of a training batch",
    "V": "vocabulary",
    "length": "characters of one text",
}


class Training:
    """Whole steps of training at one point, on random ids."""

    def __init__(self, H: int, B: int, T: int, V: int) -> None:
        self.model = network(CELL, H, V)
        ids = np.random.default_rng(0).integers(0, V, (T + 1) * B)
        self.batch = Batch(ids[:-B], ids[B:], np.full(T, B))
        self.state = self.model.init_state(B)
        self.characters = T * B
        self.team: Team | None = None
        self.begin(1)

    def begin(self, processes: int) -> None:
        """What a run holds beside the weights, anew."""
        self.end()
        self.team = Team(self.model, processes, Workspace(), TrainConfig(optimizer="adam"))

    def end(self) -> None:
        """Let go of what a run holds."""
        if self.team:
            self.team.close()
        self.team = None

    def step(self) -> None:
        assert self.team
        self.team.loss_and_grads(self.batch, self.state)
        clip_by_norm(self.team.grads.flat, 1.0)
        self.team.update(1e-3, 1)

    def bytes(self) -> int:
        def once() -> None:
            self.begin(1)
            self.step()
            self.step()

        self.end()
        return peak_bytes(once)


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that is held at one time during a call, beyond what was there before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def seconds_of(work: Callable[[], object]) -> Timing:
    """A call: the first isn't counted, the rest within SECONDS are, and one in any case."""
    work()
    values: list[float] = []
    while not values or (sum(values) < SECONDS and len(values) < 5):
        began = time.perf_counter()
        work()
        values.append(time.perf_counter() - began)
    return Timing.of(values)


def generate(generator: Generator, batch: int, length: int) -> Any:
    return generator.generate(count=batch, max_length=length, random_seed=1)


def stream(generator: Generator, length: int) -> None:
    """One text, piece by piece, none of them kept."""
    for _ in generator.stream(max_length=length, random_seed=1):
        pass


class Benchmark:
    """Every point of every panel."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.quick, self.svg = chosen.quick, chosen.svg
        self.base = SMALL if self.quick else BASE
        self.axes = SMALL_AXES if self.quick else AXES
        most = 1 if self.quick else min(2, os.cpu_count() or 1)
        self.counts = tuple(range(1, most + 1))
        names = " and ".join(map(str, self.counts))
        self.report = Report(machine({"torch": "no part", "onnxruntime": "no part"}, names))
        print(f"\n## {self.report.head()}\n", flush=True)
        self.panels: list[Panel] = []

    def all(self) -> Report:
        """Training against all axes, generation against all but T, a request against its length."""
        for axis, values in self.axes.items():
            self.training(axis, values)
        for axis in ("H", "B", "V"):
            self.generation(axis, self.axes[axis])
        self.length()
        if self.svg:
            fixed = ", ".join(f"{name} {value}" for name, value in self.base.items())
            head = f"{CELL.upper()}, one layer; where an axis isn't the one drawn: {fixed}"
            self.svg.write_text(picture(self.panels, head, self.report.machine["kernel"]), "utf-8")
            print(f"drawn: {self.svg}")
        return self.report

    def training(self, axis: str, values: tuple[int, ...]) -> None:
        """Characters a second by processes, and memory."""
        speeds: dict[str, list[float]] = {f"{n} process{'es' * (n > 1)}": [] for n in self.counts}
        memory = []
        for value in values:
            training = Training(**{**self.base, axis: value})
            for n, speed in zip(self.counts, speeds.values(), strict=True):
                training.begin(n)
                with blas_threads(1):
                    timing = seconds_of(training.step)
                self.report.note(f"training, {axis} {value}", f"{n} processes", timing)
                speed.append(training.characters / timing.median)
            with blas_threads(1):
                memory.append(training.bytes() / 1e6)
        self.panel("training", axis, values, speeds, {"peak beside the weights": memory})

    def generation(self, axis: str, values: tuple[int, ...]) -> None:
        """Characters a second by threads, and memory."""
        speeds: dict[str, list[float]] = {
            f"{n} BLAS thread{'s' * (n > 1)}": [] for n in self.counts
        }
        memory = []
        for value in values:
            at = {**self.base, axis: value}
            generator = text_generator(CELL, at["H"], at["V"])
            length = self.characters(generator, at["B"])
            work = partial(generate, generator, at["B"], length)
            for n, speed in zip(self.counts, speeds.values(), strict=True):
                with blas_threads(n):  # the first that asks decides
                    timing = seconds_of(work)
                self.report.note(f"generation, {axis} {value}", f"{n} threads", timing)
                speed.append(at["B"] * length / timing.median)
            memory.append(peak_bytes(work) / 1e6)
        self.panel("generation", axis, values, speeds, {"peak of the request": memory})

    def characters(self, generator: Generator, batch: int) -> int:
        """So many of each text that a call takes half a second, at most CHARACTERS."""
        if self.quick:
            return 3
        began = time.perf_counter()
        generate(generator, batch, 3)
        return max(3, min(CHARACTERS, round(1.5 / (time.perf_counter() - began))))

    def length(self) -> None:
        """One request: speed and memory against how long its text is."""
        lengths = (20, 40) if self.quick else LENGTHS
        generator = text_generator(CELL, self.base["H"], self.base["V"])
        generate(generator, 1, lengths[0])
        speed, held, streamed = [], [], []
        for n in lengths:
            whole = partial(generate, generator, 1, n)
            timing = seconds_of(whole)
            self.report.note(f"one text of {n}", "1 thread", timing)
            speed.append(n / timing.median)
            held.append(peak_bytes(whole) / 1e6)
            streamed.append(peak_bytes(partial(stream, generator, n)) / 1e6)
        memory = {"generate, which returns the text": held, "stream": streamed}
        self.panel("one request", "length", lengths, {"1 BLAS thread": speed}, memory)

    def panel(
        self,
        what: str,
        axis: str,
        values: tuple[int, ...],
        speeds: dict[str, list[float]],
        memory: dict[str, list[float]],
    ) -> None:
        """A table, and the two panels drawn from it."""
        columns = [(f"{axis}: {WORDS[axis]}", ",d")]
        columns += [(f"characters a second, {name}", ",.0f") for name in speeds]
        columns += [(f"MB, {name}", ",.3g") for name in memory]
        lines = [*speeds.values(), *memory.values()]
        rows = [[value, *(line[k] for line in lines)] for k, value in enumerate(values)]
        self.report.add(Table(f"Growth of {what} with {axis}", columns, rows))
        self.panels.append(Panel(f"{what}: characters/s", axis, WORDS[axis], values, speeds))
        self.panels.append(Panel(f"{what}: memory, MB", axis, WORDS[axis], values, memory))


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--svg", type=Path, metavar="PATH", help="draw the growth there")
    run(lambda chosen: Benchmark(chosen).all(), parser)
