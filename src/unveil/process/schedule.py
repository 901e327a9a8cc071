"""Noise schedules: the signal scale alpha(t) and the noise scale sigma(t).

    x_t = alpha(t) * x_0 + sigma(t) * eps,    t = 0 clean, t = 1 noise

All arithmetic is float64 on the CPU, because the coefficients of a step are differences of nearly equal
numbers; callers cast them to the state's dtype and device (`process/corrupt.py: like`). At t = 0 every
schedule is exactly clean: alpha is 1 and sigma is 0. For t > 0 the variance-preserving schedules given by a
formula clamp their log-SNR, log(alpha^2 / sigma^2), to [-20, 20].
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
MOST_CACHED = 4096  # cached results per function
Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


@runtime_checkable
class Schedule(Protocol):
    """Maps a time to alpha and sigma, and a log-SNR to its time."""

    def alpha(self, t: Times) -> Times: ...
    def sigma(self, t: Times) -> Times: ...
    def time(self, log_snr: Times) -> Times: ...


def exact(t: Tensor) -> Tensor:
    """The tensor as float64 on the CPU, without gradient."""
    return t.detach().to("cpu", torch.float64)


def one_time(t: Tensor) -> float | None:
    """The time shared by all rows, or None if that cannot be known without reading every row.

    It is known for a scalar, for one row, and for one row expanded to many.
    """
    if t.device.type != "cpu" or not t.numel() or not (t.numel() == 1 or (t.ndim == 1 and t.stride(0) == 0)):
        return None
    return float(t if t.ndim == 0 else t.flatten()[0])


def cached(function: Callable[[*Arguments], Result]) -> Callable[[*Arguments], Result]:
    """Cache the newest results of a function, such as a step's coefficients, which all samples share.

    Arguments, including schedules, must be immutable; if one is not hashable, nothing is cached.
    """
    cache = lru_cache(MOST_CACHED)(function)

    def lookup(*arguments: *Arguments) -> Result:
        try:
            return cache(*arguments)  # pyright: ignore[reportArgumentType]
        except TypeError:
            return function(*arguments)

    return lookup


def log_snr(schedule: Schedule, t: Times) -> Times:
    """log(alpha^2 / sigma^2) at t: +inf where sigma is 0, -inf where alpha is 0."""
    return 2.0 * (schedule.alpha(t).log() - schedule.sigma(t).log())


@runtime_checkable
class _Preserving(Protocol):
    def clamped_log_snr(self, t: Tensor) -> Tensor: ...


def _alpha(self: _Preserving, t: Times) -> Times:
    """alpha of a variance-preserving schedule: alpha^2 = sigmoid(log-SNR), and exactly 1 at t = 0."""
    t = exact(t)
    return torch.where(t <= 0, torch.ones_like(t), self.clamped_log_snr(t).sigmoid().sqrt())


def _sigma(self: _Preserving, t: Times) -> Times:
    """sigma of a variance-preserving schedule: sigma^2 = sigmoid(-log-SNR), and exactly 0 at t = 0."""
    t = exact(t)
    return torch.where(t <= 0, torch.zeros_like(t), (-self.clamped_log_snr(t)).sigmoid().sqrt())


def bisected(
    rises: Callable[[Tensor], Tensor], value: Tensor, highest: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Two times, 2^-steps * highest apart, between which an increasing function of t takes `value`."""
    low, high = torch.zeros_like(value), torch.full_like(value, highest)
    for _ in range(steps):
        middle = 0.5 * (low + high)
        below = rises(middle) < value
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low, high


def bounded(log_snr: Tensor) -> Tensor:
    """A log-SNR as float64, clamped to [-20, 20]."""
    return exact(log_snr).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)


@dataclass(frozen=True)
class LinearBeta:
    """Variance preserving, with beta(t) = beta_min + t * (beta_max - beta_min) and alpha^2 = exp(-int beta).

    The continuous limit of DDPM's table (1e-4 .. 0.02 over 1000 steps). Song et al. 2021, eq. 32.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def clamped_log_snr(self, t: Tensor) -> Tensor:
        integral = self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2
        return bounded(-integral.expm1().log())

    alpha, sigma = _alpha, _sigma

    def time(self, log_snr: Times) -> Times:
        integral = F.softplus(-bounded(log_snr))
        slope = self.beta_max - self.beta_min
        return 2.0 * integral / (self.beta_min + (self.beta_min**2 + 2.0 * slope * integral).sqrt())


@dataclass(frozen=True)
class ScaledLinearBeta:
    """Variance preserving, with sqrt(beta) linear in t: beta(t) = steps * (r_0 + t (r_1 - r_0))^2.

    r_0 and r_1 are the square roots of `beta_start` and `beta_end`, the first and last of `steps` entries of
    a table. Latent Diffusion and Stable Diffusion use this schedule.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps: int = 1000

    def _integral(self, t: Tensor) -> Tensor:
        first = self.beta_start**0.5
        rise = self.beta_end**0.5 - first
        return self.steps * (first**2 * t + first * rise * t**2 + rise**2 * t**3 / 3.0)

    def clamped_log_snr(self, t: Tensor) -> Tensor:
        return bounded(-self._integral(t).expm1().log())

    alpha, sigma = _alpha, _sigma

    def time(self, log_snr: Times) -> Times:
        integral = F.softplus(-bounded(log_snr))
        low, high = bisected(self._integral, integral, 8.0, 64)
        return 0.5 * (low + high)


