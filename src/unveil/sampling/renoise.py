"""Steps towards noise, for times that also increase."""

from dataclasses import dataclass

from torch import Tensor

from unveil.process.corrupt import like
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.schedule import Schedule
from unveil.sampling.loop import Solver
from unveil.sampling.noise import Noise, normal_like


@dataclass(frozen=True)
class Renoise:
    """Use `solver` for steps to a cleaner s < t, and the forward process for steps towards noise, s > t.

    The forward step is x_s = (alpha_s / alpha_t) x_t + noise, and noise of variance
    sigma_s^2 - (alpha_s / alpha_t)^2 sigma_t^2 preserves the marginals. A step towards noise resets the
    solver's `carry`. For such times see `grid.jumping`: RePaint (Lugmayr et al. 2022, Alg. 1, line 9).
    """

    solver: Solver[GaussianDenoised]
    schedule: Schedule

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: object, generator: Noise
    ) -> tuple[Tensor, object]:
        if float(s) <= float(t):
            return self.solver.step(denoise, x_t, t, s, carry, generator)
        ratio = self.schedule.alpha(s) / self.schedule.alpha(t)
        added = (self.schedule.sigma(s) ** 2 - (ratio * self.schedule.sigma(t)) ** 2).clamp(min=0.0).sqrt()
        return like(ratio, x_t) * x_t + like(added, x_t) * normal_like(x_t, generator), None
