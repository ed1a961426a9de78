"""What temperature does: to the distribution, to novelty, to copies.

    python examples/understanding/temperature.py [--quick] [--folder docs/pictures]

With the dinosaurs that ship. The distribution: the perplexity of the next symbol, mean over all
places of the held-out names, which are read as they stand (teacher forcing). Samples: of a thousand
names at each temperature, the share that is new, that copies a name learned from, that was in the
list but held out, and how many are different. Then the same network's loss on true names beside
that on names of its own, which is what it meets when it reads what it has drawn.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as `python examples/...` too

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import charrnn
from charrnn.config import AS_DRAWN, CorpusConfig
from charrnn.evaluation import evaluate
from charrnn.ops import Array, Workspace, log_softmax
from charrnn.splits import split
from charrnn.tables import table
from charrnn.vocabulary import END
from examples.understanding.svg import PICTURES, Panel, document, panels, text

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0)
SEED_TEXT, SHOWN, LIKELIEST = "Tyran", (0.5, 1.0, 2.0), 8
RANDOM_SEED = 7


@dataclass(frozen=True)
class Samples:
    """Shares of the samples at one temperature, and their mean length in letters."""

    novel: float
    copies: float
    held_out: float
    different: float
    length: float


def sides(generator: charrnn.Generator) -> dict[str, Sequence[str]]:
    """The model's names by split, as it reads them."""
    frozen = generator.frozen
    config = CorpusConfig.checked(frozen.provenance["recipe"]["corpus"])
    return split(frozen.names, config)


def sampled(generator: charrnn.Generator, temperature: float, count: int) -> Samples:
    """Draw names and look where they come from."""
    learned = set(sides(generator)["train"])
    found = generator.generate(
        count=count,
        temperature=temperature,
        random_seed=RANDOM_SEED,
        max_length=60,
        **AS_DRAWN,
    )
    names = [sample.text for sample in found]
    copies = np.mean([name.lower() in learned for name in names])
    novel = np.mean([bool(sample.novel) for sample in found])
    return Samples(
        float(novel),
        float(copies),
        float(1 - novel - copies),
        len(set(names)) / len(names),
        float(np.mean([len(name) for name in names])),
    )


def logits_after(generator: charrnn.Generator, name: str) -> Array:
    """The logits of what follows each beginning of a name (T, V), the whole name included."""
    ids = generator.frozen.vocabulary.ids_of(END + name)
    model = generator.model
    return model.forward(ids[None], model.init_state(1))[0][0].astype(np.float64)


def perplexity(logits: Array, temperature: float) -> float:
    """exp of the mean entropy of softmax(logits / temperature)."""
    log_p = log_softmax(logits / temperature)
    return float(np.exp(-(np.exp(log_p) * log_p).sum(axis=1).mean()))


def bars(generator: charrnn.Generator) -> str:
    """The distribution after a beginning, at three temperatures, as a picture."""
    logits = logits_after(generator, SEED_TEXT.lower())[-1]
    symbols = generator.frozen.vocabulary.symbols
    order = np.argsort(-logits)[:LIKELIEST]
    parts = []
    for k, temperature in enumerate(SHOWN):
        left, p = 20 + 290 * k, np.exp(log_softmax(logits / temperature))
        parts.append(text(left, 18, f"after {SEED_TEXT}, temperature {temperature:g}", "title"))
        for row, id_ in enumerate(order):
            y, label = 34 + 20 * row, "end" if symbols[id_] == END else symbols[id_]
            size = f'width="{max(0.5, 170 * p[id_]):.1f}" height="13"'
            parts.append(text(left + 24, y + 11, label, "mono", "end"))
            parts.append(f'<rect class="s{k} solid" x="{left + 32}" y="{y}" {size}/>')
            place = left + 38 + 170 * p[id_]
            parts.append(text(place, y + 11, f"{p[id_]:.1%}", "small"))
    return document(890, 204, "The next letter at three temperatures", parts)


def lines(spread: Sequence[float], found: Sequence[Samples]) -> str:
    """Shares and perplexity against temperature, as a picture."""
    shares = {
        "new": [s.novel for s in found],
        "copies": [s.copies for s in found],
        "different": [s.different for s in found],
    }
    title, across = "perplexity of the next symbol", "temperature"
    bounds = (1, 1 + 5 * np.ceil(max(spread) / 5))
    both = [
        Panel("shares of the samples", across, TEMPERATURES, shares, (0, 1)),
        Panel(title, across, TEMPERATURES, {"on held-out names": spread}, bounds),
    ]
    return panels(both, "What temperature does")


def print_figures(spread: Sequence[float], found: Sequence[Samples]) -> None:
    """A line for each temperature."""
    rows = [
        (
            f"{t:g}",
            f"{wide:.2f}",
            *(f"{share:.1%}" for share in (s.novel, s.copies, s.held_out, s.different)),
            f"{s.length:.1f}",
        )
        for t, wide, s in zip(TEMPERATURES, spread, found, strict=True)
    ]
    head = ("temperature", "perplexity", "new", "copies", "held out", "different", "letters")
    print(table(head, rows))


def main() -> None:
    """Print the figures, write the pictures."""
    parser = argparse.ArgumentParser(description="What temperature does.")
    parser.add_argument("--quick", action="store_true", help="twenty samples instead of 1,000")
    parser.add_argument("--folder", type=Path, default=PICTURES)
    chosen = parser.parse_args()
    generator, count = charrnn.load("dinosaurs"), 20 if chosen.quick else 1000
    held_out = sides(generator)["test"]
    logits = np.concatenate([logits_after(generator, name) for name in held_out])
    spread = [perplexity(logits, t) for t in TEMPERATURES]
    found = [sampled(generator, t, count) for t in TEMPERATURES]
    print_figures(spread, found)
    own = [
        s.text.lower() for s in generator.generate(count=count, random_seed=RANDOM_SEED, **AS_DRAWN)
    ]
    for what, names in (("test names", held_out), ("names of its own", own)):
        loss = evaluate(generator.model, names, generator.frozen.vocabulary, Workspace())
        print(f"loss on {what}: {loss.nats_per_character:.3f} nats a character")
    (chosen.folder / "temperature.svg").write_text(lines(spread, found), encoding="utf-8")
    (chosen.folder / "next.svg").write_text(bars(generator), encoding="utf-8")


if __name__ == "__main__":
    main()
