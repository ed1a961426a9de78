"""The compiled form: the same network as the plain equations, and rows that keep their bits."""

import numpy as np
import pytest

from charrnn.cells import CELLS
from charrnn.compiled import CLEARLY, MANIES, MOST_BOUND, CompiledModel, Lanes
from charrnn.exactness import rows_are_exact
from charrnn.model import CharRNN
from charrnn.panels import MOST_ROWS as MOST_PANEL_ROWS
from charrnn.panels import TWELVE
from charrnn.products import (
    ALIGNED,
    BY_ROW,
    COLLIDING_BYTES,
    IN_PANELS,
    MOST_ROWS,
    STACK_BYTES,
    WITH_FOURS,
    Block,
    ByGate,
    InPanels,
    by_gate,
)
from charrnn.threads import SMALL
from charrnn.trial import most_rows
from tests.models import every_cell, network

BLOCKS = [BY_ROW, Block(8, (8,) * 12), Block(2), IN_PANELS, WITH_FOURS]


def plain_in_float64(model):
    return CharRNN(model.config, model.params.astype(np.float64))


@pytest.mark.parametrize(("cell", "layers"), every_cell())
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("lanes", [1, 3, 11])
def test_a_step_equals_the_plain_networks(cell, layers, block, lanes):
    """In float64, where what is left is rounding: the two forms write the same equations."""
    model = plain_in_float64(network(cell, hidden=13, layers=layers, vocab=9))
    rng = np.random.default_rng(0)
    state = rng.uniform(-1, 1, model.init_state(lanes).shape)
    compiled = CompiledModel(model)
    together = Lanes(compiled, lanes, block)
    for lane in range(lanes):
        together.put(lane, compiled.start(0, state[:, :, lane]))
    for _ in range(12):
        ids = rng.integers(0, 9, lanes)
        logits, state = model.step(ids, state)
        fours = int(rng.integers(0, lanes + 1)) if block.has_fours else 0
        got = together.bound(lanes, fours).read(ids) + compiled.out_bias
        assert np.abs(got - logits).max() < 1e-13
        for lane in range(lanes):
            assert np.abs(together.position(lane, 0).state - state[:, :, lane]).max() < 1e-14


@pytest.mark.parametrize("block", BLOCKS)
def test_more_lanes_than_a_product_has_rows_step_as_the_plain_network(block):
    model = plain_in_float64(network("lstm", hidden=9, layers=2, vocab=9))
    compiled, rng, lanes = CompiledModel(model), np.random.default_rng(0), 2 * MOST_ROWS + 11
    together, state = Lanes(compiled, lanes, block), model.init_state(lanes)
    together.put(slice(lanes), compiled.start(0))
    for count in (lanes, lanes, MOST_ROWS, MOST_ROWS + 1, lanes - 20):
        ids, state = rng.integers(0, 9, count), state[:, :, :count]
        logits, state = model.step(ids, state)
        bound = together.bound(count, 9 * block.has_fours)
        got = bound.read(np.resize(ids, bound.logits.shape[0]))
        assert np.abs(got[:count] + compiled.out_bias - logits).max() < 1e-13
        state = np.concatenate([state, np.zeros_like(model.init_state(lanes - count))], 2)
        for lane in range(count, lanes):
            together.put(lane, compiled.start(0))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("block", [Block(2), Block(8, (8,) * 4), IN_PANELS])
def test_long_sums_equal_the_plain_networks(cell, block):
    model = plain_in_float64(network(cell, hidden=600, layers=2, vocab=9))
    compiled, rng = CompiledModel(model), np.random.default_rng(0)
    together, state = Lanes(compiled, 10, block), model.init_state(10)
    together.put(slice(10), compiled.start(0))
    for _ in range(3):
        ids = rng.integers(0, 9, 10)
        logits, state = model.step(ids, state)
        got = together.bound(10).read(ids) + compiled.out_bias
        assert np.abs(got - logits).max() < 1e-12


@pytest.mark.parametrize(("hidden", "layers"), [(520, 1), (449, 2)])
def test_rows_of_long_sums_are_exact_here(hidden, layers):
    model = CompiledModel(network("lstm", hidden=hidden, layers=layers, vocab=27))
    assert rows_are_exact(model, steps=2)


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


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("hidden", "vocab"), [(24, 9), (90, 9), (240, 700), (320, 9)])
def test_panels_leave_their_products_where_the_cells_read_them(hidden, vocab, layers):
    """By gate, however the gates lie in the panels; so do the logits, in several panels too."""
    rows = np.random.default_rng(0).standard_normal((70, hidden)).astype(np.float32)
    for layer in CompiledModel(network("gru", hidden=hidden, layers=layers, vocab=vocab)).layers:
        made = InPanels(layer, 80)
        for count in (3, TWELVE, TWELVE + 1, 70):
            made.bind(rows[:count], slice(count))()
            for piece, out in ((layer.recurrent, made.waiting), (layer.following, made.following)):
                assert out.shape == (*piece.shape[:-2], 80, piece.shape[-1])
                assert np.abs(out[..., :count, :] - rows[:count] @ piece).max() < 1e-4


