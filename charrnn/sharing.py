"""What several processes have in common: memory without a name, and messages.

The memory is a file that nobody else can open and that is gone with the last process that holds it,
however that ends. Whoever reads a message sees what its sender wrote to the memory before.
"""

import json
import os
import select
import tempfile
import time
import weakref
from mmap import mmap
from typing import Any

import numpy as np

from charrnn.lines import up_to_line
from charrnn.ops import Array

SPIN_SECONDS = 3e-4  # asking again and again for so long before sleeping: waking up takes longer


class SharedMemory:
    """A file without a name, in memory where the system has such files, and arrays over it."""

    def __init__(self, fd: int) -> None:
        """Takes over the file descriptor `fd`, which closes with the object."""
        self.fd = fd
        self._mapped: mmap | None = None
        weakref.finalize(self, os.close, fd)

    @classmethod
    def new(cls) -> "SharedMemory":
        """An empty one."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("charrnn"))
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    def arrays(self, begin: int, *described: tuple[tuple[int, ...], Any]) -> list[Array]:
        """Arrays of these shapes and dtypes, one behind the other from byte `begin` on. The file
        grows where it is too small; arrays from before stay what they are.
        """
        places = []
        for shape, dtype in described:
            places.append(begin)
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            begin = up_to_line(begin + size)
        if self._mapped is None or len(self._mapped) < begin:
            if os.fstat(self.fd).st_size < begin:
                os.ftruncate(self.fd, 2 * begin)  # takes no room before it is written to
            self._mapped = mmap(self.fd, 0)
        return [
            np.ndarray(shape, dtype, self._mapped, place)
            for place, (shape, dtype) in zip(places, described, strict=True)
        ]


class Channel:
    """Messages to and from one other process, in turn: anything that JSON can say."""

    def __init__(self, reads: int, writes: int) -> None:
        """Takes over two file descriptors, ends of pipes."""
        self.reads, self._writes = reads, writes
        os.set_blocking(reads, False)
        self._arrival = select.poll()
        self._arrival.register(reads, select.POLLIN)

    def send(self, message: Any) -> None:
        """Raises BrokenPipeError where the other process has ended."""
        os.write(self._writes, json.dumps(message).encode() + b"\n")

    def receive(self) -> Any:
        """Wait for the next message. Raises EOFError where the other process has ended."""
        line, give_up = b"", time.perf_counter() + SPIN_SECONDS
        while not line.endswith(b"\n"):
            try:
                data = os.read(self.reads, 65_536)
            except BlockingIOError:
                if time.perf_counter() > give_up:
                    self._arrival.poll()
                continue
            if not data:
                raise EOFError
            line += data
        return json.loads(line)

    def close(self) -> None:
        """Let go of the pipes, once."""
        os.close(self.reads)
        os.close(self._writes)
