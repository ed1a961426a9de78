"""Why gradients vanish, measured: the norm of dL/dh against distance in time.

    python examples/understanding/distance.py [--quick] [--folder docs/pictures]

The loss of one character of running text, taken back through time by each cell's own `backward`,
for the vanilla network, the GRU and the LSTM: at the start, and after training on rex-chat.txt.
What is drawn is the mean norm over so many places of the held-out text, as a part of that at
distance 0. An LSTM has a second way, its cell state: dL/dc is drawn too.

How often clipping (to a norm of 1) was at work in training is counted on the way.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as `python examples/...` too

import argparse

import numpy as np

from charrnn.cells import CELLS
from charrnn.config import CorpusConfig
from charrnn.corpus import Corpus, load_corpus
from charrnn.model import CharRNN
from charrnn.ops import Array, cross_entropy
from charrnn.recipe import Recipe
from charrnn.tables import table
from charrnn.training import Run
from examples.understanding.svg import PICTURES, Panel, panels

TEXT = Path(__file__).resolve().parents[2] / "data" / "rex-chat.txt"
DISTANCE, PLACES = 60, 64
SHOWN = (1, 5, 10, 20, 40, 60)
Norms = dict[str, Array]
"""For each part of the state, "h" and perhaps "c": mean norms by distance (DISTANCE + 1,)."""


def gradient_norms(model: CharRNN, ids: Array, targets: Array) -> Norms:
    """Mean norms of the gradient of the last character's loss, by each state before it.

    Args:
        model: of one layer.
        ids: (B, T), read from a zero state.
        targets: (B,), what follows the last.
    """
    logits, _, (_, caches) = model.forward(ids, model.init_state(len(ids)))
    dlogits = logits[:, -1].T.copy()  # (V, B)
    cross_entropy(dlogits, targets, scale=1.0)
    layer = model.params.layer("layers.0.")
    dstate = np.zeros_like(model.init_state(len(ids))[0])  # (S, B, H)
    dstate[0] = dlogits.T @ model.params["out.V"].T
    found = []
    for (_, cache), _ in reversed(caches):
        found.append(np.linalg.norm(dstate, axis=2).mean(axis=1))
        _, dstate, _ = model.cell.backward(layer, dstate, cache)
    return dict(zip(model.cell.parts, np.array(found).T, strict=True))


def probe(model: CharRNN, corpus: Corpus) -> Norms:
    """The norms at places of the held-out text, as a part of dL/dh at distance 0."""
    text = "".join(corpus.sequences["test"])
    ids = corpus.vocabulary.ids_of(text)
    starts = np.linspace(0, len(ids) - DISTANCE - 30, PLACES).astype(int)
    windows = ids[starts[:, None] + np.arange(DISTANCE + 22)]  # twenty characters to settle in
    wide = CharRNN(model.config, model.params.astype(np.float64))
    norms = gradient_norms(wide, windows[:, :-1], windows[:, -1])
    return {part: values[: DISTANCE + 1] / norms["h"][0] for part, values in norms.items()}


def measure(cell: str, corpus: Corpus, steps: int) -> tuple[Norms, Norms, float, Array]:
    """At the start, trained; the validation loss; the norm of the gradient at each step."""
    recipe = Recipe.checked(
        {
            "name": "distance",
            "data": [str(TEXT)],
            "network": {"cell": cell, "hidden_size": 128, "dropout": 0.0},
            "training": {
                "steps": steps,
                "batch_size": 32,
                "learning_rate": 0.02,
                "weight_decay": 0.0,
            },
        }
    )
    gradients: list[float] = []
    run = Run(recipe, corpus, reduce=lambda flat: gradients.append(float(np.linalg.norm(flat))))
    start = probe(run.model, corpus)
    frozen = run.train().model
    trained = probe(CharRNN(frozen.config, frozen.params), corpus)
    return (
        start,
        trained,
        frozen.evaluation["validation"]["nats_per_character"],
        np.array(gradients),
    )


def panel(title: str, found: dict[str, Norms]) -> Panel:
    """The lines of all cells."""
    lines = {f"{cell}, dL/dh": norms["h"] for cell, norms in found.items()}
    lines["lstm, dL/dc"] = found["lstm"]["c"]
    return Panel(
        title,
        "distance in time, characters",
        range(DISTANCE + 1),
        {name.removesuffix(", dL/dh"): line.tolist() for name, line in lines.items()},
        (1e-8, 1),
        logarithmic=True,
        dashed=["lstm, dL/dc"],
    )


def main() -> None:
    """Train the three, print the figures, write the picture."""
    parser = argparse.ArgumentParser(description="Gradients against distance in time.")
    parser.add_argument("--quick", action="store_true", help="three steps of training")
    parser.add_argument("--folder", type=Path, default=PICTURES)
    chosen = parser.parse_args()
    corpus = load_corpus([TEXT], CorpusConfig(kind="text"))
    starts: dict[str, Norms] = {}
    trained: dict[str, Norms] = {}
    rows = []
    for cell in ("rnn", "gru", "lstm"):
        assert cell in CELLS
        start, after, loss, norms = measure(cell, corpus, 3 if chosen.quick else 1500)
        starts[cell], trained[cell] = start, after
        for when, found in (("start", start), ("trained", after)):
            for part, values in found.items():
                rows.append((cell, when, f"dL/d{part}", *(f"{values[k]:.1e}" for k in SHOWN)))
        clipped, late = (norms > 1).mean(), norms[len(norms) // 2 :]
        print(
            f"{cell}: validation {loss:.3f} nats a character; gradient norm median "
            f"{np.median(norms):.3f}, largest {norms.max():.2f}, "
            f"largest in the second half {late.max():.2f}; clipped in {clipped:.1%} of the steps"
        )
    print(table(("cell", "when", "norm", *(f"{k} back" for k in SHOWN)), rows))
    both = [panel("at the start", starts), panel("after training", trained)]
    picture = panels(both, "The norm of the gradient against distance in time")
    (chosen.folder / "distance.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
