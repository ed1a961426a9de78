"""The whole loop of `peers_torch.TorchTuned`, compiled by torch.jit; imported where torch is.

No Python runs between two steps. The equations are those of `TorchTuned`.
"""

from typing import Dict, List, Tuple  # noqa: UP035  what torch.jit understands

import torch
from torch import Tensor

Layer = Dict[str, Tensor]  # noqa: UP006
Tensors = List[Tensor]  # noqa: UP006
Drawn = Tuple[Tensor, Tensor, List[Tensor]]  # noqa: UP006


@torch.jit.script
def texts(
    cell: str,
    x: Tensor,
    state: Tensors,
    noise: Tensor,
    layers: List[Layer],  # noqa: UP006
    V: Tensor,
    c: Tensor,
    end: int,
) -> Drawn:
    """The symbols drawn (steps, B), the logits (steps, B, V) and the last state, from noise
    (steps, B, V).

    It stops early when every row has drawn `end` in these steps; -1 for never.
    """
    ids: Tensors = []
    kept: Tensors = []
    ended = x < 0
    H = layers[0]["W"].size(0)
    for t in range(noise.size(0)):
        for n, layer in enumerate(layers):
            if n == 0:
                a_x = layer["table"][x]
            else:
                a_x = torch.addmm(layer["b"], x, layer["U"])
            if cell == "rnn":
                x = torch.addmm(a_x, state[n], layer["W"]).tanh_()
                state[n] = x
            elif cell == "lstm":
                a = torch.addmm(a_x, state[2 * n], layer["W"])
                i, f, o = a[:, : 3 * H].sigmoid().chunk(3, 1)
                cell_state = torch.addcmul(f * state[2 * n + 1], i, a[:, 3 * H :].tanh())
                x = o * cell_state.tanh()
                state[2 * n] = x
                state[2 * n + 1] = cell_state
            else:
                p = torch.addmm(layer["b_h"], state[n], layer["W"])
                r, z = (a_x[:, : 2 * H] + p[:, : 2 * H]).sigmoid_().chunk(2, 1)
                candidate = torch.addcmul(a_x[:, 2 * H :], r, p[:, 2 * H :]).tanh_()
                x = torch.lerp(candidate, state[n], z)
                state[n] = x
        logits = torch.addmm(c, x, V)
        x = (logits + noise[t]).argmax(-1)
        ids.append(x)
        kept.append(logits)
        if end >= 0:
            ended = ended | (x == end)
            if bool(ended.all()):
                break
    return torch.stack(ids), torch.stack(kept), state
