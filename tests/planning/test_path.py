"""Geometry and timing of paths against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.planning.path_geometry import (
    at_pace,
    first_within,
    polyline_distance,
    resampled,
    retimed,
    travel_time,
)

BOTH = np.array([1.0, 1.0])


def line(length: float, points: int = 401) -> np.ndarray:
    return np.stack([np.linspace(0, length, points), np.zeros(points)], axis=1)


def test_resampling_keeps_ends_and_spacing():
    bent = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])
    dense = resampled(bent, 0.1)
    np.testing.assert_allclose(dense[[0, -1]], bent[[0, -1]])
    np.testing.assert_allclose(np.linalg.norm(np.diff(dense, axis=0), axis=1), 0.1, atol=1e-9)
    assert [1.0, 0.0] in dense.round(9).tolist()
    np.testing.assert_allclose(at_pace(bent, 4), [[0, 0], [1, 0], [1, 1], [1, 2]], atol=1e-12)


@given(st.floats(0.2, 20.0), st.floats(0.05, 2.0), st.floats(0.01, 1.0))
def test_from_rest_along_a_line_is_the_trapezoid_formula(length, speed, acceleration):
    """t = sqrt(2 d / a) while accelerating, then d = v^2 / 2a + v (t - v / a)."""
    times = retimed(line(length), speed * BOTH, acceleration * BOTH)
    ramp = speed**2 / (2 * acceleration)
    expected = (
        (2 * length / acceleration) ** 0.5
        if ramp >= length
        else speed / acceleration + (length - ramp) / speed
    )
    assert times[-1] == pytest.approx(expected, rel=0.01)
    assert bool((np.diff(times) > 0).all())


def test_a_sharp_corner_costs_time_and_a_diagonal_uses_both_axes():
    straight = retimed(resampled(np.array([[0.0, 0.0], [4.0, 0.0]]), 0.05), BOTH, 0.5 * BOTH)[-1]
    corner = retimed(resampled(np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]), 0.05), BOTH, 0.5 * BOTH)[-1]
    assert corner > straight + 1.0
    diagonal = np.array([[0.0, 0.0], [3.0, 3.0]])
    assert travel_time(diagonal, BOTH) == pytest.approx(3.0)
    assert travel_time(np.stack([diagonal, 2 * diagonal]), np.array([1.0, 2.0])).tolist() == pytest.approx(
        [3.0, 6.0]
    )


def test_distance_to_a_polyline():
    path = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]])
    points = np.array([[1.0, 0.5], [3.0, 1.0], [-1.0, 0.0], [2.0, 3.0]])
    np.testing.assert_allclose(polyline_distance(points, path), [0.5, 1.0, 1.0, 1.0])
    assert first_within(line(2.0, 21), np.array([2.0, 0.0]), 0.55) == 15
    assert first_within(line(2.0, 21), np.array([9.0, 9.0]), 0.5) == 20
