"""Decoding: bits that don't depend on the batch, and what joins, leaves, forks and ends it."""

from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn.cells import CELLS
from charrnn.compiled import CompiledModel, Lanes
from charrnn.config import GenerationConfig
from charrnn.decoding import FIRST_STEPS, MOST_STEPS, DecodeBatch
from charrnn.products import BY_ROW, WITH_FOURS, Block
from charrnn.sequences import Arrival
from tests.models import (
    Never,
    busy_lives,
    constant_network,
    differing_lives,
    every_cell,
    network,
)
from tests.test_sampling import allowed_symbols, gumbel_noise

HIDDEN, VOCABULARIES = (1, 7, 64, 128, 130), (2, 27, 65, 300)
PLAIN = GenerationConfig()
BLOCKS = [BY_ROW, Block(8, (8,) * 12), Block(2), WITH_FOURS]


def rng(seed=0):
    return np.random.default_rng(seed)


class Drawn(NamedTuple):
    id: int
    logprob: float
    finish_reason: str | None


def symbols(stretches):
    """What is in stretches, symbol by symbol, by slot."""
    drawn = {}
    for stretch in stretches:
        last = len(stretch.ids) - 1
        for n, (id_, logprob) in enumerate(zip(stretch.ids, stretch.logprobs, strict=True)):
            reason = stretch.finish_reason if n == last else None
            drawn.setdefault(stretch.slot, []).append(Drawn(id_, logprob, reason))
    return drawn


def run(batch, turns=10_000, steps=1):
    """Everything that is drawn until no sequence is left, by slot."""
    stretches = []
    for _ in range(turns):
        if not batch.live:
            return symbols(stretches)
        stretches += batch.step(steps)
    raise AssertionError("it goes on for ever")


def logits_of(batch, slot, steps):
    """What it drew from in the last run, of so many steps: a row for each symbol."""
    return batch._run.logits[:steps][batch._run.slots[:steps] == slot]


def batch_of(network, slots, end=None, block=BY_ROW):
    return DecodeBatch(CompiledModel(network), slots, end=end, block=block)


def admit(batch, prompt, config=PLAIN, seed=0, *, state=None, **settings):
    position = batch.model.read(list(prompt), state)
    return batch.admit(position, [Arrival(config, rng(seed), **settings)])[0]


def only(batch):
    return run(batch)[0]


def log_softmax_of(logits):
    """Independently, in float64."""
    exact = logits.astype(np.float64)
    shifted = exact - exact.max()
    return shifted - np.log(np.exp(shifted).sum())


# Bit for bit


SIZES = list(product(HIDDEN, VOCABULARIES))


def check_bits(cell, layers, sizes):
    """Logits, states and draws, with others joining, leaving, cancelled and forked at random."""
    for hidden, vocab in sizes:
        model = network(cell, hidden=hidden, layers=layers, vocab=vocab)
        for block in {BY_ROW, CompiledModel(model).block}:
            differing, lives = differing_lives(model, seed=hidden * vocab, block=block)
            assert lives > 15
            assert not differing, (hidden, vocab, block)


@pytest.mark.parametrize(("cell", "layers"), every_cell())
def test_a_sequence_alone_equals_itself_in_a_busy_batch_bit_for_bit(cell, layers):
    check_bits(cell, layers, SIZES[layers % 3 :: 3])  # each size with some number of layers


@pytest.mark.prove
@pytest.mark.parametrize(("cell", "layers"), every_cell())
def test_so_it_does_for_networks_of_every_size(cell, layers):
    check_bits(cell, layers, SIZES)


