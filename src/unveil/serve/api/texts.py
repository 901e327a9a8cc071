"""`/api/texts`: a text that is shown token by token, with the names of the command line."""

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from unveil.serve.api.routes import shown_job
from unveil.serve.config import Limits
from unveil.serve.models import Described
from unveil.serve.refusal import Refused
from unveil.serve.studio import Studio
from unveil.serve.texts import STEP_BYTES, Sheet, write_sheet
from unveil.text.settings import WritingOrder

STRICT = ConfigDict(extra="forbid")
LONGEST = 100_000  # characters of a prompt
GAP = re.compile(r"\[\*(\d{1,7})\]")
Token = Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True)
class Turn:
    """A message of a chat."""

    __pydantic_config__ = STRICT

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=LONGEST)]


@dataclass(frozen=True)
class TextJob:
    """Settings of `unveil sample text`, or with `messages` of `unveil chat`; absent ones are their usual."""

    __pydantic_config__ = STRICT

    checkpoint: Annotated[str, Field(description="id of a model; empty: the first", max_length=200)] = ""
    prompt: Annotated[str, Field(description="beginning of the text", max_length=LONGEST)] = ""
    infill: Annotated[
        str, Field(description="text with gaps, such as: To be, [*8] that is", max_length=LONGEST)
    ] = ""
    messages: Annotated[
        tuple[Turn, ...], Field(description="turns of a chat, whose answer is written", max_length=200)
    ] = ()
    tokens: Annotated[
        tuple[Token | None, ...],
        Field(
            description="ids of tokens, null where one is to be written; in place of new tokens",
            max_length=20_000,
        ),
    ] = ()
    length: Annotated[int | None, Field(ge=1, description="number of new tokens")] = None
    steps: Annotated[int | None, Field(ge=0, description="network calls; 0: one per token")] = None
    block: Annotated[int | None, Field(ge=0, le=10**6, description="tokens per block; 0: a single block")] = (
        None
    )
    order: WritingOrder | None = None
    temperature: Annotated[float | None, Field(ge=0, le=1000)] = None
    scale: Annotated[float | None, Field(ge=-1000, le=1000, description="of guidance; 1: none")] = None
    remask: Annotated[float | None, Field(ge=0, le=1, description="strength of remasking; 0: none")] = None
    threshold: Annotated[
        float | None, Field(gt=0, le=1, description="probability from which on tokens are revealed at once")
    ] = None
    seed: Annotated[int | None, Field(ge=0, le=2**53, description="absent: a random one")] = None


SETTINGS = ("length", "steps", "block", "order", "temperature", "scale", "remask", "threshold")


def routes(studio: Studio) -> APIRouter:
    """The routes of texts below /api."""
    router = APIRouter(prefix="/api", tags=["unveil"])

    @router.post("/texts", status_code=202, summary="Write a text, token by token: a job")
    def texts(asked: TextJob) -> dict[str, object]:
        model = studio.models.find(asked.checkpoint, "text")
        sheet = sheet_of(asked, model, studio.settings.limits)
        work = partial(write_sheet, sheet, model, studio.models)
        return shown_job(studio.submit("text", work, _size))

    del texts
    return router


def sheet_of(asked: TextJob, model: Described, limits: Limits) -> Sheet:
    """The text of a request.

    Raises:
        Refused, ValueError: settings that exclude each other or that the model cannot follow, or too many
            tokens or steps.
    """
    from secrets import randbelow

    from unveil.text.recipes.config import ANSWERED, SAMPLED

    if sum(map(bool, (asked.prompt, asked.infill, asked.messages))) > 1 or (asked.infill and asked.tokens):
        raise Refused(400, "give one of `prompt`, `infill` and `messages`; `tokens` go with all but `infill`")
    if (asked.infill or asked.tokens) and model.window:
        raise Refused(
            400, "`infill` and `tokens` need a masked model; this one does not see what follows a gap"
        )
    if asked.tokens and None not in asked.tokens:
        raise Refused(400, "`tokens`: none is null, so there is nothing to write")
    if asked.infill and not GAP.search(asked.infill):
        raise Refused(400, "`infill` has no gap; write one of 8 tokens as [*8]")
    if asked.length is not None and (asked.infill or asked.tokens):
        raise Refused(400, "`length` is that of the gaps; leave it out")
    new = asked.length or 0
    if asked.infill or asked.tokens:
        new = asked.tokens.count(None) + sum(int(count) for count in GAP.findall(asked.infill))
    if new > limits.largest_tokens:
        raise Refused(400, f"this server writes at most {limits.largest_tokens} tokens per request")
    if (asked.steps or 0) > limits.largest_steps:
        raise Refused(400, f"`steps`: this server takes at most {limits.largest_steps} steps")
    usual = ANSWERED if asked.messages else SAMPLED
    values = {name: value for name in SETTINGS if (value := getattr(asked, name)) is not None}
    seed = randbelow(2**32) if asked.seed is None else asked.seed
    prompt: str | tuple[object, ...] = asked.prompt
    if asked.messages:
        from unveil.text.data.chat import Turn as ChatTurn

        prompt = tuple(ChatTurn(turn.role, turn.content) for turn in asked.messages)
    return Sheet(replace(usual, **values), seed, prompt, asked.infill, asked.tokens)  # type: ignore[arg-type]


def _size(result: object) -> int:
    return STEP_BYTES * len(result["tokens"]) if isinstance(result, dict) else 0
