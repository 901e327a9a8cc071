"""Normalisation by limits and by deviations, and a value that keeps its units."""

import numpy as np
import pytest
import torch

from unveil.apps.trajectory_model import Normalization, TrajectoryShape, ValueModel


def test_both_kinds_of_normalisation_are_their_formulas_and_invert():
    rows = np.random.default_rng(0).normal([1.0, -2.0, 3.0], [1.0, 5.0, 0.1], (500, 3)).astype(np.float32)
    tensor = torch.from_numpy(rows)
    limits, gaussian = Normalization(3), Normalization(3)
    limits.learn(rows, "limits")
    gaussian.learn(rows, "gaussian")
    x = limits.normalized(tensor)
    torch.testing.assert_close(x.amin(0), -torch.ones(3))
    torch.testing.assert_close(x.amax(0), torch.ones(3))
    torch.testing.assert_close(gaussian.normalized(tensor), (tensor - tensor.mean(0)) / tensor.std(0, correction=0), atol=1e-4, rtol=1e-4)
    for made in (limits, gaussian):
        torch.testing.assert_close(made.denormalized(made.normalized(tensor)), tensor)
        torch.testing.assert_close(made.normalized(tensor[:, 1:], slice(1, None)), made.normalized(tensor)[:, 1:])


@pytest.mark.parametrize("kind", ["limits", "gaussian"])
def test_a_feature_that_never_changes_becomes_zero(kind):
    rows = np.stack([np.arange(5.0), np.full(5, 7.0)], axis=1)
    made = Normalization(2)
    made.learn(rows, kind)
    assert made.normalized(torch.from_numpy(rows).float())[:, 1].tolist() == [0.0] * 5
    assert made.denormalized(torch.zeros(2))[1] == 7.0


def test_the_value_is_in_the_units_of_the_return_at_the_denoisers_own_times():
    torch.manual_seed(0)
    value = ValueModel(TrajectoryShape(8, 10, 1, 2, width=8, multiples=(1, 4)))
    x, t = torch.randn(3, 8, 3), torch.full((3,), 0.4, dtype=torch.float64)
    plain = value.network(x, torch.full((3,), 3.0))  # t = 4 / 10 is step 3 of 0 .. 9
    torch.testing.assert_close(value(x, t), plain)
    value.offset.fill_(100.0)
    value.scale.fill_(20.0)
    torch.testing.assert_close(value(x, t), 100.0 + 20.0 * plain)


def test_only_the_first_observation_is_known():
    known = TrajectoryShape(4, 10, actions=1, observations=2, width=8, multiples=(1, 2)).first_known(6)
    assert known.shape == (1, 6, 3)
    assert known.sum() == 2 and known[:, 0, 1:].all()
