"""The course of a training: how many steps it has, when it looks at the validation set, and how
long all of it takes on this machine.
"""

import math
from bisect import bisect_right
from functools import cached_property
from typing import NamedTuple

from charrnn.checkpoint import Progress
from charrnn.config import TrainConfig
from charrnn.corpus import Corpus
from charrnn.recipe import defaults_for

FEWEST_STEPS = 300  # of a run without a budget: the warm-up is over, and the best kept
LOOK_SHARE = 0.1  # of the time, for looks at the validation set
FEWEST_LOOKS, MOST_LOOKS = 5, 50
DEFAULT_SECONDS = 160.0  # what a run without a budget is planned to take at most
LEARNING_SHARE = 0.5  # of a budget of time, at least, however long the evaluation takes


class Pace(NamedTuple):
    """How long a step takes on this machine, and a symbol of a look, in seconds."""

    step: float
    symbol: float


class Course:
    """Of one run. What is asked of it is answered by how far the run has come, and how fast."""

    def __init__(self, config: TrainConfig, corpus: Corpus, steps_in_epoch: int) -> None:
        self._config, self._corpus, self._steps_in_epoch = config, corpus, steps_in_epoch

    def fraction_done(self, p: Progress) -> float:
        """How far through the budget, 0 to 1."""
        by_steps = p.step / p.steps if p.steps else 0.0
        by_time = p.seconds / self._learning_seconds(p) if self._config.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def is_to_look(self, p: Progress) -> bool:
        """Whether it is time to look at the validation set."""
        done = self.fraction_done(p) >= 1
        if self._config.minutes and p.seconds + p.closing > self._learning_seconds(p):
            return done  # one that ends too late would delay the last
        return done or p.step % self.spacing(p.steps) == 0

    def spacing(self, steps: int | None) -> int:
        """Steps between two looks, of a run of so many steps, or of minutes: such that the looks
        take a tenth of the time (a character costs a third of what it costs to learn from), from 5
        to 50 in a run. There may be fewer where the time for steps is short: nothing is learned
        often then.
        """
        if self._config.evaluate_every:
            return self._config.evaluate_every
        learned = self._corpus.characters("train") / self._steps_in_epoch
        every = math.ceil(self._corpus.characters("validation") / (3 * LOOK_SHARE * learned))
        if steps:
            is_short = steps < (self._config.steps or self.wanted_steps)
            fewest = 1 if is_short else FEWEST_LOOKS
            every = max(steps // MOST_LOOKS, min(every, steps // fewest))
        return max(1, every)

    @cached_property
    def wanted_steps(self) -> int:
        """Enough passes over the data, for a run without a budget."""
        passes = defaults_for(self._corpus).passes * self._steps_in_epoch
        return max(passes, FEWEST_STEPS)

    def planned_steps(self, pace: Pace) -> int:
        """Of a run without a budget: those wanted, within the time that all takes."""
        counts = range(1, self.wanted_steps + 1)
        steps = bisect_right(counts, DEFAULT_SECONDS, key=lambda n: self.seconds(0, n, pace))
        fewest = int(LEARNING_SHARE * DEFAULT_SECONDS / pace.step)
        return max(1, min(max(steps, fewest), self.wanted_steps))

    def seconds_left(self, p: Progress, pace: Pace) -> float:
        """How long the rest of the run will take: its steps, its looks and the evaluation."""
        seconds = math.inf
        if self._config.minutes:
            seconds = max(0.0, self._learning_seconds(p) - p.seconds) + self.closing_seconds(pace)
        return min(seconds, self.seconds(p.step, p.steps, pace)) if p.steps else seconds

    def seconds(self, step: int, steps: int, pace: Pace) -> float:
        """The time from a step to the end of so many."""
        every = self.spacing(steps)
        looks = max(0, (steps - 1) // every - step // every)  # before the last
        looking = looks * pace.symbol * self._corpus.characters("validation")
        return (steps - step) * pace.step + looking + self.closing_seconds(pace)

    def closing_seconds(self, pace: Pace) -> float:
        """The time of the last look, and of the evaluation."""
        splits = ("validation", "validation", "test")
        return pace.symbol * sum(map(self._corpus.characters, splits))

    def _learning_seconds(self, p: Progress) -> float:
        """What is left of the minutes before the last look, and the evaluation."""
        seconds = 60 * (self._config.minutes or math.inf)
        return max(seconds - p.closing, LEARNING_SHARE * seconds)
