"""The gated recurrent unit, with the reset gate applied after the recurrent product.

    r = sigmoid(a_r + W_r h_prev)   z = sigmoid(a_z + W_z h_prev)
    n = tanh(a_n + r * (W_n h_prev + b_h))
    h = (1 - z) * n + z * h_prev

Source: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder", eq. 5-8; the
reset gate outside the product, with a bias b_h of its own inside the gate, as in cuDNN
(cudnnRNNMode_t, CUDNN_GRU) and PyTorch's nn.GRU. Cho et al. reset h_prev before the product.
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


class GRU(Cell):
    """Reset gate r, update gate z, candidate n."""

    name = "gru"
    gates = ("r", "z", "n")
    sigmoids = 2
    parts = ("h",)
    kept = 5  # the gates, q, h

    def shapes(self, hidden_size: int) -> dict[str, tuple[int, ...]]:
        return {**super().shapes(hidden_size), "b_h": (hidden_size,)}

    def forward(self, params: Mapping[str, Array], a_x: Array, state: Array) -> tuple[Array, Cache]:
        h_prev = state[0]
        p_r, p_z, p_n = blocks(h_prev @ params["W"], 3)  # 1
        a_r, a_z, a_n = blocks(a_x, 3)
        r, z = sigmoid(a_r + p_r), sigmoid(a_z + p_z)  # 2  each (B, H)
        q = p_n + params["b_h"]  # 3
        n = np.tanh(a_n + r * q)  # 4
        h = (1 - z) * n + z * h_prev  # 5
        return h[None], (h_prev, r, z, n, q)

    def backward(
        self, params: Mapping[str, Array], dstate: Array, cache: Cache
    ) -> tuple[Array, Array, dict[str, Array]]:
        h_prev, r, z, n, q = cache
        dh = dstate[0]
        dn, dz, dh_prev = dh * (1 - z), dh * (h_prev - n), dh * z  # 5
        da_n = dn * (1 - n * n)  # 4
        dr, dq = da_n * q, da_n * r  # 4, 3
        da_r, da_z = dr * r * (1 - r), dz * z * (1 - z)  # 2
        dproduct = np.concatenate([da_r, da_z, dq], axis=1)
        dh_prev = dh_prev + dproduct @ params["W"].T  # 1
        grads = {"W": h_prev.T @ dproduct, "b_h": dq.sum(axis=0)}
        return np.concatenate([da_r, da_z, da_n], axis=1), dh_prev[None], grads

    def gate_values(self, cache: Cache) -> tuple[Array, ...]:
        _, r, z, n, _ = cache
        return r, z, n

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
        b_h = work.take("b_h", (H, B), dtype)  # added sooner than a column
        b_h[...] = params["b_h"][:, None]
        outputs = kept.columns("h", H, B + steps[-1].columns.stop, dtype)
        gates, reset_products = (
            step_blocks(kept, name, height, steps, dtype)
            for name, height in (("gates", 3 * H), ("q", H))
        )
        by_gate = [row_blocks(a, 3) for a in gates]
        product, step_of = (
            scratch(work, name, height, steps, dtype)
            for name, height in (("product", 3 * H), ("step", H))
        )
        outputs[:, :B] = state[0]
        for step, a_x_t, a, (r, z, candidate), q in zip(
            steps, a_x, gates, by_gate, reset_products, strict=True
        ):
            n = step.size
            p, h, change = product[n], state[0, :, :n], step_of[n]
            sigmoids = a[: 2 * H]
            step_product(W_T, h, p)  # 1
            np.add(a_x_t[: 2 * H], p[: 2 * H], sigmoids)  # 2
            np.tanh(sigmoids, sigmoids)
            sigmoids *= half
            sigmoids += half
            np.add(p[2 * H :], b_h[:, :n], q)  # 3
            rq = p[:H]
            np.multiply(r, q, rq)  # 4
            np.add(a_x_t[2 * H :], rq, candidate)
            np.tanh(candidate, candidate)
            np.subtract(h, candidate, change)  # 5: h = n + z * (h_prev - n)
            change *= z
            np.add(candidate, change, h)
            outputs[:, step.after] = h
        return outputs[:, B:], (by_gate, reset_products, outputs, steps)

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
        by_gate, reset_products, outputs, steps = cache
        (_, H, _), W, dtype, one = dstate.shape, params["W"], dh.dtype, dh.dtype.type(1)
        da_x, dq_x = (
            work.columns(name, height, dh.shape[1], dtype)
            for name, height in (("da_x", 3 * H), ("dq", H))
        )
        dproduct_of, keep_of, dn_of = (
            scratch(work, name, height, steps, dtype)
            for name, height in (("dproduct", 3 * H), ("keep", H), ("dn", H))
        )
        dproduct_by_gate = {n: row_blocks(dp, 3) for n, dp in dproduct_of.items()}
        for step, (r, z, candidate), q in zip(
            *(reversed(each) for each in (steps, by_gate, reset_products)), strict=True
        ):
            n = step.size
            dh_t, dp, (dp_r, dp_z, dq) = dstate[0, :, :n], dproduct_of[n], dproduct_by_gate[n]
            dh_t += dh[:, step.columns]
            np.multiply(dh_t, z, keep_of[n])  # 5: the direct way to h_prev
            dn = np.subtract(dh_t, keep_of[n], dn_of[n])  # 5: dn = dh (1 - z)
            np.subtract(outputs[:, step.before], candidate, dp_z)  # 5, 2: dh (h_prev - n) z (1 - z)
            dp_z *= z
            dp_z *= dn
            np.multiply(candidate, candidate, dq)  # 4: da_n = dn (1 - n^2)
            np.subtract(one, dq, dq)
            dn *= dq
            np.multiply(dn, r, dq)  # 4, 3
            np.multiply(dq, r, dp_r)  # 4, 2: da_n q r (1 - r)
            np.subtract(dq, dp_r, dp_r)
            dp_r *= q
            da_x[: 2 * H, step.columns] = dp[: 2 * H]
            da_x[2 * H :, step.columns], dq_x[:, step.columns] = dn, dq
            step_product(W, dp, dh_t)  # 1
            dh_t += keep_of[n]
        h_prev = previous_outputs(outputs, steps, work)
        dW = grads["W"]
        add_product(h_prev, da_x[: 2 * H].T, dW[:, : 2 * H], work, begins=begins)
        add_product(h_prev, dq_x.T, dW[:, 2 * H :], work, begins=begins)
        grads["b_h"] += dq_x.sum(axis=1)
        return da_x

    # The compiled form, for generation

    buffer_parts = 6  # r, z, n, h_prev - n, q, h
    stored_parts = (5,)

    def fold(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """sigmoid(x) = (1 + tanh(x / 2)) / 2: the halves inside the tanh, and the outer half of r,
        move into the weights; that of z is left to the step. With t = tanh of r's half and
        q = (W_n h_prev + b_h) / 2, the candidate's a_n + r * 2 q is (a_n + q) + t * q.
        """
        order, half, H = (0, 1, 2), params["W"].dtype.type(0.5), len(params["W"])
        folded = {
            "U": scaled_columns(params["U"], (0.5, 0.5, 1.0), order),
            "W": params["W"] * half,
            "b": scaled_columns(params["b"], (0.5, 0.5, 1.0), order),
            "b_h": params["b_h"] * half,
        }
        folded["b"][2 * H :] += folded["b_h"]
        return folded

    def bind(
        self, folded: Mapping[str, Array], parts: Array, product: Array
    ) -> Callable[[Array], None]:
        add, multiply, subtract, tanh = np.add, np.multiply, np.subtract, np.tanh
        one, b_h, product_n = np.ones((), parts.dtype), folded["b_h"], product[2]
        rzn, rz, (r, z, n, change, q, h) = parts[:3], parts[:2], parts
        sum_into_h = weighted_sum((1.0, 0.5), parts[2:4], h)

        def step(a_x: Array) -> None:
            add(product, a_x, rzn)
            tanh(rz, rz)
            add(product_n, b_h, q)
            multiply(r, q, q)
            add(n, q, n)
            tanh(n, n)
            subtract(h, n, change)
            add(z, one, z)  # 1 + tanh(x / 2): twice the sigmoid
            multiply(z, change, change)
            sum_into_h()  # n + z (h_prev - n)

        return step
