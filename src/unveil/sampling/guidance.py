"""Guidance: functions Denoise -> Denoise that change the belief about x_0, but neither state nor solver.

Scale 0 is unconditional (or unchanged), 1 is conditional (or Bayes' rule), and above 1 is stronger.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from unveil.checks import number, shown
from unveil.network.condition import Condition
from unveil.network.inference_layout import recording
from unveil.process.corrupt import like
from unveil.process.denoised import D, Denoise, GaussianDenoise, GaussianDenoised, MaskedDenoised
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.schedule import Schedule
from unveil.sampling.edit import LogPotential, potential_gradient

Interval = tuple[float, float]
ALWAYS: Interval = (0.0, float("inf"))  # churn may raise t above 1
# the type of `partial(tilted, log_h=..., ...)` and of `partial(steered, ...)`
Guidance = Callable[[GaussianDenoise], GaussianDenoise]


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Branch:
    """One branch of classifier-free guidance, conditional or unconditional.

    Args:
        condition: the network's condition in this branch.
        view: maps x_t to the network's input in this branch; LLaDA's unconditional branch masks the prompt
            here and has no other difference.
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
    """Classifier-free guidance: null + scale * (cond - null), with both branches in one network call.

    Ho & Salimans 2022, with scale = 1 + w of their eq. 6, as in Stable Diffusion and, for tokens, in LLaDA.

    Args:
        denoiser: (x_t (B, *E), t (B,), condition) -> belief.
        cond, null: the conditional and the unconditional branch.
        scale: 0 is unconditional, 1 conditional, above 1 guided.
        interval: range of t in which guidance is used; outside it the belief is the conditional one
            (Kynkaanniemi et al. 2024).
        rescale: interpolation, in [0, 1], from the standard deviation of the guided mean (0) to that of the
            conditional mean (1), which prevents over-exposure (Lin et al. 2024, eq. 15-16, here for the mean
            of x_0); Gaussian beliefs only.
    Raises:
        ValueError: rescale is outside [0, 1], or the two conditions have different fields.
    """
    if not 0.0 <= rescale <= 1.0:
        raise ValueError(f"cfg: rescale must lie in [0, 1], got {rescale}")

    def guided(x_t: Tensor, t: Tensor) -> D:
        count = len(x_t)  # B
        if not _inside(t, interval):
            return denoiser(cond.view(x_t), t, cond.condition)
        if cond.condition is None or null.condition is None:
            if cond.condition is not null.condition:
                raise ValueError("cfg: both branches must have a condition with the same fields, or neither")
            both = None
        else:
            both = null.condition.cat(cond.condition)
        beliefs = denoiser(torch.cat([null.view(x_t), cond.view(x_t)]), torch.cat([t, t]), both)
        conditional = beliefs.rows(count, 2 * count)  # of the 2 B rows
        mixed = beliefs.rows(0, count).toward(conditional, scale)
        if rescale == 0.0:
            return mixed
        if not isinstance(mixed, GaussianDenoised) or not isinstance(conditional, GaussianDenoised):
            raise ValueError("cfg: rescale needs a Gaussian belief")
        axes = tuple(range(1, x_t.ndim))
        factor = conditional.mean.std(axes, keepdim=True) / mixed.mean.std(axes, keepdim=True)  # (B, 1, ...)
        return cast(D, mixed.moved(mixed.mean * (rescale * factor + (1.0 - rescale))))

    return guided


