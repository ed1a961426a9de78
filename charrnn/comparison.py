"""How generated names compare with real ones that the network has never seen.

Owns the measures and what they are held against; drawing is the generator's, loss `evaluation`'s.
All measures are of names as the model reads them (in lower case, where it learned so).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from charrnn.conditions import Names
from charrnn.config import AS_DRAWN, CorpusConfig, EvaluationConfig
from charrnn.gate import REPEATING
from charrnn.generator import Generator
from charrnn.splits import split
from charrnn.vocabulary import END

Sides = dict[str, Sequence[str]]  # the names of each split

NEAREST = 2_000  # names whose nearest neighbour is looked for: a mean good to about 0.004
MOST_CHUNKS = 50  # samples that are held against the same real names
TEXTS = 100  # of running text at most: each is as long as dozens of names


@dataclass(frozen=True)
class Drawn:
    """Texts drawn freely, as the model reads them; whether each came to its own end; and the
    network's own nats for each, at temperature 1.
    """

    texts: tuple[str, ...]
    ended: tuple[bool, ...]
    nats: tuple[float, ...]

    def first(self, count: int) -> "Drawn":
        """The first `count` of them."""
        return Drawn(self.texts[:count], self.ended[:count], self.nats[:count])

    @property
    def nats_per_character(self) -> float:
        """The mean over all symbols drawn, ends included."""
        return sum(self.nats) / max(1, sum(map(len, self.texts)) + sum(self.ended))


@dataclass(frozen=True)
class Measure:
    """A figure of the generated names beside the same one of real names."""

    generated: float
    real: float


@dataclass(frozen=True)
class Comparison:
    """Shares are from 0 to 1, distances too. `rediscovered` counts test names among
    `rediscovery_samples` draws, `repeated` training names.
    """

    temperature: float
    random_seed: int
    samples: int
    novel: float
    """Share of draws that are nowhere in the list."""
    distinct: float
    """Different names, over draws."""
    valid_lengths: float
    """Share of draws that end by themselves, no shorter and no longer than the list's names."""
    letter_pairs: Measure
    """Total variation between the distributions of letter pairs, ends included."""
    lengths: Measure
    """Total variation between the distributions of lengths."""
    nearest: Measure
    """Mean normalised edit distance to the nearest name that was learned from."""
    nats_per_character: Measure
    """What the network itself finds its draws worth, at temperature 1, beside the test names: at
    temperature 1 it is too sure of itself by as much as the first is smaller.
    """
    rediscovery_samples: int
    rediscovered: int
    test_names: int
    repeated: int
    training_names: int

    def to_json(self) -> dict[str, Any]:
        """Every figure, by name."""
        return asdict(self)


@dataclass(frozen=True)
class TextComparison:
    """Of running text, which a weights file doesn't hold: shares of `samples` texts."""

    temperature: float
    random_seed: int
    samples: int
    distinct: float
    empty: float
    repeating: float
    """Share of texts that repeat one to four characters five times running."""
    nats_per_character: Measure
    """As of names; beside the test blocks."""

    def to_json(self) -> dict[str, Any]:
        """Every figure, by name."""
        return asdict(self)


def drawn(generator: Generator, count: int, temperature: float, random_seed: int) -> Drawn:
    """Texts as the network gives them."""
    samples = generator.generate(
        count=count,
        temperature=temperature,
        random_seed=random_seed,
        **AS_DRAWN,
    )
    match = generator.vocabulary.match
    return Drawn(
        tuple(match(sample.text) for sample in samples),
        tuple(sample.finish_reason == "end" for sample in samples),
        tuple(-sample.logprob for sample in samples),
    )


