"""The boundary condition, trajectories, and students of Gaussians against the exact flow."""

import pytest
import torch
from torch import nn

from analytic import GaussianData
from unveil.process.denoised import GaussianDenoised
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.grid import uniform
from unveil.process.parameterization import EDM, eps, flow, v, x0
from unveil.process.schedule import Cosine, Flow
from unveil.sampling.edit import Inpaint
from unveil.sampling.gaussian import DDIM, Consistency
from unveil.sampling.loop import sample
from unveil.training.distillation import end_loss, trajectory


class Lines(nn.Module):
    """F = a_i x + b_i at grid time i: holds the flow of a Gaussian exactly."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.slope, self.offset = (
            nn.Parameter(torch.zeros(steps + 1).double()),
            nn.Parameter(torch.zeros(steps + 1).double()),
        )
        self.steps = steps

    def forward(self, x, time, cond=None):
        place = (time * self.steps).round().long()
        return self.slope[place, None] * x + self.offset[place, None]


@pytest.mark.parametrize("parameterization", [eps, v, flow, EDM(0.7)])
def test_at_time_0_a_student_says_what_it_sees(parameterization, generator):
    x, t = torch.randn((4, 3), generator=generator, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    network = lambda x, time, cond: torch.full_like(x, 7.0)  # noqa: E731
    for schedule in (Cosine(), Flow()):
        torch.testing.assert_close(
            GaussianDenoiser(Called(network), schedule, parameterization)(x, t).mean, x
        )
        assert not torch.allclose(GaussianDenoiser(Called(network), schedule, x0)(x, t).mean, x)


class Called(nn.Module):
    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x, time, cond=None):
        return self.call(x, time, cond)


@pytest.mark.parametrize(("schedule", "parameterization"), [(Cosine(), v), (Flow(), flow)])
def test_the_student_of_a_gaussian_becomes_the_flow(schedule, parameterization):
    """N(0.4, 0.5^2): the student is the teacher's 16 DDIM steps in one, to 1 %, from everywhere on the way,
    and so near the exact flow; one that learned the belief E[x_0 | x_t] instead, whose spread at t = 1 is 0,
    would miss it."""
    steps, data, generator = 16, GaussianData(schedule, 0.4, 0.5), torch.Generator().manual_seed(0)
    grid, student = uniform(steps), GaussianDenoiser(Lines(steps), schedule, parameterization)
    optimizer = torch.optim.Adam(student.parameters(), 0.05)
    turns = 500
    for turn in range(turns):
        for options in optimizer.param_groups:
            options["lr"] = 0.05 * (1 - turn / turns)
        states = trajectory(
            data, schedule, torch.randn((128, 1), generator=generator, dtype=torch.float64), grid
        )
        places = torch.randint(steps, (128,), generator=generator)
        optimizer.zero_grad()
        end_loss(
            student, states[places, torch.arange(128)], grid[places], states[-1], huber=0.3
        ).mean().backward()
        optimizer.step()
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    for start in (0, 6):
        said = student(x, grid[start].expand(9)).mean
        torch.testing.assert_close(said, sample(data, DDIM(schedule), x, grid[start:]), rtol=0.0, atol=0.04)
    torch.testing.assert_close(
        student(x, grid[0].expand(9)).mean, data.flowed(x, grid[:1], grid[-1:]), rtol=0.0, atol=0.12
    )


def test_a_trajectory_is_the_samplers_and_keeps_what_is_known(generator):
    schedule, data, times = Cosine(), GaussianData(Cosine(), 0.4, 0.5), uniform(5)
    noise = torch.randn((4, 3), generator=generator, dtype=torch.float64)
    states = trajectory(data, schedule, noise, times)
    torch.testing.assert_close(states[0], noise)
    for i in range(5):
        torch.testing.assert_close(states[i + 1], sample(data, DDIM(schedule), states[i], times[i : i + 2]))
    known = torch.tensor([True, False, False])
    kept = trajectory(
        data, schedule, noise, times, Inpaint(known, torch.full((3,), 7.0, dtype=torch.float64))
    )
    assert bool((kept[:, :, 0] == 7.0).all())
    torch.testing.assert_close(kept[:, :, 1:], states[:, :, 1:])


def test_known_numbers_do_not_count(generator):
    known, end = (
        torch.tensor([True, False, False]),
        torch.randn((6, 3), generator=generator, dtype=torch.float64),
    )
    t = torch.ones(6, dtype=torch.float64)

    def student(x, time):
        return GaussianDenoised(torch.where(known, end + 5.0, end))

    torch.testing.assert_close(
        end_loss(student, end, t, end, known=known), torch.zeros(6, dtype=torch.float64)
    )
    torch.testing.assert_close(
        end_loss(student, end, t, end, huber=0.0), torch.full((6,), 5.0, dtype=torch.float64)
    )


def test_samples_of_several_steps_keep_the_distribution(generator):
    """With the exact flow, ends and fresh noise keep N(0.4, 0.5^2); a noise of the last state instead of a
    fresh one would, too, but a factor alpha too few would not."""
    schedule, data = Cosine(), GaussianData(Cosine(), 0.4, 0.5)

    def end(x, t):
        return GaussianDenoised(data.flowed(x, t[:1], torch.zeros_like(t[:1])))

    x = torch.randn((20_000, 1), generator=generator, dtype=torch.float64)
    drawn = sample(end, Consistency(schedule), x, uniform(3), generator=generator)
    assert float(drawn.mean()) == pytest.approx(0.4, abs=0.015) and float(drawn.std()) == pytest.approx(
        0.5, rel=0.03
    )
