"""Texts of a job: chats, continuations and gaps, as `unveil chat` and `unveil sample text` write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from unveil.files.json_objects import JsonObject
from unveil.serve.jobs import Job
from unveil.serve.models import Described, Models

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.text.data.chat import Turn
    from unveil.text.data.tokens import Tokens
    from unveil.text.settings import TextSettings

STEP_BYTES = 200  # of a token in a result, about
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


class Sheet(NamedTuple):
    """A text that is shown token by token while it is written.

    Args:
        prompt: the text, or the turns of a chat, that comes before `length` new tokens.
        infill: a pattern such as "To be, [*8] that", in place of a prompt.
        tokens: ids, None where a token is to be written, in place of new tokens after the prompt; () for new
            ones.
    """

    settings: TextSettings
    seed: int
    prompt: str | tuple[Turn, ...] = ""
    infill: str = ""
    tokens: tuple[int | None, ...] = ()


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


def write_sheet(sheet: Sheet, described: Described, models: Models, job: Job) -> JsonObject:
    """Write one text in the worker thread; each step reports all tokens.

    The text is that of `unveil sample text` or `unveil chat` with the same settings and seed.

    Returns:
        `text`; `tokens`, as `shown_tokens` gives them; `steps`, the number of steps; `seed`. Of a chat all
        are those of the answer alone.
    Raises:
        ValueError, UnveilError: settings that this model cannot follow.
        Cancelled: the job was cancelled.
    """
    from dataclasses import replace

    from unveil.sampling.noise import generators
    from unveil.text.canvas import check_room, gap_canvas, padded
    from unveil.text.chat import answer_length
    from unveil.text.data.chat import encode_chat
    from unveil.text.generation import write

    model = models.text(described)
    tokens, chat, settings = model.tokens, not isinstance(sheet.prompt, str), sheet.settings
    gaps = bool(sheet.infill or sheet.tokens)
    known: list[int] = []
    if sheet.infill:
        row = gap_canvas([sheet.infill], tokens).ids[0].tolist()
    else:
        known = encode_chat(tokens, sheet.prompt) if chat else tokens.encode(sheet.prompt)  # type: ignore[arg-type]
        room = model.shape.context - len(known)
        length = answer_length(model, settings) if chat else settings.tokens(room)
        length = max(1, min(length, room)) if settings.length is None else length
        new = sheet.tokens or (None,) * length
        check_room(model, len(known), len(new))
        row = [*known, *(tokens.mask_id if token is None else token for token in new)]
    settings = replace(settings, may_end=settings.may_end and not gaps)
    first = len(known) if chat else 0
    decided: list[int | None] = [None if token == tokens.mask_id else 0 for token in row]
    total = settings.steps or decided.count(None)
    names: dict[int, str] = {}
    calls = 0

    def shown(now: list[int]) -> list[JsonObject]:
        for k, token in enumerate(now):
            if token == tokens.mask_id:
                decided[k] = None
            elif decided[k] is None or token != row[k]:
                decided[k] = calls
        row[:] = now
        return shown_tokens(tokens, row[first:], decided[first:], names)

    def watch(x: Tensor) -> None:
        nonlocal calls
        calls += 1
        job.report(min(calls, total - 1), total, data={"tokens": shown(x[0].tolist())})

    job.report(0, total, data={"tokens": shown(row)})
    canvas = padded([row], tokens.eos_id, model.device)
    done = write(model, canvas, settings, generators(sheet.seed, 1), watch).ids[0].tolist()
    found = shown(done)
    if settings.stop and not gaps:
        found = found[: len(known) - first + len(ended(tokens, done[len(known) :], chat))]
    text = tokens.decode([token["id"] for token in found])
    result: JsonObject = {"text": text, "tokens": found, "steps": calls, "seed": sheet.seed}
    job.report(calls, calls, data={"tokens": found})
    return result


def shown_tokens(
    tokens: Tokens, row: Sequence[int], decided: Sequence[int | None], names: dict[int, str]
) -> list[JsonObject]:
    """Tokens as JSON: `id`; `text`, "" of a mask and of a part of a character whose last token has all of it;
    `step` at which it was decided, 0 if it was given, None of a mask; `mask`; `end`, whether it is the end of
    the text.

    Args:
        names: texts of single tokens, which are filled in here.
    """
    texts = [""] * len(row)
    begun: list[int] = []  # parts of a character
    for k, token in enumerate(row):
        if token not in names:
            names[token] = tokens.decode([token])
        texts[k] = names[token]
        begun = [*begun, token] if UNFINISHED in texts[k] else []
        if len(begun) > 1 and not (whole := tokens.decode(begun)).endswith(UNFINISHED):
            texts[k - len(begun) + 1 : k + 1] = [""] * (len(begun) - 1) + [whole]
            begun = []
    return [
        {
            "id": token,
            "text": "" if token == tokens.mask_id else text,
            "step": step,
            "mask": token == tokens.mask_id,
            "end": token == tokens.eos_id,
        }
        for token, text, step in zip(row, texts, decided, strict=True)
    ]


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
