"""Training by several processes that MPI has started, on one machine or many: the ranks. Each works
out its share of every batch, and all add up the same gradient in the same order.

`mpi4py` is imported only where `mpiexec` has started this process. MPI moves bytes and adds
nothing: a gradient is cut in as many chunks as there are ranks, each rank is sent its chunk of all
gradients (Alltoall), adds them in the order of the ranks, and sends the sum to all (Allgather). So
the result depends on the number of ranks alone, and each of R ranks sends 2 (R - 1) / R gradients,
as in a ring (Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce algorithms").

Who waits for the others looks again and again instead of blocking, so that signals are heard and
no wait is for ever. What a rank does with its share belongs to `training`.
"""

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from charrnn.config import RANK_PATIENCE
from charrnn.errors import (
    CharRNNError,
    ConfigError,
    FieldProblem,
    TrainingError,
    TrainingInterrupted,
)
from charrnn.ops import Array

# What mpiexec tells a process: how many there are, and which one it is (Open MPI; MPICH, Intel MPI
# and srun with PMI).
TOLD = (("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("PMI_SIZE", "PMI_RANK"))
SPIN_SECONDS = 1e-3  # asking again and again for so long before sleeping
SLEEP_SECONDS = 5e-5
# From SIGTERM to SIGKILL mpiexec leaves a quarter of a second, when another rank has died.
STOP_SECONDS = 0.1
FAILED = 1


class LeftOut(CharRNNError):  # noqa: N818  it is for rank 0 to say why
    """Rank 0 has nothing to train, or another rank can't; this one isn't needed any more."""


def told_by_mpiexec() -> tuple[int, int] | None:
    """How many processes mpiexec has started, and the number of this one; None where it has started
    none but this one, if any.
    """
    for size, number in TOLD:
        count = os.environ.get(size, "")
        if count.isdigit() and int(count) > 1:
            return int(count), int(os.environ.get(number, "0"))
    return None


def ranks_here() -> "Ranks | None":
    """The ranks that this process is one of; None where mpiexec hasn't started it.

    Raises ConfigError where mpi4py is missing, or is of another MPI than mpiexec.
    """
    told = told_by_mpiexec()
    if told is None:
        return None
    count, _ = told
    rule = "must be installed where mpiexec starts several processes: pip install 'charrnn[mpi]'"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ConfigError([FieldProblem("mpi4py", rule, f"{error}")]) from None
    ranks = Ranks(MPI.COMM_WORLD)
    if ranks.count != count:
        rule = f"must be of the same MPI as mpiexec, which has started {count} processes"
        got = f"{ranks.count} of {MPI.get_vendor()[0]}"
        raise ConfigError([FieldProblem("mpi4py", rule, got)])
    return ranks


class Ranks:
    """This process among the others. All of them call the same methods in the same order."""

    def __init__(self, comm: Any) -> None:
        """comm: an mpi4py communicator."""
        self._comm = comm
        self.number, self.count = int(comm.Get_rank()), int(comm.Get_size())
        self.name = f"rank {self.number} ({socket.gethostname()})"
        self.waited = 0.0  # seconds in which this rank did nothing but exchange
        self._sent = self._received = np.empty(0, np.uint8)
        self._met = self._warned = False
        self.told_to_end: Callable[[], bool] = lambda: False  # what a run is asked to stop by

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the one that reads and writes files and talks."""
        return self.number == 0

    # Beginning and end

    def meet(self, facts: Mapping[str, str]) -> None:
        """Begin a training together. `facts` are what must be the same for all.

        Raises TrainingError, on every rank, where a rank has other facts; LeftOut where another
        rank can't train, or doesn't need to.
        """
        self._met = True
        found = self._told({"name": self.name, "facts": dict(facts)})
        for other in found:
            if "problem" in other:
                raise LeftOut(str(other["problem"]))
        first = found[0]["facts"]
        for other in found[1:]:
            differing = [name for name in first if other["facts"].get(name) != first[name]]
            if differing:
                what = ", ".join(
                    f"{name} {_short(other['facts'].get(name))} instead of {_short(first[name])}"
                    for name in differing
                )
                raise TrainingError(
                    f"all ranks must have the same recipe, data and libraries: {other['name']} has "
                    f"{what}; give every machine the same files and the same installation"
                )

    @contextmanager
    def joining(self) -> Iterator[None]:
        """On the way to `meet`: who fails before tells the others, who wait there."""
        try:
            yield
        except BaseException as error:
            if not self._met:
                self._met = True
                what = str(error) or type(error).__name__
                self._told({"name": self.name, "problem": f"{self.name}: {what}"})
            raise

    @contextmanager
    def bound(self) -> Iterator[None]:
        """While this lasts, a rank that fails alone ends all of them: they would wait for it. What
        all ranks find alike passes: that the loss explodes, that the run was asked to stop.
        """
        try:
            yield
        except (TrainingError, TrainingInterrupted):
            raise
        except BaseException as error:
            self.abort(error)

    def abort(self, error: BaseException) -> None:
        """End all ranks at once."""
        what = str(error) if isinstance(error, CharRNNError) else f"{type(error).__name__}: {error}"
        sys.stderr.write(
            f"error: {self.name} of {self.count} failed: {what}. All ranks end; the last "
            "checkpoint stays: the same command goes on from there\n"
        )
        sys.stderr.flush()
        self._comm.Abort(FAILED)

    # Exchange

    def add(self, flat: Array, words: Array) -> Array:
        """Add up `flat` (n,) of all ranks, in place, in the order of the ranks; and tell each other
        `words` (K,) float64. Returns the words of all, (R, K).
        """
        count, chunk = self.count, -(-len(flat) // self.count)
        size = chunk * flat.itemsize
        if len(self._sent) != count * (size + words.nbytes):
            self._sent, self._received = np.zeros((2, count * (size + words.nbytes)), np.uint8)
        sent, received = (a.reshape(count, -1) for a in (self._sent, self._received))
        own = flat.view(np.uint8)
        for k in range(count):
            piece = own[k * size : (k + 1) * size]
            sent[k, : len(piece)] = piece
            sent[k, size:] = words.view(np.uint8)
        self._wait(self._comm.Ialltoall(self._sent, self._received))
        told = received[:, size:].copy().view(np.float64)
        pieces = [np.frombuffer(row[:size].data, flat.dtype) for row in received]
        total = pieces[0].copy()
        for piece in pieces[1:]:
            total += piece
        whole = np.empty(count * chunk, flat.dtype)
        self._wait(self._comm.Iallgather(total, whole))
        flat[:] = whole[: len(flat)]
        return told

    def check_step(self, step: int, flat: Array) -> None:
        """Raises TrainingError, on every rank, where they haven't the same numbers."""
        found = self.exchange(hashlib.sha256(flat.tobytes()).digest())
        if len(set(found)) > 1:
            apart = [k for k, each in enumerate(found) if each != found[0]]
            raise TrainingError(
                f"the weights of rank {apart[0]} are not those of rank 0 at step {step:,}: its "
                "memory or its processor is at fault; the same command goes on from the last "
                "checkpoint, without that machine"
            )

    def exchange(self, data: bytes, patience: float = RANK_PATIENCE) -> list[bytes]:
        """What each rank has, of any length."""
        sizes = np.empty(self.count, np.int64)
        self._wait(self._comm.Iallgather(np.array([len(data)], np.int64), sizes), patience)
        received = np.empty(int(sizes.sum()), np.uint8)
        request = self._comm.Iallgatherv(np.frombuffer(data, np.uint8), [received, sizes.tolist()])
        self._wait(request, patience)
        ends = np.cumsum(sizes).tolist()
        return [received[e - s : e].tobytes() for s, e in zip(sizes.tolist(), ends, strict=True)]

    def from_first(self, value: Any) -> Any:
        """What rank 0 has: anything that JSON can say."""
        return json.loads(self.exchange(json.dumps(value if self.is_first else None).encode())[0])

    def array_from_first(self, array: Array) -> Array:
        """The array of rank 0, of any shape."""
        facts = self.from_first([array.dtype.str, array.shape])
        own = np.ascontiguousarray(array) if self.is_first else np.empty(facts[1], facts[0])
        self._wait(self._comm.Ibcast(own.reshape(-1).view(np.uint8)))
        return own

    def _warn(self) -> None:
        """While there is time: mpiexec may be about to kill all ranks, since one has died."""
        self._warned = True
        if self.is_first:
            sys.stderr.write(
                "told to end, and another rank doesn't answer: it may have failed. Should this one "
                "be killed before it does, the last checkpoint stays: the same command goes on "
                "from there\n"
            )
            sys.stderr.flush()

    def _told(self, news: dict[str, Any]) -> list[dict[str, Any]]:
        # A large text is read first: how long that takes nobody knows.
        return [json.loads(data) for data in self.exchange(json.dumps(news).encode(), np.inf)]

    def _wait(self, request: Any, patience: float = RANK_PATIENCE) -> None:
        """Wait for what was begun; not for ever."""
        begun = time.perf_counter()
        while not request.Test():
            waited = time.perf_counter() - begun
            if waited > patience:
                self.abort(TrainingError(f"another rank was silent for {patience:.0f} seconds"))
            if waited > STOP_SECONDS and not self._warned and self.told_to_end():
                self._warn()
            if waited < SPIN_SECONDS:
                os.sched_yield()
            else:
                time.sleep(SLEEP_SECONDS)
        self.waited += time.perf_counter() - begun


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
