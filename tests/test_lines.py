"""Arrays that begin with a line of the cache: where they begin, what they hold, who has them."""

import numpy as np
import pytest

from charrnn import lines
from charrnn.compiled import CompiledModel, Lanes
from charrnn.config import TrainConfig
from charrnn.ops import Workspace
from charrnn.optimizers import Adam
from tests.models import network

SHAPES = [(), 0, 7, (0, 5), (3, 5), (64, 27, 3), 1 << 20]


def begins_on_a_line(x):
    return x.ctypes.data % lines.LINE == 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, int])
@pytest.mark.parametrize("made", [lines.empty, lines.zeros])
def test_an_array_begins_with_a_line_and_is_else_as_numpys(made, shape, dtype):
    held = [made(shape, dtype) for _ in range(8)]  # memory is handed out at many places
    for x in held:
        assert x.shape == np.empty(shape).shape
        assert x.dtype == dtype
        assert x.flags.c_contiguous
        assert x.flags.writeable
        assert begins_on_a_line(x) or not x.size
        x[...] = 1  # nobody else's memory
    if made is lines.zeros:
        assert not made(shape, dtype).any()


def test_a_copy_is_contiguous_and_apart():
    x = np.arange(24.0).reshape(4, 6).T[::2]
    copied = lines.copy(x)
    np.testing.assert_array_equal(copied, x)
    assert begins_on_a_line(copied)
    assert copied.flags.c_contiguous
    copied[...] = -1
    assert x.max() == 22
    zeros = lines.zeros_like(x)
    assert (zeros.shape, zeros.dtype) == (x.shape, x.dtype)
    assert begins_on_a_line(zeros)
    assert not zeros.any()


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_bytes_are_counted_up_to_the_end_of_a_line(count, expected):
    assert lines.up_to_line(count) == expected


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("rows", ["alone", "together"])
def test_the_large_arrays_of_a_step_of_generation_begin_with_a_line(cell, rows):
    model = CompiledModel(network(cell, hidden=48, vocab=27, layers=2))
    assert begins_on_a_line(model.table)
    for layer in model.layers:
        assert begins_on_a_line(layer.matrix)
        assert layer.matrix.strides[0] % lines.LINE == 0
        assert begins_on_a_line(layer.panels)
        for columns in layer.columns:
            assert all(map(begins_on_a_line, columns))
    lanes = Lanes(model, 1) if rows == "alone" else Lanes(model, 8, model.block)
    for products in lanes._products:
        assert begins_on_a_line(products.waiting)
        assert rows == "alone" or begins_on_a_line(products.following)
    assert all(map(begins_on_a_line, [lanes._rows, *lanes._parts, *lanes._biased]))


def test_the_large_arrays_of_a_step_of_training_begin_with_a_line():
    model = network("gru", hidden=32, vocab=27)
    optimizer = Adam(model.params, TrainConfig(steps=3))
    work = Workspace()
    flat = [model.params.flat, model.params.like().flat, model.params.astype(np.float64).flat]
    for x in (*flat, *optimizer.moments.values(), work.take("a", (3, 5), np.float32)):
        assert begins_on_a_line(x)
    columns = work.columns("b", 5, 40, np.float32)
    assert all(map(begins_on_a_line, columns))
