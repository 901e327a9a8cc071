"""Churn: a step towards noise before a step of the probability flow. Karras et al. 2022, Alg. 2."""

from torch import Tensor

from unveil.process.corrupt import like
from unveil.process.schedule import Schedule
from unveil.sampling.noise import Noise, normal_like


def churned(
    schedule: Schedule,
    x_t: Tensor,
    t: Tensor,
    churn: float,
    noise: float,
    span: tuple[float, float],
    generator: Noise,
) -> tuple[Tensor, Tensor]:
    """Multiply sigma / alpha by 1 + churn, and add the matching noise.

    Args:
        churn: the paper's S_churn / N, clamped to at most sqrt(2) - 1 as there.
        noise: factor on the added noise, the paper's S_noise.
        span: range of sigma / alpha in which churn is used, the paper's S_tmin and S_tmax.
    Returns:
        The noisier state and its time; both as they were outside the range, and where alpha is 0.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    low, high = span
    if float(alpha) == 0.0 or not low <= float(sigma / alpha) <= high:
        return x_t, t
    factor = 1.0 + min(churn, 2.0**0.5 - 1.0)
    higher = schedule.time(-2.0 * (sigma / alpha * factor).log())
    ratio = schedule.alpha(higher) / alpha
    added = (schedule.sigma(higher) ** 2 - (ratio * sigma) ** 2).clamp(min=0.0).sqrt()
    return like(ratio, x_t) * x_t + noise * like(added, x_t) * normal_like(x_t, generator), higher
