"""The service under load for a time, while new versions are promoted (one in five is corrupt),
workers are killed, and clients leave in the middle: errors, wrong answers, and memory.

    python benchmarks/soak.py --minutes 30
    python benchmarks/soak.py --quick

Every answer is held against what its version's own generator writes for its random seed. Nothing
may fail but what a killed worker had under way.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import json
import os
import random
import signal
import socket
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.common import Report, Table, machine, options, run
from benchmarks.load import Outcome, load, post
from benchmarks.models import text_generator
from benchmarks.service import HOST, OURS, WORKERS, serving
from charrnn.generator import Generator
from charrnn.store import Store
from charrnn.weights import to_bytes

MODEL, HIDDEN, VOCABULARY = "soak", 128, 27
CLIENTS, SHARE = 32, 0.8  # of the requests a second that it answers at most
VERSIONS, SEEDS, LENGTH, COUNT = 6, 50, 40, 2
CORRUPT_SHARE = 5  # one in so many promotions
PROMOTE_SECONDS, KILL_SECONDS, LEAVE_SECONDS = 1.0, 20.0, 0.2
SETTLE_SECONDS = 10.0  # of load before memory is looked at first
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Events:
    """What was done to the service."""

    promotions: int = 0
    corrupt: int = 0
    kills: int = 0
    left: int = 0
    memory: dict[int, list[int]] = field(default_factory=dict)  # bytes, by worker, as time goes on


class Versions:
    """Networks that differ, in a weights folder, and what each writes."""

    def __init__(self, folder: Path) -> None:
        self.store, self.expected = Store(folder), {}
        self.names = []
        for n in range(VERSIONS):
            generator = text_generator("lstm", HIDDEN, VOCABULARY)
            params = generator.model.params.like(generator.model.params.flat.copy())
            params["out.c"][...] += n / 10
            params["out.V"][...] *= 1 + n / 50
            frozen = type(generator.frozen)(
                "text", generator.model.config, params.freeze(), generator.vocabulary
            )
            version = self.store.add(MODEL, to_bytes(frozen))
            self.names.append(version)
            own = Generator(MODEL, version, self.store.load(MODEL, version)[0])
            for seed in range(SEEDS):
                made = own.generate(random_seed=seed, count=COUNT, max_length=LENGTH)
                self.expected[own.version, seed] = [sample.text for sample in made]
        self.store.promote(MODEL, self.names[0], reason="the soak begins")

    def request(self, number: int) -> bytes:
        """The nth request."""
        return post(
            "/generate",
            {"random_seed": number % SEEDS, "count": COUNT, "max_length": LENGTH},
        )

    def is_right(self, number: int, body: bytes) -> bool:
        """Whether its answer is what the version that it names writes."""
        answer = json.loads(body)
        texts = [sample["text"] for sample in answer["samples"]]
        return texts == self.expected.get((answer["version"], number % SEEDS))


class Trouble(threading.Thread):
    """Promotes, corrupts, kills and leaves, until it is told to stop."""

    def __init__(self, versions: Versions, port: int, master: int, *, quick: bool) -> None:
        super().__init__(daemon=True)
        self.versions, self.port, self.master = versions, port, master
        self.kill_seconds = 1.0 if quick else KILL_SECONDS
        self.over, self.events = threading.Event(), Events()

    def run(self) -> None:
        rng, began = random.Random(0), time.monotonic()
        next_promotion, next_kill = began, began + self.kill_seconds
        while not self.over.wait(LEAVE_SECONDS):
            now = time.monotonic()
            self.leave()
            if now > next_promotion:
                next_promotion += PROMOTE_SECONDS
                self.promote(rng)
            if now > next_kill:
                next_kill += self.kill_seconds
                self.kill()
            self.note_memory(now - began)

    def promote(self, rng: random.Random) -> None:
        """Another version; one in so many names a file that is not what it says."""
        self.events.promotions += 1
        store, folder = self.versions.store, self.versions.store.folder(MODEL)
        if self.events.promotions % CORRUPT_SHARE:
            store.promote(MODEL, rng.choice(self.versions.names), reason="the soak")
            return
        self.events.corrupt += 1
        current = folder / "CURRENT.json"
        record = json.loads(current.read_text())
        name = f"{rng.getrandbits(256):064x}"
        (folder / f"{name}.safetensors").write_bytes(rng.randbytes(1000))
        text = json.dumps(record).replace(store.current(MODEL).version, name)
        temporary = folder / ".soak"
        temporary.write_text(text)
        temporary.replace(current)

    def kill(self) -> None:
        """The youngest worker, at once. The oldest lives through it all, so that its memory tells
        what grows.
        """
        workers = workers_of(self.master)
        if workers:
            self.events.kills += 1
            with suppress(ProcessLookupError):
                os.kill(workers[-1], signal.SIGKILL)

    def leave(self) -> None:
        """Ask for much, and close the connection."""
        body: dict[str, object] = {"stream": self.events.left % 2 == 0, "count": 5}
        with suppress(OSError), socket.create_connection((HOST, self.port), timeout=5) as one:
            one.sendall(post("/generate", body | {"max_length": 2000}))
            time.sleep(0.02)
            self.events.left += 1

    def note_memory(self, seconds: float) -> None:
        """What each worker holds now."""
        if seconds > SETTLE_SECONDS:
            for worker in workers_of(self.master):
                with suppress(OSError):
                    pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
                    self.events.memory.setdefault(worker, []).append(pages * PAGE)


def workers_of(master: int) -> list[int]:
    """The processes that a gunicorn has started, the youngest last."""
    try:
        return [int(p) for p in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
    except OSError:
        return []


def measure(chosen: argparse.Namespace) -> Report:
    seconds = 2.0 if chosen.quick else 60 * chosen.minutes
    report = Report(machine({"torch": "no part", "onnxruntime": "no part"}, threads="2 workers"))
    print(f"\n## {report.head()}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        versions = Versions(Path(folder))
        environ = {"CHARRNN_WEIGHTS": folder, "CHARRNN_MODEL": MODEL}
        with serving(OURS, [], environ) as (port, master):
            most = load((HOST, port), CLIENTS, 0.5 if chosen.quick else 5.0, versions.request).rate
            trouble = Trouble(versions, port, master, quick=chosen.quick)
            trouble.start()
            found = load(
                (HOST, port),
                CLIENTS,
                seconds,
                versions.request,
                rate=SHARE * most,
                is_right=versions.is_right,
            )
            trouble.over.set()
            trouble.join()
            health = load(
                (HOST, port), 1, 0.1, lambda _: b"GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n"
            )
    report.add(table(found, trouble.events, most, health))
    return report


def table(found: Outcome, events: Events, most: float, health: Outcome) -> Table:
    """What became of it."""
    good, allowed = len(found.latencies), CLIENTS * events.kills
    growths = [sizes[-1] - sizes[0] for sizes in events.memory.values() if len(sizes) > 1]
    largest = max(growths, default=0)
    longest = max(events.memory.values(), key=len, default=[0])
    oldest = longest[-1] - longest[0]
    unanswered = found.statuses.get(0, 0)
    other = {s: n for s, n in found.statuses.items() if s not in (0, 200)}
    rows: list[tuple[str, object]] = [
        ("minutes", f"{found.seconds / 60:.1f}"),
        ("requests a second, of those that it answers at most", f"{found.rate:.0f} of {most:.0f}"),
        ("right answers", f"{good - found.wrong:,}"),
        ("wrong answers", found.wrong),
        ("answers with another status", ", ".join(f"{s}: {n}" for s, n in other.items()) or "0"),
        (f"no answer (a killed worker's; {CLIENTS} clients)", unanswered),
        (
            "half within, 99 in 100, ms",
            f"{1e3 * found.percentile(0.5):.1f}, {1e3 * found.percentile(0.99):.1f}",
        ),
        ("promotions, corrupt ones among them", f"{events.promotions}, {events.corrupt}"),
        ("workers killed", events.kills),
        ("clients that left in the middle", events.left),
        ("most that a worker's memory grew in its life, MB", f"{largest / 1e6:.1f}"),
        (
            "that of the one that lived through it all, MB, and its share of the requests, about",
            f"{oldest / 1e6:.1f}, {good / int(WORKERS):,.0f}",
        ),
        ("healthy afterwards", "yes" if health.statuses.get(200) else "NO"),
    ]
    soak = Table("Soak", [("", ""), ("", "")], [[name, str(value)] for name, value in rows])
    bad = found.wrong or other or unanswered > allowed or not health.statuses.get(200)
    soak.note = (
        "Errors beyond those of killed workers!"
        if bad
        else "No error beyond those of killed workers."
    )
    return soak


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long  [default: 1]")
    run(measure, parser)
