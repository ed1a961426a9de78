"""Constraints: which symbols may come next, as a walk over states."""

import numpy as np
import pytest

from charrnn.constraints import MinLength


@pytest.mark.parametrize("symbols", [1, 2, 7])
def test_a_minimum_length_forbids_the_end_alone_and_only_until_it_is_reached(symbols):
    constraint, end, vocab = MinLength(symbols, 2, 5), 2, 5
    q = constraint.start()
    for drawn in range(symbols + 3):
        allowed = constraint.allowed(q)
        if drawn < symbols:
            assert np.flatnonzero(~allowed).tolist() == [end]
        else:
            assert allowed is None
        q = constraint.advance(q, drawn % vocab)


def test_a_minimum_length_of_nothing_forbids_nothing():
    constraint = MinLength(0, 0, 3)
    assert constraint.allowed(constraint.start()) is None


def test_a_minimum_length_leaves_something_in_the_smallest_vocabulary():
    constraint = MinLength(4, 1, 2)
    assert constraint.allowed(constraint.start()).tolist() == [True, False]


def test_one_constraint_serves_many_sequences_each_at_its_own_state():
    constraint = MinLength(2, 0, 3)
    first, second = constraint.start(), constraint.start()
    for _ in range(5):
        first = constraint.advance(first, 1)
    assert constraint.allowed(first) is None
    assert constraint.allowed(second) is not None
