"""Times and solvers of images, by the names of `ImageSettings`."""

import torch
from torch import Tensor

from unveil.image.model import ImageModel
from unveil.image.settings import GridName, ImageSettings
from unveil.image.shape import TABLES
from unveil.process.denoised import GaussianDenoised
from unveil.process.grid import (
    exponential,
    karras,
    latent_consistency,
    leading,
    linspace,
    quadratic,
    respaced,
    respaced_by,
    sgm_uniform,
    trailing,
    uniform,
)
from unveil.process.schedule import log_snr
from unveil.sampling.edit import LogPotential
from unveil.sampling.gaussian import (
    DDIM,
    LCM,
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
from unveil.sampling.loop import Solver

OF_ENTRIES = ("ddpm", "ddim", "pndm")  # diffusers' schedulers whose steps go from entry to entry of a table
MULTISTEP = ("dpmpp", "dpmpp_2m_sde", "unipc")  # ... whose "linspace" is the rounded SGM-uniform grid
FROM_PURE_NOISE = ("ddpm", "ddim", "heun", "euler", "euler_ancestral")  # may start where alpha is 0
USUAL: dict[str, GridName] = {
    "euler": "uniform",
    "euler_ancestral": "uniform",
    "pndm": "leading",
    "unipc": "linspace",
}
"""Grids of solvers on a table of betas, where "" is chosen; by noise level if a solver is not listed."""


def image_times(model: ImageModel, settings: ImageSettings) -> Tensor:
    """The times of a solver on a model's schedule.

    Without `grid`: ddpm and ddim on a table take evenly spaced entries (Nichol & Dhariwal 2021, section 4);
    heun, dpmpp and dpmpp_sde, and all on EDM's schedule, the spacing of Karras et al. 2022, eq. 5, between
    the table's own ends but not beyond 0.002 .. 80; dpmpp_2m_sde the exponential spacing between these; euler
    and euler_ancestral k-diffusion's even times, and pndm, unipc and lcm those of Stable Diffusion in
    diffusers. Flow matching's times are even for ddpm, ddim, heun, euler and euler_ancestral, which can start
    at alpha = 0.

    Raises:
        ValueError: more steps than the model was trained with, or a grid or solver for other schedules.
    """
    shape, steps, grid = model.shape, settings.steps, settings.grid
    table = shape.schedule in TABLES
    if table and steps > shape.diffusion_steps and not settings.respacing:
        raise ValueError(
            f"`steps` {steps}: this model was trained with {shape.diffusion_steps} steps, take at most as "
            "many"
        )
    if settings.solver == "lcm" and not table:
        raise ValueError(
            "`solver=lcm` is for models that were distilled on a table of betas; take another `solver`"
        )
    if settings.solver == "pndm" and shape.schedule == "flow":
        raise ValueError(
            "`solver=pndm` mixes predictions of the noise at even times, of which flow matching's first has "
            "none; take unipc or dpmpp"
        )
    if table and settings.solver in ("ddpm", "ddim") and not grid:
        if settings.respacing:
            return respaced_by(shape.diffusion_steps, settings.respacing)
        if settings.spacing == "quadratic":
            return quadratic(shape.diffusion_steps, steps)
        return respaced(shape.diffusion_steps, (steps,)) if steps > 1 else uniform(1)
    if settings.spacing != "even" or settings.respacing:
        what = f"respacing={settings.respacing}" if settings.respacing else f"spacing={settings.spacing}"
        raise ValueError(f"`{what}` needs ddim or ddpm on a table of steps (methods ddpm, iddpm and v)")
    if not grid and settings.solver == "lcm":
        return latent_consistency(shape.diffusion_steps, steps)
    if not grid and table:
        grid = USUAL.get(settings.solver, "")
    if grid not in ("", "karras", "exponential"):
        if not table:
            raise ValueError(
                f"`grid={grid}` takes entries of a table of betas (methods ddpm, iddpm and v); take karras "
                "or exponential, or leave `grid` out"
            )
        return _table_times(grid, settings.solver, shape.diffusion_steps, steps)
    if not grid and shape.schedule == "flow" and settings.solver in FROM_PURE_NOISE:
        return uniform(steps)
    return _times_by_noise(model, grid or ("exponential" if settings.solver == "dpmpp_2m_sde" else ""), steps)


def _table_times(grid: str, solver: str, entries: int, steps: int) -> Tensor:
    """Times by the entries of a table, where diffusers' depend on the scheduler: `timestep_spacing`."""
    walks, multistep = solver in OF_ENTRIES, solver in MULTISTEP
    if grid == "uniform":
        return linspace(entries, steps)
    if grid == "sgm_uniform":
        return sgm_uniform(entries, steps)
    if grid == "linspace" and multistep:
        return sgm_uniform(entries, steps, rounded=True)
    if grid == "linspace":
        return respaced(entries, (steps,)) if walks and steps > 1 else linspace(entries, steps)
    if grid == "leading" and multistep:  # one entry more, of which the cleanest is left out
        return leading(entries, steps + 1, end=0)[torch.arange(steps + 2, device="cpu") != steps]
    times = leading(entries, steps, end=0) if grid == "leading" else trailing(entries, steps)
    if walks and float(times[-2]) * entries > 1.0:  # as Stable Diffusion's: set_alpha_to_one False
        times[-1] = 1.0 / entries
    return times


def _times_by_noise(model: ImageModel, grid: str, steps: int) -> Tensor:
    """Times by sigma / alpha: of the table's own ends, but not beyond 0.002 .. 80."""
    shape, schedule = model.shape, model.denoiser.schedule
    ends = torch.tensor([1.0 / shape.diffusion_steps, 1.0], dtype=torch.float64, device="cpu")
    low, high = (-0.5 * log_snr(schedule, ends)).exp().tolist() if shape.schedule in TABLES else (0.002, 80.0)
    if steps == 1:
        return torch.tensor(
            [1.0 if shape.schedule != "flow" else 80.0 / 81.0, 0.0], dtype=torch.float64, device="cpu"
        )
    spaced = exponential if grid == "exponential" else karras
    return spaced(schedule, steps, max(low, 0.002), min(high, 80.0))


def solver_of(
    model: ImageModel, settings: ImageSettings, log_h: LogPotential | None = None, scale: float = 0.0
) -> Solver[GaussianDenoised]:
    """The solver by its name.

    Args:
        log_h: log-potential whose gradient shifts the mean of ddpm's steps.
        scale: factor of that gradient.
    Raises:
        ValueError: a learned variance for a model that has none.
    """
    schedule = model.denoiser.schedule
    if settings.solver == "ddpm":
        if settings.variance == "learned" and not model.shape.learned_variance:
            raise ValueError("`variance=learned`: this model did not learn its variance; take small or large")
        variance = settings.variance or ("learned" if model.shape.learned_variance else "small")
        return Ancestral(schedule, variance, settings.temperature, log_h, scale)
    eta = settings.eta
    if eta is None:
        eta = 0.0 if settings.solver == "ddim" else 1.0
    published = model.shape.schedule == "betas" and model.shape.predicts == "v"
    solvers: dict[str, Solver[GaussianDenoised]] = {
        "ddim": DDIM(schedule, eta),
        "dpmpp": DPMpp2M(schedule),
        "heun": Heun(schedule),
        "euler": Euler(schedule),
        "euler_ancestral": EulerAncestral(schedule, eta),
        "dpmpp_2m_sde": DPMpp2MSDE(schedule, eta),
        "dpmpp_sde": DPMppSDE(schedule, eta),
        "pndm": PNDM(schedule, settings.mixes or ("v" if published else "eps")),
        "unipc": UniPC(schedule),
        "lcm": LCM(schedule, model.shape.diffusion_steps),
    }
    return solvers[settings.solver]
