"""Runs: what they learn, that they can be killed and resumed, and how they refuse."""

import json
import math
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest

from charrnn import checkpoint, parallel, training
from charrnn.checkpoint import CHECKPOINT, METRICS, PUT_ASIDE, RunFiles
from charrnn.errors import TrainingError, TrainingInterrupted
from charrnn.evaluation import evaluate
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.training import Listener, Run
from tests.processes import kill, open_files, process_ids
from tests.reference import poison
from tests.training_runs import small_corpus, small_recipe, stopping_after

KINDS = ("names", "text")
RULES = ("sgd", "adagrad", "adam", "adamw")


def run_with_stops(recipe, corpus, folder, stops):
    for steps in stops:
        with pytest.raises(TrainingInterrupted, match="the same command goes on"):
            Run(recipe, corpus, folder, stop=stopping_after(steps)).train()
    return Run(recipe, corpus, folder).train()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", RULES)
def test_a_run_stopped_and_resumed_gives_the_bytes_of_the_run_never_stopped(
    kind, optimizer, tmp_path
):
    corpus = small_corpus(kind, tmp_path)
    rate = {"learning_rate": 0.1 if optimizer in ("sgd", "adagrad") else 0.004}
    recipe = small_recipe(kind, optimizer=optimizer, weight_decay=0.01, **rate)
    whole = Run(recipe, corpus).train()
    resumed = run_with_stops(recipe, corpus, tmp_path / "run", [1, 16, 0, 23])
    assert resumed.data == whole.data
    assert resumed.progress.step == 60


@pytest.mark.parametrize("what", ["TRAINING_FORMAT", "ROUNDING"])
def test_a_run_is_not_gone_on_with_by_a_library_that_trains_otherwise(what, tmp_path, monkeypatch):
    class Began(Listener):
        def started(self, run):
            steps.append(run.progress.step)

    steps, corpus, recipe = [], small_corpus("names", tmp_path), small_recipe("names")
    for changed in (False, True):
        folder = tmp_path / f"{changed}"
        with pytest.raises(TrainingInterrupted):
            Run(recipe, corpus, folder, stop=stopping_after(20)).train()
        if changed:
            monkeypatch.setattr(f"charrnn.training.{what}", 99)
        Run(recipe, corpus, folder, listener=Began()).train()
    assert steps[0] >= 20
    assert steps[1] == 0


@pytest.mark.parametrize("batch_size", [1, 7])  # fewer than processes; unequal shares
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_several_processes_resumes_and_learns_as_that_of_one(kind, batch_size, tmp_path):
    corpus = small_corpus(kind, tmp_path)
    sizes = {"batch_size": batch_size, "steps": 40}
    recipe = small_recipe(kind, processes=3, network={"dropout": 0.2}, **sizes)
    whole = Run(recipe, corpus).train()
    resumed = run_with_stops(recipe, corpus, tmp_path / "run", [1, 9, 16])
    assert resumed.data == whole.data
    sizes["steps"] = 10
    without = small_recipe(kind, processes=3, network={"dropout": 0.0}, **sizes)
    alone = small_recipe(kind, processes=1, network={"dropout": 0.0}, **sizes)
    losses = [Run(each, corpus).train().progress.best_loss for each in (without, alone)]
    assert abs(losses[0] - losses[1]) < 1e-3  # rounding, through ten updates


def test_an_update_that_processes_share_gives_the_bytes_of_one_that_they_do_not(
    tmp_path, monkeypatch
):
    corpus = small_corpus("text", tmp_path)
    network, few = {"hidden_size": 320, "dropout": 0.0}, {"steps": 8, "evaluate_every": 4}
    recipe = small_recipe("text", processes=2, network=network, weight_decay=0.05, **few)
    run = Run(recipe, corpus)
    whole = run.train()
    assert run.team._updaters == 2
    assert run_with_stops(recipe, corpus, tmp_path / "run", [1, 3]).data == whole.data
    monkeypatch.setattr(parallel, "FEWEST_BLOCKS", 1000)
    run = Run(recipe, corpus)
    assert run.train().data == whole.data
    assert run.team._updaters == 1


class AfterStep(Listener):
    """Does something once, after so many steps."""

    def __init__(self, step, do):
        self.step, self.do = step, do

    def stepped(self, run, characters):
        if run.progress.step == self.step:
            self.do(run)


def kill_a_worker(run):
    kill(process_ids(run.team)[1])


