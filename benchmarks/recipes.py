"""Compare training recipes on one list: the best validation loss and where in the run it came, as
mean and spread over several splits and random seeds, and the difference from the first recipe on
the same splits. The defaults by size in `charrnn/recipe.py` were chosen by these figures; test
names take no part.

    python benchmarks/recipes.py data/dinosaurs.txt --seeds 3 \
        hidden_size=256,dropout=0.6,steps=900 hidden_size=128,dropout=0.5,steps=900
    python benchmarks/recipes.py data/dinosaurs.txt --take 300 --seeds 5 steps=300 ""

What a recipe doesn't say is the default for the size of the list. `--take` makes a list of another
size out of one: so many lines drawn at random, others for each seed.
"""

import argparse
import random
import statistics
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from charrnn.config import NetworkConfig
from charrnn.corpus import load_corpus
from charrnn.recipe import Recipe, recipe_for
from charrnn.training import Run


class Result(NamedTuple):
    """Of one run: the best validation loss, nats per character; at which fraction of the run it
    came; seconds of the processor.
    """

    loss: float
    place: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("settings", nargs="+", help="name=value,name=value for each recipe")
    parser.add_argument("--seeds", type=int, default=3, help="splits and random seeds of each")
    parser.add_argument("--take", type=int, help="learn from so many lines, drawn at random")
    options = parser.parse_args()
    print(f"{'validation':>15}  {'from the first':>17}  best at  seconds  recipe")
    first: list[Result] = []
    for settings in options.settings:
        values = tomllib.loads(settings.replace(",", "\n"))
        with tempfile.TemporaryDirectory() as folder:
            runs = [
                one_run(taken(options.data, options.take, seed, Path(folder)), values, seed)
                for seed in range(options.seeds)
            ]
        first = first or runs
        differences = [run.loss - other.loss for run, other in zip(runs, first, strict=True)]
        losses, places, seconds = zip(*runs, strict=True)
        print(
            f"{spread(losses, '.4f')}  {spread(differences, '+.4f')}  "
            f"{statistics.mean(places):6.0%}  {statistics.mean(seconds):7.1f}  "
            f"{settings or 'the defaults'}",
            flush=True,
        )


def spread(values: Any, form: str) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{form}} ± {deviation:.4f}"


def taken(data: Path, count: int | None, seed: int, folder: Path) -> Path:
    """The file itself, or one with so many of its lines."""
    if count is None:
        return data
    lines = [line for line in data.read_text("utf-8").splitlines() if line.strip()]
    part = folder / f"{data.stem}-{count}-{seed}.txt"
    part.write_text("\n".join(random.Random(seed).sample(lines, count)) + "\n", "utf-8")
    return part


def run_of(data: Path, values: dict[str, Any], split: int, random_seed: int) -> Run:
    """A training of the recipe for a list's size, but for these values."""
    network = {k: v for k, v in values.items() if k in NetworkConfig.fields()}
    training = {k: v for k, v in values.items() if k not in network}
    recipe = Recipe.checked(
        {
            **recipe_for(data).said(),
            "corpus": {"salt": f"split {split}"},
            "network": network,
            "training": {"processes": 1, **training, "random_seed": random_seed},
        }
    )
    return Run(recipe, load_corpus([data], recipe.corpus))


def one_run(data: Path, values: dict[str, Any], seed: int) -> Result:
    """One split, one random seed."""
    run = run_of(data, values, seed, seed)
    started = time.process_time()
    progress = run.train().progress
    place = progress.best_step / progress.step
    return Result(progress.best_loss, place, time.process_time() - started)


if __name__ == "__main__":
    main()
