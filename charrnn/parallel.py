"""The gradient of a batch, worked out by several processes: each takes every n-th sequence. Of a
network that is large enough each then updates every n-th block of the parameters.

This process is the first of them; the others are `charrnn.worker`. What they find is added in a
fixed order: the result depends on how many there are, and on nothing else.

Workers are programs of their own, not forks (the caller may have threads) and not `multiprocessing`
(which would run the caller's script again). They are killed when they aren't needed any more.
"""

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from charrnn.config import TrainConfig
from charrnn.errors import TrainingError
from charrnn.memory import peak_memory
from charrnn.model import CharRNN
from charrnn.ops import Workspace, places
from charrnn.optimizers import BLOCK, OPTIMIZERS
from charrnn.packed import Batch
from charrnn.parameters import Array
from charrnn.sharing import Channel, SharedMemory
from charrnn.worker import Desk, Learner, Task

START = "import sys; sys.path[:] = sys.argv[2:]; from charrnn.worker import main; main(sys.argv[1])"
FEWEST_BLOCKS = 4  # of the parameters that a process updates: else it takes longer to ask for it
LEFT_TO_US = (signal.SIGINT, signal.SIGTERM)  # a terminal and a service manager tell them to all


class Team:
    """This process and its workers, who share the batches of one model. For one thread at a time.

    `model` is the network of `Team(model, ...)` with its parameters where the workers see them:
    change those. `grads` and the moments of `optimizer` are seen by them, too. Workers start when
    they are first needed, and again after `close`.
    """

    def __init__(
        self,
        model: CharRNN,
        processes: int,
        work: Workspace,
        training: TrainConfig | None = None,
    ) -> None:
        """`work` is this process's, for other uses too; `training` tells how `update` does it."""
        self.processes, self._work = processes, work
        self._training = training = training or TrainConfig()
        self._workers: list[_Worker] = []
        if processes > 1:
            self._memory = SharedMemory.new()
            learner = Learner.over(self._memory, model.config, training, model.dtype)
            learner.model.params.flat[:] = model.params.flat
        else:
            rule = OPTIMIZERS[training.optimizer](model.params, training)
            learner = Learner(model, model.params.like(), rule)
        self.model, self.grads, self.optimizer = learner
        self._updaters = 1  # how many processes have shared updates at most
        weakref.finalize(self, _end, self._workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        _end(self._workers)

    def loss_and_grads(
        self, batch: Batch, state: Array, seed: Sequence[int] | None = None
    ) -> tuple[float, Array]:
        """Mean cross-entropy of a packed batch; its gradients are in `grads` afterwards. As
        `CharRNN.loss_and_grads`.

        Args:
            batch: packed; with fewer sequences than processes, some processes rest.
            state: (L, S, B, H).
            seed: of the dropout masks; each process adds its number. None for no dropout.

        Returns:
            The loss, and each sequence's last state.

        Raises TrainingError where a worker fails or has ended. Whatever is raised, the workers
        have ended then: they may have been in the middle of it.
        """
        with self._or_close():
            parts = min(self.processes, int(batch.sizes[0]))
            while len(self._workers) < parts - 1:
                self._workers.append(self._new_worker())
            return self._together(batch, parts, state, seed)

    def update(self, rate: float, count: int) -> None:
        """Update the parameters by `grads`: the same bits, whoever takes part.

        Args:
            rate: the learning rate.
            count: updates so far, this one included.

        Raises TrainingError where a worker fails or has ended: some of the parameters are updated
        then, and others not. The workers have ended, whatever is raised.
        """
        with self._or_close():
            most = self.grads.flat.size // (BLOCK * FEWEST_BLOCKS)
            helping = self._workers[: max(0, most - 1)]
            parts = len(helping) + 1
            self._updaters = max(self._updaters, parts)
            for k, worker in enumerate(helping, 1):
                worker.update(rate=rate, count=count, number=k, parts=parts)
            params, gradient = self.model.params.flat, self.grads.flat
            self.optimizer.step(params, gradient, rate, count, parts=parts)
            for worker in helping:
                worker.answer()

    @contextmanager
    def _or_close(self) -> Iterator[None]:
        """Close the team where anything is raised: workers may be in the middle of it."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _new_worker(self) -> "_Worker":
        return _Worker(self.model, self._training, self._memory, len(self._workers) + 1)

    def _together(
        self,
        batch: Batch,
        parts: int,
        state: Array,
        seed: Sequence[int] | None,
    ) -> tuple[float, Array]:
        helping = self._workers[: parts - 1]
        states = [state[:, :, k::parts] for k in range(parts)]
        seeds = [None if seed is None else [*seed, k] for k in range(parts)]
        for k, worker in enumerate(helping, 1):
            worker.begin(part_of(batch, k, parts), states[k], seeds[k])
        share = part_of(batch, 0, parts)  # ours last: they are at work meanwhile
        rng = None if seed is None else np.random.default_rng(seeds[0])
        grads = self.grads
        total, last, _ = self.model.loss_and_grads(share, states[0], grads, self._work, rng=rng)
        if not helping:
            return total, last
        final = np.empty_like(state)
        final[:, :, ::parts] = last
        for k, worker in enumerate(helping, 1):
            loss, last = worker.found()
            total += loss
            final[:, :, k::parts] = last
            grads.flat[:] += worker.desk.grads.flat
        return total, final

    def workers_memory(self) -> int:
        """The most bytes that the workers have held so far, beside what this process holds too: the
        parameters, each one's gradient, and the part of their sum, and of the moments, that it
        updates by.
        """
        vector, held = self.model.params.flat.nbytes, 0
        part = (1 + len(self.optimizer.moments)) * vector // self._updaters
        for k, worker in enumerate(self._workers, 1):
            common = 2 * vector + (part if k < self._updaters else 0)
            held += (worker.peak_memory() or common) - common
        return held


class _Worker:
    """The end of a worker that its team holds."""

    def __init__(
        self, model: CharRNN, training: TrainConfig, common: SharedMemory, number: int
    ) -> None:
        """Start the process. Raises TrainingError where the system refuses."""
        self._name = f"worker process {number}"
        try:
            self.desk = Desk(SharedMemory.new(), model)
            with ExitStack() as undo, ExitStack() as theirs:
                their_reads, our_writes = os.pipe()
                theirs.callback(os.close, their_reads)
                undo.callback(os.close, our_writes)
                our_reads, their_writes = os.pipe()
                theirs.callback(os.close, their_writes)
                undo.callback(os.close, our_reads)
                fds = (common.fd, self.desk.memory.fd, their_reads, their_writes)
                settings = model.config.values(), training.values()
                self._process = _started(Task(*settings, model.dtype.name, fds, os.getpid()))
                undo.pop_all()
        except OSError as error:
            raise TrainingError(
                f"{self._name} could not be started: {error.strerror}; lower processes"
            ) from error
        self._channel = Channel(our_reads, our_writes)

    def begin(self, share: Batch, state: Array, seed: list[int] | None) -> None:
        """Have it work out a share, while this process does something else."""
        rows, characters, steps = state.shape[2], len(share.ids), len(share.sizes)
        sizes = {"rows": rows, "characters": characters, "steps": steps}
        sizes |= {"span": share.span, "whole": share.whole}
        self._last, batch = self.desk.share(**sizes)
        self._last[...] = state
        batch.ids[:], batch.targets[:], batch.sizes[:] = share.ids, share.targets, share.sizes
        self._order({**sizes, "seed": seed})

    def found(self) -> tuple[float, Array]:
        """Its loss and the last states (L, S, B, H) of what was begun; the gradient is on the
        desk.
        """
        return self.answer()["loss"], self._last

    def update(self, **how: float) -> None:
        """Have it update a part of the parameters, and answer."""
        self._order({"update": how})

    def answer(self) -> Any:
        """What it answers to an order."""
        try:
            answer = self._channel.receive()
        except EOFError:
            raise self._lost() from None
        if "error" in answer:
            raise TrainingError(f"{self._name} failed: {answer['error']}. {_NEXT}")
        return answer

    def peak_memory(self) -> int | None:
        """The most bytes that it has held."""
        return peak_memory(self._process.pid)

    def end(self) -> None:
        """Nothing of it is worth waiting for."""
        self._process.kill()
        self._process.wait()
        self._channel.close()

    def _order(self, order: dict[str, Any]) -> None:
        try:
            self._channel.send(order)
        except BrokenPipeError:
            raise self._lost() from None

    def _lost(self) -> TrainingError:
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return TrainingError(
            f"{self._name} ({self._process.pid}) {how}, as when memory runs out. {_NEXT}"
        )


_NEXT = (
    "The last checkpoint stays: the same command goes on from there; fewer processes, or a smaller "
    "batch_size, take less memory"
)


def _started(task: Task) -> "subprocess.Popen[bytes]":
    """A worker of this very package, with nothing of ours but its file descriptors."""
    home = str(Path(__file__).parent.parent)
    # What is relative was so to a folder that may have changed since, and led here if anywhere.
    path = [str(entry) if Path(entry).is_absolute() else home for entry in sys.path]
    command = [sys.executable, "-P", "-c", START, json.dumps(asdict(task)), *path, home]
    # A process is born with the signals held back that its parent's thread holds back.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_US)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=task.fds,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # it never has more than one
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: "list[_Worker]") -> None:
    while workers:
        workers.pop().end()


def part_of(batch: Batch, number: int, parts: int) -> Batch:
    """A share of a packed batch: of its sequences number, number + parts, number + 2 parts ..., so
    that all shares have sequences of all lengths. `number` is below the number of sequences.
    """
    if parts == 1:
        return batch
    first, steps, whole = int(batch.sizes[0]), len(batch.sizes), batch.whole or len(batch.ids)
    if first == batch.sizes[-1]:
        ids = batch.ids.reshape(steps, -1)[:, number::parts].ravel()
        targets = batch.targets.reshape(steps, -1)[:, number::parts].ravel()
        sizes = np.full(steps, -(-(first - number) // parts))
        return Batch(ids, targets, sizes, batch.span, whole)
    own = (batch.sizes - number + parts - 1) // parts
    rows = places(batch.sizes) % parts == number
    return Batch(batch.ids[rows], batch.targets[rows], own[own > 0], batch.span, whole)
