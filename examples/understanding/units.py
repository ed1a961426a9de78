"""What single hidden units respond to.

    python examples/understanding/units.py [--quick] [--folder docs/pictures]

The dinosaurs that ship read every name of their list; each hidden unit gives a number after each
letter. For each thing that one can say of a place in a name, the unit that goes with it best
(largest correlation) is looked for on the training names, and judged on the test names. With so
many units the best one always shows something: so the same search is made for a thing that means
nothing, a coin tossed at each place.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as `python examples/...` too

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

import charrnn
from charrnn.ops import Array
from charrnn.tables import table
from charrnn.vocabulary import END
from examples.understanding.svg import PICTURES, document, text
from examples.understanding.temperature import sides

VOWELS = "aeiouy"
NAMES_SHOWN = 9
PICTURED = ("a vowel just read", "letters read so far", "within a last -saurus", "the name is over")

# What one can say of the place after the k-th letter of a name, as a number.
FEATURES: dict[str, Callable[[str, int], float]] = {
    "a vowel just read": lambda name, k: name[k] in VOWELS,
    "a vowel comes next": lambda name, k: k + 1 < len(name) and name[k + 1] in VOWELS,
    "the letter s just read": lambda name, k: name[k] == "s",
    "letters read so far": lambda name, k: k + 1,
    "letters still to come": lambda name, k: len(name) - k - 1,
    "the name is over": lambda name, k: k + 1 == len(name),
    "within a last -saurus": lambda name, k: name.endswith("saurus") and k >= len(name) - 6,
    "a doubled letter": lambda name, k: k > 0 and name[k] == name[k - 1],
}


@dataclass(frozen=True)
class Found:
    """A feature, the unit that goes with it best, and their correlations."""

    feature: str
    unit: int
    training: float
    test: float


def states(generator: charrnn.Generator, names: Sequence[str]) -> Array:
    """The last layer's hidden state after each letter of each name, (places, H)."""
    model, vocabulary, found = generator.model, generator.frozen.vocabulary, []
    for name in names:
        state = model.init_state(1)
        for id_ in vocabulary.ids_of(END + name):
            _, state = model.step(np.array([id_]), state)
            found.append(state[-1, 0, 0])
        del found[-len(name) - 1]  # after the start symbol, no letter is read yet
    return np.array(found, np.float64)


def values(names: Sequence[str], feature: Callable[[str, int], float]) -> Array:
    """A feature at each place, (places,)."""
    return np.array([float(feature(name, k)) for name in names for k in range(len(name))])


def correlations(units: Array, feature: Array) -> Array:
    """Pearson's r of each unit with a feature, (H,); 0 where either never changes."""
    u, f = units - units.mean(axis=0), feature - feature.mean()
    scale = np.sqrt((u * u).sum(axis=0) * (f @ f))
    return np.divide(f @ u, scale, out=np.zeros(units.shape[1]), where=scale > 0)


def search(generator: charrnn.Generator, limit: int | None = None) -> list[Found]:
    """The best unit for each feature, and for a coin."""
    both = [sides(generator)[side][:limit] for side in ("train", "test")]
    read = [states(generator, names) for names in both]
    coin = np.random.default_rng(0)
    features = {**FEATURES, "a coin, tossed at each place": lambda *_: float(coin.random() < 0.5)}
    found = []
    for label, feature in features.items():
        training, test = (
            correlations(units, values(names, feature))
            for units, names in zip(read, both, strict=True)
        )
        unit = int(np.abs(training).argmax())
        found.append(Found(label, unit, float(training[unit]), float(test[unit])))
    return found


def picture(generator: charrnn.Generator, found: Sequence[Found]) -> str:
    """Test names, each letter coloured by what some units are after it."""
    names = sorted(sides(generator)["test"], key=len)
    names = names[4 :: max(1, len(names) // NAMES_SHOWN)][:NAMES_SHOWN]
    parts, by_feature = [], {each.feature: each for each in found}
    for k, label in enumerate(PICTURED):
        unit, left = by_feature[label].unit, 16 + 440 * (k % 2)
        top = 26 + (44 + 21 * NAMES_SHOWN) * (k // 2)
        parts.append(text(left, top, f"unit {unit}: {label}", "title"))
        for row, name in enumerate(names):
            for t, value in enumerate(states(generator, [name])[:, unit]):
                x, y = left + 17 * t, top + 10 + 21 * row
                kind = "s1" if value > 0 else "s0"
                shade = f'class="{kind} solid" opacity="{0.85 * abs(value):.2f}"'
                parts.append(f'<rect {shade} x="{x}" y="{y}" width="16" height="18"/>')
                parts.append(text(x + 8, y + 13, name[t], "mono", "middle"))
    height = 26 + (44 + 21 * NAMES_SHOWN) * 2
    parts.append(text(16, height - 14, "orange: near 1, blue: near -1, no colour: near 0", "small"))
    return document(890, height, "What single hidden units respond to", parts)


def main() -> None:
    """Print the correlations, write the picture."""
    parser = argparse.ArgumentParser(description="What single hidden units respond to.")
    parser.add_argument("--quick", action="store_true", help="twenty names of each side")
    parser.add_argument("--folder", type=Path, default=PICTURES)
    chosen = parser.parse_args()
    generator = charrnn.load("dinosaurs")
    found = search(generator, 20 if chosen.quick else None)
    rows = [(f.feature, f"{f.unit}", f"{f.training:+.2f}", f"{f.test:+.2f}") for f in found]
    print(table(("after a letter", "best unit", "r, training names", "r, test names"), rows))
    (chosen.folder / "units.svg").write_text(picture(generator, found), encoding="utf-8")


if __name__ == "__main__":
    main()
