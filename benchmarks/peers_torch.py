"""The peers in torch, from what people write to the best that we could; imported where torch is
installed.
"""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks import peers_jit
from benchmarks.peer import NOISE_STEPS, Peer, Texts, layers_of
from charrnn.cells import cell_named
from charrnn.export import torch_state_dict
from charrnn.model import CharRNN


def one_thread() -> None:
    """For this process: what everybody has in these benchmarks of generation."""
    torch.set_num_threads(1)


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
        self.layers, self.out = layers_of(model, torch.from_numpy)
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


def _tensors(model: CharRNN) -> dict[str, Any]:
    arrays = torch_state_dict(model.config, model.params)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
