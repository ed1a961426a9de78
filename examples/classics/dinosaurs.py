"""Classic 6: the dinosaur-name exercise of the sequence-models course, and ours beside it.

    python examples/classics/dinosaurs.py [--quick]

The exercise: a vanilla network of 50 units, normal start with standard deviation 0.01; one name an
iteration, in an order shuffled once; the first input is a zero vector, the last target a newline;
the state carried on from name to name; gradients of the summed loss clipped to ±5; SGD at 0.01;
35,000 iterations; the loss of a name smoothed by 0.999, from 7 ln 27.

Its figure is a training loss, 22.447 a name after iteration 34,000 in the exercise's expected
output, on its own list (1,536 names, 19,909 symbols, so 12.96 a name; ours has 12.70). It never
measured names that it hadn't learned from. Here it learns from the training names of our split, and
is measured on the test names; so is ours, given the same number of names to read.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as `python examples/...` too

import argparse
from collections.abc import Sequence

import numpy as np

from charrnn.config import CorpusConfig, ModelConfig
from charrnn.corpus import Corpus, load_corpus
from charrnn.evaluation import Loss, evaluate
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.optimizers import clip_by_value
from charrnn.packed import Batch
from charrnn.recipe import Recipe, read_recipe
from charrnn.tables import table
from charrnn.training import Run
from charrnn.vocabulary import END, Vocabulary

ITERATIONS, HIDDEN, RATE, CLIP = 35_000, 50, 0.01, 5.0
RECIPE = Path(__file__).resolve().parents[2] / "data" / "dinosaurs.toml"


class Exercise:
    """The exercise's training, step by step."""

    def __init__(self, names: Sequence[str], vocabulary: Vocabulary, hidden: int = HIDDEN) -> None:
        config = ModelConfig(
            cell="rnn", hidden_size=hidden, vocab_size=len(vocabulary), init="normal"
        )
        rng = np.random.default_rng(0)
        self.model = CharRNN.initialized(config, rng, np.float64)
        self.names = [vocabulary.ids_of(END + names[k] + END) for k in rng.permutation(len(names))]
        # Our first input is the end symbol. With its row of U zero it is the zero vector.
        self.end = vocabulary.symbols.index(END)
        self.model.params["layers.0.U"][self.end] = 0
        self.grads, self.work = self.model.params.like(), Workspace()
        self.state, self.count = self.model.init_state(1), 0
        self.smooth = 7 * np.log(len(vocabulary))

    def step(self) -> float:
        """One name. Its loss, nats."""
        ids = self.names[self.count % len(self.names)]
        batch = Batch(ids[:-1], ids[1:], np.ones(len(ids) - 1, int))
        mean, self.state, _ = self.model.loss_and_grads(batch, self.state, self.grads, self.work)
        gradient = self.grads.flat
        gradient *= len(batch.ids)  # the exercise's loss is a sum
        clip_by_value(gradient, CLIP)
        self.grads["layers.0.U"][self.end] = 0
        self.model.params.flat[:] -= RATE * gradient
        self.count += 1
        loss = mean * len(batch.ids)
        self.smooth = 0.999 * self.smooth + 0.001 * loss
        return loss


def exercise(
    names: Sequence[str], corpus: Corpus, iterations: int = ITERATIONS
) -> tuple[float, Loss]:
    """The smoothed training loss at the end, nats a name, and the loss on the test names."""
    assert isinstance(corpus.vocabulary, Vocabulary)  # characters
    run = Exercise(names, corpus.vocabulary)
    for _ in range(iterations):
        run.step()
    test = evaluate(run.model, corpus.sequences["test"], corpus.vocabulary, run.work)
    return run.smooth, test


def ours(recipe: Recipe, corpus: Corpus, names_read: int) -> Loss:
    """The loss on the test names of a recipe that reads so many names."""
    steps = max(1, round(names_read / (recipe.training.batch_size or 1)))
    whole = recipe.changed(training=recipe.training.changed(steps=steps))
    return Loss(**Run(whole, corpus).train().model.evaluation["test"])


def main() -> None:
    """Print the exercise's losses, and ours."""
    parser = argparse.ArgumentParser(description="The dinosaur-name exercise, and ours.")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the iterations")
    iterations = ITERATIONS // 100 if parser.parse_args().quick else ITERATIONS
    recipe = read_recipe(RECIPE)
    corpus = load_corpus(recipe.paths(RECIPE.parent), CorpusConfig(kind="names", case="title"))
    learned = corpus.sequences["train"]
    smooth, _ = exercise(corpus.names, corpus, iterations)
    on_split, test = exercise(learned, corpus, iterations)
    vanilla = recipe.changed(
        network=recipe.network.changed(
            cell="rnn", hidden_size=HIDDEN, dropout=0.0, recurrent_dropout=0.0
        )
    )
    found = [
        (f"the exercise, all {len(corpus.names):,} names", f"{smooth:.2f}", "", ""),
        (
            f"the exercise, the {len(learned):,} training names",
            f"{on_split:.2f}",
            *figures(test),
        ),
        (
            f"our recipe, vanilla with {HIDDEN} units",
            "",
            *figures(ours(vanilla, corpus, iterations)),
        ),
        ("our recipe (GRU, 256 units)", "", *figures(ours(recipe, corpus, iterations))),
    ]
    print(f"{iterations:,} names read by each; the original: 22.45 in training, on its own list")
    head = ("", "training, nats/name", "test, nats/name", "test, nats/char")
    print(table(head, found))


def figures(loss: Loss) -> tuple[str, str]:
    """A loss as two cells."""
    return f"{loss.nats_per_sequence:.2f}", f"{loss.nats_per_character:.3f}"


if __name__ == "__main__":
    main()
