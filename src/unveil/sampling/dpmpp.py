"""DPM-Solver++: exponential integrators in the log-SNR, with and without noise."""

from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.process.denoised import GaussianDenoise
from unveil.process.schedule import Schedule, cached, log_snr
from unveil.sampling.ddim import ddim_factors
from unveil.sampling.noise import Noise, normal_like


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
        return decay * x_t - lost * _extrapolated(mean, carry, now, h), PastBelief(mean, now)


def _extrapolated(mean: Tensor, carry: PastBelief | None, now: float, h: float) -> Tensor:
    """The mean in the middle of the step; of its beginning, if it is the first step or infinitely long."""
    if carry is None or not isfinite(h):
        return mean
    return mean + 0.5 * h / (now - carry.half_log_snr) * (mean - carry.mean)


@cached
def _dpmpp(schedule: Schedule, t: float, s: float) -> tuple[float, float, float, float]:
    """sigma_s / sigma_t, alpha_s (e^-h - 1), half the log-SNR at t, and h."""
    times = torch.tensor([t, s], dtype=torch.float64, device="cpu")
    (sigma_t, sigma_s), (now, after) = schedule.sigma(times), 0.5 * log_snr(schedule, times)
    h = after - now
    return float(sigma_s / sigma_t), float(schedule.alpha(times)[1] * torch.expm1(-h)), float(now), float(h)


@dataclass(frozen=True)
class DPMpp2MSDE:
    """SDE-DPM-Solver++ (2M), by the midpoint rule, for the reverse SDE instead of the probability flow.

        x_s = sigma_s / sigma_t e^(-eta h) x_t + alpha_s (1 - e^(-(1 + eta) h)) extrapolated
              + sigma_s sqrt(1 - e^(-2 eta h)) z
        extrapolated = mean + (mean - last mean) / (2 r),    h and r as in `DPMpp2M`

    With eta = 0 it is `DPMpp2M`. One call per step; the first step and the step to s = 0 are of first order,
    and the latter adds no noise. On every schedule; a first step from alpha = 0 keeps nothing of x_t if eta >
    0. Lu et al. 2022, section 5; k-diffusion's `sample_dpmpp_2m_sde`.

    The noise z of each step is drawn from the sampler's generator, as in diffusers' multi-step scheduler.
    k-diffusion takes increments of a Brownian tree (`noise_sampler`), which on one grid of times are
    independent standard normal numbers too: the same distribution, but another picture for a seed.
    """

    schedule: Schedule
    eta: float = 1.0

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
        decay, gained, deviation, now, h = _dpmpp_sde(self.schedule, self.eta, float(t), float(s))
        x_s = decay * x_t + gained * _extrapolated(mean, carry, now, h)
        if deviation > 0.0:
            x_s = x_s + deviation * normal_like(x_t, generator)
        return x_s, PastBelief(mean, now)


@cached
def _dpmpp_sde(
    schedule: Schedule, eta: float, t: float, s: float
) -> tuple[float, float, float, float, float]:
    """The factors of x_t, of the mean and of fresh noise; half the log-SNR at t, and h."""
    times = torch.tensor([t, s], dtype=torch.float64, device="cpu")
    (sigma_t, sigma_s), (now, after) = schedule.sigma(times), 0.5 * log_snr(schedule, times)
    h = after - now
    noisy = eta * h if eta > 0.0 else torch.zeros_like(h)  # h may be infinite
    return (
        float(sigma_s / sigma_t * torch.exp(-noisy)),
        float(schedule.alpha(times)[1] * -torch.expm1(-h - noisy)),
        float(sigma_s * (-torch.expm1(-2.0 * noisy)).sqrt()),
        float(now),
        float(h),
    )


@dataclass(frozen=True)
class DPMppSDE:
    """SDE-DPM-Solver++ (single step, second order, midpoint 1/2), as in k-diffusion's `sample_dpmpp_sde`.

        m: the time whose log-SNR is in the middle of those of t and s
        x_m = step from t to m with the mean at t,    x_s = step from t to s with the mean at (x_m, m)

    Both steps are those of `EulerAncestral`; the step to s = 0 is one of first order, without noise. Two
    network calls per step but the last. On every schedule, for times with alpha > 0. With eta = 0 it is
    DPM-Solver++ (2S). Lu et al. 2022, Alg. 1 and section 5.

    The noises of both steps are increments of one Brownian motion in sigma / alpha = r, drawn by two normal
    numbers per step:

        z_m = z_1,    z_s = c z_1 + sqrt(1 - c^2) z_2,    c^2 = (r_t - r_m) / (r_t - r_s)

    k-diffusion and diffusers draw the same distribution from a Brownian tree (`noise_sampler`), so that a
    seed's picture changes little with the number of steps; here it is another picture. With independent
    noises the variance of the samples would converge with order 1 only.

    Raises:
        ValueError: a step from alpha = 0.
    """

    schedule: Schedule
    eta: float = 1.0

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        mean = denoise(x_t, t.expand(len(x_t))).mean
        kept, gained, deviation = ddim_factors(self.schedule, self.eta, float(t), float(s))
        if float(self.schedule.sigma(s)) == 0.0:
            return kept * x_t + gained * mean, None
        middle, shared, own = _middle(self.schedule, float(t), float(s))
        kept_m, gained_m, deviation_m = ddim_factors(self.schedule, self.eta, float(t), middle)
        x_m = kept_m * x_t + gained_m * mean
        first = None
        if deviation > 0.0:
            first = normal_like(x_t, generator)
            x_m = x_m + deviation_m * first
        m = torch.full_like(t, middle)
        x_s = kept * x_t + gained * denoise(x_m, m.expand(len(x_t))).mean
        if first is not None:
            x_s = x_s + deviation * (shared * first + own * normal_like(x_t, generator))
        return x_s, None


@cached
def _middle(schedule: Schedule, t: float, s: float) -> tuple[float, float, float]:
    """The time in the middle, and how much of the noise up to there and of fresh noise the whole step has."""
    times = torch.tensor([t, s], dtype=torch.float64, device="cpu")
    snr = log_snr(schedule, times)
    if not bool(snr.isfinite().all()):
        raise ValueError("DPMppSDE: a step cannot start where alpha(t) = 0; start the time grid below 1")
    middle = schedule.time(snr.mean())
    r_t, r_s = (-0.5 * snr).exp()
    r_m = (-0.5 * snr.mean()).exp()
    shared = ((r_t - r_m) / (r_t - r_s)).sqrt()
    return float(middle), float(shared), float((1.0 - shared**2).sqrt())
