"""Distributions whose exact denoisers are known in closed form."""

import torch
from torch import Tensor

from unveil.process.denoised import GaussianDenoised
from unveil.process.schedule import (
    Cosine,
    Flow,
    Karras,
    LinearBeta,
    ScaledLinearBeta,
    Tabulated,
    linear_betas,
    tabulated,
)

CONTINUOUS = [LinearBeta(), Cosine(), ScaledLinearBeta(), Flow(), Karras(sigma_max=10.0)]
TABLE: Tabulated = tabulated(linear_betas())
VARIANCE_PRESERVING = [LinearBeta(), Cosine(), ScaledLinearBeta(), TABLE]
ALL = [*CONTINUOUS, TABLE]
NAMES = ["linear", "cosine", "scaled-linear", "flow", "karras", "table"]


def column(value: Tensor, x: Tensor) -> Tensor:
    return value.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))


class GaussianData:
    """x_0 ~ N(mean, deviation^2) in every number; the exact E[x_0 | x_t] and the exact probability-flow
    map."""

    def __init__(self, schedule, mean: float = 0.0, deviation: float = 1.0) -> None:
        self.schedule, self.mean, self.deviation = schedule, mean, deviation

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> GaussianDenoised:
        alpha, sigma = column(self.schedule.alpha(t), x_t), column(self.schedule.sigma(t), x_t)
        variance = (alpha * self.deviation) ** 2 + sigma**2
        gain = alpha * self.deviation**2 / variance
        return GaussianDenoised(self.mean + gain * (x_t - alpha * self.mean))

    def marginal(self, t: Tensor) -> tuple[float, float]:
        """Mean and deviation of x_t."""
        alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
        return alpha * self.mean, ((alpha * self.deviation) ** 2 + sigma**2) ** 0.5

    def flowed(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The exact probability flow from t to s keeps the standardised position."""
        (m_t, d_t), (m_s, d_s) = self.marginal(t), self.marginal(s)
        return m_s + (x - m_t) / d_t * d_s


class MixtureData:
    """x_0 ~ sum_k w_k N(m_k, d^2), one number a sample (B, 1): a nonlinear denoiser in closed form."""

    def __init__(
        self, schedule, means=(-1.5, 0.3, 2.0), weights=(0.3, 0.5, 0.2), deviation: float = 0.25
    ) -> None:
        self.schedule = schedule
        self.means = torch.tensor(means, dtype=torch.float64)
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.deviation = deviation

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> GaussianDenoised:
        alpha, sigma = column(self.schedule.alpha(t), x_t), column(self.schedule.sigma(t), x_t)
        variance = (alpha * self.deviation) ** 2 + sigma**2
        logits = self.weights.log() - (x_t - alpha * self.means) ** 2 / (2 * variance)
        each = self.means + alpha * self.deviation**2 / variance * (x_t - alpha * self.means)
        return GaussianDenoised((logits.softmax(-1) * each).sum(-1, keepdim=True).to(x_t.dtype))
