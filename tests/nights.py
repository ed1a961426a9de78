"""Nights that go wrong, and many that go well: what the proofs of retraining share.

python -m tests.nights kills FOLDER 200     # fails where a promise is broken
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from charrnn.generator import load
from charrnn.recipe import write_recipe
from charrnn.retraining import train
from charrnn.store import Store
from charrnn.versions import CANDIDATE
from tests.training_runs import name_list, small_recipe

ROOT = Path(__file__).parent.parent
LENIENT = {"tolerance": 10.0, "most_duplicates": 1.0, "least_novel": 0.0, "most_repeating": 1.0}


class Place:
    """A list, its recipe, and a weights folder in which it has a live version."""

    def __init__(self, folder: Path, *, steps: int = 40, names: int = 120) -> None:
        self.data, self.store = folder / "data", Store(folder / "weights")
        self.data.mkdir()
        self.steps = steps
        (self.data / "names.txt").write_text(name_list(names))
        self.write(0)
        recipe = self.recipe(0)
        train(recipe, self.data, self.store, recipe_path=self.data / "small.toml")

    def recipe(self, seed, steps=None, **retraining):
        values = small_recipe("names", steps=steps or self.steps, random_seed=seed).said()
        keep = {"keep": 5, "nice": 0, **retraining}
        return type(small_recipe("names")).checked({**values, "gate": LENIENT, "retraining": keep})

    def write(self, seed, steps=None, **retraining):
        """Change the recipe, so that there is something to do."""
        text = write_recipe(self.recipe(seed, steps, **retraining))
        (self.data / "small.toml").write_text(text)

    @property
    def folder(self):
        return self.store.folder("small")

    def command(self, *arguments):
        return [
            *(sys.executable, "-m", "charrnn", "retrain", "small", "--quiet"),
            *("--weights", str(self.store.root), *arguments),
        ]

    def start(self, *arguments, **options):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            self.command(*arguments),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments, **options):
        """The exit status, what it said on stdout and on stderr."""
        process = self.start(*arguments, **options)
        out, errors = process.communicate(timeout=300)
        return process.returncode, out, errors

    def live(self):
        """The live version, which loads and generates."""
        generator = load("small", weights=self.store)
        assert generator.generate(random_seed=1)
        return self.store.current("small").version

    def strays(self):
        """Files that belong to nothing."""
        known = {line["version"] for line in self.store.history("small")}
        found = [path.name for path in self.folder.rglob("*.partial")]
        found += [path.name for path in self.folder.rglob(CANDIDATE)]
        found += [path.name for path in self.folder.rglob("*checkpoint*")]
        return found + [v for v in self.store.versions("small") if v not in known]


def kills(folder: Path, count: int) -> None:
    """Kill retrainings at random moments of their course; between two of them, what is live is the
    old version or the new one, whole. The next run goes through, and nothing is left behind.
    """
    place, rng = Place(folder, steps=150), random.Random(count)
    place.write(1)
    began = time.monotonic()
    assert place.run()[0] == 0
    course = time.monotonic() - began
    seed, live = 2, place.live()
    promoted = resumed = 0
    place.write(seed)
    for _ in range(count):
        process = place.start()
        time.sleep(rng.uniform(0.2, 1.0) * course)  # before that, it is only starting
        process.send_signal(signal.SIGKILL)
        process.communicate()
        resumed += any(place.folder.rglob("checkpoint.safetensors"))
        if place.live() != live:
            promoted, seed, live = promoted + 1, seed + 1, place.live()
            place.write(seed)
        for line in (place.folder / "history.jsonl").read_text().splitlines()[:-1]:
            json.loads(line)
    status, _, errors = place.run()
    assert status in (0, 10), errors
    assert place.run()[0] == 10
    assert place.strays() == []
    assert len(place.store.versions("small")) <= 8
    events = [line["event"] for line in place.store.history("small")]
    assert events.count("promoted") == 2 + promoted + (status == 0), events
    sys.stdout.write(f"{count} kills, {promoted} promotions, {resumed} with a checkpoint\n")


def main() -> None:
    scenario, folder, count = sys.argv[1:]
    assert scenario == "kills", scenario
    kills(Path(folder), int(count))


if __name__ == "__main__":
    main()
