"""Pseudo numerical methods: past predictions of the network mixed linearly, then one step of DDIM."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unveil.process.denoised import GaussianDenoise
from unveil.process.schedule import Schedule, cached
from unveil.sampling.noise import Noise

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the newest prediction and of those before it, for steps of equal length."""


@dataclass(frozen=True)
class PNDM:
    """PLMS: the linear multi-step form of PNDM, without Runge-Kutta steps. Liu et al. 2022, eq. 12.

        F' = sum_i w_i F_i,    the w_i of Adams & Bashforth, of order 1 to 4
        x_s = alpha_s / alpha_t x_t + (sigma_s - sigma_t alpha_s / alpha_t) eps'

    The first step is Heun's: F' is the mean of F at t and of F at the state to which an Euler step leads, and
    the second of them is not kept, so N steps call the network N + 1 times. Second order, if the times are
    evenly spaced as the weights assume. On every schedule, for times with alpha > 0.

    Args:
        mixes: what F is. "eps" is the paper's, whatever the network predicts: eps = (x_t - alpha_t mean) /
            sigma_t. "v": alpha eps - sigma x_0; then eps' = (alpha_t F' + sigma_t x_t) / (alpha_t^2 +
            sigma_t^2). This is what diffusers does with networks that predict v, since it mixes their
            outputs. It is another solver, and of first order: F' is that of the middle of the step, but
            becomes eps' by the levels of its beginning.
    Raises:
        ValueError: a step from alpha = 0.
    """

    schedule: Schedule
    mixes: Literal["eps", "v"] = "eps"

    def step(
        self,
        denoise: GaussianDenoise,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        carry: tuple[Tensor, ...] | None,
        generator: Noise,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        new = self._output(denoise, x_t, t)
        past = (new, *(carry or ()))[: len(ADAMS_BASHFORTH)]
        if carry is None and float(self.schedule.sigma(s)) > 0.0:
            mixed = 0.5 * (new + self._output(denoise, self._moved(x_t, new, t, s), s))
        else:
            weights = ADAMS_BASHFORTH[len(past) - 1]
            mixed = sum((w * output for w, output in zip(weights, past, strict=True)), torch.zeros_like(x_t))
        return self._moved(x_t, mixed, t, s), past

    def _output(self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor) -> Tensor:
        """F, from the belief at x_t."""
        alpha, sigma = _levels(self.schedule, float(t))
        mean = denoise(x_t, t.expand(len(x_t))).mean
        noise = (x_t - alpha * mean) / sigma
        return noise if self.mixes == "eps" else alpha * noise - sigma * mean

    def _moved(self, x_t: Tensor, output: Tensor, t: Tensor, s: Tensor) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = (_levels(self.schedule, float(time)) for time in (t, s))
        if alpha_t == 0.0:
            raise ValueError("PNDM: a step cannot start where alpha(t) = 0; start the time grid below 1")
        noise = output
        if self.mixes == "v":
            noise = (alpha_t * output + sigma_t * x_t) / (alpha_t**2 + sigma_t**2)
        return alpha_s / alpha_t * x_t + (sigma_s - sigma_t * alpha_s / alpha_t) * noise


@cached
def _levels(schedule: Schedule, t: float) -> tuple[float, float]:
    """alpha and sigma."""
    time = torch.tensor(t, dtype=torch.float64, device="cpu")
    return float(schedule.alpha(time)), float(schedule.sigma(time))
