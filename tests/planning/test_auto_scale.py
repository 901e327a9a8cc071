"""The rule stops where plans leave the data."""

import pytest
import torch

from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape
from unveil.planning.value_guidance import LEVELS, largest_unsurprising, surprise
from unveil.process.schedule import cosine_betas, tabulated

SCHEDULE = tabulated(cosine_betas(20))


class Exact(torch.nn.Module):
    """The mean belief for data N(0, s^2): alpha s^2 / (alpha^2 s^2 + sigma^2) x_t."""

    def forward(self, x, time, cond=None):
        t = (time.double() + 1.0) / 20
        a, s = SCHEDULE.alpha(t).float()[:, None, None], SCHEDULE.sigma(t).float()[:, None, None]
        return a * 0.25 / (a**2 * 0.25 + s**2) * x


def model() -> TrajectoryModel:
    return TrajectoryModel(TrajectoryShape(4, 20, 1, 2), Exact())


def test_surprise_is_the_expected_squared_error_in_closed_form():
    """For x = c: ((g alpha - 1) c)^2 + (g sigma)^2 with g the gain of the belief, averaged over levels;
    nothing at known numbers."""
    made, c = model(), 1.5
    found = surprise(made, torch.full((20_000, 4, 3), c)).mean()
    expected = 0.0
    for level in LEVELS:
        t = torch.tensor(level, dtype=torch.float64)
        a, s = float(SCHEDULE.alpha(t)), float(SCHEDULE.sigma(t))
        gain = a * 0.25 / (a**2 * 0.25 + s**2)
        expected += (((gain * a - 1) * c) ** 2 + (gain * s) ** 2) / len(LEVELS)
    assert float(found) == pytest.approx(
        expected * 10 / 12, rel=0.02
    )  # 2 of 12 numbers are the known first state


def test_the_largest_scale_within_the_data_is_taken():
    """Plans that are pushed away by their scale: N(scale, 0.5^2) against data N(0, 0.5^2)."""
    made, generator = model(), torch.Generator(device="cpu").manual_seed(5)
    recorded = 0.5 * torch.randn(4000, 4, 3, generator=generator)

    def plans(scale: float) -> torch.Tensor:
        return 0.4 * torch.randn(4000, 4, 3, generator=generator) + scale

    found, ratios = largest_unsurprising(made, plans, recorded, [0.0, 0.1, 0.2, 0.5, 1.0])
    assert found == 0.2
    assert ratios[0.0] < ratios[0.2] < 1.0 < ratios[0.5] < ratios[1.0]
    assert largest_unsurprising(made, plans, recorded, [1.0])[0] == 0.0


def test_a_trajectorys_surprise_does_not_depend_on_those_beside_it():
    torch.manual_seed(0)
    model = TrajectoryModel(TrajectoryShape(4, 10, 1, 2, width=8, multiples=(1, 2))).eval()
    x = torch.randn(5, 4, 3)
    together = surprise(model, x, seed=3)
    torch.testing.assert_close(surprise(model, x[:2], seed=3), together[:2])
    torch.testing.assert_close(surprise(model, x[4:], seed=7), together[4:])
