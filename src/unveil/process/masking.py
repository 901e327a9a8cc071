"""Masked (absorbing-state) diffusion of tokens: forward process, denoiser and sampling of times.

    q(x_t^i = x_0^i) = alpha(t),    q(x_t^i = [MASK]) = 1 - alpha(t),    independently at every position i

Only alpha of a schedule is used. `Flow` is the linear schedule of LLaDA and MDLM, alpha = 1 - t.
"""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.process.corrupt import like
from unveil.process.denoised import MaskedDenoised
from unveil.process.schedule import Schedule, Times, bisected, bounded, exact

BISECTIONS = 60


@dataclass(frozen=True)
class MaskedCosine:
    """alpha = 1 - sin(pi t / 2), sigma = 1 - alpha: samplers reveal few tokens at first, most at small t.

    Chang et al. 2022 (MaskGIT), section 3.3; Shi et al. 2024 (MD4), table 4.
    """

    def alpha(self, t: Times) -> Times:
        return 2.0 * (0.25 * pi * (1.0 - exact(t))).sin().square()  # no cancellation near t = 1

    def sigma(self, t: Times) -> Times:
        return (0.5 * pi * exact(t)).sin()

    def time(self, log_snr: Times) -> Times:
        masked = (-0.5 * bounded(log_snr)).sigmoid()
        return masked.asin() * 2.0 / pi


class MaskedDenoiser(nn.Module):
    """A token network as a denoiser: predicts the clean tokens x_0 from the partly masked tokens x_t.

    Args:
        network: (x (B, L), time (B,), cond) -> logits (B, L, V); with `positions` (B, P) as a fourth argument
            it returns the logits (B, P, V) of these positions only.
        mask_id: the id of [MASK].
        forbid_mask: losses and solvers give [MASK] itself zero probability (SUBS, Sahoo et al. 2024, section
            3.2.3). LLaDA's published weights keep it in the softmax. The belief's logits never change.
    """

    def __init__(
        self, network: nn.Module, schedule: Schedule, mask_id: int, forbid_mask: bool = True
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.mask_id = mask_id
        self.forbid_mask = forbid_mask

    def forward(
        self, x_t: Tensor, t: Tensor, cond: Condition | None = None, positions: Tensor | None = None
    ) -> MaskedDenoised:
        """The belief about x_0 given x_t (B, L) at t (B,), at all positions or at `positions` (B, P)."""
        time = t.to(x_t.device, torch.float32)
        if positions is None:
            return MaskedDenoised(self.network(x_t, time, cond))
        return MaskedDenoised(self.network(x_t, time, cond, positions), positions)


def masked(
    schedule: Schedule,
    x_0: Int[Tensor, "B L"],
    t: Tensor,
    uniform: Float[Tensor, "B L"],
    mask_id: int,
    known: Tensor | None = None,
) -> Int[Tensor, "B L"]:
    """Sample x_t: [MASK] where uniform < 1 - alpha(t); positions where `known` is true stay clean.

    Args:
        t: (B,), or (B, L) if every block has its own time.
        uniform: independent numbers in [0, 1).
        known: bool, broadcastable to x_0: prompts, padding.
    """
    mask = uniform < like(1.0 - schedule.alpha(t), uniform)
    if known is not None:
        mask = mask & ~known
    return x_0.masked_fill(mask, mask_id)


def mask_rate(schedule: Schedule, t: Tensor) -> Tensor:
    """-alpha'(t) / (1 - alpha(t)), float64: the weight of the bound, 1 / t if alpha is linear.

    Sahoo et al. 2024, eq. 10.
    The derivative is a central difference of relative width 2e-4, accurate to 8 digits on smooth schedules.
    """
    t = exact(t)
    step = 1e-4 * t
    slope = (schedule.alpha(t - step) - schedule.alpha(t + step)) / (2.0 * step)
    return slope / (1.0 - schedule.alpha(t))


def time_of(schedule: Schedule, share: Tensor) -> Tensor:
    """The t at which 1 - alpha(t), the expected masked share, is `share` (B,); float64, by bisection."""
    return bisected(lambda t: 1.0 - schedule.alpha(t), exact(share), 1.0, BISECTIONS)[1]


def without_mask(logits: Tensor, mask_id: int) -> Tensor:
    """Logits (..., V) with -inf for [MASK]; unchanged if the V logits do not include [MASK]."""
    if mask_id >= logits.shape[-1]:
        return logits
    mask = torch.arange(logits.shape[-1], device=logits.device) == mask_id
    return logits.masked_fill(mask, float("-inf"))


def stratified(offset: Tensor, count: int, least: float = 1e-3) -> Float[Tensor, " N"]:
    """`count` stratified times: each is uniform in [least, 1), and each of `count` equal strata holds one.

        t_i = least + (1 - least) ((offset + i / count) mod 1)

    This reduces the variance of the masked share between batches. Kingma et al. 2021 (VDM), appendix I.1;
    MDLM's `antithetic_sampling`.

    Args:
        offset: one number in [0, 1).
    """
    stratum = torch.arange(count, dtype=torch.float64, device="cpu") / count
    return least + (1.0 - least) * ((exact(offset).reshape(()) + stratum) % 1.0)


def antithetic(uniform: Float[Tensor, " H"], least: float = 1e-3) -> Float[Tensor, " N"]:
    """2 H antithetic times: H pairs u and 1 - u, mapped linearly to [least, 1]."""
    pairs = torch.stack([exact(uniform), 1.0 - exact(uniform)], dim=1).flatten()
    return least + (1.0 - least) * pairs


def stratified_counts(offset: Float[Tensor, " B"], count: int, length: Tensor) -> Int[Tensor, "B N"]:
    """`count` stratified mask counts per row, each uniform in 1 .. length, for `counted_loss`.

    As in LLaDA's evaluation code.

    Args:
        offset: (B,) in [0, 1).
        length: (B,) or one number, the number of unknown tokens of each row.
    """
    position = (exact(offset)[:, None] + torch.arange(count, dtype=torch.float64, device="cpu") / count) % 1.0
    total = length.cpu().reshape(-1, 1)
    return 1 + torch.minimum((position * total).long(), total - 1)
