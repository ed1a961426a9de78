"""What the tests of ranks run under mpiexec; rank 0 prints what it found, as JSON.

mpiexec -n 2 python -m tests.rank_runs SCENARIO FOLDER
"""

import json
import os
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from charrnn import training
from charrnn.errors import TrainingError, TrainingInterrupted
from charrnn.parameters import Array
from charrnn.ranks import Ranks, ranks_here
from charrnn.recipe import Recipe
from charrnn.training import Listener, Run
from tests.training_runs import small_corpus, small_recipe

SIZES = (1, 2, 3, 5, 1000)  # of what is added up
NETWORKS: dict[str, dict[str, Any]] = {  # each with another way to drop something
    "names": {"dropout": 0.3, "dropout_mask": "sequence", "recurrent_dropout": 0.2},
    "text": {"dropout": 0.3, "num_layers": 2},
    "few": {"dropout": 0.3, "dropout_mask": "sequence"},
    "chat": {"dropout": 0.3},
}


def vectors(size: int, count: int) -> list[Array]:
    """One for each rank, of numbers whose sum depends on the order."""
    rng = np.random.default_rng(size)
    spread = rng.normal(size=(count, size)) * 10 ** rng.uniform(-4, 4, (count, size))
    return list(spread.astype(np.float32))


def in_order(found: list[Array]) -> Array:
    total = found[0].copy()
    for one in found[1:]:
        total += one
    return total


def recipe_of(kind: str, **values: object) -> Recipe:
    """A short run. "few" has fewer sequences in a batch than there are ranks, now and then."""
    if kind == "few":  # 98 names learned from: the last batch of an epoch has 2
        values = {"batch_size": 4, **values}
    if kind == "chat":
        values = {"word_dropout": 0.3, "chain": 2, **values}
    sizes = {"steps": 18, "warmup_steps": 2, "evaluate_every": 6, **values}
    return small_recipe("names" if kind == "few" else kind, network=NETWORKS[kind], **sizes)


def corpus_of(kind: str, folder: Path) -> Any:
    return small_corpus("names" if kind == "few" else kind, folder)


class Stopping(Listener):
    """Has a run stopped after a step."""

    def __init__(self, step: int) -> None:
        self._step, self.asks = step, False

    def stepped(self, run: Run, characters: int) -> None:
        self.asks = self.asks or run.progress.step == self._step


def exchanging(ranks: Ranks, _: Path) -> Any:
    """Sums, words, arrays and errors."""
    found: dict[str, Any] = {"exact": [], "words": []}
    for size in SIZES:
        for _again in range(2):  # in buffers that were used, too
            all_of_them = vectors(size, ranks.count)
            own = all_of_them[ranks.number].copy()
            words = ranks.add(own, np.array([ranks.number, 1 / 3]))
            found["exact"].append(own.tobytes() == in_order(all_of_them).tobytes())
            found["words"].append(words.tolist())
    found["told"] = [each.decode() for each in ranks.exchange(b"x" * ranks.number)]
    array = np.arange(6.0).reshape(2, 3) if ranks.is_first else np.empty(0)
    found["array"] = ranks.array_from_first(array).tolist()
    found["empty"] = ranks.array_from_first(np.empty((2, 0), np.float32)).shape
    ranks.check_step(3, np.ones(4))
    try:
        ranks.check_step(4, np.ones(4) * (ranks.number == 2))
    except TrainingError as error:
        found["apart"] = str(error)
    try:
        ranks.meet({"data": "x", "numpy": "1" if ranks.number != 1 else "2"})
    except TrainingError as error:
        found["other"] = str(error)
    return found


def learning(ranks: Ranks, folder: Path) -> Any:
    """Whole runs, run again, stopped and resumed."""
    found: dict[str, Any] = {}
    own = folder if ranks.is_first else folder / f"rank {ranks.number}"
    own.mkdir(exist_ok=True)
    for kind in NETWORKS:
        corpus, recipe = corpus_of(kind, own), recipe_of(kind)
        whole = Run(recipe, corpus, ranks=ranks).train()
        again = Run(recipe, corpus, ranks=ranks).train()
        run_folder = folder / f"run {kind}" if ranks.is_first else None
        for step in (5, 12):  # rank 1 alone is asked, or rank 0
            listener = Stopping(step if ranks.number == step % 2 else -1)
            try:
                Run(
                    *(recipe, corpus, run_folder),
                    listener=listener,
                    stop=lambda listener=listener: listener.asks,  # type: ignore[misc]
                    ranks=ranks,
                ).train()
            except TrainingInterrupted:
                found[f"{kind} stopped {step}"] = True
        if ranks.is_first:  # for one that goes on alone
            copy = folder / f"left {kind}"
            copy.mkdir()
            for file in run_folder.iterdir() if run_folder else ():
                (copy / file.name).write_bytes(file.read_bytes())
        resumed = Run(recipe, corpus, run_folder, ranks=ranks).train()
        found[kind] = [sha256(each.data).hexdigest() for each in (whole, again, resumed)]
        if ranks.is_first:
            (folder / f"{kind}.weights").write_bytes(whole.data)
    found["waited"] = ranks.waited > 0
    return found


def failing(ranks: Ranks, folder: Path) -> Any:
    """A rank that fails alone, when all have taken some steps."""
    training.CHECKPOINT_SECONDS = 0.0

    class Failing(Listener):
        def stepped(self, run: Run, characters: int) -> None:
            if run.progress.step == 5:
                raise MemoryError("no more of it")

    own = folder if ranks.is_first else folder / f"rank {ranks.number}"
    own.mkdir(exist_ok=True)
    listener = Failing() if ranks.number == 1 else Listener()
    run_folder = folder / "run" if ranks.is_first else None
    Run(
        recipe_of("text"), corpus_of("text", own), run_folder, listener=listener, ranks=ranks
    ).train()


def endless(ranks: Ranks, folder: Path) -> Any:
    """A run that is killed from outside; each rank says which process it is."""
    training.CHECKPOINT_SECONDS = 0.0

    class Telling(Listener):
        def stepped(self, run: Run, characters: int) -> None:
            if run.progress.step == 3:
                (folder / f"pid {ranks.number}").write_text(str(os.getpid()))

    run_folder = folder / "run" if ranks.is_first else None
    own = folder if ranks.is_first else folder / f"rank {ranks.number}"
    own.mkdir(exist_ok=True)
    recipe = recipe_of("text", steps=10**6)
    Run(recipe, corpus_of("text", own), run_folder, listener=Telling(), ranks=ranks).train()


def main() -> None:
    scenarios: dict[str, Callable[[Ranks, Path], Any]] = {
        each.__name__: each for each in (exchanging, learning, failing, endless)
    }
    ranks = ranks_here()
    assert ranks, "not under mpiexec"
    found = scenarios[sys.argv[1]](ranks, Path(sys.argv[2]))
    if ranks.is_first:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