@dataclass(frozen=True)
class Cosine:
    """Variance preserving: alpha = cos(pi/2 (t + o) / (1 + o)) / cos(pi/2 o / (1 + o)), o = `offset`.

    Nichol & Dhariwal 2021, eq. 17.
    """

    offset: float = 0.008

    def clamped_log_snr(self, t: Tensor) -> Tensor:
        first = 0.5 * pi * self.offset / (1.0 + self.offset)
        angle = t * (0.5 * pi / (1.0 + self.offset)) + first
        # sigma^2 cos^2 f = cos^2 f - cos^2 a = sin(a + f) sin(a - f): no cancellation near t = 0
        noise = (angle + first).sin() * (angle - first).sin()
        return bounded((angle.cos().clamp(min=0.0).square() / noise.clamp(min=0.0)).log())

    alpha, sigma = _alpha, _sigma

    def time(self, log_snr: Times) -> Times:
        alpha = bounded(log_snr).sigmoid().sqrt()
        first = torch.full_like(alpha, 0.5 * pi * self.offset / (1.0 + self.offset))
        return (alpha * first.cos()).acos() * 2.0 / pi * (1.0 + self.offset) - self.offset


@dataclass(frozen=True)
class Flow:
    """The straight path of flow matching and rectified flow: alpha = 1 - t, sigma = t.

    Lipman et al. 2023; Liu et al. 2023.
    """

    def alpha(self, t: Times) -> Times:
        return 1.0 - exact(t)

    def sigma(self, t: Times) -> Times:
        return exact(t)

    def time(self, log_snr: Times) -> Times:
        return (-0.5 * bounded(log_snr)).sigmoid()


@dataclass(frozen=True)
class Karras:
    """Variance exploding: alpha = 1, sigma(t) = (low + t (high - low))^rho, and sigma(0) = 0.

    low = sigma_min^(1/rho) and high = sigma_max^(1/rho). A uniform grid in t then has the noise levels of
    Karras et al. 2022, eq. 5, with 0 instead of the last level; `grid.karras` is eq. 5 itself. Sampling
    starts from sigma(1) * noise.
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
    """A discrete DDPM table: entry i = 1 .. N is at t = i / N, with linear interpolation of the log-SNR.

    Args:
        alpha_bar: (N,), alpha^2 after each step, strictly decreasing, in (0, 1).
    Raises:
        ValueError: the table is not strictly decreasing, or not within (0, 1).
    """

    def __init__(self, alpha_bar: Float[Tensor, " N"]) -> None:
        alpha_bar = exact(alpha_bar)
        if not (
            len(alpha_bar)
            and float(alpha_bar[-1]) > 0
            and float(alpha_bar[0]) < 1
            and bool((alpha_bar.diff() < 0).all())
        ):
            raise ValueError("Tabulated: alpha_bar must be strictly decreasing and lie between 0 and 1")
        entries = alpha_bar.log() - (-alpha_bar).log1p()
        first = torch.full(
            (1,), max(LOG_SNR_LIMIT, float(entries[0]) + 1.0), dtype=torch.float64, device="cpu"
        )
        self.steps = len(alpha_bar)
        self._entries = torch.cat([first, entries])

    def clamped_log_snr(self, t: Tensor) -> Tensor:
        position = (t * self.steps).clamp(0.0, float(self.steps))
        lower = position.floor().clamp(max=self.steps - 1).long()
        return torch.lerp(self._entries[lower], self._entries[lower + 1], position - lower)

    alpha, sigma = _alpha, _sigma

    def time(self, log_snr: Times) -> Times:
        wanted = exact(log_snr).clamp(float(self._entries[-1]), float(self._entries[0]))
        upper = torch.searchsorted(-self._entries, -wanted.contiguous()).clamp(1, self.steps)
        before, after = self._entries[upper - 1], self._entries[upper]
        return (upper - 1 + (wanted - before) / (after - before)) / self.steps


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Float[Tensor, " N"]:
    """Evenly spaced betas of DDPM. Ho et al. 2020, section 4."""
    return torch.linspace(first, last, steps, dtype=torch.float64, device="cpu")


def scaled_linear_betas(
    steps: int = 1000, first: float = 0.00085, last: float = 0.012
) -> Float[Tensor, " N"]:
    """Betas of Latent Diffusion, evenly spaced in their square root."""
    return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64, device="cpu") ** 2


def cosine_betas(steps: int, offset: float = 0.008, largest: float = 0.999) -> Float[Tensor, " N"]:
    """Betas of the cosine schedule, clamped to at most `largest`. Nichol & Dhariwal 2021, section 3.2."""
    t = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64, device="cpu")
    alpha_bar = (0.5 * pi * (t + offset) / (1.0 + offset)).cos() ** 2
    return (1.0 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=largest)


def tabulated(betas: Float[Tensor, " N"]) -> Tabulated:
    """The schedule of a table of betas: alpha_bar is the cumulative product of 1 - beta."""
    return Tabulated((1.0 - exact(betas)).cumprod(0))
