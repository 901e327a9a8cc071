"""Golden numbers: unveil against diffusers and k-diffusion on a toy network, state by state. How the arrays
were made: golden/README.md.

Tolerances are relative to the largest number of an array. EXACT where the reference computed in float64;
SINGLE where it cannot (its tables, or its states between steps, are float32).
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.process import grid, schedule
from unveil.process import parameterization as means
from unveil.process.corrupt import corrupt
from unveil.process.denoised import GaussianDenoised
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.objective import denoising_loss, min_snr
from unveil.sampling import ancestral, churn, ddim, gaussian
from unveil.sampling.guidance import Branch, cfg, dynamic_threshold
from unveil.sampling.loop import Solver, sample

EXACT, SINGLE = 1e-10, 2e-6
PREDICTIONS = {"epsilon": means.eps, "v_prediction": means.v}
BETAS = ("linear", "scaled_linear", "cosine")
Golden = dict[str, Tensor]


def golden(name: str) -> Golden:
    with np.load(Path(__file__).parent / "golden" / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    scale = float(wanted.abs().max())
    torch.testing.assert_close(got.double(), wanted.double(), rtol=0.0, atol=tolerance * scale)


def follows(got: Iterable[Tensor], wanted: Iterable[Tensor], tolerance: float) -> None:
    for mine, theirs in zip(got, wanted, strict=True):
        close(mine, theirs, tolerance)


class Toy(nn.Module):
    """The network of golden/make_golden.py, told a table's index i - 1 (or whatever `time_input` says)."""

    def __init__(self, learned: bool = False) -> None:
        super().__init__()
        self.learned = learned

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None) -> Tensor:
        assert x.dtype == t.dtype == torch.float64
        t = t.reshape(-1, *[1] * (x.ndim - 1))
        mean = 0.7 * torch.sin(1.3 * x) + 0.1 * torch.cos(t / 137.0)
        return torch.cat([mean, torch.sin(x + t / 200.0)], dim=1) if self.learned else mean


def table(name: str) -> schedule.Tabulated:
    """The reference's own betas (they are float32), multiplied up in float64."""
    return schedule.tabulated(golden("tables")[name])


def denoiser(
    process: schedule.Schedule, parameterization: means.Parameterization, learned: bool = False
) -> GaussianDenoiser:
    return GaussianDenoiser(Toy(learned), process, parameterization, lambda t: t * 1000.0 - 1.0, learned)


