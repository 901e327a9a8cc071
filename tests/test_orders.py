"""The empirical order of convergence of every solver, on every schedule: a wrong coefficient lowers it."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from analytic import CONTINUOUS, GaussianData, MixtureData
from unveil.process.grid import uniform
from unveil.process.schedule import Cosine, Flow, Karras, LinearBeta, ScaledLinearBeta
from unveil.sampling.gaussian import (
    DDIM,
    PNDM,
    Ancestral,
    DPMpp2M,
    DPMpp2MSDE,
    DPMppSDE,
    Euler,
    EulerAncestral,
    Heun,
    UniPC,
)
from unveil.sampling.loop import sample
from unveil.sampling.noise import Recorded

SCHEDULES = [LinearBeta(), Cosine(), ScaledLinearBeta(), Flow(), Karras(sigma_max=10.0)]
START, END = 0.9, 0.2  # away from the ends, where schedules are singular


def order(errors: list[float], steps: list[int]) -> float:
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


DETERMINISTIC = {
    "DDIM": (DDIM, 1),
    "Heun": (Heun, 2),
    "DPMpp2M": (DPMpp2M, 2),
    "Euler": (Euler, 1),
    "DPMpp2MSDE-0": (lambda s: DPMpp2MSDE(s, 0.0), 2),
    "DPMppSDE-0": (lambda s: DPMppSDE(s, 0.0), 2),
    "PNDM-v": (lambda s: PNDM(s, "v"), 1),
    "UniPC-1": (lambda s: UniPC(s, 1), 2),  # its corrector adds 1
}


@pytest.mark.parametrize(("solver", "expected"), DETERMINISTIC.values(), ids=DETERMINISTIC)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_deterministic_solvers_converge_at_their_order(solver, expected, schedule):
    belief = GaussianData(schedule, 0.7, 0.3)
    t, s = torch.tensor(START, dtype=torch.float64), torch.tensor(END, dtype=torch.float64)
    x = torch.tensor([[-1.3], [0.2], [2.0]], dtype=torch.float64) * float(schedule.sigma(t))
    exact = belief.flowed(x, t, s)
    steps = [32, 64, 128]
    errors = [
        float((sample(belief, solver(schedule), x, uniform(n, START, END)) - exact).abs().max())
        for n in steps
    ]
    assert order(errors, steps) == pytest.approx(expected, abs=0.2), errors


@cache
def fine_reference() -> torch.Tensor:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    return sample(MixtureData(Cosine()), Heun(Cosine()), x, uniform(2000, START, END))


NONLINEAR = DETERMINISTIC | {
    "PNDM": (PNDM, 2),
    "UniPC": (UniPC, 3),
    "UniPC-bh1": (lambda s: UniPC(s, 2, "bh1"), 3),
}


@pytest.mark.parametrize(("solver", "expected"), NONLINEAR.values(), ids=NONLINEAR)
def test_orders_hold_on_a_nonlinear_denoiser(solver, expected):
    schedule = Cosine()
    belief, x = MixtureData(schedule), torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    exact = fine_reference()
    steps = [64, 128, 256]
    errors = [
        float((sample(belief, solver(schedule), x, uniform(n, START, END)) - exact).abs().max())
        for n in steps
    ]
    assert order(errors, steps) == pytest.approx(expected, abs=0.25), errors


@pytest.mark.parametrize("kind", ["small", "large"])
@pytest.mark.parametrize("schedule", SCHEDULES[:4], ids=lambda s: type(s).__name__)
def test_ancestral_sampling_converges_weakly_at_order_1(kind, schedule):
    """For Gaussian data a step is x_s = k x_t + c + N(0, v), so mean and variance of the samples follow
    exactly."""
    belief = GaussianData(schedule, 0.7, 0.3)
    probe = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    steps, errors = [32, 64, 128], []
    for n in steps:
        times = uniform(n, START, END)
        mean, deviation = belief.marginal(times[0])
        variance = deviation**2
        for t, s in pairwise(times):
            still, _ = Ancestral(schedule, kind, temperature=0.0).step(belief, probe, t, s, None, None)
            moved, _ = Ancestral(schedule, kind).step(
                belief, probe, t, s, None, torch.Generator().manual_seed(0)
            )
            noise = torch.randn((2, 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            added = float(((moved - still) / noise)[0]) ** 2
            gain, shift = float(still[1] - still[0]), float(still[0])
            mean, variance = gain * mean + shift, gain**2 * variance + added
        wanted_mean, wanted = belief.marginal(times[-1])
        errors.append(abs(mean - wanted_mean) + abs(variance**0.5 - wanted))
    assert order(errors, steps) == pytest.approx(1.0, abs=0.2), errors


ABOVE_2 = {"PNDM": (PNDM, 1.4), "UniPC": (UniPC, 2.5), "UniPC-3": (lambda s: UniPC(s, 3), 2.8)}


@pytest.mark.parametrize(("solver", "least"), ABOVE_2.values(), ids=ABOVE_2)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_multistep_solvers_beat_heun_with_half_the_calls(solver, least, schedule):
    """Their order is not reached yet at so few steps, where the first steps, of lower order, still count."""
    belief = GaussianData(schedule, 0.7, 0.3)
    t, s = torch.tensor(START, dtype=torch.float64), torch.tensor(END, dtype=torch.float64)
    x = torch.tensor([[-1.3], [0.2], [2.0]], dtype=torch.float64) * float(schedule.sigma(t))
    exact, steps = belief.flowed(x, t, s), [32, 64, 128]

    def errors(make) -> list[float]:
        return [
            float((sample(belief, make(schedule), x, uniform(n, START, END)) - exact).abs().max())
            for n in steps
        ]

    got = errors(solver)
    assert order(got, steps) > least, got
    assert got[-1] < 0.5 * errors(Heun)[-1]


def gaussian_marginal(belief, solver, times, draws: int) -> tuple[float, float]:
    """Mean and deviation of the samples, exactly: for Gaussian data they are affine in the first state and in
    each number drawn, so one row for each gives its factor."""
    rows = 2 + draws
    x = torch.zeros((rows, 1), dtype=torch.float64)
    x[1] = 1.0
    noises = torch.eye(rows, dtype=torch.float64)[2:, :, None]
    recorded = Recorded(list(noises))
    out = sample(belief, solver, x, times, generator=recorded)[:, 0]
    assert recorded.used == draws
    mean, deviation = belief.marginal(times[0])
    gain, *each = (out[1:] - out[0]).tolist()
    return float(out[0]) + gain * mean, sum(f**2 for f in (gain * deviation, *each)) ** 0.5


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    ("solver", "draws", "expected"),
    [
        (lambda s, n: EulerAncestral(s), 1, 1),
        (lambda s, n: EulerAncestral(s, 0.5), 1, 1),
        (lambda s, n: Euler(s, churn=2.0 / n), 1, 1),
        (lambda s, n: DPMpp2MSDE(s), 1, 2),
        (lambda s, n: DPMpp2MSDE(s, 0.5), 1, 2),
        (lambda s, n: DPMppSDE(s), 2, 2),
        (lambda s, n: DPMppSDE(s, 0.5), 2, 2),
    ],
    ids=["EulerA", "EulerA-0.5", "churn", "2MSDE", "2MSDE-0.5", "SDE", "SDE-0.5"],
)
def test_stochastic_solvers_keep_the_marginal(solver, draws, expected, schedule):
    """Weak order of convergence; the mean of the samples is exact."""
    belief, steps, errors = GaussianData(schedule, 0.7, 0.3), [32, 64, 128], []
    for n in steps:
        times = uniform(n, START, END)
        mean, deviation = gaussian_marginal(belief, solver(schedule, n), times, draws * n)
        wanted_mean, wanted = belief.marginal(times[-1])
        assert mean == pytest.approx(wanted_mean, abs=1e-12)
        errors.append(abs(deviation - wanted))
    assert order(errors, steps) == pytest.approx(expected, abs=0.2), errors


@pytest.mark.parametrize("schedule", CONTINUOUS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    ("solver", "steps"),
    [
        (DDIM, 120),
        (lambda s: DDIM(s, 0.5), 200),
        (lambda s: DDIM(s, 1.0), 200),
        (Ancestral, 200),
        (Heun, 50),
        (DPMpp2M, 50),
    ],
    ids=["DDIM", "DDIM-0.5", "DDIM-1", "Ancestral", "Heun", "DPMpp2M"],
)
def test_every_solver_recovers_a_mixture(solver, steps, schedule):
    """Weights within 3 %, component means and deviation within 0.04, from 8,000 samples."""
    belief = MixtureData(schedule)
    generator = torch.Generator().manual_seed(0)
    times = uniform(steps)
    x = float(schedule.sigma(times[0])) * torch.randn((8000, 1), generator=generator, dtype=torch.float64)
    out = sample(belief, solver(schedule), x, times, generator=generator)[:, 0]
    nearest = (out[:, None] - belief.means).abs().argmin(1)
    for k in range(3):
        part = out[nearest == k]
        assert len(part) / len(out) == pytest.approx(float(belief.weights[k]), abs=0.03)
        assert float(part.mean()) == pytest.approx(float(belief.means[k]), abs=0.04)
        assert float(part.std()) == pytest.approx(belief.deviation, abs=0.04)


def test_churn_keeps_the_distribution():
    schedule = Karras(sigma_max=10.0)
    belief = MixtureData(schedule)
    generator = torch.Generator().manual_seed(0)
    x = 10.0 * torch.randn((8000, 1), generator=generator, dtype=torch.float64)
    out = sample(
        belief, Heun(schedule, churn=0.3, churn_range=(0.05, 5.0)), x, uniform(60), generator=generator
    )[:, 0]
    shares = [float(((out[:, None] - belief.means).abs().argmin(1) == k).double().mean()) for k in range(3)]
    assert shares == pytest.approx([0.3, 0.5, 0.2], abs=0.03)
    still = sample(belief, Heun(schedule), x, uniform(60))
    assert float((out - still[:, 0]).abs().mean()) > 0.01  # and it does something
