"""The posterior q(x_s | x_t, x_0), s < t, used by ancestral sampling, hybrid losses and bits per dimension.

    alpha_ts = alpha_t / alpha_s,    sigma_ts^2 = sigma_t^2 - alpha_ts^2 sigma_s^2    ("beta" from s to t)
    mean = alpha_ts sigma_s^2 / sigma_t^2 * x_t + alpha_s sigma_ts^2 / sigma_t^2 * x_0
    variance = sigma_ts^2 sigma_s^2 / sigma_t^2    ("beta-tilde")

Ho et al. 2020, eq. 6-7, for s = t - 1; Kingma et al. 2021, appendix A, for any s.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unveil.process.corrupt import like
from unveil.process.schedule import Schedule, exact


class PosteriorCoefficients(NamedTuple):
    """mean = x_t_weight * x_t + x_0_weight * x_0; small: beta-tilde, large: beta. Float64, CPU, like t."""

    x_t_weight: Tensor
    x_0_weight: Tensor
    small: Tensor
    large: Tensor


def posterior_coefficients(schedule: Schedule, t: Tensor, s: Tensor) -> PosteriorCoefficients:
    """Coefficients of q(x_s | x_t, x_0), 0 <= s < t.

    Raises:
        ValueError: some s >= t.
    """
    # both times in one tensor: for few rows, the number of operations is the cost of a step
    both = torch.stack(torch.broadcast_tensors(exact(t), exact(s)))
    if bool((both[1] >= both[0]).any()):
        raise ValueError("posterior: a step must go from t to a cleaner s, s < t")
    alpha, sigma = schedule.alpha(both), schedule.sigma(both)
    (alpha_t, alpha_s), (sigma_t, sigma_s) = alpha, sigma
    log_snr_t, log_snr_s = 2.0 * (alpha.log() - sigma.log())
    # sigma_ts^2 = sigma_t^2 (1 - SNR_t / SNR_s), without cancellation
    large = sigma_t**2 * -torch.expm1(log_snr_t - log_snr_s)
    keep = (sigma_s / sigma_t) ** 2
    return PosteriorCoefficients(alpha_t / alpha_s * keep, alpha_s * large / sigma_t**2, large * keep, large)


def posterior(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (like x_t) and variance (beta-tilde, broadcastable to x_t) of q(x_s | x_t, x_0)."""
    c = posterior_coefficients(schedule, t, s)
    return like(c.x_t_weight, x_t) * x_t + like(c.x_0_weight, x_t) * x_0, like(c.small, x_t)


def learned_log_variance(schedule: Schedule, fraction: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """log variance = fraction * log beta + (1 - fraction) * log beta-tilde. Nichol & Dhariwal 2021, eq. 15.

    For a step to s = 0, where beta-tilde is 0, it is replaced by that of the previous step, as in the
    released code: 2t -> t for t <= 1/2, else 1 -> t; at t = 1 by beta.

    Args:
        fraction: (B, *E) in [0, 1].
        t, s: (B,), 0 <= s < t.
    Returns:
        Like `fraction`.
    """
    c = posterior_coefficients(schedule, t, s)
    t, s = exact(t), exact(s)
    earlier = torch.where(t < 1.0, (2.0 * t).clamp(max=1.0), 1.0 + t)
    before = torch.where(t < 1.0, posterior_coefficients(schedule, earlier, t).small, c.large)
    small = torch.where(s <= 0, before, c.small)
    low, high = like(small.log(), fraction), like(c.large.log(), fraction)
    return low + fraction * (high - low)
