"""The peers: the same network in torch and onnxruntime, as their users would write it and as well
as we could write it. Each is optional.

A peer generates what `Generator.generate` does: symbols drawn from the softmax, and with each text
its log-probability. All of them compute the log-probabilities at the end, from the logits kept of
every step, which is cheapest. None turns ids into text, counts stop strings, or can give a text of
a batch again alone: that is left out in their favour.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from charrnn.cells import cell_named
from charrnn.export import torch_state_dict
from charrnn.model import CharRNN

if find_spec("torch"):
    import torch
    from torch.nn import functional

    from benchmarks import peers_jit
if find_spec("onnxruntime") and find_spec("onnx"):
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

TORCH, ONNXRUNTIME = "torch" in globals(), "onnxruntime" in globals()
DROP_EVERY = 4  # steps between two looks at which rows of a batch have ended
NOISE_STEPS = 16  # of a batch of names, whose noise is drawn at a time: most end within two


def versions() -> dict[str, str]:
    """Of the peers that are installed."""
    return {
        **({"torch": torch.__version__} if TORCH else {}),
        **({"onnxruntime": onnxruntime.__version__} if ONNXRUNTIME else {}),
    }


def of(model: CharRNN) -> dict[str, "Peer"]:
    """Every installed peer of a network, by its column in the tables."""
    found: dict[str, Peer] = {}
    if TORCH:
        torch.set_num_threads(1)
        found |= {
            "torch nn": TorchModule(model),
            "torch cell": TorchCell(model),
            "torch cell, Gumbel": TorchFunction(model),
            "torch tuned": TorchTuned(model),
            "torch jit": TorchJit(model),
        }
    if ONNXRUNTIME:
        found["onnxruntime"] = Onnx(model)
        found["onnxruntime, bound"] = OnnxBound(model)
    return found


@dataclass
class Texts:
    """What a peer has generated: ids and log-probability of each text."""

    ids: list[list[int]]
    logprobs: list[float]

    @property
    def characters(self) -> int:
        return sum(map(len, self.ids))


class Peer:
    """One network and its loop. `advance` reads a symbol a row, and draws the next."""

    def __init__(self, model: CharRNN) -> None:
        self.config = model.config

    def begin(self, batch: int, start: int) -> tuple[Any, Any]:
        """The first symbols and the state before them."""
        raise NotImplementedError

    def advance(self, x: Any, state: Any, noise: Any) -> tuple[Any, Any, Any]:
        """The symbols drawn with this step's noise, the logits, and the new state."""
        raise NotImplementedError

    def noise(self, steps: int, batch: int, own: list[Any] | None = None) -> list[Any]:
        """The Gumbel noise of every step, (batch, V) each; by each row's own generator if given."""
        raise NotImplementedError

    def generator(self, seed: int) -> Any:
        """A generator of random numbers for one row."""
        raise NotImplementedError

    def rows(self, state: Any, chosen: Any) -> Any:
        """The state of some rows."""
        raise NotImplementedError

    def array(self, x: Any) -> np.ndarray[Any, Any]:
        """A vector of the peer as an array of numpy."""
        return np.asarray(x)

    def logprobs(self, logits: list[Any], ids: list[Any]) -> np.ndarray[Any, Any]:
        """log softmax(logits)[id], (steps, batch)."""
        raise NotImplementedError

    def logits_after(self, prompt: list[int]) -> np.ndarray[Any, Any]:
        """The logits after a prompt, (V,): what a check compares."""
        x, state = self.begin(1, prompt[0])
        logits = None
        for id_, quiet in zip(prompt, self.noise(len(prompt), 1), strict=True):
            x, _ = self.begin(1, id_)
            _, logits, state = self.advance(x, state, quiet)
        return self.array(logits).reshape(-1).copy()

    def texts(self, length: int, batch: int, start: int = 0) -> Texts:
        """Running text: `length` symbols for each row."""
        x, state = self.begin(batch, start)
        ids, kept = [], []
        for noise in self.noise(length, batch):
            x, logits, state = self.advance(x, state, noise)
            ids.append(x)
            kept.append(logits)
        logprobs = self.logprobs(kept, ids).sum(axis=0)
        by_step = np.array([self.array(x).reshape(-1) for x in ids])  # (steps, batch)
        return Texts(by_step.T.tolist(), logprobs.tolist())

    def names(
        self, limit: int, batch: int, end: int, *, drop: bool, seeds: list[int] | None = None
    ) -> Texts:
        """Names: every row until its end symbol. With `drop`, rows that have ended leave the batch
        now and then; without it the whole batch goes on until the last has ended.
        """
        x, state = self.begin(batch, end)
        own = None if seeds is None else [self.generator(seed) for seed in seeds]
        live, drawing = np.arange(batch), np.arange(batch)
        ended = np.zeros(batch, bool)
        blocks: list[tuple[Any, list[Any], list[Any]]] = [(live, [], [])]
        noise: list[Any] = []
        for t in range(limit):
            if not noise:
                steps, drawing = min(NOISE_STEPS, limit - t), live
                theirs = None if own is None else [own[row] for row in live]
                noise = self.noise(steps, len(live), theirs)[::-1]
            step_noise = noise.pop()
            if step_noise is not None and len(live) < len(drawing):
                step_noise = step_noise[np.searchsorted(drawing, live)]
            x, logits, state = self.advance(x, state, step_noise)
            blocks[-1][1].append(x)
            blocks[-1][2].append(logits)
            ended |= self.array(x).reshape(-1) == end
            if ended.all():
                break
            if drop and t % DROP_EVERY == DROP_EVERY - 1 and ended.any():
                staying = np.flatnonzero(~ended)
                x, state = x[staying], self.rows(state, staying)
                live, ended = live[staying], ended[staying]
                blocks.append((live, [], []))
        return self._named(blocks, batch, end)

    def _named(self, blocks: list[tuple[Any, list[Any], list[Any]]], batch: int, end: int) -> Texts:
        ids: list[list[int]] = [[] for _ in range(batch)]
        totals = np.zeros(batch)
        for live, drawn, logits in blocks:
            if not drawn:
                continue
            by_step = np.array([self.array(x).reshape(-1) for x in drawn])  # (steps, rows)
            before_end = np.cumsum(by_step == end, axis=0) - (by_step == end) == 0
            totals[live] += (self.logprobs(logits, drawn) * before_end).sum(axis=0)
            within = before_end & (by_step != end)
            for k, row in enumerate(live.tolist()):
                ids[row] += by_step[within[:, k], k].tolist()
        return Texts(ids, totals.tolist())


