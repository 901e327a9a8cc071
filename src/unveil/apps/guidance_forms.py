"""The three forms of value guidance, by name of what moves: the belief, the mean of a step, or the state. Scales do not carry over."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from torch import Tensor

from unveil.apps.policy_checks import number, whole
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.posterior import posterior_coefficients
from unveil.process.schedule import Schedule
from unveil.sampling.edit import Ascend, Edit, LogPotential, chain
from unveil.sampling.gaussian import Ancestral
from unveil.sampling.guidance import Guidance, tilted
from unveil.sampling.loop import Solver

T = TypeVar("T")


class Form(NamedTuple):
    """How a planner samples: what becomes of the denoiser, the solver, and the edit, given the one that puts known numbers back.

    Args:
        scale: of the value's guidance, for messages; 0 without.
    """

    guide: Guidance
    solver: Solver[GaussianDenoised]
    edit: Callable[[Edit], Edit]
    scale: float = 0.0


def unguided(solver: Solver[GaussianDenoised]) -> Form:
    """Plain samples."""
    return Form(_same, solver, _same)


def belief_shift(value: LogPotential, schedule: Schedule, solver: Solver[GaussianDenoised], scale: float, until: float = 0.9) -> Form:
    """mean + scale * sigma_t^2 / alpha_t * grad value(x_t, t) for t <= `until`: `tilted`, with any solver.

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
    """Each step's mean moves by scale * its variance * grad value(x_t, t). Janner et al. 2022, Alg. 1 (see `Ancestral`).

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
    """Diffuser's released code: before each denoising step, `steps` times x += scale * variance * grad value(x, t).

    Args:
        stop: no ascent at step numbers i = T t - 1 below it (`t_stopgrad`).
        by_variance: multiply the gradient by the variance of the step i -> i - 1 (`scale_grad_by_std`, since 2022-10 the variance).
    Raises:
        ValueError: an argument that is not finite, a temperature below 0, or numbers of steps that cannot be.
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
