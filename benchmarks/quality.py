"""How good a network gets: with all defaults, beside references in torch that have the same names
and the same time; and within a given time.

    python benchmarks/quality.py data/dinosaurs.txt my-list.txt --seeds 5
    python benchmarks/quality.py --text input.txt --names names.txt --random-seeds 3
    python benchmarks/quality.py --text input.txt --seconds 600 -- --hidden-size 512 --processes 2
    python benchmarks/quality.py --quick --json figures.json

A list's rows: the network that `train` makes with no option, and what torch makes of the same names
in as many seconds of the processor, one thread each (`peers_names.py`); or, by --longer, in so many
times as many. Each seed has a split of its
own, that of the salt "split 0", "split 1" and so on; ours and the references take turns. All keep
what predicted the validation names best; the test names are read once, by what was kept.

The other files are those that others report on, and aren't in this repository: tinyshakespeare (the
input.txt of char-rnn and nanoGPT) and the names.txt of makemore. What stands behind `--` is handed
on to `python -m charrnn train`.

Text: the last tenth is held out, as by nanoGPT, which also chooses its best weights by it. Our
split is in blocks of 4,096 characters, and takes one more block as its test set, so training sees
a little less than nanoGPT's (0.4% of tinyshakespeare). Names: 1,000 are held out, as many as by
makemore, and 1,000 more to choose by, where makemore chooses by its test names. Names that stand in
the list twice are taken once, so no test name was learned from; in makemore's split some were.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import tomli_w

import charrnn
from benchmarks import peers
from benchmarks.common import (
    NOT_INSTALLED,
    ROOT,
    Report,
    Table,
    existing,
    machine,
    options,
    positive,
    run,
)
from benchmarks.recipes import taken
from charrnn.config import CorpusConfig
from charrnn.corpus import load_corpus
from charrnn.evaluation import evaluate
from charrnn.model import count_parameters
from charrnn.ops import Workspace
from charrnn.recipe import Recipe, recipe_for
from charrnn.splits import split
from charrnn.training import Run

HELD_OUT = 0.1  # of a text
TEST_NAMES = 1000
COLD = 64  # what nanoGPT's quick start sees at most, characters: each block begins anew
PUBLISHED = (  # nats per character, by the README of nanoGPT
    "nanoGPT's README: 1.88 by its CPU quick start, 1.4697 on an A100 in 3 minutes, both on blocks "
    "without what came before them."
)


def trained(
    data: Path, corpus: dict[str, Any], seconds: float, seed: int, more: list[str]
) -> tuple[charrnn.Generator, float]:
    """The model that the command line makes of a file within a time from a random seed, and what
    the clock says that the whole command took, seconds.
    """
    recipe = {"data": [str(data.resolve())], "corpus": corpus, "training": {"random_seed": seed}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bench.toml")
        path.write_text(tomli_w.dumps(recipe), "utf-8")
        command = [sys.executable, "-m", "charrnn", "train", str(path), "--weights", folder]
        command += ["--minutes", str(seconds / 60), "--quiet", *more]
        began = time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment())
        took = time.monotonic() - began
        return charrnn.load("bench", weights=folder), took


def environment() -> dict[str, str]:
    """This one, but for a number of BLAS threads: what a person's own has."""
    return {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}


def text_losses(generator: charrnn.Generator, text: str) -> tuple[float, float]:
    """Nats per character of the last tenth: with the state carried over all of it, and in blocks of
    64 predictions that each begin with nothing read.
    """
    tail = generator.vocabulary.match(text)[int(len(text) * (1 - HELD_OUT)) :]
    model, vocabulary, work = generator.model, generator.vocabulary, Workspace()
    blocks = [tail[k : k + COLD + 1] for k in range(0, len(tail) - COLD, COLD)]
    carried = evaluate(model, [tail], vocabulary, work).nats_per_character
    return carried, evaluate(model, blocks, vocabulary, work).nats_per_character


