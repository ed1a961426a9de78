"""The peers in onnxruntime: a graph of one step, made of our weights; imported where onnxruntime
and onnx are installed.
"""

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peer import Peer, layers_of
from charrnn.cells import cell_named
from charrnn.model import CharRNN


class Onnx(Peer):
    """onnxruntime: a graph of one step, noise and argmax within it, one `run` a step."""

    def __init__(self, model: CharRNN) -> None:
        super().__init__(model)
        c = model.config
        layers, out = layers_of(model, lambda array: array)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph = _graph(c.cell, layers, out, c.hidden_size, c.vocab_size)
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(graph, options, providers=providers)
        parts = cell_named(c.cell).parts
        self.states = [f"{part}{n}" for n in range(c.num_layers) for part in parts]
        self.outputs = ["drawn", "noisy", *[f"new_{name}" for name in self.states]]

    def begin(self, batch: int, start: int) -> tuple[Any, Any]:
        zeros = np.zeros((batch, self.config.hidden_size), np.float32)
        return np.full(batch, start), [zeros for _ in self.states]

    def advance(self, x: Any, state: Any, noise: Any) -> tuple[Any, Any, Any]:
        feed = {"x": x, "noise": noise, **dict(zip(self.states, state, strict=True))}
        drawn, noisy, *state = self.session.run(self.outputs, feed)
        return drawn, (noisy, noise), state

    def noise(self, steps: int, batch: int, own: list[Any] | None = None) -> list[Any]:
        V = self.config.vocab_size
        if own is None:
            drawn = np.random.default_rng().standard_exponential((steps, batch, V), np.float32)
        else:
            rows = [each.standard_exponential((steps, V), np.float32) for each in own]
            drawn = np.stack(rows, axis=1)
        return list(-np.log(drawn + np.float32(1e-30)))

    def generator(self, seed: int) -> Any:
        return np.random.default_rng(seed)

    def logprobs(self, logits: list[Any], ids: list[Any]) -> np.ndarray[Any, Any]:
        noisy, noise = (np.stack(arrays) for arrays in zip(*logits, strict=True))
        clean = noisy - noise  # (steps, batch, V)
        totals = np.log(np.exp(clean).sum(axis=-1))
        return np.take_along_axis(clean, np.stack(ids)[..., None], -1)[..., 0] - totals

    def logits_after(self, prompt: list[int]) -> np.ndarray[Any, Any]:
        x, state = self.begin(1, prompt[0])
        noisy = np.empty(0)
        for following in [*prompt[1:], None]:
            noise = np.zeros((1, self.config.vocab_size), np.float32)
            if following is not None:
                noise[0, following] = 1e9  # so that the prompt's next symbol is the one drawn
            x, (noisy, _), state = self.advance(x, state, noise)
        return noisy[0]

    def rows(self, state: Any, chosen: Any) -> Any:
        return [part[chosen] for part in state]


class OnnxBound(Onnx):
    """The same graph with its inputs and outputs bound to fixed buffers, two sets in turn, so that
    a step neither looks up names nor makes arrays. The state stays in the buffers of its step.
    """

    def begin(self, batch: int, start: int) -> tuple[Any, Any]:
        x, state = super().begin(batch, start)
        return x, self._bound(x, state)

    def _bound(self, x: Any, state: list[Any]) -> "_Bound":
        return _Bound(self, x, state)

    def advance(self, x: Any, state: Any, noise: Any) -> tuple[Any, Any, Any]:
        drawn, noisy = state.step(self.session, noise)
        return drawn, (noisy, noise), state

    def rows(self, state: Any, chosen: Any) -> Any:
        return self._bound(*state.rows(chosen))


class _Bound:
    """Two sets of buffers: what a step writes is what the next one reads."""

    def __init__(self, peer: Onnx, x: Any, state: list[Any]) -> None:
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        names, shape = ["x", *peer.states], (len(x), peer.config.vocab_size)
        outputs = ["drawn", *[f"new_{name}" for name in peer.states]]
        self.buffers = [[value(np.array(a)) for a in (x, *state)] for _ in range(2)]
        self.noise = value(np.zeros(shape, np.float32))
        self.noisy = [value(np.zeros(shape, np.float32)) for _ in range(2)]
        self.bindings = []
        self.turn = 0
        for k in range(2):
            binding = peer.session.io_binding()
            binding.bind_ortvalue_input("noise", self.noise)
            binding.bind_ortvalue_output("noisy", self.noisy[k])
            for name, buffer in zip(names, self.buffers[k], strict=True):
                binding.bind_ortvalue_input(name, buffer)
            for name, buffer in zip(outputs, self.buffers[1 - k], strict=True):
                binding.bind_ortvalue_output(name, buffer)
            self.bindings.append(binding)

    def step(self, session: Any, noise: Any) -> tuple[Any, Any]:
        """The symbols drawn, and the logits with their noise."""
        k, self.turn = self.turn, 1 - self.turn
        self.noise.update_inplace(noise)
        session.run_with_iobinding(self.bindings[k])
        return self.buffers[1 - k][0].numpy().copy(), self.noisy[k].numpy().copy()

    def rows(self, chosen: Any) -> tuple[Any, list[Any]]:
        """Symbols and state of some rows."""
        x, *state = (buffer.numpy()[chosen] for buffer in self.buffers[self.turn])
        return x, state


