"""diffusers' schedulers as the oracle of our solvers: whole trajectories on Stable Diffusion's table, by a small
random network that predicts eps or v, with the same noise."""

import os
import sys
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unveil.process.denoiser import GaussianDenoiser
from unveil.process.grid import (
    exponential,
    karras,
    latent_consistency,
    leading,
    linspace,
    respaced,
    sgm_uniform,
    trailing,
)
from unveil.process.parameterization import eps, v
from unveil.process.schedule import Tabulated, log_snr
from unveil.sampling.gaussian import (
    DDIM,
    LCM,
    PNDM,
    DPMpp2M,
    DPMpp2MSDE,
    DPMppSDE,
    Euler,
    EulerAncestral,
    UniPC,
)
from unveil.sampling.loop import sample
from unveil.sampling.noise import Recorded

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked for
diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # of numpy, in diffusers

TABLE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
ENTRIES = {"set_alpha_to_one": False, "steps_offset": 1}
STEPS = (7, 20, 50)  # of which 7 does not divide 1000
KINDS = {"epsilon": eps, "v_prediction": v}


class Network(nn.Module):
    """Two convolutions, and the time; float64."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.into, self.out, self.time = 0.3 * drawn(8, 4, 3, 3), 0.2 * drawn(4, 8, 3, 3), drawn(8, 2)

    def forward(self, x: Tensor, time: Tensor, cond: object = None) -> Tensor:
        told = torch.stack([(time / 300.0).sin(), (time / 90.0).cos()], -1) @ self.time.T  # (B, 8)
        hidden = nn.functional.conv2d(x, self.into, padding=1) + told[:, :, None, None]
        return nn.functional.conv2d(hidden.tanh(), self.out, padding=1)


NETWORK = Network()


def normal(seed: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((2, 4, 5, 5), generator=generator, dtype=torch.float64) for _ in range(count)]


(NOISE,) = normal(1, 1)


def exact(kind: type, spacing: str = "", **options: Any) -> Any:
    """A scheduler whose table is in double precision, so that what is compared is the method."""
    if spacing:
        options["timestep_spacing"] = spacing
    scheduler = kind(**TABLE | options)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    scheduler.alphas_cumprod = torch.from_numpy(np.cumprod(1.0 - betas))
    if hasattr(scheduler, "final_alpha_cumprod"):
        last = 1.0 if options.get("set_alpha_to_one") else float(scheduler.alphas_cumprod[0])
        scheduler.final_alpha_cumprod = torch.tensor(last, dtype=torch.float64)
    return scheduler


@cache
def schedule() -> Tabulated:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return Tabulated((1.0 - betas).cumprod(0))


@torch.no_grad()
def theirs(scheduler: Any, first: Tensor, draws: str = "", noises: Sequence[Tensor] = ()) -> Tensor:
    """Their loop; each step is given one of the noises by the argument `draws`, if its name is given."""
    x, left = first, list(noises)
    for t in scheduler.timesteps:
        output = NETWORK(scheduler.scale_model_input(x, t), t.double().expand(2))
        told = {draws: left.pop(0)} if draws else {}
        x = scheduler.step(output, t, x, **told).prev_sample.double()
    return x


def ours(solver: Any, times: Tensor, first: Tensor, predicts: str, noises=(), time_input=None) -> Tensor:
    told = time_input or (lambda t: 1000.0 * t - 1.0)
    denoise = GaussianDenoiser(NETWORK, schedule(), KINDS[predicts], time_input=told)
    recorded = Recorded(noises)
    x = sample(denoise, solver, first, times, generator=recorded)
    assert recorded.used == len(noises)
    return x


def near(got: Tensor, wanted: Tensor, tolerance: float = 1e-6) -> None:
    """Relative to the largest number; most of their coefficients have single precision."""
    assert bool(wanted.isfinite().all())
    assert float((got - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


def ratios(times: Tensor) -> Tensor:
    """sigma / alpha at the times."""
    return (-0.5 * log_snr(schedule(), times)).exp()


def sigmas_of(scheduler: Any, times: Tensor) -> None:
    """Put our noise levels in place of their float32 ones."""
    scheduler.sigmas = ratios(times)


def started(times: Tensor) -> tuple[Tensor, Tensor]:
    """Their first state, of variance r^2, and ours: theirs is x / alpha."""
    alpha, sigma = (float(value) for value in (schedule().alpha(times[0]), schedule().sigma(times[0])))
    return sigma / alpha * NOISE, sigma * NOISE


def drawing(monkeypatch: pytest.MonkeyPatch, module: str, noises: list[Tensor]) -> None:
    left = list(noises)
    monkeypatch.setattr(
        f"diffusers.schedulers.{module}.randn_tensor", lambda *a, **k: left.pop(0), raising=True
    )


predictions = pytest.mark.parametrize("predicts", KINDS)
counts = pytest.mark.parametrize("steps", STEPS)


@predictions
@counts
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim_with_the_leading_grid_is_stable_diffusions(predicts, steps, eta):
    scheduler = exact(
        diffusers.DDIMScheduler, "leading", clip_sample=False, prediction_type=predicts, **ENTRIES
    )
    scheduler.set_timesteps(steps)
    noises, x = normal(2, steps), NOISE
    with torch.no_grad():
        for t, noise in zip(scheduler.timesteps, noises, strict=True):
            output = NETWORK(x, t.double().expand(2))
            x = scheduler.step(output, t, x, eta=eta, variance_noise=noise if eta else None).prev_sample
    times = leading(1000, steps)
    assert ((times[:-1] * 1000).round().long() - 1).tolist() == scheduler.timesteps.tolist()
    near(ours(DDIM(schedule(), eta), times, NOISE, predicts, noises if eta else []), x, 1e-11)


@predictions
@counts
def test_pndm_mixes_what_theirs_mixes(predicts, steps):
    """The second time twice; with v the raw outputs are mixed, which is another solver than mixing eps."""
    scheduler = exact(
        diffusers.PNDMScheduler, "leading", skip_prk_steps=True, prediction_type=predicts, **ENTRIES
    )
    scheduler.set_timesteps(steps)
    assert len(scheduler.timesteps) == steps + 1 and scheduler.timesteps[1] == scheduler.timesteps[2]
    wanted = theirs(scheduler, NOISE)
    mixed = {
        kind: ours(PNDM(schedule(), kind), leading(1000, steps), NOISE, predicts) for kind in ("eps", "v")
    }
    own, other = ("eps", "v") if predicts == "epsilon" else ("v", "eps")
    near(mixed[own], wanted, 1e-11)
    assert float((mixed[other] - wanted).abs().max()) > 1e-3 * float(wanted.abs().max())


@predictions
@counts
@pytest.mark.parametrize("grid", ["linspace", "leading", "trailing", "karras"])
def test_dpmpp_2m_is_the_default_of_their_multistep_scheduler(predicts, steps, grid):
    named = {"use_karras_sigmas": True} if grid == "karras" else {"timestep_spacing": grid}
    kind = diffusers.DPMSolverMultistepScheduler
    scheduler = exact(kind, prediction_type=predicts, steps_offset=1, **named)
    scheduler.set_timesteps(steps)
    times = multistep_times(grid, steps)
    scheduler.sigmas = scheduler.sigmas.double()
    torch.testing.assert_close(ratios(times), scheduler.sigmas, rtol=2e-7, atol=0)
    got = ours(DPMpp2M(schedule()), times, NOISE, predicts, time_input=told_of(grid))
    near(got, theirs(scheduler, NOISE))


def multistep_times(grid: str, steps: int) -> Tensor:
    """Of their multi-step schedulers."""
    if grid == "karras":
        low, high = ratios(torch.tensor([0.001, 1.0], dtype=torch.float64)).tolist()
        return karras(schedule(), steps, low, high)
    if grid == "linspace":
        return sgm_uniform(1000, steps, rounded=True)
    if grid == "leading":
        times = leading(1000, steps + 1, end=0)
        return torch.cat([times[:-2], times[-1:]])
    return trailing(1000, steps)


def told_of(grid: str) -> Any:
    """Their multi-step schedulers call the network at whole entries, also if its noise level is another."""
    return (lambda t: (1000.0 * t - 1.0).round()) if grid == "karras" else None


@predictions
@counts
@pytest.mark.parametrize("grid", ["linspace", "karras"])
def test_dpmpp_2m_sde_is_their_multistep_scheduler_with_the_same_noise(predicts, steps, grid):
    scheduler = exact(
        diffusers.DPMSolverMultistepScheduler,
        prediction_type=predicts,
        algorithm_type="sde-dpmsolver++",
        use_karras_sigmas=grid == "karras",
    )
    scheduler.set_timesteps(steps)
    scheduler.sigmas = scheduler.sigmas.double()
    noises, times = normal(3, steps), multistep_times(grid, steps)
    wanted = theirs(scheduler, NOISE, "variance_noise", noises)
    # the last of their draws has the factor 0
    near(ours(DPMpp2MSDE(schedule()), times, NOISE, predicts, noises[:-1], told_of(grid)), wanted)
    deterministic = ours(DPMpp2MSDE(schedule(), 0.0), times, NOISE, predicts)
    torch.testing.assert_close(
        deterministic, ours(DPMpp2M(schedule()), times, NOISE, predicts), rtol=1e-9, atol=1e-9
    )


@predictions
@counts
@pytest.mark.parametrize("grid", ["linspace", "karras"])
@pytest.mark.parametrize(("order", "variant"), [(1, "bh2"), (2, "bh2")])
def test_unipc_is_theirs(predicts, steps, grid, order, variant):
    scheduler = exact(
        diffusers.UniPCMultistepScheduler,
        prediction_type=predicts,
        solver_order=order,
        solver_type=variant,
        use_karras_sigmas=grid == "karras",
    )
    scheduler.set_timesteps(steps)
    scheduler.sigmas = scheduler.sigmas.double()
    got = ours(
        UniPC(schedule(), order, variant),
        multistep_times(grid, steps),
        NOISE,
        predicts,
        time_input=told_of(grid),
    )
    near(got, theirs(scheduler, NOISE))


@pytest.mark.parametrize(("order", "variant"), [(2, "bh1"), (3, "bh1"), (3, "bh2")])
def test_unipc_of_other_orders_is_theirs_until_they_lower_it(order, variant):
    """Up to the last step but one, at which theirs knows that the end is near."""
    scheduler = exact(diffusers.UniPCMultistepScheduler, solver_order=order, solver_type=variant)
    scheduler.set_timesteps(20)
    times = sgm_uniform(1000, 20, rounded=True)
    scheduler.sigmas, scheduler.timesteps = scheduler.sigmas.double(), scheduler.timesteps[:18]
    scheduler.register_to_config(lower_order_final=False)
    wanted = theirs(scheduler, NOISE)
    near(ours(UniPC(schedule(), order, variant), times[:19], NOISE, "epsilon"), wanted)


WHOLE = (4, 10, 28)  # steps with whole entries in their Euler schedulers' linspace


@predictions
@pytest.mark.parametrize("steps", [*STEPS, *WHOLE])
def test_euler_is_theirs(predicts, steps):
    """With their own noise levels where times are entries, and with k-diffusion's, log-linear between them."""
    scheduler = exact(diffusers.EulerDiscreteScheduler, prediction_type=predicts)
    scheduler.set_timesteps(steps)
    times = linspace(1000, steps)
    torch.testing.assert_close(scheduler.timesteps.double(), 1000.0 * times[:-1] - 1.0, rtol=1e-6, atol=1e-4)
    if steps in WHOLE:
        torch.testing.assert_close(scheduler.sigmas.double(), ratios(times), rtol=2e-6, atol=0)
    scheduler.sigmas, scheduler.timesteps = ratios(times), 1000.0 * times[:-1] - 1.0
    first, own = started(times)
    near(ours(Euler(schedule()), times, own, predicts), theirs(scheduler, first))


