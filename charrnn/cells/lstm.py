"""The long short-term memory without peepholes.

    i = sigmoid(a_i)   f = sigmoid(a_f)   o = sigmoid(a_o)   g = tanh(a_g)      a = a_x + W h_prev
    c = f * c_prev + i * g                                                      the cell state
    h = o * tanh(c)                                                             the output

Source: Hochreiter & Schmidhuber 1997; with the forget gate of Gers, Schmidhuber & Cummins 2000;
in this form Greff et al. 2017, "LSTM: A Search Space Odyssey", section 2, without its peepholes p.
The forget gate's bias begins at 1 (Jozefowicz, Zaremba & Sutskever 2015).
"""

from collections.abc import Callable, Mapping

import numpy as np

from charrnn.cells.base import Cache, Cell, previous_rows, scaled_columns, weighted_sum
from charrnn.ops import Array, Workspace, blocks, matmul_rows, sigmoid, sigmoid_inplace


class LSTM(Cell):
    """Input, forget and output gate, candidate g; the cell state is carried beside h."""

    name = "lstm"
    gates = ("i", "f", "o", "g")
    parts = ("h", "c")

    def init_bias(self, hidden_size: int) -> Array:
        bias = super().init_bias(hidden_size)
        bias[hidden_size : 2 * hidden_size] = 1  # f: remember, until taught to forget
        return bias

    def forward(self, params: Mapping[str, Array], a_x: Array, state: Array) -> tuple[Array, Cache]:
        h_prev, c_prev = state
        a_i, a_f, a_o, a_g = blocks(a_x + matmul_rows(h_prev, params["W"]), 4)  # 1
        i, f, o, g = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o), np.tanh(a_g)  # 2  each (B, H)
        c = f * c_prev + i * g  # 3
        tanh_c = np.tanh(c)  # 4
        h = o * tanh_c  # 5
        return np.stack([h, c]), (h_prev, c_prev, i, f, o, g, tanh_c)

    def backward(
        self, params: Mapping[str, Array], dstate: Array, cache: Cache
    ) -> tuple[Array, Array, dict[str, Array]]:
        h_prev, c_prev, i, f, o, g, tanh_c = cache
        dh, dc = dstate
        do = dh * tanh_c  # 5
        dc = dc + dh * o * (1 - tanh_c * tanh_c)  # 5, 4: by way of h, beside what c itself got
        di, df, dg, dc_prev = dc * g, dc * c_prev, dc * i, dc * f  # 3
        da = np.concatenate(  # 2: sigmoid' = s (1 - s), tanh' = 1 - tanh^2
            [di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g * g)], axis=1
        )
        dh_prev = da @ params["W"].T  # 1
        return da, np.stack([dh_prev, dc_prev]), {"W": h_prev.T @ da}

    def forward_sequence(
        self, params: Mapping[str, Array], a_x: Array, sizes: Array, state: Array, work: Workspace
    ) -> tuple[Array, Array, Cache]:
        W, H, (N, _), dtype = params["W"], state.shape[2], a_x.shape, a_x.dtype
        c, tanh_c, h = (work.take(name, (N, H), dtype) for name in ("c", "tanh_c", "h"))
        product = work.take("product", (len(state[0]), 4 * H), dtype)
        ig = work.take("ig", state[0].shape, dtype)
        final, start = state.copy(), 0
        for size in sizes.tolist():
            step = slice(start, start + size)
            a, c_t, tanh_c_t, h_t, ig_t = a_x[step], c[step], tanh_c[step], h[step], ig[:size]
            np.matmul(final[0, :size], W, product[:size])
            a += product[:size]
            i, f, o, g = blocks(a, 4)
            sigmoid_inplace(a[:, : 3 * H])
            np.tanh(g, g)
            np.multiply(f, final[1, :size], c_t)
            np.multiply(i, g, ig_t)
            c_t += ig_t
            np.tanh(c_t, tanh_c_t)
            np.multiply(o, tanh_c_t, h_t)
            final[0, :size], final[1, :size] = h_t, c_t
            start += size
        return h, final, (a_x, c, tanh_c, h, sizes, state)

    def backward_sequence(
        self,
        params: Mapping[str, Array],
        dh: Array,
        dstate: Array,
        cache: Cache,
        grads: Mapping[str, Array],
        work: Workspace,
    ) -> tuple[Array, Array]:
        (gates, c, tanh_c, h, sizes, initial), W_T = cache, params["W"].T
        (N, H), dtype = h.shape, h.dtype
        c_prev = work.take("previous", (N, H), dtype)
        previous_rows(c, sizes, initial[1], c_prev)
        slope = work.take("slope", (len(initial[0]), 4 * H), dtype)
        through_h = work.take("through_h", initial[0].shape, dtype)
        dstate, end = dstate.copy(), N
        for size in sizes[::-1].tolist():
            step = slice(end - size, end)
            da, tanh_c_t = gates[step], tanh_c[step]  # the gates become their gradients
            i, f, o, g = blocks(da, 4)
            dh_t, dc_t = dstate[0, :size], dstate[1, :size]
            dh_t += dh[step]
            d, ds = slope[:size], through_h[:size]
            np.multiply(da, da, d)  # 2: sigmoid' = s - s^2, tanh' = 1 - g^2
            np.subtract(da[:, : 3 * H], d[:, : 3 * H], d[:, : 3 * H])
            np.subtract(1, d[:, 3 * H :], d[:, 3 * H :])
            np.multiply(tanh_c_t, tanh_c_t, ds)  # 5, 4: dc += dh * o * (1 - tanh(c)^2)
            np.subtract(1, ds, ds)
            ds *= o
            ds *= dh_t
            dc_t += ds
            np.multiply(dh_t, tanh_c_t, o)  # 5: do
            np.multiply(dc_t, i, ds)  # 3: dg, kept until i is overwritten
            np.multiply(dc_t, g, i)  # 3: di
            g[...] = ds
            np.multiply(dc_t, f, ds)  # 3: dc_prev, kept until f is overwritten
            np.multiply(dc_t, c_prev[step], f)  # 3: df
            dc_t[...] = ds
            da *= d  # 2
            np.matmul(da, W_T, dh_t)  # 1: dh_prev
            end -= size
        h_prev = c_prev
        previous_rows(h, sizes, initial[0], h_prev)
        np.matmul(h_prev.T, gates, grads["W"])
        return gates, dstate

    stored_scale = 2.0
    buffer_parts = 9  # o, i, f, g, c, i * g, f * c, tanh c, h
    stored_parts = (8, 4)

    def fold(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """sigmoid(x) = (1 + tanh(x / 2)) / 2: the gates' halves move into the weights, so that one
        tanh does for all four; what is left of o's halving is in the stored output, 2 h.
        """
        halves, order = (0.5, 0.5, 0.5, 1.0), (2, 0, 1, 3)  # o, i, f, g
        folded = {name: scaled_columns(array, halves, order) for name, array in params.items()}
        folded["W"] *= folded["W"].dtype.type(1 / self.stored_scale)
        return folded

    def bind(
        self, folded: Mapping[str, Array], parts: Array, product: Array
    ) -> Callable[[Array], None]:
        add, multiply, tanh = np.add, np.multiply, np.tanh
        one = np.ones((), parts.dtype)
        gates, oif, i_f, g_c, products = parts[:4], parts[:3], parts[1:3], parts[3:5], parts[5:7]
        o, c, tanh_c, h = (parts[k] for k in (0, 4, 7, 8))
        sum_into_c = weighted_sum((0.5, 0.5), products, c)

        def step(a_x: Array) -> None:
            add(product, a_x, gates)
            tanh(gates, gates)
            add(oif, one, oif)  # 1 + tanh(x / 2): twice the sigmoids
            multiply(i_f, g_c, products)
            sum_into_c()
            tanh(c, tanh_c)
            multiply(o, tanh_c, h)  # 2 h

        return step
