"""Answers in chats: the model's template, ragged prompts in one batch, a stop at the end of the answers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.apps.text_generation import TextSettings, prompt_canvas, write
from unveil.apps.text_model import TextModel
from unveil.data.chat import Turn, answer_of, encode_chat


class Answers(NamedTuple):
    """What was answered, of how many tokens, how often the network was called, and which answers ended before their room did."""

    texts: list[str]
    tokens: int
    calls: int
    ended: list[bool]


def answer(
    model: TextModel,
    chats: Sequence[Sequence[Turn]],
    settings: TextSettings,
    generator: torch.Generator | None = None,
    on_step: Callable[[Tensor], object] | None = None,
) -> Answers:
    """The assistant's next turn in each chat, all in one batch; chats of different lengths are padded on the left, unseen.

    `settings.length` tokens are room for an answer; it ends at the first token that ends a turn or the text.

    Raises:
        UnveilError: a template that is not known, or a turn that holds a special token.
        ValueError: a chat and its answer are longer than the context, or fewer steps than blocks.
    """
    canvas = prompt_canvas([encode_chat(model.tokens, turns) for turns in chats], settings.length, model.tokens, model.device)
    done = write(model, canvas, settings, generator, on_step)
    rows = [answer_of(model.tokens, row) for row in done.ids[:, -settings.length :].tolist()]
    ended = [len(row) < settings.length for row in rows]
    return Answers([model.tokens.decode(row).strip() for row in rows], sum(map(len, rows)), done.calls, ended)
