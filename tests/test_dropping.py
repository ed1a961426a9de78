"""What training leaves out."""

import numpy as np
import pytest

from charrnn.config import NetworkConfig
from charrnn.dropping import Drops, drops_anything
from charrnn.ops import Workspace

SIZES = np.array([3, 3, 2, 1])  # rows of each step


def drops(seed=0, layers=2, **dropping):
    config = NetworkConfig(hidden_size=20, **dropping)
    recurrent = [np.ones((20, 60), np.float32)] * layers
    return Drops(config, recurrent, 3, np.random.default_rng(seed), Workspace())


def masks(seed=0, **dropping):
    found = drops(seed, **dropping)
    return [found.outputs(n, SIZES, np.full((20, 9), np.nan, np.float32)) for n in range(2)]


@pytest.mark.parametrize("mask", ["step", "sequence"])
def test_a_mask_is_the_same_for_all_of_a_sequence_or_its_own_at_each_step(mask):
    """20 units that are dropped or not: the odds that two steps agree by chance are 2^-20."""
    for found in masks(dropout=0.5, dropout_mask=mask):
        assert set(np.unique(found)) == {0.0, 2.0}
        first, second, third = found[:, 0:3], found[:, 3:6], found[:, 6:8]
        alike = [(first, second), (first[:, :2], third), (first[:, :1], found[:, 8:])]
        assert [np.array_equal(a, b) for a, b in alike] == [mask == "sequence"] * 3
        assert not np.array_equal(found[:, 0], found[:, 1])  # sequences have their own


def test_layers_and_batches_have_masks_of_their_own():
    lower, upper = masks(dropout=0.5, dropout_mask="sequence")
    assert not np.array_equal(lower, upper)
    assert np.array_equal(lower, masks(dropout=0.5, dropout_mask="sequence")[0])
    assert not np.array_equal(lower, masks(1, dropout=0.5, dropout_mask="sequence")[0])


def test_weights_have_a_mask_for_each_layer_where_they_are_dropped():
    first, second = drops(recurrent_dropout=0.5).weights
    assert first.shape == (20, 60)
    assert set(np.unique(first)) == {0.0, 2.0}
    assert not np.array_equal(first, second)
    assert drops(dropout=0.5).weights == []


@pytest.mark.parametrize("field", ["dropout", "recurrent_dropout"])
def test_random_numbers_are_needed_for_what_is_dropped(field):
    assert not drops_anything(NetworkConfig(dropout_mask="sequence"))
    assert drops_anything(NetworkConfig(**{field: 0.1}))
