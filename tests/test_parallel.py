"""The gradient by several processes: that of the whole batch, whatever the processes do when, and
an error where one of them can't go on.
"""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from charrnn.cells import CELLS
from charrnn.config import ModelConfig, TrainConfig
from charrnn.errors import TrainingError
from charrnn.model import CharRNN
from charrnn.ops import Workspace
from charrnn.optimizers import OPTIMIZERS
from charrnn.packed import Batch
from charrnn.parallel import Team, part_of
from tests.builders import ROOT
from tests.processes import kill, open_files, process_ids, state_of, until

V = 9


def unequal_batch(rng, lengths=(7, 7, 6, 4, 4, 3, 1)):
    sizes = (np.array(lengths) > np.arange(lengths[0])[:, None]).sum(axis=1)
    ids, targets = rng.integers(0, V, (2, sizes.sum()))
    return Batch(ids, targets, sizes)


def equal_batch(rng):
    """Of running text: all sequences are as long."""
    return unequal_batch(rng, (5,) * 7)


def network(cell, layers=2, dtype=np.float64, dropout=0.0, vocab=V):
    config = ModelConfig(
        cell=cell, hidden_size=6, num_layers=layers, vocab_size=vocab, dropout=dropout
    )
    return CharRNN.initialized(config, np.random.default_rng(0), dtype)


def rows_of(batch, sequence):
    starts = np.cumsum(batch.sizes) - batch.sizes
    return [
        start + sequence for start, size in zip(starts, batch.sizes, strict=True) if sequence < size
    ]


def gradient(team, batch=None, seed=None):
    """The loss, the bytes of the gradient, and the last states, for a batch that is always one."""
    batch = batch or unequal_batch(np.random.default_rng(1))
    loss, last = team.loss_and_grads(batch, team.model.init_state(7), seed)
    return loss, team.grads.flat.tobytes(), last.tobytes()


