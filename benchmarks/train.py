"""How fast the library trains, beside torch: characters a second of whole steps (loss, gradients,
clipping to norm 1, Adam, the state carried on).

    python benchmarks/train.py
    python benchmarks/train.py --quick --json figures.json

Each contender is a process of its own, with its own kernel: torch with so many threads, ours with
so many processes. They take turns in short windows; between its windows a contender is stopped with
all its processes (SIGSTOP), so that nothing that waits for work spins while another is measured.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.common import (
    NOT_INSTALLED,
    Report,
    Table,
    Timing,
    call_seconds,
    gemm_flops,
    kernel_environments,
    machine,
    options,
    run,
)
from benchmarks.models import CALLS_OF_A_LAYER, shapes_of
from charrnn import blas_kernel, blas_threads
from charrnn.config import ModelConfig, TrainConfig
from charrnn.export import torch_state_dict
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.optimizers import clip_by_norm
from charrnn.packed import Batch
from charrnn.parallel import Team

RATE, CLIP = 1e-3, 1.0
BATCHES = 50  # different ones, again and again
SECONDS = 30.0  # of a case, after which no further round begins


@dataclass(frozen=True)
class Case:
    """A network, and how much of a text it learns from at a time."""

    cell: str
    hidden_size: int
    vocab_size: int
    num_layers: int
    batch_size: int
    seq_length: int

    def __str__(self) -> str:
        layers = f" x {self.num_layers}" if self.num_layers > 1 else ""
        return (
            f"{self.cell.upper()} {self.hidden_size}{layers}, {self.batch_size} x "
            f"{self.seq_length}, V {self.vocab_size}"
        )

    @property
    def characters(self) -> int:
        """Learned from in a step."""
        return self.batch_size * self.seq_length

    def config(self) -> ModelConfig:
        return ModelConfig(
            cell=self.cell,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            vocab_size=self.vocab_size,
        )

    def model(self) -> CharRNN:
        """The same weights in every process."""
        return CharRNN.initialized(self.config(), np.random.default_rng(0))

    def texts(self) -> list[Any]:
        """Time-major ids, one character more than is learned from: (seq_length + 1, batch_size)."""
        shape = (BATCHES, self.seq_length + 1, self.batch_size)
        return list(np.random.default_rng(1).integers(0, self.vocab_size, shape))


CASES = (
    Case("lstm", 128, 27, 1, 32, 25),
    Case("lstm", 256, 65, 1, 64, 64),
    Case("lstm", 512, 65, 2, 64, 64),
    Case("gru", 256, 65, 1, 64, 64),
    Case("rnn", 128, 27, 1, 32, 25),
)
QUICK = (Case("lstm", 16, 5, 1, 4, 6),)


# --- The contenders, each in a process of its own -------------------------------------------------


class Ours:
    """A step of the library, as `charrnn.training` makes it."""

    def __init__(self, case: Case, processes: int) -> None:
        config = TrainConfig(optimizer="adam", beta2=0.999)
        self.team = Team(case.model(), processes, Workspace(), config)
        self.model, self.grads = self.team.model, self.team.grads
        self.batches = [
            Batch(ids[:-1].ravel(), ids[1:].ravel(), np.full(case.seq_length, case.batch_size))
            for ids in case.texts()
        ]
        self.state = self.model.init_state(case.batch_size)
        self.count = 0

    def gradients(self) -> tuple[float, dict[str, Any]]:
        """The loss of the first batch and its gradients under torch's names; nothing is learned."""
        batch = self.batches[0]
        loss, _ = self.team.loss_and_grads(batch, self.state)
        return loss, torch_state_dict(self.model.config, self.grads)

    def step(self) -> None:
        batch = self.batches[self.count % BATCHES]
        self.count += 1
        _, self.state = self.team.loss_and_grads(batch, self.state)
        clip_by_norm(self.grads.flat, CLIP)
        self.team.update(RATE, self.count)


