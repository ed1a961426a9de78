"""Compare training recipes on one list: the best validation loss and where it came, as mean and
spread over several splits and random seeds. The defaults by size in `charrnn/recipe.py` were chosen
by these figures; test names take no part.

    python benchmarks/recipes.py data/dinosaurs.txt --seeds 3 \
        hidden_size=256,dropout=0.6,steps=900 hidden_size=128,dropout=0.5,steps=900
"""

import argparse
import statistics
import time
import tomllib
from pathlib import Path
from typing import Any

from charrnn.config import NetworkConfig
from charrnn.corpus import load_corpus
from charrnn.recipe import Recipe, recipe_for
from charrnn.training import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("settings", nargs="+", help="name=value,name=value for each recipe")
    parser.add_argument("--seeds", type=int, default=3, help="splits and random seeds of each")
    options = parser.parse_args()
    print(f"{'validation':>22}  {'best at':>8}  {'seconds':>8}  recipe")
    for settings in options.settings:
        values = tomllib.loads(settings.replace(",", "\n"))
        runs = [one_run(options.data, values, seed) for seed in range(options.seeds)]
        losses, places, seconds = zip(*runs, strict=True)
        spread = statistics.stdev(losses) if len(losses) > 1 else 0.0
        print(
            f"{statistics.mean(losses):13.4f} ± {spread:.4f}  {statistics.mean(places):7.0%}  "
            f"{statistics.mean(seconds):8.1f}  {settings}",
            flush=True,
        )


def one_run(data: Path, values: dict[str, Any], seed: int) -> tuple[float, float, float]:
    """Best validation loss, at which fraction of the run, seconds."""
    network = {k: v for k, v in values.items() if k in NetworkConfig.fields()}
    training = {k: v for k, v in values.items() if k not in network}
    recipe = Recipe.checked(
        {
            **recipe_for(data).said(),
            "corpus": {"salt": f"split {seed}"},
            "network": network,
            "training": {"processes": 1, **training, "random_seed": seed},
        }
    )
    run = Run(recipe, load_corpus([data], recipe.corpus))
    started = time.monotonic()
    progress = run.train().progress
    return progress.best_loss, progress.best_step / progress.step, time.monotonic() - started


if __name__ == "__main__":
    main()