def test_a_run_whose_worker_is_killed_ends_and_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    corpus, recipe = small_corpus("names", tmp_path), small_recipe("names", processes=3)
    whole = Run(recipe, corpus).train()
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    run = Run(recipe, corpus, tmp_path / "run", listener=AfterStep(20, kill_a_worker))
    with pytest.raises(TrainingError, match=r"worker process 2 .* SIGKILL.* the same command goes"):
        run.train()
    assert process_ids(run.team) == []
    again = Run(recipe, corpus, tmp_path / "run")
    assert again._resume()
    assert again.progress.step == 20
    assert Run(recipe, corpus, tmp_path / "run").train().data == whole.data


def interrupt(run):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("do", "error"),
    [
        (lambda _: None, None),
        (interrupt, KeyboardInterrupt),
        (lambda run: run.params.flat.fill(np.nan), TrainingError),
    ],
)
def test_a_run_leaves_no_worker_and_no_open_file_however_it_ends(do, error, tmp_path):
    corpus = small_corpus("names", tmp_path)
    recipe = small_recipe("names", processes=2, steps=3)
    before = open_files()
    for _ in range(4):
        run = Run(recipe, corpus, tmp_path / "run", listener=AfterStep(2, do))
        with pytest.raises(error) if error else nullcontext():
            run.train()
        assert process_ids(run.team) == []
        del run
        assert open_files() == before


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_every_cell_learns_and_resumes(cell, tmp_path):
    corpus = small_corpus("names", tmp_path)
    recipe = small_recipe("names", network={"cell": cell, "num_layers": 2}, steps=120)
    whole = Run(recipe, corpus).train()
    assert run_with_stops(recipe, corpus, tmp_path / "run", [50]).data == whole.data
    assert whole.progress.best_loss < unigram_loss(corpus)


def unigram_loss(corpus):
    """Validation loss of the best prediction that looks at no character before."""
    train = Counter("\n".join(corpus.sequences["train"]) + "\n")
    text = "\n".join(corpus.sequences["validation"]) + "\n"
    total = sum(train.values()) + len(corpus.vocabulary)
    return -sum(math.log((train[c] + 1) / total) for c in text) / len(text)


