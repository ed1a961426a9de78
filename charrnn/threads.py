"""How many threads a matrix product uses: who promises bits sets it, for it decides the last."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np  # noqa: F401  loads the BLAS library that is looked for below
from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_users: list[int] = []  # thread counts asked for by the blocks that are open, oldest first
_before: list[Any] = []


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Run a block with `count` threads for each matrix product, then as it was before.

    The number belongs to the process: blocks of several Python threads share it, and the first
    one's count holds until the last one ends.
    """
    with _lock:
        if not _users:
            _before[:] = [lib.num_threads for lib in _controller().lib_controllers]
            _set([count] * len(_before))
        _users.append(count)
    try:
        yield
    finally:
        with _lock:
            _users.remove(count)
            if not _users:
                _set(_before)


def _set(counts: list[int]) -> None:
    for library, count in zip(_controller().lib_controllers, counts, strict=True):
        if library.num_threads != count:
            # threadpoolctl 3.8 heeds the Python thread that first set a count, and no other.
            let_go = getattr(library, "clear_controlling_thread", lambda **_: None)
            let_go(force=True)
            library.set_num_threads(count)
            let_go(force=True)


# Kernels of OpenBLAS that multiply matrices where they stand as long as that is little work; larger
# ones are copied first. Source: interface/gemm.c, and kernel/x86_64/sgemm_small_kernel_permit_*.c.
IN_PLACE = ("SkylakeX", "Cooperlake", "SapphireRapids")
SMALL = 1_000_000  # multiplications up to which they do
SMALL_BY_TURNED = 1200  # numbers that come out, too, of x @ y where y alone is a transposed view


@cache
def small_products_are_fast() -> bool:
    """Whether the library multiplies in place what makes no more than `SMALL` multiplications, and
    `SMALL_BY_TURNED` numbers.
    """
    return any(info.get("architecture") in IN_PLACE for info in _controller().info())


def blas_kernel() -> str:
    """What multiplies matrices here, as in "OpenBLAS 0.3.31 Haswell"."""
    names = [
        " ".join(
            str(part)
            for part in (
                {"openblas": "OpenBLAS"}.get(info["internal_api"], info["internal_api"]),
                info.get("version"),
                info.get("architecture"),
            )
            if part
        )
        for info in _controller().info()
    ]
    return ", ".join(names) or "unknown"
