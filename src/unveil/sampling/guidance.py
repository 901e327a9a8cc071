"""Guidance: Denoise -> Denoise. Every function here moves the belief about x_0 and leaves state and solver alone.

Scales: 0 is unconditional (or unchanged), 1 conditional (or Bayes' rule), more is sharper.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from unveil.checks import number, shown
from unveil.network.condition import Condition
from unveil.process.corrupt import like
from unveil.process.denoised import D, Denoise, GaussianDenoise, GaussianDenoised, MaskedDenoised
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.schedule import Schedule
from unveil.sampling.edit import LogPotential, potential_gradient

Interval = tuple[float, float]
ALWAYS: Interval = (0.0, float("inf"))  # churn may lift t above 1
Guidance = Callable[
    [GaussianDenoise], GaussianDenoise
]  # what `partial(tilted, log_h=..., ...)` and `partial(steered, ...)` are


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Branch:
    """One side of classifier-free guidance.

    Args:
        condition: what the network is told on this side.
        view: how this side sees x_t; LLaDA's null branch masks the prompt here, and differs in nothing else.
    """

    condition: Condition | None = None
    view: Callable[[Tensor], Tensor] = _same


def cfg(
    denoiser: Callable[[Tensor, Tensor, Condition | None], D],
    cond: Branch,
    null: Branch,
    scale: float,
    interval: Interval = ALWAYS,
    rescale: float = 0.0,
) -> Denoise[D]:
    """Classifier-free guidance: null.toward(cond, scale) = null + scale * (cond - null), both branches in one call.

    Ho & Salimans 2022, with scale = 1 + w of their eq. 6, the convention of Stable Diffusion; for tokens LLaDA's rule.

    Args:
        interval: t within which guidance acts; elsewhere the plain conditional belief (Kynkaanniemi et al. 2024).
        rescale: share of the way to the standard deviation of the conditional mean, against over-exposure (Lin et al. 2024, eq. 15-16,
            here on the mean of x_0); Gaussian beliefs only.
    Raises:
        ValueError: rescale outside [0, 1], or one branch has a condition field that the other lacks.
    """
    if not 0.0 <= rescale <= 1.0:
        raise ValueError(f"cfg: rescale must lie in [0, 1], got {rescale}")

    def guided(x_t: Tensor, t: Tensor) -> D:
        count = len(x_t)
        if not _inside(t, interval):
            return denoiser(cond.view(x_t), t, cond.condition)
        if cond.condition is None or null.condition is None:
            if cond.condition is not null.condition:
                raise ValueError("cfg: give both branches a condition with the same fields, or neither")
            both = None
        else:
            both = null.condition.cat(cond.condition)
        beliefs = denoiser(torch.cat([null.view(x_t), cond.view(x_t)]), torch.cat([t, t]), both)
        conditional = beliefs.rows(count, 2 * count)
        mixed = beliefs.rows(0, count).toward(conditional, scale)
        if rescale == 0.0:
            return mixed
        if not isinstance(mixed, GaussianDenoised) or not isinstance(conditional, GaussianDenoised):
            raise ValueError("cfg: rescale needs a Gaussian belief")
        axes = tuple(range(1, x_t.ndim))
        factor = conditional.mean.std(axes, keepdim=True) / mixed.mean.std(axes, keepdim=True)
        return cast(D, mixed.moved(mixed.mean * (rescale * factor + (1.0 - rescale))))

    return guided


def blend(a: Denoise[D], b: Denoise[D], scale: float) -> Denoise[D]:
    """a.toward(b, scale): two different networks; with scale > 1, b is guided away from a weaker a (Karras et al. 2024)."""

    def blended(x_t: Tensor, t: Tensor) -> D:
        return a(x_t, t).toward(b(x_t, t), scale)

    return blended


def tilted(
    denoise: GaussianDenoise,
    log_h: LogPotential,
    schedule: Schedule,
    scale: float = 1.0,
    interval: Interval = ALWAYS,
) -> GaussianDenoise:
    """Guide a denoiser by the gradient of a log-potential.

    mean' = mean + scale * sigma_t^2 / alpha_t * grad_x log h(x_t, t)      (Tweedie; Dhariwal & Nichol 2021, Alg. 2)

    Args:
        log_h: maps x_t (B, *E) and t (B,) to (B,), in nats; differentiable in x_t, and meaningful on noisy states.
        scale: 0 leaves the denoiser unchanged, 1 is Bayes' rule, more sharpens.
        interval: t within which guidance acts.
    Raises:
        ValueError: log_h returns anything but shape (B,), or alpha(t) = 0 inside the interval, where the gain is infinite.
    """

    def guided(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        belief = denoise(x_t, t)
        if scale == 0.0 or not _inside(t, interval):
            return belief
        gain = like(scale * _tweedie_gain(schedule, t), x_t)
        return belief.moved(belief.mean + gain * potential_gradient(log_h, x_t, t))

    return guided


def within(log_h: LogPotential, interval: Interval) -> LogPotential:
    """A log-potential that is flat, 0, outside an interval of t: for whoever takes its gradient, such as `Ancestral`."""

    def bounded(x_t: Tensor, t: Tensor) -> Tensor:
        return log_h(x_t, t) if _inside(t, interval) else 0.0 * x_t.flatten(1).sum(1)

    return bounded


def steered(
    denoise: GaussianDenoise,
    cost: LogPotential,
    schedule: Schedule,
    scale: float = 1.0,
    jacobian: bool = True,
    interval: Interval = ALWAYS,
) -> GaussianDenoise:
    """Guide a denoiser by a cost of the clean sample: an obstacle, a speed limit, a measurement.

    jacobian:      mean' = mean - scale * sigma_t^2 / alpha_t * grad_{x_t} cost(mean(x_t), t)      (DPS, Chung et al. 2023)
    no jacobian:   mean' = mean - scale * sigma_t^2 / (alpha_t^2 + sigma_t^2) * grad_mean cost(mean, t)

    sigma_t^2 / alpha_t times the network's Jacobian is the belief's covariance; without the jacobian that of a unit-variance prior
    stands in for it, which saves the pass backwards through the network. DPS's own algorithm moves the state after the step instead: its
    zeta is not this scale.

    Args:
        cost: maps the clean mean (B, *E) and t (B,) to (B,), in nats; exact posteriors need the belief's own variance at t inside.
    Raises:
        ValueError: cost returns anything but shape (B,), or alpha(t) = 0 inside the interval (with the jacobian).
    """

    def guided(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        if scale == 0.0 or not _inside(t, interval):
            return denoise(x_t, t)
        if not jacobian:
            belief = denoise(x_t, t)
            gradient = potential_gradient(cost, belief.mean, t)
            variance = schedule.sigma(t) ** 2 / (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2)
            return belief.moved(belief.mean - like(scale * variance, x_t) * gradient)
        gain = like(scale * _tweedie_gain(schedule, t), x_t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            belief = denoise(x, t)
            value = cost(belief.mean, t)
            if value.shape != x_t.shape[:1]:
                raise ValueError(
                    f"cost must return shape {tuple(x_t.shape[:1])}, one number a sample, got {tuple(value.shape)}"
                )
            (gradient,) = torch.autograd.grad(value.sum(), x)
        fraction = belief.variance_fraction
        return GaussianDenoised(
            belief.mean.detach() - gain * gradient, None if fraction is None else fraction.detach()
        )

    return guided


def clipped(denoise: GaussianDenoise, low: float | Tensor, high: float | Tensor) -> GaussianDenoise:
    """The mean clamped to [low, high]: x_0 clipping that really clips, whatever the network predicts."""
    return _remapped(
        denoise, lambda mean: torch.minimum(torch.maximum(mean, _bound(low, mean)), _bound(high, mean))
    )


def dynamic_threshold(denoise: GaussianDenoise, quantile: float = 0.995) -> GaussianDenoise:
    """Clamp the mean to [-q, q] and divide by q = max(1, the quantile of |mean| of each sample). Saharia et al. 2022, section 2.3.

    Raises:
        ValueError: quantile outside (0, 1].
    """
    if not 0.0 < quantile <= 1.0:
        raise ValueError(f"dynamic_threshold: quantile must lie in (0, 1], got {quantile}")

    def squeezed(mean: Tensor) -> Tensor:
        bound = mean.abs().flatten(1).quantile(quantile, dim=1).clamp(min=1.0)
        bound = like(bound, mean)
        return mean.clamp(-bound, bound) / bound

    return _remapped(denoise, squeezed)


def reweighted(
    denoise: Denoise[MaskedDenoised], token_score: Tensor, scale: float = 1.0
) -> Denoise[MaskedDenoised]:
    """p'(token) proportional to p(token) exp(scale * token_score): the discrete tilt.

    Args:
        token_score: (V,) or broadcastable to the logits, finite; -1e4 rules a token out.
    """

    def guided(x_t: Tensor, t: Tensor) -> MaskedDenoised:
        belief = denoise(x_t, t)
        return MaskedDenoised(belief.logits + scale * token_score, belief.positions)

    return guided


def tapped(denoise: Denoise[D], callback: Callable[[D, Tensor], None]) -> Denoise[D]:
    """Show every belief and its t to `callback`: previews while sampling."""

    def watched(x_t: Tensor, t: Tensor) -> D:
        belief = denoise(x_t, t)
        callback(belief, t)
        return belief

    return watched


def _remapped(denoise: GaussianDenoise, change: Callable[[Tensor], Tensor]) -> GaussianDenoise:
    def changed(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        belief = denoise(x_t, t)
        return belief.moved(change(belief.mean))

    return changed


def _bound(value: float | Tensor, x: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=x.dtype, device=x.device)


def _inside(t: Tensor, interval: Interval) -> bool:
    low, high = interval
    return bool(((t >= low) & (t <= high)).all())


def _tweedie_gain(schedule: Schedule, t: Tensor) -> Tensor:
    alpha = schedule.alpha(t)
    if bool((alpha == 0.0).any()):
        raise ValueError(
            "guidance has infinite gain where alpha(t) = 0; give an interval that ends below it, such as (0.0, 0.99)"
        )
    return schedule.sigma(t) ** 2 / alpha


@runtime_checkable
class Steerable(Protocol):
    """A model whose clean samples have units: a planner's, or a policy's."""

    @property
    def denoiser(self) -> GaussianDenoiser: ...

    def in_units(self, x: Tensor) -> Tensor:
        """Normalised samples (N, H, F) in the data's units, without what pads them."""
        ...


