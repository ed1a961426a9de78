"""What one core serves, and what two do: answers a second, the processor's time that each costs,
and what goes over the network, for the requests that people make; then what a million users a day
take.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --quick --json figures.json

The load is made on the same machine and takes its share of the cores. So what counts is the time of
the service's processes for an answer, as the system adds it up: it has nothing of the load in it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import os
import shutil
import socket
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from benchmarks.common import ROOT, Report, Table, machine, options, run
from benchmarks.load import load, percentile, post
from benchmarks.service import CONTENDERS, HOST, Case, serving, weights

WORKERS = ("1", "2")
ROUNDS = 4
CLIENTS = 32  # for each worker
TICKS = os.sysconf("SC_CLK_TCK")  # a second, in /proc

# A million users a day: what each does is an assumption, and so is how uneven a day is.
USERS, ASKS, PEAK, BUSY = 1_000_000, 10, 4, 0.6
SECONDS_OF_A_DAY = 86_400


@dataclass(frozen=True)
class Kind:
    """What people ask for: a name for it, a path, a body, and how long a round is."""

    name: str
    path: str
    body: dict[str, object]
    seconds: float = 2.0
    clients: int = CLIENTS  # for each worker

    @property
    def request(self) -> bytes:
        return post(self.path, self.body)


LARGE = Case("large", 512, 65, 2, 500)  # random weights, 14 MB
CHAT: list[dict[str, str]] = [{"role": "user", "content": "what did stegosaurus eat?"}]
KINDS = (
    Kind("a name", "/generate", {"model": "dinosaurs"}),
    Kind("ten names that begin with Ty", "/generate", {"count": 10, "seed": "Ty"}),
    Kind("a reply of rex", "/v1/chat/completions", {"model": "rex", "messages": CHAT}),
    Kind(
        f"{LARGE.length} characters, LSTM 512 x 2",
        "/generate",
        {"model": LARGE.model, "max_length": LARGE.length},
        seconds=4.0,
        clients=4,
    ),
)


@dataclass
class Measured:
    """The rounds of a kind of request at a number of workers."""

    rates: list[float] = field(default_factory=list)  # good answers a second
    costs: list[float] = field(default_factory=list)  # the service's seconds for an answer
    busy: list[float] = field(default_factory=list)  # cores that the service took
    latencies: list[float] = field(default_factory=list)  # seconds
    failed: int = 0


def measure(chosen: argparse.Namespace) -> Report:
    """All kinds at all numbers of workers, in turns."""
    report = Report(machine({"torch": "no part", "onnxruntime": "no part"}, threads="see below"))
    print(f"\n## {report.head()}\n", flush=True)
    found: dict[tuple[str, str], Measured] = {}
    sizes: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        for model in ("dinosaurs", "rex"):
            shutil.copytree(ROOT / "weights" / model, folder / model)
        weights(replace(LARGE, hidden_size=16) if chosen.quick else LARGE, folder)
        environ = {"CHARRNN_WEIGHTS": str(folder), "CHARRNN_ACCESS_LOG": "off"}
        application, arguments = CONTENDERS["ours"]
        servers = {
            count: stack.enter_context(serving(application, arguments, environ, workers=count))
            for count in WORKERS
        }
        for kind in KINDS:
            sizes[kind.name] = _sizes(servers["1"][0], kind.request)
            for _ in range(1 if chosen.quick else ROUNDS):
                for count, (port, process) in servers.items():
                    one = found.setdefault((kind.name, count), Measured())
                    _round(one, port, process, kind, int(count), quick=chosen.quick)
        held = Table("What it holds in memory", [("", ""), ("MB", ",.0f")])
        for count, (_, process) in servers.items():
            held.rows.append([f"{count} worker{'s' * (count != '1')}", _held(process) / 1e6])
    held.note = (
        "The master and its workers together, what they share counted once (proportional set "
        "size), after the load, with the three models loaded."
    )
    report.add(_cores(found))
    report.add(held)
    report.add(_network(found, sizes))
    report.add(_million(found, sizes))
    return report


def _round(
    found: Measured, port: int, process: int, kind: Kind, workers: int, *, quick: bool
) -> None:
    clients, seconds = kind.clients * workers, 0.2 if quick else kind.seconds
    request, before, began = kind.request, _processor_seconds(process), time.perf_counter()
    outcome = load((HOST, port), 2 if quick else clients, seconds, lambda _: request)
    spent, took = _processor_seconds(process) - before, time.perf_counter() - began
    answers = len(outcome.latencies)
    if not answers:
        raise SystemExit(f"{kind.name}: no good answer, but {outcome.statuses}")
    found.rates.append(outcome.rate)
    found.costs.append(spent / answers)
    found.busy.append(spent / took)
    found.latencies += outcome.latencies
    found.failed += outcome.failed


def _processor_seconds(master: int) -> float:
    """What a master and its workers have had of the processor so far, seconds."""
    total = 0
    for pid in _processes(master):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # in user mode, and in the system's
    return total / TICKS


def _held(master: int) -> int:
    """The memory of a master and its workers, bytes; what they share counts once."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in _processes(master)]
    return sum(1024 * int(text.split("\nPss:")[1].split()[0]) for text in texts)


