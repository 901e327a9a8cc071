"""Training of text models: batches with all random numbers of their loss, and the loss of a batch."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from unveil.checks import one_of, whole
from unveil.network.condition import Condition
from unveil.process.masked_objective import chain_nats, counted_loss, masked_loss
from unveil.process.masking import antithetic, stratified, stratified_counts
from unveil.text.data.documents import Pieces, Rows
from unveil.text.model import TextModel
from unveil.text.shape import Form, Times

LEAST = 1e-3  # smallest time, LLaDA's eps


class TextBatch(NamedTuple):
    """Pieces of text, and the random numbers that decide which of their tokens are masked.

    Args:
        ids: (B, L) token ids.
        uniform: (B, L) in [0, 1).
        t: times, (B,), or (B, L) with blocks; in the l-form the masked fractions, which its loss does not
            use.
        masks: l-form: number of masked tokens, (B,), or (B, N) per block; t-form: None.
        known: (B, L) bool, tokens that are never masked and not trained on, such as prompts; None: no token.
    """

    ids: Tensor
    uniform: Tensor
    t: Tensor
    masks: Tensor | None = None
    known: Tensor | None = None


def text_batches(
    pieces: Pieces | Rows, size: int, form: Form = "l", times: Times = "stratified", block: int = 0
) -> Callable[[torch.Generator], TextBatch]:
    """A source of random batches.

    Args:
        form: t: `masked_loss` (LLaDA's 1 / t); l: `counted_loss` (the same mean, lower variance).
        times: how the times of the t-form are sampled; the l-form's counts are stratified.
        block: block size; each block has its own time or number of masks (Arriola et al. 2025, BD3). 0: one
            for the whole piece.
    Raises:
        ValueError: antithetic times for an odd number of rows, an unknown form, or a number out of range.
    """
    check_draws("batch_size", size, form, times)
    whole("block", block, 0)

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
        t = drawn_times(size, times, generator)
        if block:
            each = [t, *(drawn_times(size, times, generator) for _ in range(-(-length // block) - 1))]
            t = torch.stack(each, dim=1).repeat_interleave(block, dim=1)[:, :length]
        return TextBatch(ids, uniform(*ids.shape), t)

    return draw


def check_draws(name: str, count: int, form: str, times: str) -> None:
    """Refuse numbers of masks, or times, that cannot be sampled.

    Args:
        name: what `count` is, for messages.
    Raises:
        ValueError: what is out of range, unknown, or odd.
    """
    whole(name, count)
    one_of("form", form, get_args(Form))
    one_of("times", times, get_args(Times))
    if times == "antithetic" and count % 2:
        raise ValueError(f"antithetic times come in pairs, so that {name} must be even, got {count}")


def drawn_times(count: int, times: Times, generator: torch.Generator) -> Tensor:
    """`count` times in [LEAST, 1], float64; antithetic times need an even count."""
    if times == "stratified":
        return stratified(torch.rand(1, generator=generator, device="cpu"), count, LEAST)
    if times == "antithetic":
        return antithetic(torch.rand(count // 2, generator=generator, device="cpu"), LEAST)
    return LEAST + (1.0 - LEAST) * torch.rand(count, generator=generator, device="cpu").double()


def block_lengths(length: int, block: int) -> Tensor:
    """(N,) number of positions in each block of a sequence of `length`; block 0: a single block."""
    number = torch.arange(length, device="cpu") // (block or length)
    return torch.bincount(number)


def text_loss(model: nn.Module, batch: TextBatch) -> tuple[Tensor, Mapping[str, float]]:
    """The bound in nats per token, averaged over the batch; for an autoregressive model exactly -log p.

    With known prompts it is the mean over rows of

        (1 / t) sum over masked response tokens of -log p(r_0^i | prompt, r_t)  / length

    or the same mean in the l-form; `length` is that of the response with its end-of-text tokens. Nie et al.
    2025 (LLaDA), eq. 5 and algorithm 2.
    """
    assert isinstance(model, TextModel)
    device, block = model.device, model.shape.block
    ids, uniform = batch.ids.to(device), batch.uniform.to(device)
    if model.shape.causal:
        return chain_nats(model.denoiser, ids).mean(), {}
    cond = Condition(prefix=model.network.prefill(ids)) if block else None
    known = None if batch.known is None else batch.known.to(device)
    if batch.masks is None:
        nats = masked_loss(model.denoiser, ids, batch.t, uniform, cond=cond, known=known)
    else:
        masks = batch.masks.to(device)
        nats = counted_loss(model.denoiser, ids, masks, uniform, cond=cond, known=known, block=block)
    return nats.mean(), {}
