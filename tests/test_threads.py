"""The number of threads of matrix products: shared by blocks, and always put back."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from charrnn.threads import blas_kernel, blas_threads, small_products_are_fast


def counts():
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def _two_threads_before_and_after():
    """Two, whatever the environment says, so that one is a change; and a check that it's back."""
    with threadpool_limits(2, user_api="blas"):
        before = counts()
        yield
        assert counts() == before


def test_a_block_sets_the_count_and_puts_it_back():
    before = counts()
    with blas_threads(1):
        assert set(counts()) <= {1}
    assert counts() == before


def test_an_exception_inside_puts_it_back():
    before = counts()
    with pytest.raises(ZeroDivisionError), blas_threads(1):
        _ = 1 / 0
    assert counts() == before


def test_nested_blocks_put_it_back_at_the_outermost_end():
    before = counts()
    with blas_threads(1):
        with blas_threads(1), blas_threads(1):
            assert set(counts()) <= {1}
        assert set(counts()) <= {1}
    assert counts() == before


def test_the_first_blocks_count_holds_until_the_last_one_ends():
    before = counts()
    with blas_threads(1):
        with blas_threads(2):
            assert set(counts()) <= {1}
        assert set(counts()) <= {1}
    assert counts() == before


def test_blocks_of_two_threads_overlap_and_the_last_to_end_puts_it_back():
    before, inside, leave = counts(), threading.Event(), threading.Event()

    def other():
        with blas_threads(1):
            inside.set()
            assert leave.wait(30)
            assert set(counts()) <= {1}

    with ThreadPoolExecutor(1) as pool:
        with blas_threads(1):
            work = pool.submit(other)
            assert inside.wait(30)
        assert set(counts()) <= {1}  # the first has left, the second has not
        leave.set()
        work.result(30)
    assert counts() == before


def test_many_threads_at_once_put_it_back_and_never_see_another_count():
    before = counts()
    square = np.ones((8, 8), np.float32)

    def worker(seed):
        draw = random.Random(seed)
        for _ in range(100):
            try:
                with blas_threads(1):
                    assert set(counts()[:1]) <= {1}
                    _ = square @ square
                    if draw.random() < 0.2:
                        raise KeyError
            except KeyError:
                pass

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(worker, range(6)))
    assert counts() == before


def test_a_generator_that_is_closed_inside_a_block_puts_it_back():
    before = counts()

    def numbers():
        with blas_threads(1):
            yield 1
            yield 2

    running = numbers()
    next(running)
    assert set(counts()) <= {1}
    running.close()
    assert counts() == before


def test_the_kernel_is_named_with_its_library():
    named = blas_kernel()
    for lib in threadpool_info():
        if lib["user_api"] == "blas" and lib["internal_api"] == "openblas":
            assert "OpenBLAS" in named
            assert lib["version"] in named
            assert lib["architecture"] in named
    assert named
    assert "None" not in named


@pytest.mark.parametrize(
    ("architecture", "are_fast"),
    [("SkylakeX", True), ("SapphireRapids", True), ("Haswell", False), (None, False)],
)
def test_small_products_are_fast_on_the_kernels_that_multiply_them_in_place(
    architecture, are_fast, monkeypatch
):
    libraries = SimpleNamespace(info=lambda: [{"architecture": architecture}, {"version": "1"}])
    monkeypatch.setattr("charrnn.threads._controller", lambda: libraries)
    assert small_products_are_fast.__wrapped__() == are_fast