def compare(
    generator: Generator, config: EvaluationConfig, test_loss: float
) -> Comparison | TextComparison:
    """Draw texts of a model, and compare them with what it learned from.

    Args:
        generator: the model.
        config: how many, how daring, from which random seed; at least one sample. The texts for
            rediscovery begin with the compared ones.
        test_loss: nats per character of what is held out.
    """
    if generator.frozen.kind != "names":
        return _compare_text(generator, config, test_loss)
    count = max(config.samples, config.rediscovery)
    found = drawn(generator, count, config.temperature, config.random_seed)
    corpus = CorpusConfig.checked(generator.frozen.provenance["recipe"]["corpus"])
    sides = split(generator.frozen.names, corpus)
    searched = set(found.texts[: config.rediscovery])
    compared = found.first(config.samples)
    share = shares(compared, sides)
    distance = distances(compared.texts, sides, config.random_seed)
    return Comparison(
        temperature=config.temperature,
        random_seed=config.random_seed,
        samples=config.samples,
        novel=share["novel"],
        distinct=share["distinct"],
        valid_lengths=share["valid_lengths"],
        letter_pairs=distance["letter_pairs"],
        lengths=distance["lengths"],
        nearest=distance["nearest"],
        nats_per_character=Measure(compared.nats_per_character, test_loss),
        rediscovery_samples=config.rediscovery,
        rediscovered=len(searched & set(sides["test"])),
        test_names=len(sides["test"]),
        repeated=len(searched & set(sides["train"])),
        training_names=len(sides["train"]),
    )


def _compare_text(
    generator: Generator, config: EvaluationConfig, test_loss: float
) -> TextComparison:
    count = min(config.samples, TEXTS)
    found = drawn(generator, count, config.temperature, config.random_seed)
    return TextComparison(
        temperature=config.temperature,
        random_seed=config.random_seed,
        samples=count,
        distinct=len(set(found.texts)) / count,
        empty=sum(not text.strip() for text in found.texts) / count,
        repeating=sum(REPEATING.search(text) is not None for text in found.texts) / count,
        nats_per_character=Measure(found.nats_per_character, test_loss),
    )


def shares(found: Drawn, sides: Sides) -> dict[str, float]:
    """The shares of draws that are novel, distinct, and of valid length."""
    known = {name for side in sides.values() for name in side}
    lengths = [len(name) for name in known]
    fits = range(min(lengths), max(lengths) + 1)
    count = len(found.texts)
    valid = sum(
        ended and len(name) in fits for name, ended in zip(found.texts, found.ended, strict=True)
    )
    return {
        "novel": sum(name not in known for name in found.texts) / count,
        "distinct": len(set(found.texts)) / count,
        "valid_lengths": valid / count,
    }


def distances(names: Sequence[str], sides: Sides, random_seed: int) -> dict[str, Measure]:
    """How far the distributions of draws are from those of names that were held out (validation
    and test), and how far the draws are from those learned from.

    The distributions are of samples of one size: the held-out names, and as many draws, or for
    `real` as many training names; of several such samples the mean. So a generator that can't be
    told from the list has the real figure, not 0.
    """
    rng = np.random.default_rng([random_seed, 3])
    train, held_out = (
        [group[k] for k in rng.permutation(len(group))]
        for group in (sides["train"], [*sides["validation"], *sides["test"]])
    )
    real = held_out[: min(len(held_out), len(names), len(train))]
    near = Names(train)
    return {
        "letter_pairs": Measure(*(mean_distance(pairs, own, real) for own in (names, train))),
        "lengths": Measure(*(mean_distance(length, own, real) for own in (names, train))),
        "nearest": Measure(
            *(
                float(np.mean([near.nearest(name) for name in own[:NEAREST]]))
                for own in (names, held_out)
            )
        ),
    }


def pairs(names: Sequence[str]) -> Counter[str]:
    """How often each pair of letters stands side by side; a name's ends are a symbol each."""
    return Counter(a + b for name in names for a, b in zip(END + name, name + END, strict=True))


def length(names: Sequence[str]) -> Counter[int]:
    """How many names have each length, in characters."""
    return Counter(map(len, names))


def total_variation(a: Counter[Any], b: Counter[Any]) -> float:
    """The share of one distribution that would have to move for the other: half the sum of
    |p - q|, from 0 (the same) to 1 (nothing in common).
    """
    n, m = a.total(), b.total()
    return 0.5 * sum(abs(a[key] / n - b[key] / m) for key in a.keys() | b.keys())


def mean_distance(count: Any, names: Sequence[str], real: Sequence[str]) -> float:
    """The mean total variation between `real` and samples of its size out of `names`.

    Args:
        count: from names to the counts that are compared: `pairs`, or `length`.
        names: at least as many as `real`; each is used once.
        real: the names to compare with, at least one.
    """
    size, counted = len(real), count(real)
    starts = range(0, len(names) - size + 1, size)[:MOST_CHUNKS]
    chunks = [count(names[start : start + size]) for start in starts]
    return float(np.mean([total_variation(chunk, counted) for chunk in chunks]))
