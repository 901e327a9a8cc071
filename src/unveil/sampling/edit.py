"""Edits of the state, (x_t, t, generator) -> x_t: inpainting of known positions and gradient ascent."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unveil.process.corrupt import corrupt
from unveil.process.schedule import Schedule
from unveil.sampling.noise import Noise, normal_like

Edit = Callable[[Tensor, Tensor, Noise], Tensor]
LogPotential = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, *E), t (B,)) -> (B,), in nats


def identity(x_t: Tensor, t: Tensor, generator: Noise) -> Tensor:
    """No edit."""
    return x_t


def potential_gradient(log_h: LogPotential, x_t: Tensor, t: Tensor) -> Tensor:
    """The gradient of sum log_h(x, t) with respect to x, at x_t (B, *E) and t (B,).

    Returns:
        Like x_t.
    Raises:
        ValueError: log_h returns another shape than (B,).
    """
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        value = log_h(x, t)
        if value.shape != x_t.shape[:1]:
            raise ValueError(
                f"a log-potential or cost must return one number per sample, shape {tuple(x_t.shape[:1])}, "
                f"got {tuple(value.shape)}"
            )
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return gradient


@dataclass(frozen=True, eq=False)
class Inpaint:
    """Set known positions to their clean values after every step.

    For networks trained with clean known positions: the start of a plan, the observations of a policy, a
    prompt. For any other network use `Replace`.

    Args:
        known: bool, broadcastable to x.
        value: broadcastable to x.
    """

    known: Tensor
    value: Tensor

    def __call__(self, x_t: Tensor, t: Tensor, generator: Noise) -> Tensor:
        return torch.where(self.known, self.value, x_t)


@dataclass(frozen=True, eq=False)
class Replace:
    """Set known positions to their values noised to time t: alpha_t * value + sigma_t * fresh noise.

    For networks trained with noise at every position. Lugmayr et al. 2022 (RePaint), eq. 8a. For RePaint's
    resampling, use times from `grid.jumping` and the solver `Renoise`.

    Args:
        known: bool, broadcastable to x.
        value: broadcastable to x.
    """

    known: Tensor
    value: Tensor
    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor, generator: Noise) -> Tensor:
        noisy = corrupt(self.schedule, self.value.expand_as(x_t), t, normal_like(x_t, generator))
        return torch.where(self.known, noisy, x_t)


@dataclass(frozen=True, eq=False)
class Ascend:
    """Gradient ascent on the state, x += gain(t) * grad_x log_h(x, t), `steps` times.

    This is what Diffuser's released code does before each denoising step; its `scale_grad_by_std` and
    `t_stopgrad` are part of `gain`, which must be 0 at t = 0. Its scales differ from those of `tilted` and
    `Ancestral`. Reset known positions afterwards: `chain(Ascend(...), Inpaint(...))`.

    Args:
        log_h: (x_t (B, *E), t (B,)) -> (B,), in nats.
        gain: maps a scalar t to the step size.
        steps: ascent steps per edit.
        between: edit applied after each ascent step.
    """

    log_h: LogPotential
    gain: Callable[[Tensor], float | Tensor]
    steps: int = 1
    between: Edit = identity

    def __call__(self, x_t: Tensor, t: Tensor, generator: Noise) -> Tensor:
        gain = float(self.gain(t))
        if gain == 0.0:
            return x_t
        for _ in range(self.steps):
            gradient = potential_gradient(self.log_h, x_t, t.expand(len(x_t)))
            x_t = self.between(x_t + gain * gradient, t, generator)
        return x_t


def chain(*edits: Edit) -> Edit:
    """Apply the edits one after another."""

    def run(x_t: Tensor, t: Tensor, generator: Noise) -> Tensor:
        for edit in edits:
            x_t = edit(x_t, t, generator)
        return x_t

    return run
