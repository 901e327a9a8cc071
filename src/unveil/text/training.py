"""Training of text models: batches with all random numbers of their loss, and the loss of a batch."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.process.masked_objective import chain_nats, counted_loss, masked_loss
from unveil.process.masking import antithetic, stratified, stratified_counts
from unveil.text.data.documents import Pieces, Rows
from unveil.text.model import TextModel

Times = Literal["stratified", "antithetic", "independent"]


class TextBatch(NamedTuple):
    """Pieces of text, and the random numbers that decide which of their tokens are masked.

    Args:
        ids: (B, L) token ids.
        uniform: (B, L) in [0, 1).
        t: times, (B,), or (B, L) with blocks; in the l-form the masked fractions, which its loss does not
            use.
        masks: l-form: number of masked tokens, (B,), or (B, N) per block; t-form: None.
    """

    ids: Tensor
    uniform: Tensor
    t: Tensor
    masks: Tensor | None = None


def text_batches(
    pieces: Pieces | Rows,
    size: int,
    form: Literal["t", "l"] = "l",
    times: Times = "stratified",
    least: float = 1e-3,
    block: int = 0,
) -> Callable[[torch.Generator], TextBatch]:
    """A source of random batches.

    Args:
        form: t: `masked_loss` (LLaDA's 1 / t); l: `counted_loss` (the same mean, lower variance).
        times: how the times of the t-form are sampled; the l-form's counts are stratified.
        least: smallest t, LLaDA's eps.
        block: block size; each block has its own time or number of masks (Arriola et al. 2025, BD3). 0: one
            for the whole piece.
    Raises:
        ValueError: antithetic times for an odd number of rows, an unknown form, or a number out of range.
    """
    check_draws(size, form, times, least)
    if block < 0:
        raise ValueError(f"block must be at least 0, got {block}")

    def draw(generator: torch.Generator) -> TextBatch:
        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device="cpu")

        ids = pieces.draw(size, generator)
        length = ids.shape[1]
        if form == "l":
            lengths = block_lengths(length, block)
            masks = stratified_counts(uniform(len(lengths)), size, lengths).T
            shares = masks / lengths
            return TextBatch(
                ids, uniform(*ids.shape), shares if block else shares[:, 0], masks if block else masks[:, 0]
            )
        if not block:
            return TextBatch(ids, t=drawn_times(size, times, least, generator), uniform=uniform(*ids.shape))
        each = [drawn_times(size, times, least, generator) for _ in range(-(-length // block))]
        return TextBatch(
            ids,
            t=torch.stack(each, dim=1).repeat_interleave(block, dim=1)[:, :length],
            uniform=uniform(*ids.shape),
        )

    return draw


def check_draws(size: int, form: str, times: str, least: float) -> None:
    """Refuse batches whose times cannot be sampled.

    Raises:
        ValueError: what is out of range, unknown, or odd.
    """
    if size < 1 or not 0.0 <= least < 1.0:
        raise ValueError(f"a batch needs at least 1 row and a least time in [0, 1), got {size} and {least}")
    if form not in ("l", "t") or times not in get_args(Times):
        raise ValueError(
            f"form must be l or t and times one of {', '.join(get_args(Times))}, got {form!r} and {times!r}"
        )
    if times == "antithetic" and size % 2:
        raise ValueError(f"antithetic times come in pairs; the batch must be even, got {size}")


def drawn_times(count: int, times: Times, least: float, generator: torch.Generator) -> Tensor:
    """`count` times in [least, 1], float64; antithetic times need an even count."""
    if times == "stratified":
        return stratified(torch.rand(1, generator=generator, device="cpu"), count, least)
    if times == "antithetic":
        return antithetic(torch.rand(count // 2, generator=generator, device="cpu"), least)
    return least + (1.0 - least) * torch.rand(count, generator=generator, device="cpu").double()


def block_lengths(length: int, block: int) -> Tensor:
    """(N,) number of positions in each block of a sequence of `length`; block 0: a single block."""
    number = torch.arange(length, device="cpu") // (block or length)
    return torch.bincount(number)


def text_loss(model: nn.Module, batch: TextBatch) -> tuple[Tensor, Mapping[str, float]]:
    """The bound in nats per token, averaged over the batch; for an autoregressive model exactly -log p."""
    assert isinstance(model, TextModel)
    ids, uniform, block = batch.ids.to(model.device), batch.uniform.to(model.device), model.shape.block
    if model.shape.causal:
        return chain_nats(model.denoiser, ids).mean(), {}
    cond = Condition(prefix=model.network.prefill(ids)) if block else None
    if batch.masks is not None:
        return counted_loss(
            model.denoiser, ids, batch.masks.to(model.device), uniform, cond=cond, block=block
        ).mean(), {}
    return masked_loss(model.denoiser, ids, batch.t, uniform, cond=cond).mean(), {}
