"""A network as an ONNX graph: ids and a state in, logits and the next state out, for any number of
sequences of any length. One symbol is a step, many are a whole text.

    ids (B, T) int64, state (L, S, B, H) -> logits (B, T, V), next_state (L, S, B, H)

ONNX's own operators RNN, LSTM and GRU compute the layers, so whatever runs ONNX can make them fast:

    ONNX       here                               ONNX's shape
    W          layers.{n}.U, transposed           (1, G*H, inputs)
    R          layers.{n}.W, transposed           (1, G*H, H)
    B          layers.{n}.b, then zero, but of    (1, 2*G*H)
               the GRU's gate h, which is b_h

    gates, blocks of H     RNN h    LSTM i o f c (here i f o g)    GRU z r h (here r z n)

Source: the ONNX operator specifications, RNN, LSTM and GRU; the GRU's `linear_before_reset`
is our (and cuDNN's) form of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from charrnn.cells import cell_named
from charrnn.errors import CharRNNError, ConfigError, FieldProblem
from charrnn.export import METADATA_KEY, described
from charrnn.files import canonical_json
from charrnn.generator import Generator
from charrnn.model import CharRNN
from charrnn.parameters import Array

OPSET, IR_VERSION = 17, 8  # of 2022: what is in use can read them


@dataclass(frozen=True)
class OnnxCell:
    """How ONNX names and lays out a cell: the operator and its attributes, our gates in its order,
    and by gate our name of a hidden bias.
    """

    operator: str
    gates: tuple[str, ...]
    attributes: Mapping[str, int] = field(default_factory=dict)
    hidden_biases: Mapping[str, str] = field(default_factory=dict)


ONNX_CELLS: dict[str, OnnxCell] = {
    "rnn": OnnxCell("RNN", ("h",)),
    "lstm": OnnxCell("LSTM", ("i", "o", "f", "g")),
    "gru": OnnxCell("GRU", ("z", "r", "n"), {"linear_before_reset": 1}, {"n": "b_h"}),
}


def onnx_file(generator: Generator) -> bytes:
    """The model as an ONNX file that `onnx.checker` has passed; `described` stands in its metadata,
    as JSON under "charrnn_export".

    Raises CharRNNError where the package onnx isn't installed, and ConfigError for a cell that ONNX
    has no operator for.
    """
    onnx = _package()
    graph = _Graph(onnx.helper, onnx.numpy_helper).of(generator.model)
    model = onnx.helper.make_model(
        graph,
        producer_name="charrnn",
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    onnx.helper.set_model_props(model, {METADATA_KEY: canonical_json(described(generator))})
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _package() -> Any:
    try:
        import onnx  # an extra: nothing else needs it
    except ImportError:
        raise CharRNNError(
            "the package onnx must be installed to write an ONNX file, and isn't: `pip install "
            "onnx`, then the same command again"
        ) from None
    return onnx


class _Graph:
    """A graph as it grows: nodes, and constants by name."""

    def __init__(self, helper: Any, numpy_helper: Any) -> None:
        self._helper, self._numpy_helper = helper, numpy_helper
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def of(self, model: CharRNN) -> Any:
        """The whole graph of a network."""
        c, info = model.config, self._helper.make_tensor_value_info
        parts = len(model.cell.parts)
        x = self._node("Gather", self._embedding(model), self._time_major("ids"))  # (T, B, inputs)
        states = []
        for n in range(c.num_layers):
            x, state = self._layer(model, n, x)
            states.append(state)
        self._node("Concat", *states, to="next_state", axis=0)  # (L, S, B, H)
        product = self._node("MatMul", x, self._constant("out.V", model.params["out.V"]))
        logits = self._node("Add", product, self._constant("out.c", model.params["out.c"]))
        self._node("Transpose", logits, to="logits", perm=[1, 0, 2])  # (B, T, V)
        number, integer = 1, 7  # TensorProto.FLOAT, TensorProto.INT64
        state_shape = [c.num_layers, parts, "batch", c.hidden_size]
        return self._helper.make_graph(
            self._nodes,
            "charrnn",
            [info("ids", integer, ["batch", "time"]), info("state", number, state_shape)],
            [
                info("logits", number, ["batch", "time", c.vocab_size]),
                info("next_state", number, state_shape),
            ],
            list(self._constants.values()),
        )

    def _embedding(self, model: CharRNN) -> str:
        """A row for each symbol, (V, inputs). The operators multiply what they read by a matrix: of
        few symbols the rows are one-hot and the matrix is U; of many, which would make long
        products, the rows are U's and the matrix is one that changes nothing.
        """
        U = model.params["layers.0.U"]  # noqa: N806
        return self._constant("symbols", U if _reads_rows(model) else _unit(len(U), U))

    def _time_major(self, ids: str) -> str:
        return self._node("Transpose", ids, perm=[1, 0])

    def _layer(self, model: CharRNN, n: int, x: str) -> tuple[str, str]:
        """A layer's outputs (T, B, H), and its state after them (1, S, B, H)."""
        cell, params = onnx_cell(model.config.cell), model.params.layer(f"layers.{n}.")
        inputs = params["U"]
        if n == 0 and _reads_rows(model):
            inputs = _unit(inputs.shape[1], inputs)
        arrays = {
            "W": reordered(model, inputs).T[None],
            "R": reordered(model, params["W"]).T[None],
            "B": _biases(model, params)[None],
        }
        constants = [self._constant(f"layers.{n}.{name}", array) for name, array in arrays.items()]
        state = self._node("Gather", "state", self._constant(f"layer {n}", np.array([n])), axis=0)
        before = [
            self._node("Gather", state, self._constant(f"part {p}", np.array(p)), axis=1)
            for p in range(len(model.cell.parts))
        ]  # each (1, B, H)
        after = [f"layers.{n}.{part}" for part in model.cell.parts]
        outputs = f"layers.{n}.outputs"  # (T, 1, B, H)
        self._nodes.append(
            self._helper.make_node(
                cell.operator,
                [x, *constants, "", *before],
                [outputs, *after],
                hidden_size=model.config.hidden_size,
                **cell.attributes,
            )
        )
        axis = self._constant("axis 1", np.array([1]))
        parts = [self._node("Unsqueeze", each, axis) for each in after]  # each (1, 1, B, H)
        return self._node("Squeeze", outputs, axis), self._node("Concat", *parts, axis=1)

    def _node(self, operator: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        output = to or f"{operator.lower()} {len(self._nodes)}"
        node = self._helper.make_node(operator, list(inputs), [output], **attributes)
        self._nodes.append(node)
        return output

    def _constant(self, name: str, array: Array) -> str:
        whole = np.ascontiguousarray(array, np.int64 if array.dtype.kind == "i" else np.float32)
        self._constants[name] = self._numpy_helper.from_array(whole.reshape(array.shape), name)
        return name


def onnx_cell(name: str) -> OnnxCell:
    """How ONNX has a cell. Raises ConfigError."""
    try:
        return ONNX_CELLS[name]
    except KeyError:
        rule = f"must be one that ONNX has ({', '.join(ONNX_CELLS)}) to be exported to it"
        raise ConfigError([FieldProblem("cell", rule, repr(name))]) from None


def reordered(model: CharRNN, array: Array) -> Array:
    """An array with a block for each of our gates along its last axis, in ONNX's order."""
    ours = cell_named(model.config.cell).gates
    blocks = np.split(array, len(ours), axis=-1)
    order = [ours.index(gate) for gate in onnx_cell(model.config.cell).gates]
    return np.concatenate([blocks[k] for k in order], axis=-1)


def _biases(model: CharRNN, params: Mapping[str, Array]) -> Array:
    """ONNX's two biases of a layer behind each other, (2*G*H,)."""
    cell = onnx_cell(model.config.cell)
    hidden = np.zeros((len(cell.gates), model.config.hidden_size), params["b"].dtype)
    for gate, name in cell.hidden_biases.items():
        hidden[cell.gates.index(gate)] = params[name]
    return np.concatenate([reordered(model, params["b"]), hidden.ravel()])


def _reads_rows(model: CharRNN) -> bool:
    """Whether the first layer is given U's rows, not one-hot ones: the shorter of the two."""
    symbols, width = model.params["layers.0.U"].shape
    return bool(symbols > width)


def _unit(size: int, like: Array) -> Array:
    return np.eye(size, dtype=like.dtype)