@predictions
@pytest.mark.parametrize("steps", [7, 20])
@pytest.mark.parametrize("grid", ["karras", "exponential", "trailing"])
def test_euler_is_theirs_on_other_grids(predicts, steps, grid):
    named = {"timestep_spacing": "trailing"} if grid == "trailing" else {f"use_{grid}_sigmas": True}
    scheduler = exact(diffusers.EulerDiscreteScheduler, prediction_type=predicts, **named)
    scheduler.set_timesteps(steps)
    low, high = ratios(torch.tensor([0.001, 1.0], dtype=torch.float64)).tolist()
    times = {
        "karras": lambda: karras(schedule(), steps, low, high),
        "exponential": lambda: exponential(schedule(), steps, low, high),
        "trailing": lambda: trailing(1000, steps),
    }[grid]()
    torch.testing.assert_close(scheduler.sigmas.double(), ratios(times), rtol=1e-6, atol=0)
    first, own = started(times)
    near(ours(Euler(schedule()), times, own, predicts), theirs(scheduler, first), 1e-5)


@predictions
@counts
def test_euler_ancestral_is_theirs_with_the_same_noise(predicts, steps, monkeypatch):
    scheduler = exact(diffusers.EulerAncestralDiscreteScheduler, prediction_type=predicts)
    scheduler.set_timesteps(steps)
    times, noises = linspace(1000, steps), normal(4, steps)
    sigmas_of(scheduler, times)
    scheduler.timesteps = 1000.0 * times[:-1] - 1.0
    drawing(monkeypatch, "scheduling_euler_ancestral_discrete", noises)
    first, own = started(times)
    near(ours(EulerAncestral(schedule()), times, own, predicts, noises), theirs(scheduler, first))


