"""Array operations: against float64 and the definition, at the edges of the dtype, and by rows."""

import math

import numpy as np
import pytest

from charrnn import ops
from charrnn.cells import CELLS
from charrnn.config import ModelConfig
from charrnn.gradients import numerical_gradient, relative_error
from charrnn.model import CharRNN
from charrnn.ops import (
    FEWEST_ROWS,
    ONE_HOT_LIMIT,
    Workspace,
    add_product,
    chosen_log_softmax,
    cross_entropy,
    dropout_mask,
    gather_rows_backward,
    log_softmax,
    row_product,
    sigmoid,
    step_product,
    turned,
    wide_product,
)
from charrnn.threads import SMALL, SMALL_BY_TURNED
from tests.reference import pack

FLOATS = [np.float32, np.float64]


def rng(seed=0):
    return np.random.default_rng(seed)


# Products


@pytest.fixture
def rows_of(monkeypatch):
    """The rows of x in each product of a step, where small products are fast, or are not."""

    def ask(is_fast, x, columns):
        monkeypatch.setattr("charrnn.ops.small_products_are_fast", lambda: is_fast)
        ops._rows_at_a_time.cache_clear()
        whole, asked = np.matmul, []
        monkeypatch.setattr(np, "matmul", lambda *args: asked.append(args) or whole(*args))
        wide = np.full((len(x), columns + 3), np.nan, x.dtype)  # as a state of more sequences
        y, out = rng(1).standard_normal((x.shape[1], columns)).astype(x.dtype), wide[:, :columns]
        assert step_product(x, y, out) is out
        monkeypatch.setattr(np, "matmul", whole)
        assert np.abs(out - x.astype(np.float64) @ y).max() < 1e-3
        assert np.isnan(wide[:, columns:]).all()
        ((left, *_),) = asked
        return left.shape[-2]

    yield ask
    ops._rows_at_a_time.cache_clear()


@pytest.mark.parametrize(
    ("height", "terms", "columns"),
    [
        (512, 128, 32),
        (128, 512, 32),
        (1024, 256, 64),
        (400, 100, 48),
        (768, 256, 96),
        (2048, 512, 16),
        (2048, 1024, 128),
    ],
)
def test_a_step_is_multiplied_in_small_products_where_these_are_fast(
    height, terms, columns, rows_of
):
    x = rng().standard_normal((height, terms)).astype(np.float32)
    rows = rows_of(True, x, columns)
    assert FEWEST_ROWS <= rows < height
    assert 0.4 * SMALL < rows * terms * columns <= SMALL
    assert rows_of(False, x, columns) == height
    assert rows_of(True, x.astype(np.float64), columns) == height


@pytest.mark.parametrize(
    ("height", "terms", "columns"),
    [(128, 128, 32), (1024, 256, 50), (768, 256, 160), (257, 300, 32), (8192, 8192, 32), (1, 1, 1)],
)
def test_a_step_that_is_small_or_has_no_small_parts_is_one_product(height, terms, columns, rows_of):
    x = rng().standard_normal((height, terms)).astype(np.float32)
    assert rows_of(True, x, columns) == height


@pytest.mark.parametrize("is_fast", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("terms", "columns", "is_small"),
    [(128, 128, True), (300, 192, True), (100, 100, False), (4096, 64, False), (1, 64, True)],
)
@pytest.mark.parametrize("is_turned", [False, True])
def test_rows_times_a_matrix_are_small_products_where_these_are_fast(
    terms, columns, is_small, is_turned, dtype, is_fast, monkeypatch
):
    monkeypatch.setattr("charrnn.ops.small_products_are_fast", lambda: is_fast)
    matrix = rng().standard_normal((columns, terms)).astype(dtype).T
    matrix = matrix if is_turned else matrix.copy()
    out = np.empty((200, columns), dtype)
    multiply = row_product(matrix, out, Workspace(), "blocks")
    whole, sizes = np.matmul, []
    for count in (1, 7, 64, 200):
        x = rng(count).standard_normal((count, terms)).astype(dtype)
        out[...] = np.nan
        with monkeypatch.context() as watched:
            watched.setattr(
                np,
                "matmul",
                lambda x, y, out: sizes.append(x.size * y.shape[-1]) or whole(x, y, out),
            )
            multiply(x)
        tolerance = 1e-3 if dtype == np.float32 else 1e-11
        assert np.abs(out[:count] - x.astype(np.float64) @ matrix).max() < tolerance
        assert np.isnan(out[count:]).all()
    if is_fast and is_small and dtype == np.float32:
        assert max(sizes) <= SMALL
    else:
        assert len(sizes) == 4  # all at once