def names_loss(generator: charrnn.Generator) -> tuple[float, int]:
    """Nats per character of the test names, their ends included, and how many they are."""
    config = CorpusConfig.checked(generator.frozen.provenance["recipe"]["corpus"])
    names = split(generator.frozen.names, config)["test"]
    loss = evaluate(generator.model, names, generator.vocabulary, Workspace())
    return loss.nats_per_character, loss.sequences


def network(generator: charrnn.Generator) -> str:
    """What was trained, in a few words."""
    c, settings = generator.model.config, generator.frozen.provenance["recipe"]["training"]
    layers = f" x {c.num_layers}" if c.num_layers > 1 else ""
    return (
        f"{c.cell.upper()} {c.hidden_size}{layers}, dropout {c.dropout:g}, batch "
        f"{settings['batch_size']}, rate {settings['learning_rate']:g}, "
        f"processes {settings['processes']}"
    )


def measure(chosen: argparse.Namespace) -> Report:
    versions = {} if chosen.no_peers else peers.versions()
    report = Report(machine({**versions, "onnxruntime": "no part"}, "by run"))
    print(f"\n## {report.head()}\n", flush=True)
    for path in chosen.lists:
        report.add(list_table(path, chosen))
    seconds = chosen.seconds or ([0.5] if chosen.quick else [82.0])
    trainings = [(each, seed) for each in seconds for seed in range(chosen.random_seeds)]
    if chosen.text:
        report.add(text_table(chosen.text, trainings, chosen.more))
    if chosen.names:
        report.add(names_table(chosen.names, trainings, chosen.more))
    return report


OURS = "charrnn, all defaults"
Result = tuple[float, float, int, float, float]  # test, validation, parameters, seconds, wall


def list_table(path: Path, chosen: argparse.Namespace) -> Table:
    """A row for each contender, over all seeds."""
    columns = [("", "s"), ("parameters", ",d"), ("test nats/char", "s"), ("over ours", "s")]
    columns += [("validation", ".4f"), ("seconds of a core", ".1f"), ("by the clock", ".1f")]
    names = chosen.take or sum(1 for line in path.read_text("utf-8").splitlines() if line.strip())
    table = Table(
        f"{path.stem}, {names:,} names: nats per character of names never seen, "
        f"{chosen.seeds} splits",
        columns,
        note="Mean and standard deviation over splits; differences are within a split.",
    )
    found: dict[str, list[Result]] = {}
    for seed in range(chosen.seeds):
        with tempfile.TemporaryDirectory() as folder:
            played = contest(taken(path, chosen.take, seed, Path(folder)), seed, chosen)
        for name, result in played.items():
            found.setdefault(name, []).append(result)
            print(f"  split {seed}, {name}: {result[0]:.4f}, {result[3]:.0f} s", flush=True)
    for name, results in found.items():
        test, validation, sizes, seconds, wall = zip(*results, strict=True)
        over = [a - b[0] for a, b in zip(test, found[OURS], strict=True)]
        means = [statistics.mean(each) for each in (validation, seconds, wall)]
        table.rows.append(
            [name, sizes[0], spread(test, ".4f"), spread(over, "+.4f") if any(over) else "", *means]
        )
    if chosen.no_peers or not peers.TORCH:
        table.rows.append(["torch", *[NOT_INSTALLED] * 3, *[None] * 3])
    return table


def spread(values: Sequence[float], form: str) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{form}} ± {deviation:.4f}"


