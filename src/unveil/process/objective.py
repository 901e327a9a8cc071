"""Training losses in the network's output space.

The functions are pure: time and noise are arguments, and the result is one number per sample.
"""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor

from unveil.network.condition import Condition
from unveil.process.corrupt import corrupt, like
from unveil.process.denoiser import GaussianDenoiser, Output
from unveil.process.parameterization import Parameterization
from unveil.process.posterior import learned_log_variance, posterior, posterior_coefficients
from unveil.process.schedule import Schedule

Weight = Callable[[Tensor], Tensor]


def denoising_loss(
    denoiser: GaussianDenoiser,
    x_0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    cond: Condition | None = None,
    known: Tensor | None = None,
    weight: Weight | None = None,
    importance: Tensor | None = None,
) -> Tensor:
    """weight(t) * mean over unknown positions of (F(x_t, t) - F*)^2, with F* = (x_0 - c_skip x_t) / c_out.

    With the eps parameterization and no weight this is L_simple (Ho et al. 2020, eq. 14); with `flow` it is
    conditional flow matching.

    Args:
        x_0: (B, *E).
        t: (B,), or any number of x_0's leading axes, in (0, 1].
        noise: standard normal, like x_0.
        known: bool, broadcastable to x_0: positions kept clean in x_t and left out of the loss.
        weight: maps t to the weight of the squared error in output space; see `min_snr`.
        importance: broadcastable to x_0, a factor on the squared error of each number (Diffuser's
            `action_weight` and `loss_discount`).
    Returns:
        (B,)
    """
    return _regression(denoiser, x_0, t, noise, cond, known, weight, importance)[0]


def _regression(
    denoiser: GaussianDenoiser,
    x_0: Tensor,
    t: Tensor,
    noise: Tensor,
    cond: Condition | None,
    known: Tensor | None,
    weight: Weight | None,
    importance: Tensor | None = None,
) -> tuple[Tensor, Tensor, Output]:
    """The loss (B,) in output space, x_t, and the network's output there."""
    schedule = denoiser.schedule
    x_t = corrupt(schedule, x_0, t, noise, known)
    output = denoiser.output(x_t, t, cond)
    alpha, sigma, (skip, out, _) = schedule.alpha(t), schedule.sigma(t), output.coefficients
    target = like((1.0 - skip * alpha) / out, x_0) * x_0 - like(skip * sigma / out, x_0) * noise
    error = (output.raw - target) ** 2
    if weight is not None:
        error = error * like(weight(t), error)
    if importance is not None:
        error = error * importance
    return _mean_of_unknown(error, known), x_t, output


def _mean_of_unknown(error: Tensor, known: Tensor | None) -> Tensor:
    """(B, *E) to (B,): the mean over the unknown positions of each sample; 0 if all are known."""
    if known is None:
        return error.flatten(1).mean(1)
    unknown = (~known).expand_as(error).to(error.dtype)
    return (error * unknown).flatten(1).sum(1) / unknown.flatten(1).sum(1).clamp(min=1.0)