def test_rows_in_panels_are_multiplied_by_twelves_and_at_most_so_many_at_once(monkeypatch):
    made = InPanels(CompiledModel(network(hidden=24)).layers[0], 200)
    numbers, whole = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda h, *rest: numbers.append(len(h)) or whole(h, *rest))
    for count in (1, TWELVE, TWELVE + 1, MOST_PANEL_ROWS, MOST_PANEL_ROWS + 1, 200):
        made.bind(np.zeros((count, 24), np.float32), slice(count))()
    assert numbers == [12, 12, 24, 72, 72, 12, 72, 72, 60]


def test_fours_stand_behind_the_twelves_of_the_last_product_and_more_of_them_alone(monkeypatch):
    made = InPanels(CompiledModel(network(hidden=24)).layers[0], 200)
    numbers, whole = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda h, *rest: numbers.append(len(h)) or whole(h, *rest))
    for count, fours in ((1, 1), (4, 4), (5, 1), (16, 4), (17, 4), (20, 7), (9, 9), (80, 4)):
        made.bind(np.zeros((count, 24), np.float32), slice(count), fours)()
    assert numbers == [4, 4, 16, 16, 28, 28, 4, 4, 4, 4, 72, 16]


def test_the_steps_of_so_many_numbers_of_lanes_are_kept():
    lanes = Lanes(CompiledModel(network()), 64, WITH_FOURS)
    for count in range(1, 65):
        for fours in range(min(count, 4)):
            lanes.bound(count, fours)
            assert len(lanes._bound) <= MOST_BOUND
    assert lanes.bound(64, 3) is lanes.bound(64, 3)


@pytest.mark.parametrize("hidden", [128, 300, 450, 1100])
def test_a_product_by_gate_stays_as_small_as_libraries_want_it(hidden, monkeypatch):
    monkeypatch.setattr("charrnn.trial.small_products_are_fast", lambda: True)
    layer, whole, sizes = CompiledModel(network("lstm", hidden=hidden)).layers[0], np.matmul, []

    def matmul(rows, columns, out):
        sizes.append(rows.size * columns.shape[-1])
        return whole(rows, columns, out)

    most = (most_rows(hidden),) * 2
    made = ByGate(layer, 64, most)
    monkeypatch.setattr(np, "matmul", matmul)
    made.bind(np.zeros((64, hidden), np.float32), slice(64))()
    assert 300_000 < max(sizes) <= SMALL


@pytest.mark.parametrize("hidden", [48, 200, 300, 600])
def test_rows_find_the_matrices_of_the_rows_before_them_in_the_cache(hidden, monkeypatch):
    layer = CompiledModel(network("lstm", hidden=hidden, vocab=80)).layers[0]
    made, whole = ByGate(layer, 64, (16, 16)), np.matmul
    h = np.random.default_rng(0).standard_normal((64, hidden)).astype(np.float32)
    seen = []

    def matmul(rows, columns, out):
        seen.append((rows.ctypes.data, columns.ctypes.data, columns.nbytes))
        return whole(rows, columns, out)

    monkeypatch.setattr(np, "matmul", matmul)
    made.bind(h, slice(64))()
    assert all(size <= STACK_BYTES for _, _, size in seen)
    for first in range(0, len(seen), 4):
        rows, columns, _ = zip(*seen[first : first + 4], strict=True)
        assert len(set(rows)) == 4
        assert len(set(columns)) == 1
    np.testing.assert_allclose(by_gate(h @ layer.matrix[:, : 4 * hidden], 4), made.waiting, 0, 1e-4)
    np.testing.assert_allclose(h @ layer.following, made.following, 0, 1e-4)
    seen.clear()
    made.bind(h[:16], slice(16))()  # nobody comes after these
    assert len(seen) == sum(len(columns) for columns in layer.columns)


def test_a_product_may_be_larger_where_small_ones_are_no_faster(monkeypatch):
    monkeypatch.setattr("charrnn.trial.small_products_are_fast", lambda: False)
    assert most_rows(1100) == MOST_ROWS


