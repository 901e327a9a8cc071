"""Likelihood of text under a model: Monte-Carlo bounds in two forms, exact where possible, and per token."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unveil.network.condition import Condition
from unveil.process.masked_objective import chain_nats, counted_loss, masked_loss, token_nats
from unveil.sampling.noise import Noise, uniform_like
from unveil.text.canvas import check_room, check_tokens
from unveil.text.model import TextModel
from unveil.text.shape import Form, Times
from unveil.text.training import block_lengths, check_draws

LEAST = 1e-9  # smallest time of the t-form


class Draws(NamedTuple):
    """All random numbers of `text_nats`, for example recorded from another implementation.

    Args:
        quantiles: (B, N, draws) in [0, 1), the quantile of the number of masks, or of the time, of each block
            and draw; N = 1 without blocks.
        uniform: (draws, B, L) in [0, 1); the positions with the smallest numbers are masked.
    """

    quantiles: Float[Tensor, "B N K"]
    uniform: Float[Tensor, "K B L"]


@torch.no_grad()
def text_nats(
    model: TextModel,
    ids: Int[Tensor, "B L"],
    draws: int,
    generator: Noise = None,
    known: Bool[Tensor, "B L"] | None = None,
    valid: Bool[Tensor, "B L"] | None = None,
    form: Form = "l",
    times: Times = "stratified",
    drawn: Draws | None = None,
) -> Float[Tensor, "B N"]:
    """`draws` unbiased estimates for each row of a bound on -log p(unknown tokens | known ones) / their
    number, in nats per token.

    A row's mean over draws estimates the bound. Stratified or antithetic draws of a row are not independent,
    so that their spread is no measure of the error of their mean. Nie et al. 2025, eq. 6 and appendix B.5.
    Exact likelihoods (`is_exact`) are computed once: N = 1.

    Args:
        generator: one for all rows, or one per row, so that a row's numbers depend on neither the batch nor
            its padding.
        known: tokens that are conditioned on and not scored, such as a prompt.
        valid: real tokens; padding is neither attended to nor scored. For a model of blocks or a causal one
            it must be on the right.
        form: `counted_loss` or `masked_loss`, with times in all of (0, 1].
        times: how counts or times are spread over the draws of a row; antithetic counts are l and length + 1
            - l.
        drawn: the random numbers, in place of the generator's.
    Raises:
        ValueError: draws < 1, an odd number of antithetic ones, a row without a token to score or longer than
            the context, ids outside the vocabulary, or other shapes.
    """
    check_draws("draws", draws, form, times)
    unknown = _unknown(model, ids, known, valid)
    if bool((unknown.sum(1) == 0).any()):
        raise ValueError("every row needs a token to score; a row is all known or padding")
    cond, block, length = _condition(model, ids, valid), model.shape.block, ids.shape[1]
    if model.shape.causal:
        each = chain_nats(model.denoiser, ids, cond) * unknown
        return (each.sum(1) / unknown.sum(1))[:, None]
    number = torch.arange(length, device="cpu") // (block or length)
    blocks = len(block_lengths(length, block))
    draws = 1 if is_exact(model) and form == "l" else draws
    hidden = unknown.cpu()
    totals = torch.zeros((len(ids), blocks), dtype=torch.long, device="cpu")
    totals = totals.index_add_(1, number, hidden.long())
    if drawn is None:
        quantiles = _spread(totals > 0, draws, times, generator)
    else:
        shapes, wanted = [tuple(part.shape) for part in drawn], [(*totals.shape, draws), (draws, *ids.shape)]
        if shapes != wanted:
            raise ValueError(
                f"drawn must be quantiles {wanted[0]} and uniform {wanted[1]}, got shapes {shapes[0]} and "
                f"{shapes[1]}"
            )
        quantiles = drawn.quantiles.cpu().double()
    nats: list[Tensor] = []
    for k in range(draws):
        uniform = uniform_like(hidden, generator, where=hidden).float() if drawn is None else drawn.uniform[k]
        uniform = uniform.to(ids.device)
        if form == "l":
            count = torch.minimum(1 + (quantiles[..., k] * totals).long(), totals).to(ids.device)
            loss = counted_loss(model.denoiser, ids, count, uniform, cond=cond, known=~unknown, block=block)
        else:
            t = (1.0 - quantiles[..., k]).clamp(min=LEAST)
            t = t[:, number] if block else t[:, 0]
            loss = masked_loss(model.denoiser, ids, t, uniform, cond=cond, known=~unknown)
        nats.append(loss)
    return torch.stack(nats, dim=1)


def is_exact(model: TextModel) -> bool:
    """Whether the l-form is the likelihood itself: blocks of one token, or a causal model."""
    return model.shape.causal or model.shape.block == 1


@torch.no_grad()
def conditional_nats(
    model: TextModel,
    ids: Int[Tensor, "B L"],
    known: Bool[Tensor, "B L"] | None = None,
    valid: Bool[Tensor, "B L"] | None = None,
) -> Float[Tensor, "B L"]:
    """-log p(token | context) at every scored position, in nats; 0 at others.

    The context of a masked model is all other tokens, at one call per position; the sum is a
    pseudo-likelihood (Salazar et al. 2020), no bound. That of a model of blocks is the blocks before and the
    rest of its own, at one call per position of a block. That of a causal model, or with blocks of 1, is all
    tokens before, and the sum is -log p.

    Args:
        known, valid: as in `text_nats`.
    """
    unknown, cond = _unknown(model, ids, known, valid), _condition(model, ids, valid)
    if model.shape.causal:
        return chain_nats(model.denoiser, ids, cond) * unknown
    length, nats = ids.shape[1], torch.zeros(ids.shape, device=ids.device)
    stride = model.shape.block or length
    t = torch.full((len(ids),), 1.0 / stride, dtype=torch.float64, device="cpu")
    for offset in range(min(stride, length)):
        hidden = unknown & (torch.arange(length, device=ids.device) % stride == offset)
        if bool(hidden.any()):
            nats = nats + token_nats(
                model.denoiser, ids, ids.masked_fill(hidden, model.tokens.mask_id), t, cond
            )
    return nats


def _unknown(model: TextModel, ids: Tensor, known: Tensor | None, valid: Tensor | None) -> Tensor:
    """(B, L) bool, the tokens that are scored, after checks of all arguments."""
    check_tokens(model, ids, known=known, valid=valid)
    check_room(model, ids.shape[1], 0)
    unknown = torch.ones_like(ids, dtype=torch.bool) if known is None else ~known
    return unknown if valid is None else unknown & valid


def _condition(model: TextModel, ids: Tensor, valid: Tensor | None) -> Condition | None:
    """The condition: padding and, for a model of blocks, the clean text, of which each block sees the earlier
    blocks."""
    if valid is not None and model.window and bool((valid[:, 1:] & ~valid[:, :-1]).any()):
        raise ValueError("a causal model, or one of blocks, scores rows that are padded on the right only")
    if model.shape.block:
        return Condition(valid=valid, prefix=model.network.prefill(ids, Condition(valid=valid)))
    return None if valid is None else Condition(valid=valid)


def _spread(where: Tensor, draws: int, times: Times, generator: Noise) -> Tensor:
    """(B, N, draws) uniform numbers in [0, 1): one in each of `draws` strata, pairs u and 1 - u, or
    independent.

    Args:
        where: (B, N) bool, the blocks where numbers are needed.
    """
    count = 1 if times == "stratified" else draws // 2 if times == "antithetic" else draws
    own = uniform_like(
        torch.empty((*where.shape, count), dtype=torch.float64, device="cpu"), generator, where=where
    )
    if times == "stratified":
        return (own + torch.arange(draws, dtype=torch.float64, device="cpu") / draws) % 1.0
    if times == "antithetic":
        return torch.cat([own, (1.0 - own).clamp(max=1.0 - 2.0**-53)], dim=2)
    return own
