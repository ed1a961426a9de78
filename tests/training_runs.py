"""Small trainings for the tests, and a process that runs one to be killed.

python -m tests.training_runs names FOLDER 2   # trains in 2 processes; then FOLDER/weights.bin
python -m tests.training_runs memory FOLDER BUDGET
                                               # bytes held before; told at the start; held at most
"""

import json
import sys
from pathlib import Path

from charrnn import training
from charrnn.config import CorpusConfig
from charrnn.corpus import Corpus, load_corpus
from charrnn.memory import peak_memory
from charrnn.recipe import Recipe
from charrnn.training import Listener, Run
from tests.processes import process_ids

SYLLABLES = ("ka", "ro", "mi", "tu", "sen", "bal", "dor", "eth", "vy", "ne")


def name_list(count: int) -> str:
    """Different made-up names, the same ones every time."""
    n = len(SYLLABLES)
    picks = ((k % n, k // n % n, (k * k + 3) % n) for k in range(count))
    return "\n".join(
        "".join(SYLLABLES[p] for p in pick) + SYLLABLES[k % 7] for k, pick in enumerate(picks)
    )


def running_text(characters: int) -> str:
    """Sentences that can be learned, the same ones every time."""
    n = len(SYLLABLES)
    words = [SYLLABLES[k % n] + SYLLABLES[(k * k + k // 3) % n] for k in range(characters)]
    lines = [" ".join(words[k : k + 7]) + "." for k in range(0, len(words), 7)]
    return "\n".join(lines)[:characters]


def talks(count: int) -> str:
    """Conversations, the same ones every time."""
    names = name_list(count).split("\n")
    return "\n\n".join(f"> what is {name} to you?\na word, {name}." for name in names)


def small_corpus(kind: str, folder: Path) -> Corpus:
    path = folder / f"{kind}.txt"
    path.write_text({"names": name_list(120), "chat": talks(60)}.get(kind, running_text(6_000)))
    return load_corpus([path], CorpusConfig.checked({"kind": kind}))


def small_recipe(kind: str, *, network: dict | None = None, **values: object) -> Recipe:
    return Recipe.checked(
        {
            "name": "small",
            "data": [f"{kind}.txt"],
            "network": {
                **{"cell": "lstm", "hidden_size": 12, "dropout": 0.2},
                **{"dropout_mask": "step", "recurrent_dropout": 0.0},  # not those of a list's size
                **(network or {}),
            },
            "training": {
                "steps": 60,
                "batch_size": 8,
                "seq_length": 10,
                "evaluate_every": 7,
                "averaging": 0.9,
                "processes": 1,
                **values,
            },
        }
    )


def print_memory(folder: Path, budget: str) -> None:
    """A run of middle size, in a process that has done nothing else."""
    figures, held = [peak_memory() or 0], [0]

    class Told(Listener):
        def started(self, run: Run) -> None:
            figures.append(run.estimated_memory() or 0)

        def evaluated(self, run: Run, validation: object) -> None:
            held[:] = [
                (peak_memory(pid) or 0) - 2 * run.params.flat.nbytes
                for pid in process_ids(run.team)
            ]

    path = folder / "text.txt"
    path.write_text(running_text(60_000))
    corpus = load_corpus([path], CorpusConfig.checked({"kind": "text"}))
    sizes = {"batch_size": 32, "seq_length": 32, "evaluate_every": 2}
    recipe = small_recipe("text", network={"hidden_size": 256}, **sizes, **json.loads(budget))
    Run(recipe, corpus, folder / "run", listener=Told()).train()
    figures.append((peak_memory() or 0) + sum(held))
    sys.stdout.write(" ".join(map(str, figures)))


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    if kind == "memory":
        print_memory(folder, sys.argv[3])
        return
    training.CHECKPOINT_SECONDS = 0.02
    larger = {"hidden_size": 64, "num_layers": 2}
    recipe = small_recipe(kind, network=larger, steps=200, processes=int(sys.argv[3]))
    trained = Run(recipe, small_corpus(kind, folder), folder / "run").train()
    (folder / "weights.partial").write_bytes(trained.data)
    (folder / "weights.partial").rename(folder / "weights.bin")


def stopping_after(steps):
    """A question that is answered yes once, after so many steps."""
    asked = iter(range(10**9))
    return lambda: next(asked) == steps


if __name__ == "__main__":
    main()
