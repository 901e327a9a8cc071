"""Times and solvers of images, by the names of `ImageSettings`."""

import torch
from torch import Tensor

from unveil.image.model import TABLES, ImageModel
from unveil.image.settings import ImageSettings
from unveil.process.denoised import GaussianDenoised
from unveil.process.grid import karras, quadratic, respaced, respaced_by, uniform
from unveil.process.schedule import log_snr
from unveil.sampling.edit import LogPotential
from unveil.sampling.gaussian import DDIM, Ancestral, DPMpp2M, Heun
from unveil.sampling.loop import Solver


def image_times(model: ImageModel, settings: ImageSettings) -> Tensor:
    """The times of a solver on a model's schedule.

    ddpm and ddim on a table take evenly spaced entries (Nichol & Dhariwal 2021, section 4); the second-order
    solvers, and all on EDM's schedule, the spacing of Karras et al. 2022, eq. 5, between the table's own ends
    but not beyond 0.002 .. 80; flow matching's times are even, except that dpmpp needs alpha > 0.

    Raises:
        ValueError: more steps than the model was trained with.
    """
    shape, schedule, steps = model.shape, model.denoiser.schedule, settings.steps
    if shape.schedule in TABLES and steps > shape.diffusion_steps and not settings.respacing:
        raise ValueError(
            f"`steps` {steps}: this model was trained with {shape.diffusion_steps} steps, take at most as "
            "many"
        )
    if shape.schedule in TABLES and settings.solver in ("ddpm", "ddim"):
        if settings.respacing:
            return respaced_by(shape.diffusion_steps, settings.respacing)
        if settings.spacing == "quadratic":
            return quadratic(shape.diffusion_steps, steps)
        return respaced(shape.diffusion_steps, (steps,)) if steps > 1 else uniform(1)
    if settings.spacing != "even" or settings.respacing:
        what = f"respacing={settings.respacing}" if settings.respacing else f"spacing={settings.spacing}"
        raise ValueError(f"`{what}` needs ddim or ddpm on a table of steps (methods ddpm, iddpm and v)")
    if shape.schedule == "flow" and settings.solver != "dpmpp":
        return uniform(steps)
    ends = torch.tensor([1.0 / shape.diffusion_steps, 1.0], dtype=torch.float64, device="cpu")
    low, high = (-0.5 * log_snr(schedule, ends)).exp().tolist() if shape.schedule in TABLES else (0.002, 80.0)
    if steps == 1:
        return torch.tensor(
            [1.0 if shape.schedule != "flow" else 80.0 / 81.0, 0.0], dtype=torch.float64, device="cpu"
        )
    return karras(schedule, steps, max(low, 0.002), min(high, 80.0))


def solver_of(
    model: ImageModel, settings: ImageSettings, log_h: LogPotential | None = None
) -> Solver[GaussianDenoised]:
    """The solver by its name.

    Args:
        log_h: log-potential whose gradient shifts the mean of ddpm's steps.
    Raises:
        ValueError: a learned variance for a model that has none.
    """
    schedule = model.denoiser.schedule
    if settings.solver == "ddpm":
        if settings.variance == "learned" and not model.shape.learned_variance:
            raise ValueError("`variance=learned`: this model did not learn its variance; take small or large")
        variance = settings.variance or ("learned" if model.shape.learned_variance else "small")
        return Ancestral(schedule, variance, settings.temperature, log_h, settings.classifier_scale)
    return {"ddim": DDIM(schedule, settings.eta), "dpmpp": DPMpp2M(schedule), "heun": Heun(schedule)}[
        settings.solver
    ]
