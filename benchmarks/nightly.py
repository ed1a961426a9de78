"""A night of the shipped dinosaurs: how long a retraining takes, how long it takes to see that
there is nothing to do, and what a service under load notices of a promotion.

    python benchmarks/nightly.py
    python benchmarks/nightly.py --quick

The weights that ship stay as they are: all of it happens in a folder of its own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.common import Report, Table, machine, options, run
from benchmarks.load import load, percentile, post
from benchmarks.service import HOST, OURS, serving
from charrnn.recipe import read_recipe, write_recipe
from charrnn.store import Store

ROOT = Path(__file__).resolve().parent.parent
MODEL = "dinosaurs"
CLIENTS, RATE = 8, 150.0  # requests a second: what a service of such a model has easily
AFTERWARDS = 3.0  # seconds of load after the promotion


@dataclass
class Night:
    """What a run of `retrain` came to."""

    status: int
    seconds: float
    processor_seconds: float
    memory: int  # bytes at most
    result: dict[str, object]


@dataclass
class Noticed:
    """What the clients of a service noticed of a promotion."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    first_seen: dict[str, float] = field(default_factory=dict)  # by version, seconds of the clock
    promoted_at: float = 0.0

    @property
    def delay(self) -> float:
        """Seconds from the promotion to the first answer of the new version."""
        return max(self.first_seen.values()) - self.promoted_at


def recipe(folder: Path, seed: int, *, quick: bool) -> Path:
    """The recipe that ships, with another random seed: there is something to train, as long."""
    shipped = read_recipe(ROOT / "data" / f"{MODEL}.toml")
    steps = {"steps": 20, "evaluate_every": 10} if quick else {}
    changed = shipped.changed(
        data=[str(path) for path in shipped.paths(ROOT / "data")],
        training=shipped.training.changed(random_seed=seed, **steps),
    )
    path = folder / f"{MODEL}.toml"
    path.write_text(write_recipe(changed))
    return path


def night(store: Store, *arguments: str) -> Night:
    """One run of the command, in a process of its own, as cron would have it."""
    command = [sys.executable, "-m", "charrnn", "retrain", MODEL, "--quiet", "--json"]
    command += ["--weights", str(store.root), *arguments]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        result = json.loads(out.read())
    scale = 1 if sys.platform == "darwin" else 1024
    processor = usage.ru_utime + usage.ru_stime
    return Night(process.returncode, seconds, processor, usage.ru_maxrss * scale, result)


def under_load(store: Store, path: Path) -> tuple[Night, Noticed]:
    """A retraining beside a service that is asked for names all the while."""
    noticed, nights = Noticed(), []
    store.fill(MODEL)

    def is_right(_: int, body: bytes) -> bool:
        noticed.first_seen.setdefault(json.loads(body)["version"], time.time())
        return True

    def retrain() -> None:
        nights.append(night(store, "--recipe", str(path), "--promote-anyway"))
        noticed.promoted_at = (store.folder(MODEL) / "CURRENT.json").stat().st_mtime

    with serving(OURS, [], {"CHARRNN_WEIGHTS": str(store.root)}) as (port, _):
        worker = threading.Thread(target=retrain)
        worker.start()
        end = float("inf")
        while time.monotonic() < end:
            found = load(
                (HOST, port),
                CLIENTS,
                0.5,
                lambda n: post("/generate", {"count": 1, "random_seed": n}),
                rate=RATE,
                is_right=is_right,
            )
            noticed.statuses.update(found.statuses)
            noticed.latencies += found.latencies
            if end == float("inf") and not worker.is_alive():
                end = time.monotonic() + AFTERWARDS
        worker.join()
    return nights[0], noticed


def measure(chosen: argparse.Namespace) -> Report:
    """All of it."""
    report = Report(machine({}))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder / "weights")
        path = recipe(folder, 1, quick=chosen.quick)
        trained = night(store, "--recipe", str(path), "--promote-anyway")
        idle = night(store, "--recipe", str(path))
        busy, noticed = under_load(store, recipe(folder, 2, quick=chosen.quick))
    rows = [
        ["trained, compared and promoted", trained],
        ["nothing to do", idle],
        ["trained beside a service under load", busy],
    ]
    nights = Table("A night", [("", ""), ("seconds", ".1f"), ("of a core", ".1f"), ("MB", ".0f")])
    for what, each in rows:
        assert isinstance(each, Night)
        nights.rows.append([what, each.seconds, each.processor_seconds, each.memory / 1e6])
    report.add(nights)
    failed = sum(count for status, count in noticed.statuses.items() if status != 200)
    latencies = noticed.latencies
    half, most = (1e3 * percentile(latencies, share) for share in (0.5, 0.99))
    report.add(
        Table(
            "What the service's clients noticed",
            [("", ""), ("", "")],
            [
                ["requests answered", f"{len(latencies):,}"],
                ["requests failed", str(failed)],
                ["half within, 99 in 100, ms", f"{half:.1f}, {most:.1f}"],
                ["versions in the answers", str(len(noticed.first_seen))],
                ["seconds from the promotion to its first answer", f"{noticed.delay:.2f}"],
            ],
        )
    )
    if failed or busy.status or trained.status or idle.status != 10:
        raise SystemExit("a request failed, or a night did not go as it should")
    return report


if __name__ == "__main__":
    run(measure, options(__doc__ or ""))
