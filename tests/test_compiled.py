"""The compiled form: the same network as the plain equations, and rows that keep their bits."""

import numpy as np
import pytest

from charrnn.cells import CELLS
from charrnn.compiled import BLOCK_WIDTHS, CompiledModel, Lanes, rows_are_exact
from charrnn.model import CharRNN
from tests.models import every_cell, network


def plain_in_float64(model):
    return CharRNN(model.config, model.params.astype(np.float64))


@pytest.mark.parametrize(("cell", "layers"), every_cell())
@pytest.mark.parametrize("width", [1, 8])
@pytest.mark.parametrize("lanes", [1, 3, 11])
def test_a_step_equals_the_plain_networks(cell, layers, width, lanes):
    """In float64, where what is left is rounding: the two forms write the same equations."""
    model = plain_in_float64(network(cell, hidden=13, layers=layers, vocab=9))
    rng = np.random.default_rng(0)
    state = rng.uniform(-1, 1, model.init_state(lanes).shape)
    compiled = CompiledModel(model)
    together = Lanes(compiled, lanes, width)
    for lane in range(lanes):
        together.put(lane, compiled.start(0, state[:, :, lane]))
    for _ in range(12):
        ids = rng.integers(0, 9, lanes)
        logits, state = model.step(ids, state)
        got = together.bound(lanes).read(ids) + compiled.out_bias
        assert np.abs(got - logits).max() < 1e-13
        for lane in range(lanes):
            assert np.abs(together.position(lane, 0).state - state[:, :, lane]).max() < 1e-14


@pytest.mark.parametrize(("cell", "layers"), every_cell((1, 2)))
def test_the_state_after_a_prefix_does_not_depend_on_how_it_was_split(cell, layers):
    model = CompiledModel(network(cell, hidden=130, layers=layers, vocab=9))
    prefix = [1, 2, 3, 4, 5, 6, 7]
    whole = model.read(prefix)
    for cut in range(1, len(prefix)):
        early = model.read(prefix[: cut + 1])
        late = model.read(prefix[cut:], early.state)
        assert np.array_equal(late.state, whole.state)
        assert all(map(np.array_equal, late.waiting, whole.waiting))
        assert late.id == whole.id == 7


def test_reading_changes_nothing_of_what_it_is_given():
    model = CompiledModel(network("gru", vocab=4))
    state = np.full((1, 1, 8), 0.5, np.float32)
    position = model.read([1, 2], state)
    assert (state == 0.5).all()
    state[...] = np.nan
    assert np.isfinite(position.state).all()


def test_the_logits_of_a_text_are_those_of_reading_it():
    plain = network("lstm", hidden=16, layers=2, vocab=7)
    ids = [3, 1, 4, 1, 5]
    state = plain.init_state(1)
    for id_, logits in zip(ids, CompiledModel(plain).logits(ids), strict=True):
        expected, state = plain.step(np.array([id_]), state)
        assert np.abs(logits - expected[0]).max() < 1e-5


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_rows_are_exact_here(cell, layers):
    for hidden, vocab in ((128, 27), (256, 27), (300, 300)):
        assert rows_are_exact(
            CompiledModel(network(cell, hidden=hidden, layers=layers, vocab=vocab))
        )


def test_the_width_of_a_product_is_one_at_which_every_row_is_alike():
    for cell in CELLS:
        model = CompiledModel(network(cell, hidden=128, vocab=27))
        assert model.block_width in (*BLOCK_WIDTHS, 1)
        assert rows_are_exact(model)


def test_a_width_at_which_rows_differ_is_not_taken(monkeypatch):
    model = CompiledModel(network(hidden=128, vocab=27))
    monkeypatch.setattr(
        "charrnn.compiled.np.repeat", lambda row, n, axis: np.arange(n)[:, None] * row
    )
    assert model.block_width == 1


@pytest.mark.parametrize(("part", "lane"), [(0, 12), (-1, 3)])
def test_one_lane_that_differs_in_one_bit_is_noticed(part, lane, monkeypatch):
    model = CompiledModel(network("lstm", hidden=16, layers=2))
    whole = Lanes.position

    def off(self, at, id_):
        position = whole(self, at, id_)
        if len(self._rows) >= 13 and at == lane:
            bit = position.state[-1, part, -1:]
            bit[:] = np.nextafter(bit, np.float32(9))
        return position

    monkeypatch.setattr(Lanes, "position", off)
    assert not rows_are_exact(model)


def test_folding_leaves_the_parameters_as_they_are():
    for cell in CELLS:
        model = network(cell, layers=2)
        before = model.params.flat.copy()
        compiled = CompiledModel(model)
        compiled.read([1, 2, 3])
        assert np.array_equal(model.params.flat, before)
        for layer in compiled.layers:
            assert not any(np.shares_memory(layer.matrix, array) for array in model.params.values())
