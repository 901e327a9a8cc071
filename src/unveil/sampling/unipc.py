"""UniPC: a multi-step predictor, and a corrector that reuses the prediction of the next step."""

from dataclasses import dataclass
from math import expm1, factorial, isfinite
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from unveil.process.denoised import GaussianDenoise
from unveil.process.schedule import Schedule, cached, log_snr
from unveil.sampling.dpmpp import PastBelief
from unveil.sampling.noise import Noise


class PastSteps(NamedTuple):
    """The newest beliefs, newest first, and the order of the last step, whose end the next step corrects."""

    beliefs: tuple[PastBelief, ...]
    order: int


@dataclass(frozen=True)
class UniPC:
    """UniPC of order p on predictions of x_0: predictor UniP-p, corrector UniC-p. Zhao et al. 2023, Alg. 5-8.

        x_s = sigma_s / sigma_t x_t - alpha_s (e^-h - 1) m_0 - alpha_s B sum_i rho_i (m_i - m_0) / r_i
        h = lambda_s - lambda_t,    r_i = (lambda_i - lambda_t) / h,    lambda = log(alpha / sigma)

    m_0 is the mean at t, m_i the mean of i steps before, at lambda_i. The corrector has the mean at (x_s, s)
    as one more m_i, with r = 1. It changes x_s by the difference of both sums, which is added when the next
    step knows that mean, so an edit of x_s in between is kept. It needs no further call: one per step.

    The corrector raises the order of convergence to p + 1. The first steps and the step to s = 0 have lower
    orders. On every schedule, for times with alpha > 0. With
    order 3 diffusers lowers the order of the last step but one too, which a solver that does not know the
    grid cannot.

    Args:
        order: p.
        variant: B(h), e^-h - 1 ("bh2", which suits guided sampling) or -h ("bh1").
    Raises:
        ValueError: a step from alpha = 0.
    """

    schedule: Schedule
    order: Literal[1, 2, 3] = 2
    variant: Literal["bh1", "bh2"] = "bh2"

    def step(
        self,
        denoise: GaussianDenoise,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        carry: PastSteps | None,
        generator: Noise,
    ) -> tuple[Tensor, PastSteps]:
        mean = denoise(x_t, t.expand(len(x_t))).mean
        decay, alpha_t, alpha_s, now, after = _levels(self.schedule, float(t), float(s))
        if not isfinite(now):
            raise ValueError("UniPC: a step cannot start where alpha(t) = 0; start the time grid below 1")
        past = () if carry is None else carry.beliefs
        if carry is not None:
            last, *others = carry.beliefs[: carry.order]
            times = (last.half_log_snr, *(it.half_log_snr for it in others))
            _, predictor, corrector = _weights(self.variant, now, times)
            means = [*(it.mean for it in others), mean]
            factors = [c - p for c, p in zip(corrector, (*predictor, 0.0), strict=True)]
            x_t = x_t - alpha_t * _summed(factors, means, last.mean)
        beliefs = (PastBelief(mean, now), *past)[: self.order]
        order = len(beliefs) if isfinite(after) else 1
        times = tuple(it.half_log_snr for it in beliefs[:order])
        lost, predictor, _ = _weights(self.variant, after, times)
        x_s = decay * x_t - alpha_s * lost * mean
        if order > 1:
            x_s = x_s - alpha_s * _summed(list(predictor), [it.mean for it in beliefs[1:order]], mean)
        return x_s, PastSteps(beliefs, order)


def _summed(factors: list[float], means: list[Tensor], origin: Tensor) -> Tensor:
    total = torch.zeros_like(origin)
    for factor, mean in zip(factors, means, strict=True):
        total = total + factor * (mean - origin)
    return total


@cached
def _levels(schedule: Schedule, t: float, s: float) -> tuple[float, float, float, float, float]:
    """sigma_s / sigma_t, alpha at t and s, and half the log-SNR at t and s."""
    times = torch.tensor([t, s], dtype=torch.float64, device="cpu")
    (sigma_t, sigma_s), (alpha_t, alpha_s) = schedule.sigma(times), schedule.alpha(times)
    now, after = 0.5 * log_snr(schedule, times)
    return float(sigma_s / sigma_t), float(alpha_t), float(alpha_s), float(now), float(after)


@cached
def _weights(
    variant: str, after: float, times: tuple[float, ...]
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """e^-h - 1, and B rho_i / r_i of the predictor and of the corrector, whose last mean is at `after`.

    With z = -h, the rho solve sum_i r_i^(k-1) rho_i = k! z phi_(k+1)(z) / B for k = 1 .. p. The predictor of
    order 2 and the corrector of order 1 take 1/2 instead, as in the released code, which keeps their order.

    Args:
        after: half the log-SNR at the end of the step.
        times: half the log-SNR of the p beliefs, newest first, of which the first is at the step's beginning.
    """
    z = times[0] - after  # -h
    lost, order = expm1(z), len(times)
    if not isfinite(z):
        return lost, (), (0.5 * lost,)
    scale = lost if variant == "bh2" else z
    ratios = [(time - times[0]) / -z for time in times[1:]] + [1.0]
    moments, phi = [], lost / z - 1.0
    for k in range(1, order + 1):
        moments.append(phi * factorial(k) / scale)
        phi = phi / z - 1.0 / factorial(k + 1)
    r = torch.tensor(ratios, dtype=torch.float64, device="cpu")
    powers = torch.stack([r**k for k in range(order)])  # (p, p)
    wanted = torch.tensor(moments, dtype=torch.float64, device="cpu")
    predictor = [0.5] if order == 2 else torch.linalg.solve(powers[:-1, :-1], wanted[:-1]).tolist()
    corrector = [0.5] if order == 1 else torch.linalg.solve(powers, wanted).tolist()
    return (
        lost,
        tuple(scale * rho / ratio for rho, ratio in zip(predictor, ratios, strict=False)),
        tuple(scale * rho / ratio for rho, ratio in zip(corrector, ratios, strict=True)),
    )