class Torch:
    """nn.LSTM (nn.GRU, nn.RNN) on one-hot rows, cross-entropy, fused Adam."""

    def __init__(self, case: Case, threads: int) -> None:
        import torch

        from benchmarks.peers_torch import TorchModule

        self.torch = torch
        torch.set_num_threads(threads)
        module = TorchModule(case.model())
        self.rnn, self.linear, self.one_hot = module.rnn, module.linear, module.one_hot
        self.parameters = [*self.rnn.parameters(), *self.linear.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, RATE, fused=True)
        self.batches = [
            (torch.from_numpy(ids[:-1].copy()), torch.from_numpy(ids[1:].ravel().copy()))
            for ids in case.texts()
        ]
        self.state: Any = None
        self.count = 0

    def loss(self, inputs: Any, targets: Any) -> tuple[Any, Any]:
        functional = self.torch.nn.functional
        outputs, state = self.rnn(functional.embedding(inputs, self.one_hot), self.state)
        return functional.cross_entropy(self.linear(outputs).flatten(0, 1), targets), state

    def gradients(self) -> tuple[float, dict[str, Any]]:
        loss, _ = self.loss(*self.batches[0])
        loss.backward()
        modules = {"rnn.": self.rnn, "linear.": self.linear}
        grads = {
            prefix + name: parameter.grad.numpy()
            for prefix, module in modules.items()
            for name, parameter in module.named_parameters()
        }
        return loss.item(), grads

    def step(self) -> None:
        inputs, targets = self.batches[self.count % BATCHES]
        self.count += 1
        loss, state = self.loss(inputs, targets)
        self.state = (
            tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()


def serve(kind: str, count: int, case: Case) -> None:
    """A contender's process: it answers each line that it reads with a line."""
    with blas_threads(1):
        contender = Torch(case, count) if kind == "torch" else Ours(case, count)
        for line in sys.stdin:
            task, argument = line.rstrip("\n").split(maxsplit=1)
            answer: Any = None  # to "ready"
            if task == "check":
                loss, grads = contender.gradients()
                np.savez(argument, loss=loss, **grads)
            elif task == "floor":
                # each of our processes makes products of its own
                answer = [count * gemm_flops(int(argument)), call_seconds()]
            elif task == "run":
                answer = characters_a_second(contender.step, case.characters, float(argument))
            print(json.dumps(answer), flush=True)


def characters_a_second(step: Callable[[], None], characters: int, seconds: float) -> float:
    count, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < seconds:
        step()
        count += 1
    return count * characters / taken


class Contender:
    """The other end: a process that is stopped but while it answers, and its workers with it."""

    def __init__(self, kind: str, count: int, case: Case, environment: dict[str, str]) -> None:
        task = json.dumps([kind, count, asdict(case)])
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            process_group=0,
        )

    def ask(self, task: str, argument: object) -> Any:
        process = self.process
        assert process.stdin
        assert process.stdout
        os.killpg(process.pid, signal.SIGCONT)
        process.stdin.write(f"{task} {argument}\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        os.killpg(process.pid, signal.SIGSTOP)
        return answer

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


# --- The benchmark --------------------------------------------------------------------------------


def measure(chosen: argparse.Namespace) -> Report:
    versions = {} if chosen.no_peers else peers.versions()
    environments = {blas_kernel(): dict(os.environ)} if chosen.quick else kernel_environments()
    report = Report(machine(versions, threads="by contender"))
    report.machine["kernel"] = ", ".join(environments)
    print(f"\n## {report.head()}\n", flush=True)
    table = Table(
        "Training: characters a second",
        [("", "s")],
        note="In brackets: times torch's nn modules with two threads and fused Adam. Floor: the "
        "products at this machine's measured peak, and three calls of numpy for each that the "
        "forward pass can't do without; the update isn't in it.",
    )
    for case in QUICK if chosen.quick else CASES:
        cells = one_case(report, case, environments, torch="torch" in versions, quick=chosen.quick)
        table.columns.append((str(case), "s"))
        for k, (row, cell) in enumerate(cells.items()):
            if len(table.rows) == k:
                table.rows.append([row])
            table.rows[k].append(cell)
    report.add(table)
    return report


def one_case(
    report: Report, case: Case, environments: dict[str, dict[str, str]], *, torch: bool, quick: bool
) -> dict[str, str]:
    """A column: every contender's characters a second, by row."""
    counts = [n for n in (1, 2) if n <= (os.cpu_count() or 1)]
    asked: dict[str, tuple[str, int, dict[str, str]]] = {}
    for n in counts:
        if torch:
            asked[f"torch, {counted(n, 'thread')}"] = ("torch", n, dict(os.environ))
    for kernel, environment in environments.items():
        short = kernel.split()[-1]
        for n in counts:
            asked[f"ours, {short}, {counted(n, 'process')}"] = ("ours", n, environment)
    running: dict[str, Contender] = {}
    try:
        for name, (kind, n, environment) in asked.items():
            running[name] = Contender(kind, n, case, environment)
            running[name].ask("ready", 0)
        check(report, case, running)
        for contender in running.values():
            contender.ask("run", 0.0 if quick else 0.3)  # warm
        floors = {
            name: floor(case, *running[name].ask("floor", 128 if quick else 1024))
            for name in asked
            if name.startswith("ours")
        }
        speeds: dict[str, list[float]] = {name: [] for name in asked}
        began = time.monotonic()
        for count in range(3 if quick else 5):
            if count >= 3 and time.monotonic() - began > SECONDS:
                break
            for name, contender in running.items():
                speeds[name].append(contender.ask("run", 0.01 if quick else 0.6))
    finally:
        for contender in running.values():
            contender.end()
    return column(report, case, speeds, floors, torch=torch)


def check(report: Report, case: Case, running: dict[str, Contender]) -> None:
    """Loss and gradients of the first batch, each contender's against the first's."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in running:
            path = Path(folder) / f"{len(found)}.npz"
            running[name].ask("check", path)
            with np.load(path) as arrays:
                found[name] = dict(arrays)
    first, *others = running
    for name in others:
        apart = [
            np.linalg.norm(array - found[name][key]) / np.linalg.norm(array)
            for key, array in found[first].items()
            if not key.startswith("rnn.bias_hh")  # torch's second bias; we hold only the sum
        ]
        report.check(f"{case}: loss and gradients of {name} and {first}", float(max(apart)))


def floor(case: Case, flops: float, call: float) -> float:
    """The most characters a second: 6 operations for each weight and character, and the calls."""
    config = case.config()
    operations = 6 * sum(K * M for K, M in shapes_of(config))
    calls = 3 * case.num_layers * (CALLS_OF_A_LAYER[case.cell] + 1) / case.batch_size
    return 1 / (operations / flops + calls * call)


def column(
    report: Report,
    case: Case,
    speeds: dict[str, list[float]],
    floors: dict[str, float],
    *,
    torch: bool,
) -> dict[str, str]:
    """The cells of a case, by row."""
    timings = {name: Timing.of([1 / v for v in values]) for name, values in speeds.items()}
    base = timings.get("torch, 2 threads") or timings.get("torch, 1 thread")
    cells = {} if torch else {"torch": NOT_INSTALLED}
    for name, timing in timings.items():
        report.note(str(case), name, timing)
        ratio = f" ({base.median / timing.median:.2f}x)" if base else ""
        cells[name] = f"{1 / timing.median:,.0f}{ratio}"
    for name, most in floors.items():
        short = name.removeprefix("ours, ")
        cells[f"{short}: floor, and ours of it"] = (
            f"{most:,.0f} ({1 / timings[name].median / most:.0%})"
        )
    if torch:
        best = {kind: fastest(timings, kind) for kind in ("ours", "torch")}
        cells["ours at its best / torch at its best"] = f"{best['ours'] / best['torch']:.2f}x"
    cells["widest spread"] = max((t.spread for t in timings.values()), key=width)
    return cells


def fastest(timings: dict[str, Timing], kind: str) -> float:
    """Characters a second, of all numbers of processes and kernels."""
    return 1 / min(timing.median for name, timing in timings.items() if name.startswith(kind))


def width(spread: str) -> float:
    low, high = map(float, spread.split("-"))
    return high - low


def counted(n: int, what: str) -> str:
    ending = "es" if what.endswith("s") else "s"
    return f"{n} {what}" + ending * (n > 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        kind, count, values = json.loads(sys.argv[2])
        serve(kind, count, Case(**values))
    else:
        run(measure, options(__doc__ or ""))