def _processes(master: int) -> list[int]:
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return [master, *map(int, children)]


def _sizes(port: int, request: bytes) -> tuple[int, int]:
    """Bytes of a request, and of its answer with the head."""
    closing = request.replace(b"Host: bench", b"Host: bench\r\nConnection: close", 1)
    with socket.create_connection((HOST, port), timeout=60) as connection:
        connection.sendall(closing)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    if b" 200 " not in answer[:20]:
        raise SystemExit(f"no good answer: {answer[:500]!r}")
    return len(request), len(answer)


# --- Tables ---------------------------------------------------------------------------------------


def _cores(found: dict[tuple[str, str], Measured]) -> Table:
    columns = [("", "")]
    for count in WORKERS:
        label = f"{count} worker{'s' * (count != '1')}"
        columns += [
            (f"{label}: answers a second", ",.1f"),
            ("core-ms an answer", ""),
            ("cores busy", ".2f"),
            ("half, 99 in 100 within, ms", ""),
        ]
    columns += [("answers, 2 to 1", ".2f"), ("core-ms, 2 to 1", ".2f")]
    table = Table("What a core serves", columns)
    for kind in KINDS:
        row: list[object] = [kind.name]
        of = [found[kind.name, count] for count in WORKERS]
        for one in of:
            half, most = (1e3 * percentile(one.latencies, share) for share in (0.5, 0.99))
            costs = [1e3 * cost for cost in one.costs]
            row += [
                statistics.median(one.rates),
                f"{statistics.median(costs):,.2f} ({min(costs):,.2f}-{max(costs):,.2f})",
                statistics.median(one.busy),
                f"{half:,.1f}, {most:,.1f}" + (f"; {one.failed} failed" if one.failed else ""),
            ]
        for values in ([one.rates for one in of], [one.costs for one in of]):
            single, double = map(statistics.median, values)
            row.append(double / single)
        table.rows.append(row)
    table.note = (
        f"{CLIENTS} clients for each worker, 4 for the large network; medians of {ROUNDS} rounds "
        "that take turns, and their ends. The load runs on the same cores and takes what is left."
    )
    return table


def _network(found: dict[tuple[str, str], Measured], sizes: dict[str, tuple[int, int]]) -> Table:
    columns = [("", ""), ("request, bytes", ",d"), ("answer, bytes", ",d")]
    columns.append(("Mbit/s of answers of a busy core", ",.2f"))
    table = Table("What goes over the network", columns)
    for kind in KINDS:
        asked, answered = sizes[kind.name]
        core = statistics.median(found[kind.name, "1"].costs)
        table.rows.append([kind.name, asked, answered, 8e-6 * answered / core])
    table.note = "HTTP as it is sent; TCP, IP and TLS add to it."
    return table


def _million(found: dict[tuple[str, str], Measured], sizes: dict[str, tuple[int, int]]) -> Table:
    mean = USERS * ASKS / SECONDS_OF_A_DAY
    columns = [
        ("if all ask for", ""),
        ("requests a second, mean", ",.0f"),
        ("at the peak", ",.0f"),
        ("core-ms each", ",.2f"),
        ("cores at the peak", ",.1f"),
        (f"at {BUSY:.0%} busy", ",.1f"),
        ("Mbit/s out at the peak", ",.1f"),
    ]
    table = Table("A million users a day", columns)
    for kind in KINDS:
        cost = max(statistics.median(found[kind.name, count].costs) for count in WORKERS)
        cores = PEAK * mean * cost
        out = 8e-6 * sizes[kind.name][1] * PEAK * mean
        table.rows.append([kind.name, mean, PEAK * mean, 1e3 * cost, cores, cores / BUSY, out])
    table.note = (
        f"{USERS:,} users x {ASKS} requests / {SECONDS_OF_A_DAY:,} s = {mean:,.0f} a second; x "
        f"{PEAK} at the peak; x core-seconds an answer (the greater of both numbers of workers) = "
        f"cores; / {BUSY:g} so that queues stay short and one machine may fail."
    )
    return table


if __name__ == "__main__":
    run(measure, options(__doc__ or ""))