@pytest.mark.parametrize("form", ["by row", "together"])
@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"temperature": 0.5, "top_p": 0.7}])
@pytest.mark.parametrize(("begin", "end"), [(0, 1), (0, 70), (13, 30), (20, 20)])
def test_what_is_drawn_again_leads_to_where_it_led_before(form, settings, begin, end):
    """From an earlier place by the same symbols, beside others: the same state, then new draws."""
    config, model = GenerationConfig(**settings), CompiledModel(network(hidden=64, vocab=27))
    batch = DecodeBatch(model, 8, end=0, block=BY_ROW if form == "by row" else model.block)
    slot = admit(batch, [2], config, fewest=999, limit=999)
    for seed in range(5):
        admit(batch, [3 + seed], seed=seed, fewest=999, limit=999)
    places, ids = [batch.position(slot)], []
    while len(ids) < end:
        ids += [each.id for each in symbols(batch.step())[slot]]
        places.append(batch.position(slot))

    def go_on(position, again):
        arrival = Arrival(config, rng(9), limit=40, fewest=30, again=again)
        batch.cancel(slot)
        (new,) = batch.admit(position, [arrival])
        assert new == slot
        drawn, states = [], {}
        while len(drawn) < len(again) + 30:
            drawn += symbols(batch.step(7 if len(again) > 50 else 1))[slot]
            states[len(drawn) - len(again)] = batch.state(slot).tobytes()
        return drawn, states

    expected, states = go_on(places[end], ())
    drawn, reached = go_on(places[begin], ids[begin:end])
    read, drawn = drawn[: end - begin], drawn[end - begin :]
    assert [each.id for each in read] == ids[begin:end]
    assert drawn[:30] == expected[:30]
    assert {n: reached[n] for n in states.keys() & reached.keys()} == {
        n: states[n] for n in states.keys() & reached.keys()
    }
    assert all(each.id for each in drawn[:29])  # no end before it may come


def test_the_busy_schedule_has_forks_of_forks_cancellations_ends_and_lengths():
    everyone = [
        life
        for hidden in HIDDEN
        for life in busy_lives(
            CompiledModel(network(hidden=hidden, vocab=27)), slots=8, ticks=30, seed=hidden
        )
    ]
    assert any(life.parent and life.parent.parent for life in everyone)
    assert any(life.state is not None and life.fewest and life.constrained for life in everyone)
    last = [life.trace[-1][2][-1] for life in everyone if life.trace]
    assert set(last) == {None, "end", "length"}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("block", BLOCKS)
def test_the_busy_schedule_finds_a_product_whose_rows_depend_on_each_other(
    cell, block, monkeypatch
):
    sabotage(monkeypatch)
    assert differing_lives(network(cell, hidden=128, vocab=27), block=block)[0]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("hidden", [7, 130])
def test_every_slot_of_every_batch_size_has_the_same_bits(cell, hidden):
    model = CompiledModel(network(cell, hidden=hidden, layers=2, vocab=27))
    prompt, others = [3, 1, 4, 1, 5], rng(1).integers(0, 27, (17, 5))
    for block in {BY_ROW, model.block}:
        expected = None
        for size in range(1, 18):
            for slot in range(size):
                batch = DecodeBatch(model, 17, block=block)
                slots = [
                    admit(batch, prompt if k == slot else others[k], seed=99, limit=9)
                    for k in range(size)
                ]
                batch.step(5)
                bits = batch.state(slots[slot]), logits_of(batch, slots[slot], 5)
                expected = expected or bits
                assert all(np.array_equal(*pair) for pair in zip(bits, expected, strict=True))


def sabotage(monkeypatch):
    """Every product depends a little on how many rows it has, and a row on its place."""

    whole = Lanes._multiplication

    def multiplication(self, n, h, lanes, fours):
        multiply, products = whole(self, n, h, lanes, fours), self._waiting[n][:, lanes]

        def disturbed():
            multiply()
            if h.ndim == 2:
                products[:, 1::2] += np.float32(1e-6) * len(h)

        return disturbed

    monkeypatch.setattr(Lanes, "_multiplication", multiplication)


# Prompts, states, forks