def killed_runs(kind, processes, folder, kills, seed):
    """Kill the training process at random moments, then let it end. Returns the kills made."""
    chance, made = random.Random(seed), 0
    command = [sys.executable, "-m", "tests.training_runs", kind, str(folder), str(processes)]
    while made < kills:
        process = subprocess.Popen(command, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        try:
            process.wait(chance.uniform(0.2, 1.5))
        except subprocess.TimeoutExpired:
            made += 1
        finally:
            process.kill()
            process.wait()
        if (folder / "weights.bin").exists():
            break
    if not (folder / "weights.bin").exists():
        subprocess.run(command, check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    return made


def check_kills(kind, processes, tmp_path, kills):
    calm = tmp_path / "calm"
    calm.mkdir()
    killed_runs(kind, processes, calm, 0, 0)
    expected, made, round_ = (calm / "weights.bin").read_bytes(), 0, 0
    while made < kills:
        folder = tmp_path / f"round {round_}"
        folder.mkdir()
        made += killed_runs(kind, processes, folder, kills - made, round_)
        assert (folder / "weights.bin").read_bytes() == expected
        round_ += 1


@pytest.mark.parametrize(("kind", "processes"), [("names", 1), ("text", 2)])
def test_a_run_killed_at_random_moments_gives_the_same_bytes(kind, processes, tmp_path):
    check_kills(kind, processes, tmp_path, 2)


@pytest.mark.prove
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("processes", [1, 2])
def test_fifty_kills_give_the_same_bytes(kind, processes, tmp_path):
    check_kills(kind, processes, tmp_path, 50)


def test_two_runs_of_one_recipe_are_equal_and_another_seed_is_not(tmp_path):
    corpus = small_corpus("names", tmp_path)
    first = Run(small_recipe("names"), corpus, tmp_path / "a").train()
    again = Run(small_recipe("names"), corpus, tmp_path / "b").train()
    other = Run(small_recipe("names", random_seed=1), corpus, tmp_path / "c").train()
    assert first.data == again.data != other.data


def test_the_file_says_what_it_was_made_from_and_nothing_of_the_machine(tmp_path):
    corpus = small_corpus("names", tmp_path)
    recipe = small_recipe("names").changed(data=[str(tmp_path / "names.txt")])
    trained = Run(recipe, corpus).train()
    provenance = trained.model.provenance
    assert provenance["recipe"]["data"] == ["names.txt"]
    assert provenance["random_seed"] == 0
    assert provenance["data"]["sha256"] == corpus.source.sha256
    assert provenance["versions"]["numpy"] == np.__version__
    assert str(tmp_path).encode() not in trained.data


def test_the_evaluation_is_of_the_best_weights_as_stored(tmp_path):
    corpus = small_corpus("names", tmp_path)
    overfitting = small_recipe(
        "names", learning_rate=0.1, steps=300, schedule="constant", averaging=0.0
    )
    trained = Run(overfitting, corpus).train()
    assert trained.progress.best_step < trained.progress.step
    network = CharRNN(trained.model.config, trained.model.params)
    loss = evaluate(network, corpus.sequences["validation"], corpus.vocabulary, Workspace())
    assert trained.model.evaluation["validation"] == loss.to_json()
    assert loss.nats_per_character == trained.progress.best_loss


def test_early_stopping_ends_after_so_many_looks_without_gain(tmp_path):
    corpus = small_corpus("names", tmp_path)
    recipe = small_recipe("names", learning_rate=0.05, patience=3, steps=5_000)
    progress = Run(recipe, corpus).train().progress
    assert progress.step == progress.best_step + 3 * 7


@pytest.mark.parametrize("limits", [{"patience": 2, "steps": 5_000}, {"steps": 60}])
def test_a_run_killed_after_its_last_step_learns_nothing_more(limits, tmp_path, monkeypatch):
    corpus = small_corpus("names", tmp_path)
    recipe = small_recipe("names", learning_rate=0.05, **limits)
    whole = Run(recipe, corpus).train()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_finished", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Run(recipe, corpus, tmp_path / "run").train()
    resumed = Run(recipe, corpus, tmp_path / "run").train()
    assert resumed.progress.step == whole.progress.step
    assert resumed.data == whole.data


@pytest.mark.parametrize("budget", [{}, {"steps": None, "minutes": 0.005}])
def test_a_run_stopped_while_it_is_evaluated_goes_on_from_there(budget, tmp_path, monkeypatch):
    corpus, recipe = small_corpus("names", tmp_path), small_recipe("names", **budget)
    finishing, finished = [], Run._finished
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_finished", lambda run: finishing.append(run) or finished(run))
        with pytest.raises(TrainingInterrupted, match="the same command goes on from there"):
            Run(recipe, corpus, tmp_path / "run", stop=lambda: bool(finishing)).train()
    resumed = Run(recipe, corpus, tmp_path / "run").train()
    assert resumed.progress == finishing[0].progress
    assert budget or resumed.data == Run(recipe, corpus).train().data


def test_the_rate_is_halved_when_the_validation_loss_rises(tmp_path):
    corpus = small_corpus("names", tmp_path)
    losses = []

    class Looks(Listener):
        def evaluated(self, run, validation):
            losses.append(validation.nats_per_character)

    jumpy = {"learning_rate": 10.0, "warmup_steps": 0, "averaging": 0.0, "evaluate_every": 3}
    recipe = small_recipe("names", optimizer="sgd", halve_on_rise=True, **jumpy)
    run = Run(recipe, corpus, listener=Looks())
    run.train()
    rises = sum(b > a for a, b in pairwise(losses))
    assert rises > 0
    assert run.progress.rate_factor == 0.5**rises


def test_a_loss_that_explodes_ends_the_run_and_the_checkpoint_before_stays(tmp_path, monkeypatch):
    corpus = small_corpus("text", tmp_path)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    wild = small_recipe("text", optimizer="sgd", learning_rate=10.0, clip_norm=1e9, steps=500)
    run = Run(wild.changed(training=wild.training.changed(schedule="constant")), corpus, tmp_path)
    run.params.flat[:] *= 60
    with pytest.raises(TrainingError, match=r"stay finite and below .* lower learning_rate"):
        run.train()


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_loss_that_is_not_a_number_ends_the_run_at_once(poison, tmp_path):
    corpus = small_corpus("names", tmp_path)
    run = Run(small_recipe("names"), corpus, tmp_path / "run")
    run.params["out.c"][0] = poison
    with pytest.raises(TrainingError, match="the loss in step 1 must stay finite"):
        run.train()
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_metrics_have_each_look_once_whatever_was_killed(tmp_path):
    corpus = small_corpus("names", tmp_path)
    folder = tmp_path / "run"
    run_with_stops(small_recipe("names"), corpus, folder, [30])
    with (folder / METRICS).open("a") as file:
        file.write('{"step": 61, "validation_loss": 0}\n{"torn')
    Run(small_recipe("names"), corpus, folder).train()
    records = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    assert [record["step"] for record in records] == [*range(7, 60, 7), 60]
    assert all(0 < record["validation_loss"] < 5 for record in records)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_checkpoint_that_cannot_be_used_is_put_aside(damage, tmp_path):
    corpus = small_corpus("names", tmp_path)
    folder = tmp_path / "run"
    whole = Run(small_recipe("names"), corpus).train()
    recipe = small_recipe("names", random_seed=5) if damage is None else small_recipe("names")
    with pytest.raises(TrainingInterrupted):
        Run(recipe, corpus, folder, stop=stopping_after(9)).train()
    before = (folder / CHECKPOINT).read_bytes()
    if damage is not None:
        before = damage
        (folder / CHECKPOINT).write_bytes(damage)
    assert Run(small_recipe("names"), corpus, folder).train().data == whole.data
    assert (folder / PUT_ASIDE).read_bytes() == before


def test_a_run_that_another_put_aside_is_gone_on_from(tmp_path):
    corpus, folder = small_corpus("names", tmp_path), tmp_path / "run"
    whole = Run(small_recipe("names"), corpus).train()
    for recipe, steps in [(small_recipe("names"), 30), (small_recipe("names", random_seed=5), 9)]:
        with pytest.raises(TrainingInterrupted):
            Run(recipe, corpus, folder, stop=stopping_after(steps)).train()
    run = Run(small_recipe("names"), corpus, folder)
    assert run._resume()
    assert run.progress.step == 30
    assert Run(small_recipe("names"), corpus, folder).train().data == whole.data


def test_two_runs_that_take_turns_each_go_on_from_their_own(tmp_path):
    corpus, folder = small_corpus("names", tmp_path), tmp_path / "run"
    one, other = small_recipe("names"), small_recipe("names", random_seed=5)
    stood = {1: 0, 2: 0}
    for number, recipe, steps in [(1, one, 9), (2, other, 12), (1, one, 15), (2, other, 20)]:
        run = Run(recipe, corpus, folder, stop=stopping_after(steps))
        with pytest.raises(TrainingInterrupted):
            run.train()
        again = Run(recipe, corpus, folder)
        assert again._resume()
        assert again.progress.step > stood[number]
        stood[number] = again.progress.step
    for place in (CHECKPOINT, PUT_ASIDE):  # killed while they change places
        (folder / place).replace((folder / PUT_ASIDE).with_suffix(".other"))
        for recipe, number in ((one, 1), (other, 2)):
            again = Run(recipe, corpus, folder)
            assert again._resume()
            assert again.progress.step == stood[number]
    RunFiles(folder).clear()
    run = Run(one, corpus, folder)
    assert run._resume(), "what was put aside is another run's, and stays"
    assert run.progress.step == stood[1]


def test_a_full_disk_does_not_end_a_run(tmp_path, monkeypatch, caplog):
    corpus = small_corpus("names", tmp_path)
    whole = Run(small_recipe("names"), corpus).train()

    def full(*_):
        raise OSError(28, "No space left on device")

    folder = tmp_path / "run"
    run = Run(small_recipe("names"), corpus, folder)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "write_atomically", full)
    monkeypatch.setattr(checkpoint, "append_line", full)
    assert run.train().data == whole.data
    assert "No space left on device" in caplog.text


def test_several_processes_may_sum_the_gradient(tmp_path):
    corpus = small_corpus("names", tmp_path)
    seen = []
    recipe = small_recipe("names", steps=3)
    Run(recipe, corpus, reduce=lambda flat: seen.append(flat.size)).train()
    assert seen == [Run(recipe, corpus).params.flat.size] * 3


def test_stale_buffers_are_never_read(tmp_path):
    corpus = small_corpus("names", tmp_path)
    clean = Run(small_recipe("names"), corpus).train()
    run = Run(small_recipe("names"), corpus)
    step = run._step

    def poisoned():
        poison(run.work)
        return step()

    run._step = poisoned
    assert run.train().data == clean.data
