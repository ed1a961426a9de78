"""Decoding: bits that don't depend on the batch, and what joins, leaves, forks and ends it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn.cells import CELLS
from charrnn.config import GenerationConfig
from charrnn.constraints import MinLength
from charrnn.decoding import NOISE_STEPS, DecodeBatch, rows_are_exact
from charrnn.model import CharRNN
from charrnn.sampling import gumbel_noise, top_symbols
from tests.models import (
    Recorder,
    busy_lives,
    constant_network,
    differing_lives,
    every_cell,
    network,
)

HIDDEN, VOCABULARIES = (1, 7, 64, 128, 130), (2, 27, 65, 300)
PLAIN = GenerationConfig()


def rng(seed=0):
    return np.random.default_rng(seed)


def run(batch, steps=10_000):
    """Everything that is drawn until no sequence is left, by slot."""
    drawn = {}
    for _ in range(steps):
        if not batch.live:
            return drawn
        for one in batch.step():
            drawn.setdefault(one.slot, []).append(one)
    raise AssertionError("it goes on for ever")


def only(batch):
    return run(batch)[0]


def log_softmax_of(logits):
    """Independently, in float64."""
    exact = logits.astype(np.float64)
    shifted = exact - exact.max()
    return shifted - np.log(np.exp(shifted).sum())


# Bit for bit


@pytest.mark.parametrize(("cell", "layers"), every_cell())
def test_a_sequence_alone_equals_itself_in_a_busy_batch_bit_for_bit(cell, layers):
    """Logits, states and draws, with others joining, leaving, cancelled and forked at random."""
    for hidden in HIDDEN:
        for vocab in VOCABULARIES:
            model = network(cell, hidden=hidden, layers=layers, vocab=vocab)
            differing, lives = differing_lives(model, seed=hidden * vocab)
            assert lives > 15
            assert not differing, (hidden, vocab)


def test_the_busy_schedule_has_forks_of_forks_cancellations_ends_and_lengths():
    everyone = [
        life
        for hidden in HIDDEN
        for life in busy_lives(network(hidden=hidden, vocab=27), slots=8, ticks=30, seed=hidden)
    ]
    assert any(life.parent and life.parent.parent for life in everyone)
    assert any(life.state is not None and life.fewest for life in everyone)
    last = [life.trace[-1][2] for life in everyone if life.trace]
    assert {one and one[2] for one in last} == {None, "end", "length"}


@pytest.mark.parametrize("cell", CELLS)
def test_the_busy_schedule_finds_a_product_whose_rows_depend_on_each_other(cell, monkeypatch):
    sabotage(monkeypatch)
    assert differing_lives(network(cell, hidden=128, vocab=27))[0]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("hidden", [7, 130])
def test_every_slot_of_every_batch_size_has_the_same_bits(cell, hidden):
    model = network(cell, hidden=hidden, layers=2, vocab=27)
    prompt, others = [3, 1, 4, 1, 5], rng(1).integers(0, 27, (17, 5))
    expected = None
    for size in range(1, 18):
        for slot in range(size):
            batch = DecodeBatch(Recorder(model), 17)
            slots = [
                batch.admit(np.array(prompt) if k == slot else others[k], PLAIN, rng(k), limit=9)
                for k in range(size)
            ]
            batch.step(5)
            state, logits = batch.state(slots[slot]), batch.model.logits[slot]
            if expected is None:
                expected = state, logits
            assert np.array_equal(state, expected[0])
            assert np.array_equal(logits, expected[1])


def test_rows_are_exact_here():
    for cell in CELLS:
        assert rows_are_exact(network(cell, hidden=128, layers=2, vocab=27))


def sabotage(monkeypatch):
    for module in ("model", "cells.rnn", "cells.lstm", "cells.gru"):
        monkeypatch.setattr(f"charrnn.{module}.matmul_rows", lambda x, weights: x @ weights)


@pytest.mark.parametrize("cell", CELLS)
def test_rows_that_depend_on_the_batch_are_noticed(cell, monkeypatch):
    sabotage(monkeypatch)
    assert not rows_are_exact(network(cell, hidden=128, vocab=27))


def test_one_slot_that_differs_in_one_state_is_noticed():
    class Off(CharRNN):
        def step(self, ids, state):
            logits, state = super().step(ids, state)
            if len(ids) == 13:
                state[-1, -1, 12, -1] = np.nextafter(state[-1, -1, 12, -1], np.float32(9))
            return logits, state

    model = network("lstm", hidden=16, layers=2)
    assert not rows_are_exact(Off(model.config, model.params))


# In other processes, on other kernels of the BLAS library

NEEDED = {
    "Nehalem": {"sse4_2"},
    "Sandybridge": {"avx"},
    "Haswell": {"avx2", "fma"},
    "Zen": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512dq", "avx512bw", "avx512vl"},
}

CHILD = """
import hashlib, json
import numpy as np
from charrnn.decoding import rows_are_exact
from charrnn.threads import blas_kernel
from tests.models import differing_lives, network, titled

