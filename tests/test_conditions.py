"""The nearest name of a list, against the classical table of edit distances."""

import random

import pytest

from charrnn.conditions import Names


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


@pytest.mark.parametrize("longest", [3, 12, 65])
def test_the_nearest_name_is_that_of_the_table(longest):
    rng = random.Random(longest)
    names = [drawn(rng, "abcé", longest) for _ in range(20)] + ["a" * longest]
    near = Names(names)
    for text in ["a" * longest, *(drawn(rng, "abcéx", longest) for _ in range(20))]:
        distances = [edit_distance(text, name) / max(len(text), len(name), 1) for name in names]
        assert near.nearest(text) == pytest.approx(min(distances), abs=1e-12)
        for similarity in (0.3, 0.5, 0.8):
            assert near.are_near(text, similarity) == (1 - min(distances) > similarity + 1e-12)


def test_what_was_learned_is_no_way_off_and_what_shares_nothing_is_as_far_as_can_be():
    near = Names(["rex", "saurus"])
    assert near.nearest("rex") == 0
    assert near.nearest("rox") == pytest.approx(1 / 3)
    assert near.nearest("日本") == 1
    assert Names([]).nearest("rex") == 1