class TorchPeer(Peer):
    """What all peers in torch share; the plain ones draw by softmax and multinomial."""

    gumbel = False

    def begin(self, batch: int, start: int) -> tuple[Any, Any]:
        return torch.full((batch,), start), None

    def noise(self, steps: int, batch: int, own: list[Any] | None = None) -> list[Any]:
        if not self.gumbel:
            return [None] * steps
        V = self.config.vocab_size
        if own is None:
            drawn = torch.empty(steps, batch, V).exponential_()
        else:
            rows = [torch.empty(steps, V).exponential_(generator=each) for each in own]
            drawn = torch.stack(rows, dim=1)
        return list(drawn.log_().neg_().unbind(0))

    def generator(self, seed: int) -> Any:
        return torch.Generator().manual_seed(seed)

    def draw(self, logits: Any, noise: Any) -> Any:
        """One symbol a row."""
        if self.gumbel:
            return (logits + noise).argmax(-1)
        return torch.multinomial(functional.softmax(logits, -1), 1)[:, 0]

    def array(self, x: Any) -> np.ndarray[Any, Any]:
        return x.numpy()

    def logprobs(self, logits: list[Any], ids: list[Any]) -> np.ndarray[Any, Any]:
        index = torch.stack(ids)[..., None]
        return torch.stack(logits).log_softmax(-1).gather(-1, index)[..., 0].numpy()

    def texts(self, length: int, batch: int, start: int = 0) -> Texts:
        with torch.inference_mode():
            return super().texts(length, batch, start)

    def names(self, *args: Any, **options: Any) -> Texts:
        with torch.inference_mode():
            return super().names(*args, **options)

    def logits_after(self, prompt: list[int]) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            return super().logits_after(prompt)


class TorchModule(TorchPeer):
    """nn.LSTM (nn.GRU, nn.RNN) and nn.Linear, one step a call."""

    def __init__(self, model: CharRNN) -> None:
        super().__init__(model)
        c, arrays = model.config, _tensors(model)
        self.rnn = getattr(torch.nn, c.cell.upper())(c.vocab_size, c.hidden_size, c.num_layers)
        self.linear = torch.nn.Linear(c.hidden_size, c.vocab_size)
        self.one_hot = torch.eye(c.vocab_size)
        for name, module in (("rnn.", self.rnn), ("linear.", self.linear)):
            own = {k.removeprefix(name): v for k, v in arrays.items() if k.startswith(name)}
            module.load_state_dict(own)

    def advance(self, x: Any, state: Any, noise: Any) -> tuple[Any, Any, Any]:
        y, state = self.rnn(functional.embedding(x, self.one_hot)[None], state)
        logits = self.linear(y[0])  # (B, V)
        return self.draw(logits, noise), logits, state

    def rows(self, state: Any, chosen: Any) -> Any:
        chosen = torch.from_numpy(chosen)
        if isinstance(state, tuple):
            return tuple(part.index_select(1, chosen) for part in state)
        return state.index_select(1, chosen)


