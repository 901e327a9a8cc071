"""Fine-tuning on instructions: only responses are masked, and each loss is divided by the response's
length."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from unveil.process.masked_objective import counted_loss, masked_loss
from unveil.process.masking import antithetic, stratified, stratified_counts
from unveil.text.data.instructions import Examples
from unveil.text.model import TextModel
from unveil.text.training import Times, check_draws


class TuningBatch(NamedTuple):
    """Prompts with their responses, and the random numbers that decide which tokens of the responses are
    masked.

    Args:
        ids: (B, L) token ids.
        known: (B, L) bool, True at the prompts.
        uniform, t, masks: as in `TextBatch`.
    """

    ids: Tensor
    known: Tensor
    uniform: Tensor
    t: Tensor
    masks: Tensor | None = None


def tuning_batches(
    examples: Examples,
    size: int,
    form: Literal["t", "l"] = "l",
    times: Times = "stratified",
    least: float = 1e-3,
) -> Callable[[torch.Generator], TuningBatch]:
    """A source of random batches; form, times and least as in `text_batches`.

    Raises:
        ValueError: antithetic times for an odd number of rows, an unknown form, or a number out of range.
    """
    check_draws(size, form, times, least)

    def draw(generator: torch.Generator) -> TuningBatch:
        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device="cpu")

        ids, known = examples.draw(size, generator)
        if form == "l":
            offsets = (uniform(1).double() + torch.arange(size, device="cpu") / size) % 1.0
            lengths = (~known).sum(1)
            masks = stratified_counts(offsets, 1, lengths)[:, 0]
            return TuningBatch(ids, known, uniform(*ids.shape), masks / lengths, masks)
        if times == "stratified":
            t = stratified(uniform(1), size, least)
        elif times == "antithetic":
            t = antithetic(uniform(size // 2), least)
        else:
            t = least + (1.0 - least) * uniform(size).double()
        return TuningBatch(ids, known, uniform(*ids.shape), t=t)

    return draw


def tuning_loss(model: TextModel, batch: TuningBatch) -> tuple[Tensor, Mapping[str, float]]:
    """Mean over rows of  (1 / t) sum over masked response tokens of -log p(r_0^i | prompt, r_t)  / length.

    `length` is that of the response, its end-of-text tokens included.

    Nie et al. 2025 (LLaDA), eq. 5 and algorithm 2; or the same mean in the l-form.
    """
    ids, known, uniform = (part.to(model.device) for part in batch[:3])
    if batch.masks is not None:
        return counted_loss(
            model.denoiser, ids, batch.masks.to(model.device), uniform, known=known
        ).mean(), {}
    return masked_loss(model.denoiser, ids, batch.t, uniform, known=known).mean(), {}
