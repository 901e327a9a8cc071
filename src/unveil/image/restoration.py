"""Image restoration: linear measurements y = A x_0 + noise, and their cost for `steered`.

Song et al. 2023 (Pseudoinverse-guided diffusion), eq. 7-8: the belief about x_0 is taken as N(mean, r^2 I),
so that y is N(A mean, A A' r^2 + noise^2); its -log is the cost. Each A is diagonal in some basis, so that
the inverse is exact and cheap.
"""

from dataclasses import dataclass
from math import pi
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from unveil.process.corrupt import like
from unveil.process.schedule import Schedule
from unveil.sampling.edit import LogPotential


@runtime_checkable
class Operator(Protocol):
    """A linear map of images (B, C, S, S)."""

    def apply(self, x: Tensor) -> Tensor:
        """A x."""
        ...

    def solved(self, y: Tensor, noise: float, spread: Tensor) -> Tensor:
        """(noise^2 I + r^2 A A')^-1 y, for spread r^2, broadcastable to y."""
        ...

    def rows(self, some: slice) -> "Operator":
        """The operator for some of the images."""
        ...


@dataclass(frozen=True, eq=False)
class Hide:
    """Masking: pixels of (N, 1, S, S) bool `known` are measured, the others are 0."""

    known: Tensor

    def apply(self, x: Tensor) -> Tensor:
        return x * self.known.to(x)

    def solved(self, y: Tensor, noise: float, spread: Tensor) -> Tensor:
        return y / (noise**2 + spread * self.known.to(y))

    def rows(self, some: slice) -> "Hide":
        return Hide(self.known[some])


@dataclass(frozen=True)
class Blur:
    """Periodic convolution with a Gaussian of `deviation` pixels: exp(-2 pi^2 deviation^2 f^2) in the Fourier
    basis."""

    deviation: float

    def apply(self, x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * self._gain(x), s=x.shape[-2:])

    def solved(self, y: Tensor, noise: float, spread: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(y) / (noise**2 + spread * self._gain(y) ** 2), s=y.shape[-2:])

    def rows(self, some: slice) -> "Blur":
        return self

    def _gain(self, x: Tensor) -> Tensor:
        down, across = (
            torch.fft.fftfreq(x.shape[-2], device=x.device),
            torch.fft.rfftfreq(x.shape[-1], device=x.device),
        )
        square = down[:, None].to(x.dtype) ** 2 + across.to(x.dtype) ** 2
        return (-2.0 * (pi * self.deviation) ** 2 * square).exp()


@dataclass(frozen=True)
class Shrink:
    """Means over squares of factor x factor pixels; A A' = I / factor^2."""

    factor: int

    def apply(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.factor)

    def solved(self, y: Tensor, noise: float, spread: Tensor) -> Tensor:
        return y / (noise**2 + spread / self.factor**2)

    def rows(self, some: slice) -> "Shrink":
        return self


def measurement_cost(
    operator: Operator, measured: Tensor, noise: float, schedule: Schedule, deviation: float = 0.5
) -> LogPotential:
    """-log p(measured | belief) up to a constant: (clean mean (B, C, S, S), t (B,)) -> (B,), in nats.

    The belief's variance is that of a prior of variance deviation^2: r^2 = deviation^2 sigma^2 / (alpha^2
    deviation^2 + sigma^2).

    Args:
        measured: (B, C, ...), the output of A.
        noise: standard deviation of its noise, above 0.
        deviation: standard deviation of that prior.
    Raises:
        ValueError: no noise, for which the precision would be infinite.
    """
    if not noise > 0.0:
        raise ValueError(f"a measurement needs noise above 0, got {noise}")

    def cost(x_0: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        spread = deviation**2 * sigma**2 / (alpha**2 * deviation**2 + sigma**2)
        miss = measured.to(x_0) - operator.apply(x_0)
        return 0.5 * (miss * operator.solved(miss, noise, like(spread, miss))).flatten(1).sum(1)

    return cost
