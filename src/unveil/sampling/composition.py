"""Composition: guidance towards several conditions at once, and conditions that change during sampling."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unveil.network.condition import Condition
from unveil.process.corrupt import like
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.sampling.guidance import ALWAYS, Branch, Interval

Denoiser = Callable[[Tensor, Tensor, Condition | None], GaussianDenoised]


def composed(
    denoiser: Denoiser,
    conds: Sequence[Branch],
    weights: Tensor,
    null: Branch,
    scale: float,
    interval: Interval = ALWAYS,
) -> GaussianDenoise:
    """Guide towards K conditions at once: null + scale * sum_k w_k (cond_k - null), in one network call.

    For independent conditions with all w_k = 1 this is the belief given all of them together: the score of
    p(x) prod_k (p(x | c_k) / p(x))^scale. With K = 1 and w = 1 it is `cfg`. Liu et al. 2022, eq. 11.

    Args:
        denoiser: (x_t (B, *E), t (B,), condition) -> belief about x_0.
        conds: the K conditional branches.
        weights: (K, B), the weight of each condition in each sample; 0 leaves it out, below 0 leads away.
        null: the unconditional branch.
        scale: 0 is unconditional.
        interval: range of t in which the guidance is used; outside it the scale is 1.
    Raises:
        ValueError: not as many weights as conditions, none, or branches with and without a condition.
    """
    if not conds or weights.ndim != 2 or len(weights) != len(conds):
        raise ValueError(
            f"composed: {len(conds)} conditions need weights ({len(conds)}, B), got {tuple(weights.shape)}"
        )
    parts = [null.condition, *(branch.condition for branch in conds)]
    if any(part is None for part in parts):
        raise ValueError("composed: every branch needs a condition, with the same fields")
    both = parts[0]
    for part in parts[1:]:
        assert both is not None and part is not None
        both = both.cat(part)

    def guided(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        count, low, high = len(x_t), *interval
        inside = bool(((t >= low) & (t <= high)).all())
        views = torch.cat([branch.view(x_t) for branch in (null, *conds)])
        beliefs = denoiser(views, t.repeat(1 + len(conds)), both)
        means = beliefs.mean.unflatten(0, (1 + len(conds), count))  # (1 + K, B, *E)
        shares = torch.stack([like(row, x_t) for row in weights.to(x_t)])  # (K, B, 1, ...)
        moved = means[0] + (scale if inside else 1.0) * (shares * (means[1:] - means[:1])).sum(0)
        return beliefs.rows(count, 2 * count).moved(moved)

    return guided


def changing(stages: Sequence[GaussianDenoise], stage: Callable[[float], int]) -> GaussianDenoise:
    """A denoiser that changes with t, such as one whose prompt changes half-way: stages[stage(t)]."""

    def denoise(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        return stages[stage(float(t[0]))](x_t, t)

    return denoise
