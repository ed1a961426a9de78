"""What was tried for lists of names and is not in the program: the best validation loss of each,
as mean and spread over splits, and the difference from the recipe on the same splits.

    python benchmarks/tried.py data/dinosaurs.txt --seeds 3 --steps 700

Smoothed labels (Szegedy et al. 2016, "Rethinking the Inception architecture"): a share of each
target is spread over all symbols. Letters read as others: in training a share of the letters that
are read, not of those that are foretold, changes places within its batch (Xie et al. 2017, "Data
noising as smoothing in neural network language models"). Several networks: the mean of their
probabilities, each trained as the recipe says from a random seed of its own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as `python benchmarks/...` too

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import charrnn.model
import charrnn.packed
from benchmarks.recipes import run_of, spread
from charrnn.batches import NameFeed
from charrnn.ops import cross_entropy, log_softmax
from charrnn.packed import Batch
from charrnn.parameters import Array
from charrnn.training import Run, Trained

SMOOTHED, OTHERS, NETWORKS = 0.05, (0.05, 0.1), 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="splits")
    parser.add_argument("--steps", type=int, default=700)
    options = parser.parse_args()
    runs = partial(run_of, options.data, {"steps": options.steps})
    ways: dict[str, Callable[[int], float]] = {
        "the recipe": lambda split: best(runs(split, split)),
        f"label smoothing {SMOOTHED}": lambda split: smoothed(runs(split, split)),
    }
    for share in OTHERS:
        ways[f"{share:.0%} of the letters read as others"] = partial(
            lambda share, split: with_others(runs(split, split), share), share
        )
    ways[f"the mean of {NETWORKS} networks"] = lambda split: together(
        [runs(split, split + 100 * n) for n in range(NETWORKS)]
    )
    print(f"{'validation':>15}  {'from the first':>17}  what")
    first: list[float] = []
    for name, way in ways.items():
        losses = [way(split) for split in range(options.seeds)]
        first = first or losses
        differences = [loss - other for loss, other in zip(losses, first, strict=True)]
        print(f"{spread(losses, '.4f')}  {spread(differences, '+.4f')}  {name}", flush=True)


def best(run: Run) -> float:
    """The best validation loss of a run."""
    return run.train().progress.best_loss


@contextmanager
def instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value of an attribute, for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def smoothed(run: Run) -> float:
    """With smoothed labels. The gradient of the cross-entropy is softmax(logits) less the target;
    the smoothed target is (1 - s) times the symbol's own, and s / V everywhere.
    """

    def with_smoothed(logits: Array, targets: Array, scale: float | None = None) -> float:
        loss = cross_entropy(logits, targets, scale)
        if scale is not None:
            logits -= scale * SMOOTHED / len(logits)
            logits[targets, np.arange(len(targets))] += scale * SMOOTHED
        return loss

    with instead(charrnn.packed, "cross_entropy", with_smoothed):
        return best(run)


def with_others(run: Run, share: float) -> float:
    """With a share of the letters read as others of the batch, drawn anew in each step."""
    plain = NameFeed.batch

    def batch(feed: NameFeed, step: int) -> Batch:
        whole, rng = plain(feed, step), np.random.default_rng([run.config.random_seed, 9, step])
        moved = np.flatnonzero(rng.random(len(whole.ids)) < share)
        ids = whole.ids.copy()
        ids[moved] = whole.ids[rng.permutation(moved)]
        return replace(whole, ids=ids)

    with instead(NameFeed, "batch", batch):
        return best(run)


def together(runs: list[Run]) -> float:
    """The loss of the mean of the probabilities of several networks, on the validation names."""
    found = [logprobs(run.train(), run) for run in runs]
    return float(np.log(len(found)) - np.logaddexp.reduce(found).mean())


def logprobs(trained: Trained, run: Run) -> Array:
    """(N,) the log-probability of each symbol of the validation names, and of their ends."""
    model, vocabulary = (
        charrnn.model.CharRNN(trained.model.config, trained.model.params),
        run.corpus.vocabulary,
    )
    rows = []
    for name in run.corpus.sequences["validation"]:
        targets = [*vocabulary.encode(name).tolist(), vocabulary.end]
        ids = np.array([[vocabulary.start, *targets[:-1]]])
        logits, _, _ = model.forward(ids, model.init_state(1))
        exact = log_softmax(logits[0].astype(np.float64))
        rows.append(exact[np.arange(len(targets)), targets])
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
