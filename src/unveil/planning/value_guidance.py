"""Three forms of value guidance, named by what they move: the denoiser's estimate, the mean of a step, or the
state.

Each form has its own unit of the guidance scale, so a scale of one form has no meaning for another.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from unveil.checks import number, whole
from unveil.planning.trajectory_model import TrajectoryModel, unconditional
from unveil.process.corrupt import corrupt
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.posterior import posterior_coefficients
from unveil.process.schedule import Schedule
from unveil.sampling.edit import Ascend, Edit, LogPotential, chain
from unveil.sampling.gaussian import Ancestral
from unveil.sampling.guidance import Guidance, tilted
from unveil.sampling.loop import Solver
from unveil.sampling.noise import generators, normal_like

T = TypeVar("T")


class Form(NamedTuple):
    """How a planner samples.

    Args:
        guide: denoiser -> guided denoiser.
        solver: the sampler.
        edit: the edit that resets known numbers -> the edit of each step.
        scale: guidance scale, for messages; 0 without guidance.
    """

    guide: Guidance
    solver: Solver[GaussianDenoised]
    edit: Callable[[Edit], Edit]
    scale: float = 0.0


def unguided(solver: Solver[GaussianDenoised]) -> Form:
    """Sample without guidance."""
    return Form(_same, solver, _same)


def belief_shift(
    value: LogPotential,
    schedule: Schedule,
    solver: Solver[GaussianDenoised],
    scale: float,
    until: float = 0.9,
) -> Form:
    """Move the denoiser's estimate: mean + scale * sigma_t^2 / alpha_t * grad value(x_t, t) for t <= `until`;
    see `tilted`.

    Raises:
        ValueError: a scale that is not finite, or `until` outside (0, 1].
    """
    number("guidance: scale", scale)
    if not 0.0 < number("guidance: until", until) <= 1.0:
        raise ValueError(f"guidance: until must lie in (0, 1], got {until}")

    def guide(denoise: GaussianDenoise) -> GaussianDenoise:
        return tilted(denoise, value, schedule, scale, (0.0, until))

    return Form(guide, solver, _same, scale)


def mean_shift(value: LogPotential, schedule: Schedule, scale: float, temperature: float = 1.0) -> Form:
    """Move the mean of each step by scale * variance of the step * grad value(x_t, t). Janner et al. 2022,
    Alg. 1 (see `Ancestral`).

    Raises:
        ValueError: a scale or a temperature that is not finite, or a temperature below 0.
    """
    number("guidance: scale", scale)
    number("guidance: temperature", temperature, 0.0)
    return Form(_same, Ancestral(schedule, "small", temperature, value, scale), _same, scale)


def ascent(
    value: LogPotential,
    schedule: Schedule,
    diffusion_steps: int,
    scale: float,
    steps: int = 2,
    stop: int = 2,
    by_variance: bool = True,
    temperature: float = 1.0,
) -> Form:
    """Move the state as Diffuser's released code: before each denoising step, `steps` times x += scale *
    variance * grad value(x, t).

    Args:
        steps: gradient steps per denoising step.
        stop: no gradient steps at diffusion steps i = T t - 1 below it (`t_stopgrad`).
        by_variance: multiply the gradient by the variance of the step i -> i - 1 (`scale_grad_by_std`, since
            2022-10 the variance).
    Raises:
        ValueError: an argument that is not finite, a temperature below 0, or an impossible number of steps.
    """
    number("guidance: scale", scale)
    number("guidance: temperature", temperature, 0.0)
    whole("guidance: diffusion_steps", diffusion_steps)
    whole("guidance: steps", steps, 0)
    whole("guidance: stop", stop, 0)

    def gain(t: Tensor) -> float:
        if round(float(t) * diffusion_steps) - 1 < stop or float(t) <= 0.0:
            return 0.0
        if not by_variance:
            return scale
        before = (t - 1.0 / diffusion_steps).clamp(min=0.0)
        return scale * float(posterior_coefficients(schedule, t, before).small)

    def edit(put_back: Edit) -> Edit:
        return chain(put_back, Ascend(value, gain, steps, between=put_back))

    return Form(_same, Ancestral(schedule, "small", temperature), edit, scale)


def _same(thing: T) -> T:
    return thing


class ValueAt(NamedTuple):
    """The score of clean plans (N, H, F) by a value of noisy plans, evaluated at time t: (N,)."""

    value: Callable[[Tensor, Tensor], Tensor]
    t: float

    def __call__(self, x: Tensor) -> Tensor:
        return self.value(x, torch.full((x.shape[0],), self.t, dtype=torch.float64, device="cpu"))


def value_at(value: Callable[[Tensor, Tensor], Tensor], t: float) -> ValueAt:
    """Score clean plans by a value of noisy plans, evaluated at time t: 0 if it was trained on clean plans
    too, else its smallest time."""
    return ValueAt(value, t)


LEVELS = (0.25, 0.5)  # diffusion times at which plans are noised and denoised again


@torch.no_grad()
def surprise(model: TrajectoryModel, x: Tensor, seed: int = 0) -> Tensor:
    """Mean squared denoising error (N,) of normalised trajectories (N, H, features) over `LEVELS`, with first
    states known.

    Up to a constant factor this is a part of the variational bound: it is large for trajectories that are
    unlikely under the model. The noise of trajectory i has seed + i and does not depend on the other
    trajectories.
    """
    own = generators(seed, len(x))
    known = model.shape.first_known(x.shape[1]).to(x.device)
    denoise, total = unconditional(model), torch.zeros(len(x), device=x.device)
    for level in LEVELS:
        t = torch.full((len(x),), level, dtype=torch.float64, device="cpu")
        noise = normal_like(x, own)
        error = denoise(corrupt(model.denoiser.schedule, x, t, noise, known), t).mean - x
        total += torch.where(known, 0.0, error**2).flatten(1).mean(1)
    return total / len(LEVELS)


def largest_unsurprising(
    model: TrajectoryModel, plans: Callable[[float], Tensor], recorded: Tensor, scales: Sequence[float]
) -> tuple[float, dict[float, float]]:
    """The largest guidance scale whose plans have at most the mean surprise of recorded windows.

    Args:
        plans: scale -> normalised plans (N, H, features) from states that were not trained on.
        recorded: recorded windows (M, H, features) from such states.
        scales: the scales to try.
    Returns:
        The scale, 0.0 if even the plans of the smallest one have a larger surprise, and the ratio of
        surprises for each scale.
    """
    usual = float(surprise(model, recorded).mean())
    ratios = {scale: float(surprise(model, plans(scale)).mean()) / usual for scale in sorted(scales)}
    return max((scale for scale, ratio in ratios.items() if ratio <= 1.0), default=0.0), ratios