def visited(timesteps: Tensor) -> Tensor:
    """Indices of a table of 1000, counted from 0, as times; then 0."""
    return torch.cat([(timesteps.double() + 1.0) / 1000.0, torch.zeros(1, dtype=torch.float64)])


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Every state of a run after x, with the noise that the reference drew; all of it must be used."""

    def run(
        denoise: GaussianDenoiser,
        solver: Solver[GaussianDenoised],
        x: Tensor,
        times: Tensor,
        noise: Iterable[Tensor] = (),
    ) -> Tensor:
        draws, seen = iter(noise), []
        for module in (ancestral, churn, ddim):
            monkeypatch.setattr(module, "normal_like", lambda x, generator: next(draws))
        sample(denoise, solver, x, times, on_step=lambda x, s: seen.append(x))
        assert next(draws, None) is None
        return torch.stack(seen)

    return run


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize(
    ("name", "variance"), [("fixed_small", "small"), ("fixed_large", "large"), ("learned_range", "learned")]
)
def test_ancestral_is_ddpm(states: Callable[..., Tensor], spacing: str, name: str, variance: str) -> None:
    reference, process = golden("ddpm"), table("linear")
    solver = gaussian.Ancestral(process, variance)  # type: ignore[arg-type]
    denoise = denoiser(process, means.eps, learned=variance == "learned")
    got = states(
        denoise, solver, reference["x"], visited(reference[f"{spacing}_timesteps"]), reference["noise"][:-1]
    )
    wanted = reference[f"{spacing}_{name}"]
    # diffusers leaves the noise out only at index 0. With "trailing" its last step goes from index 49 to
    # clean and still draws: 1e-10 z
    # (the clamped beta-tilde) for fixed_small, sqrt(beta) z for fixed_large. unveil draws nothing into s = 0
    # (Ho et al. 2020, Alg. 2).
    agree = slice(None) if spacing == "leading" or variance == "small" else slice(0, -1)
    follows(got[agree], wanted[agree], EXACT)


def test_ancestral_is_ddpm_as_shipped(states: Callable[..., Tensor]) -> None:
    """Against diffusers' untouched float32 table: 1 - alpha_bar has lost digits there."""
    reference, process = golden("ddpm"), schedule.tabulated(schedule.linear_betas())
    times = visited(reference["trailing_timesteps"])
    torch.testing.assert_close(times, grid.trailing(1000, 20), rtol=0.0, atol=0.0)
    got = states(
        denoiser(process, means.eps),
        gaussian.Ancestral(process),
        reference["x"],
        times,
        reference["noise"][:-1],
    )
    follows(got, reference["shipped_trailing_fixed_small"], 1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", BETAS)
def test_ddim(states: Callable[..., Tensor], name: str, prediction: str, eta: float) -> None:
    reference, process = golden("ddim"), table(name)
    denoise = denoiser(process, PREDICTIONS[prediction])
    noise = reference["noise"] if eta else ()
    got = states(denoise, gaussian.DDIM(process, eta), reference["x"], visited(reference["timesteps"]), noise)
    follows(got, reference[f"{name}_{prediction}_{eta}"], EXACT)


@pytest.mark.parametrize(
    ("name", "prediction"),
    [("linear", "epsilon"), ("scaled_linear", "v_prediction"), ("cosine", "v_prediction")],
)
def test_dpm_solver_multistep(states: Callable[..., Tensor], name: str, prediction: str) -> None:
    """diffusers rounds the state and its sigmas to float32 in every step; `test_karras_solvers` has the same
    solver in float64."""
    reference, process = golden("dpm"), table(name)
    denoise = denoiser(process, PREDICTIONS[prediction])
    got = states(denoise, gaussian.DPMpp2M(process), reference["x"], visited(reference["timesteps"]))
    follows(got, reference[f"{name}_{prediction}"], SINGLE)


def karras() -> tuple[Golden, schedule.Karras, GaussianDenoiser, Tensor]:
    reference, process = golden("edm"), schedule.Karras()
    denoise = GaussianDenoiser(Toy(), process, means.EDM(0.5), lambda t: 250.0 * process.sigma(t).log())
    times = process.time(-2.0 * reference["sigmas"][:-1].log())
    return reference, process, denoise, torch.cat([times, torch.zeros(1, dtype=torch.float64)])


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("heun", gaussian.Heun(schedule.Karras())),
        ("dpmpp_2m", gaussian.DPMpp2M(schedule.Karras())),
        ("euler", gaussian.DDIM(schedule.Karras())),
        ("euler_ancestral_0.5", gaussian.DDIM(schedule.Karras(), eta=0.5)),
        ("euler_ancestral_1.0", gaussian.DDIM(schedule.Karras(), eta=1.0)),
    ],
)
def test_karras_solvers(states: Callable[..., Tensor], name: str, solver: Solver[GaussianDenoised]) -> None:
    """k-diffusion in float64, its Denoiser against the EDM parameterization. DDIM with eta is its ancestral
    Euler step."""
    reference, _, denoise, times = karras()
    got = states(denoise, solver, reference["x"], times, reference["noise"] if "ancestral" in name else ())
    follows(got, reference[name], EXACT)


@pytest.mark.parametrize("churn", [5, 40])
def test_heun_with_churn(states: Callable[..., Tensor], churn: int) -> None:
    """S_churn / 18 below and above the cap of sqrt(2) - 1. k-diffusion draws in every step, unveil only where
    churn acts."""
    reference, process, denoise, times = karras()
    solver = gaussian.Heun(process, churn=churn / 18, churn_noise=1.003, churn_range=(0.05, 50.0))
    sigmas = reference["sigmas"][:-1]
    acts = (sigmas >= 0.05) & (sigmas <= 50.0)
    got = states(denoise, solver, reference["x"], times, reference["noise"][acts])
    close(got[-1], reference[f"heun_churn_{churn}"][-1], EXACT)


