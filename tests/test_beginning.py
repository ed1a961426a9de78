"""What sequences begin with is looked up: the same bits as without, whatever comes in between."""

from typing import NamedTuple

import numpy as np
import pytest

from charrnn import compiled
from charrnn.compiled import Beginning, CompiledModel
from charrnn.config import GenerationConfig
from charrnn.decoding import DecodeBatch
from charrnn.products import BY_ROW, WITH_FOURS
from charrnn.sequences import Arrival
from tests.models import Never, every_cell, generator, names_model, network

START, VOCAB = 3, 27


@pytest.fixture
def looks(monkeypatch):
    """How many runs began with what was looked up: an item for each."""
    made, reads = [], Beginning.reads
    monkeypatch.setattr(Beginning, "reads", lambda *each: (made.append(1), reads(*each))[1])
    return made


def arrivals(count, config=None, **settings):
    """Some sequences, each with random numbers of its own."""
    config = config or GenerationConfig()
    rngs = [np.random.default_rng(seed) for seed in range(count)]
    return [Arrival(config, rng, **{"limit": 25, **settings}) for rng in rngs]


def begun(model, block, count, *, end=0, **settings):
    """A batch in which so many begin with a start symbol, and their slots."""
    batch = DecodeBatch(model, 8, end=end, block=block)
    return batch, batch.admit(model.read([START]), arrivals(count, **settings))


def told(batch, runs):
    """What is drawn in some runs, each of so many steps and stopped after some, and the states that
    are left behind each.
    """
    told = []
    for steps, stopped in runs:
        goes_on = iter([True] * (stopped - 1))
        drawn = batch.step(steps, lambda: next(goes_on, False))  # noqa: B023
        told.append((drawn, [batch.state(one.slot).tobytes() for one in batch._live]))
    return told


class Plan(NamedTuple):
    """What happens to a batch before it is stepped, and in which runs it is."""

    runs: list
    is_looked_up: bool
    prepare: object = lambda batch, slots: None


WHOLE = [(40, 40)]
PLANS = {
    "all at once": Plan(WHOLE, True),
    "step by step": Plan([(1, 1)] * 25, False),
    "by two steps": Plan([(2, 2)] * 13, True),
    "stopped behind the first": Plan([(9, 1), *WHOLE], True),
    "stopped behind the second": Plan([(9, 2), *WHOLE], True),
    "stopped behind the third": Plan([(9, 3), *WHOLE], True),
    "one leaves": Plan(WHOLE, True, lambda batch, slots: batch.cancel(slots[0])),
    "states are asked for": Plan(WHOLE, True, lambda batch, slots: batch.position(slots[0])),
    "another joins": Plan(
        WHOLE, False, lambda batch, _: batch.admit(batch.model.read([1, 2]), arrivals(1))
    ),
    "another that begins alike joins": Plan(
        WHOLE, False, lambda batch, _: batch.admit(batch.model.read([START]), arrivals(1))
    ),
    "one is forked": Plan(
        WHOLE, False, lambda batch, slots: batch.fork(slots[0], np.random.default_rng(9))
    ),
    "one stands still and returns": Plan(
        WHOLE, False, lambda batch, slots: batch.unpark(batch.park(slots[-1]))
    ),
}


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("cell", "layers"), every_cell((1, 2)))
def test_it_has_the_same_bits(cell, layers, plan, count, looks, monkeypatch):
    check(
        network(cell, hidden=64, layers=layers, vocab=VOCAB), count, PLANS[plan], looks, monkeypatch
    )


@pytest.mark.parametrize("hidden", [7, 128])
@pytest.mark.parametrize("plan", ["all at once", "by two steps", "step by step"])
@pytest.mark.parametrize(("cell", "layers"), every_cell((1, 2)))
def test_so_it_has_for_one_alone(cell, layers, plan, hidden, looks, monkeypatch):
    network_ = network(cell, hidden=hidden, layers=layers, vocab=VOCAB)
    check(network_, 1, PLANS[plan], looks, monkeypatch)


