"""Text without a given length: written part after part, until it ends or the context is full."""

from collections.abc import Sequence

import torch

from unveil.sampling.noise import Noise
from unveil.text.canvas import check_room, padded
from unveil.text.generation import OnStep, Written, noise_of, write_after
from unveil.text.model import TextModel
from unveil.text.settings import TextSettings


def write_on(
    model: TextModel,
    prompts: Sequence[Sequence[int]],
    settings: TextSettings,
    generator: Noise = None,
    on_step: OnStep = None,
) -> Written:
    """Write after prompts without a length: parts of `settings.length` masks, until a row has ended or its
    context is full.

    The network sees no masks beyond the current part, so that the number of masks does not reveal the length
    of the text. `steps` and `block` apply to each part.

    Args:
        on_step: as in `write`, called with the rows that are being written.
    Returns:
        Rows whose prompts end in the same column; what was not written, after an end or a full context, stays
        masked.
    Raises:
        ValueError: as `write`; or guidance, because each part's prompt includes the text written so far.
    """
    if settings.scale != 1.0:
        raise ValueError(
            "guidance masks the prompt, but without a length all text written so far is the prompt of what "
            "follows; give `length`, or leave `scale` at 1"
        )
    context, size, tokens = model.shape.context, settings.tokens(model.shape.context), model.tokens
    check_room(model, max(map(len, prompts), default=0), 1)
    rows, calls = [list(prompt) for prompt in prompts], 0
    unfinished = list(range(len(rows)))
    while unfinished:
        room = min(max(context - len(rows[i]) for i in unfinished), size)
        now = [i for i in unfinished if min(context - len(rows[i]), size) == room]
        own = noise_of(generator, torch.tensor(now, device=model.device), len(rows))
        part = write_after(model, [rows[i] for i in now], room, settings, own, on_step)
        calls += part.calls
        for i, new in zip(now, part.ids.tolist(), strict=True):
            rows[i] += new
            full = len(rows[i]) == context
            if full or (settings.stop and tokens.eos_id in rows[i][len(prompts[i]) :]):
                unfinished.remove(i)
    added = [len(row) - len(prompt) for row, prompt in zip(rows, prompts, strict=True)]
    whole = [row + [tokens.mask_id] * (max(added) - n) for row, n in zip(rows, added, strict=True)]
    return Written(padded(whole, tokens.eos_id, model.device).ids, calls)
