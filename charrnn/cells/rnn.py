"""The vanilla recurrent network: h_t = tanh(U x_t + W h_{t-1} + b).

Source: Goodfellow, Bengio & Courville 2016, "Deep Learning", eq. 10.8-10.9; with these biases,
Karpathy's minimal character RNN. The product U x_t + b arrives as `a_x`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from charrnn.cells.base import (
    Cache,
    Cell,
    Step,
    previous_outputs,
    scratch,
    step_blocks,
)
from charrnn.ops import Array, Workspace, add_product, step_product


class RNN(Cell):
    """One gate, no gating: the new hidden state itself."""

    name = "rnn"
    gates = ("h",)
    sigmoids = 0
    parts = ("h",)
    kept = 2  # h, by steps and as the outputs

    def forward(self, params: Mapping[str, Array], a_x: Array, state: Array) -> tuple[Array, Cache]:
        h_prev = state[0]
        h = np.tanh(a_x + h_prev @ params["W"])  # 1  (B, H)
        return h[None], (h_prev, h)

    def backward(
        self, params: Mapping[str, Array], dstate: Array, cache: Cache
    ) -> tuple[Array, Array, dict[str, Array]]:
        h_prev, h = cache
        da = dstate[0] * (1 - h * h)  # 1: tanh' = 1 - tanh^2
        return da, (da @ params["W"].T)[None], {"W": h_prev.T @ da}

    def gate_values(self, cache: Cache) -> tuple[Array, ...]:
        _, h = cache
        return (h,)

    def forward_sequence(
        self,
        params: Mapping[str, Array],
        a_x: Iterable[Array],
        steps: Sequence[Step],
        state: Array,
        kept: Workspace,
        work: Workspace,
    ) -> tuple[Array, Cache]:
        (_, H, B), dtype = state.shape, state.dtype
        W_T, activations = params["W_T"], step_blocks(kept, "h_t", H, steps, dtype)
        outputs = kept.columns("h", H, B + steps[-1].columns.stop, dtype)
        product = scratch(work, "product", H, steps, dtype)
        h = state[0].copy()
        outputs[:, :B] = h
        for step, a_x_t, h_t in zip(steps, a_x, activations, strict=True):
            n = step.size
            a = step_product(W_T, h[:, :n], product[n])  # 1
            a += a_x_t
            h = np.tanh(a, h_t)
            outputs[:, step.after] = h
            if step.lasting < n:
                state[0, :, step.lasting : n] = h[:, step.lasting :]
        return outputs[:, B:], (activations, outputs, steps)

    def backward_sequence(
        self,
        params: Mapping[str, Array],
        dh: Array,
        dstate: Array,
        cache: Cache,
        grads: Mapping[str, Array],
        work: Workspace,
    ) -> Array:
        activations, outputs, steps = cache
        (_, H, _), W, dtype, one = dstate.shape, params["W"], dh.dtype, dh.dtype.type(1)
        da_x = work.columns("da_x", H, dh.shape[1], dtype)
        da_of = scratch(work, "da", H, steps, dtype)
        for step, h in zip(reversed(steps), reversed(activations), strict=True):
            n = step.size
            dh_t = dstate[0, :, :n]
            dh_t += dh[:, step.columns]
            da = np.multiply(h, h, da_of[n])  # 1: tanh' = 1 - tanh^2
            np.subtract(one, da, da)
            da *= dh_t
            da_x[:, step.columns] = da
            step_product(W, da, dh_t)  # 1: dh_prev
        add_product(previous_outputs(outputs, steps, work), da_x.T, grads["W"], work)
        return da_x

    # The compiled form, for generation

    buffer_parts = 1
    stored_parts = (0,)

    def fold(self, params: Mapping[str, Array]) -> dict[str, Array]:
        return dict(params)

    def bind(
        self, folded: Mapping[str, Array], parts: Array, product: Array
    ) -> Callable[[Array], None]:
        add, tanh = np.add, np.tanh

        def step(a_x: Array) -> None:
            add(product, a_x, parts)
            tanh(parts, parts)  # h

        return step