SETTINGS = {
    "top_k": {"config": GenerationConfig(top_k=3)},
    "top_p": {"config": GenerationConfig(temperature=0.5, top_p=0.7)},
    "greedy": {"config": GenerationConfig(temperature=0)},
    "a constraint": {"constraint": Never(5, VOCAB, 10)},
    "no early end": {"fewest": 4},
    "no end": {"end": None},
    "no end, again": {"end": None, "again": (5, 6, 7)},
    "one symbol": {"limit": 1},
    "two symbols": {"limit": 2},
    "three symbols": {"limit": 3},
    "again": {"again": (5, 6, 7)},
    "more again": {"again": tuple(range(4, 20)) * 2},
}


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("which", SETTINGS)
def test_so_it_has_with_every_setting(which, count, looks, monkeypatch):
    settings = SETTINGS[which]
    plan = Plan(WHOLE, settings.get("limit") != 1)
    check(network("lstm", hidden=64, vocab=VOCAB), count, plan, looks, monkeypatch, **settings)


@pytest.mark.parametrize("count", [1, 5])
def test_so_it_has_where_the_first_or_the_second_symbol_is_the_end(count, looks, monkeypatch):
    for logit in (2.0, 3.0, 30.0):
        ends = network("gru", hidden=64, vocab=VOCAB, end=0, end_logit=logit)
        check(ends, count, Plan(WHOLE, True), looks, monkeypatch)


def check(net, count, plan, looks, monkeypatch, **settings):
    """With it and without it the same, and where the plan says so it is used, the second time."""
    for block in {BY_ROW, CompiledModel(net).block}:
        seen = []
        for most in (0, 1 << 25):
            monkeypatch.setattr(compiled, "BEGINNING_BYTES", most)
            model = CompiledModel(net)
            for _ in range(2):
                looks.clear()
                batch, slots = begun(model, block, count, **settings)
                plan.prepare(batch, slots)
                seen.append((told(batch, plan.runs), len(looks)))
        (expected, none), *others, (again, used) = seen
        assert [each for each, _ in others] == [expected, expected]
        assert again == expected
        assert [none, *(number for _, number in others)] == [0, 0, 0]
        assert used == plan.is_looked_up
        assert expected[0][0]


def test_it_is_kept_for_a_start_symbol_of_a_small_network_alone(monkeypatch):
    model = CompiledModel(network(vocab=VOCAB))
    for position in (model.read([1, 2]), model.start(START), model.read([1], np.ones((1, 2, 8)))):
        assert [model.beginning(position, BY_ROW) for _ in range(3)] == [None] * 3
    first = model.read([START])
    assert model.beginning(first, BY_ROW) is None
    kept = model.beginning(first, BY_ROW)
    assert kept is not None
    assert model.beginning(first, BY_ROW) is kept
    assert model.beginning(model.read([START]), BY_ROW) is kept
    read, logits = VOCAB * model.matrix_bytes, VOCAB * VOCAB * 4
    monkeypatch.setattr(compiled, "BEGINNING_BYTES", read + logits)
    assert model.beginning(first, BY_ROW) is kept
    monkeypatch.setattr(compiled, "BEGINNING_BYTES", read + logits - 1)
    assert model.beginning(first, BY_ROW) is None


def test_names_are_the_same_whether_it_is_looked_up_or_not(looks, monkeypatch):
    requests = [{"random_seed": seed, "count": count} for seed, count in ((1, 1), (2, 5), (3, 64))]
    by_size = []
    for most in (0, 1 << 25):
        monkeypatch.setattr(compiled, "BEGINNING_BYTES", most)
        model = generator(names_model(hidden=16))
        by_size.append([list(model.generate(**request)) for request in requests * 3])
    assert by_size[0] == by_size[1]
    assert looks


def test_it_is_none_of_fours_which_have_other_bits(looks):
    model = CompiledModel(network(hidden=64, vocab=VOCAB))
    for _ in range(3):
        batch = DecodeBatch(model, 8, end=0, block=WITH_FOURS)
        batch.admit(model.read([START]), arrivals(3), as_fours=True)
        batch.step(9)
    assert not looks
