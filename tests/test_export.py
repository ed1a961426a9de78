"""Our networks against PyTorch's: by pinned numbers everywhere, live where it is installed."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from charrnn.cells import CELLS
from charrnn.cells.rnn import RNN
from charrnn.config import ModelConfig
from charrnn.errors import ConfigError
from charrnn.export import TORCH_CELLS, torch_state_dict
from charrnn.model import CharRNN
from charrnn.ops import Workspace, log_softmax
from charrnn.parameters import Array, Parameters
from tests.torch_fixture import (
    PINNED,
    Case,
    Result,
    pinned,
    random_case,
    rows_by_length,
    torch_result,
    version_pinned,
)

SAME, ANOTHER = 1e-9, 1e-3
NETWORKS = [(cell, layers) for cell in TORCH_CELLS for layers in (1, 2, 3)]
TWO_GATES = [(name, a, b) for name, cell in CELLS.items() for a, b in combinations(cell.gates, 2)]


def gradients_for_torch(config: ModelConfig, grads: Mapping[str, Array]) -> dict[str, Array]:
    """By the same mapping; and the bias that PyTorch has twice has its gradient twice."""
    arrays = torch_state_dict(config, grads)
    for n in range(config.num_layers):
        hidden, shared = arrays[f"rnn.bias_hh_l{n}"], arrays[f"rnn.bias_ih_l{n}"]
        own = config.hidden_size if f"layers.{n}.b_h" in grads else 0  # the GRU's last block
        twice = slice(len(hidden) - own)
        assert not hidden[twice].any()
        hidden[twice] = shared[twice]
    return arrays


def packed_form(case: Case) -> dict[str, Array]:
    """What training computes."""
    model, grads = CharRNN(case.config, case.params), case.params.like()
    loss, final, dstate = model.loss_and_grads(case.batch, case.state, grads, Workspace())
    mapped = gradients_for_torch(case.config, grads)
    return {"loss": np.array([loss]), "final": final, "dstate": dstate, **mapped}


def readable_form(case: Case) -> dict[str, Array]:
    """What one reads, on the sequences of each length together."""
    model, batch, grads = CharRNN(case.config, case.params), case.batch, case.params.like()
    logits = np.empty((len(batch.ids), case.config.vocab_size), case.state.dtype)
    final, dstate, caches = np.empty_like(case.state), np.empty_like(case.state), []
    for sequences, rows in rows_by_length(batch.sizes):  # rows (T, B)
        of_length, final[:, :, sequences], cache = model.forward(
            batch.ids[rows].T, case.state[:, :, sequences]
        )
        logits[rows] = of_length.swapaxes(0, 1)
        caches.append((sequences, rows, cache))
    log_probs, chosen = log_softmax(logits), np.eye(case.config.vocab_size)[batch.targets]
    dlogits = (np.exp(log_probs) - chosen) / len(chosen)  # (N, V)
    for sequences, rows, cache in caches:
        none = np.zeros_like(final[:, :, sequences])
        part, dstate[:, :, sequences] = model.backward(dlogits[rows].swapaxes(0, 1), none, cache)
        grads.flat[:] += part.flat
    return {
        "logits": logits,
        "loss": -(log_probs * chosen).sum().reshape(1) / len(chosen),
        "final": final,
        "dstate": dstate,
        **gradients_for_torch(case.config, grads),
    }


def differences(case: Case, torchs: Result) -> dict[str, float]:
    """How far each form's results are from PyTorch's, at most, by name."""
    expected = {name: getattr(torchs, name) for name in ("logits", "loss", "final", "dstate")}
    expected |= torchs.grads
    found = {"packed": packed_form(case), "readable": readable_form(case)}
    assert found["readable"].keys() == found["packed"].keys() | {"logits"} == expected.keys()
    assert all(np.abs(array).max() > 1000 * SAME for array in expected.values())  # none vacuous
    return {
        f"{form} {name}": float(np.abs(array - expected[name]).max())
        for form, arrays in found.items()
        for name, array in arrays.items()
    }


def swapped(names: tuple[str, ...], a: str, b: str) -> tuple[str, ...]:
    return tuple({a: b, b: a}.get(name, name) for name in names)


# --- Pinned ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "layers", "kind"), PINNED)
def test_logits_loss_states_and_gradients_equal_those_torch_gave(
    cell: str, layers: int, kind: str
) -> None:
    found = differences(*pinned(cell, layers, kind))
    assert max(found.values()) < SAME, found


@pytest.mark.parametrize(("cell", "layers", "kind"), PINNED)
def test_the_arrays_are_those_torch_was_given(cell: str, layers: int, kind: str) -> None:
    case, result = pinned(cell, layers, kind)
    arrays = torch_state_dict(case.config, case.params)
    assert arrays.keys() == result.weights.keys()
    for name, array in arrays.items():
        assert np.array_equal(array, result.weights[name]), name


def test_every_cell_is_pinned() -> None:
    assert {cell for cell, _, _ in PINNED} == CELLS.keys()
    assert version_pinned().startswith("2.")


@pytest.mark.parametrize(("cell", "a", "b"), TWO_GATES)
def test_a_mapping_with_two_gates_swapped_would_be_noticed(
    cell: str, a: str, b: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, torchs = pinned(cell, 1, "names")
    grads = case.params.like()
    model = CharRNN(case.config, case.params)
    model.loss_and_grads(case.batch, case.state, grads, Workspace())
    wrong = replace(TORCH_CELLS[cell], gates=swapped(TORCH_CELLS[cell].gates, a, b))
    monkeypatch.setitem(TORCH_CELLS, cell, wrong)
    for ours, right in ((case.params, torchs.weights), (grads, torchs.grads)):
        arrays = torch_state_dict(case.config, ours)
        for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0"):
            assert np.abs(arrays[name] - right[name]).max() > ANOTHER, name


@pytest.mark.parametrize(("cell", "a", "b"), TWO_GATES)
def test_a_fixture_written_with_two_gates_swapped_would_be_noticed(
    cell: str, a: str, b: str
) -> None:
    case, torchs = pinned(cell, 1, "names")
    gates = CELLS[cell].gates
    order = [gates.index(gate) for gate in swapped(gates, a, b)]
    for letter in "UWb":
        array = case.params[f"layers.0.{letter}"]
        blocks = np.split(array.copy(), len(gates), axis=-1)
        array[...] = np.concatenate([blocks[k] for k in order], axis=-1)
    found = differences(case, torchs)
    for name in ("packed loss", "packed final", "packed dstate", "readable logits"):
        assert found[name] > ANOTHER, name


# --- The mapping ----------------------------------------------------------------------------------


def numbered(config: ModelConfig) -> Parameters:
    """Parameters that are 1, 2, 3 and so on: each can be told from every other."""
    params = CharRNN.initialized(config, np.random.default_rng(0)).params
    params.flat[:] = np.arange(1, params.flat.size + 1)
    return params


@pytest.mark.parametrize(("cell", "layers"), NETWORKS)
def test_every_parameter_is_exported_exactly_once(cell: str, layers: int) -> None:
    config = ModelConfig(cell=cell, hidden_size=3, num_layers=layers, vocab_size=5)
    params = numbered(config)
    arrays = torch_state_dict(config, params)
    values = np.concatenate([array.ravel() for array in arrays.values()])
    assert np.array_equal(np.sort(values[values != 0]), params.flat)
    zeros = {name: (array == 0).sum() for name, array in arrays.items() if (array == 0).any()}
    gates = len(CELLS[cell].gates)
    unused = (gates - len(TORCH_CELLS[cell].hidden_biases)) * 3
    assert zeros == {f"rnn.bias_hh_l{n}": unused for n in range(layers)}


@pytest.mark.parametrize("hidden_size", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_arrays_are_contiguous_and_the_callers_to_change(hidden_size: int, dtype: Any) -> None:
    config = ModelConfig(cell="rnn", hidden_size=hidden_size, vocab_size=2)
    params = numbered(config).astype(dtype).freeze()
    for array in torch_state_dict(config, params).values():
        assert array.flags.c_contiguous
        assert array.dtype == dtype
        array[...] = 0
    assert params.flat.all()


def test_a_cell_that_torch_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clockwork(RNN):
        name = "clockwork"

    monkeypatch.setitem(CELLS, "clockwork", Clockwork())
    config = ModelConfig(cell="clockwork", hidden_size=3, vocab_size=5)
    with pytest.raises(ConfigError) as refusal:
        torch_state_dict(config, numbered(config))
    assert str(refusal.value) == (
        "cell must be one that PyTorch has (rnn, lstm, gru) to be exported to it, got 'clockwork'"
    )


# --- Live -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "layers"), NETWORKS)
def test_torch_gives_the_same_logits_and_gradients(cell: str, layers: int) -> None:
    pytest.importorskip("torch")
    for seed in range(8):
        rng = np.random.default_rng([seed, layers])
        case = random_case(random_config(cell, layers, rng), random_lengths(rng), rng)
        found = differences(case, torch_result(case))
        assert max(found.values()) < SAME, (seed, found)


@pytest.mark.parametrize(("cell", "layers"), NETWORKS)
def test_torch_goes_on_from_a_state_of_ours(cell: str, layers: int) -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(layers)
    first = random_case(random_config(cell, layers, rng), (4, 4, 4), rng)
    carried = packed_form(first)["final"]
    following = random_case(first.config, (5, 5, 2), rng).batch
    case = replace(first, batch=following, state=carried)
    found = differences(case, torch_result(case))
    assert max(found.values()) < SAME, found


@pytest.mark.parametrize("cell", TORCH_CELLS)
def test_torch_gives_close_logits_in_float32(cell: str) -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    config = ModelConfig(cell=cell, hidden_size=48, num_layers=3, vocab_size=30)
    case = random_case(config, (20, 12, 5), rng, np.float32)
    torchs, ours = torch_result(case), readable_form(case)
    assert torchs.logits.dtype == ours["logits"].dtype == np.float32
    assert np.abs(ours["logits"] - torchs.logits).max() < 1e-4 * np.abs(torchs.logits).max()


def test_torch_gives_what_is_pinned() -> None:
    pytest.importorskip("torch")
    for cell, layers, kind in PINNED:
        case, then = pinned(cell, layers, kind)
        now = torch_result(case)
        for name in ("logits", "loss", "final", "dstate"):
            assert np.abs(getattr(now, name) - getattr(then, name)).max() < SAME, name
        for name, gradient in then.grads.items():
            assert np.abs(now.grads[name] - gradient).max() < SAME, name


def random_config(cell: str, layers: int, rng: np.random.Generator) -> ModelConfig:
    hidden_size, vocab_size = (int(n) for n in rng.integers(2, 12, 2))
    return ModelConfig(cell=cell, hidden_size=hidden_size, num_layers=layers, vocab_size=vocab_size)


def random_lengths(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(sorted(rng.integers(1, 12, rng.integers(1, 8)).tolist(), reverse=True))
