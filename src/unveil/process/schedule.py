"""Noise schedules: how much of x_0 is left, alpha(t), and how much noise there is, sigma(t).

    x_t = alpha(t) * x_0 + sigma(t) * eps,    t = 0 clean, t = 1 noise

All arithmetic is float64 on the CPU, since a step's coefficients are differences of nearly equal numbers; whoever multiplies a state
moves them to it (`process/corrupt.py: like`). At t = 0 every schedule is exactly clean: alpha 1, sigma 0. The variance-preserving
schedules given by a formula keep their log-SNR, log(alpha^2 / sigma^2), within +-20 elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import Protocol, TypeVar, TypeVarTuple, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Times = Float[Tensor, "*B"]
LOG_SNR_LIMIT = 20.0
MOST_REMEMBERED = 4096  # results of one function
Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


@runtime_checkable
class Schedule(Protocol):
    """alpha and sigma of a time, and the time of a log-SNR."""

    def alpha(self, t: Times) -> Times: ...
    def sigma(self, t: Times) -> Times: ...
    def time(self, log_snr: Times) -> Times: ...


def exact(t: Tensor) -> Tensor:
    """The tensor as float64 on the CPU."""
    return t.detach().to("cpu", torch.float64)


def one_time(t: Tensor) -> float | None:
    """The number that a time is in all rows, if that is seen without reading them: a scalar, one row, or one expanded to many."""
    if t.device.type != "cpu" or not t.numel() or not (t.numel() == 1 or (t.ndim == 1 and t.stride(0) == 0)):
        return None
    return float(t if t.ndim == 0 else t.flatten()[0])


def remembered(function: Callable[[*Arguments], Result]) -> Callable[[*Arguments], Result]:
    """The function with its newest results kept: for the numbers of a step, which are the same in every sample.

    Its arguments, schedules among them, must not change; with one that cannot be hashed the function is called each time.
    """
    kept = lru_cache(MOST_REMEMBERED)(function)

    def found(*arguments: *Arguments) -> Result:
        try:
            return kept(*arguments)  # pyright: ignore[reportArgumentType]
        except TypeError:
            return function(*arguments)

    return found


def log_snr(schedule: Schedule, t: Times) -> Times:
    """log(alpha^2 / sigma^2) of a time: +inf where it is clean, -inf where alpha is 0."""
    return 2.0 * (schedule.alpha(t).log() - schedule.sigma(t).log())


def _alpha(log_snr: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """Of a variance-preserving schedule given by its log-SNR: alpha^2 = sigmoid(log-SNR), and exactly 1 at t = 0."""
    t = exact(t)
    return torch.where(t <= 0, torch.ones_like(t), log_snr(t).sigmoid().sqrt())


def _sigma(log_snr: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """sigma^2 = sigmoid(-log-SNR), and exactly 0 at t = 0."""
    t = exact(t)
    return torch.where(t <= 0, torch.zeros_like(t), (-log_snr(t)).sigmoid().sqrt())


def _bounded(log_snr: Tensor) -> Tensor:
    return exact(log_snr).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)


@dataclass(frozen=True)
class LinearBeta:
    """Variance preserving with beta(t) = beta_min + t * (beta_max - beta_min): alpha^2 = exp(-integral of beta).

    The continuous limit of DDPM's table (1e-4 .. 0.02 over 1000 steps). Song et al. 2021, eq. 32.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _log_snr(self, t: Tensor) -> Tensor:
        integral = self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2
        return _bounded(-integral.expm1().log())

    def alpha(self, t: Times) -> Times:
        return _alpha(self._log_snr, t)

    def sigma(self, t: Times) -> Times:
        return _sigma(self._log_snr, t)

    def time(self, log_snr: Times) -> Times:
        integral = F.softplus(-_bounded(log_snr))
        slope = self.beta_max - self.beta_min
        return 2.0 * integral / (self.beta_min + (self.beta_min**2 + 2.0 * slope * integral).sqrt())


