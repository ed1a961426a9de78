"""Words: the recipes of `examples/words` on a text, how the loss falls, and what the time goes to.

    python benchmarks/words.py text.txt [--recipes reference better] [--steps 200]

Loss in nats per word (marks and the end of a sentence count as words), on held-out sentences.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import math
import time

from charrnn.corpus import load_corpus
from charrnn.evaluation import Loss
from charrnn.generator import Generator
from charrnn.memory import peak_memory
from charrnn.recipe import read_recipe
from charrnn.tables import table
from charrnn.training import Listener, Run

RECIPES = Path(__file__).resolve().parent.parent / "examples" / "words"


class Course(Listener):
    """The validation losses of a run."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def evaluated(self, run: Run, validation: Loss) -> None:
        """Keep it, and say it."""
        row = (f"{run.progress.step:,}", f"{run.progress.training_loss:.3f}")
        self.rows.append((*row, f"{validation.nats_per_character:.4f}"))
        print("  ".join(self.rows[-1]), file=sys.stderr, flush=True)


def measure(name: str, text: Path, steps: int | None) -> tuple[str, ...]:
    """Train by a recipe, print its course and some sentences; a row of the last table."""
    recipe = read_recipe(RECIPES / f"{name}.toml")
    corpus = load_corpus([text], recipe.corpus)
    if steps:
        recipe = recipe.changed(training=recipe.training.changed(steps=steps))
    course, processor = Course(), time.process_time()
    trained = Run(recipe, corpus, listener=course).train()
    processor = time.process_time() - processor
    test = Loss(**trained.model.evaluation["test"])
    print(
        f"\n{name}: {len(corpus.vocabulary):,} symbols, ln {math.log(len(corpus.vocabulary)):.3f}"
    )
    print(table(("step", "training", "validation"), course.rows))
    for sample in Generator(name, "", trained.model).generate(count=8, random_seed=0):
        print(f"  {sample.text}")
    peak = peak_memory()
    return (
        name,
        f"{test.nats_per_character:.4f}",
        f"{test.perplexity:.1f}",
        f"{processor:.0f}",
        f"{peak / 1e6:.0f}" if peak else "",
    )


def main() -> None:
    """Train by each recipe in turn."""
    parser = argparse.ArgumentParser(description="Train the recipes of words on a text.")
    parser.add_argument("text", type=Path)
    parser.add_argument("--recipes", nargs="+", default=["reference", "better"])
    parser.add_argument("--steps", type=int, help="instead of each recipe's own")
    options = parser.parse_args()
    rows = [measure(name, options.text, options.steps) for name in options.recipes]
    head = ("recipe", "test, nats/word", "perplexity", "processor seconds", "peak MB so far")
    print(f"\n{table(head, rows)}")


if __name__ == "__main__":
    main()