@pytest.mark.parametrize("make", [unequal_batch, equal_batch])
@pytest.mark.parametrize("parts", [1, 2, 3, 7, 9])
def test_a_part_has_every_nth_sequence_whole_and_in_order(parts, make):
    batch = make(np.random.default_rng(0))
    shares = [part_of(batch, k, parts) for k in range(min(parts, 7))]
    for sequence in range(7):
        share = shares[sequence % parts]
        for whole, part in ((batch.ids, share.ids), (batch.targets, share.targets)):
            mine = part[rows_of(share, sequence // parts)]
            assert np.array_equal(mine, whole[rows_of(batch, sequence)])
    assert sum(len(share.ids) for share in shares) == len(batch.ids)
    for share in shares:
        assert (np.diff(share.sizes) <= 0).all()
        assert share.sizes.sum() == len(share.ids)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_processes_find_the_gradient_loss_and_states_of_the_whole_batch(cell, processes):
    rng, model = np.random.default_rng(1), network(cell)
    batch, state = unequal_batch(rng), rng.normal(size=model.init_state(7).shape)
    expected = model.params.like()
    loss, final, _ = model.loss_and_grads(batch, state, expected, Workspace())
    assert np.abs(expected.flat).max() > 0.01
    with Team(model, processes, Workspace()) as team:
        grads = team.grads
        for _ in range(2):  # in buffers that were used, too
            grads.flat[:] = np.nan
            found, last = team.loss_and_grads(batch, state)
            assert abs(found - loss) < 1e-14
            assert np.abs(last - final).max() < 1e-14
            assert np.abs(grads.flat - expected.flat).max() < 1e-14
        fewer = unequal_batch(rng, (9, 5, 5, 2))
        longer = unequal_batch(rng, (90, 70, 70, 70, 50, 20, 2))  # than there was room for
        team.loss_and_grads(fewer, state[:, :, :4])
        team.loss_and_grads(longer, state)
        long_loss, long_final, _ = model.loss_and_grads(longer, state, expected, Workspace())
        found, last = team.loss_and_grads(longer, state)
        assert abs(found - long_loss) < 1e-14
        assert np.abs(last - long_final).max() < 1e-14
        assert np.abs(grads.flat - expected.flat).max() < 1e-14
        assert len(process_ids(team)) == min(processes, 7) - 1  # and no more than can help


@pytest.mark.parametrize("vocab", [V, 1500])
def test_shares_as_large_as_those_before_are_weighed_and_cut_by_their_own_batch(vocab):
    """Of five sequences a worker has two, and so of four; a large vocabulary is numbered anew."""
    rng, model = np.random.default_rng(1), network("lstm", vocab=vocab)
    expected = model.params.like()
    with Team(model, 2, Workspace()) as team:
        for sequences, span in ((5, 0), (4, 0), (4, 3), (5, 3), (5, 0)):
            batch = replace(unequal_batch(rng, (9,) * sequences), span=span)
            state = rng.normal(size=model.init_state(sequences).shape)
            loss, _, _ = model.loss_and_grads(batch, state, expected, Workspace())
            found, _ = team.loss_and_grads(batch, state)
            assert abs(found - loss) < 1e-14
            assert np.abs(team.grads.flat - expected.flat).max() < 1e-14
            assert expected.flat.max() > 1e-3


def test_the_workers_see_each_change_of_the_parameters():
    with Team(network("gru"), 2, Workspace()) as team:
        first = gradient(team)
        team.model.params.flat *= 2
        doubled = gradient(team)
        alone = gradient(Team(CharRNN(team.model.config, team.model.params), 1, Workspace()))
        assert abs(doubled[0] - alone[0]) < 1e-14 < abs(doubled[0] - first[0])


@pytest.mark.parametrize("cell", CELLS)
def test_the_same_number_of_processes_finds_the_same_bits_again(cell):
    found = set()
    for _ in range(2):
        with Team(network(cell, dtype=np.float32, dropout=0.3), 3, Workspace()) as team:
            found |= {gradient(team, seed=[5, 2, 8]) for _ in range(10)}
            assert gradient(team, seed=[5, 2, 9]) not in found
    assert len(found) == 1


def large_team(processes, rule="adamw"):
    """Of a network that three processes update together, after its first gradient."""
    config = ModelConfig(cell="lstm", hidden_size=320, vocab_size=V)
    model = CharRNN.initialized(config, np.random.default_rng(0), np.float32)
    team = Team(model, processes, Workspace(), TrainConfig(optimizer=rule, weight_decay=0.1))
    gradient(team)
    return team


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_an_update_by_several_processes_has_the_bits_of_one_by_this_process(rule):
    found = []
    for processes in (1, 2, 3):
        with large_team(processes, rule) as team:
            rng = np.random.default_rng(1)
            for count in (1, 2, 3):
                team.grads.flat[:] = rng.normal(size=team.grads.flat.size)
                team.update(0.1 / count, count)
            assert team._updaters == processes
            vectors = [team.model.params.flat, *team.optimizer.moments.values()]
            found.append([vector.tobytes() for vector in vectors])
    assert found[0] == found[1] == found[2]


def test_a_small_network_is_updated_by_this_process_alone():
    with Team(network("gru"), 2, Workspace()) as team:
        expected = gradient(team)
        before = team.model.params.flat.copy()
        team.grads.flat[:] = 1
        team.update(0.1, 1)
        assert (team.model.params.flat < before).all()
        assert team._updaters == 1
        assert gradient(team) != expected


@pytest.mark.parametrize("when", ["waiting for work", "in the middle of it"])
def test_a_worker_that_is_killed_is_an_error_of_an_update_too(when):
    with large_team(2) as team:
        (worker,) = process_ids(team)
        if when == "waiting for work":
            kill(worker)
        else:
            os.kill(worker, signal.SIGSTOP)
            threading.Timer(0.2, os.kill, (worker, signal.SIGKILL)).start()
        with pytest.raises(TrainingError, match=rf"1 \({worker}\) was ended by SIGKILL.*the same"):
            team.update(0.1, 1)
        assert process_ids(team) == []
        before = gradient(team)
        team.update(0.1, 1)
        assert gradient(team) != before
        assert len(process_ids(team)) == 1


def test_what_is_updated_by_does_not_make_a_workers_memory_less():
    with large_team(2) as team:
        vector = team.grads.flat.nbytes
        before = team.workers_memory()
        team.grads.flat[:] = 1
        team.update(0.1, 1)
        assert before - vector / 2 <= team.workers_memory() <= before + 3 * vector


def test_what_a_worker_raises_is_raised_and_the_next_batch_finds_new_workers():
    batch = unequal_batch(np.random.default_rng(1))
    wrong = Batch(batch.ids, batch.targets.copy(), batch.sizes)
    wrong.targets[1] = V  # the second sequence's: a worker's
    with Team(network("gru"), 2, Workspace()) as team:
        expected, (first,) = gradient(team), process_ids(team)
        with pytest.raises(TrainingError, match=r"worker process 1 failed: IndexError: index 9"):
            gradient(team, wrong)
        assert process_ids(team) == []
        assert gradient(team) == expected
        assert process_ids(team) != [first]


def test_what_this_process_raises_is_raised_and_the_next_batch_finds_new_workers():
    batch = unequal_batch(np.random.default_rng(1))
    wrong = Batch(batch.ids, batch.targets.copy(), batch.sizes)
    wrong.targets[0] = V
    with Team(network("gru"), 2, Workspace()) as team:
        expected = gradient(team)
        with pytest.raises(IndexError):
            gradient(team, wrong)
        assert gradient(team) == expected


@pytest.mark.parametrize("when", ["waiting for work", "in the middle of it"])
def test_a_worker_that_is_killed_is_an_error_that_says_what_to_do(when):
    with Team(network("lstm"), 3, Workspace()) as team:
        expected = gradient(team)
        _, second = process_ids(team)
        if when == "waiting for work":
            kill(second)
        else:
            os.kill(second, signal.SIGSTOP)  # so it doesn't answer before
            threading.Timer(0.2, os.kill, (second, signal.SIGKILL)).start()
        with pytest.raises(TrainingError, match=rf"2 \({second}\) was ended by SIGKILL.*the same"):
            gradient(team)
        assert process_ids(team) == []
        assert gradient(team) == expected


def test_a_worker_that_can_not_start_is_an_error_that_says_what_to_do(monkeypatch):
    before = open_files()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    team = Team(network("gru"), 2, Workspace())
    with pytest.raises(TrainingError, match=r"not be started: No such file .*lower processes"):
        gradient(team)
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(TrainingError, match=r"worker process 1 .* ended with 1"):
        gradient(team)
    del team
    assert open_files() == before


def test_a_team_that_is_closed_or_forgotten_leaves_no_process_and_no_open_file():
    before = open_files()
    for ends in ("closed", "forgotten"):
        team = Team(network("gru"), 3, Workspace())
        gradient(team)
        workers = [worker._process for worker in team._workers]
        if ends == "closed":
            team.close()
            team.close()
        del team
        assert [worker.returncode for worker in workers] == [-signal.SIGKILL] * 2
    assert open_files() == before


@pytest.mark.skipif(not state_of(os.getpid()), reason="this system doesn't tell who waits")
def test_a_worker_without_work_sleeps():
    with Team(network("gru"), 2, Workspace()) as team:
        gradient(team)
        (worker,) = process_ids(team)
        until(lambda: state_of(worker) == "S")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_asks_to_stop_is_left_to_the_first_process(number):
    with Team(network("gru"), 2, Workspace()) as team:
        expected = gradient(team)
        (worker,) = process_ids(team)
        os.kill(worker, number)
        assert [gradient(team) for _ in range(3)] == [expected] * 3
        assert process_ids(team) == [worker]


SCRIPT = """
import os, sys
sys.path.insert(0, {root!r})
import numpy as np
from tests.test_parallel import Team, Workspace, gradient, network
os.chdir({elsewhere!r})
with Team(network("gru"), 2, Workspace()) as team:
    print(gradient(team)[0])
"""


@pytest.mark.parametrize("way", ["a script", "a command", "a module's folder"])
def test_workers_find_the_library_wherever_the_first_process_runs(way, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("json", "charrnn", "numpy"):  # not to be imported
        (elsewhere / f"{name}.py").write_text("raise SystemExit(3)")
    relative = way == "a module's folder"
    code = SCRIPT.format(root="" if relative else str(ROOT), elsewhere=str(elsewhere))
    (tmp_path / "script.py").write_text(code)
    what = [tmp_path / "script.py"] if way == "a script" else ["-c", code]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    folder: Path = ROOT if relative else tmp_path
    done = subprocess.run(
        [sys.executable, *what], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Team(network("gru"), 2, Workspace()) as team:
        assert done.stdout == f"{gradient(team)[0]}\n"  # the workers print nothing
