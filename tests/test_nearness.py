"""The nearest name, against the classical table of edit distances."""

import random

import numpy as np
import pytest

from charrnn.nearness import Nearest


def edit_distance(a, b):
    """Wagner & Fischer's table, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def drawn(rng, letters, longest):
    return "".join(rng.choices(letters, k=rng.randint(0, longest)))


@pytest.mark.parametrize("longest", [3, 12, 64, 65, 150])
def test_edit_distances_are_those_of_the_table(longest):
    rng = random.Random(longest)
    names = [drawn(rng, "abcé", longest) for _ in range(40)] + ["a" * longest]
    near = Nearest(names)
    for text in ["", "a" * longest, *(drawn(rng, "abcéx", longest) for _ in range(20))]:
        wanted = [edit_distance(text, name) for name in names]
        assert near._edits(text, np.arange(len(names))).tolist() == wanted
        assert (near._bounds(text) <= wanted).all()
        over = [d / max(len(text), len(name), 1) for d, name in zip(wanted, names, strict=True)]
        assert near.distance(text) == pytest.approx(min(over), abs=1e-12)


def test_what_was_learned_is_no_way_off_and_what_shares_nothing_is_as_far_as_can_be():
    near = Nearest(["rex", "saurus"])
    assert near.distance("rex") == 0
    assert near.distance("rox") == pytest.approx(1 / 3)
    assert near.distance("日本") == 1
    assert near.distance("") == 1


def test_nothing_to_compare_with_is_refused():
    with pytest.raises(ValueError, match="at least one name"):
        Nearest([])
