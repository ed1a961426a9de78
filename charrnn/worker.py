"""The process that works out one share of each batch, and of each update, for `charrnn.parallel`,
which starts it.

It answers each order with a message, and ends with the process that gives the orders.
"""

import json
import math
import os
import select
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from charrnn.config import ModelConfig, TrainConfig
from charrnn.lines import up_to_line
from charrnn.model import CharRNN, parameter_shapes
from charrnn.ops import Array, Workspace
from charrnn.optimizers import OPTIMIZERS, Optimizer
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
    training: dict[str, Any]
    """How it is updated."""
    dtype: str
    """Of the parameters."""
    fds: tuple[int, int, int, int]
    """Memory of the network, memory of its own; the ends of pipes it reads from, writes to."""
    parent: int
    """The process that gives the orders."""


class Learner(NamedTuple):
    """What all processes of a team have in common: the network, its gradient, and the rule that
    updates it, with what that remembers.
    """

    model: CharRNN
    grads: Parameters
    optimizer: Optimizer

    @classmethod
    def over(
        cls, memory: SharedMemory, config: ModelConfig, training: TrainConfig, dtype: Any
    ) -> "Learner":
        """The one whose vectors stand in this memory; zeros where it is new."""
        shapes, rule = parameter_shapes(config), OPTIMIZERS[training.optimizer]
        vector = (sum(math.prod(shape) for shape in shapes.values()),), dtype
        flat, gradient, *moments = memory.arrays(0, *[vector] * (2 + len(rule.memories)))
        model = CharRNN(config, Parameters(shapes, flat))
        return cls(model, model.params.like(gradient), rule(model.params, training, moments))


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
        common, own, reads, writes = task.fds
        config, training = ModelConfig.checked(task.config), TrainConfig.checked(task.training)
        self.learner = Learner.over(SharedMemory(common), config, training, task.dtype)
        self.desk = Desk(SharedMemory(own), self.learner.model)
        self.channel = Channel(reads, writes)
        self.work = Workspace()

    def serve(self) -> None:
        """Do what comes, until nobody is there to ask."""
        try:
            while True:
                order = self.channel.receive()
                answer: dict[str, Any] = {}
                try:
                    if "update" in order:
                        self.update(**order["update"])
                    else:
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
        model = self.learner.model
        loss, last, _ = model.loss_and_grads(batch, state, grads, self.work, rng=rng)
        state[...] = last
        return loss

    @np.errstate(over="ignore", invalid="ignore")
    def update(self, rate: float, count: int, number: int, parts: int) -> None:
        """Update a part of the parameters, as `Optimizer.step`."""
        model, grads, optimizer = self.learner
        flat, gradient = model.params.flat, grads.flat
        optimizer.step(flat, gradient, rate, count, number=number, parts=parts)


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
