"""docs/claims.py: verdicts on claims and curves at equal distance, with numbers by hand."""

import pytest
from claims import (
    Estimate,
    Point,
    advantage,
    all_of,
    at_least,
    attained,
    better_curve,
    estimate,
    larger,
    signed,
)


def test_a_number_has_wilsons_or_students_interval():
    row = {"all": 0.7, "all_low": 0.6, "all_high": 0.75, "kernel_distance": 2.0, "kernel_distance_ci95": 0.5}
    assert estimate(row, "all") == (0.7, 0.6, 0.75) and estimate(row, "kernel_distance") == (2.0, 1.5, 2.5)
    assert estimate(row, "other") is None and estimate(None, "all") is None


def test_a_claim_holds_only_where_intervals_do_not_meet():
    low, high, wide = Estimate(0.2, 0.1, 0.3), Estimate(0.6, 0.5, 0.7), Estimate(0.5, 0.25, 0.75)
    assert [larger(high, low), larger(low, high), larger(high, wide), larger(None, low)] == [
        "yes",
        "no",
        "undecided",
        "not run",
    ]
    assert [at_least(one, 0.5) for one in (high, low, wide, None)] == ["yes", "no", "undecided", "not run"]
    assert all_of(["yes", "yes"]) == "yes" and all_of(["yes", "undecided", "no"]) == "no"
    assert all_of(["yes", "undecided"]) == "undecided" and all_of(["no", "not run"]) == "not run"


def test_what_is_attained_at_a_distance_lies_on_the_line_between_points():
    curve = [Point(1.0, 0.2), Point(3.0, 0.8), Point(2.0, 0.4)]
    assert attained(curve, 0.9) is None and attained(curve, 1.0) == 0.2
    assert attained(curve, 1.5) == pytest.approx(0.35)  # 0.2 + 0.6 / 4
    assert attained(curve, 2.5) == pytest.approx(0.65)  # 0.2 + 0.6 * 3 / 4, above the way back, 0.6
    assert attained(curve, 9.0) == 0.8, "what is nearer counts too"


def test_the_advantage_is_the_mean_difference_at_equal_distances():
    flat, rising = [Point(1.0, 0.5), Point(3.0, 0.5)], [Point(1.0, 0.1), Point(3.0, 0.5)]
    assert advantage(flat, rising, 3) == pytest.approx((0.4 + 0.2 + 0.0) / 3)
    assert advantage(rising, flat, 3) == pytest.approx(-0.2)
    near, far = [Point(1.0, 0.9)], [Point(5.0, 0.4)]  # compared where both are: at 5
    assert advantage(near, far) == pytest.approx(0.5) and advantage(near, []) is None


def test_a_curve_is_better_if_it_is_so_at_the_ends_of_the_intervals():
    def points(*rights: float, half: float) -> list[tuple[float, Estimate]]:
        return [(1.0 + k, Estimate(right, right - half, right + half)) for k, right in enumerate(rights)]

    found, verdict = better_curve(points(0.8, 0.8, half=0.05), points(0.5, 0.5, half=0.05))
    assert found is not None and found == pytest.approx((0.3, 0.2, 0.4)) and verdict == "yes"
    assert signed(found) == "+0.30 (+0.20 to +0.40)"
    assert better_curve(points(0.5, half=0.05), points(0.8, half=0.05))[1] == "no"
    assert better_curve(points(0.6, half=0.1), points(0.5, half=0.1))[1] == "undecided"
    assert better_curve([], points(0.5, half=0.1)) == (None, "not run")
