"""How fast the library generates, beside torch and onnxruntime: one BLAS thread, always through
`Generator.generate`, with a random seed and log-probabilities.

    python benchmarks/generate.py                 # on both kernels of OpenBLAS
    python benchmarks/generate.py --quick --json figures.json
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import statistics
from collections.abc import Callable
from itertools import count
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
    gemv_seconds,
    machine,
    options,
    python,
    run,
    take_turns,
)
from benchmarks.models import CALLS_OF_A_LAYER, PROMPT, names_generator, shapes_of, text_generator
from benchmarks.peer import DROP_EVERY, Peer
from charrnn import GenerationConfig, Generator, blas_threads
from charrnn.config import FIRST_SHARED_SEED, ModelConfig

CALLS_TO_DRAW = 2  # add the noise, argmax

ONE = (
    ("lstm", 128, 27, 1),
    ("rnn", 128, 27, 1),
    ("gru", 128, 27, 1),
    ("lstm", 256, 65, 1),
    ("lstm", 512, 65, 2),
)
BATCHES = (("lstm", 128, 27, 1), ("lstm", 256, 65, 1), ("lstm", 512, 65, 2))
NAMES = (("lstm", 128), ("lstm", 256))
TOGETHER = 64
LONGEST_NAME = 60
CUT: dict[str, Any] = {"max_length": LONGEST_NAME, "whole": False}  # as the peers do
SECONDS = 2.0  # of each case
PEERS_LENGTH = 300
PLAIN = ("torch nn", "torch cell")  # multinomial draws every row from one generator

PEERS = (
    "torch nn",
    "torch cell",
    "torch cell, Gumbel",
    "torch tuned",
    "torch jit",
    "onnxruntime",
    "onnxruntime, bound",
)


class Comparison:
    """A table with a column for each case and a row for each contender: microseconds a character,
    and how many times slower than ours a peer is.
    """

    def __init__(self, title: str, report: Report, contenders: tuple[str, ...], note: str) -> None:
        self.report, self.contenders = report, contenders
        self.table = Table(f"{title}: microseconds a character", [("", "s")], note=note)
        self.columns: list[list[str]] = []

    def case(self, name: str, times: dict[str, Timing], least: float, **more: str) -> None:
        """A column: the timings, and the least seconds that a character can take."""
        for contender, timing in times.items():
            self.report.note(f"{self.table.title}, {name}", contender, timing)
        ours = times["ours"].median
        cells = {"ours": f"{1e6 * ours:.2f}", "ours, spread": times["ours"].spread}
        for peer in self.contenders:
            cells[peer] = NOT_INSTALLED
            if peer in times:
                median = times[peer].median
                cells[peer] = f"{1e6 * median:.2f} ({median / ours:.2f}x)"
        for kind, words in (("torch", "torch's best"), ("onnxruntime", "onnxruntime's best")):
            its = [timing.median for peer, timing in times.items() if peer.startswith(kind)]
            cells[f"{words} / ours"] = f"{min(its) / ours:.2f}x" if its else "—"
        low = min(t.low / t.median for t in times.values())
        high = max(t.high / t.median for t in times.values())
        cells["widest spread of all"] = f"{low:.2f}-{high:.2f}"
        cells |= {"floor": f"{1e6 * least:.2f}", "ours / floor": f"{ours / least:.2f}x", **more}
        self.table.columns.append((name, "s"))
        for k, (row, cell) in enumerate(cells.items()):
            if len(self.table.rows) == k:
                self.table.rows.append([row])
            self.table.rows[k].append(cell)


class Benchmark:
    """All cases on one kernel; the report is filled in as they come."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.quick, self.no_peers = chosen.quick, chosen.no_peers
        self.seconds = 0.0 if self.quick else SECONDS
        self.report = Report(machine({} if self.no_peers else peers.versions()))
        print(f"\n## {self.report.head()}\n", flush=True)
        with blas_threads(1):
            self.call, self.flops = call_seconds(), gemm_flops(256 if self.quick else 1024)
        self.report.machine["GFLOP/s in a large product"] = round(self.flops / 1e9)
        self.report.machine["microseconds a call"] = round(1e6 * self.call, 2)
        self.seeds = count(1)
        # For many texts, such as are drawn where the caller gives none.
        self.shared_seeds = count(FIRST_SHARED_SEED)

    def all(self) -> Report:
        """Every case, in the order of the tables."""
        self.running_text(1, (20,) if self.quick else (500, 2000), ONE)
        self.running_text(TOGETHER, (5,) if self.quick else (200,), BATCHES)
        self.names()
        self.cost_of_options()
        self.start_up()
        return self.report

    def of(self, generator: Generator) -> dict[str, Peer]:
        """The peers of a generator's network, each checked to compute what it computes."""
        if self.no_peers:
            return {}
        expected = logits_after(generator, PROMPT)
        found = peers.of(generator.model)
        for name, peer in found.items():
            error = float(np.abs(peer.logits_after(PROMPT) - expected).max())
            self.report.check(f"{label(generator)}, logits of {name}", error)
        return found

    def ours(self, generator: Generator, **settings: Any) -> Callable[[], float]:
        """A request with another random seed each time."""

        seeds = self.shared_seeds if settings.get("count", 1) > 1 else self.seeds

        def work() -> float:
            samples = generator.generate(random_seed=next(seeds), **settings)
            return sum(len(sample.text) for sample in samples)

        return work

    # Running text

    def running_text(self, batch: int, lengths: tuple[int, ...], models: Any) -> None:
        """One text, or many in one request, of so many characters each."""
        many = f"{batch} texts in one request" if batch > 1 else "one text"
        comparison = Comparison(
            f"Running text, {many}",
            self.report,
            PEERS,
            "nats: how unsure the network is of a character of its own text. The peers write at "
            f"most {PEERS_LENGTH} characters a round: theirs don't get dearer with the length.",
        )
        for cell, hidden_size, vocab_size, layers in models[:1] if self.quick else models:
            generator = text_generator(cell, hidden_size, vocab_size, layers)
            found = self.of(generator)
            for length in lengths:
                contenders = {"ours": self.ours(generator, count=batch, max_length=length)}
                for name, peer in found.items():
                    contenders[name] = peer_texts(peer, min(length, PEERS_LENGTH), batch)
                times = take_turns(contenders, seconds=self.seconds)
                comparison.case(
                    f"{label(generator)}, {length:,} characters",
                    times,
                    self.floor(generator.model.config, batch),
                    nats=f"{nats(generator):.2f}",
                )
        self.report.add(comparison.table)

    def floor(self, config: ModelConfig, batch: int, wasted: float = 1.0) -> float:
        """The least seconds of a character: products, and calls shared by the batch; `wasted`
        times as many calls, where not all rows of all steps give a character.
        """
        if batch == 1:
            with blas_threads(1):
                products = gemv_seconds(shapes_of(config))
        else:
            products = 2 * sum(K * M for K, M in shapes_of(config)) / self.flops
        calls = config.num_layers * CALLS_OF_A_LAYER[config.cell] + CALLS_TO_DRAW
        return products + calls * wasted * self.call / batch

    # Names

    def names(self) -> None:
        """Names in one request, and in as many requests."""
        dropped = tuple(f"{name}, rows dropped" for name in PEERS if name != "torch jit")
        one_request = Comparison(
            f"{TOGETHER} names in one request",
            self.report,
            tuple(sorted(PEERS + dropped, key=peers_order)),
            "A character is one that is in a name: end symbols are work that isn't counted. Rows "
            f"dropped: finished rows leave the batch every {DROP_EVERY} steps; else all go "
            "on until the last has ended.",
        )
        many_requests = Comparison(
            f"{TOGETHER} requests of one name each",
            self.report,
            tuple(n for n in one_request.contenders if not n.startswith(PLAIN) or "Gumbel" in n),
            "Each request has a random seed of its own, and gets the same name in any company. The "
            "peers draw each row's noise from a seed of its own too, but share one batch: the same "
            "batch gives the same names.",
        )
        for cell, hidden_size in NAMES[:1] if self.quick else NAMES:
            generator = names_generator(cell, hidden_size, steps=5 if self.quick else 200)
            found = self.of(generator)
            many = generator.generate(count=1024, random_seed=0, **CUT)
            lengths = np.array([len(sample.text) for sample in many])
            steps = lengths.reshape(-1, TOGETHER).max(axis=1).mean() + 1
            least = self.floor(generator.model.config, TOGETHER, steps / lengths.mean())
            more = {"mean length": f"{lengths.mean():.1f}", "longest of 1,024": f"{lengths.max()}"}
            ours = self.ours(generator, count=TOGETHER, **CUT)
            for comparison, own_way, seeds in (
                (one_request, ours, None),
                (many_requests, self.our_requests(generator), self.shared_seeds),
            ):
                contenders = {"ours": own_way}
                for name, peer in found.items():
                    contenders |= peer_names(name, peer, generator, seeds)
                contenders = {
                    name: work
                    for name, work in contenders.items()
                    if name in ("ours", *comparison.contenders)
                }
                times = take_turns(contenders, seconds=2 * self.seconds, rounds=41)
                comparison.case(label(generator), times, least, **more)
        self.report.add(one_request.table)
        self.report.add(many_requests.table)

    def our_requests(self, generator: Generator) -> Callable[[], float]:
        """As many requests as there would be rows, served together."""

        def work() -> float:
            requests = [
                ("", GenerationConfig(random_seed=next(self.shared_seeds), **CUT))
                for _ in range(TOGETHER)
            ]
            done = generator.generate_many(requests)
            return sum(len(sample.text) for samples in done for sample in samples)

        return work

    # What options cost

    def cost_of_options(self) -> None:
        """Each option's time over that of plain generation."""
        generator = text_generator("lstm", 128, 27)
        ways: dict[str, dict[str, Any]] = {
            "plain": {},
            "temperature 0.7": {"temperature": 0.7},
            "top_k 10": {"top_k": 10},
            "top_p 0.9": {"top_p": 0.9},
            "top_k 10 and top_p 0.9": {"top_k": 10, "top_p": 0.9},
            "two stop strings": {"stop": ("ABCDEFGH", "HGFEDCBA")},
        }
        table = Table(
            f"What options cost, {label(generator)}: microseconds a character",
            [
                ("option", "s"),
                ("one text", ".2f"),
                ("/ plain", ".2f"),
                (f"{TOGETHER} texts", ".2f"),
                ("/ plain ", ".2f"),
            ],
        )
        found = []
        for batch, length in ((1, 1000), (TOGETHER, 100)) if not self.quick else ((1, 20), (2, 5)):
            contenders: dict[str, Callable[[], float]] = {}
            for name, settings in ways.items():
                contenders[name] = self.ours(generator, count=batch, max_length=length, **settings)
            contenders["stream"] = self.streamed(generator, batch, length)
            times = take_turns(contenders, seconds=self.seconds)
            found.append({name: timing.median for name, timing in times.items()})
        one, many = found
        for name in one:
            row = [name, 1e6 * one[name], one[name] / one["plain"]]
            table.rows.append([*row, 1e6 * many[name], many[name] / many["plain"]])
        self.report.add(table)

    def streamed(self, generator: Generator, batch: int, length: int) -> Callable[[], float]:
        def work() -> float:
            pieces = generator.stream(count=batch, max_length=length, random_seed=next(self.seeds))
            return sum(len(piece.text) for piece in pieces)

        return work

    # Start-up

    def start_up(self) -> None:
        """Imports and the first name, each in fresh processes."""
        clock = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"
        first = "import time, charrnn; began = time.perf_counter(); {}; " + clock.split("; ")[-1]
        ways = {
            "import numpy, pydantic": clock.format("import numpy, pydantic"),
            "import charrnn": clock.format("import charrnn"),
            'load("dinosaurs"), after the import': first.format("charrnn.load('dinosaurs')"),
            'load("dinosaurs") and one name, after the import': first.format(
                "charrnn.load('dinosaurs').generate(random_seed=1)"
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(1 if self.quick else 11):
            for name, code in ways.items():
                times[name].append(float(python(code)))
        table = Table(
            "Start-up: milliseconds in a fresh process",
            [
                ("what", "s"),
                ("milliseconds", ".1f"),
                ("spread", "s"),
                ("/ numpy and pydantic", ".2f"),
            ],
            note="Without what Python itself takes to start; medians of 11 processes of each.",
        )
        alone = statistics.median(times["import numpy, pydantic"])
        for name, values in times.items():
            timing = Timing.of(values)
            self.report.note("start-up", name, timing)
            ratio = timing.median / alone if name.startswith("import") else None
            table.rows.append([name, 1e3 * timing.median, timing.spread, ratio])
        self.report.add(table)


def label(generator: Generator) -> str:
    """A network in a few words."""
    c = generator.model.config
    layers = f" x {c.num_layers}" if c.num_layers > 1 else ""
    return f"{c.cell.upper()} {c.hidden_size}{layers}, V {c.vocab_size}"


def nats(generator: Generator) -> float:
    """How unsure a network is of its own text: minus the mean log-probability of a character."""
    (sample,) = generator.generate(max_length=300, random_seed=0)
    return -sample.logprob / len(sample.text)


def logits_after(generator: Generator, prompt: list[int]) -> Any:
    """Our logits after a prompt, (V,)."""
    state, logits = generator.model.init_state(1), np.empty((1, 0))
    for id_ in prompt:
        logits, state = generator.model.step(np.array([id_]), state)
    return logits[0]


def peer_texts(peer: Peer, length: int, batch: int) -> Callable[[], float]:
    return lambda: peer.texts(length, batch).characters


def peer_names(
    name: str, peer: Peer, generator: Generator, seeds: Any
) -> dict[str, Callable[[], float]]:
    """A peer's batch of names, by column: going on with ended rows, and without them."""
    end = generator.vocabulary.end
    assert end is not None

    def work(drop: bool) -> float:
        own = None if seeds is None else [next(seeds) for _ in range(TOGETHER)]
        return peer.names(LONGEST_NAME, TOGETHER, end, drop=drop, seeds=own).characters

    found: dict[str, Callable[[], float]] = {name: lambda: work(False)}
    if name != "torch jit":  # its loop is compiled whole
        found[f"{name}, rows dropped"] = lambda: work(True)
    return found


def peers_order(name: str) -> tuple[int, bool]:
    """A peer's two ways stand together."""
    plain = name.removesuffix(", rows dropped")
    return PEERS.index(plain), plain != name


if __name__ == "__main__":
    run(lambda chosen: Benchmark(chosen).all(), options(__doc__ or "", kernels=True))