@dataclass(frozen=True)
class ScaledLinearBeta:
    """Variance preserving with sqrt(beta) linear in t, as latent and Stable Diffusion: beta(t) = steps * (r_0 + t (r_1 - r_0))^2.

    r_0 and r_1 are the square roots of `beta_start` and `beta_end`, the first and last entries of a table of `steps` entries.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps: int = 1000

    def _integral(self, t: Tensor) -> Tensor:
        first = self.beta_start**0.5
        rise = self.beta_end**0.5 - first
        return self.steps * (first**2 * t + first * rise * t**2 + rise**2 * t**3 / 3.0)

    def _log_snr(self, t: Tensor) -> Tensor:
        return _bounded(-self._integral(t).expm1().log())

    def alpha(self, t: Times) -> Times:
        return _alpha(self._log_snr, t)

    def sigma(self, t: Times) -> Times:
        return _sigma(self._log_snr, t)

    def time(self, log_snr: Times) -> Times:
        wanted = F.softplus(-_bounded(log_snr))
        low, high = torch.zeros_like(wanted), torch.full_like(wanted, 8.0)
        for _ in range(64):  # bisection: the integral rises with t
            middle = 0.5 * (low + high)
            below = self._integral(middle) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 0.5 * (low + high)


@dataclass(frozen=True)
class Cosine:
    """alpha = cos(pi/2 (t + o) / (1 + o)) / cos(pi/2 o / (1 + o)), o = `offset`, variance preserving. Nichol & Dhariwal 2021, eq. 17."""

    offset: float = 0.008

    def _log_snr(self, t: Tensor) -> Tensor:
        first = 0.5 * pi * self.offset / (1.0 + self.offset)
        angle = t * (0.5 * pi / (1.0 + self.offset)) + first
        # sigma^2 cos^2 f = cos^2 f - cos^2 a = sin(a + f) sin(a - f): no cancellation near t = 0
        lost = (angle + first).sin() * (angle - first).sin()
        return _bounded((angle.cos().clamp(min=0.0).square() / lost.clamp(min=0.0)).log())

    def alpha(self, t: Times) -> Times:
        return _alpha(self._log_snr, t)

    def sigma(self, t: Times) -> Times:
        return _sigma(self._log_snr, t)

    def time(self, log_snr: Times) -> Times:
        alpha = _bounded(log_snr).sigmoid().sqrt()
        first = torch.full_like(alpha, 0.5 * pi * self.offset / (1.0 + self.offset))
        return (alpha * first.cos()).acos() * 2.0 / pi * (1.0 + self.offset) - self.offset


@dataclass(frozen=True)
class Flow:
    """The straight path of flow matching and rectified flow: alpha = 1 - t, sigma = t. Lipman et al. 2023; Liu et al. 2023."""

    def alpha(self, t: Times) -> Times:
        return 1.0 - exact(t)

    def sigma(self, t: Times) -> Times:
        return exact(t)

    def time(self, log_snr: Times) -> Times:
        return (-0.5 * _bounded(log_snr)).sigmoid()


@dataclass(frozen=True)
class Karras:
    """Variance exploding: alpha = 1, sigma(t) = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho.

    A uniform grid in t is then spaced as in Karras et al. 2022, eq. 5, with 0 in the place of its last level; `grid.karras` is eq. 5
    itself. States start as sigma(1) * noise.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def alpha(self, t: Times) -> Times:
        return torch.ones_like(exact(t))

    def sigma(self, t: Times) -> Times:
        t = exact(t)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return torch.where(t <= 0, torch.zeros_like(t), (low + t * (high - low)) ** self.rho)

    def time(self, log_snr: Times) -> Times:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        root = (-0.5 * exact(log_snr) / self.rho).exp()
        return ((root - low) / (high - low)).clamp(min=1e-12)


class Tabulated:
    """A discrete DDPM table: entry i of N, counted from 1, is t = i / N; between entries the log-SNR is interpolated linearly.

    Args:
        alpha_bar: (N,), alpha^2 after each step, falling within (0, 1).
    Raises:
        ValueError: the table does not fall strictly within (0, 1).
    """

    def __init__(self, alpha_bar: Float[Tensor, " N"]) -> None:
        alpha_bar = exact(alpha_bar)
        if not (
            len(alpha_bar)
            and float(alpha_bar[-1]) > 0
            and float(alpha_bar[0]) < 1
            and bool((alpha_bar.diff() < 0).all())
        ):
            raise ValueError("Tabulated: alpha_bar must fall strictly, all of it between 0 and 1")
        entries = alpha_bar.log() - (-alpha_bar).log1p()
        first = torch.full(
            (1,), max(LOG_SNR_LIMIT, float(entries[0]) + 1.0), dtype=torch.float64, device="cpu"
        )
        self.steps = len(alpha_bar)
        self._entries = torch.cat([first, entries])

    def _log_snr(self, t: Tensor) -> Tensor:
        place = (t * self.steps).clamp(0.0, float(self.steps))
        lower = place.floor().clamp(max=self.steps - 1).long()
        return torch.lerp(self._entries[lower], self._entries[lower + 1], place - lower)

    def alpha(self, t: Times) -> Times:
        return _alpha(self._log_snr, t)

    def sigma(self, t: Times) -> Times:
        return _sigma(self._log_snr, t)

    def time(self, log_snr: Times) -> Times:
        wanted = exact(log_snr).clamp(float(self._entries[-1]), float(self._entries[0]))
        upper = torch.searchsorted(-self._entries, -wanted.contiguous()).clamp(1, self.steps)
        before, after = self._entries[upper - 1], self._entries[upper]
        return (upper - 1 + (wanted - before) / (after - before)) / self.steps


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Float[Tensor, " N"]:
    """DDPM's betas, evenly spaced. Ho et al. 2020, section 4."""
    return torch.linspace(first, last, steps, dtype=torch.float64, device="cpu")


def scaled_linear_betas(
    steps: int = 1000, first: float = 0.00085, last: float = 0.012
) -> Float[Tensor, " N"]:
    """Latent diffusion's betas, evenly spaced in their square root."""
    return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64, device="cpu") ** 2


def cosine_betas(steps: int, offset: float = 0.008, largest: float = 0.999) -> Float[Tensor, " N"]:
    """Betas of the cosine schedule, capped at `largest`. Nichol & Dhariwal 2021, section 3.2."""
    t = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64, device="cpu")
    alpha_bar = (0.5 * pi * (t + offset) / (1.0 + offset)).cos() ** 2
    return (1.0 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=largest)


def tabulated(betas: Float[Tensor, " N"]) -> Tabulated:
    """The table of alpha_bar = cumulative product of (1 - beta)."""
    return Tabulated((1.0 - exact(betas)).cumprod(0))
