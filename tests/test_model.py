"""The whole network: its passes against each other, against numbers, and against the graph."""

from unittest.mock import Mock

import numpy as np
import pytest

from charrnn import ops
from charrnn.cells import CELLS
from charrnn.config import ModelConfig
from charrnn.gradients import numerical_gradient, relative_error
from charrnn.model import CharRNN, parameter_shapes
from charrnn.ops import Workspace, dropout_mask, gather_rows_backward
from charrnn.packed import Batch
from tests.reference import graph_gradients, pack, poison

B, T, H, V = 2, 3, 4, 5
NETWORKS = [(cell, layers) for cell in CELLS for layers in (1, 2, 3)]


DROPPING = [
    {"dropout": 0.4},
    {"dropout": 0.4, "dropout_mask": "sequence"},
    {"recurrent_dropout": 0.3},
    {"dropout": 0.4, "dropout_mask": "sequence", "recurrent_dropout": 0.3},
]


def network(cell, layers, *, hidden=H, vocab=V, seed=0, dtype=np.float64, **dropping):
    config = ModelConfig(
        cell=cell, hidden_size=hidden, num_layers=layers, vocab_size=vocab, **dropping
    )
    rng = np.random.default_rng(seed)
    model = CharRNN.initialized(config, rng, dtype)
    model.params.flat[:] += rng.normal(0, 0.3, model.params.flat.size)
    return model, rng


def unequal_batch(rng, lengths=(6, 6, 4, 3, 1), vocab=V):
    draw = lambda n: rng.integers(0, vocab, n)  # noqa: E731
    return pack([(draw(n), draw(n)) for n in lengths])


def random_state(model, rng, batch):
    return rng.normal(0, 0.5, model.init_state(batch).shape).astype(model.dtype)


@pytest.mark.parametrize(("cell", "layers"), NETWORKS)
def test_gradients_of_names_of_all_shapes_equal_the_graphs(cell, layers):
    model, rng = network(cell, layers)
    work, grads = Workspace(), model.params.like()
    # Another shape each time: nothing stale is read. Of 16 and 32 alike, some steps are projected
    # to the layer above at once.
    for lengths in [(3, 2), (6, 6, 4, 3, 1), (5,) * 16, (3,) * 32]:
        batch = unequal_batch(rng, lengths)
        state = random_state(model, rng, len(lengths))
        loss, _, dstate = model.loss_and_grads(batch, state, grads, work)
        expected_loss, expected, expected_dstate = graph_gradients(model, batch, state)
        assert abs(loss - expected_loss) < 1e-12
        for name, gradient in grads.items():
            assert np.abs(expected[name]).max() > 0
            assert np.abs(gradient - expected[name]).max() < 1e-10
        assert np.abs(dstate - expected_dstate).max() < 1e-10


@pytest.mark.parametrize(("cell", "layers"), NETWORKS)
def test_gradients_equal_central_differences(cell, layers):
    model, rng = network(cell, layers)
    batch, work, grads = unequal_batch(rng, (T, T - 1)), Workspace(), model.params.like()
    state = random_state(model, rng, B)

    def loss(_):
        return model.loss(batch, state, work)[0] / len(batch.ids)

    _, _, dstate = model.loss_and_grads(batch, state, grads, work)
    for name, array in model.params.items():
        used = np.abs(grads[name]) > 0
        assert used.all() or (name == "layers.0.U" and used.any()), name
        assert relative_error(grads[name], numerical_gradient(loss, array)) < 1e-7
    assert relative_error(dstate, numerical_gradient(loss, state)) < 1e-7


