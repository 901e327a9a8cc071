"""A time that all rows share is read once, and its numbers are those of the rows' own arithmetic."""

import pytest
import torch

from unveil.process.denoiser import GaussianDenoiser
from unveil.process.parameterization import eps, flow, v, x0
from unveil.process.schedule import Cosine, Flow, cached, cosine_betas, one_time, tabulated


class Halving(torch.nn.Module):
    """Half of x, plus the time."""

    def forward(self, x, time, cond=None):
        return 0.5 * x + time[:, None]


@pytest.mark.parametrize(
    ("schedule", "parameterization"),
    [(tabulated(cosine_betas(100)), eps), (Cosine(), v), (Flow(), flow), (Cosine(), x0)],
)
def test_expanded_times_give_the_same_bits(schedule, parameterization, generator):
    denoiser = GaussianDenoiser(Halving(), schedule, parameterization, lambda t: 100.0 * t - 1.0)
    x = torch.randn(3, 5, generator=generator)
    for time in (0.97, 0.5, 0.01, 0.5):
        t = torch.tensor(time, dtype=torch.float64)
        for rows in (1, 3):
            once, each = (
                denoiser(x[:rows], t.expand(rows)).mean,
                denoiser(x[:rows], t.repeat(rows) + torch.zeros(rows)).mean,
            )
            torch.testing.assert_close(once, each, rtol=0, atol=0)


def test_which_times_are_one():
    t = torch.tensor(0.25, dtype=torch.float64)
    assert one_time(t) == one_time(t.expand(4)) == one_time(t[None]) == 0.25
    assert one_time(torch.tensor([0.25, 0.5])) is None and one_time(torch.zeros(0)) is None


def test_a_step_is_computed_once_for_each_schedule():
    seen = []

    @cached
    def found(schedule: object, t: float) -> float:
        seen.append((schedule, t))
        return t + (schedule == Cosine(0.5))

    assert [
        found(Cosine(), 0.5),
        found(Cosine(), 0.5),
        found(Cosine(0.5), 0.5),
        found([], 0.5),
        found([], 0.5),
    ] == [0.5, 0.5, 1.5, 0.5, 0.5]
    assert len(seen) == 4  # a list has no hash: it is computed each time
