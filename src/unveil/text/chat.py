"""Answers in chats: the model's template, ragged prompts in one batch, a stop at the end of the answers."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from unveil.sampling.noise import Noise
from unveil.text.canvas import check_room, prompt_canvas
from unveil.text.data.chat import Turn, answer_of, encode_chat
from unveil.text.generation import write
from unveil.text.model import TextModel
from unveil.text.settings import TextSettings


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
    generator: Noise = None,
    on_step: Callable[[Tensor], object] | None = None,
) -> Answers:
    """The assistant's next turn in each chat, all in one batch; chats of different lengths are padded on the left, unseen.

    `settings.length` tokens are room for an answer; it ends at the first token that ends a turn or the text. With a generator for each,
    chats are answered as they are alone.

    Raises:
        UnveilError: a template that is not known, or a turn that holds a special token.
        ValueError: a chat and its answer are longer than the context, or fewer steps than blocks.
    """
    every: Sequence[Any] = chats
    if strange := [
        turns
        for turns in every
        if isinstance(turns, str | Turn) or not all(isinstance(turn, Turn) for turn in turns)
    ]:
        raise ValueError(
            f"chats must be a list of lists of turns, got {str(strange[0])[:60]}; a single chat is [[Turn(...), ...]]"
        )
    prompts = [encode_chat(model.tokens, turns) for turns in chats]
    if prompts:
        check_room(model, max(map(len, prompts)), settings.length)
    canvas = prompt_canvas(prompts, settings.length, model.tokens, model.device)
    done = write(model, canvas, settings, generator, on_step)
    rows = [answer_of(model.tokens, row) for row in done.ids[:, -settings.length :].tolist()]
    ended = [len(row) < settings.length for row in rows]
    return Answers([model.tokens.decode(row).strip() for row in rows], sum(map(len, rows)), done.calls, ended)
