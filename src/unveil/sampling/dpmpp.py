"""DPM-Solver++: exponential integrators in the log-SNR, with and without noise."""

from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.process.denoised import GaussianDenoise
from unveil.process.schedule import Schedule, cached, log_snr
from unveil.sampling.noise import Noise


class PastBelief(NamedTuple):
    """The state of a two-step method: the last mean (B, *E), and half the log-SNR at its time."""

    mean: Tensor
    half_log_snr: float


@dataclass(frozen=True)
class DPMpp2M:
    """DPM-Solver++ (2M). Lu et al. 2022, Alg. 2.

        x_s = sigma_s / sigma_t x_t - alpha_s (e^-h - 1) (mean + (mean - last mean) / (2 r))
        lambda = log(alpha / sigma),    h = lambda_s - lambda_t,    r = h_last / h

    Second order with one call per step; the first step and the step to s = 0 are of first order.
    """

    schedule: Schedule

    def step(
        self,
        denoise: GaussianDenoise,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        carry: PastBelief | None,
        generator: Noise,
    ) -> tuple[Tensor, PastBelief]:
        mean = denoise(x_t, t.expand(len(x_t))).mean
        decay, lost, now, h = _dpmpp(self.schedule, float(t), float(s))
        extrapolated = mean
        if carry is not None and isfinite(h):
            extrapolated = mean + 0.5 * h / (now - carry.half_log_snr) * (mean - carry.mean)
        return decay * x_t - lost * extrapolated, PastBelief(mean, now)


@cached
def _dpmpp(schedule: Schedule, t: float, s: float) -> tuple[float, float, float, float]:
    """sigma_s / sigma_t, alpha_s (e^-h - 1), half the log-SNR at t, and h."""
    times = torch.tensor([t, s], dtype=torch.float64, device="cpu")
    (sigma_t, sigma_s), (now, after) = schedule.sigma(times), 0.5 * log_snr(schedule, times)
    h = after - now
    return float(sigma_s / sigma_t), float(schedule.alpha(times)[1] * torch.expm1(-h)), float(now), float(h)