@pytest.mark.parametrize(("cell", "layers"), NETWORKS)
def test_the_readable_form_equals_the_packed_one(cell, layers):
    model, rng = network(cell, layers)
    ids, targets = rng.integers(0, V, (2, B, T))
    state = random_state(model, rng, B)
    logits, last, cache = model.forward(ids, state)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    dlogits = (probabilities - np.eye(V)[targets]) / (B * T)
    readable, dstate = model.backward(dlogits, np.zeros_like(state), cache)
    batch = Batch(ids.T.ravel(), targets.T.ravel(), np.full(T, B))
    grads = model.params.like()
    _, final, dinitial = model.loss_and_grads(batch, state, grads, Workspace())
    assert np.abs(final - last).max() < 1e-14
    assert np.abs(grads.flat - readable.flat).max() < 1e-13
    assert np.abs(dinitial - dstate).max() < 1e-13


@pytest.mark.parametrize(("cell", "layers"), NETWORKS)
def test_forward_equals_its_steps_and_its_chunks_bit_for_bit(cell, layers):
    model, rng = network(cell, layers, dtype=np.float32)
    ids = rng.integers(0, V, (B, 7))
    first = random_state(model, rng, B)
    logits, last, _ = model.forward(ids, first)
    state, parts = first, []
    for chunk in (ids[:, :3], ids[:, 3:4], ids[:, 4:]):
        part, state, _ = model.forward(chunk, state)
        parts.append(part)
    assert np.array_equal(np.concatenate(parts, axis=1), logits)
    assert np.array_equal(state, last)
    state = first
    for t in range(7):
        step_logits, state = model.step(ids[:, t], state)
        assert np.array_equal(step_logits, logits[:, t])


@pytest.mark.parametrize(("cell", "layers"), NETWORKS)
def test_chunks_with_the_gradient_handed_back_equal_the_whole_sequence(cell, layers):
    model, rng = network(cell, layers)
    ids, targets = rng.integers(0, V, (2, 6, B))
    state = random_state(model, rng, B)

    def chunk(a, b):
        return Batch(ids[a:b].ravel(), targets[a:b].ravel(), np.full(b - a, B))

    whole, early, late = (model.params.like() for _ in range(3))
    _, _, dwhole = model.loss_and_grads(chunk(0, 6), state, whole, Workspace())
    _, middle, _ = model.loss_and_grads(chunk(0, 2), state, early, Workspace())
    _, _, dmiddle = model.loss_and_grads(chunk(2, 6), middle, late, Workspace())
    _, _, dfirst = model.loss_and_grads(
        chunk(0, 2), state, early, Workspace(), dstate=dmiddle * 4 / 2
    )
    assert np.abs(early.flat * 2 / 6 + late.flat * 4 / 6 - whole.flat).max() < 1e-13
    assert np.abs(dfirst * 2 / 6 - dwhole).max() < 1e-13


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dropping", DROPPING, ids=lambda d: "-".join(map(str, d.values())))
def test_what_is_dropped_has_the_gradient_of_the_same_masks(cell, dropping, monkeypatch):
    monkeypatch.setattr("charrnn.packed.CHARACTERS_IN_A_PART", 11)  # so that there are two parts
    model, rng = network(cell, 2, hidden=3, **dropping)
    batch, state = unequal_batch(rng), random_state(model, rng, 5)
    grads, work = model.params.like(), Workspace()

    def loss(_):
        masks = np.random.default_rng(9)
        return model.loss_and_grads(batch, state, grads, work, rng=masks)[0]

    _, _, dstate = model.loss_and_grads(batch, state, grads, work, rng=np.random.default_rng(9))
    analytic = {name: array.copy() for name, array in grads.items()}
    for name, array in [*model.params.items(), ("state", state)]:
        wanted = numerical_gradient(loss, array)
        assert np.abs(wanted).max() > 0
        assert relative_error({**analytic, "state": dstate}[name], wanted) < 1e-7
    plain, _, _ = model.loss_and_grads(batch, state, grads, work)
    assert plain != loss(None)