@predictions
@counts
def test_dpmpp_sde_is_theirs_along_one_brownian_path(predicts, steps, monkeypatch):
    """Their noise sampler replaced by one Brownian path, made of the numbers that ours draws."""
    stub = ModuleType("torchsde")
    stub.__dict__["BrownianInterval"] = None
    monkeypatch.setitem(sys.modules, "torchsde", stub)
    from diffusers.schedulers.scheduling_dpmsolver_sde import DPMSolverSDEScheduler

    scheduler = exact(DPMSolverSDEScheduler, prediction_type=predicts, use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    low, high = ratios(torch.tensor([0.001, 1.0], dtype=torch.float64)).tolist()
    times = karras(schedule(), steps, low, high)
    levels = ratios(times)
    torch.testing.assert_close(
        scheduler.sigmas.double(),
        torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]]),
        rtol=1e-6,
        atol=0,
    )
    noises = normal(5, 2 * (steps - 1))
    left, path = list(noises), {}

    def along(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """W(sigma) - W(sigma_next), scaled to variance 1."""
        t, s = float(sigma), float(sigma_next)
        if path.get("from") != t:
            path.update({"from": t, "to": s, "part": (t - s) ** 0.5 * left.pop(0)})
            return path["part"] / (t - s) ** 0.5
        rest = (path["to"] - s) ** 0.5 * left.pop(0)
        return (path["part"] + rest) / (t - s) ** 0.5

    scheduler.noise_sampler = along
    first, own = started(times)
    near(ours(DPMppSDE(schedule()), times, own, predicts, noises), theirs(scheduler, first), 1e-5)


@predictions
@pytest.mark.parametrize("steps", [1, 4, 7, 8])
def test_lcm_is_theirs_with_the_same_noise(predicts, steps, monkeypatch):
    scheduler = exact(diffusers.LCMScheduler, prediction_type=predicts)
    scheduler.set_timesteps(steps)
    times, noises = latent_consistency(1000, steps), normal(6, steps - 1)
    drawing(monkeypatch, "scheduling_lcm", noises)
    near(ours(LCM(schedule()), times, NOISE, predicts, noises), theirs(scheduler, NOISE))


def test_the_boundary_of_lcm_matters_at_the_first_entries():
    """Their step at the table's second entry, where c_skip is 0.0025."""
    scheduler = exact(diffusers.LCMScheduler)
    scheduler.set_timesteps(timesteps=[1])
    times = torch.tensor([0.002, 0.0], dtype=torch.float64)
    near(ours(LCM(schedule()), times, NOISE, "epsilon"), theirs(scheduler, NOISE))


def test_grids_have_their_times():
    def entries(times: Tensor) -> list[int]:
        return ((times[:-1] * 1000).round().long() - 1).tolist()

    for steps in range(1, 51):
        scheduler = diffusers.LCMScheduler()
        scheduler.set_timesteps(steps)
        assert entries(latent_consistency(1000, steps)) == scheduler.timesteps.tolist()
    for steps in (2, 3, 7, 9, 20, 30, 50, 333, 500, 999):
        of = {}
        for spacing in ("linspace", "leading", "trailing"):
            scheduler = diffusers.DDIMScheduler(**TABLE | ENTRIES, timestep_spacing=spacing)
            scheduler.set_timesteps(steps)
            of[spacing] = scheduler.timesteps.tolist()
        assert entries(leading(1000, steps)) == of["leading"]
        assert entries(trailing(1000, steps)) == of["trailing"]
        assert entries(respaced(1000, (steps,))) == of["linspace"]
        scheduler = diffusers.UniPCMultistepScheduler(**TABLE)
        scheduler.set_timesteps(steps)
        assert entries(sgm_uniform(1000, steps, rounded=True)) == scheduler.timesteps.tolist()