@pytest.mark.parametrize("cell", CELLS)
def test_a_drawn_prefix_leaves_the_state_of_the_same_prefix_as_a_prompt(cell):
    model = CompiledModel(network(cell, hidden=7, layers=2, vocab=9))
    batch = DecodeBatch(model, 1)
    slot = admit(batch, [1], seed=5, limit=99)
    ids = [one.id for one in symbols(batch.step(12))[slot]]
    read = model.read([1, *ids])
    assert np.array_equal(batch.state(slot), read.state)
    assert batch.position(slot).id == read.id == ids[-1]


def test_a_given_state_is_copied_in_and_a_state_copied_out():
    batch = batch_of(network("gru", vocab=4), 2)
    given_state = np.full((1, 1, 8), 0.5, np.float32)
    slot = admit(batch, [1], limit=9, state=given_state)
    given_state[...] = np.nan
    assert (batch.state(slot) == 0.5).all()
    batch.state(slot)[...] = np.nan
    batch.step(3)
    assert np.isfinite(batch.state(slot)).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_slot_that_was_used_begins_with_a_fresh_state(block):
    batch = batch_of(network("lstm", vocab=4), 1, block=block)
    first = admit(batch, [1, 2], seed=3, limit=5)
    before, drawn = batch.state(first), run(batch)
    again = admit(batch, [1, 2], seed=3, limit=5)
    assert again == first
    assert np.array_equal(batch.state(again), before)
    assert run(batch) == drawn


@pytest.mark.parametrize("made", [0, 3, 16, 20, 32, 90])
@pytest.mark.parametrize("block", BLOCKS)
def test_forks_with_equal_random_numbers_go_on_alike_and_leave_their_origin_alone(made, block):
    """Forked within, between and behind the first blocks of noise."""

    def admitted():
        batch = batch_of(network("gru", hidden=7, vocab=9), 4, block=block)
        slot = admit(batch, [1, 2, 3, 4], limit=120)
        for _ in range(made):
            batch.step()
        return batch, slot

    alone_batch, alone_slot = admitted()
    alone = run(alone_batch)[alone_slot]
    batch, slot = admitted()
    twins = [batch.fork(slot, rng(7)), batch.fork(slot, rng(7))]
    other = batch.fork(slot, rng(8))
    assert np.array_equal(batch.state(twins[0]), batch.state(slot))
    drawn = run(batch)
    assert drawn[slot] == alone
    assert drawn[twins[0]] == drawn[twins[1]]
    assert [one.id for one in drawn[twins[0]]] != [one.id for one in drawn[other]]
    assert {len(drawn[k]) for k in (*twins, other)} == {len(alone)}


def test_a_fork_goes_on_with_its_minimum_length_and_its_constraint_where_they_were():
    batch = batch_of(constant_network([90.0, 40, 0, 0]), 4, end=0)
    slots = [
        admit(batch, [1], limit=50, fewest=10),
        admit(batch, [1], limit=50, fewest=20, constraint=Never(1, 4, 10)),
    ]
    batch.step(4)
    forks = [batch.fork(slot, rng(1)) for slot in slots]
    drawn = run(batch)
    for slot in (slots[0], forks[0]):
        assert len(drawn[slot]) == 11 - 4
    for slot in (slots[1], forks[1]):
        assert [one.id == 1 for one in drawn[slot]] == [False] * 6 + [True] * 10 + [False]
    assert {one[-1].finish_reason for one in drawn.values()} == {"end"}


# Joining, leaving, ending


def test_a_cancelled_slot_is_free_at_once():
    batch = batch_of(network(), 2)
    first, second = (admit(batch, [1], limit=9) for _ in range(2))
    assert (batch.live, batch.free) == (2, 0)
    batch.cancel(first)
    assert (batch.live, batch.free) == (1, 1)
    assert admit(batch, [2], limit=9) == first
    batch.cancel(second)
    assert {one.slot for one in batch.step()} == {first}


