"""A retraining leaves others their share."""

import pytest

from charrnn import budget
from charrnn.budget import MEGABYTE, Within, step_back
from charrnn.errors import ConfigError
from charrnn.memory import peak_memory
from charrnn.training import Listener, Run
from tests.training_runs import small_corpus, small_recipe


@pytest.mark.parametrize(("now", "asked", "by"), [(0, 10, 10), (5, 10, 5), (15, 10, 0), (0, 0, 0)])
def test_a_process_never_steps_forward(now, asked, by, monkeypatch):
    steps = []
    monkeypatch.setattr(budget.os, "nice", lambda step: steps.append(step) or now)
    step_back(asked)
    assert steps == [0, by]


class Told(Listener):
    def __init__(self):
        self.heard = set()

    def started(self, run):
        self.heard.add("started")

    def stepped(self, run, characters):
        self.heard.add("stepped")

    def evaluated(self, run, validation):
        self.heard.add("evaluated")

    def ended(self):
        self.heard.add("ended")


def run(tmp_path, memory):
    recipe = small_recipe("names", steps=8).changed(retraining={"memory": memory})
    (tmp_path / "small.toml").write_text(f"data = []\n[retraining]\nmemory = {memory}\n")
    told = Told()
    within = Within(recipe, tmp_path / "small.toml", told)
    Run(recipe, small_corpus("names", tmp_path), listener=within).train()
    within.ended()
    return told.heard


def test_a_run_that_keeps_within_its_memory_is_heard_of(tmp_path):
    assert run(tmp_path, 10**6) == {"started", "stepped", "evaluated", "ended"}


@pytest.mark.skipif(peak_memory() is None, reason="this system doesn't tell what a process holds")
def test_a_run_that_would_not_is_refused_before_its_first_step(tmp_path):
    held = (peak_memory() or 0) // MEGABYTE
    with pytest.raises(ConfigError, match=r"small.toml:3: retraining.memory must be at least the"):
        run(tmp_path, max(1, held // 2))