def costing(
    model: Steerable,
    cost: Callable[[Tensor], Tensor],
    scale: float,
    *,
    jacobian: bool = True,
    until: float = 0.9,
) -> Guidance:
    """Steer plans, or a policy's chunks, by a cost of one's own in the data's units: a height limit, a keep-out zone, a preferred side.
    Composes with any form of value guidance, and with real-time control.

    >>> planner = unveil.load("hopper-medium-expert", preset="default")
    >>> planner.steer = costing(planner.model, lambda plan: (plan[..., 3] - 1.4).clamp(min=0).square().sum(-1), scale=300.0)

    Args:
        cost: clean plans (N, H, actions + observations), (N, H, observations) of an observation-only model or (N, H, actions) of a policy,
            to (N,).
        scale: of the cost's gradient in normalised units; see `steered`.
        jacobian: take the gradient through the network. Without, only the numbers in the cost move: torques hardly follow heights.
        until: t up to which the cost acts, in (0, 1].
    Raises:
        ValueError: a model, cost, scale or time that cannot be.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"costing: model must be a Module, a planner's or a policy's .model, got {shown(model)}"
        )
    if not callable(cost):
        raise ValueError(
            f"costing: cost must be a function of clean plans or chunks, got {type(cost).__name__}"
        )
    number("costing: scale", scale)
    if not 0.0 < number("costing: until", until) <= 1.0:
        raise ValueError(f"costing: until must lie in (0, 1], got {until}")

    def normalized_cost(x: Tensor, t: Tensor) -> Tensor:
        return cost(model.in_units(x))

    return partial(
        steered,
        cost=normalized_cost,
        schedule=model.denoiser.schedule,
        scale=scale,
        jacobian=jacobian,
        interval=(0.0, until),
    )
