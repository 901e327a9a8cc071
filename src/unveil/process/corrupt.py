"""The forward process: x_t ~ N(alpha(t) x_0, sigma(t)^2)."""

import torch
from torch import Tensor

from unveil.process.schedule import Schedule


def like(value: Tensor, x: Tensor) -> Tensor:
    """Cast a coefficient to x's dtype and device and append trailing axes, so that it multiplies x.

    Args:
        value: a scalar, (B,), or any number of x's leading axes.
    """
    value = value.to(x.device, x.dtype)
    return value.reshape(value.shape + (1,) * (x.ndim - value.ndim)) if value.ndim else value


def corrupt(schedule: Schedule, x_0: Tensor, t: Tensor, noise: Tensor, known: Tensor | None = None) -> Tensor:
    """Sample x_t = alpha(t) x_0 + sigma(t) noise; positions where `known` is true stay clean.

    Args:
        x_0: (B, *E).
        t: (B,), or any number of x_0's leading axes, in [0, 1].
        noise: standard normal, like x_0.
        known: bool, broadcastable to x_0.
    Returns:
        x_t, like x_0.
    """
    x_t = like(schedule.alpha(t), x_0) * x_0 + like(schedule.sigma(t), x_0) * noise
    return x_t if known is None else torch.where(known, x_0, x_t)