def _graph(cell: str, layers: list[dict[str, Any]], out: tuple[Any, Any], H: int, V: int) -> bytes:
    """The ONNX graph of one step: x, noise, state -> drawn, logits + noise, state."""
    build = _Graph(H)
    build.add("Gather", [build.constant("table", layers[0]["table"]), "x"], ["a_x0"])
    for n, layer in enumerate(layers):
        for name in ("W", "U", "b", "b_h"):
            if name in layer:
                build.constant(f"{name}{n}", layer[name])
        if n:
            build.add("Gemm", [f"new_h{n - 1}", f"U{n}", f"b{n}"], [f"a_x{n}"])
        getattr(build, cell)(str(n))
    V_c = build.constant("V", out[0]), build.constant("c", out[1])
    build.add("Gemm", [f"new_h{len(layers) - 1}", *V_c], ["logits"])
    build.add("Add", ["logits", "noise"], ["noisy"])
    build.add("ArgMax", ["noisy"], ["drawn"], axis=1, keepdims=0)
    value, floats, ids = helper.make_tensor_value_info, TensorProto.FLOAT, TensorProto.INT64
    inputs = [value("x", ids, ["B"]), value("noise", floats, ["B", V])]
    outputs = [value("drawn", ids, ["B"]), value("noisy", floats, ["B", V])]
    for name in (f"{part}{n}" for n in range(len(layers)) for part in cell_named(cell).parts):
        inputs.append(value(name, floats, ["B", H]))
        outputs.append(value(f"new_{name}", floats, ["B", H]))
    graph = helper.make_graph(build.nodes, "step", inputs, outputs, build.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model.SerializeToString()


class _Graph:
    """Nodes of an ONNX graph; a cell's method appends its equations for a layer."""

    def __init__(self, hidden_size: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.H = hidden_size

    def constant(self, name: str, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))

    def split(self, name: str, widths: list[int], into: list[str]) -> None:
        sizes = self.constant(f"{name} sizes", np.array(widths) * self.H)
        self.add("Split", [name, sizes], into, axis=1)

    def chain(self, n: str, lines: str) -> None:
        """Nodes written as `kind input input > output`; the layer's number joins the names."""
        for line in lines.split(";"):
            words, output = line.split(">")
            kind, *inputs = words.split()
            self.add(kind, [f"{name}{n}" for name in inputs], [f"{output.strip()}{n}"])

    def rnn(self, n: str) -> None:
        self.chain(n, "Gemm h W a_x > a; Tanh a > new_h")

    def lstm(self, n: str) -> None:
        self.chain(n, "Gemm h W a_x > a")
        self.split(f"a{n}", [3, 1], [f"a_ifo{n}", f"a_g{n}"])
        self.chain(n, "Sigmoid a_ifo > ifo; Tanh a_g > g")
        self.split(f"ifo{n}", [1, 1, 1], [f"i{n}", f"f{n}", f"o{n}"])
        self.chain(n, "Mul f c > fc; Mul i g > ig; Add fc ig > new_c")
        self.chain(n, "Tanh new_c > tanh_c; Mul o tanh_c > new_h")

    def gru(self, n: str) -> None:
        self.chain(n, "Gemm h W b_h > p")
        for name in ("p", "a_x"):
            self.split(f"{name}{n}", [2, 1], [f"{name}_rz{n}", f"{name}_n{n}"])
        self.chain(n, "Add p_rz a_x_rz > a_rz; Sigmoid a_rz > rz")
        self.split(f"rz{n}", [1, 1], [f"r{n}", f"z{n}"])
        self.chain(n, "Mul r p_n > rp; Add rp a_x_n > a_n; Tanh a_n > n")
        self.chain(n, "Sub h n > back; Mul z back > zb; Add n zb > new_h")
