"""The vanilla recurrent network: h_t = tanh(U x_t + W h_{t-1} + b).

Source: Goodfellow, Bengio & Courville 2016, "Deep Learning", eq. 10.8-10.9; with these biases,
Karpathy's minimal character RNN. The product U x_t + b arrives as `a_x`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from charrnn.cells.base import Cache, Cell, Step, previous_outputs
from charrnn.ops import Array, Workspace, add_product, row_product


class RNN(Cell):
    """One gate, no gating: the new hidden state itself."""

    name = "rnn"
    gates = ("h",)
    sigmoids = 0
    parts = ("h",)
    kept = 1  # h
    rows_first = True  # one gate need not be cut out of rows, and these are copied nowhere

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
        outputs = kept.take("h", (B + steps[-1].columns.stop, H), dtype)
        product = work.take("product", (B, H), dtype)
        times_W = row_product(params["W"], product, work, "W by columns")
        outputs[:B] = state[0].T
        for step, a_x_t in zip(steps, a_x, strict=True):
            n = step.size
            a, h = product[:n], outputs[step.after]
            times_W(outputs[step.before])  # 1: in a
            a += a_x_t.T
            np.tanh(a, h)
            if step.lasting < n:
                state[0, :, step.lasting : n] = h[step.lasting :].T
        return outputs[B:].T, (outputs, steps)

    def backward_sequence(
        self,
        params: Mapping[str, Array],
        dh: Array,
        dstate: Array,
        cache: Cache,
        grads: Mapping[str, Array],
        work: Workspace,
        *,
        begins: bool = False,
    ) -> Array:
        outputs, steps = cache
        (_, H, B), dtype, one, dh_rows = dstate.shape, dh.dtype, dh.dtype.type(1), dh.T
        da_x = work.take("da_x", (len(dh_rows), H), dtype)
        dh_prev = work.take("dh_prev", (B, H), dtype)
        times_W_T = row_product(params["W"].T, dh_prev, work, "W_T by columns")
        np.multiply(outputs[B:], outputs[B:], da_x)  # 1: tanh' = 1 - tanh^2
        np.subtract(one, da_x, da_x)
        dh_prev[...] = dstate[0].T
        for step in reversed(steps):
            da, dh_t = da_x[step.columns], dh_prev[: step.size]
            dh_t += dh_rows[step.columns]
            da *= dh_t
            times_W_T(da)  # 1: dh_prev, in dh_t
        dstate[0] = dh_prev.T
        h_prev = previous_outputs(outputs.T, steps, work)
        add_product(h_prev, da_x, grads["W"], work, begins=begins)
        return da_x.T

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
