"""The energy score against its definition, and what it is for: it prefers both ways to their mean."""

import numpy as np
import pytest

from unveil.policy.evaluation.demonstration_error import energy_scores, errors_of, nearest, shown_steps


def test_the_energy_score_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    predicted, recorded = rng.normal(size=(4, 5, 3, 2)), rng.normal(size=(4, 3, 2))
    expected = np.zeros((4, 3))
    for n in range(4):
        for h in range(3):
            x, y = predicted[n, :, h], recorded[n, h]
            pairs = [np.linalg.norm(x[i] - x[j]) for i in range(5) for j in range(5) if i != j]
            expected[n, h] = np.mean([np.linalg.norm(one - y) for one in x]) - sum(pairs) / (2 * 5 * 4)
    np.testing.assert_allclose(energy_scores(predicted, recorded), expected)


def test_two_ways_are_better_than_their_mean_by_the_energy_score_alone():
    rng = np.random.default_rng(1)
    ways = lambda *shape: rng.choice([-1.0, 1.0], size=(*shape, 1, 1))  # noqa: E731
    recorded = ways(4000)
    both, middle = errors_of(ways(4000, 8), recorded), errors_of(np.zeros((4000, 8, 1, 1)), recorded)
    assert middle.mse[0] == 1.0 and both.mse[0] == pytest.approx(2.0, abs=0.1)
    assert middle.energy[0] == 1.0 and both.energy[0] == pytest.approx(0.5, abs=0.05)


def test_nearest_rows_come_in_order():
    known = np.arange(10.0)[:, None]
    np.testing.assert_array_equal(
        nearest(np.array([[3.1], [8.9]]), known, 3, block=1), [[3, 4, 2], [9, 8, 7]]
    )
    assert nearest(np.zeros((1, 1)), known[:2], 5).shape == (1, 2)


def test_steps_of_a_table():
    assert shown_steps(15, 8) == [1, 4, 8, 15] and shown_steps(3, 3) == [1, 3] and shown_steps(1, 1) == [1]
