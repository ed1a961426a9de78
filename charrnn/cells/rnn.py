"""The vanilla recurrent network: h_t = tanh(U x_t + W h_{t-1} + b).

Source: Goodfellow, Bengio & Courville 2016, "Deep Learning", eq. 10.8-10.9; with these biases,
Karpathy's minimal character RNN. The product U x_t + b arrives as `a_x`.
"""

from collections.abc import Callable, Mapping

import numpy as np

from charrnn.cells.base import Cache, Cell, previous_rows
from charrnn.ops import Array, Workspace, matmul_rows


class RNN(Cell):
    """One gate, no gating: the new hidden state itself."""

    name = "rnn"
    gates = ("h",)
    parts = ("h",)

    def forward(self, params: Mapping[str, Array], a_x: Array, state: Array) -> tuple[Array, Cache]:
        h_prev = state[0]
        h = np.tanh(a_x + matmul_rows(h_prev, params["W"]))  # 1  (B, H)
        return h[None], (h_prev, h)

    def backward(
        self, params: Mapping[str, Array], dstate: Array, cache: Cache
    ) -> tuple[Array, Array, dict[str, Array]]:
        h_prev, h = cache
        da = dstate[0] * (1 - h * h)  # 1: tanh' = 1 - tanh^2
        return da, (da @ params["W"].T)[None], {"W": h_prev.T @ da}

    def forward_sequence(
        self, params: Mapping[str, Array], a_x: Array, sizes: Array, state: Array, work: Workspace
    ) -> tuple[Array, Array, Cache]:
        W, h, final = params["W"], a_x, state.copy()  # the pre-activations become the outputs
        product = work.take("product", state[0].shape, a_x.dtype)
        start = 0
        for size in sizes.tolist():
            rows = h[start : start + size]
            np.matmul(final[0, :size], W, product[:size])
            rows += product[:size]
            np.tanh(rows, rows)
            final[0, :size] = rows
            start += size
        return h, final, (h, sizes, state[0])

    def backward_sequence(
        self,
        params: Mapping[str, Array],
        dh: Array,
        dstate: Array,
        cache: Cache,
        grads: Mapping[str, Array],
        work: Workspace,
    ) -> tuple[Array, Array]:
        (h, sizes, initial), W_T = cache, params["W"].T
        da = work.take("da", h.shape, h.dtype)  # (N, H)
        np.multiply(h, h, da)
        np.subtract(1, da, da)
        dstate, end = dstate.copy(), len(h)
        for size in sizes[::-1].tolist():
            start = end - size
            dh_t = dstate[0, :size]
            dh_t += dh[start:end]
            da[start:end] *= dh_t  # 1: tanh' = 1 - tanh^2
            np.matmul(da[start:end], W_T, dh_t)
            end = start
        h_prev = work.take("h_prev", h.shape, h.dtype)
        previous_rows(h, sizes, initial, h_prev)
        np.matmul(h_prev.T, da, grads["W"])
        return da, dstate

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
