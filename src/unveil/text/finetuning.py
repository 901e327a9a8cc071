"""Batches for fine-tuning on instructions: only responses are masked."""

from collections.abc import Callable

import torch

from unveil.process.masking import stratified_counts
from unveil.text.data.instructions import Examples
from unveil.text.shape import Form, Times
from unveil.text.training import TextBatch, check_draws, drawn_times


def tuning_batches(
    examples: Examples, size: int, form: Form = "l", times: Times = "stratified"
) -> Callable[[torch.Generator], TextBatch]:
    """A source of random batches of prompts, which are known, with their responses; otherwise as
    `text_batches`.

    Raises:
        ValueError: antithetic times for an odd number of rows, or an unknown form.
    """
    check_draws("batch_size", size, form, times)

    def draw(generator: torch.Generator) -> TextBatch:
        ids, known = examples.draw(size, generator)
        if form == "l":
            offset = torch.rand(1, generator=generator, device="cpu").double()
            lengths = (~known).sum(1)
            offsets = (offset + torch.arange(size, device="cpu") / size) % 1.0
            masks = stratified_counts(offsets, 1, lengths)[:, 0]
            t = masks / lengths
        else:
            masks, t = None, drawn_times(size, times, generator)
        return TextBatch(ids, torch.rand(ids.shape, generator=generator, device="cpu"), t, masks, known)

    return draw