@pytest.fixture
def products(monkeypatch):
    """The numbers of multiplications of all products from now on, where small ones are fast, or are
    not.
    """

    def watch(is_fast):
        monkeypatch.setattr("charrnn.ops.small_products_are_fast", lambda: is_fast)
        whole, sizes = np.matmul, []
        monkeypatch.setattr(
            np, "matmul", lambda x, y, out: sizes.append(x.size * y.shape[-1]) or whole(x, y, out)
        )
        return sizes

    return watch


@pytest.mark.parametrize("is_fast", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize(
    ("height", "terms", "count", "is_small"),
    [
        (27, 128, 400, True),
        (128, 27, 1000, True),
        (27, 128, 289, True),
        (27, 128, 256, False),  # is small as it is
        (65, 256, 1000, False),  # of so few columns that it would be slower
        (300, 4000, 7, False),
    ],
)
def test_a_product_for_many_columns_is_small_ones_where_these_are_fast(
    height, terms, count, is_small, is_turned, dtype, is_fast, products
):
    x = rng().standard_normal((height, terms)).astype(dtype)
    y = rng(1).standard_normal((count, terms) if is_turned else (terms, count)).astype(dtype)
    y = y.T if is_turned else y
    expected = x.astype(np.float64) @ y
    sizes, wide = products(is_fast), np.full((height, count + 3), np.nan, dtype)
    assert wide_product(x, y, wide[:, :count]).shape == (height, count)
    assert np.abs(wide[:, :count] - expected).max() < (1e-3 if dtype == np.float32 else 1e-11)
    assert np.isnan(wide[:, count:]).all()
    if is_fast and is_small and dtype == np.float32:
        assert len(sizes) > 1
        assert max(sizes) <= SMALL
    else:
        assert len(sizes) == 1  # all at once


@pytest.mark.parametrize("is_fast", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("height", "terms", "columns", "is_turned", "is_small"),
    [
        (512, 400, 27, False, True),
        (128, 400, 27, True, True),
        (100, 1024, 30, False, True),
        (768, 1024, 65, False, True),
        (7, 3, 2, False, False),  # all rows at once are small
        (512, 400, 71, False, False),  # of more columns it would be slower
        (512, 1600, 60, False, False),  # not even a few rows are small
        (512, 400, 27, True, False),  # columns far apart collide
    ],
)
def test_few_columns_are_added_by_small_products_where_these_are_fast(
    height, terms, columns, is_turned, is_small, dtype, is_fast, products
):
    x = rng().standard_normal((terms, height) if is_turned else (height, terms)).astype(dtype)
    x = x.T if is_turned else x
    y = rng(1).standard_normal((terms, columns)).astype(dtype)
    expected = 2.0 + x.astype(np.float64) @ y
    sizes, out = products(is_fast), np.full((columns, height), 2, dtype).T  # as U's gradient is
    add_product(x, y, out, Workspace())
    limit = 1e-3 if dtype == np.float32 else 1e-11
    assert np.abs(out - expected).max() < limit
    begun, others = np.full((height, columns + 1), np.nan, dtype), Workspace()
    add_product(x, y, begun[:, 1:], others, begins=True)
    add_product(x, y, begun[:, 1:], others)
    assert np.abs(begun[:, 1:] - 2 * (expected - 2)).max() < 2 * limit
    assert np.isnan(begun[:, 0]).all()
    del sizes[len(sizes) // 3 :]  # three alike
    if is_fast and is_small and dtype == np.float32:
        assert len(sizes) > 1
        assert max(sizes) <= min(SMALL, SMALL_BY_TURNED * terms)
    else:
        assert len(sizes) == 1  # all at once


# Elementwise


@pytest.mark.parametrize("dtype", FLOATS)
def test_sigmoid_equals_its_definition_and_keeps_its_dtype(dtype):
    x = np.linspace(-30, 30, 2001).astype(dtype)
    expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert sigmoid(x).dtype == dtype
    assert np.abs(sigmoid(x) - expected).max() < 2 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", FLOATS)
def test_sigmoid_is_exact_and_silent_at_the_extremes(dtype):
    top = np.finfo(dtype).max
    x = np.array([-np.inf, -top, -1e30, -200, -0.0, 0.0, 200, 1e30, top, np.inf], dtype)
    expected = [0, 0, 0, 0, 0.5, 0.5, 1, 1, 1, 1]
    assert sigmoid(x).tolist() == expected


# Rows


@pytest.mark.parametrize("width", [1, 2, 7, 8, 15, 16, 17, 27, 64, 65, 130, 300])
def test_elementwise_rows_have_the_same_bits_in_any_batch_and_at_any_alignment(width):
    """The ends of a row are where vector instructions give way to others."""
    rows = rng(width).normal(0, 4, (13, width)).astype(np.float32)
    for operation in (np.tanh, np.exp, sigmoid, log_softmax, lambda x: np.log(np.abs(x))):
        whole = operation(rows)
        for offset in range(4):
            for size in (1, 2, 3, 5, 8, 13):
                memory = np.empty(offset + size * width, np.float32)
                moved = memory[offset:].reshape(size, width)
                moved[...] = rows[:size]
                assert np.array_equal(operation(moved), whole[:size])
        wide = np.repeat(rows, 2, axis=1)[:, ::2]  # the same rows, every second column of memory
        assert np.array_equal(operation(wide), whole)
        for k in range(13):
            assert np.array_equal(operation(rows[k : k + 1]), whole[k : k + 1])


# Softmax and the loss


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [0, 1, 1e3, 1e30])
def test_log_softmax_is_finite_sums_to_one_and_equals_float64(dtype, scale):
    logits = (scale * rng().normal(size=(6, 11))).astype(dtype)
    result, exact = log_softmax(logits), logits.astype(np.float64)
    shifted = exact - exact.max(axis=1, keepdims=True)
    expected = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert result.dtype == dtype
    assert np.isfinite(result).all()
    # Of the logits' own rounding, and of the logarithm's.
    assert (np.abs(result - expected) <= 4 * np.finfo(dtype).eps * (1 + np.abs(expected))).all()
    assert np.abs(np.exp(result.astype(np.float64)).sum(axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [0, 1, 30, 1e3, 1e30])
def test_the_log_softmax_of_chosen_ids_equals_the_whole(dtype, scale):
    logits = (scale * rng().normal(size=(40, 11))).astype(dtype)
    ids = rng(1).integers(0, 11, 40)
    expected = log_softmax(logits.astype(np.float64))[np.arange(40), ids]
    found = chosen_log_softmax(logits.copy(), ids)
    assert found.dtype == dtype
    assert (np.abs(found - expected) <= 8 * np.finfo(dtype).eps * (1 + np.abs(expected))).all()
    for k in range(40):
        assert chosen_log_softmax(logits[k : k + 1].copy(), ids[k : k + 1])[0] == found[k]


def test_log_softmax_does_not_change_with_a_constant_or_its_argument():
    logits = rng().integers(-8, 8, (3, 5)).astype(np.float32)
    before = logits.copy()
    assert np.array_equal(log_softmax(logits + 1024), log_softmax(logits))
    assert np.array_equal(logits, before)
    assert np.array_equal(log_softmax(logits)[1], log_softmax(logits[1]))


def naive_cross_entropy(logits, targets):
    total = 0.0
    for row, target in zip(logits.astype(np.float64), targets, strict=True):
        total -= row[target] - row.max() - math.log(math.fsum(np.exp(row - row.max())))
    return total


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [0.1, 3, 50])
@pytest.mark.parametrize("of_gradient", [None, 0.1])
def test_cross_entropy_equals_the_naive_one_in_float64(dtype, scale, of_gradient):
    logits = (scale * rng(3).normal(size=(40, 9))).astype(dtype)
    targets = rng(4).integers(0, 9, 40)
    expected = naive_cross_entropy(logits, targets)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    assert abs(cross_entropy(logits.T, targets, of_gradient) - expected) < tolerance * expected


def test_the_gradient_of_cross_entropy_equals_central_differences():
    logits, targets = rng(5).normal(0, 2, (4, 5)), np.array([0, 4, 2, 2])

    def loss(_):
        return 3 * cross_entropy(logits.T.copy(), targets)

    expected, analytic = numerical_gradient(loss, logits), logits.copy()
    cross_entropy(analytic.T, targets, 3.0)
    assert np.abs(analytic).min() > 0
    assert relative_error(analytic, expected) < 1e-8
    assert np.abs(analytic.sum(axis=1)).max() < 1e-15


def test_cross_entropy_of_a_hopeless_target_is_large_and_finite():
    logits = np.array([[0, 1e4, -1e30], [1e30, -1e30, 0]], np.float32)
    loss = cross_entropy(logits.T, np.array([2, 0]), 1.0)
    assert loss == pytest.approx(1e30, rel=1e-6)
    assert logits.tolist() == [[0, 1, -1], [0, 0, 0]]


# Gathered rows


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("columns", [1, 127, 128, 129, 300])
def test_a_matrix_is_turned_whole_in_strips_of_any_width(columns, dtype):
    x = rng().standard_normal((7, columns)).astype(dtype)
    scale = rng(1).standard_normal((columns, 1)).astype(dtype)
    work = Workspace()
    for _ in range(2):
        out = turned(x, scale, np.full((columns, 7), np.nan, dtype), work)
        assert np.array_equal(out, x.T * scale)
        for buffer in buffers(work):
            buffer[...] = np.nan


@pytest.mark.parametrize("vocab", [5, ONE_HOT_LIMIT, ONE_HOT_LIMIT + 1])
def test_the_gradient_of_gathered_rows_adds_up_repeats_and_leaves_the_unread(vocab):
    ids = rng().integers(0, vocab // 2, 60)
    drows, expected = rng(1).normal(size=(60, 3)), np.zeros((vocab, 3))
    for id_, drow in zip(ids, drows, strict=True):
        expected[id_] += drow
    dtable = np.ones((vocab, 3))
    gather_rows_backward(ids, drows.T, dtable, Workspace())
    assert np.abs(dtable - 1 - expected).max() < 1e-13
    assert (dtable[vocab // 2 :] == 1).all()
    begun = np.full((vocab, 3), np.nan)
    gather_rows_backward(ids, drows.T, begun, Workspace(), begins=True)
    assert np.abs(begun - expected).max() < 1e-13


# Dropout


def masked(shape, probability, seed):
    return dropout_mask(probability, rng(seed), np.full(shape, np.nan, np.float32))


@pytest.mark.parametrize("probability", [0, 0.1, 0.25, 0.5, 0.9, 0.95])
def test_a_dropout_mask_is_zero_or_one_over_the_kept_share(probability):
    """The share dropped is within 5.5 standard errors of a million draws: the odds of a false
    alarm are below 10^-7 for each probability, and the seed is fixed.
    """
    n = 1_000_000
    mask = masked((1000, 1000), probability, 7)
    kept = round((1 - probability) * 65_536) / 65_536
    assert mask.dtype == np.float32
    assert set(np.unique(mask).tolist()) <= {0.0, float(np.float32(1 / kept))}
    error = math.sqrt(kept * (1 - kept) / n)
    assert abs((mask > 0).mean() - kept) <= 5.5 * error
    assert abs(mask.mean(dtype=np.float64) - 1) <= 5.5 * error / kept + 1e-7
    assert abs(kept - (1 - probability)) <= 2**-17


def test_nothing_is_dropped_with_probability_zero():
    assert (masked((64, 64), 0.0, 0) == 1).all()


def test_a_dropout_mask_follows_from_its_generator():
    first, again, other = (masked((21, 21), 0.5, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_units_are_dropped_independently():
    """Of a million pairs of neighbours a quarter is dropped together, to 5.5 standard errors:
    odds below 10^-7.
    """
    dropped = masked((1001, 1000), 0.5, 8) == 0
    for both in (dropped[:-1] & dropped[1:], dropped[:, :-1] & dropped[:, 1:]):
        assert abs(both.mean() - 0.25) < 5.5 * math.sqrt(0.25 * 0.75 / both.size)


# Workspaces


def buffers(work):
    yield from work._buffers.values()
    for nested in work._children.values():
        yield from buffers(nested)


def test_a_workspace_reuses_its_memory_and_grows_to_the_largest():
    work = Workspace()
    small = work.take("a", (2, 3), np.float32)
    small[...] = 7
    assert np.array_equal(work.take("a", (3, 2), np.float32), np.full((3, 2), 7))
    assert np.shares_memory(work.take("a", (1,), np.float32), small)
    assert work.take("a", (5, 4), np.float32).shape == (5, 4)
    assert work.nbytes == 80
    assert work.take("a", (2,), np.float32).shape == (2,)
    assert work.nbytes == 80


def test_names_types_and_children_of_a_workspace_do_not_share_memory():
    work = Workspace()
    taken = [
        work.take("a", (4,), np.float32),
        work.take("b", (4,), np.float32),
        work.take("a", (4,), np.float64),
        work.child("c").take("a", (4,), np.float32),
        work.child("d").take("a", (4,), np.float32),
    ]
    for k, one in enumerate(taken):
        assert not any(np.shares_memory(one, other) for other in taken[:k])
    assert work.child("c") is work.child("c")
    assert work.nbytes == 4 * 16 + 32


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(
    ("vocab", "mask"), [(5, "step"), (ONE_HOT_LIMIT + 1, "step"), (5, "sequence")]
)
def test_training_never_reads_what_a_workspace_held_before(cell, layers, vocab, mask):
    """Poisoned with NaN between the calls, it gives the bits of a fresh one, at every shape."""
    config = ModelConfig(
        **{"cell": cell, "hidden_size": 6, "num_layers": layers, "vocab_size": vocab},
        **{"dropout": 0.3, "dropout_mask": mask},
        recurrent_dropout=0.2 if mask == "sequence" else 0.0,
    )
    model = CharRNN.initialized(config, rng())
    work, draw = Workspace(), rng(1)
    for lengths in ([6, 6, 4, 3, 1], [2, 1], [9], [6, 6, 4, 3, 1], [1, 1, 1]):
        pairs = [tuple(draw.integers(0, vocab, (2, n))) for n in lengths]
        batch = pack(pairs)
        state = draw.normal(0, 0.5, model.init_state(len(lengths)).shape).astype(np.float32)
        for masks in (None, 5):
            results = []
            for place in (work, Workspace()):
                for buffer in buffers(place):
                    buffer[...] = np.nan
                grads = model.params.like()
                grads.flat[:] = np.nan
                loss, final, dstate = model.loss_and_grads(
                    batch, state, grads, place, rng=masks and rng(masks)
                )
                results.append((loss, final.copy(), dstate.copy(), grads.flat.copy()))
            assert np.isfinite(results[0][3]).all()
            for dirty, fresh in zip(*results, strict=True):
                assert np.array_equal(dirty, fresh)
        for buffer in buffers(work):
            buffer[...] = np.nan
        assert model.loss(batch, state, work)[0] == model.loss(batch, state, Workspace())[0]
    assert len(list(buffers(work))) > 3
