"""Euler's method for the probability flow, and its ancestral form, as k-diffusion has them."""

from dataclasses import dataclass

from torch import Tensor

from unveil.process.denoised import GaussianDenoise
from unveil.process.schedule import Schedule
from unveil.sampling.churn import churned
from unveil.sampling.ddim import DDIM, ddim_factors
from unveil.sampling.noise import Noise


@dataclass(frozen=True)
class Euler:
    """Euler's method for x / alpha as a function of r = sigma / alpha. Karras et al. 2022, Alg. 2.

        x_s / alpha_s = x_t / alpha_t + (r_s - r_t) eps_hat,    eps_hat = (x_t - alpha_t mean) / sigma_t

    Multiplied by alpha_s this is `DDIM` with eta = 0, on every schedule; what it adds is churn. First order,
    one network call per step; it can start at alpha = 0. k-diffusion's `sample_euler`: with churn the network
    is called at the noisier state, whereas diffusers uses the noise predicted before churn.

    Args:
        churn, churn_noise, churn_range: as in `Heun`.
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
        kept, gained, _ = ddim_factors(self.schedule, 0.0, float(t), float(s))
        return kept * x_t + gained * denoise(x_t, t.expand(len(x_t))).mean, None


@dataclass(frozen=True)
class EulerAncestral:
    """Euler's step down to r_down < r_s, then noise up to r_s, where r = sigma / alpha.

        r_up = eta r_s sqrt(1 - r_s^2 / r_t^2),    r_down^2 = r_s^2 - r_up^2
        x_s / alpha_s = x_t / alpha_t + (r_down - r_t) eps_hat + r_up z

    Since (alpha_s r_up)^2 = eta^2 beta-tilde, this is `DDIM` with the same eta, on every schedule: with eta =
    1 it is `Ancestral` with variance "small", and only its usual times make it another sampler. It can start
    at alpha = 0. k-diffusion's `sample_euler_ancestral`.
    """

    schedule: Schedule
    eta: float = 1.0

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        return DDIM(self.schedule, self.eta).step(denoise, x_t, t, s, carry, generator)
