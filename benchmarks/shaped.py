"""Names of a shape: how near their distribution is to the exact one, and what they cost. And which
honest names the block list refuses.

    python benchmarks/shaped.py [--names my-list.txt] [--draws 2000]
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import charrnn
from charrnn.lookahead import Lookahead
from tests.exact import abra, distance, every_name, given

SIZES = (2, 4, 8, 16, 32, 64, 128)
SHAPES: tuple[dict[str, Any], ...] = (
    {"ends_with": "raptor"},
    {"pattern": "T?r*raptor"},
    {"contains": "xyz"},
    {"seed": "Tyr", "ends_with": "mimus"},
)
PLAIN: dict[str, Any] = {"novel": False, "unique": False, "clean": False}


def names_by_drafts(generator: charrnn.Generator, count: int, **settings: Any) -> list[str]:
    """Names that are drawn by drafts, whether or not free sampling would do."""
    asked = generator.request(count=count, random_seed=1, **PLAIN, **settings)
    (samples,) = generator._generate([replace(asked, tries=(0, 8))])
    return [sample.text for sample in samples]


def distances(draws: int) -> None:
    """Print the total variation from full enumeration, by the number of drafts."""
    expected = given(every_name(abra(seed=3), 6), lambda name: name.endswith("ra"))
    rng, chances = np.random.default_rng(0), np.array(list(expected.values()))
    exact = [
        0.5 * np.abs(rng.multinomial(draws, chances) / draws - chances).sum() for _ in range(200)
    ]
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
    """Seconds, the median of so many rounds."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def costs() -> None:
    """Print what a name of a shape costs, in free names of the same run."""
    generator = charrnn.load("dinosaurs")

    def free() -> object:
        return generator.generate(count=200, random_seed=1, **PLAIN)

    free()
    print("shape                                   guessed to be one of  free names' time")
    for shape in SHAPES:
        asked = generator.request(**shape)
        assert asked.lookahead
        guess = asked.lookahead.acceptance(asked.prompt[1:])

        def shaped(shape: dict[str, Any] = shape) -> object:
            return generator.generate(count=20, random_seed=1, **shape)

        ratio = median_of(shaped, 5) / 20 / (median_of(free, 5) / 200)
        print(f"{shape!s:40}{1 / guess:20,.0f}  {ratio:16.0f}")


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
        costs()


if __name__ == "__main__":
    main()
