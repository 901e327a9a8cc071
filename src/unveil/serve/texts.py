"""Texts of a job: chats and continuations, as `unveil chat` and `unveil sample text` write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from unveil.serve.jobs import Job
from unveil.serve.models import Described, Models

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.text.data.chat import Turn
    from unveil.text.data.tokens import Tokens
    from unveil.text.settings import TextSettings

UNFINISHED = "\ufffd"  # what the first bytes of a character are decoded to


class Wrote(NamedTuple):
    """Texts.

    Args:
        reasons: "stop" at an end of text or a stop word, "length" if the room was full.
        prompt_tokens, completion_tokens: numbers of tokens, of all texts.
    """

    texts: tuple[str, ...]
    reasons: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int


class Asked(NamedTuple):
    """A text to write.

    Args:
        prompt: a text to continue, or the turns of a chat.
        n: number of texts; text i has the seed `seed` + i.
        stop: words that end a text; they are not part of it.
    """

    prompt: str | tuple[Turn, ...]
    settings: TextSettings
    n: int
    seed: int
    stop: tuple[str, ...] = ()


def write_texts(asked: Asked, described: Described, models: Models, job: Job) -> Wrote:
    """Write the texts of a job in the worker thread.

    Raises:
        ValueError, UnveilError: settings that this model cannot follow.
        Cancelled: the job was cancelled.
    """
    from dataclasses import replace

    from unveil.sampling.noise import generators
    from unveil.text.chat import answer_length
    from unveil.text.data.chat import encode_chat
    from unveil.text.generation import write_after

    model = models.text(described)
    tokens, chat = model.tokens, not isinstance(asked.prompt, str)
    ids = encode_chat(tokens, asked.prompt) if chat else tokens.encode(asked.prompt)  # type: ignore[arg-type]
    room = model.shape.context - len(ids)
    length = answer_length(model, asked.settings) if chat else asked.settings.tokens(room)
    if asked.settings.length is None:
        length = max(1, min(length, room))
    settings = replace(asked.settings, length=length)
    calls = 0

    def watch(x: Tensor) -> None:
        nonlocal calls
        calls += 1
        rows = x[:, -length:].tolist()
        texts = tuple(settled(tokens, row, asked.stop) for row in rows)
        job.report(min(calls, length - 1), length, texts=texts)

    job.report(0, length, texts=("",) * asked.n)
    noise = generators(asked.seed, asked.n)
    done = write_after(model, [ids] * asked.n, length, settings, noise, watch)
    rows = [ended(tokens, row, chat) for row in done.ids.tolist()]
    texts = [tokens.decode(row) for row in rows]
    cut = [until(text, asked.stop) for text in texts]
    reasons = tuple(
        "stop" if len(row) < length or text != whole else "length"
        for row, text, whole in zip(rows, cut, texts, strict=True)
    )
    return Wrote(tuple(cut), reasons, len(ids) * asked.n, sum(map(len, rows)))


def ended(tokens: Tokens, row: list[int], chat: bool) -> list[int]:
    """The tokens before the end of the text, or of the turn."""
    from unveil.text.data.chat import answer_of

    if chat:
        return answer_of(tokens, row)
    ends = [k for k, token in enumerate(row) if token in (tokens.eos_id, tokens.mask_id)]
    return row[: ends[0]] if ends else row


def settled(tokens: Tokens, row: list[int], stop: Sequence[str]) -> str:
    """The beginning of a text that will not change any more: before the first mask, and before what may still
    become a stop word or a whole character."""
    first = next((k for k, token in enumerate(row) if token == tokens.mask_id), len(row))
    text = tokens.decode(ended(tokens, row[:first], False)).rstrip(UNFINISHED)
    text = until(text, stop)
    held = max((k for word in stop for k in range(len(word)) if text.endswith(word[:k])), default=0)
    return text[: len(text) - held]


def until(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop word."""
    ends = [at for word in stop if (at := text.find(word)) >= 0]
    return text[: min(ends)] if ends else text
