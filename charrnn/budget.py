"""What a retraining leaves to others: it steps back behind them, and keeps within its memory. The
time is the training's own (`steps`, `minutes`), and so is the number of processes.
"""

import os
from pathlib import Path

from charrnn.errors import ConfigError, FieldProblem
from charrnn.evaluation import Loss
from charrnn.recipe import Recipe, line_of
from charrnn.training import Listener, Run

MEGABYTE = 1_000_000


def step_back(nice: int) -> None:
    """Give this process at most the priority of `nice`, for good; its workers inherit it."""
    os.nice(max(0, nice - os.nice(0)))


class Within(Listener):
    """Passes on what a run tells, once it is clear that it keeps within the recipe's memory."""

    def __init__(self, recipe: Recipe, path: Path, listener: Listener) -> None:
        self._most, self._path, self._listener = recipe.retraining.memory, path, listener

    def reading(self, what: str, done: int, total: int) -> None:
        self._listener.reading(what, done, total)

    def started(self, run: Run) -> None:
        """Raises ConfigError where the run would take more."""
        wanted = run.estimated_memory() if self._most else None
        if self._most and wanted and wanted > self._most * MEGABYTE:
            rule = (
                f"must be at least the {wanted / MEGABYTE:.0f} MB that this run takes; raise it, "
                "or lower batch_size, hidden_size or processes"
            )
            line = line_of(self._path.read_text("utf-8"), "retraining.memory")
            problem = FieldProblem("retraining.memory", rule, str(self._most), line)
            raise ConfigError([problem], str(self._path))
        self._listener.started(run)

    def stepped(self, run: Run, characters: int) -> None:
        self._listener.stepped(run, characters)

    def evaluated(self, run: Run, validation: Loss) -> None:
        self._listener.evaluated(run, validation)

    def ended(self) -> None:
        self._listener.ended()
