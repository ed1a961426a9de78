"""The course of a run: how long it takes and how much it holds, told before, and kept to."""

import json
import subprocess
import sys
import time

import pytest

from charrnn import course, memory
from charrnn.config import CorpusConfig
from charrnn.corpus import load_corpus
from charrnn.errors import TrainingInterrupted
from charrnn.recipe import defaults_for
from charrnn.training import Listener, Run
from tests.processes import process_ids
from tests.training_runs import name_list, small_corpus, small_recipe, stopping_after, talks

KINDS = ("names", "text")


def test_a_budget_in_minutes_counts_the_time_before_the_stop(tmp_path):
    corpus = small_corpus("names", tmp_path)
    recipe = small_recipe("names", minutes=0.02)
    recipe = recipe.changed(training={**recipe.training.said(), "steps": None})
    folder = tmp_path / "run"
    with pytest.raises(TrainingInterrupted):
        Run(recipe, corpus, folder, stop=stopping_after(20)).train()
    run = Run(recipe, corpus, folder)
    started = time.monotonic()
    run.train()
    assert run.progress.seconds + run.progress.closing >= 1.2
    assert run.progress.step > 20
    assert time.monotonic() - started < 60  # bounded at all: the machine may be slow


def test_a_run_without_a_budget_plans_one_and_says_how_long(tmp_path, monkeypatch):
    corpus = small_corpus("names", tmp_path)
    recipe = small_recipe("names")
    values = recipe.training.said()
    del values["steps"], values["evaluate_every"]
    recipe = recipe.changed(training=values)
    seen = []

    class Plan(Listener):
        def started(self, run):
            seen.append((run.progress.steps, run.estimated_seconds()))

    trained = Run(recipe, corpus, listener=Plan()).train()
    passes = defaults_for(corpus).passes * Run(recipe, corpus).feed.steps_in_epoch
    assert passes < course.FEWEST_STEPS == seen[0][0] == trained.progress.step
    assert 0 < seen[0][1] < course.DEFAULT_SECONDS
    monkeypatch.setattr(course, "DEFAULT_SECONDS", 0.05)
    assert Run(recipe, corpus).train().progress.step < trained.progress.step


def run_at_known_speed(tmp_path, *, step, look, **budget):
    """A run whose steps take so many seconds, and whose looks."""
    recipe = small_recipe("names", **{"steps": None, "evaluate_every": None, **budget})
    run = Run(recipe, small_corpus("names", tmp_path))
    run._pace = course.Pace(step, look / run.corpus.characters("validation"))
    test = look * run.corpus.characters("test") / run.corpus.characters("validation")
    return run, test


def test_the_time_told_is_that_of_steps_looks_and_evaluation(tmp_path):
    run, test = run_at_known_speed(tmp_path, step=2.0, look=5.0, steps=60, evaluate_every=7)
    run.progress.steps = 60
    assert run.estimated_seconds() == pytest.approx(60 * 2 + 9 * 5 + 5 + test)
    run.progress.step = 56
    assert run.estimated_seconds() == pytest.approx(4 * 2 + 5 + 5 + test)


def test_minutes_are_those_of_steps_looks_and_evaluation(tmp_path):
    run, test = run_at_known_speed(tmp_path, step=0.1, look=5.0, minutes=1)
    p = run.progress
    p.closing = run.course.closing_seconds(run._pace)
    assert p.closing == pytest.approx(10 + test)
    assert run.estimated_seconds() == pytest.approx(60)
    p.seconds = 59.9 - p.closing
    p.step = run.course.spacing(None)
    assert run.fraction_done < 1
    assert not run.course.is_to_look(p)
    p.seconds = 60.1 - p.closing
    assert run.fraction_done == 1
    assert run.course.is_to_look(p)


def test_half_of_the_time_is_for_steps_however_long_looks_take(tmp_path):
    run, test = run_at_known_speed(tmp_path, step=0.1, look=5.0, minutes=0.01)
    run.train()
    assert run.progress.closing == pytest.approx(10 + test)
    assert run.progress.seconds >= 0.3
    slow, _ = run_at_known_speed(tmp_path, step=1.0, look=500.0)
    assert slow.course.planned_steps(slow._pace) == course.DEFAULT_SECONDS / 2


def test_a_plan_has_time_for_steps_looks_and_evaluation(tmp_path):
    run, _ = run_at_known_speed(tmp_path, step=1.0, look=2.0)
    steps = run.course.planned_steps(run._pace)
    taken, more = (run.course.seconds(0, n, run._pace) for n in (steps, steps + 1))
    assert taken <= course.DEFAULT_SECONDS < more
    assert course.DEFAULT_SECONDS / 2 < steps < run.course.wanted_steps


told_by_the_system = pytest.mark.skipif(
    memory.peak_memory() is None, reason="this system doesn't tell what a process holds"
)


@told_by_the_system
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_forecast_of_time_and_memory_changes_nothing_in_the_run(kind, processes, tmp_path):
    class Curious(Listener):
        def started(self, run):
            before = process_ids(run.team)
            assert run.estimated_seconds() > 0
            assert run.estimated_memory() > 10_000_000
            assert before == []
            assert len(process_ids(run.team)) == processes - 1  # the run's own

    corpus, recipe = small_corpus(kind, tmp_path), small_recipe(kind, processes=processes)
    heard = []
    told = Run(recipe, corpus, listener=Curious(), reduce=heard.append).train()
    assert told.data == Run(recipe, corpus).train().data
    assert len(heard) == 60


@told_by_the_system
@pytest.mark.parametrize(
    "budget", [{"steps": 3}, {"steps": None, "minutes": 0.01}, {"steps": 3, "processes": 3}]
)
def test_the_forecast_of_memory_is_near_what_the_process_then_takes(budget, tmp_path):
    command = [sys.executable, "-m", "tests.training_runs", "memory", str(tmp_path)]
    done = subprocess.run(
        [*command, json.dumps(budget)], capture_output=True, check=True, text=True
    )
    before, told, taken = map(int, done.stdout.split())
    assert taken > 1.5 * before  # most of it is the run's own
    assert 0.8 < told / taken < 1.3


@pytest.mark.parametrize("kind", ["names", "chat"])
def test_the_forecast_of_memory_knows_of_the_largest_batch(kind, tmp_path):
    text, gap = (name_list(60), "\n") if kind == "names" else (talks(60), "\n\n")
    texts = [text + " or so" * 30 * (n in (20, 21, 22)) for n, text in enumerate(text.split(gap))]
    (tmp_path / "uneven.txt").write_text(gap.join(texts))
    corpus = load_corpus([tmp_path / "uneven.txt"], CorpusConfig.checked({"kind": kind}))
    told = []

    class Asking(Listener):
        def started(self, run):
            run.estimated_memory()
            told.append(run.work.nbytes)

    run = Run(small_recipe(kind, batch_size=4), corpus, listener=Asking())
    sizes = [len(run.feed.batch(step).ids) for step in range(60)]
    assert max(sizes) > 2 * sizes[0]
    run.train()
    assert told[0] <= run.work.nbytes < 1.1 * told[0]


def test_a_system_that_does_not_tell_what_a_process_holds_gets_no_forecast(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROCESSES", tmp_path)
    assert Run(small_recipe("names"), small_corpus("names", tmp_path)).estimated_memory() is None
