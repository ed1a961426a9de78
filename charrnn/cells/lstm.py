"""The long short-term memory without peepholes.

    i = sigmoid(a_i)   f = sigmoid(a_f)   o = sigmoid(a_o)   g = tanh(a_g)      a = a_x + W h_prev
    c = f * c_prev + i * g                                                      the cell state
    h = o * tanh(c)                                                             the output

Source: Hochreiter & Schmidhuber 1997; with the forget gate of Gers, Schmidhuber & Cummins 2000;
in this form Greff et al. 2017, "LSTM: A Search Space Odyssey", section 2, without its peepholes p.
The forget gate's bias begins at 1 (Jozefowicz, Zaremba & Sutskever 2015).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from charrnn.cells.base import (
    Cache,
    Cell,
    Step,
    previous_outputs,
    scaled_columns,
    scratch,
    step_blocks,
    weighted_sum,
)
from charrnn.ops import (
    Array,
    Workspace,
    add_product,
    blocks,
    row_blocks,
    sigmoid,
    step_product,
)


class LSTM(Cell):
    """Input, forget and output gate, candidate g; the cell state is carried beside h."""

    name = "lstm"
    gates = ("i", "f", "o", "g")
    sigmoids = 3
    parts = ("h", "c")
    kept = 7  # the gates, c, tanh(c), h

    def init_bias(self, hidden_size: int) -> Array:
        bias = super().init_bias(hidden_size)
        bias[hidden_size : 2 * hidden_size] = 1  # f: remember, until taught to forget
        return bias

    def forward(self, params: Mapping[str, Array], a_x: Array, state: Array) -> tuple[Array, Cache]:
        h_prev, c_prev = state
        a_i, a_f, a_o, a_g = blocks(a_x + h_prev @ params["W"], 4)  # 1
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

    def gate_values(self, cache: Cache) -> tuple[Array, ...]:
        _, _, i, f, o, g, _ = cache
        return i, f, o, g

    def forward_sequence(
        self,
        params: Mapping[str, Array],
        a_x: Iterable[Array],
        steps: Sequence[Step],
        state: Array,
        kept: Workspace,
        work: Workspace,
    ) -> tuple[Array, Cache]:
        (_, H, B), dtype, half = state.shape, state.dtype, state.dtype.type(0.5)
        W_T = params["W_T"]
        outputs = kept.columns("h", H, B + steps[-1].columns.stop, dtype)
        gates, cells, squashed = (
            step_blocks(kept, name, height, steps, dtype)
            for name, height in (("gates", 4 * H), ("c", H), ("tanh_c", H))
        )
        by_gate = [row_blocks(a, 4) for a in gates]
        product, ig_of = (
            scratch(work, name, height, steps, dtype)
            for name, height in (("product", 4 * H), ("ig", H))
        )
        initial_c = c = state[1].copy()
        outputs[:, :B] = state[0]
        for step, a_x_t, a, (i, f, o, g), c_t, tanh_c in zip(
            steps, a_x, gates, by_gate, cells, squashed, strict=True
        ):
            n = step.size
            h = state[0, :, :n]
            step_product(W_T, h, product[n])  # 1
            np.add(a_x_t, product[n], a)
            np.tanh(a, a)  # 2
            sigmoids = a[: 3 * H]
            sigmoids *= half
            sigmoids += half
            np.multiply(f, c[:, :n], c_t)  # 3
            np.multiply(i, g, ig_of[n])
            c_t += ig_of[n]
            np.tanh(c_t, tanh_c)  # 4
            np.multiply(o, tanh_c, h)  # 5
            c = c_t
            outputs[:, step.after] = h
            if step.lasting < n:
                state[1, :, step.lasting : n] = c[:, step.lasting :]
        previous_c = [initial_c, *cells[:-1]]
        return outputs[:, B:], (gates, by_gate, previous_c, squashed, outputs, steps)

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
        gates, by_gate, previous_c, squashed, outputs, steps = cache
        (_, H, _), W, dtype = dstate.shape, params["W"], dh.dtype
        da_x = work.columns("da_x", 4 * H, dh.shape[1], dtype)
        da_of, change_of = (
            scratch(work, name, height, steps, dtype)
            for name, height in (("da", 4 * H), ("change", 3 * H))
        )
        da_by_gate = {n: row_blocks(da, 4) for n, da in da_of.items()}
        for step, a, (i, f, o, g), c_prev, tanh_c in zip(
            *(reversed(each) for each in (steps, gates, by_gate, previous_c, squashed)),
            strict=True,
        ):
            n = step.size
            dh_t, dc_t = dstate[:, :, :n]
            da, (di, df, do, dg), changes = da_of[n], da_by_gate[n], change_of[n]
            dsigmoids, change = da[: 3 * H], changes[:H]
            dh_t += dh[:, step.columns]
            np.multiply(dh_t, o, change)  # 5, 4: dc += dh * o * (1 - tanh(c)^2)
            np.multiply(change, tanh_c, do)
            dc_t += change
            np.multiply(do, tanh_c, change)
            dc_t -= change
            np.multiply(dc_t, i, dg)  # 3, 2: da_g = dc * i * (1 - g^2)
            np.multiply(dg, g, di)
            np.multiply(di, g, change)
            dg -= change
            dc_t *= f  # 3: dc_prev
            np.multiply(dc_t, c_prev[:, :n], df)
            # 2: sigmoid' = s (1 - s). There already: dc g i, dc c_prev f, and dh tanh(c) o.
            np.multiply(dsigmoids, a[: 3 * H], changes)
            dsigmoids -= changes
            da_x[:, step.columns] = da
            step_product(W, da, dh_t)  # 1: dh_prev
        h_prev = previous_outputs(outputs, steps, work)
        add_product(h_prev, da_x.T, grads["W"], work, begins=begins)
        return da_x

    # The compiled form, for generation

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