@pytest.mark.parametrize("cell", CELLS)
def test_dropped_weights_have_the_graphs_gradient_of_the_network_without_them(cell):
    model, rng = network(cell, 2, recurrent_dropout=0.3)
    batch, state, grads = unequal_batch(rng), random_state(model, rng, 5), model.params.like()
    loss, _, dstate = model.loss_and_grads(
        batch, state, grads, Workspace(), rng=np.random.default_rng(9)
    )
    masks, draw = {}, np.random.default_rng(9)
    for n in range(2):
        name = f"layers.{n}.W"
        masks[name] = dropout_mask(0.3, draw, np.empty(model.params[name].shape))
        model.params[name][...] *= masks[name]
    wanted_loss, wanted, wanted_dstate = graph_gradients(model, batch, state)
    assert abs(loss - wanted_loss) < 1e-12
    for name, gradient in grads.items():
        expected = wanted[name] * masks.get(name, 1)
        assert np.abs(expected).max() > 0
        assert np.abs(gradient - expected).max() < 1e-10
    assert np.abs(dstate - wanted_dstate).max() < 1e-10


@pytest.mark.parametrize("cell", CELLS)
def test_output_blocks_do_not_change_the_gradient(cell, monkeypatch):
    model, rng = network(cell, 1)
    batch, state = unequal_batch(rng), model.init_state(5)
    whole, blocked = model.params.like(), model.params.like()
    loss, _, _ = model.loss_and_grads(batch, state, whole, Workspace())
    monkeypatch.setattr("charrnn.packed.LOGITS_IN_A_BLOCK", 3 * V)
    blocked_loss, _, _ = model.loss_and_grads(batch, state, blocked, Workspace())
    assert abs(loss - blocked_loss) < 1e-14
    assert np.abs(whole.flat - blocked.flat).max() < 1e-14


@pytest.mark.parametrize(("cell", "layers"), NETWORKS)
@pytest.mark.parametrize("characters", [1, 7, 11])
def test_a_batch_passed_in_parts_equals_the_whole(cell, layers, characters, monkeypatch):
    model, rng = network(cell, layers)
    batch, state = unequal_batch(rng), random_state(model, rng, 5)
    dstate = rng.normal(size=state.shape)
    whole, in_parts, work = model.params.like(), model.params.like(), Workspace()
    expected = model.loss_and_grads(batch, state, whole, work, dstate=dstate)
    expected_loss = model.loss(batch, state, work)
    monkeypatch.setattr("charrnn.packed.CHARACTERS_IN_A_PART", characters)
    got = model.loss_and_grads(batch, state, in_parts, work, dstate=dstate)
    for one, other in zip(
        (*got, *model.loss(batch, state, work)), (*expected, *expected_loss), strict=True
    ):
        assert np.abs(one - other).max() < 1e-12
    assert np.abs(whole.flat - in_parts.flat).max() < 1e-13


def test_a_large_vocabulary_has_the_same_gradient_without_one_hot_rows():
    rng = np.random.default_rng(0)
    ids, drows = rng.integers(0, 700, 90), rng.normal(size=(90, 3))
    ids[:30] = 4
    dtable, expected = np.zeros((2, 700, 3))
    np.add.at(expected, ids, drows)
    gather_rows_backward(ids, drows.T, dtable, Workspace())
    assert np.abs(dtable - expected).max() < 1e-13


@pytest.mark.parametrize(("cell", "hidden"), [(c, h) for c in CELLS for h in (1, 4096)])
def test_the_smallest_and_the_largest_hidden_size_run(cell, hidden):
    config = ModelConfig(cell=cell, hidden_size=hidden, num_layers=1, vocab_size=2)
    model = CharRNN.initialized(config, np.random.default_rng(0))
    logits, _ = model.step(np.array([0, 1]), model.init_state(2))
    assert logits.shape == (2, 2)
    assert np.isfinite(logits).all()


