"""How tokens are lost: each is kept with probability alpha(t), or else becomes [MASK]. The process, its denoiser and its times.

    q(x_t^i = x_0^i) = alpha(t),    q(x_t^i = [MASK]) = 1 - alpha(t),    independently at every position i

Of a schedule only alpha is read. `Flow` is the linear one of LLaDA and MDLM, alpha = 1 - t.
"""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.process.corrupt import like
from unveil.process.denoised import MaskedDenoised
from unveil.process.schedule import LOG_SNR_LIMIT, Schedule, Times, exact

BISECTIONS = 60


@dataclass(frozen=True)
class MaskedCosine:
    """alpha = 1 - sin(pi t / 2), sigma = 1 - alpha: most masks fall at small t, so that few tokens are revealed at first.

    Chang et al. 2022 (MaskGIT), section 3.3; Shi et al. 2024 (MD4), table 4.
    """

    def alpha(self, t: Times) -> Times:
        return 2.0 * (0.25 * pi * (1.0 - exact(t))).sin().square()  # no cancellation near t = 1

    def sigma(self, t: Times) -> Times:
        return (0.5 * pi * exact(t)).sin()

    def time(self, log_snr: Times) -> Times:
        masked = (-0.5 * exact(log_snr).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)).sigmoid()
        return masked.asin() * 2.0 / pi


class MaskedDenoiser(nn.Module):
    """A network of tokens as a belief about the clean ones.

    Args:
        network: (x (B, L), time (B,), cond) -> logits (B, L, V); where beliefs are asked at `positions` (B, P), it is called with them as a
            fourth argument and answers (B, P, V).
        mask_id: the token that stands for a lost one.
        forbid_mask: give [MASK] itself no probability, in losses and by the solvers (SUBS, Sahoo et al. 2024, section 3.2.3). LLaDA's
            published weights leave it in the softmax. The logits of the belief are the network's own either way.
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
        """The belief about x_0 given x_t (B, L) at t (B,), everywhere or at `positions` (B, P)."""
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
    """x_t: [MASK] where uniform < 1 - alpha(t); positions marked `known` stay clean.

    Args:
        t: (B,), or (B, L) for blocks with a time each.
        uniform: independent numbers in [0, 1).
        known: bool, broadcastable to x_0: prompts, padding.
    """
    lost = uniform < like(1.0 - schedule.alpha(t), uniform)
    if known is not None:
        lost = lost & ~known
    return x_0.masked_fill(lost, mask_id)


def mask_rate(schedule: Schedule, t: Tensor) -> Tensor:
    """-alpha'(t) / (1 - alpha(t)), float64: the bound's weight, 1 / t if alpha is linear. Sahoo et al. 2024, eq. 10.

    The slope is a central difference of relative width 2e-4, right to 8 digits on any smooth schedule.
    """
    t = exact(t)
    step = 1e-4 * t
    slope = (schedule.alpha(t - step) - schedule.alpha(t + step)) / (2.0 * step)
    return slope / (1.0 - schedule.alpha(t))


def time_of(schedule: Schedule, share: Tensor) -> Tensor:
    """The t at which a share (B,) of all tokens is masked, 1 - alpha(t) = share, float64; by bisection."""
    share = exact(share)
    low, high = torch.zeros_like(share), torch.ones_like(share)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        below = 1.0 - schedule.alpha(middle) < share
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return high


def without_mask(logits: Tensor, mask_id: int) -> Tensor:
    """Logits (..., V) with -inf for [MASK]; unchanged if V leaves it out already."""
    if mask_id >= logits.shape[-1]:
        return logits
    mask = torch.arange(logits.shape[-1], device=logits.device) == mask_id
    return logits.masked_fill(mask, float("-inf"))


def stratified(offset: Tensor, count: int, least: float = 1e-3) -> Float[Tensor, " N"]:
    """`count` times, each uniform in [least, 1), one in each of `count` equal strata.

        t_i = least + (1 - least) ((offset + i / count) mod 1)

    The masked shares of a batch then hardly differ from those of the next. Kingma et al. 2021 (VDM), appendix I.1; MDLM's
    `antithetic_sampling`.

    Args:
        offset: one number in [0, 1).
    """
    place = torch.arange(count, dtype=torch.float64, device="cpu") / count
    return least + (1.0 - least) * ((exact(offset).reshape(()) + place) % 1.0)


def antithetic(uniform: Float[Tensor, " H"], least: float = 1e-3) -> Float[Tensor, " N"]:
    """2 H times in pairs u and 1 - u, each uniform in [least, 1]."""
    pairs = torch.stack([exact(uniform), 1.0 - exact(uniform)], dim=1).flatten()
    return least + (1.0 - least) * pairs


def stratified_counts(offset: Float[Tensor, " B"], count: int, length: Tensor) -> Int[Tensor, "B N"]:
    """`count` numbers of masked tokens a row, each uniform in 1 .. length, spread evenly: for `counted_loss`. LLaDA's evaluation code.

    Args:
        offset: (B,) in [0, 1).
        length: (B,) or one number, the unknown tokens of each row.
    """
    place = (exact(offset)[:, None] + torch.arange(count, dtype=torch.float64, device="cpu") / count) % 1.0
    total = length.cpu().reshape(-1, 1)
    return 1 + torch.minimum((place * total).long(), total - 1)
