"""Edits of the state: (x_t, t, generator) -> x_t. Known positions in three forms, and gradient ascent on the state."""

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
    """grad_x sum log_h(x, t) at x_t, for t (B,).

    Raises:
        ValueError: log_h returns anything but shape (B,).
    """
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        value = log_h(x, t)
        if value.shape != x_t.shape[:1]:
            raise ValueError(
                f"log_h must return shape {tuple(x_t.shape[:1])}, one number a sample, got {tuple(value.shape)}"
            )
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return gradient


@dataclass(frozen=True, eq=False)
class Inpaint:
    """Known positions are set to their clean values after every step.

    For networks trained with these positions clean: a plan's start, a policy's observations, a prompt. Any other network wants
    `Replace`.

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
    """Known positions are set to their values noised to t: alpha_t * value + sigma_t * fresh noise.

    For networks that saw every position noisy. Lugmayr et al. 2022 (RePaint), eq. 8a. Its resampling jumps are times from
    `grid.jumping` and the solver `Renoise`.
    """

    known: Tensor
    value: Tensor
    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor, generator: Noise) -> Tensor:
        noisy = corrupt(self.schedule, self.value.expand_as(x_t), t, normal_like(x_t, generator))
        return torch.where(self.known, noisy, x_t)


@dataclass(frozen=True, eq=False)
class Ascend:
    """`steps` times x += gain(t) * grad_x log_h(x, t): what Diffuser's released code does before each denoising step.

    Its `scale_grad_by_std` and `t_stopgrad` belong to `gain`, which must be 0 at t = 0. Scales do not carry over to `tilted` or
    to `Ancestral`. Put known positions back after it: `chain(Ascend(...), Inpaint(...))`.

    Args:
        log_h: (x_t (B, *E), t (B,)) -> (B,).
        gain: a scalar t to a number.
        between: applied after each ascent step.
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
    """The edits one after another."""

    def run(x_t: Tensor, t: Tensor, generator: Noise) -> Tensor:
        for edit in edits:
            x_t = edit(x_t, t, generator)
        return x_t

    return run