@pytest.mark.parametrize("hidden", [64, 400])
def test_the_columns_of_a_matrix_stand_in_memory_as_they_are_read(hidden):
    layer = CompiledModel(network("lstm", hidden=hidden)).layers[0]
    for piece, columns in zip((layer.recurrent, layer.following), layer.columns, strict=True):
        assert sum(each.size for each in columns) == piece.size
        for each in columns:
            assert not np.shares_memory(each, layer.matrix)
            assert each.flags.c_contiguous


def test_no_matrix_has_rows_that_displace_each_other():
    for cell, hidden, layers in (("lstm", 512, 2), ("rnn", 256, 2), ("rnn", 484, 1)):
        for layer in CompiledModel(network(cell, hidden=hidden, layers=layers, vocab=28)).layers:
            assert layer.matrix.strides[0] % COLLIDING_BYTES
            assert layer.matrix.shape[1] % ALIGNED == 0


@pytest.mark.parametrize(
    ("faster", "many"),
    [
        ({}, MOST_ROWS),
        ({48}, 48),
        ({4, 32, 48}, 32),  # a number of them that is better by chance is none
        ({4, 8, 16, 24, 32}, MOST_ROWS),
        (set(MANIES), MANIES[0]),
    ],
)
def test_many_is_from_which_on_all_numbers_are_clearly_better_together(faster, many, monkeypatch):
    model = CompiledModel(network(hidden=64, vocab=9))
    monkeypatch.setitem(vars(model), "block", IN_PANELS)

    def shortest(alone, shared):
        count = len(alone.args[0])
        assert len(shared.args[0]) == count
        return count, count / (CLEARLY * (1.01 if count in faster else 0.99))

    monkeypatch.setattr("charrnn.compiled.shortest", shortest)
    assert model.many == many


def test_more_lanes_than_were_tried_are_multiplied_in_several_products():
    model = CompiledModel(network(hidden=64, vocab=9))
    many = Lanes(model, 3 * MOST_ROWS, Block(8))
    few = Lanes(model, MOST_ROWS, Block(8))
    ids = np.random.default_rng(0).integers(0, 9, (5, 3 * MOST_ROWS))
    for row in ids:
        logits = many.bound(3 * MOST_ROWS).read(row)
        expected = few.bound(MOST_ROWS).read(row[:MOST_ROWS])
    assert np.array_equal(logits[:MOST_ROWS], expected)


@pytest.mark.parametrize(("part", "lane"), [(0, 12), (-1, 3)])
def test_one_lane_that_differs_in_one_bit_is_noticed(part, lane, monkeypatch):
    model = CompiledModel(network("lstm", hidden=16, layers=2))
    whole = Lanes.position

    def off(self, at, id_):
        position = whole(self, at, id_)
        if self.capacity >= 13 and at == lane:
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


def test_a_lane_alone_that_differs_from_one_among_others_is_noticed(monkeypatch):
    model, whole = CompiledModel(network("lstm", hidden=16)), Lanes._bind

    def off(self, lanes, fours=0):
        bound = whole(self, lanes, fours)
        if lanes != 0:
            return bound
        return bound._replace(multiply=lambda: (bound.multiply(), bound.logits.__iadd__(1e-3)))

    monkeypatch.setattr(Lanes, "_bind", off)
    assert not rows_are_exact(model)


@pytest.mark.parametrize("off", [None, "alone", "a place of a four", "beside fours"])
def test_a_four_that_differs_from_one_alone_is_noticed(monkeypatch, off):
    model = CompiledModel(network())
    monkeypatch.setitem(vars(model), "block", WITH_FOURS)

    def trace(model, ids, block, fours):
        count = ids.shape[1]
        traces = [b"twelves"] * (count - fours) + [b"four"] * fours
        if off == "alone" and fours == count == 1:
            traces[0] = b"?"
        if off == "a place of a four" and fours == 4:
            traces[-2] = b"?"
        if off == "beside fours" and fours and count > fours:
            traces[count - fours - 1] = b"?"
        return traces

    monkeypatch.setattr("charrnn.exactness._trace", trace)
    assert rows_are_exact(model) == (off is None)


def test_what_is_folded_is_not_held_twice():
    for cell in CELLS:
        plain = network(cell, hidden=64, layers=2, vocab=50)
        model = CompiledModel(plain)
        held = model.table.nbytes + sum(
            layer.matrix.nbytes + sum(array.nbytes for array in layer.folded.values())
            for layer in model.layers
        )
        assert held < 1.1 * plain.params.flat.nbytes
