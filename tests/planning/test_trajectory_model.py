"""Normalisation by limits and by deviations, and a value that keeps its units."""

import numpy as np
import pytest
import torch

from unveil.network.normalization import Normalization
from unveil.planning.trajectory_model import TrajectoryShape, ValueModel


def test_both_kinds_of_normalisation_are_their_formulas_and_invert():
    rows = np.random.default_rng(0).normal([1.0, -2.0, 3.0], [1.0, 5.0, 0.1], (500, 3)).astype(np.float32)
    tensor = torch.from_numpy(rows)
    limits, gaussian = Normalization(3), Normalization(3)
    limits.learn(rows, "limits")
    gaussian.learn(rows, "gaussian")
    x = limits.normalized(tensor)
    torch.testing.assert_close(x.amin(0), -torch.ones(3))
    torch.testing.assert_close(x.amax(0), torch.ones(3))
    torch.testing.assert_close(
        gaussian.normalized(tensor),
        (tensor - tensor.mean(0)) / tensor.std(0, correction=0),
        atol=1e-4,
        rtol=1e-4,
    )
    for made in (limits, gaussian):
        torch.testing.assert_close(made.denormalized(made.normalized(tensor)), tensor)
        torch.testing.assert_close(
            made.normalized(tensor[:, 1:], slice(1, None)), made.normalized(tensor)[:, 1:]
        )


@pytest.mark.parametrize("kind", ["limits", "gaussian"])
def test_a_feature_that_never_changes_becomes_zero(kind):
    rows = np.stack([np.arange(5.0), np.full(5, 7.0)], axis=1)
    made = Normalization(2)
    made.learn(rows, kind)
    assert made.normalized(torch.from_numpy(rows).float())[:, 1].tolist() == [0.0] * 5
    assert made.denormalized(torch.zeros(2))[1] == 7.0


def learned(column, kind="limits", **more):
    made = Normalization(1)
    flat = made.learn(np.asarray(column, np.float32)[:, None], kind, **more)
    return made, flat


@pytest.mark.parametrize("kind", ["limits", "gaussian"])
def test_noise_around_a_constant_is_not_blown_up(kind):
    made, flat = learned(0.08 + 5e-6 * np.random.default_rng(0).random(100), kind)
    assert flat == (0,)
    assert float(made.normalized(torch.tensor([0.081]))) == pytest.approx(0.001, rel=0.01)
    assert learned([0.08] * 9, kind)[1] == ()  # nothing is lost there
    published, flat = learned(0.08 + 5e-6 * np.random.default_rng(0).random(100), kind, published=True)
    assert flat == () and float(published.normalized(torch.tensor([0.081]))) > 100.0


@pytest.mark.parametrize("kind", ["limits", "gaussian"])
@pytest.mark.parametrize("unit", [1e-9, 1e-30, 1.0, 1e30, 1e38])
@pytest.mark.parametrize("offset", [0.0, -0.5, 300.0])
def test_units_do_not_matter_where_numbers_vary(kind, unit, offset):
    column = offset + np.random.default_rng(0).uniform(-1.0, 1.0, 200)
    if offset == 300.0 and unit in (1e38,):
        pytest.skip("beyond float32")
    made, flat = learned((column * unit).astype(np.float32), kind)
    seen = torch.from_numpy((column * unit).astype(np.float32))[:, None]
    centre, half = (
        ((column.max() + column.min()) / 2, np.ptp(column) / 2)
        if kind == "limits"
        else (column.mean(), column.std())
    )
    assert flat == ()
    np.testing.assert_allclose(made.normalized(seen)[:, 0], (column - centre) / half, atol=2e-4)
    np.testing.assert_allclose(
        made.denormalized(made.normalized(seen)) / unit, seen / unit, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["limits", "gaussian"])
@pytest.mark.parametrize("size", [0.0, 1e-30, 7.0, -1e4, 2.0**25, 1.7e9, -3e38])
def test_a_constant_of_any_size_becomes_zero_and_comes_back(kind, size):
    made, _ = learned([size] * 100, kind)
    constant = torch.full((1, 1), size)
    assert float(made.normalized(constant)) == pytest.approx(0.0, abs=1e-3)
    torch.testing.assert_close(made.denormalized(torch.zeros(1, 1)), constant)
    assert float(made.normalized(constant * (1.0 + 1e-3))) == pytest.approx(0.0, abs=8.0)


@pytest.mark.parametrize("kind", ["limits", "gaussian"])
def test_what_float32_does_not_resolve_is_constant_and_what_it_does_is_not(kind):
    rng = np.random.default_rng(0)
    assert learned(1.7e9 + 128.0 * rng.integers(0, 2, 100), kind)[1] == (
        0,
    )  # two neighbouring numbers of float32
    made, flat = learned(4.5e6 + 40.0 * rng.random(100), kind)  # metres of a map's grid, 0.5 apart
    assert flat == () and float(made.normalized(torch.tensor([4.5e6 + 60.0]))) > 1.5


def test_statistics_refuse_numbers_that_are_not_finite():
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="feature 1 holds numbers that are not finite"):
            Normalization(2).learn(np.array([[0.0, 1.0], [1.0, bad]]), "gaussian")
    with pytest.raises(ValueError, match="at least one row"):
        Normalization(2).learn(np.zeros((0, 2)), "limits")


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
