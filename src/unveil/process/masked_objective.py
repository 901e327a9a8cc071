"""Losses of masked tokens: two forms of one bound on the negative log-likelihood, in nats a token. Pure functions, as in `objective.py`."""

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

    Its mean over t uniform in (0, 1) and the masks bounds -log p(x_0) / length from above; rate = 1 / t on the linear schedule. Nie et al.
    2025 (LLaDA), eq. 3 for pre-training and eq. 5 with the prompt `known`.

    Args:
        t: (B,) or, with a time for each position's block, (B, L), in (0, 1].
        uniform: independent numbers in [0, 1); a position is masked where it is below 1 - alpha(t).
        known: bool, broadcastable to x_0: never masked and not counted (prompts, padding).
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
    """The l-form: exactly `count` positions are masked, those of the smallest `uniform`; the mean of -log p(x_0^i | x_t) over them.

    With count uniform in 1 .. length its mean is that of `masked_loss`, at a much lower variance: (L / l) sum over l masked, divided by L.
    Nie et al. 2025 (LLaDA), eq. 6; Ou et al. 2025 (RADD), section 3.3, any-order autoregression.

    Args:
        count: (B,) masked positions of each row, at least 1 and at most its unknown ones, or (B, N) of each of its blocks, 0 where
            nothing is unknown; networks that read the time are told the t at which that share of them is masked.
        block: the positions of a block, so that L are N = ceil(L / block) of them, which weigh as much as they have unknown ones. At block
            1 every unknown position is masked, and nothing is random: exactly the likelihood of a network that sees what is before.
    Raises:
        ValueError: a count that is out of range.
    """
    unknown = _unknown(x_0, known)
    length, device = x_0.shape[1], x_0.device
    number = torch.arange(length, device=device) // (block or length)
    count = count.to(device).reshape(len(x_0), -1)
    blocks = -(-length // (block or length))
    if count.shape[1] != blocks:
        raise ValueError(
            f"counted_loss: {length} positions are {blocks} blocks, but count is of {count.shape[1]}"
        )
    total = torch.zeros_like(count).index_add_(1, number, unknown.to(count.dtype))
    if bool((count < total.clamp(max=1)).any()) or bool((count > total).any()):
        raise ValueError(
            f"counted_loss: count must lie in 1 .. unknown positions of its row, got {count.tolist()} for {total.tolist()}"
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
    """-log p(x_0^i | x_t) where x_t is masked, 0 elsewhere."""
    nats = _nats(denoiser, x_0, x_t, t, cond)
    return torch.where(x_t == denoiser.mask_id, nats, torch.zeros_like(nats))


def chain_nats(
    denoiser: MaskedDenoiser, x_0: Int[Tensor, "B L"], cond: Condition | None = None
) -> Float[Tensor, "B L"]:
    """-log p(x_0^i | x_0^1 .. x_0^(i-1)) of an autoregressive network, one whose logits at i have not seen x_0^i: the exact likelihood."""
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
