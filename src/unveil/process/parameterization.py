"""Parameterizations: the meaning of a network's output F, x_0 = c_skip * x_t + c_out * F(c_in * x_t, t).

A parameterization maps (alpha, sigma), float64, to these coefficients. They determine the training target,

    F* = (x_0 - c_skip x_t) / c_out,

so all parameterizations share one loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Coefficients(NamedTuple):
    """x_0 = skip * x_t + out * F(input * x_t)."""

    skip: Tensor
    out: Tensor
    input: Tensor


Parameterization = Callable[[Tensor, Tensor], Coefficients]


def eps(alpha: Tensor, sigma: Tensor) -> Coefficients:
    """F = the noise. Ho et al. 2020."""
    return Coefficients(1.0 / alpha, -sigma / alpha, torch.ones_like(alpha))


def x0(alpha: Tensor, sigma: Tensor) -> Coefficients:
    """F = the clean sample."""
    return Coefficients(torch.zeros_like(alpha), torch.ones_like(alpha), torch.ones_like(alpha))


def v(alpha: Tensor, sigma: Tensor) -> Coefficients:
    """F = alpha * eps - sigma * x_0. Salimans & Ho 2022, appendix D."""
    power = alpha**2 + sigma**2
    return Coefficients(alpha / power, -sigma / power, torch.ones_like(alpha))


def flow(alpha: Tensor, sigma: Tensor) -> Coefficients:
    """F = eps - x_0; on the schedule `Flow` it is the velocity dx/dt of the path. Lipman et al. 2023."""
    total = alpha + sigma
    return Coefficients(1.0 / total, -sigma / total, torch.ones_like(alpha))


@dataclass(frozen=True)
class EDM:
    """Network input and training target of unit variance for data of standard deviation `sigma_data`.

    Written for x_t / alpha = x_0 + r * eps with r = sigma / alpha, so it holds for every schedule with alpha
    > 0. Karras et al. 2022, table 1.
    """

    sigma_data: float = 0.5

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        ratio, data = sigma / alpha, self.sigma_data
        power = ratio**2 + data**2
        return Coefficients(data**2 / power / alpha, ratio * data / power.sqrt(), 1.0 / power.sqrt() / alpha)
