"""What the benchmarks share: options, contenders that take turns, tables, floors, both kernels.

A benchmark is a module with a function that returns a `Report`; `run` gives it its options, prints
what it found, and writes `--json`.
"""

import argparse
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import charrnn

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4  # how far contenders that compute the same may be apart
CORETYPE = "OPENBLAS_CORETYPE"  # the environment variable that picks OpenBLAS's kernel
NOT_INSTALLED = "not installed"
TURN_SECONDS = 0.02  # a contender's turn, at least; a tenth of all its time where that is less
SCHEMA = 1


# --- Contenders that take turns -------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """Seconds for one unit of work (a character): the median of the rounds, and their ends."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Timing":
        return cls(statistics.median(values), min(values), max(values))

    @property
    def spread(self) -> str:
        """The ends over the median."""
        return f"{self.low / self.median:.2f}-{self.high / self.median:.2f}"


def repeated(work: Callable[[], object], times: int) -> int:
    """So many calls, as one of `take_turns` that are over soon."""
    for _ in range(times):
        work()
    return times


def take_turns(
    contenders: Mapping[str, Callable[[], float]], *, seconds: float, rounds: int = 15
) -> dict[str, Timing]:
    """Time contenders in turn: a turn for each, again and again, so that what disturbs the machine
    disturbs all. One call of each warms up and isn't counted. A turn is as many calls as take
    `TURN_SECONDS`, or a tenth of `seconds`: after a single short one of each, all would be timed
    with caches full of what the others left there.

    Args:
        contenders: functions that do some work and return how many units it was.
        seconds: begin no further round after this long; three rounds are played in any case.
        rounds: at most.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for work in contenders.values():
        work()
    began, turn = time.perf_counter(), min(TURN_SECONDS, seconds / 10)
    for count in range(rounds):
        if count >= 3 and time.perf_counter() - began > seconds:
            break
        for name, work in contenders.items():
            started, units, took = time.perf_counter(), 0.0, 0.0
            while not took or took < turn:
                units += work()
                took = time.perf_counter() - started
            times[name].append(took / units)
    return {name: Timing.of(values) for name, values in times.items()}


# --- Tables ---------------------------------------------------------------------------------------


@dataclass
class Table:
    """Rows of plain values under headings, each heading with the format of its column."""

    title: str
    columns: list[tuple[str, str]]
    rows: list[list[Any]] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        """As a table in Markdown, its columns aligned."""
        cells = [[name for name, _ in self.columns]]
        for row in self.rows:
            formats = [form for _, form in self.columns]
            cells.append([shown(v, form) for v, form in zip(row, formats, strict=True)])
        widths = [max(3, *(len(row[k]) for row in cells)) for k in range(len(self.columns))]
        lines = [
            "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
            for row in cells
        ]
        lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
        return "\n".join(lines)


def shown(value: Any, form: str) -> str:
    """A value in its column's format; text as it is, nothing as a dash."""
    if value is None:
        return "—"
    return value if isinstance(value, str) else format(value, form)


@dataclass
class Report:
    """What one run of a benchmark found, on one kernel."""

    machine: dict[str, Any]
    checks: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)  # all that was timed, raw

    def head(self) -> str:
        """The machine in a line."""
        return "; ".join(f"{name} {value}" for name, value in self.machine.items())

    def check(self, what: str, error: float) -> None:
        """Note how far two contenders are apart, and go no further if it is too far."""
        line = f"{what}: {error:.1e} apart"
        if not error < TOLERANCE:
            raise SystemExit(f"not the same computation: {line}, must be below {TOLERANCE:g}")
        self.checks.append(line)
        print(f"checked: {line}", flush=True)

    def note(self, case: str, contender: str, timing: Timing) -> None:
        """Keep a timing as it is, seconds for a unit of work."""
        self.figures.append({"case": case, "contender": contender, **asdict(timing)})

    def add(self, table: Table) -> None:
        """Print a table, and keep it."""
        self.tables.append(table)
        print(f"\n### {table.title}\n\n{table.markdown()}", flush=True)
        if table.note:
            print(f"\n{table.note}")
        print(flush=True)


