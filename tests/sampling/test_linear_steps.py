"""A solver's steps as numbers give the samples of the solver itself."""

import pytest
import torch

from unveil.process.denoised import GaussianDenoised
from unveil.process.grid import trailing, uniform
from unveil.process.schedule import Flow, cosine_betas, tabulated
from unveil.sampling.dpmpp import DPMpp2MSDE, DPMppSDE
from unveil.sampling.edit import Inpaint
from unveil.sampling.gaussian import DDIM, Ancestral, Consistency, DPMpp2M, Heun
from unveil.sampling.linear_steps import linear_steps, replay
from unveil.sampling.loop import sample
from unveil.sampling.noise import Recorded
from unveil.sampling.unipc import UniPC

TABLE = tabulated(cosine_betas(40))
SOLVERS = {
    "ddim": DDIM(TABLE),
    "ddim with noise": DDIM(TABLE, eta=0.7),
    "ancestral": Ancestral(TABLE, temperature=0.5),
    "large": Ancestral(TABLE, "large"),
    "dpmpp": DPMpp2M(TABLE),
    "sde": DPMpp2MSDE(TABLE),
    "single step": DPMppSDE(TABLE),
    "heun": Heun(TABLE),
    "consistency": Consistency(TABLE),
    "unipc": UniPC(TABLE),
}


def nonlinear(x, t):
    return torch.tanh(1.3 * x + 0.2) * float(t.reshape(-1)[0] + 0.5)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_sample_is_that_of_the_solver(name):
    """With a denoiser that is not linear, with inpainted numbers, in as many calls and draws."""
    times = trailing(40, 7) if name != "single step" else uniform(7, start=0.95)
    generator = torch.Generator().manual_seed(0)
    x, value = torch.randn((2, 5, 3, 2), generator=generator, dtype=torch.float64)
    noise = torch.randn((40, 5, 3, 2), generator=generator, dtype=torch.float64)
    known = torch.zeros((1, 3, 1), dtype=torch.bool)
    known[:, 0] = True
    calls = [0, 0]

    def denoise(x_t, t):
        calls[0] += 1
        return GaussianDenoised(nonlinear(x_t, t))

    def mean(x_t, time):
        calls[1] += 1
        return nonlinear(x_t, torch.tensor(time, dtype=torch.float64))

    drawn = Recorded(list(noise))
    wanted = sample(denoise, SOLVERS[name], x, times, edit=Inpaint(known, value), generator=drawn)
    steps = linear_steps(SOLVERS[name], times)
    assert steps.draws == drawn.used
    got = replay(steps, mean, x, list(noise[: steps.draws]), lambda x: torch.where(known, value, x))
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    assert calls[0] == calls[1]


def test_euler_of_flow_matching_in_one_step_is_the_mean():
    steps = linear_steps(DDIM(Flow()), uniform(1))
    assert [[(t.kind, t.number, t.factor) for t in step.result] for step in steps.steps] == [
        [("mean", 0, 1.0)]
    ]


def test_what_is_not_linear_or_not_given_is_refused():
    with pytest.raises(ValueError, match="learned variance"):
        linear_steps(Ancestral(TABLE, "learned"), trailing(40, 2))
    steps = linear_steps(Ancestral(TABLE), trailing(40, 3))
    with pytest.raises(ValueError, match="2 draws of noise are needed, got 0"):
        replay(steps, lambda x, t: x, torch.zeros(1, 2))
