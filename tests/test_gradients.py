"""Central differences, and the measure of how far two gradients are apart."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from charrnn.gradients import numerical_gradient, relative_error

Array = NDArray[Any]


def normal(*shape: int) -> Array:
    return np.random.default_rng([0, *shape]).standard_normal(shape)


def test_numerical_gradient_agrees_with_a_closed_form() -> None:
    x = normal(2, 3)
    assert relative_error(numerical_gradient(lambda x: float((x**3).sum()), x), 3 * x**2) < 1e-9
    assert numerical_gradient(lambda x: float(np.exp(x)), np.array(0.5)) == pytest.approx(
        np.exp(0.5), rel=1e-9
    )


def test_numerical_gradient_restores_x_exactly_also_when_f_raises() -> None:
    x = np.array([0.1, 1e-12, 3e7, -0.0])
    kept = x.tobytes()
    seen: list[Array] = []

    def f(point: Array) -> float:
        seen.append(point.copy())
        return 0.0

    numerical_gradient(f, x)
    assert x.tobytes() == kept
    assert len(seen) == 8
    assert all((point != x).sum() == 1 for point in seen)  # one entry at a time

    with pytest.raises(ZeroDivisionError):
        numerical_gradient(lambda _: 1 / 0, x)
    assert x.tobytes() == kept


def test_numerical_gradient_works_in_place_on_a_view() -> None:
    whole = normal(4, 3)
    column = whole[:, 1]
    gradient = numerical_gradient(lambda _: float((whole**2).sum()), column)
    assert relative_error(gradient, 2 * column) < 1e-9


def test_relative_error_has_the_scale_of_the_largest_entry() -> None:
    a = np.array([1.0, -4.0, 0.0])
    b = np.array([1.0, -4.0, 0.2])
    assert relative_error(a, b) == pytest.approx(0.05)
    assert relative_error(a, b) == relative_error(b, a)
    assert relative_error(1e-9 * a, 1e-9 * b) == pytest.approx(0.05)
    assert relative_error(a, a) == 0.0
    assert relative_error(a, np.zeros(3)) == 1.0
    assert relative_error(np.zeros(3), np.zeros(3)) == 0.0
    assert relative_error(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0


def test_relative_error_of_nan_passes_no_bound() -> None:
    assert not relative_error([1.0, np.nan], [1.0, 2.0]) < 1e9
    assert not relative_error([0.0], [np.nan]) < 1e9


def test_what_can_not_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(2,\) and \(1,\)"):
        relative_error([1.0, 2.0], [1.0])
    with pytest.raises(TypeError, match="float64, got float32"):
        numerical_gradient(lambda x: 0.0, np.ones(2, np.float32))
