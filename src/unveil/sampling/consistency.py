"""Samplers of distilled students, whose belief is the endpoint of the probability flow."""

from dataclasses import dataclass

from torch import Tensor

from unveil.process.corrupt import like
from unveil.process.denoised import GaussianDenoise
from unveil.process.schedule import Schedule
from unveil.sampling.noise import Noise, normal_like


@dataclass(frozen=True)
class Consistency:
    """Multistep consistency sampling: x_s = alpha_s f(x_t, t) + sigma_s z. Song et al. 2023, Alg. 1.

    f must predict the endpoint of the probability flow, as distilled students do. The mean of an ordinary
    denoiser averages over many endpoints, so samples made with it collapse.
    """

    schedule: Schedule

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        end = denoise(x_t, t.expand(len(x_t))).mean  # (B, *E)
        if float(s) <= 0.0:
            return end, None
        return like(self.schedule.alpha(s), x_t) * end + like(self.schedule.sigma(s), x_t) * normal_like(
            x_t, generator
        ), None


@dataclass(frozen=True)
class LCM:
    """Sampling of latent consistency models, which were distilled on a table of N entries.

        f = c_skip x_t + c_out mean,    x_s = alpha_s f + sigma_s z
        c_skip = d^2 / (u^2 + d^2),    c_out = u / sqrt(u^2 + d^2),    u = time_scale (N t - 1)

    The step to s = 0 returns f. This is `Consistency` with the boundary condition of Luo et al. 2023, section
    4.1, which matters at the first entries only. The formula holds on every schedule, but the mean of an
    ordinary denoiser is no consistency function, and samples made with it collapse.

    Args:
        train_steps: N, the entries of the table.
        time_scale: factor of the entry's index, counted from 0.
        sigma_data: d, the standard deviation of the data.
    """

    schedule: Schedule
    train_steps: int = 1000
    time_scale: float = 10.0
    sigma_data: float = 0.5

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        u, d = self.time_scale * (self.train_steps * float(t) - 1.0), self.sigma_data
        skip, out = d**2 / (u**2 + d**2), u / (u**2 + d**2) ** 0.5
        end = skip * x_t + out * denoise(x_t, t.expand(len(x_t))).mean  # (B, *E)
        if float(s) <= 0.0:
            return end, None
        alpha, sigma = float(self.schedule.alpha(s)), float(self.schedule.sigma(s))
        return alpha * end + sigma * normal_like(x_t, generator), None
