"""What PyTorch makes of our parameters: live where it is installed, everywhere from a file.

    python -m tests.torch_fixture       writes tests/fixtures/torch.safetensors; needs torch

The file holds what went in (parameters, ids, targets, sizes, state) beside what came out, so that
it stays true when our initialisation changes, and the version of PyTorch that computed it.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from charrnn.config import ModelConfig
from charrnn.export import TORCH_CELLS, torch_state_dict
from charrnn.model import CharRNN, parameter_shapes
from charrnn.packed import Batch
from charrnn.parameters import Array, Parameters
from tests.reference import pack

FIXTURE = Path(__file__).with_name("fixtures") / "torch.safetensors"


@dataclass(frozen=True)
class Case:
    """A network, a packed batch, and the state (L, S, B, H) to begin with."""

    config: ModelConfig
    params: Parameters
    batch: Batch
    state: Array


@dataclass(frozen=True)
class Result:
    """What a case comes to. Weights and gradients have PyTorch's names and layout; the packed rows
    and the states are laid out as here.
    """

    logits: Array  # (N, V)
    loss: Array  # (1,), the mean over all targets
    final: Array  # (L, S, B, H)
    dstate: Array  # (L, S, B, H)
    weights: dict[str, Array]
    grads: dict[str, Array]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a pinned case: no two of them alike, nor like a number of layers."""

    hidden_size: int
    vocab_size: int
    lengths: tuple[int, ...]


SIZES = {
    "names": Sizes(hidden_size=4, vocab_size=7, lengths=(6, 6, 4, 3, 1)),
    "text": Sizes(hidden_size=6, vocab_size=5, lengths=(7, 7, 7, 7)),
}
PINNED = list(product(TORCH_CELLS, (1, 2, 3), SIZES))


def random_case(
    config: ModelConfig, lengths: tuple[int, ...], rng: np.random.Generator, dtype: Any = np.float64
) -> Case:
    """Parameters, biases among them, away from zero; sequences of falling `lengths`."""
    model = CharRNN.initialized(config, rng, dtype)
    model.params.flat[:] += rng.normal(0, 0.3, model.params.flat.size)
    pairs: list[tuple[Array, Array]] = []
    for length in lengths:
        ids, targets = rng.integers(0, config.vocab_size, (2, length))
        pairs.append((ids, targets))
    state = rng.normal(0, 0.5, model.init_state(len(lengths)).shape).astype(dtype)
    return Case(config, model.params, pack(pairs), state)


def rows_by_length(sizes: Array) -> Iterator[tuple[slice, Array]]:
    """For each length in a packed batch: which sequences have it, and their packed rows (T, B)."""
    first_rows = np.cumsum(sizes) - sizes
    ends = [*sizes[1:].tolist(), 0]
    for last, (size, end) in enumerate(zip(sizes.tolist(), ends, strict=True)):
        if end < size:
            yield slice(end, size), first_rows[: last + 1, None] + np.arange(end, size)


def torch_result(case: Case) -> Result:
    """The case computed by PyTorch, on sequences that it pads and packs by itself."""
    torch = importlib.import_module("torch")
    nn, config = torch.nn, case.config
    V, H, L = config.vocab_size, config.hidden_size, config.num_layers
    rnn = getattr(nn, config.cell.upper())(V, H, L, batch_first=True)
    network = nn.ModuleDict({"rnn": rnn, "linear": nn.Linear(H, V)})
    arrays = torch_state_dict(config, case.params)
    network.to(torch.from_numpy(case.state).dtype)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})

    ids, targets, lengths = _padded(case.batch)
    x = nn.functional.one_hot(torch.from_numpy(ids), V)  # (B, T, V)
    state = torch.from_numpy(case.state.copy()).requires_grad_()
    parts = tuple(part.contiguous() for part in state.unbind(1))  # S of (L, B, H)
    packed = nn.utils.rnn.pack_padded_sequence(x.to(state.dtype), lengths, batch_first=True)
    h, final = rnn(packed, parts if len(parts) > 1 else parts[0])
    logits = network["linear"](h.data)  # (N, V)
    packed_targets = nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(targets), lengths, batch_first=True
    )
    loss = nn.functional.cross_entropy(logits, packed_targets.data)
    loss.backward()
    return Result(
        logits=logits.detach().numpy(),
        loss=loss.detach().numpy().reshape(1),
        final=torch.stack(final if len(parts) > 1 else [final], 1).detach().numpy(),
        dstate=state.grad.numpy(),
        weights={name: p.detach().numpy().copy() for name, p in network.named_parameters()},
        grads={name: p.grad.numpy().copy() for name, p in network.named_parameters()},
    )


def _padded(batch: Batch) -> tuple[Array, Array, list[int]]:
    """Ids and targets (B, T), padded with zeros, and the length of each sequence."""
    ids, targets = np.zeros((2, int(batch.sizes[0]), len(batch.sizes)), np.int64)
    lengths: list[int] = []
    for sequences, rows in reversed(list(rows_by_length(batch.sizes))):
        ids[sequences, : len(rows)] = batch.ids[rows].T
        targets[sequences, : len(rows)] = batch.targets[rows].T
        lengths += [len(rows)] * rows.shape[1]
    return ids, targets, lengths


def pinned(cell: str, layers: int, kind: str) -> tuple[Case, Result]:
    """A case of the fixture, and what PyTorch made of it."""
    prefix = _prefix(cell, layers, kind)
    arrays = {
        name.removeprefix(prefix): array
        for name, array in safetensors.numpy.load_file(FIXTURE).items()
        if name.startswith(prefix)
    }
    config = _config(cell, layers, kind)
    params = _under("params.", arrays)
    case = Case(
        config,
        Parameters.from_arrays({name: params[name] for name in parameter_shapes(config)}),
        Batch(arrays["ids"], arrays["targets"], arrays["sizes"]),
        arrays["state"],
    )
    return case, Result(
        logits=arrays["logits"],
        loss=arrays["loss"],
        final=arrays["final"],
        dstate=arrays["dstate"],
        weights=_under("weights.", arrays),
        grads=_under("grads.", arrays),
    )


def version_pinned() -> str:
    """The version of PyTorch that the fixture was written by."""
    with safetensors.safe_open(FIXTURE, framework="numpy") as file:
        return str(file.metadata()["torch"])


def write() -> None:
    """Compute every pinned case and write the fixture."""
    arrays: dict[str, Array] = {}
    for number, (cell, layers, kind) in enumerate(PINNED):
        rng = np.random.default_rng([20261, number])
        case = random_case(_config(cell, layers, kind), SIZES[kind].lengths, rng)
        result = torch_result(case)
        named = {
            "ids": case.batch.ids,
            "targets": case.batch.targets,
            "sizes": case.batch.sizes,
            "state": case.state,
            "logits": result.logits,
            "loss": result.loss,
            "final": result.final,
            "dstate": result.dstate,
            **{f"params.{name}": array for name, array in case.params.items()},
            **{f"weights.{name}": array for name, array in result.weights.items()},
            **{f"grads.{name}": array for name, array in result.grads.items()},
        }
        prefix = _prefix(cell, layers, kind)
        arrays |= {prefix + name: np.ascontiguousarray(array) for name, array in named.items()}
    FIXTURE.parent.mkdir(exist_ok=True)
    version = importlib.import_module("torch").__version__
    FIXTURE.write_bytes(safetensors.numpy.save(arrays, {"torch": str(version)}))
    sys.stdout.write(f"{FIXTURE}: {len(PINNED)} cases by torch {version}\n")


def _config(cell: str, layers: int, kind: str) -> ModelConfig:
    sizes = SIZES[kind]
    return ModelConfig(
        cell=cell,
        hidden_size=sizes.hidden_size,
        num_layers=layers,
        vocab_size=sizes.vocab_size,
    )


def _prefix(cell: str, layers: int, kind: str) -> str:
    return f"{cell}.{layers}.{kind}."


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


if __name__ == "__main__":
    write()