class TorchCell(TorchPeer):
    """nn.LSTMCell (nn.GRUCell, nn.RNNCell) and nn.Linear."""

    def __init__(self, model: CharRNN) -> None:
        super().__init__(model)
        c, arrays = model.config, _tensors(model)
        kind = getattr(torch.nn, f"{c.cell.upper()}Cell")
        self.cells = []
        for n in range(c.num_layers):
            cell = kind(c.hidden_size if n else c.vocab_size, c.hidden_size)
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            cell.load_state_dict({name: arrays[f"rnn.{name}_l{n}"] for name in names})
            self.cells.append(cell)
        self.linear = torch.nn.Linear(c.hidden_size, c.vocab_size)
        self.linear.load_state_dict({name: arrays[f"linear.{name}"] for name in ("weight", "bias")})
        self.one_hot = torch.eye(c.vocab_size)

    def advance(self, x: Any, state: Any, noise: Any) -> tuple[Any, Any, Any]:
        x, new = functional.embedding(x, self.one_hot), []
        for cell, part in zip(self.cells, state or [None] * len(self.cells), strict=True):
            new.append(cell(x, part))
            x = new[-1][0] if isinstance(new[-1], tuple) else new[-1]  # (B, H)
        logits = self.linear(x)
        return self.draw(logits, noise), logits, new

    def rows(self, state: Any, chosen: Any) -> Any:
        chosen = torch.from_numpy(chosen)
        return [
            tuple(part[chosen] for part in layer) if isinstance(layer, tuple) else layer[chosen]
            for layer in state
        ]


class TorchFunction(TorchCell):
    """The function under nn.LSTMCell without the module, and noise drawn beforehand."""

    gumbel = True

    def __init__(self, model: CharRNN) -> None:
        super().__init__(model)
        name = {"rnn": "rnn_tanh_cell"}.get(model.config.cell, f"{model.config.cell}_cell")
        self.function, self.pair = getattr(torch, name), model.config.cell == "lstm"
        self.weights = [
            tuple(p.detach() for p in (c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh))
            for c in self.cells
        ]
        self.out = self.linear.weight.detach().T.contiguous(), self.linear.bias.detach()

    def begin(self, batch: int, start: int) -> tuple[Any, Any]:
        zeros = torch.zeros(batch, self.config.hidden_size)
        state = [(zeros, zeros) if self.pair else zeros for _ in self.weights]
        return torch.full((batch,), start), state

    def advance(self, x: Any, state: Any, noise: Any) -> tuple[Any, Any, Any]:
        x, new = functional.embedding(x, self.one_hot), []
        for weights, part in zip(self.weights, state, strict=True):
            new.append(self.function(x, part, *weights))
            x = new[-1][0] if self.pair else new[-1]
        logits = torch.addmm(self.out[1], x, self.out[0])
        return self.draw(logits, noise), logits, new


class TorchTuned(TorchPeer):
    """Eager torch with our own tricks: rows of the input matrix as a table, one product for all
    gates, one sigmoid for all gates that have one, noise drawn beforehand.
    """

    gumbel = True

    def __init__(self, model: CharRNN) -> None:
        super().__init__(model)
        self.layers, self.out = _layers(model, torch.from_numpy)
        self.parts = len(cell_named(model.config.cell).parts)
        self.forward = getattr(self, model.config.cell)

    def begin(self, batch: int, start: int) -> tuple[Any, Any]:
        zeros = torch.zeros(batch, self.config.hidden_size)
        return torch.full((batch,), start), [(zeros,) * self.parts for _ in self.layers]

    def advance(self, x: Any, state: Any, noise: Any) -> tuple[Any, Any, Any]:
        new = []
        for layer, part in zip(self.layers, state, strict=True):
            a_x = layer["table"][x] if "table" in layer else torch.addmm(layer["b"], x, layer["U"])
            new.append(self.forward(layer, a_x, *part))
            x = new[-1][0]
        logits = torch.addmm(self.out[1], x, self.out[0])
        return self.draw(logits, noise), logits, new

    def rnn(self, layer: Any, a_x: Any, h: Any) -> Any:
        return (torch.addmm(a_x, h, layer["W"]).tanh_(),)

    def lstm(self, layer: Any, a_x: Any, h: Any, c: Any) -> Any:
        a, H = torch.addmm(a_x, h, layer["W"]), h.shape[1]
        i, f, o = a[:, : 3 * H].sigmoid().split(H, 1)
        c = torch.addcmul(f * c, i, a[:, 3 * H :].tanh())
        return o * c.tanh(), c

    def gru(self, layer: Any, a_x: Any, h: Any) -> Any:
        p, H = torch.addmm(layer["b_h"], h, layer["W"]), h.shape[1]
        r, z = (a_x[:, : 2 * H] + p[:, : 2 * H]).sigmoid_().split(H, 1)
        n = torch.addcmul(a_x[:, 2 * H :], r, p[:, 2 * H :]).tanh_()
        return (torch.lerp(n, h, z),)

    def rows(self, state: Any, chosen: Any) -> Any:
        chosen = torch.from_numpy(chosen)
        return [tuple(part[chosen] for part in layer) for layer in state]


