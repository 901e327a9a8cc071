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
