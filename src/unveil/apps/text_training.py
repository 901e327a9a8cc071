"""What text models are trained on: batches with all that is random about their loss, and the loss of one."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from unveil.apps.text_model import TextModel
from unveil.data.text import Pieces
from unveil.process.masked_objective import counted_loss, masked_loss
from unveil.process.masking import antithetic, stratified, stratified_counts

Times = Literal["stratified", "antithetic", "independent"]


class TextBatch(NamedTuple):
    """Pieces of text, and which of their tokens are masked.

    Args:
        ids: (B, L).
        uniform: (B, L) in [0, 1).
        t: (B,), for the t-form; for the l-form the share of masked tokens, which its loss does not read.
        masks: (B,) numbers of masked tokens, for the l-form, or nothing.
    """

    ids: Tensor
    uniform: Tensor
    t: Tensor
    masks: Tensor | None = None


def text_batches(
    pieces: Pieces, size: int, form: Literal["t", "l"] = "l", times: Times = "stratified", least: float = 1e-3
) -> Callable[[torch.Generator], TextBatch]:
    """A source of random batches.

    Args:
        form: of the bound, `masked_loss` (LLaDA's 1 / t) or `counted_loss` (the same mean, less variance).
        times: of the t-form; the l-form's counts are stratified.
        least: t is at least this, as LLaDA's eps.
    Raises:
        ValueError: antithetic times for an odd number of rows.
    """
    if times == "antithetic" and size % 2:
        raise ValueError(f"antithetic times come in pairs; the batch must be even, got {size}")

    def draw(generator: torch.Generator) -> TextBatch:
        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device="cpu")

        ids = pieces.draw(size, generator)
        if form == "l":
            masks = stratified_counts(uniform(1), size, torch.tensor(ids.shape[1], device="cpu"))[0]
            return TextBatch(ids, uniform(*ids.shape), masks / ids.shape[1], masks)
        if times == "stratified":
            t = stratified(uniform(1), size, least)
        elif times == "antithetic":
            t = antithetic(uniform(size // 2), least)
        else:
            t = least + (1.0 - least) * uniform(size).double()
        return TextBatch(ids, uniform(*ids.shape), t)

    return draw


def text_loss(model: nn.Module, batch: TextBatch) -> tuple[Tensor, Mapping[str, float]]:
    """The bound in nats a token, averaged over the batch."""
    assert isinstance(model, TextModel)
    ids, uniform = batch.ids.to(model.device), batch.uniform.to(model.device)
    if batch.masks is not None:
        return counted_loss(model.denoiser, ids, batch.masks.to(model.device), uniform).mean(), {}
    return masked_loss(model.denoiser, ids, batch.t, uniform).mean(), {}
