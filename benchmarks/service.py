"""How much the service bears: requests a second and latencies at 1 to 100 clients, beside the
plainest alternatives in the same run, from a load on the same machine.

    python benchmarks/service.py
    python benchmarks/service.py --quick --json figures.json
    python benchmarks/service.py --waits            # the last table alone
    OPENBLAS_CORETYPE=Haswell python benchmarks/service.py --no-peers    # on the AVX2 kernel

All servers run all the time and take turns at the load; an idle one costs nothing.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from benchmarks import peers
from benchmarks.common import ROOT, Report, Table, machine, options, run
from benchmarks.load import Outcome, load, median, percentile, post
from benchmarks.models import text_generator
from charrnn.store import Store
from charrnn.weights import to_bytes

WORKERS = "2"
PATIENCE = 60.0  # seconds for a server to start
OTHERS_SECONDS = 1.0  # for its other workers, once the first one answers
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Case:
    """A kind of request, and the network that answers it."""

    model: str
    hidden_size: int
    vocab_size: int
    num_layers: int
    length: int
    seconds: float = 0.0  # of a round
    rounds: int = 0
    clients: tuple[int, ...] = ()

    def __str__(self) -> str:
        layers = f" x {self.num_layers}" if self.num_layers > 1 else ""
        return f"{self.length:,} characters, LSTM {self.hidden_size}{layers}"


CASES = (
    Case("names", 128, 27, 1, 12, 2.0, 7, (1, 8, 32, 100)),
    Case("texts", 512, 65, 2, 2000, 6.0, 5, (1, 8, 32)),
)
QUICK = (Case("names", 16, 27, 1, 12, 0.2, 1, (1, 4)),)

OURS = "wsgi:app"
CONTENDERS = {
    "ours": (OURS, []),
    "a thread a request, 8": ("benchmarks.service_apps:plain()", ["-k", "gthread", "--threads=8"]),
    "a process a request": ("benchmarks.service_apps:plain()", ["-k", "sync"]),
    "torch, a thread a request, 8": (
        "benchmarks.service_apps:torch()",
        ["-k", "gthread", "--threads=8"],
    ),
    "torch, a process a request": ("benchmarks.service_apps:torch()", ["-k", "sync"]),
}


@contextmanager
def serving(
    application: str, arguments: list[str], environ: dict[str, str], *, workers: str = WORKERS
) -> Iterator[tuple[int, int]]:
    """A gunicorn on a free port of this machine alone: the port, and its process."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        *arguments,
        "--no-control-socket",
        f"--pythonpath={ROOT}",
    ]
    command += [f"--workers={workers}", f"--bind={HOST}:{port}", "--log-level=error", application]
    own = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # gunicorn reads the configuration of the folder that it is started in.
    folder = ROOT if application == OURS else tempfile.gettempdir()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **own, **environ}, stderr=errors
        )
        try:
            if not _answers(port, process):
                errors.seek(0)
                raise SystemExit(f"{application} did not start: {errors.read().decode()}")
            time.sleep(OTHERS_SECONDS)
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether a server comes to answer."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            found = load((HOST, port), 1, 0, lambda n: b"GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n")
            if found.statuses == {200: 1}:
                return True
        except OSError:
            time.sleep(0.05)
    return False


def weights(case: Case, folder: Path) -> None:
    """A network of the case's size with random weights, promoted."""
    generator = text_generator("lstm", case.hidden_size, case.vocab_size, case.num_layers)
    store = Store(folder)
    version = store.add(case.model, to_bytes(generator.frozen))
    store.promote(case.model, version, reason="a benchmark")


def measure(chosen: argparse.Namespace) -> Report:
    torch = find_spec("torch") is not None and not chosen.no_peers
    report = Report(
        machine(
            {**(peers.versions() if torch else {}), "onnxruntime": "no part"},
            threads=f"{WORKERS} workers",
        )
    )
    print(f"\n## {report.head()}\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        cases = QUICK if chosen.quick else CASES
        for case in cases:
            weights(case, Path(name))
            if not chosen.waits:
                compare(case, Path(name), report, torch=torch, quick=chosen.quick)
        overload(cases[-1], Path(name), report, quick=chosen.quick)
    return report


def compare(case: Case, folder: Path, report: Report, *, torch: bool, quick: bool) -> None:
    """All contenders under the same load, in turns."""
    body: dict[str, object] = {"max_length": case.length, "min_length": case.length}
    body["whole"] = False  # all of one length, as the peers write them
    request = post("/generate", body)
    environ = {"CHARRNN_WEIGHTS": str(folder), "CHARRNN_MODEL": case.model}
    environ["CHARRNN_ACCESS_LOG"] = "off"  # the others write none
    contenders = {k: v for k, v in CONTENDERS.items() if torch or not k.startswith("torch")}
    workers = "1" if quick else WORKERS
    found: dict[tuple[str, int], list[Outcome]] = {}
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(serving(application, arguments, environ, workers=workers))[0]
            for name, (application, arguments) in contenders.items()
        }
        for clients in case.clients:
            for _ in range(case.rounds):
                for name, port in ports.items():
                    outcome = load((HOST, port), clients, case.seconds, lambda _: request)
                    found.setdefault((name, clients), []).append(outcome)
    _tables(case, list(contenders), found, report)