def test_initial_weights_follow_fan_in_and_biases_are_zero_but_the_forget_gates():
    config = ModelConfig(cell="lstm", hidden_size=200, num_layers=2, vocab_size=50)
    params = CharRNN.initialized(config, np.random.default_rng(0)).params
    for name, array in params.items():
        if array.ndim == 2:
            bound = 1 / np.sqrt(array.shape[0])
            assert 0.99 * bound < np.abs(array).max() <= bound * 1.0000001
        else:
            ones = 200 if name.startswith("layers") else 0
            assert array.sum() == ones
    assert (params["layers.1.b"][200:400] == 1).all()


def test_karpathys_start_is_normal_with_a_standard_deviation_of_a_hundredth():
    config = ModelConfig(cell="rnn", hidden_size=100, vocab_size=30, init="normal")
    params = CharRNN.initialized(config, np.random.default_rng(0)).params
    assert 0.0097 < params["layers.0.W"].std() < 0.0103  # 10,000 draws: 4 standard errors
    assert not params["layers.0.b"].any()


def test_an_untrained_network_loses_the_logarithm_of_the_vocabulary():
    config = ModelConfig(cell="gru", hidden_size=6, vocab_size=11, init="normal")
    model = CharRNN.initialized(config, np.random.default_rng(0), np.float64)
    batch = unequal_batch(np.random.default_rng(1), vocab=11)
    loss, _ = model.loss(batch, model.init_state(5), Workspace())
    assert abs(loss / len(batch.ids) - np.log(11)) < 1e-3


def test_parameters_are_named_by_layer_and_letter():
    config = ModelConfig(cell="gru", hidden_size=3, num_layers=2, vocab_size=7)
    assert parameter_shapes(config) == {
        "layers.0.U": (7, 9),
        "layers.0.W": (3, 9),
        "layers.0.b": (9,),
        "layers.0.b_h": (3,),
        "layers.1.U": (3, 9),
        "layers.1.W": (3, 9),
        "layers.1.b": (9,),
        "layers.1.b_h": (3,),
        "out.V": (3, 7),
        "out.c": (7,),
    }


@pytest.mark.parametrize(
    ("cell", "layers"), [(cell, layers) for cell in CELLS for layers in (1, 2)]
)
def test_small_products_give_the_gradient_whatever_shape_the_batch_before_had(
    cell, layers, monkeypatch
):
    """In float32, for which they are, of a size for which training splits all its products."""
    config = ModelConfig(cell=cell, hidden_size=64, num_layers=layers, vocab_size=27)
    rng = np.random.default_rng(1)
    exact = CharRNN.initialized(config, rng, np.float64)
    exact.params.flat[:] = exact.params.flat.astype(np.float32)
    model = CharRNN(exact.config, exact.params.astype(np.float32))
    grads, wanted, work = model.params.like(), exact.params.like(), Workspace()
    equal = [24] * 40, [35] * 32
    for lengths in (*equal, range(30, 2, -1), [3, 2], [700], [20] * 48 + [9] * 16, [24] * 40):
        batch = unequal_batch(rng, lengths, 27)
        state = random_state(exact, rng, len(lengths)).astype(np.float32)
        expected = exact.loss_and_grads(batch, state.astype(float), wanted, Workspace())
        calls = {}
        for is_fast in (False, True):
            poison(work)
            with monkeypatch.context() as small:
                small.setattr("charrnn.ops.small_products_are_fast", lambda is_so=is_fast: is_so)
                ops._rows_at_a_time.cache_clear()
                small.setattr(np, "matmul", whole := Mock(wraps=np.matmul))
                loss, last, dstate = model.loss_and_grads(batch, state, grads, work)
            calls[is_fast] = whole.call_count
            for got, one in zip((loss, last, dstate), expected, strict=True):
                assert np.abs(got - one).max() < 1e-5
            for name, gradient in grads.items():
                assert relative_error(gradient, wanted[name]) < 1e-4, name
        assert calls[True] > calls[False] or len(batch.ids) < 10
    ops._rows_at_a_time.cache_clear()
