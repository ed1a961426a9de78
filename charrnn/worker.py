"""The process that works out one share of each batch, for `charrnn.parallel`, which starts it.

It answers each order with a message, and ends with the process that gives the orders.
"""

import json
import os
import select
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.config import ModelConfig
from charrnn.lines import up_to_line
from charrnn.model import CharRNN, parameter_shapes
from charrnn.ops import Array, Workspace
from charrnn.packed import Batch
from charrnn.parameters import Parameters
from charrnn.sharing import Channel, SharedMemory
from charrnn.threads import blas_threads

LOOK_SECONDS = 1.0  # how often to see whether the parent is there, should a pipe not tell


@dataclass(frozen=True)
class Task:
    """What a worker is told when it begins."""

    config: dict[str, Any]
    """Of the network."""
    dtype: str
    """Of the parameters."""
    fds: tuple[int, int, int, int]
    """Memory of the parameters, memory of its own; the ends of pipes it reads from, writes to."""
    parent: int
    """The process that gives the orders."""


class Desk:
    """Where a worker and its team put the arrays of a share: both sides see the same ones."""

    def __init__(self, memory: SharedMemory, model: CharRNN) -> None:
        self.memory, self._model = memory, model
        params = model.params
        (gradient,) = memory.arrays(0, (params.flat.shape, params.flat.dtype))
        self.grads = params.like(gradient)
        self._last: tuple[tuple[int, ...], Array, Batch] | None = None

    def share(
        self, *, rows: int, characters: int, steps: int, span: int, whole: int
    ) -> tuple[Array, Batch]:
        """Room for the state (L, S, B, H), which becomes the last one, and for the batch: the same
        arrays as long as they are asked for with the same sizes.
        """
        key = rows, characters, steps, span, whole
        if self._last and self._last[0] == key:  # most are like the one before
            return self._last[1:]
        shape = (*self._model.init_state(0).shape[:2], rows, self._model.config.hidden_size)
        state, ids, targets, sizes = self.memory.arrays(
            up_to_line(self.grads.flat.nbytes),
            (shape, self._model.dtype),
            ((characters,), np.int64),
            ((characters,), np.int64),
            ((steps,), np.int64),
        )
        self._last = key, state, Batch(ids, targets, sizes, span, whole)
        return self._last[1:]


class Worker:
    """One of a team."""

    def __init__(self, task: Task) -> None:
        params, own, reads, writes = task.fds
        config = ModelConfig.checked(task.config)
        shapes = parameter_shapes(config)
        count = sum(int(np.prod(shape)) for shape in shapes.values())
        (flat,) = SharedMemory(params).arrays(0, ((count,), task.dtype))
        self.model = CharRNN(config, Parameters(shapes, flat))
        self.desk = Desk(SharedMemory(own), self.model)
        self.channel = Channel(reads, writes)
        self.work = Workspace()

    def serve(self) -> None:
        """Do what comes, until nobody is there to ask."""
        try:
            while True:
                order = self.channel.receive()
                answer: dict[str, Any] = {}
                try:
                    answer["loss"] = self.gradient(**order)
                except Exception as error:  # the team raises it, where a user sees it
                    answer["error"] = f"{type(error).__name__}: {error}"[:300]
                self.channel.send(answer)
        except (EOFError, BrokenPipeError):
            return

    @np.errstate(over="ignore", invalid="ignore")  # the run looks at what comes of them
    def gradient(
        self,
        rows: int,
        characters: int,
        steps: int,
        span: int,
        whole: int,
        seed: list[int] | None,
    ) -> float:
        """What the share on the desk adds to the whole batch's loss; what it adds to the gradient
        is there afterwards, and so is the last state.
        """
        state, batch = self.desk.share(
            rows=rows, characters=characters, steps=steps, span=span, whole=whole
        )
        grads, rng = self.desk.grads, None if seed is None else np.random.default_rng(seed)
        loss, last, _ = self.model.loss_and_grads(batch, state, grads, self.work, rng=rng)
        state[...] = last
        return loss


def end_with(parent: int, fd: int) -> None:
    """End this process when the parent does, in the middle of a step too.

    The pipe `fd` tells it at once, unless another child of the parent holds its other end.
    """
    lost = select.poll()
    lost.register(fd, 0)  # nothing but the end of it
    while not lost.poll(1000 * LOOK_SECONDS) and os.getppid() == parent:
        pass
    os._exit(1)


def main(told: str) -> None:
    """A worker's life. `told` is a task, as JSON."""
    task = Task(**json.loads(told))
    worker = Worker(task)
    watch = threading.Thread(target=end_with, args=(task.parent, task.fds[2]), daemon=True)
    watch.start()
    with blas_threads(1):
        worker.serve()