def test_a_slot_that_is_not_in_use_is_an_error():
    batch = batch_of(network(), 2)
    slot = admit(batch, [1], limit=1)
    batch.step()
    for use in (batch.state, batch.cancel, batch.position, lambda s: batch.fork(s, rng())):
        with pytest.raises(KeyError, match="not in use"):
            use(slot)


def test_a_full_batch_admits_nobody_and_is_none_the_worse():
    batch = batch_of(network(), 1)
    slot = admit(batch, [1], limit=3)
    for intrude in (lambda: admit(batch, [2], limit=3), lambda: batch.fork(slot, rng())):
        with pytest.raises(IndexError):
            intrude()
    assert (batch.live, batch.free) == (1, 0)
    assert len(run(batch)[slot]) == 3


def test_an_empty_batch_steps_to_nothing():
    assert batch_of(network(), 3).step(5) == []


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.integers(0, 100),
    st.sampled_from(BLOCKS),
)
def test_n_steps_at_once_equal_n_steps(groups, seed, block):
    model = CompiledModel(network("gru", hidden=7, vocab=5))

    def drawn(turns):
        batch = DecodeBatch(model, 4, end=0, block=block)
        for k in range(4):
            config = GenerationConfig(top_k=3) if k == 2 else PLAIN
            admit(batch, range(1, 2 + k % 3), config, [seed, k], limit=4 + 30 * k, fewest=k)
        return symbols([stretch for n in turns for stretch in batch.step(n)])

    one_by_one = drawn([1] * sum(groups))
    assert drawn(groups) == one_by_one
    at_once = drawn([sum(groups)])  # up to `most_steps`
    assert at_once == {slot: ids[:MOST_STEPS] for slot, ids in one_by_one.items()}


def test_stretches_come_in_the_order_of_slots():
    batch = batch_of(network(vocab=27), 6, end=0)
    for k in range(6):
        admit(batch, [1], seed=k, limit=3 + 5 * (k % 3))
    assert [stretch.slot for stretch in batch.step(9)] == list(range(6))
    assert batch.free == 6 - batch.live


@pytest.mark.parametrize("limit", [1, 2, FIRST_STEPS, FIRST_STEPS + 1, MOST_STEPS + 1, 300])
@pytest.mark.parametrize("steps", [1, MOST_STEPS])
def test_a_limit_ends_a_sequence_as_length(limit, steps):
    batch = batch_of(network(), 1)
    slot = admit(batch, [1, 2, 3], limit=limit)
    drawn = run(batch, steps=steps)[slot]
    assert [one.finish_reason for one in drawn] == [None] * (limit - 1) + ["length"]
    assert batch.free == 1


def test_the_end_symbol_ends_a_sequence_as_end_even_at_its_limit():
    batch = batch_of(constant_network([60.0, 0, 0]), 1, end=0)
    admit(batch, [1], limit=1)
    assert run(batch)[0][0].finish_reason == "end"


def test_without_an_end_symbol_nothing_but_the_limit_ends_a_sequence():
    batch = batch_of(constant_network([60.0, 0, 0]), 1)
    admit(batch, [1], limit=50, fewest=20)
    assert [one.id for one in run(batch)[0]] == [0] * 50


@pytest.mark.parametrize("temperature", [0, 1e-300, 1, 10])
@pytest.mark.parametrize("limits", [{}, {"top_k": 1}, {"top_p": 1e-9}])
@pytest.mark.parametrize("fewest", [5, FIRST_STEPS, 100])
def test_a_minimum_length_never_loops_where_the_end_is_all_but_certain(temperature, limits, fewest):
    config = GenerationConfig(temperature=temperature, **limits)
    for logit in (40, 1e30, 3e38):  # the end's probability is 1 in float32
        batch = batch_of(constant_network([logit, 0, -1, -2]), 1, end=0)
        admit(batch, [1], config, limit=150, fewest=fewest)
        drawn = run(batch, steps=7)[0]
        assert [one.finish_reason for one in drawn] == [None] * fewest + ["end"]
        assert all(one.id for one in drawn[:fewest])
        assert np.isfinite([one.logprob for one in drawn]).all()