def min_snr(schedule: Schedule, parameterization: Parameterization, gamma: float = 5.0) -> Weight:
    """The weight min(SNR, gamma) on the x_0 error, converted to output space by the factor c_out^2.

    Hang et al. 2023, eq. 6. For eps this is min(SNR, gamma) / SNR, for v it is min(SNR, gamma) / (SNR + 1).
    """

    def weight(t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return ((alpha / sigma) ** 2).clamp(max=gamma) * parameterization(alpha, sigma).out ** 2

    return weight


def hybrid_loss(
    denoiser: GaussianDenoiser,
    x_0: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Tensor,
    *,
    cond: Condition | None = None,
    known: Tensor | None = None,
    weight: Weight | None = None,
    bound_weight: float = 1.0,
    bin_width: float = 2.0 / 255.0,
) -> Tensor:
    """L_simple + bound_weight * (the term of the variational bound for the step t -> s).

    The mean is detached in the second term, so only the learned variance gets a gradient from it. The paper's
    lambda = 0.001 with T steps is bound_weight = lambda * T. Nichol & Dhariwal 2021, eq. 16.

    Args:
        x_0, t, noise, known, weight: as in `denoising_loss`.
        s: (B,), the time at which each step ends, s < t; at s = 0 the term is the decoder's likelihood.
        bound_weight: weight of the bound's term, which is in bits per dimension.
        bin_width: width of a pixel level in the units of x_0.
    Returns:
        (B,)
    Raises:
        ValueError: the denoiser has no learned variance.
    """
    if not denoiser.learned_variance:
        raise ValueError("hybrid_loss: the denoiser must have a learned variance (learned_variance=True)")
    simple, x_t, (raw, fraction, (skip, out, _)) = _regression(denoiser, x_0, t, noise, cond, known, weight)
    assert fraction is not None
    belief = (like(skip, x_t) * x_t + like(out, x_t) * raw).detach()
    return simple + bound_weight * bound_term(
        denoiser.schedule, x_0, x_t, belief, fraction, t, s, known=known, bin_width=bin_width
    )


def bound_loss(
    denoiser: GaussianDenoiser,
    x_0: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Tensor,
    *,
    cond: Condition | None = None,
    known: Tensor | None = None,
    bin_width: float = 2.0 / 255.0,
) -> Tensor:
    """The term of the variational bound for the step t -> s, in bits per dimension.

    Mean and variance both get gradients. Its mean over the T steps of a table, times T, is the bound without
    the prior's term: L_vlb of Ho et al. 2020, eq. 5. A denoiser without a learned variance uses beta.

    Args:
        x_0, t, s, noise, known, bin_width: as in `hybrid_loss`.
    Returns:
        (B,)
    """
    x_t = corrupt(denoiser.schedule, x_0, t, noise, known)
    belief = denoiser(x_t, t, cond)
    fraction = torch.ones_like(x_t) if belief.variance_fraction is None else belief.variance_fraction
    return bound_term(
        denoiser.schedule, x_0, x_t, belief.mean, fraction, t, s, known=known, bin_width=bin_width
    )


def bound_term(
    schedule: Schedule,
    x_0: Tensor,
    x_t: Tensor,
    belief: Tensor,
    fraction: Tensor,
    t: Tensor,
    s: Tensor,
    *,
    known: Tensor | None = None,
    bin_width: float = 2.0 / 255.0,
) -> Tensor:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)), or -log p(x_0 | x_t) where s = 0, in bits per dimension.

    Ho et al. 2020, eq. 5.

    Args:
        belief: (B, *E), the predicted mean of x_0.
        fraction: (B, *E), as in `learned_log_variance`.
        t, s: (B,), the times at which each step begins and ends.
        known, bin_width: as in `hybrid_loss`.
    Returns:
        (B,)
    """
    true_mean, _ = posterior(schedule, x_t, x_0, t, s)
    mean, _ = posterior(schedule, x_t, belief, t, s)
    log_variance = learned_log_variance(schedule, fraction, t, s)
    small = posterior_coefficients(schedule, t, s).small
    last = s.to(small.device) <= 0
    true_log_variance = like(torch.where(last, torch.ones_like(small), small).log(), x_t)
    divergence = gaussian_kl(true_mean, true_log_variance, mean, log_variance)
    decoder = discretized_nll(x_0, mean, 0.5 * log_variance, bin_width)
    term = torch.where(like(last.to(torch.float64), x_t) > 0, decoder, divergence)
    return _mean_of_unknown(term, known) / log(2.0)


def gaussian_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL(N(mean, e^log_variance) || N(other_mean, e^other_log_variance)) elementwise, in nats."""
    spread = (log_variance - other_log_variance).exp() + (mean - other_mean) ** 2 * (
        -other_log_variance
    ).exp()
    return 0.5 * (other_log_variance - log_variance + spread - 1.0)


def discretized_nll(x: Tensor, mean: Tensor, log_scale: Tensor, bin_width: float) -> Tensor:
    """-log of the normal probability of the bin around x, elementwise, in nats.

    The outermost bins of [-1, 1] extend to infinity, and the probability is clamped to at least 1e-12, as in
    the released code. Ho et al. 2020, eq. 13.
    """
    inverse = (-log_scale).exp()
    upper = torch.special.ndtr((x - mean + 0.5 * bin_width) * inverse)
    lower = torch.special.ndtr((x - mean - 0.5 * bin_width) * inverse)
    edge = 1.0 - 0.5 * bin_width
    mass = torch.where(x > edge, 1.0 - lower, torch.where(x < -edge, upper, upper - lower))
    return -mass.clamp(min=1e-12).log()
