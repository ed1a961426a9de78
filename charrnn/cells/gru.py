"""The gated recurrent unit, with the reset gate applied after the recurrent product.

    r = sigmoid(a_r + W_r h_prev)   z = sigmoid(a_z + W_z h_prev)
    n = tanh(a_n + r * (W_n h_prev + b_h))
    h = (1 - z) * n + z * h_prev

Source: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder", eq. 5-8; the
reset gate outside the product, with a bias b_h of its own inside the gate, as in cuDNN
(cudnnRNNMode_t, CUDNN_GRU) and PyTorch's nn.GRU. Cho et al. reset h_prev before the product.
"""

from collections.abc import Callable, Mapping

import numpy as np

from charrnn.cells.base import Cache, Cell, previous_rows, scaled_columns, weighted_sum
from charrnn.ops import Array, Workspace, blocks, matmul_rows, sigmoid, sigmoid_inplace


class GRU(Cell):
    """Reset gate r, update gate z, candidate n."""

    name = "gru"
    gates = ("r", "z", "n")
    parts = ("h",)

    def shapes(self, hidden_size: int) -> dict[str, tuple[int, ...]]:
        return {**super().shapes(hidden_size), "b_h": (hidden_size,)}

    def forward(self, params: Mapping[str, Array], a_x: Array, state: Array) -> tuple[Array, Cache]:
        h_prev = state[0]
        p_r, p_z, p_n = blocks(matmul_rows(h_prev, params["W"]), 3)  # 1
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

    def forward_sequence(
        self, params: Mapping[str, Array], a_x: Array, sizes: Array, state: Array, work: Workspace
    ) -> tuple[Array, Array, Cache]:
        W, b_h, H, N, dtype = params["W"], params["b_h"], state.shape[2], len(a_x), a_x.dtype
        q, h = (work.take(name, (N, H), dtype) for name in ("q", "h"))
        product = work.take("product", (len(state[0]), 3 * H), dtype)
        final, start = state.copy(), 0
        for size in sizes.tolist():
            step = slice(start, start + size)
            a, p, h_prev, h_t = a_x[step], product[:size], final[0, :size], h[step]
            r, z, n = blocks(a, 3)
            np.matmul(h_prev, W, p)
            np.add(p[:, 2 * H :], b_h, q[step])
            a[:, : 2 * H] += p[:, : 2 * H]
            sigmoid_inplace(a[:, : 2 * H])
            np.multiply(r, q[step], h_t)
            n += h_t
            np.tanh(n, n)
            np.subtract(h_prev, n, h_t)  # h = n + z * (h_prev - n)
            h_t *= z
            h_t += n
            final[0, :size] = h_t
            start += size
        return h, final, (a_x, q, h, sizes, state[0])

    def backward_sequence(
        self,
        params: Mapping[str, Array],
        dh: Array,
        dstate: Array,
        cache: Cache,
        grads: Mapping[str, Array],
        work: Workspace,
    ) -> tuple[Array, Array]:
        (gates, q, h, sizes, initial), W_T = cache, params["W"].T
        (N, H), dtype = h.shape, h.dtype
        h_prev = work.take("previous", (N, H), dtype)
        previous_rows(h, sizes, initial, h_prev)
        dproduct = work.take("dproduct", (N, 3 * H), dtype)  # by the recurrent product
        slope, keep = (
            work.take(name, (len(initial), width), dtype)
            for name, width in (("slope", 2 * H), ("keep", H))
        )
        dstate, end = dstate.copy(), N
        for size in sizes[::-1].tolist():
            step = slice(end - size, end)
            da, dp, d, dh_keep = gates[step], dproduct[step], slope[:size], keep[:size]
            r, z, n = blocks(da, 3)
            dp_r, dp_z, dp_n = blocks(dp, 3)
            dh_t = dstate[0, :size]
            dh_t += dh[step]
            np.multiply(dh_t, z, dh_keep)  # 5: the direct way to h_prev
            np.multiply(da[:, : 2 * H], da[:, : 2 * H], d)  # 2: sigmoid' = s - s^2
            np.subtract(da[:, : 2 * H], d, d)
            np.subtract(h_prev[step], n, dp_z)  # 5: dz
            dp_z *= dh_t
            dp_z *= d[:, H:]
            np.multiply(n, n, n)  # 5, 4: da_n = dh (1 - z) (1 - n^2), in n's place
            np.subtract(1, n, n)
            np.subtract(1, z, z)
            n *= z
            n *= dh_t
            np.multiply(n, r, dp_n)  # 4, 3: dq
            np.multiply(n, q[step], dp_r)  # 4: dr
            dp_r *= d[:, :H]  # 2
            da[:, : 2 * H] = dp[:, : 2 * H]
            np.matmul(dp, W_T, dh_t)  # 1
            dh_t += dh_keep
            end -= size
        np.matmul(h_prev.T, dproduct, grads["W"])
        np.sum(dproduct[:, 2 * H :], axis=0, out=grads["b_h"])
        return gates, dstate

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