digest, differing = hashlib.sha256(), 0
for cell in ("rnn", "lstm", "gru"):
    for hidden, layers, vocab in ((1, 2, 2), (7, 3, 27), (128, 1, 300), (130, 2, 65)):
        model = network(cell, hidden=hidden, layers=layers, vocab=vocab)
        differing += differing_lives(model, ticks=8, seed=hidden)[0]
exact = rows_are_exact(network(hidden=128, vocab=27), steps=2)
model = network("lstm", hidden=512, layers=2, vocab=65)  # large enough for threads to share a row
state = rows = model.init_state(5)
for _ in range(2):
    logits, state = model.step(np.arange(5), state)
    alone = [model.step(np.arange(k, k + 1), rows[:, :, k : k + 1]) for k in range(5)]
    rows = np.concatenate([row for _, row in alone], axis=2)
    exact &= np.array_equal(np.concatenate([row for row, _ in alone]), logits)
    exact &= np.array_equal(rows, state)
    digest.update(logits.tobytes() + state.tobytes())
for hidden, layers in ((7, 1), (130, 2)):
    made = titled(hidden=hidden, layers=layers).generate("R", count=3, random_seed=3)
    digest.update(repr(list(made)).encode())
print(json.dumps([blas_kernel(), differing, exact, digest.hexdigest()]))
"""


def child(**environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cpu_flags():
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = [line for line in text.splitlines() if line.startswith("flags")]
    return set(lines[0].split()) if lines else set()


@pytest.mark.parametrize("kernel", NEEDED)
def test_bits_depend_neither_on_the_batch_nor_on_the_threads_under(kernel):
    missing = NEEDED[kernel] - cpu_flags()
    if missing:
        pytest.skip(f"this processor can't run {kernel}: it has no {', '.join(sorted(missing))}")
    results = [
        child(OPENBLAS_CORETYPE=kernel, OPENBLAS_NUM_THREADS=threads) for threads in ("1", "2")
    ]
    for _, differing, exact, _ in results:
        assert not differing
        assert exact
    assert results[0] == results[1]


def test_bits_do_not_depend_on_the_batch_without_numpys_wide_vectors():
    from numpy._core import _multiarray_umath as umath

    found = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]
    if not found:
        pytest.skip("this numpy has one form of each function for this processor")
    _, differing, exact, _ = child(NPY_DISABLE_CPU_FEATURES=" ".join(found))
    assert not differing
    assert exact


# Prompts, states, forks


@pytest.mark.parametrize(("cell", "layers"), every_cell((1, 2)))
def test_the_state_after_a_prefix_does_not_depend_on_how_it_was_split(cell, layers):
    model, prefix = network(cell, hidden=7, layers=layers, vocab=9), [1, 2, 3, 4, 5, 6, 7]
    whole = DecodeBatch(model, 1)
    slot = whole.admit(np.array(prefix), PLAIN, rng(), limit=99)
    whole.step(len(prefix))
    for cut in range(1, len(prefix)):
        first = DecodeBatch(model, 1)
        early = first.admit(np.array(prefix[:cut]), PLAIN, rng(), limit=99)
        first.step(cut)
        late = DecodeBatch(model, 1)
        again = late.admit(np.array(prefix[cut:]), PLAIN, rng(), limit=99, state=first.state(early))
        drawn = late.step(len(prefix) - cut)
        assert np.array_equal(late.state(again), whole.state(slot))
        assert len(drawn) == 1  # nothing is drawn before the prompt's last symbol is read


@pytest.mark.parametrize("cell", CELLS)
def test_a_drawn_prefix_leaves_the_state_of_the_same_prefix_as_a_prompt(cell):
    model = network(cell, hidden=7, layers=2, vocab=9)
    drawing = DecodeBatch(model, 1)
    slot = drawing.admit(np.array([1]), PLAIN, rng(5), limit=99)
    ids = [one.id for one in drawing.step(12)]
    reading = DecodeBatch(model, 1)
    again = reading.admit(np.array([1, *ids[:-1]]), PLAIN, rng(9), limit=99)
    reading.step(12)
    assert np.array_equal(drawing.state(slot), reading.state(again))


def test_a_given_state_is_copied_in_and_a_state_copied_out():
    model = network("gru", vocab=4)
    batch, given_state = DecodeBatch(model, 2), np.full((1, 1, 8), 0.5, np.float32)
    slot = batch.admit(np.array([1]), PLAIN, rng(), limit=9, state=given_state)
    given_state[...] = np.nan
    assert (batch.state(slot) == 0.5).all()
    batch.state(slot)[...] = np.nan
    batch.step(3)
    assert np.isfinite(batch.state(slot)).all()


def test_a_slot_that_was_used_begins_with_a_fresh_state():
    model = network("lstm", vocab=4)
    batch = DecodeBatch(model, 1)
    first = batch.admit(np.array([1, 2]), PLAIN, rng(3), limit=5)
    run(batch)
    again = batch.admit(np.array([1, 2]), PLAIN, rng(3), limit=5)
    assert again == first
    assert not batch.state(again).any()


@pytest.mark.parametrize("read", [1, 3, 6, 40])
def test_forks_with_equal_random_numbers_go_on_alike_and_leave_their_origin_alone(read):
    """Forked while the prompt is read, and after; 40 is in a second block of noise."""
    model = network("gru", hidden=7, vocab=9)

    def admitted():
        batch = DecodeBatch(model, 4)
        slot = batch.admit(np.array([1, 2, 3, 4]), PLAIN, rng(0), limit=60)
        batch.step(read)
        return batch, slot

    alone_batch, alone_slot = admitted()
    alone = run(alone_batch)[alone_slot]
    batch, slot = admitted()
    twins = [batch.fork(slot, rng(7)), batch.fork(slot, rng(7))]
    other = batch.fork(slot, rng(8))
    assert np.array_equal(batch.state(twins[0]), batch.state(slot))
    drawn = run(batch)
    assert [one[1:] for one in drawn[slot]] == [one[1:] for one in alone]
    assert [one[1:] for one in drawn[twins[0]]] == [one[1:] for one in drawn[twins[1]]]
    assert [one.id for one in drawn[twins[0]]] != [one.id for one in drawn[other]]
    assert {len(drawn[k]) for k in (*twins, other)} == {len(alone)}


def test_a_fork_goes_on_with_its_constraint_where_it_was():
    model = network(vocab=4, end=0, end_logit=50)
    batch = DecodeBatch(model, 2, end=0)
    slot = batch.admit(np.array([1]), PLAIN, rng(), limit=50, constraint=MinLength(10, 0, 4))
    batch.step(4)
    fork = batch.fork(slot, rng(1))
    drawn = run(batch)
    assert len(drawn[slot]) == len(drawn[fork]) == 11 - 4
    assert {one[-1].finish_reason for one in drawn.values()} == {"end"}


# Joining, leaving, ending


def test_a_cancelled_slot_is_free_at_once():
    batch = DecodeBatch(network(), 2)
    first = batch.admit(np.array([1]), PLAIN, rng(), limit=9)
    second = batch.admit(np.array([1]), PLAIN, rng(), limit=9)
    assert (batch.live, batch.free) == (2, 0)
    batch.cancel(first)
    assert (batch.live, batch.free) == (1, 1)
    assert batch.admit(np.array([2]), PLAIN, rng(), limit=9) == first
    batch.cancel(second)
    assert {one.slot for one in batch.step()} == {first}


def test_a_slot_that_is_not_in_use_is_an_error():
    batch = DecodeBatch(network(), 2)
    slot = batch.admit(np.array([1]), PLAIN, rng(), limit=1)
    batch.step()
    for use in (batch.state, batch.cancel, lambda s: batch.fork(s, rng())):
        with pytest.raises(KeyError, match="not in use"):
            use(slot)


def test_a_full_batch_admits_nobody_and_is_none_the_worse():
    batch = DecodeBatch(network(), 1)
    slot = batch.admit(np.array([1]), PLAIN, rng(), limit=3)
    for intrude in (
        lambda: batch.admit(np.array([2]), PLAIN, rng(), limit=3),
        lambda: batch.fork(slot, rng()),
    ):
        with pytest.raises(IndexError):
            intrude()
    assert (batch.live, batch.free) == (1, 0)
    assert len(run(batch)[slot]) == 3


def test_an_empty_batch_steps_to_nothing():
    assert DecodeBatch(network(), 3).step(5) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(0, 100))
def test_n_steps_at_once_equal_n_steps(groups, seed):
    model = network("gru", hidden=7, vocab=5)

    def filled():
        batch = DecodeBatch(model, 4, end=0)
        for k in range(4):
            prompt = np.arange(1, 2 + k % 3)
            batch.admit(prompt, PLAIN, rng([seed, k]), limit=4 + 3 * k)
        return batch

    at_once, one_by_one = filled(), filled()
    assert at_once.step(sum(groups)) == [d for _ in range(sum(groups)) for d in one_by_one.step()]
    in_groups = filled()
    drawn = [one for n in groups for one in in_groups.step(n)]
    again = filled()
    assert drawn == again.step(sum(groups))


@pytest.mark.parametrize("limit", [1, 2, 31, 32, 33])
def test_a_limit_ends_a_sequence_as_length(limit):
    batch = DecodeBatch(network(), 1)
    batch.admit(np.array([1, 2, 3]), PLAIN, rng(), limit=limit)
    drawn = only(batch)
    assert [one.finish_reason for one in drawn] == [None] * (limit - 1) + ["length"]
    assert batch.free == 1


def test_the_end_symbol_ends_a_sequence_as_end_even_at_its_limit():
    batch = DecodeBatch(constant_network([60.0, 0, 0]), 1, end=0)
    batch.admit(np.array([1]), PLAIN, rng(), limit=1)
    assert only(batch)[0].finish_reason == "end"


def test_without_an_end_symbol_nothing_but_the_limit_ends_a_sequence():
    batch = DecodeBatch(constant_network([60.0, 0, 0]), 1)
    batch.admit(np.array([1]), PLAIN, rng(), limit=50)
    assert [one.id for one in only(batch)] == [0] * 50


@pytest.mark.parametrize("temperature", [0, 1e-300, 1, 10])
@pytest.mark.parametrize("limits", [{}, {"top_k": 1}, {"top_p": 1e-9}])
def test_a_minimum_length_never_loops_where_the_end_is_all_but_certain(temperature, limits):
    config = GenerationConfig(temperature=temperature, **limits)
    for logit in (40, 1e30, 3e38):  # the end's probability is 1 in float32
        batch = DecodeBatch(constant_network([logit, 0, -1, -2]), 1, end=0)
        constraint = MinLength(5, 0, 4)
        batch.admit(np.array([1]), config, rng(), limit=50, constraint=constraint)
        drawn = only(batch)
        assert [one.finish_reason for one in drawn] == [None] * 5 + ["end"]
        assert all(one.id for one in drawn[:5])
        assert np.isfinite([one.logprob for one in drawn]).all()


# Distribution


@pytest.mark.parametrize("temperature", [0, 1e-40, 0.3, 1, 3])
@pytest.mark.parametrize("limits", [{}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 4, "top_p": 0.5}])
@pytest.mark.parametrize("forbidden", [False, True])
def test_what_is_drawn_is_the_argmax_that_test_sampling_holds_to_the_softmax(
    temperature, limits, forbidden
):
    logits = np.array([1.5, 0.3, -0.7, 1.1, -2.0, 0.9], np.float32)
    config, steps = GenerationConfig(temperature=temperature, **limits), 3 * NOISE_STEPS + 5
    batch = DecodeBatch(constant_network(logits), 1)
    constraint = MinLength(10**6, 0, 6) if forbidden else None
    batch.admit(np.array([2]), config, rng(11), limit=steps, constraint=constraint)
    left = logits.copy()
    if forbidden:
        left[0] = -np.inf
    allowed = top_symbols(left, temperature, limits.get("top_k"), limits.get("top_p"))
    noise = gumbel_noise(rng(11), steps, 6)
    scores = np.where(allowed, left + np.float32(temperature) * noise, -np.inf)
    assert [one.id for one in only(batch)] == scores.argmax(axis=1).tolist()


@pytest.mark.parametrize(
    "limits",
    [{}, {"temperature": 0}, {"temperature": 3.0, "top_k": 3}, {"temperature": 0.3, "top_p": 0.5}],
)
@pytest.mark.parametrize("cell", CELLS)
def test_logprobs_are_those_of_temperature_1_unconstrained(cell, limits):
    model = network(cell, hidden=64, vocab=27)
    batch = DecodeBatch(Recorder(model), 3, end=0)
    for k in range(3):
        constraint = MinLength(20, 0, 27)
        prompt = np.array([1, 2])
        batch.admit(prompt, GenerationConfig(**limits), rng(k), limit=25, constraint=constraint)
    compared = 0
    while batch.live:
        rows = {sequence.slot: row for row, sequence in enumerate(batch._live)}
        for one in batch.step():
            expected = log_softmax_of(batch.model.logits[rows[one.slot]])[one.id]
            assert abs(one.logprob - expected) < 1e-5
            compared += 1
    assert compared >= 60


def test_the_noise_of_a_sequence_does_not_grow_with_its_length():
    batch = DecodeBatch(network(vocab=5), 1)
    batch.admit(np.array([1]), PLAIN, rng(), limit=10**6)
    for _ in range(40):
        batch.step(NOISE_STEPS // 2)
        assert batch._live[0].noise.shape == (NOISE_STEPS, 5)


def test_admitting_reads_nothing_of_what_the_caller_still_holds():
    batch = DecodeBatch(network(vocab=5), 1)
    prompt = np.array([1, 2, 3])
    slot = batch.admit(prompt, PLAIN, rng(), limit=9)
    prompt[:] = 99
    batch.step(3)
    assert np.isfinite(batch.state(slot)).all()


def test_a_large_vocabulary_draws_its_noise_in_fewer_steps_with_the_same_result():
    draws = []
    for numbers in (1 << 14, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("charrnn.decoding.NOISE_NUMBERS", numbers)
            batch = DecodeBatch(network(vocab=27), 1)
        batch.admit(np.array([1]), PLAIN, rng(3), limit=70)
        draws.append(only(batch))
    assert batch._noise_steps == 1
    assert draws[0] == draws[1]
