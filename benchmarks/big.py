"""Big data on a small machine: the memory that a training holds and the characters that it learns
from in a second, of a made-up text of a settable size beside one of a megabyte; the same of a list
of names, and what a service holds that writes them.

    python benchmarks/big.py --megabytes 2048 --names 1000000
    python benchmarks/big.py --quick

Memory is that of a process with all its children, looked at fifty times a second: what is theirs
alone (RssAnon), pages of files that they have mapped (RssFile: the code of libraries, mostly), and
memory that they share (RssShmem); the largest sum of each at one time. What the system keeps of
files in its own cache is nobody's.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise, product

import numpy as np

from benchmarks.common import ROOT, Report, Table, machine, options, run
from benchmarks.service import HOST, OURS, serving
from charrnn.config import CorpusConfig
from charrnn.corpus import load_corpus
from charrnn.reading import Watch
from charrnn.recipe import Recipe
from charrnn.store import Store
from charrnn.training import Listener, Run

NAME = "big"
LOOK_SECONDS = 0.02
PARTS = ("RssAnon", "RssFile", "RssShmem")
ROUNDS = 3
HIDDEN = 128
NETWORK = {"cell": "gru", "dropout": 0.0, "recurrent_dropout": 0.0}
TRAINING = {"batch_size": 32, "learning_rate": 0.01, "averaging": 0.0}
SYLLABLES = ["".join(s) for s in product("bdfgklmnprstvz", "aeiou", ["", "n", "r", "s"])]


# --- Made-up data ---------------------------------------------------------------------------------


def write_text(path: Path, megabytes: float) -> None:
    """Words of a made-up language, the frequent ones often, in lines that end with a full stop."""
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(SYLLABLES, rng.integers(1, 4))) for _ in range(3000)]
    words += [f"{word}.\n" for word in words[::10]]
    order = rng.permutation(len(words))
    shares = 1 / np.arange(2, len(words) + 2)
    left = megabytes * 1e6
    with path.open("w", encoding="utf-8") as file:
        while left > 0:
            drawn = rng.choice(order, 100_000, p=shares / shares.sum()).tolist()
            text = " ".join([words[k] for k in drawn])[: int(left) + 1]
            left -= file.write(text)


def write_names(path: Path, count: int) -> None:
    """Different names of two to four syllables, in no order."""
    rng, names = np.random.default_rng(2), dict[str, None]()
    while len(names) < count:
        lengths = rng.integers(2, 5, 100_000).tolist()
        picks = rng.integers(0, len(SYLLABLES), (100_000, 4)).tolist()
        for pick, length in zip(picks, lengths, strict=True):
            names["".join(SYLLABLES[k] for k in pick[:length]).capitalize()] = None
    path.write_text("\n".join(list(names)[:count]) + "\n", encoding="utf-8")


def write_kinds(folder: Path, megabytes: float) -> dict[str, tuple[Path, dict[str, str]]]:
    """The same text as what it can be read as: files, and how they are read."""
    text, talk, table = (folder / f"kind{ending}" for ending in (".txt", "-talk.txt", ".csv"))
    write_text(text, megabytes)
    lines = [line for line in text.read_text(encoding="utf-8").splitlines() if line.strip()]
    pairs = zip(lines[::2], lines[1::2], strict=False)
    talk.write_text("".join(f"> {a}\n{b}\n\n" for a, b in pairs), encoding="utf-8")
    rows = (f"{k},{line}\n" for k, line in enumerate(lines))
    table.write_text("id,text\n" + "".join(rows), encoding="utf-8")
    return {
        "running text": (text, {}),
        "words": (text, {"unit": "word"}),
        "conversations": (talk, {}),
        "a table": (table, {}),
    }


# --- A training, in a process of its own ----------------------------------------------------------


class Times(Listener):
    """When each step was over, and how many characters it learned from."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int]] = []

    def stepped(self, run: Run, characters: int) -> None:
        self.steps.append((time.perf_counter(), characters))

    def rate(self) -> float:
        """Characters a second, by the median step, so that looks at held-out data don't count."""
        ends = [end for end, _ in self.steps]
        seconds = [b - a for a, b in pairwise(ends)]
        return statistics.mean(n for _, n in self.steps) / statistics.median(seconds)


