"""The boundary condition, the fixed point of consistency distillation, and students of Gaussians against the exact flow."""

import pytest
import torch
from torch import nn

from analytic import GaussianData
from unveil.process.denoised import GaussianDenoised
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.grid import uniform
from unveil.process.parameterization import EDM, eps, flow, v, x0
from unveil.process.schedule import Cosine, Flow
from unveil.sampling.gaussian import DDIM, Consistency
from unveil.sampling.loop import sample
from unveil.training.distillation import consistency_loss, neighbours


class Lines(nn.Module):
    """F = a_i x + b_i at grid time i: holds the flow of a Gaussian exactly."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.slope, self.offset = nn.Parameter(torch.zeros(steps + 1).double()), nn.Parameter(torch.zeros(steps + 1).double())
        self.steps = steps

    def forward(self, x, time, cond=None):
        place = (time * self.steps).round().long()
        return self.slope[place, None] * x + self.offset[place, None]


@pytest.mark.parametrize("parameterization", [eps, v, flow, EDM(0.7)])
def test_at_time_0_a_student_says_what_it_sees(parameterization, generator):
    x, t = torch.randn((4, 3), generator=generator, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    network = lambda x, time, cond: torch.full_like(x, 7.0)  # noqa: E731
    for schedule in (Cosine(), Flow()):
        torch.testing.assert_close(GaussianDenoiser(Called(network), schedule, parameterization)(x, t).mean, x)
        assert not torch.allclose(GaussianDenoiser(Called(network), schedule, x0)(x, t).mean, x)


class Called(nn.Module):
    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x, time, cond=None):
        return self.call(x, time, cond)


@pytest.mark.parametrize(("schedule", "parameterization"), [(Cosine(), v), (Flow(), flow)])
def test_the_student_of_a_gaussian_becomes_the_flow(schedule, parameterization):
    """N(0.4, 0.5^2): the student is the teacher's 16 DDIM steps in one, to 1 %, and so near the exact flow; a target at the wrong
    neighbour, or a student that learned the belief E[x_0 | x_t] instead, whose spread at t = 1 is 0, would miss both."""
    steps, data, generator = 16, GaussianData(schedule, 0.4, 0.5), torch.Generator().manual_seed(0)
    grid, student = uniform(steps), GaussianDenoiser(Lines(steps), schedule, parameterization)
    optimizer = torch.optim.Adam(student.parameters(), 0.05)
    turns = 500
    for turn in range(turns):
        for options in optimizer.param_groups:
            options["lr"] = 0.05 * (1 - turn / turns)
        clean, noise = (torch.randn((128, 1), generator=generator, dtype=torch.float64) for _ in range(2))
        t, s = neighbours(grid, 128, generator)
        optimizer.zero_grad()
        consistency_loss(student, data, schedule, 0.4 + 0.5 * clean, t, s, noise, huber=0.3).mean().backward()
        optimizer.step()
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    one, start = torch.ones(9, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    said = student(x, one).mean
    torch.testing.assert_close(said, sample(data, DDIM(schedule), x, grid), rtol=0.0, atol=0.04)
    torch.testing.assert_close(said, data.flowed(x, start, torch.zeros_like(start)), rtol=0.0, atol=0.12)


def test_the_fixed_point_has_no_loss_and_known_numbers_do_not_count(generator):
    """From t to 0 in one step, the student that says the teacher's belief is right, whatever it says of known numbers."""
    schedule, data = Cosine(), GaussianData(Cosine())
    x_0, noise = torch.randn((2, 6, 3), generator=generator, dtype=torch.float64)
    t, s = torch.full((6,), 0.5, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    known = torch.tensor([True, False, False])

    def student(x, time):
        """Where DDIM's one step from t to 0 ends: the belief; at 0 what it sees, wrong by 5 where it is known."""
        end = data(x, time).mean if float(time[0]) else x
        return GaussianDenoised(torch.where(known, end + 5.0 * time[:, None], end))

    loss = consistency_loss(student, data, schedule, x_0, t, s, noise, known=known)
    torch.testing.assert_close(loss, torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0)
    assert bool((consistency_loss(student, data, schedule, x_0, t, s, noise) > 1).all())


def test_neighbours_are_neighbours(generator):
    grid = uniform(4)
    t, s = neighbours(grid, 200, generator)
    torch.testing.assert_close(t - s, torch.full((200,), 0.25, dtype=torch.float64))
    assert set(t.tolist()) == {0.25, 0.5, 0.75, 1.0}


def test_samples_of_several_steps_keep_the_distribution(generator):
    """With the exact flow, ends and fresh noise keep N(0.4, 0.5^2); a noise of the last state instead of a fresh one would, too, but a
    factor alpha too few would not."""
    schedule, data = Cosine(), GaussianData(Cosine(), 0.4, 0.5)

    def end(x, t):
        return GaussianDenoised(data.flowed(x, t[:1], torch.zeros_like(t[:1])))

    x = torch.randn((20_000, 1), generator=generator, dtype=torch.float64)
    drawn = sample(end, Consistency(schedule), x, uniform(3), generator=generator)
    assert float(drawn.mean()) == pytest.approx(0.4, abs=0.015) and float(drawn.std()) == pytest.approx(0.5, rel=0.03)
