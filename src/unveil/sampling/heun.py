"""Heun's method for the probability flow."""

from dataclasses import dataclass

from torch import Tensor

from unveil.process.corrupt import like
from unveil.process.denoised import GaussianDenoise
from unveil.process.schedule import Schedule
from unveil.sampling.churn import churned
from unveil.sampling.noise import Noise


@dataclass(frozen=True)
class Heun:
    """Heun's method (the trapezoidal rule) for dx = mean d(alpha) + eps_hat d(sigma).

    Second order, two network calls per step. The step to s = 0 is an Euler step. With alpha = 1 (`Karras`)
    this is the sampler of Karras et al. 2022, Alg. 1 and 2; with `Flow` it is Heun's method for the velocity.
    It can start at any time, including alpha = 0.

    Args:
        churn: before each step the ratio sigma / alpha is multiplied by 1 + churn and matching noise is
            added; the paper's S_churn / N, clamped to at most sqrt(2) - 1 as there. 0 disables it.
        churn_noise: factor on the added noise, the paper's S_noise.
        churn_range: range of sigma / alpha in which churn is used, the paper's S_tmin and S_tmax.
    """

    schedule: Schedule
    churn: float = 0.0
    churn_noise: float = 1.0
    churn_range: tuple[float, float] = (0.0, float("inf"))

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        if self.churn > 0.0:
            x_t, t = churned(self.schedule, x_t, t, self.churn, self.churn_noise, self.churn_range, generator)
        alpha_t, sigma_t = self.schedule.alpha(t), self.schedule.sigma(t)
        alpha_s, sigma_s = self.schedule.alpha(s), self.schedule.sigma(s)
        mean = denoise(x_t, t.expand(len(x_t))).mean
        noise = (x_t - like(alpha_t, x_t) * mean) / like(sigma_t, x_t)
        x_s = x_t + like(alpha_s - alpha_t, x_t) * mean + like(sigma_s - sigma_t, x_t) * noise
        if float(sigma_s) == 0.0:
            return x_s, None
        mean_s = denoise(x_s, s.expand(len(x_t))).mean
        noise_s = (x_s - like(alpha_s, x_t) * mean_s) / like(sigma_s, x_t)
        rise, fall = like(0.5 * (alpha_s - alpha_t), x_t), like(0.5 * (sigma_s - sigma_t), x_t)
        return x_t + rise * (mean + mean_s) + fall * (noise + noise_s), None