class TorchJit(TorchTuned):
    """The tuned loop, compiled whole by torch.jit."""

    def begin(self, batch: int, start: int) -> tuple[Any, Any]:
        zeros = torch.zeros(batch, self.config.hidden_size)
        return torch.full((batch,), start), [zeros] * (self.parts * len(self.layers))

    def loop(self, x: Any, state: Any, noise: Any, end: int = -1) -> tuple[Any, Any, Any]:
        """Symbols (steps, B), logits (steps, B, V), and the state after them."""
        cell = self.config.cell
        return peers_jit.texts(cell, x, state, noise, self.layers, *self.out, end)

    def texts(self, length: int, batch: int, start: int = 0) -> Texts:
        with torch.inference_mode():
            noise = torch.stack(self.noise(length, batch))
            ids, logits, _ = self.loop(*self.begin(batch, start), noise)
            return Texts(ids.T.tolist(), self.logprobs([logits], [ids])[0].sum(axis=0).tolist())

    def names(
        self, limit: int, batch: int, end: int, *, drop: bool, seeds: list[int] | None = None
    ) -> Texts:
        own = None if seeds is None else [self.generator(seed) for seed in seeds]
        ids: list[Any] = []
        kept: list[Any] = []
        with torch.inference_mode():
            x, state = self.begin(batch, end)
            ended = torch.zeros(batch, dtype=torch.bool)
            while len(ids) < limit and not ended.all():
                steps = min(NOISE_STEPS, limit - len(ids))
                noise = torch.stack(self.noise(steps, batch, own))
                drawn, logits, state = self.loop(x, state, noise, end)
                x = drawn[-1]
                ended |= (drawn == end).any(dim=0)
                ids += drawn.unbind(0)
                kept += logits.unbind(0)
            return self._named([(np.arange(batch), ids, kept)], batch, end)

    def logits_after(self, prompt: list[int]) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            _, logits, _ = self.loop(*self.begin(1, prompt[0]), self.forcing(prompt))
            return logits[-1, 0].numpy()

    def forcing(self, prompt: list[int]) -> Any:
        """Noise that draws the prompt's next symbol in every step."""
        noise = torch.zeros(len(prompt), 1, self.config.vocab_size)
        for t, following in enumerate(prompt[1:]):
            noise[t, 0, following] = 1e9
        return noise


class Onnx(Peer):
    """onnxruntime: a graph of one step, noise and argmax within it, one `run` a step."""

    def __init__(self, model: CharRNN) -> None:
        super().__init__(model)
        c = model.config
        layers, out = _layers(model, lambda array: array)
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


def _tensors(model: CharRNN) -> dict[str, Any]:
    arrays = torch_state_dict(model.config, model.params)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _layers(model: CharRNN, convert: Any) -> tuple[list[dict[str, Any]], tuple[Any, Any]]:
    """Our own matrices, the first layer's as a table of rows; the output's V and c."""
    layers = []
    for n in range(model.config.num_layers):
        layer = dict(model.params.layer(f"layers.{n}."))
        if n == 0:
            layer["table"] = layer.pop("U") + layer.pop("b")
        if "b_h" in layer:  # the hidden bias of the GRU's candidate, beside two gates without one
            layer["b_h"] = np.concatenate([np.zeros(2 * len(layer["b_h"])), layer["b_h"]])
        layers.append({k: convert(a.astype(np.float32).copy()) for k, a in layer.items()})
    return layers, (convert(model.params["out.V"].copy()), convert(model.params["out.c"].copy()))


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
