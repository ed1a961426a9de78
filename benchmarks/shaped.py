"""Names of a shape: how near their distribution is to the exact one, what they cost, and how often
there are fewer than were asked for. And which honest names the block list refuses.

    python benchmarks/shaped.py [--names my-list.txt] [--draws 2000]
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import charrnn
from charrnn.config import AS_DRAWN
from charrnn.lookahead import Lookahead
from tests.exact import abra, distance, every_name, given

SIZES = (2, 4, 8, 16, 32, 64, 128)
COMPARED, COSTED = (8, 16, 32, 64), (16, 32)  # drafts of the names of a real model
SHAPES: tuple[dict[str, Any], ...] = (
    {"ends_with": "raptor"},
    {"pattern": "T?r*raptor"},
    {"pattern": "*z*saurus"},
    {"contains": "xyz"},
    {"ends_with": "mimus", "min_length": 14, "max_length": 15},
    {"seed": "Tyr", "ends_with": "mimus"},
)
MOST_LENGTHS = 100  # of names of a real model
REQUESTS, NAMES = 20, 20  # requests for so many names each that may come back short


def names_by_drafts(generator: charrnn.Generator, count: int, **settings: Any) -> list[str]:
    """Names that are drawn by drafts, whether or not free sampling would do."""
    asked = generator.request(count=count, random_seed=1, **AS_DRAWN, **settings)
    (samples,) = generator._generate([asked._replace(tries=(0, 8))])
    return [sample.text for sample in samples]


def exact_distances(draws: int, expected: dict[str, float]) -> Any:
    """How far so many exact draws are away, 200 times."""
    rng, chances = np.random.default_rng(0), np.array(list(expected.values()))
    return 0.5 * np.abs(rng.multinomial(draws, chances, 200) / draws - chances).sum(axis=1)


def distances(draws: int) -> None:
    """Print the total variation from full enumeration, by the number of drafts."""
    expected = given(every_name(abra(seed=3), 6), lambda name: name.endswith("ra"))
    exact = exact_distances(draws, expected)
    print(f"{len(expected)} names end with 'ra'; {draws} draws of each kind")
    print(f"exact draws: {np.mean(exact):.4f} ± {np.std(exact):.4f}, which is the least to be had")
    steered = Lookahead._before

    def flat(self: Lookahead, length: int, chances: Any) -> Any:
        return np.sign(steered(self, length, chances))

    print("drafts  by letter runs  by what is possible")
    for size in SIZES:
        row = []
        for guess in (steered, flat):
            Lookahead._before = guess  # type: ignore[method-assign,assignment]
            texts = names_by_drafts(
                abra(seed=3), draws, ends_with="ra", max_length=6, particles=size
            )
            row.append(distance(texts, expected))
        Lookahead._before = steered  # type: ignore[method-assign]
        print(f"{size:6d}  {row[0]:14.4f}  {row[1]:19.4f}")


def median_of(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the processor, the median of so many rounds."""
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return float(np.median(taken))


def costs() -> None:
    """Print what a name of a shape costs, in free names of the same run, by the number of drafts,
    and how many requests came back with fewer names than were asked for.
    """
    generator = charrnn.load("dinosaurs")

    def free() -> object:
        return generator.generate(count=200, random_seed=1, **AS_DRAWN)

    free()
    sizes = "".join(f"{f'{size} drafts':>14}" for size in COSTED)
    print(f"\nfree names' time for a name; of {REQUESTS} requests for {NAMES} those that are short")
    print(f"{'shape':62}{'one of':>12}{sizes}")
    for shape in SHAPES:
        asked = generator.request(**shape)
        assert asked.lookahead
        guess = asked.lookahead.acceptance(asked.prompt[1:])
        row = ""
        for size in COSTED:

            def shaped(shape: dict[str, Any] = shape, size: int = size) -> object:
                return generator.generate(count=20, random_seed=1, particles=size, **shape)

            shaped()
            ratio = median_of(shaped, 5) / 20 / (median_of(free, 5) / 200)
            short = sum(
                bool(
                    generator.generate(
                        count=NAMES, random_seed=seed, particles=size, **shape
                    ).shortfall
                )
                for seed in range(REQUESTS)
            )
            row += f"{ratio:9.0f}{short:5d}"
        print(f"{shape!s:62}{1 / guess:12,.0f}{row}")


def nearness(draws: int) -> None:
    """Print how far the lengths of names of a real model are from those of exact draws, by the
    number of drafts.
    """
    generator, shape = charrnn.load("dinosaurs"), SHAPES[0]
    asked = generator.request(count=2 * draws, random_seed=2, **AS_DRAWN, **shape)
    (samples,) = generator._generate([asked._replace(tries=(1_000_000, 0))])
    counts = np.bincount([len(sample.text) for sample in samples], minlength=MOST_LENGTHS)
    chances, rng = counts / counts.sum(), np.random.default_rng(0)
    least = 0.5 * np.abs(
        rng.multinomial(2 * draws, chances, 200) / (2 * draws)
        - rng.multinomial(draws, chances, 200) / draws
    ).sum(axis=1)
    print(
        f"\n{shape}: distance of the lengths of {draws} names from those of {2 * draws} exact draws"
    )
    print(f"exact draws: {np.mean(least):.3f} ± {np.std(least):.3f}, which is the least to be had")
    for size in COMPARED:
        texts = names_by_drafts(generator, draws, particles=size, **shape)
        lengths = np.bincount([len(text) for text in texts], minlength=MOST_LENGTHS)
        print(f"{size:6d}  {0.5 * np.abs(lengths / draws - chances).sum():.3f}")


def refusals(path: Path) -> None:
    """Print which names of a list the block list refuses."""
    names = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    refused = [name for name in names if charrnn.Blocklist.shipped().refuses(name)]
    share = len(refused) / len(names)
    print(f"{len(refused)} of {len(names)} names are refused ({share:.3%}): {', '.join(refused)}")


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=Path, help="a list of honest names: the block list only")
    parser.add_argument("--draws", type=int, default=2000, help="names for each distance")
    given_ = parser.parse_args()
    if given_.names:
        refusals(given_.names)
    else:
        distances(given_.draws)
        nearness(given_.draws)
        costs()


if __name__ == "__main__":
    main()
