"""Losses of masked diffusion: two forms of one upper bound on the negative log-likelihood, in nats per token.

The functions are pure, as in `objective.py`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.process.corrupt import like
from unveil.process.masking import MaskedDenoiser, mask_rate, masked, time_of, without_mask


def masked_loss(
    denoiser: MaskedDenoiser,
    x_0: Int[Tensor, "B L"],
    t: Tensor,
    uniform: Float[Tensor, "B L"],
    *,
    cond: Condition | None = None,
    known: Tensor | None = None,
) -> Float[Tensor, " B"]:
    """The t-form: rate(t) * sum over masked positions of -log p(x_0^i | x_t) / number of unknown positions.

    Its mean over t, uniform in (0, 1), and over the masks is an upper bound on -log p(x_0) / length;
    rate = 1 / t on the linear schedule. Nie et al. 2025 (LLaDA), eq. 3, and eq. 5 with the prompt `known`.

    Args:
        t: (B,) in (0, 1]; or (B, L), where the positions of a block share one time.
        uniform: independent numbers in [0, 1); a position is masked where its number is below 1 - alpha(t).
        known: bool, broadcastable to x_0: positions that are never masked and not counted (prompts, padding).
    Returns:
        (B,), nats per unknown token.
    """
    x_t = masked(denoiser.schedule, x_0, t, uniform, denoiser.mask_id, known)
    nats = token_nats(denoiser, x_0, x_t, t, cond) * like(mask_rate(denoiser.schedule, t), uniform)
    return nats.sum(1) / _unknown(x_0, known).sum(1).clamp(min=1)


def counted_loss(
    denoiser: MaskedDenoiser,
    x_0: Int[Tensor, "B L"],
    count: Int[Tensor, "..."],
    uniform: Float[Tensor, "B L"],
    *,
    cond: Condition | None = None,
    known: Tensor | None = None,
    block: int = 0,
) -> Float[Tensor, " B"]:
    """The l-form: the mean of -log p(x_0^i | x_t) over the `count` positions with the smallest `uniform`.

    These positions are masked in x_t.

    With count uniform in 1 .. length its mean equals that of `masked_loss`, at a much lower variance: the sum
    over l masked positions is weighted by L / l and divided by L. Nie et al. 2025 (LLaDA), eq. 6; Ou et al.
    2025 (RADD), section 3.3, any-order autoregression.

    Args:
        count: (B,), the number of masked positions of each row, from 1 to its number of unknown positions; or
            (B, N), the same for each block of the row, 0 for a block without unknown positions. The network's
            time input is the t whose expected masked share is count / unknown.
        uniform, known: as in `masked_loss`.
        block: positions per block; the L positions form N = ceil(L / block) blocks, each weighted by its
            number of unknown positions. 0: the row is one block. 1: every unknown position is masked and
            nothing is random, which is the exact likelihood of a network that sees only earlier positions.
    Returns:
        (B,), nats per unknown token.
    Raises:
        ValueError: `count` has another shape or is out of range.
    """
    unknown = _unknown(x_0, known)
    length, device = x_0.shape[1], x_0.device
    number = torch.arange(length, device=device) // (block or length)
    count = count.to(device).reshape(len(x_0), -1)
    blocks = -(-length // (block or length))
    if count.shape[1] != blocks:
        raise ValueError(
            f"counted_loss: {length} positions form {blocks} blocks, but count has {count.shape[1]} columns"
        )
    total = torch.zeros_like(count).index_add_(1, number, unknown.to(count.dtype))
    if bool((count < total.clamp(max=1)).any()) or bool((count > total).any()):
        raise ValueError(
            "counted_loss: count must lie in 1 .. unknown positions of its row, "
            f"got {count.tolist()} for {total.tolist()}"
        )
    key = 2 * number + uniform.double().masked_fill(~unknown, 1.5)
    rank = key.argsort(dim=1, stable=True).argsort(dim=1) - number * (block or length)
    x_t = x_0.masked_fill((rank < count[:, number]) & unknown, denoiser.mask_id)
    t = time_of(denoiser.schedule, (count.double() / total.clamp(min=1)).cpu())
    nats = token_nats(denoiser, x_0, x_t, t[:, number.cpu()] if block else t[:, 0], cond)
    weight = (total / count.clamp(min=1)).to(nats.dtype)[:, number]
    return (nats * weight).sum(1) / total.sum(1).clamp(min=1)


def token_nats(
    denoiser: MaskedDenoiser, x_0: Tensor, x_t: Tensor, t: Tensor, cond: Condition | None = None
) -> Float[Tensor, "B L"]:
    """-log p(x_0^i | x_t) in nats where x_t is masked, 0 elsewhere."""
    nats = _nats(denoiser, x_0, x_t, t, cond)
    return torch.where(x_t == denoiser.mask_id, nats, torch.zeros_like(nats))


def chain_nats(
    denoiser: MaskedDenoiser, x_0: Int[Tensor, "B L"], cond: Condition | None = None
) -> Float[Tensor, "B L"]:
    """-log p(x_0^i | x_0^1 .. x_0^(i-1)) in nats: the exact likelihood of an autoregressive network.

    The logits of such a network at position i must not depend on x_0^i.
    """
    return _nats(denoiser, x_0, x_0, torch.zeros(len(x_0), dtype=torch.float64, device="cpu"), cond)


def _nats(denoiser: MaskedDenoiser, x_0: Tensor, x_t: Tensor, t: Tensor, cond: Condition | None) -> Tensor:
    logits = denoiser(x_t, t, cond).logits.float()
    if denoiser.forbid_mask:
        logits = without_mask(logits, denoiser.mask_id)
    return F.cross_entropy(logits.flatten(0, 1), x_0.flatten(), reduction="none").reshape(x_0.shape)


def _unknown(x_0: Tensor, known: Tensor | None) -> Tensor:
    if known is None:
        return torch.ones_like(x_0, dtype=torch.bool)
    return (~known).expand_as(x_0)
