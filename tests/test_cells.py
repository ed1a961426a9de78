"""Each cell's hand-written passes against numbers and against the graph."""

import numpy as np
import pytest

from charrnn.cells import CELLS, cell_named
from charrnn.cells.base import packed_steps
from charrnn.errors import ConfigError
from charrnn.gradients import numerical_gradient, relative_error
from charrnn.graph import backward, constant, parameter
from charrnn.ops import Workspace
from tests.reference import GRAPH_CELLS

B, H = 2, 4
SIZES = np.array([5, 5, 3, 3, 2, 1, 1])  # names of unequal length, packed
pytestmark = pytest.mark.parametrize("name", CELLS)


def drawn(name, rng, batch=B, hidden=H, scale=1.0):
    cell = CELLS[name]
    params = {n: scale * rng.normal(size=shape) for n, shape in cell.shapes(hidden).items()}
    a_x = rng.normal(size=(batch, len(cell.gates) * hidden))
    state = rng.normal(size=(len(cell.parts), batch, hidden))
    return cell, params, a_x, state


def test_one_step_backward_equals_central_differences(name):
    rng = np.random.default_rng(1)
    cell, params, a_x, state = drawn(name, rng)
    dstate = rng.normal(size=state.shape)

    def loss(_):
        return float((cell.forward(params, a_x, state)[0] * dstate).sum())

    da_x, dprev, grads = cell.backward(params, dstate, cell.forward(params, a_x, state)[1])
    for analytic, array in [(da_x, a_x), (dprev, state), *((grads[n], params[n]) for n in params)]:
        assert np.abs(analytic).min() > 0
        assert relative_error(analytic, numerical_gradient(loss, array)) < 1e-8


def test_one_step_equals_the_graph(name):
    rng = np.random.default_rng(2)
    cell, params, a_x, state = drawn(name, rng)
    dstate = rng.normal(size=state.shape)
    nodes = {n: parameter(array) for n, array in params.items()}
    input_node, state_nodes = parameter(a_x), [parameter(part) for part in state]
    new_nodes = GRAPH_CELLS[name](nodes, input_node, state_nodes)
    total = sum((new * constant(d)).sum() for new, d in zip(new_nodes, dstate, strict=True))
    backward(total)
    new, cache = cell.forward(params, a_x, state)
    da_x, dprev, grads = cell.backward(params, dstate, cache)
    assert np.abs(new - [node.value for node in new_nodes]).max() < 1e-14
    assert np.abs(da_x - input_node.grad).max() < 1e-12
    assert np.abs(dprev - [node.grad for node in state_nodes]).max() < 1e-12
    for n in params:
        assert np.abs(grads[n] - nodes[n].grad).max() < 1e-12


def sequence_by_steps(cell, params, a_x, state, dh, dfinal):
    """forward_sequence and backward_sequence, by single steps."""
    final, h, da_x, start = state.copy(), np.empty_like(dh), np.empty_like(a_x), 0
    caches = []
    for size in SIZES:
        rows = slice(start, start + size)
        new, cache = cell.forward(params, a_x[rows], final[:, :size].copy())
        final[:, :size], h[rows] = new, new[0]
        caches.append((rows, size, cache))
        start += size
    dstate, grads = dfinal.copy(), {n: np.zeros_like(p) for n, p in params.items()}
    for rows, size, cache in reversed(caches):
        dstate[0, :size] += dh[rows]
        da_x[rows], dstate[:, :size], step_grads = cell.backward(params, dstate[:, :size], cache)
        for n, gradient in step_grads.items():
            grads[n] += gradient
    return h, final, da_x, dstate, grads


def sequence_at_once(cell, params, a_x, sizes, state, dh, dfinal, grads, work):
    """The same by the fast form, which is feature-major and takes its inputs scaled."""
    steps = packed_steps(tuple(sizes))
    scale = cell.input_scale(state.shape[2])
    columns = (scale[:, None] * a_x[step.columns].T for step in steps)
    last, dstate = state.swapaxes(1, 2).copy(), dfinal.swapaxes(1, 2).copy()
    layer = {**params, "W_T": scale[:, None] * params["W"].T}
    kept = work.child("kept")
    h, cache = cell.forward_sequence(layer, columns, steps, last, kept, work)
    h = h.copy()
    da_x = cell.backward_sequence(layer, dh.T, dstate, cache, grads, work)
    return h.T, last.swapaxes(1, 2), da_x.T, dstate.swapaxes(1, 2)


def test_a_sequence_keeps_for_backward_what_its_cell_says(name):
    rng, sizes, work = np.random.default_rng(4), [8] * 64, Workspace()
    cell, params, _, state = drawn(name, rng, 8, 32)
    a_x, dh = rng.normal(size=(512, len(cell.gates) * 32)), rng.normal(size=(512, 32))
    grads = {n: np.zeros_like(p) for n, p in params.items()}
    sequence_at_once(cell, params, a_x, sizes, state, dh, state, grads, work)
    vectors = work.child("kept").nbytes / dh.nbytes
    assert cell.kept <= vectors < cell.kept + 0.1  # the initial state besides


def test_a_packed_sequence_equals_its_steps_after_any_other_shape(name):
    rng = np.random.default_rng(3)
    work = Workspace()
    for hidden, batch_sizes in [(H, [9, 9, 8]), (H, SIZES), (7, [2, 1]), (H, SIZES)]:
        sizes = np.array(batch_sizes)
        cell, params, _, state = drawn(name, rng, sizes[0], hidden)
        n, width = sizes.sum(), len(cell.gates) * hidden
        a_x, dh = rng.normal(size=(n, width)), rng.normal(size=(n, hidden))
        dfinal = rng.normal(size=state.shape)
        grads = {name: np.zeros_like(p) for name, p in params.items()}
        h, final, da_x, dstate = sequence_at_once(
            cell, params, a_x, sizes, state, dh, dfinal, grads, work
        )
        if sizes is not SIZES and len(sizes) != len(SIZES):
            continue
        expected = sequence_by_steps(cell, params, a_x, state, dh, dfinal)
        for got, want in zip((h, final, da_x, dstate), expected, strict=False):
            assert np.abs(want).min() > 0
            assert np.abs(got - want).max() < 1e-12
        for n in params:
            assert np.abs(grads[n] - expected[4][n]).max() < 1e-11


def test_saturated_gates_stay_finite(name):
    rng = np.random.default_rng(4)
    cell, params, a_x, state = drawn(name, rng, scale=1e4)
    new, cache = cell.forward(params, (a_x * 1e5).astype(np.float64), state)
    da_x, dprev, grads = cell.backward(params, np.ones_like(state), cache)
    for array in (new, da_x, dprev, *grads.values()):
        assert np.isfinite(array).all()


def test_an_unknown_cell_is_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match=f"cell must be one of .*{name}.*, got 'peephole'"):
        cell_named("peephole")