# Distribution


@pytest.mark.parametrize("temperature", [0, 1e-40, 0.3, 1, 3])
@pytest.mark.parametrize("limits", [{}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 4, "top_p": 0.5}])
@pytest.mark.parametrize("forbidden", ["nothing", "the end", "a symbol"])
@pytest.mark.parametrize("slots", [1, 2])
def test_what_is_drawn_is_the_argmax_that_test_sampling_holds_to_the_softmax(
    temperature, limits, forbidden, slots
):
    logits = np.array([1.5, 0.3, -0.7, 1.1, -2.0, 0.9], np.float32)
    config, steps = GenerationConfig(temperature=temperature, **limits), 3 * MOST_STEPS + 5
    batch = batch_of(constant_network(logits), slots, end=0 if forbidden == "the end" else None)
    for k in range(slots):
        constraint = Never(3, 6) if forbidden == "a symbol" else None
        fewest = steps if forbidden == "the end" else 0
        admit(batch, [2], config, 11 + k, limit=steps, fewest=fewest, constraint=constraint)
    left = logits.copy()
    left[{"nothing": [], "the end": [0], "a symbol": [3]}[forbidden]] = -np.inf
    allowed = allowed_symbols(left[None], [config])[0]
    for slot, drawn in run(batch).items():
        noise = gumbel_noise(rng(11 + slot), steps, 6)
        scores = np.where(allowed, left + np.float32(temperature) * noise, -np.inf)
        assert [one.id for one in drawn] == scores.argmax(axis=1).tolist()


@pytest.mark.parametrize(
    "limits",
    [{}, {"temperature": 0}, {"temperature": 3.0, "top_k": 3}, {"temperature": 0.3, "top_p": 0.5}],
)
@pytest.mark.parametrize(("cell", "layers"), every_cell((1, 2)))
@pytest.mark.parametrize("block", BLOCKS)
def test_logprobs_are_the_plain_networks_at_temperature_1_unconstrained(
    cell, layers, limits, block
):
    plain = network(cell, hidden=64, vocab=27, layers=layers)
    batch = batch_of(plain, 3, end=0, block=block)
    for k in range(3):
        admit(batch, [1, 2], GenerationConfig(**limits), k, limit=25 + k, fewest=20)
    for drawn in run(batch, steps=6).values():
        assert len(drawn) >= 20
        state = plain.init_state(1)
        _, state = plain.step(np.array([1]), state)
        for before, one in zip([2, *(one.id for one in drawn)], drawn, strict=False):
            logits, state = plain.step(np.array([before]), state)
            assert abs(one.logprob - log_softmax_of(logits[0])[one.id]) < 2e-5


def test_what_a_batch_holds_does_not_grow_with_the_length_of_a_text():
    batch = batch_of(network(vocab=5), 1)
    admit(batch, [1], limit=10**6)

    def held():
        arrays = [value for value in vars(batch).values() if isinstance(value, np.ndarray)]
        return sum(array.nbytes for array in arrays)

    before = held()
    for _ in range(40):
        batch.step(MOST_STEPS)
        assert held() == before


@pytest.mark.parametrize("block", BLOCKS)
def test_a_large_vocabulary_draws_its_noise_in_fewer_steps_with_the_same_result(block):
    draws = []
    for numbers in (1 << 17, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("charrnn.decoding.RUN_NUMBERS", numbers)
            batch = batch_of(network(vocab=27), 1, block=block)
        admit(batch, [1], seed=3, limit=170)
        draws.append(run(batch, steps=9))
    assert batch.most_steps == 1
    assert draws[0] == draws[1]