def machine(versions: Mapping[str, str], threads: str = "1") -> dict[str, Any]:
    """What the figures depend on: kernel, threads, processor and versions."""
    return {
        "kernel": charrnn.blas_kernel(),
        "threads": threads,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **versions,
        **{p: NOT_INSTALLED for p in ("torch", "onnxruntime") if p not in versions},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


# --- Floors ---------------------------------------------------------------------------------------


def shortest(work: Callable[[], object], *, seconds: float = 0.15) -> float:
    """The least time of a call: nothing disturbs a floor."""
    work()
    started = time.perf_counter()
    work()
    often = max(1, int(0.002 / max(time.perf_counter() - started, 1e-7)))
    best, began = math.inf, time.perf_counter()
    while time.perf_counter() - began < seconds:
        started = time.perf_counter()
        for _ in range(often):
            work()
        best = min(best, (time.perf_counter() - started) / often)
    return best


def call_seconds() -> float:
    """One call of a ufunc on a hundred numbers: what Python and numpy take, whatever they add."""
    a = np.ones(128, np.float32)
    b, out = a.copy(), a.copy()
    return shortest(lambda: np.add(a, b, out))


def gemv_seconds(shapes: Sequence[tuple[int, int]]) -> float:
    """A vector times each matrix of these (K, M) in turn: the faster of the two layouts."""
    rng = np.random.default_rng(0)
    works = []
    for by_column in (False, True):
        calls = []
        for K, M in shapes:
            W = rng.standard_normal((K, M), np.float32)
            x, out = rng.standard_normal(K, np.float32), np.empty(M, np.float32)
            if by_column:
                calls.append((np.ascontiguousarray(W.T).dot, x, out))
            else:
                calls.append((x.dot, W, out))
        works.append(calls)

    def once(calls: list[Any]) -> None:
        for dot, argument, out in calls:
            dot(argument, out)

    return min(shortest(partial(once, calls)) for calls in works)


def gemm_flops(size: int = 1024) -> float:
    """Floating-point operations a second in a large square product, at the threads now set."""
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)
    out = np.empty_like(a)
    return 2 * size**3 / shortest(lambda: np.matmul(a, a, out), seconds=0.4)


# --- Running a benchmark, on both kernels ---------------------------------------------------------


def options(description: str, *, kernels: bool = False) -> argparse.ArgumentParser:
    """The options that every benchmark has. `kernels`: it can be measured on each in turn."""
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test: figures mean nothing")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there too")
    parser.add_argument("--no-peers", action="store_true", help="leave torch and onnxruntime out")
    if kernels:
        parser.add_argument(
            "--kernel",
            choices=("both", "here"),
            help="of OpenBLAS: that of this environment, or its own choice and Haswell's (AVX2), "
            "each in a process of its own  [default: both; here with --quick]",
        )
    return parser


def existing(path: str) -> Path:
    """A file that an argument names; argparse says which is none."""
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{path} is no file")
    return Path(path)


def positive(number: str) -> int:
    """A count that an argument gives, likewise."""
    if not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, got {number}")
    return int(number)


def run(
    measure: Callable[[argparse.Namespace], Report],
    parser: argparse.ArgumentParser,
) -> None:
    """Parse the options, measure on each kernel that is asked for, print, and write `--json`."""
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and all it started
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
    kernel = getattr(chosen, "kernel", "here") or ("here" if chosen.quick else "both")
    reports = _on_both_kernels() if kernel == "both" else [_on_this(measure, chosen)]
    if chosen.json:
        name = Path(sys.argv[0]).stem
        whole = {"schema": SCHEMA, "benchmark": name, "quick": chosen.quick, "reports": reports}
        text = json.dumps(whole, indent=1, ensure_ascii=False)
        chosen.json.write_text(text + "\n", encoding="utf-8")


def _on_this(
    measure: Callable[[argparse.Namespace], Report], chosen: argparse.Namespace
) -> dict[str, Any]:
    report = measure(chosen)
    return asdict(report)


def _on_both_kernels() -> list[dict[str, Any]]:
    reports = []
    for environment in kernel_environments().values():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.json"
            arguments = [*sys.argv, "--kernel", "here", "--json", str(path)]
            subprocess.run([sys.executable, *arguments], env=environment, check=True)
            reports += json.loads(path.read_text(encoding="utf-8"))["reports"]
    return reports


def kernel_environments() -> dict[str, dict[str, str]]:
    """An environment for each kernel that this machine can run: OpenBLAS's own choice, and Haswell
    where that is another and the processor has AVX2.
    """
    own = {name: value for name, value in os.environ.items() if name != CORETYPE}
    haswell = {**own, CORETYPE: "Haswell"}
    found = {_kernel(own): own}
    if _has_avx2():
        found.setdefault(_kernel(haswell), haswell)
    return found


def _kernel(environment: dict[str, str]) -> str:
    code = "import charrnn; print(charrnn.blas_kernel())"
    return python(code, environment=environment).strip()


def _has_avx2() -> bool:
    found = np.show_config(mode="dicts").get("SIMD Extensions", {})
    names = {*found.get("baseline", []), *found.get("found", [])}
    return bool(names & {"AVX2", "X86_V3"})


def python(code: str, *, environment: Mapping[str, str] | None = None) -> str:
    """What a fresh process prints that runs `code` in the repository's folder. Modules are kept
    compiled, as Python does by itself.
    """
    variables = dict(os.environ if environment is None else environment)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout
