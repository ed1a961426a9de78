"""A network's parameters under PyTorch's names: the same logits and gradients from its `nn.RNN`,
`nn.LSTM` or `nn.GRU` with an `nn.Linear`. PyTorch itself is not needed here.

    PyTorch                here                         PyTorch's shape
    rnn.weight_ih_l{n}     layers.{n}.U, transposed     (G*H, vocabulary), above layer 0 (G*H, H)
    rnn.weight_hh_l{n}     layers.{n}.W, transposed     (G*H, H)
    rnn.bias_ih_l{n}       layers.{n}.b                 (G*H,)
    rnn.bias_hh_l{n}       zero; GRU, gate n: b_h       (G*H,)
    linear.weight          out.V, transposed            (vocabulary, H)
    linear.bias            out.c                        (vocabulary,)

    gates, blocks of H     RNN h    LSTM i f g o (here i f o g)    GRU r z n
    state                  (L, B, H); LSTM the pair (h, c)         here (L, S, B, H)

PyTorch adds two biases where we have one: only their sum counts, and each has our one's gradient.
The exception is the GRU's candidate n, whose hidden bias stands inside the reset gate. Dropout is
not carried over: PyTorch's spares the output of the last layer, ours does not.

`torch_file` writes them with a description of the model as safetensors; docs/export.md has the ten
lines that load it. What the files of all formats say of a model is `described`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy

from charrnn.cells import cell_named
from charrnn.config import ModelConfig
from charrnn.errors import ConfigError, FieldProblem
from charrnn.files import canonical_json
from charrnn.generator import Generator
from charrnn.model import parameter_shapes
from charrnn.parameters import Array
from charrnn.vocabulary import Vocabulary

METADATA_KEY = "charrnn_export"  # not that of our own weights: this file is none


@dataclass(frozen=True)
class TorchCell:
    """How PyTorch lays out a cell: its gates in order, and by gate our name of a hidden bias."""

    gates: tuple[str, ...]
    hidden_biases: Mapping[str, str] = field(default_factory=dict)


TORCH_CELLS: dict[str, TorchCell] = {
    "rnn": TorchCell(("h",)),
    "lstm": TorchCell(("i", "f", "g", "o")),
    "gru": TorchCell(("r", "z", "n"), {"n": "b_h"}),
}


def torch_state_dict(config: ModelConfig, params: Mapping[str, Array]) -> dict[str, Array]:
    """The parameters as PyTorch names and orders them; the mapping heads this module.

    Args:
        config: the network's shape.
        params: its parameters, in any float dtype.

    Returns:
        New arrays, writable and contiguous, of the same dtype, by PyTorch's names.

    Raises:
        ConfigError: PyTorch has no such cell.
    """
    assert {name: array.shape for name, array in params.items()} == parameter_shapes(config), (
        "parameters of another configuration"
    )
    ours, torchs = cell_named(config.cell).gates, _torch_cell(config.cell)
    order = [ours.index(gate) for gate in torchs.gates]
    arrays: dict[str, Array] = {}
    for n in range(config.num_layers):
        for name, torch_name in (("U", "weight_ih"), ("W", "weight_hh"), ("b", "bias_ih")):
            blocks = np.split(params[f"layers.{n}.{name}"], len(ours), axis=-1)  # each (..., H)
            reordered = np.concatenate([blocks[k] for k in order], axis=-1)
            arrays[f"rnn.{torch_name}_l{n}"] = reordered.T.copy()  # (G*H, ...)
        hidden_bias = np.zeros((len(order), config.hidden_size), params["out.c"].dtype)  # (G, H)
        for gate, name in torchs.hidden_biases.items():
            hidden_bias[torchs.gates.index(gate)] = params[f"layers.{n}.{name}"]
        arrays[f"rnn.bias_hh_l{n}"] = hidden_bias.ravel()
    arrays["linear.weight"] = params["out.V"].T.copy()
    arrays["linear.bias"] = params["out.c"].copy()
    return arrays


def torch_file(generator: Generator) -> bytes:
    """The parameters as a PyTorch state dict in safetensors; `described` stands in the metadata,
    as JSON under "charrnn_export". Raises ConfigError.
    """
    model = generator.model
    arrays = torch_state_dict(model.config, model.params)
    about = {METADATA_KEY: canonical_json(described(generator))}
    data: bytes = safetensors.numpy.save(arrays, about)
    return data


def described(generator: Generator) -> dict[str, Any]:
    """What an exported file says of a model: which it is, its shape, and its vocabulary, ready for
    JSON. Symbols stand in the order of their ids.
    """
    config, vocabulary = generator.model.config, generator.vocabulary
    more: dict[str, Any] = {}
    if not isinstance(vocabulary, Vocabulary):  # how words are put together: docs/words.md
        kept = vocabulary.to_json()
        more = {key: kept[key] for key in kept.keys() - {"symbols", "case", "unit"}}
    return {
        "name": generator.name,
        "version": generator.version,
        "kind": generator.frozen.kind,
        "cell": config.cell,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "unit": vocabulary.unit,
        "symbols": list(vocabulary.symbols),
        "start": vocabulary.start,
        "end": vocabulary.end,
        "unknown": vocabulary.unknown,
        "case": vocabulary.case,
        **more,
        "max_length": generator.default_max_length,
    }


def _torch_cell(name: str) -> TorchCell:
    try:
        return TORCH_CELLS[name]
    except KeyError:
        rule = f"must be one that PyTorch has ({', '.join(TORCH_CELLS)}) to be exported to it"
        raise ConfigError([FieldProblem("cell", rule, repr(name))]) from None