def blend(a: Denoise[D], b: Denoise[D], scale: float) -> Denoise[D]:
    """Interpolate two denoisers, a + scale * (b - a); scale > 1 guides b away from a weaker a.

    Karras et al. 2024.
    """

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
    """Guide a denoiser by the gradient of a log-potential on noisy states, such as a classifier.

        mean' = mean + scale * sigma_t^2 / alpha_t * grad_x log h(x_t, t)

    From Tweedie's formula; Dhariwal & Nichol 2021, Alg. 2.

    Args:
        log_h: maps x_t (B, *E) and t (B,) to (B,), in nats; differentiable in x_t, valid for noisy states.
        scale: 0 leaves the denoiser unchanged, 1 is Bayes' rule, a larger scale is stronger guidance.
        interval: range of t in which guidance is used.
    Raises:
        ValueError: log_h returns another shape than (B,), or alpha(t) = 0 inside the interval.
    """

    def guided(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        belief = denoise(x_t, t)
        if scale == 0.0 or not _inside(t, interval):
            return belief
        gain = like(scale * _tweedie_gain(schedule, t), x_t)
        return belief.moved(belief.mean + gain * potential_gradient(log_h, x_t, t))

    return guided


def within(log_h: LogPotential, interval: Interval) -> LogPotential:
    """Restrict a log-potential to an interval of t; outside it the potential and its gradient are 0."""

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
    """Guide a denoiser by a cost of the clean sample, such as an obstacle, a speed limit or a measurement.

        jacobian:    mean' = mean - scale * sigma_t^2 / alpha_t * grad_{x_t} cost(mean(x_t), t)
        no jacobian: mean' = mean - scale * sigma_t^2 / (alpha_t^2 + sigma_t^2) * grad_mean cost(mean, t)

    The first is DPS (Chung et al. 2023). sigma_t^2 / alpha_t times the network's Jacobian is the covariance
    of the belief; the second uses the covariance under a unit-variance prior instead, which saves the
    backward pass through the network. DPS itself changes the state after the step: its zeta is not this
    scale. A guidance around this one takes its gradient through the network, with this shift constant.

    Args:
        cost: maps the clean mean (B, *E) and t (B,) to (B,), in nats; for an exact posterior it must account
            for the variance of the belief at t.
        scale: factor on the gradient; 0 leaves the denoiser unchanged.
        jacobian: take the gradient through the network.
        interval: range of t in which guidance is used.
    Raises:
        ValueError: cost returns another shape than (B,), or alpha(t) = 0 in the interval (with jacobian).
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
        beliefs: list[GaussianDenoised] = []

        def cost_of_mean(x: Tensor, t: Tensor) -> Tensor:
            beliefs.append(denoise(x, t))
            return cost(beliefs[0].mean, t)

        gradient, belief = potential_gradient(cost_of_mean, x_t, t), beliefs[0]
        if x_t.requires_grad and torch.is_grad_enabled():  # another guidance around this one
            belief = denoise(x_t, t)
            return belief.moved(belief.mean - gain * gradient)
        fraction = belief.variance_fraction
        return GaussianDenoised(
            belief.mean.detach() - gain * gradient, None if fraction is None else fraction.detach()
        )

    return guided


def clipped(denoise: GaussianDenoise, low: float | Tensor, high: float | Tensor) -> GaussianDenoise:
    """Clamp the mean of x_0 to [low, high], for every parameterization of the network."""

    def bounded(mean: Tensor) -> Tensor:
        return mean.clamp(
            *(torch.as_tensor(end, dtype=mean.dtype, device=mean.device) for end in (low, high))
        )

    return _remapped(denoise, bounded)


def pinned(denoise: GaussianDenoise, known: Tensor, value: Tensor) -> GaussianDenoise:
    """Replace the mean of x_0 by its known numbers, where there are any, as GLIDE's inpainting does.

    Args:
        known: bool, broadcastable to x_0 (B, *E), true where it is known.
        value: (B, *E), finite.
    """
    return _remapped(denoise, lambda mean: torch.where(known, value.to(mean), mean))


def dynamic_threshold(denoise: GaussianDenoise, quantile: float = 0.995) -> GaussianDenoise:
    """Dynamic thresholding: clamp the mean to [-q, q] and divide by q.

    q is the quantile of |mean| over each sample, at least 1. Saharia et al. 2022, section 2.3.

    Raises:
        ValueError: quantile is outside (0, 1].
    """
    if not 0.0 < quantile <= 1.0:
        raise ValueError(f"dynamic_threshold: quantile must lie in (0, 1], got {quantile}")

    def squeezed(mean: Tensor) -> Tensor:
        bound = mean.abs().flatten(1).quantile(quantile, dim=1).clamp(min=1.0)  # (B,)
        bound = like(bound, mean)
        return mean.clamp(-bound, bound) / bound

    return _remapped(denoise, squeezed)


def reweighted(
    denoise: Denoise[MaskedDenoised], token_score: Tensor, scale: float = 1.0
) -> Denoise[MaskedDenoised]:
    """Reweight token probabilities: p'(token) is proportional to p(token) exp(scale * token_score).

    Args:
        token_score: (V,) or broadcastable to the logits (B, P, V), finite; -1e4 excludes a token.
    """

    def guided(x_t: Tensor, t: Tensor) -> MaskedDenoised:
        belief = denoise(x_t, t)
        return MaskedDenoised(belief.logits + scale * token_score, belief.positions)

    return guided


def tapped(denoise: Denoise[D], callback: Callable[[D, Tensor], None]) -> Denoise[D]:
    """Call `callback` with every belief and its t, for example to show previews during sampling."""

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


def _inside(t: Tensor, interval: Interval) -> bool:
    if interval == ALWAYS:
        return True
    if recording():
        raise ValueError("guidance in an interval of t cannot be recorded as a graph, which would keep one t")
    low, high = interval
    return bool(((t >= low) & (t <= high)).all())


def _tweedie_gain(schedule: Schedule, t: Tensor) -> Tensor:
    alpha = schedule.alpha(t)
    if bool((alpha == 0.0).any()):
        raise ValueError(
            "guidance has infinite gain where alpha(t) = 0; "
            "use an interval that ends at a smaller t, such as (0.0, 0.99)"
        )
    return schedule.sigma(t) ** 2 / alpha


@runtime_checkable
class Steerable(Protocol):
    """A model whose clean samples have physical units: a planner's or a policy's."""

    @property
    def denoiser(self) -> GaussianDenoiser: ...

    def in_units(self, x: Tensor) -> Tensor:
        """Normalised samples (N, H, F) in the data's units, without padding."""
        ...


def costing(
    model: Steerable,
    cost: Callable[[Tensor], Tensor],
    scale: float,
    *,
    jacobian: bool = True,
    until: float = 0.9,
) -> Guidance:
    """Steer plans, or the action chunks of a policy, by your own cost in the data's units.

    Examples are a height limit, a keep-out zone or a preferred side. It can be combined with every form of
    value guidance and with real-time control.

    >>> planner = unveil.load("hopper-medium-expert", preset="default")
    >>> def too_high(plan):
    ...     return (plan[..., 3] - 1.4).clamp(min=0).square().sum(-1)
    >>> planner.steer = costing(planner.model, too_high, scale=300.0)

    Args:
        model: the `.model` of a planner or a policy.
        cost: maps clean plans (N, H, actions + observations), those of an observation-only model (N, H,
            observations), or action chunks of a policy (N, H, actions), to (N,).
        scale: factor on the cost's gradient in normalised units; see `steered`.
        jacobian: take the gradient through the network. Without it only the numbers that the cost reads
            change: torques hardly follow a cost of heights.
        until: largest t at which the cost is used, in (0, 1].
    Raises:
        ValueError: an argument of another type or out of range.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"costing: model must be a torch Module, the .model of a planner or a policy, got {shown(model)}"
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
