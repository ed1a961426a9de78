"""The trial of products: what leaves each row's bits alone is found, and nothing else is taken."""

import numpy as np
import pytest

from charrnn.compiled import CompiledModel
from charrnn.products import BY_ROW, IN_PANELS, WITH_FOURS, Block
from tests.models import network


@pytest.fixture
def uneven(monkeypatch):
    """Lets products with an array differ in some rows: `rows_are_alike(rows, place)` says which
    don't.
    """
    whole, rules = np.matmul, []

    def matmul(rows, matrix, *out):
        product = whole(rows, matrix, *out)
        for array, rows_are_alike in rules:
            if np.may_share_memory(array, matrix):
                for place in range(len(rows)):
                    product[..., place, :] += 0 if rows_are_alike(len(rows), place) else 1
        return product

    monkeypatch.setattr(np, "matmul", matmul)
    return lambda array, rows_are_alike: rules.append((array, rows_are_alike))


@pytest.mark.parametrize(
    ("rows_are_alike", "width", "most"),
    [
        (lambda rows, place: True, 2, 64),
        (lambda rows, place: (rows, place) != (6, 3), 4, 64),
        (lambda rows, place: rows > 4, 8, 64),
        (lambda rows, place: rows < 64, 2, 32),
        (lambda rows, place: (rows, place) != (24, 17), 2, 16),
        (lambda rows, place: rows == 8, 8, 8),
        (lambda rows, place: place != 5, 1, None),
    ],
)
@pytest.mark.parametrize("which", [0, 1], ids=["recurrent", "following"])
def test_rows_are_multiplied_in_a_form_that_leaves_all_of_them_alike(
    which, rows_are_alike, width, most, monkeypatch, uneven
):
    monkeypatch.setattr("charrnn.trial.LARGE_BYTES", 0)
    model = CompiledModel(network(hidden=128, vocab=27, layers=2))
    for layer in model.layers:
        layer.matrix[...] = 0
        uneven(layer.panels, lambda rows, place: place != 5)
    for columns in model.layers[-1].columns[which]:
        uneven(columns, rows_are_alike)
    expected = [64, 64, 64, 64]
    expected[2 + which] = most
    assert model.block == (BY_ROW if width == 1 else Block(width, tuple(expected)))


@pytest.mark.parametrize(
    ("rows_are_alike", "block"),
    [
        (lambda rows, place: True, WITH_FOURS),
        (lambda rows, place: rows % 12 == 0 or place < rows // 12 * 12, WITH_FOURS),
        (lambda rows, place: (rows, place) != (4, 2), IN_PANELS),
        (lambda rows, place: (rows, place) != (28, 26), IN_PANELS),
        (lambda rows, place: (rows, place) != (76, 75), IN_PANELS),
        (lambda rows, place: (rows, place) != (40, 3), IN_PANELS),
        (lambda rows, place: place, BY_ROW),
        (lambda rows, place: place != 11, BY_ROW),
        (lambda rows, place: rows != 60, BY_ROW),
        (lambda rows, place: (rows, place) != (72, 71), BY_ROW),
    ],
)
def test_rows_that_differ_by_gate_are_multiplied_in_panels_where_these_leave_them_alike(
    rows_are_alike, block, uneven
):
    model = CompiledModel(network(hidden=128, vocab=27))
    layer = model.layers[0]
    layer.matrix[...] = 0
    for columns in layer.columns[0]:
        uneven(columns, lambda rows, at: at < 5)
    uneven(layer.panels, rows_are_alike)
    assert model.block == block
    assert ("panels" in vars(layer)) == block.in_panels  # no copy for nothing
    assert "columns" not in vars(layer)


def test_few_rows_are_for_networks_whose_matrices_take_long_to_read(uneven):
    model = CompiledModel(network(hidden=128, vocab=27))
    layer = model.layers[0]
    layer.matrix[...] = 0
    for columns in layer.columns[0]:
        uneven(columns, lambda rows, place: rows <= 8)
    uneven(layer.panels, lambda rows, place: place)
    assert model.block == BY_ROW