def train(path: Path, folder: Path, steps: int, processes: int, hidden: int) -> None:
    """Learn from a file for some steps, keep the result as a live version, and print figures."""
    phases: dict[str, float] = {}
    begun = time.perf_counter()

    def tell(what: str, done: int, total: int) -> None:
        phases[what] = time.perf_counter() - begun

    config = CorpusConfig()
    corpus = load_corpus([path], config, cache=folder / "cache", watch=Watch(tell))
    read = time.perf_counter() - begun
    training = {**TRAINING, "steps": steps, "evaluate_every": steps, "processes": processes}
    recipe = Recipe.checked(
        {
            **{"name": NAME, "data": [path.name], "training": training},
            "network": {**NETWORK, "hidden_size": hidden},
        }
    )
    times = Times()
    trained = Run(recipe, corpus, listener=times).train()
    store = Store(folder / "weights")
    store.promote(NAME, store.add(NAME, trained.data), reason="a measurement")
    figures = {"read": read, "rate": times.rate(), "encoded": "encoding" in phases}
    print(json.dumps({**figures, "characters": corpus.characters("train")}))


# --- Memory, from outside -------------------------------------------------------------------------


def held(process: int) -> dict[str, int]:
    """Bytes that a process and its children hold now, by part."""
    total = dict.fromkeys(PARTS, 0)
    for pid in [process, *_children(process)]:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except OSError:
            continue
        for part in PARTS:
            found = re.search(rf"^{part}:\s+(\d+) kB$", status, re.MULTILINE)
            total[part] += 1024 * int(found[1]) if found else 0
    return total


def _children(process: int) -> Iterator[int]:
    try:
        listed = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8")
    except OSError:
        return
    for child in map(int, listed.split()):
        yield child
        yield from _children(child)


@contextmanager
def watched(process: int) -> Iterator[dict[str, int]]:
    """The peaks of what a process and its children hold meanwhile: of each part, and of `all`."""
    peaks, over = dict.fromkeys((*PARTS, "all"), 0), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            now = held(process)
            now["all"] = sum(now.values())
            for part, count in now.items():
                peaks[part] = max(peaks[part], count)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def of_training(path: Path, folder: Path, *sizes: int) -> dict[str, float]:
    """The figures of a training and its memory; `sizes` are steps, processes and hidden units."""
    return of_child("--child", str(path), str(folder), *map(str, sizes))