def test_edm_loss() -> None:
    reference, process, denoise, _ = karras()
    times = process.time(-2.0 * reference["loss_sigma"].log())
    close(
        denoising_loss(denoise, reference["loss_x_0"], times, reference["loss_noise"]),
        reference["loss"],
        EXACT,
    )


@pytest.mark.parametrize("name", ["euler", "euler_shift_3", "heun"])
def test_flow_matching(states: Callable[..., Tensor], name: str) -> None:
    """diffusers rounds the state to float32 in every step. Its Heun lists the inner sigmas twice."""
    reference, process = golden("flow"), schedule.Flow()
    denoise = GaussianDenoiser(Toy(), process, means.flow, lambda t: t * 1000.0)
    solver = gaussian.Heun(process) if name == "heun" else gaussian.DDIM(process)
    times = reference[f"{name}_sigmas"].unique_consecutive().double()
    follows(states(denoise, solver, reference["x"], times), reference[name], SINGLE)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", BETAS)
def test_training_targets(name: str, prediction: str) -> None:
    reference, process = golden("objective"), table(name)
    x_0, noise, times = reference["x_0"], reference["noise"], visited(reference["timesteps"])[:-1]
    close(corrupt(process, x_0, times, noise), reference[f"{name}_x_t"], EXACT)
    loss = denoising_loss(denoiser(process, PREDICTIONS[prediction]), x_0, times, noise)
    close(loss, reference[f"{name}_{prediction}"], EXACT)


@pytest.mark.parametrize("name", BETAS)
def test_min_snr(name: str) -> None:
    """The weights that diffusers' training scripts make of `compute_snr` (which returns float32)."""
    reference, process = golden("objective"), table(name)
    times, snr = visited(reference["timesteps"])[:-1], reference[f"{name}_snr"].double()
    wanted = {
        means.eps: snr.clamp(max=5.0) / snr,
        means.v: snr.clamp(max=5.0) / (snr + 1.0),
        means.x0: snr.clamp(max=5.0),
    }
    for parameterization, weight in wanted.items():
        torch.testing.assert_close(min_snr(process, parameterization)(times), weight, rtol=SINGLE, atol=0.0)


@pytest.mark.parametrize("scale", [1.0, 3.0, 7.5])
@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_guidance_and_rescale(scale: float, rescale: float) -> None:
    """The same rule on the same tensors; diffusers rescales the network's output, unveil the mean."""
    reference = golden("guidance")
    cond, null = (Branch(Condition(vector=reference[side].flatten(1))) for side in ("cond", "null"))

    def told(x: Tensor, t: Tensor, condition: Condition | None) -> GaussianDenoised:
        assert condition is not None and condition.vector is not None
        return GaussianDenoised(condition.vector.view_as(x))

    guided = cfg(told, cond, null, scale, rescale=rescale)
    close(
        guided(torch.zeros_like(reference["cond"]), torch.ones(2)).mean,
        reference[f"cfg_{scale}_{rescale}"],
        EXACT,
    )


@pytest.mark.parametrize(("name", "factor"), [("threshold_far", 4.0), ("threshold_near", 0.1)])
def test_dynamic_threshold(name: str, factor: float) -> None:
    reference = golden("guidance")
    squeezed = dynamic_threshold(lambda x, t: GaussianDenoised(factor * x), quantile=0.9)
    close(squeezed(reference["cond"], torch.ones(2)).mean, reference[name], EXACT)


def test_tables_and_grids() -> None:
    """The reference's betas are float32: relative to each entry, 1e-6 from linspace; cosine entries are
    float64 rounded once."""
    reference = golden("tables")
    mine = {
        "linear": schedule.linear_betas(),
        "scaled_linear": schedule.scaled_linear_betas(),
        "cosine": schedule.cosine_betas(1000),
    }
    for name, betas in mine.items():
        torch.testing.assert_close(
            betas, reference[name].double(), rtol=1e-7 if name == "cosine" else SINGLE, atol=0.0
        )
    for steps in (7, 20, 30, 64):
        torch.testing.assert_close(
            grid.trailing(1000, steps), visited(reference[f"trailing_{steps}"]), rtol=0.0, atol=0.0
        )
    sigmas = schedule.Karras().sigma(grid.karras(schedule.Karras(), 18))
    torch.testing.assert_close(sigmas, reference["karras_18"], rtol=EXACT, atol=0.0)
