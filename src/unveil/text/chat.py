"""Answers in chats: the model's template, prompts of different lengths in one batch, a stop at the end of the
answers."""

from collections.abc import Sequence
from typing import NamedTuple, cast

from unveil.sampling.noise import Noise
from unveil.text.data.chat import Turn, answer_of, encode_chat
from unveil.text.generation import OnStep, write_after
from unveil.text.model import TextModel
from unveil.text.settings import TextSettings


class Answers(NamedTuple):
    """Answers, their number of tokens, the number of network calls, and which answers ended before their room
    was full."""

    texts: list[str]
    tokens: int
    calls: int
    ended: list[bool]


def answer_length(model: TextModel, settings: TextSettings) -> int:
    """The number of tokens that an answer has room for."""
    return settings.tokens(model.shape.context // 2)


def answer(
    model: TextModel,
    chats: Sequence[Sequence[Turn]],
    settings: TextSettings,
    generator: Noise = None,
    on_step: OnStep = None,
) -> Answers:
    """Write the assistant's next turn in each chat, all in one batch.

    An answer ends at the first token that ends a turn or the text. Chats of different lengths are padded on
    the left; with one generator per chat, each answer is what it would be in a batch of its own.

    Args:
        settings: `length` is the room for an answer; None: 128 tokens, at most half of the context.
    Raises:
        UnveilError: an unknown template, or a turn that holds a special token.
        ValueError: a chat and its answer are longer than the context, or there are fewer steps than blocks.
    """
    length = answer_length(model, settings)
    for turns in cast(Sequence[Sequence[object]], chats):
        if not all(isinstance(turn, Turn) for turn in turns):
            raise ValueError(
                f"chats must be a list of lists of turns, got {str(turns)[:60]}; a single chat is "
                "[[Turn(...), ...]]"
            )
    prompts = [encode_chat(model.tokens, turns) for turns in chats]
    done = write_after(model, prompts, length, settings, generator, on_step)
    rows = [answer_of(model.tokens, row) for row in done.ids.tolist()]
    ended = [len(row) < length for row in rows]
    return Answers([model.tokens.decode(row).strip() for row in rows], sum(map(len, rows)), done.calls, ended)