def _tables(
    case: Case, contenders: list[str], found: dict[tuple[str, int], list[Outcome]], report: Report
) -> None:
    columns = [("", ""), *((f"{n} clients" if n > 1 else "1 client", "") for n in case.clients)]
    rates = Table(f"Requests a second: {case}", columns)
    waits = Table(f"Latency, half and 99 in 100 within, ms: {case}", columns)
    for name in contenders:
        rate_row, wait_row = [name], [name]
        for clients in case.clients:
            outcomes = found[name, clients]
            rate = statistics.median(one.rate for one in outcomes)
            pairs = zip(found["ours", clients], outcomes, strict=True)
            times = statistics.median(ours.rate / one.rate for ours, one in pairs)
            ends = [one.rate / rate for one in outcomes]
            failed, asked = (
                sum(o.failed for o in outcomes),
                sum(sum(o.statuses.values()) for o in outcomes),
            )
            good = f", {1 - failed / asked:.1%} good" if failed else ""
            ratio = "" if name == "ours" else f" ({times:.2f}x)"
            rate_row.append(f"{rate:,.1f}{ratio}, {min(ends):.2f}-{max(ends):.2f}{good}")
            all_waits = [wait for one in outcomes for wait in one.latencies]
            wait_row.append(
                f"{1e3 * median(all_waits):,.1f}, {1e3 * percentile(all_waits, 0.99):,.1f}"
            )
        rates.rows.append(rate_row)
        waits.rows.append(wait_row)
    rates.note = (
        "In brackets: how many times as many ours answers, the median of each round's; then the "
        f"slowest and the fastest of its own {case.rounds} rounds over their median."
    )
    report.add(rates)
    report.add(waits)


def overload(case: Case, folder: Path, report: Report, *, quick: bool) -> None:
    """Streams in number, and more requests than are taken on: how long others wait for a word."""
    seconds = 0.2 if quick else 5.0
    environ = {"CHARRNN_WEIGHTS": str(folder), "CHARRNN_MODEL": case.model}
    stream = post("/generate", {"stream": True, "max_length": case.length})
    whole = post("/generate", {"max_length": case.length})
    health = b"GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n"
    table = Table(
        "What others wait for",
        [("", ""), ("half within, ms", ",.1f"), ("99 in 100", ",.1f"), ("of", ",")],
    )

    def add(name: str, waits: list[float]) -> None:
        table.rows.append([name, 1e3 * median(waits), 1e3 * percentile(waits, 0.99), len(waits)])

    application, arguments = CONTENDERS["ours"]
    ours = partial(serving, application, arguments, workers="1" if quick else WORKERS)
    with ours(environ) as (port, _):
        alone = load((HOST, port), 1, seconds, lambda _: stream)
        add(f"the first character of a stream of {case.length:,}, alone", alone.first_bytes)
        many = load((HOST, port), 4 if quick else 48, seconds, lambda _: stream)
        add(f"one of {4 if quick else 48} such streams", many.first_bytes)
    few = {**environ, "CHARRNN_MAX_REQUESTS": "2" if quick else "16"}
    with ours(few) as (port, _):
        with _busy(port, whole, clients=64, seconds=seconds + 1):
            health_waits = load((HOST, port), 1, seconds, lambda _: health).latencies
        refused = load((HOST, port), 64, seconds, lambda _: whole)
        add("503 of a worker that has enough requests", refused.refusals)
        add("/healthz meanwhile", health_waits)
    report.add(table)


@contextmanager
def _busy(port: int, request: bytes, *, clients: int, seconds: float) -> Iterator[None]:
    """A load from another process, while the block runs."""
    code = (
        "import sys; from benchmarks.load import load; "
        f"load(({HOST!r}, {port}), {clients}, {seconds}, lambda _: {request!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    time.sleep(0.5)
    try:
        yield
    finally:
        process.wait(PATIENCE * 2)


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--waits", action="store_true", help="only what others wait for")
    run(measure, parser)