def contest(path: Path, seed: int, chosen: argparse.Namespace) -> dict[str, Result]:
    """One split of a list: ours first, then each reference for as long."""
    recipe = Recipe.checked(
        {
            **recipe_for(path).said(),
            "corpus": {"salt": f"split {seed}", "kind": "names"},
            "training": {"random_seed": seed, **({"steps": 5} if chosen.quick else {})},
        }
    )
    corpus = load_corpus([path], recipe.corpus)
    began, clock = time.process_time(), time.monotonic()
    model = Run(recipe, corpus).train().model
    seconds, wall = time.process_time() - began, time.monotonic() - clock
    losses = [model.evaluation[side]["nats_per_character"] for side in ("test", "validation")]
    found: dict[str, Result] = {
        OURS: (losses[0], losses[1], count_parameters(model.params), seconds, wall)
    }
    if chosen.no_peers or not peers.TORCH:
        return found
    from benchmarks import peers_names

    for name, reference in peers_names.REFERENCES.items():
        clock = time.monotonic()
        symbols = "".join(corpus.vocabulary.symbols)
        budget = seconds * chosen.longer
        other = peers_names.trained(reference, corpus.sequences, symbols, budget, seed)
        wall = time.monotonic() - clock
        found[name] = (other.test, other.validation, other.parameters, other.seconds, wall)
    return found


def text_table(path: Path, trainings: list[tuple[float, int]], more: list[str]) -> Table:
    """A row for each training: a budget in seconds, and a random seed."""
    columns = [("seconds allowed", ".3g"), ("of the whole command", ".1f"), ("network", "s")]
    columns += [("random seed", "d")]
    columns += [("state carried", ".4f"), (f"cold blocks of {COLD}", ".4f"), ("best at step", ",d")]
    title = f"{path.name}, its last tenth: nats per character"
    table = Table(title, columns, note=PUBLISHED)
    corpus = {"kind": "text", "split_by": "order", "validation": HELD_OUT, "test": 1e-6}
    text = path.read_text("utf-8")
    for seconds, seed in trainings:
        generator, took = trained(path, corpus, seconds, seed, more)
        losses = text_losses(generator, text)
        steps = generator.frozen.provenance["best_step"]
        table.rows.append([seconds, took, network(generator), seed, *losses, steps])
        print(f"  {took:.0f} seconds: {losses[0]:.4f}, {losses[1]:.4f}", flush=True)
    return table


def names_table(path: Path, trainings: list[tuple[float, int]], more: list[str]) -> Table:
    """A row for each training: a budget in seconds, and a random seed."""
    columns = [("seconds allowed", ".3g"), ("of the whole command", ".1f"), ("network", "s")]
    columns += [("random seed", "d")]
    columns += [("test names", ",d"), ("nats per character", ".4f"), ("best at step", ",d")]
    table = Table(f"{path.name}, names never seen: nats per character", columns)
    lines = {line.strip().lower() for line in path.read_text("utf-8").splitlines()} - {""}
    share = min(TEST_NAMES / len(lines), HELD_OUT)
    corpus = {"kind": "names", "validation": share, "test": share}
    for seconds, seed in trainings:
        generator, took = trained(path, corpus, seconds, seed, more)
        loss, count = names_loss(generator)
        steps = generator.frozen.provenance["best_step"]
        table.rows.append([seconds, took, network(generator), seed, count, loss, steps])
        print(f"  {took:.0f} seconds: {loss:.4f}", flush=True)
    return table


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("lists", type=existing, nargs="*", help="lists of names, for all defaults")
    parser.add_argument("--seeds", type=positive, default=5, help="splits of each list  [5]")
    parser.add_argument("--take", type=int, help="so many lines of each list, drawn at random")
    parser.add_argument(
        "--longer", type=float, default=1, help="how much longer the references train  [1]"
    )
    parser.add_argument(
        "--text", type=existing, help="running text, as tinyshakespeare's input.txt"
    )
    parser.add_argument("--names", type=existing, help="one name a line, as makemore's names.txt")
    parser.add_argument(
        "--seconds", type=float, action="append", help="of each training; again for another  [82]"
    )
    parser.add_argument(
        "--random-seeds", type=positive, default=1, help="of each training of --text, --names  [1]"
    )
    behind = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser.set_defaults(more=sys.argv[behind + 1 :])  # options of `python -m charrnn train`
    del sys.argv[behind:]
    if "--random-seed" in parser.get_default("more"):
        parser.error("--random-seed: say --random-seeds N instead, for 0 to N - 1")
    run(measure, parser)
