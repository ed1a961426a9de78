"""The gradient of a batch, worked out by several threads: each takes every n-th sequence.

numpy leaves the interpreter to others inside its loops and products, so two threads keep two cores
busy, the elementwise part included, which the threads of a matrix product would leave to one. What
they found is added in a fixed order: the result depends on how many there are, and on nothing else.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from charrnn.model import Batch, CharRNN
from charrnn.ops import Workspace
from charrnn.parameters import Array, Parameters


class Team:
    """Threads that share the batches of one model. Belongs to one thread, the first of them."""

    def __init__(self, model: CharRNN, threads: int, work: Workspace) -> None:
        """`work` is the first thread's, for other uses too."""
        self.model, self.threads = model, threads
        self._works = [work, *(Workspace() for _ in range(threads - 1))]
        self._others = [model.params.like() for _ in range(threads - 1)]
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def loss_and_grads(
        self,
        batch: Batch,
        state: Array,
        grads: Parameters,
        rngs: Sequence[np.random.Generator | None],
    ) -> tuple[float, Array]:
        """Mean cross-entropy of a packed batch and its gradients, as `CharRNN.loss_and_grads`.

        Args:
            batch: packed; with fewer sequences than threads, some threads rest.
            state: (L, S, B, H).
            grads: overwritten with the gradients.
            rngs: draws each thread's dropout masks; None for no dropout.

        Returns:
            The loss, and each sequence's last state.
        """
        if self._pool is None:
            loss, final, _ = self.model.loss_and_grads(
                batch, state, grads, self._works[0], rng=rngs[0]
            )
            return loss, final
        shares = split(batch, self.threads)
        states = [state[:, :, k :: self.threads] for k in range(len(shares))]
        all_grads = [grads, *self._others][: len(shares)]
        jobs = list(zip(shares, states, all_grads, self._works, rngs, strict=False))
        futures = [self._pool.submit(self._share, *job) for job in jobs[1:]]
        try:
            found = [self._share(*jobs[0])]
        finally:
            wait(futures)
        found += [future.result() for future in futures]
        total, final = 0.0, np.empty_like(state)
        for k, (share, (loss, last), part) in enumerate(zip(shares, found, all_grads, strict=True)):
            weight = len(share.ids) / len(batch.ids)
            total += weight * loss
            final[:, :, k :: self.threads] = last
            part.flat *= part.flat.dtype.type(weight)
            if k:
                grads.flat[:] += part.flat
        return total, final

    @np.errstate(over="ignore", invalid="ignore")  # a caller's setting isn't a thread's
    def _share(
        self,
        batch: Batch,
        state: Array,
        grads: Parameters,
        work: Workspace,
        rng: np.random.Generator | None,
    ) -> tuple[float, Array]:
        loss, final, _ = self.model.loss_and_grads(batch, state, grads, work, rng=rng)
        return loss, final


def split(batch: Batch, parts: int) -> list[Batch]:
    """A packed batch in `parts`: part k has the sequences k, k + parts, k + 2 parts ..., so that
    all have sequences of all lengths. Fewer parts where there are fewer sequences.
    """
    sizes = batch.sizes
    place = np.arange(len(batch.ids)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    shares = []
    for k in range(min(parts, int(sizes[0]))):
        rows = place % parts == k
        own = (sizes - k + parts - 1) // parts
        shares.append(Batch(batch.ids[rows], batch.targets[rows], own[own > 0]))
    return shares
