"""DDIM, with less noise than DDPM or none."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unveil.process.corrupt import like
from unveil.process.denoised import GaussianDenoise
from unveil.process.posterior import posterior_coefficients
from unveil.process.schedule import Schedule, cached
from unveil.sampling.noise import Noise, normal_like


@dataclass(frozen=True)
class DDIM:
    """The DDIM solver. Song, Meng & Ermon 2021, eq. 12.

        x_s = alpha_s mean + sqrt(sigma_s^2 - v) eps_hat + sqrt(v) z
        v = eta^2 beta-tilde,    eps_hat = (x_t - alpha_t mean) / sigma_t

    eta = 0 is the Euler step of the probability flow, and with `Flow` the Euler step of flow matching. With
    eta = 1 it is DDPM's posterior with variance beta-tilde.
    """

    schedule: Schedule
    eta: float = 0.0

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        mean = denoise(x_t, t.expand(len(x_t))).mean
        if t.ndim:  # every row has its own step
            kept, gained, deviation = (
                like(factor, x_t) for factor in _factors(self.schedule, self.eta, t, s)
            )
        else:
            kept, gained, deviation = ddim_factors(self.schedule, self.eta, float(t), float(s))
        x_s = kept * x_t + gained * mean
        return (x_s if self.eta == 0.0 else x_s + deviation * normal_like(x_t, generator)), None


def _factors(schedule: Schedule, eta: float, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The factors of x_t, of the mean and of fresh noise."""
    both = torch.stack([t, s])
    (alpha_t, alpha_s), (sigma_t, sigma_s) = schedule.alpha(both), schedule.sigma(both)
    if eta == 0.0:
        return sigma_s / sigma_t, alpha_s - alpha_t * sigma_s / sigma_t, torch.zeros_like(sigma_s)
    variance = eta**2 * posterior_coefficients(schedule, t, s).small
    kept = (sigma_s**2 - variance).clamp(min=0.0).sqrt() / sigma_t
    return kept, alpha_s - alpha_t * kept, variance.sqrt()


@cached
def ddim_factors(schedule: Schedule, eta: float, t: float, s: float) -> tuple[float, float, float]:
    """The factors of x_t, of the mean and of fresh noise, of the step from t to s."""
    now, after = torch.tensor([t, s], dtype=torch.float64, device="cpu")
    kept, gained, deviation = _factors(schedule, eta, now, after)
    return float(kept), float(gained), float(deviation)
