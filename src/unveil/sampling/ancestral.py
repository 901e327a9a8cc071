"""Ancestral sampling, by DDPM's posterior."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.posterior import learned_log_variance, posterior_coefficients
from unveil.process.schedule import Schedule, cached
from unveil.sampling.edit import LogPotential, potential_gradient
from unveil.sampling.noise import Noise, normal_like


@dataclass(frozen=True)
class Ancestral:
    """DDPM's sampler for any s < t: a sample of p(x_s | x_t) = N(posterior mean, variance).

    With `log_h` the mean is shifted by scale * variance * grad_x log_h(x_t, t), as in the released code of
    Dhariwal & Nichol 2021 (Alg. 1); Diffuser's paper takes the gradient at the mean. With variance "small"
    this equals a shift of the belief by sigma_s^2 / alpha_s * grad, but `tilted` shifts it by
    sigma_t^2 / alpha_t * grad, so their scales differ. The step to s = 0 adds no noise.

    Args:
        variance: "small" is beta-tilde, "large" is beta, "learned" interpolates their logarithms by the
            belief's `variance_fraction`.
        temperature: factor on the standard deviation of the noise.
        log_h: log-potential, (x_t (B, *E), t (B,)) -> (B,), in nats.
        scale: factor on the gradient of `log_h`; 0 disables it.
    """

    schedule: Schedule
    variance: Literal["small", "large", "learned"] = "small"
    temperature: float = 1.0
    log_h: LogPotential | None = None
    scale: float = 0.0

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        rows = t.expand(len(x_t))
        belief = denoise(x_t, rows)
        kept, gained, small, large = _posterior(self.schedule, float(t), float(s))
        x_s = kept * x_t + gained * belief.mean
        variance = self._variance(belief, small, large, t, s)
        if self.log_h is not None and self.scale != 0.0:
            x_s = x_s + self.scale * variance * potential_gradient(self.log_h, x_t, rows)
        if float(s) <= 0.0:
            return x_s, None
        deviation = variance.sqrt() if isinstance(variance, Tensor) else variance**0.5
        return x_s + self.temperature * deviation * normal_like(x_t, generator), None

    def _variance(
        self, belief: GaussianDenoised, small: float, large: float, t: Tensor, s: Tensor
    ) -> float | Tensor:
        if self.variance == "small":
            return small
        if self.variance == "large":
            return large
        if belief.variance_fraction is None:
            raise ValueError(
                "Ancestral: this denoiser has no learned variance; use 'small' or 'large', not 'learned'"
            )
        return learned_log_variance(self.schedule, belief.variance_fraction, t, s).exp()


@cached
def _posterior(schedule: Schedule, t: float, s: float) -> tuple[float, float, float, float]:
    """The weights of x_t and of the mean, then beta-tilde and beta."""
    c = posterior_coefficients(schedule, *torch.tensor([t, s], dtype=torch.float64, device="cpu"))
    return float(c.x_t_weight), float(c.x_0_weight), float(c.small), float(c.large)
