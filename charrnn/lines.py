"""Arrays that begin with a line of the cache.

numpy's own begin 16 bytes into one wherever they are large. A processor that reads as much as a
line at a time then reads two for one: sums take up to twice as long, products of generation up to
half as long again (`benchmarks/choices.py`). The numbers that come out are the same.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE = 64  # bytes


def up_to_line(count: int) -> int:
    """So many bytes, up to the end of a line."""
    return -(-count // LINE) * LINE


def empty(shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """`numpy.empty`, at the beginning of a line."""
    return _on_line(np.empty, shape, np.dtype(dtype))


def zeros(shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """`numpy.zeros`, at the beginning of a line."""
    return _on_line(np.zeros, shape, np.dtype(dtype))


def zeros_like(x: NDArray[Any]) -> NDArray[Any]:
    """`numpy.zeros_like`, C-contiguous, at the beginning of a line."""
    return zeros(x.shape, x.dtype)


def copy(x: NDArray[Any]) -> NDArray[Any]:
    """A copy of x, C-contiguous, at the beginning of a line."""
    copied = empty(x.shape, x.dtype)
    copied[...] = x
    return copied


def _on_line(made: Any, shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * dtype.itemsize
    memory = made(size + LINE, np.uint8)
    begin = -memory.ctypes.data % LINE
    return memory[begin : begin + size].view(dtype).reshape(shape)