def of_child(*arguments: str) -> dict[str, float]:
    """What another process of this program printed, and its memory."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), *arguments],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with watched(process.pid) as peaks:
        printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed")
    return {**json.loads(printed), **{part: count / 1e6 for part, count in peaks.items()}}


def of_service(weights: Path, requests: int) -> dict[str, float]:
    """What a service of two workers holds, master and all, that writes names by free draws and to a
    shape; and how many answers a second it gives.
    """
    arguments, environ = ["-c", "gunicorn.conf.py"], {"CHARRNN_WEIGHTS": str(weights)}
    with serving(OURS, arguments, environ) as (port, process), watched(process) as peaks:
        begun = time.perf_counter()
        for k in range(requests):
            body = {"model": NAME, "count": 8, "random_seed": k}
            _ask(port, body if k % 4 else {**body, "ends_with": "a"})
        seconds = time.perf_counter() - begun
    return {"rate": requests / seconds, **{part: count / 1e6 for part, count in peaks.items()}}


def _ask(port: int, body: dict[str, object]) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    connection.request("POST", "/generate", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"the service answered {answer.status}: {text.decode()[:200]}")


# --- The benchmark --------------------------------------------------------------------------------


def measure(chosen: argparse.Namespace) -> Report:
    report = Report(machine({}))
    with tempfile.TemporaryDirectory(dir=chosen.folder) as made:
        folder = Path(made)
        report.add(Table("Training from big data", COLUMNS, trainings(folder, chosen), NOTE))
        size, rows = 0.02 if chosen.quick else 10, []
        for what, (path, config) in write_kinds(folder, size).items():
            figures = of_child("--read", str(path), json.dumps(config))
            rows.append([what, *(figures[name] for name in ("seconds", "all", *PARTS))])
        columns = [(f"{size} MB read as", "s"), ("seconds", ".1f"), *MEMORY]
        report.add(Table("Reading alone", columns, rows))
        served = of_service(folder / "weights", 8 if chosen.quick else 400)
        columns = [("of two workers", "s"), ("answers/s", ",.0f"), *MEMORY]
        values = [served[part] for part in ("rate", "all", *PARTS)]
        report.add(Table("Serving those names", columns, [["8 names each", *values]]))
    return report


def trainings(folder: Path, chosen: argparse.Namespace) -> list[list[object]]:
    """Of two texts by one process and by two, and last of a list, whose model stays live."""
    small, large, names = (1, 2, 1_000) if chosen.quick else (1, chosen.megabytes, chosen.names)
    steps, rounds, hidden = (3, 1, 8) if chosen.quick else (chosen.steps, ROUNDS, HIDDEN)
    texts = {f"{size:,} MB of text": folder / f"{size}.txt" for size in (small, large)}
    for size, path in zip((small, large), texts.values(), strict=True):
        write_text(path, size)
    rows: list[list[object]] = []
    for processes in (1,) if chosen.quick else (1, 2):
        found: dict[str, list[dict[str, float]]] = {what: [] for what in texts}
        for _ in range(rounds):  # in turn, so that what disturbs one disturbs both
            for what, path in texts.items():
                found[what].append(of_training(path, folder, steps, processes, hidden))
        first = next(iter(found.values()))
        rows += [row(what, processes, each, first) for what, each in found.items()]
    write_names(folder / "names.txt", names)
    each = [of_training(folder / "names.txt", folder, steps, 1, hidden)]
    return [*rows, row(f"{names:,} names", 1, each, None)]


MEMORY = [("MB, all", ",.0f"), *((f"MB, {part}", ",.0f") for part in PARTS)]
COLUMNS = [
    ("data", "s"),
    ("processes", "d"),
    ("encoded, s", ".1f"),
    ("read again, s", ".1f"),
    ("characters/s", ",.0f"),
    ("to the smallest", ".2f"),
    *MEMORY,
]
NOTE = """Characters a second by the median step; of several trainings in turn the median one, the
median ratio of neighbours, and the largest memory of any. "Read again": with the encoded text
found where the first left it."""


def row(
    what: str,
    processes: int,
    each: list[dict[str, float]],
    first: list[dict[str, float]] | None,
) -> list[object]:
    """The figures of some trainings, `first` those of the smallest text in the same turns."""
    encoded = [one["read"] for one in each if one["encoded"]]
    again = [one["read"] for one in each if not one["encoded"]]
    rate = statistics.median(one["rate"] for one in each)
    ratios = [a["rate"] / b["rate"] for a, b in zip(each, first or [], strict=False)]
    peaks = [max(one[part] for one in each) for part in ("all", *PARTS)]
    return [
        *(what, processes, max(encoded, default=None), min(again, default=None), rate),
        *(statistics.median(ratios) if ratios else None, *peaks),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        train(Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:7]))
        sys.exit()
    if sys.argv[1:2] == ["--read"]:
        begun = time.perf_counter()
        load_corpus([Path(sys.argv[2])], CorpusConfig.checked(json.loads(sys.argv[3])))
        print(json.dumps({"seconds": time.perf_counter() - begun}))
        sys.exit()
    parser = options(__doc__ or "")
    parser.add_argument("--megabytes", type=int, default=2048, help="of text  [default: 2048]")
    parser.add_argument("--names", type=int, default=1_000_000, help="[default: 1,000,000]")
    parser.add_argument("--steps", type=int, default=400, help="of each training  [default: 400]")
    parser.add_argument("--folder", type=Path, help="where there is room  [default: the system's]")
    run(measure, parser)
