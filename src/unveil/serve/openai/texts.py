"""`/v1/models`, `/v1/chat/completions` and `/v1/completions`: OpenAI's API of text."""

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from secrets import randbelow, token_hex
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from unveil.serve.jobs import Job
from unveil.serve.models import Described
from unveil.serve.refusal import Refused, body_of
from unveil.serve.studio import Studio
from unveil.serve.texts import Asked, Wrote, write_texts
from unveil.serve.waiting import changes, finished, gone_of, refused
from unveil.text.settings import TextSettings, WritingOrder

LONGEST = 100_000  # characters of a prompt
Choice = Callable[[int, str, str | None], dict[str, object]]
STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Part:
    """A part of a message; images are refused."""

    text: Annotated[str, Field(max_length=LONGEST)]
    type: Literal["text"] = "text"


@dataclass(frozen=True)
class Message:
    """A turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=LONGEST)] | Annotated[list[Part], Field(max_length=100)]
    name: str | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(it.text for it in self.content)


@dataclass(frozen=True)
class StreamOptions:
    """What a stream ends with."""

    include_usage: bool = False
    include_obfuscation: bool = False


@dataclass(frozen=True)
class TextAsked:
    """A request of an answer to `messages`, or of the continuation of `prompt`; what is behind `user` is our
    own, for `extra_body`."""

    __pydantic_config__ = STRICT

    model: str = ""
    messages: Annotated[list[Message] | None, Field(min_length=1, max_length=1000)] = None
    prompt: Annotated[str | None, Field(max_length=LONGEST)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(ge=1, le=1)] = None
    n: Annotated[int | None, Field(ge=1, le=16)] = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: Annotated[int | None, Field(ge=0, le=2**53)] = None
    presence_penalty: Annotated[float | None, Field(ge=0, le=0)] = None
    frequency_penalty: Annotated[float | None, Field(ge=0, le=0)] = None
    user: str | None = None
    steps: Annotated[int | None, Field(ge=0)] = None
    block: Annotated[int | None, Field(ge=0)] = None
    order: WritingOrder | None = None


def routes(studio: Studio) -> APIRouter:
    """The routes of models and of text."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.get("/models")
    async def models() -> dict[str, object]:
        data = [_shown(it) for kind in ("image", "text") for it in studio.models.of_kind(kind)]
        return {"object": "list", "data": data}

    @router.get("/models/{name}")
    async def model(name: str) -> dict[str, object]:
        found = studio.models.described.get(name)
        if found is None:
            raise Refused(404, f"there is no model named {name[:80]!r}")
        return _shown(found)

    @router.post("/chat/completions", response_model=None)
    async def chat(asked: TextAsked, request: Request) -> Response | dict[str, object]:
        if asked.messages is None or asked.prompt is not None:
            raise Refused(400, "a chat has `messages`, and no `prompt`")
        return await _answer(studio, request, asked, "chat.completion", "chatcmpl", _turn)

    @router.post("/completions", response_model=None)
    async def completions(asked: TextAsked, request: Request) -> Response | dict[str, object]:
        if asked.prompt is None or asked.messages is not None:
            raise Refused(400, "a completion has a `prompt`, and no `messages`")
        return await _answer(studio, request, asked, "text_completion", "cmpl", _continuation)

    del models, model, chat, completions
    return router


def _shown(model: Described) -> dict[str, object]:
    return {"id": model.id, "object": "model", "created": 0, "owned_by": "unveil"}


def work_of(asked: TextAsked, studio: Studio) -> tuple[Asked, Described]:
    """The text to write, and the model.

    Raises:
        Refused, ValueError: settings that cannot be followed.
    """
    from unveil.text.data.chat import Turn
    from unveil.text.recipes.config import ANSWERED, SAMPLED

    model = studio.models.find(asked.model, "text")
    settings: TextSettings = SAMPLED if asked.messages is None else ANSWERED
    if asked.max_tokens is not None and asked.max_completion_tokens is not None:
        raise Refused(400, "give `max_completion_tokens` or `max_tokens`, not both")
    length = asked.max_completion_tokens or asked.max_tokens
    count = asked.n or 1
    if (length or 0) * count > studio.settings.limits.largest_tokens:
        most = studio.settings.limits.largest_tokens
        raise Refused(400, f"`max_tokens`: this server writes at most {most} tokens per request")
    given = {"length": length, "temperature": asked.temperature, "steps": asked.steps}
    given |= {"block": asked.block, "order": asked.order}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
    prompt: str | tuple[Turn, ...] = asked.prompt or ""
    if asked.messages is not None:
        roles = {"developer": "system"}
        prompt = tuple(Turn(roles.get(it.role, it.role), it.text) for it in asked.messages)  # type: ignore[arg-type]
    seed = randbelow(2**32) if asked.seed is None else asked.seed
    return Asked(prompt, settings, count, seed, tuple(word for word in stop if word)), model


def _turn(index: int, text: str, reason: str | None) -> dict[str, object]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": index, "message": message, "finish_reason": reason, "logprobs": None}


def _continuation(index: int, text: str, reason: str | None) -> dict[str, object]:
    return {"index": index, "text": text, "finish_reason": reason, "logprobs": None}


def _delta(index: int, text: str, reason: str | None) -> dict[str, object]:
    delta = {"content": text} if reason is None else {}
    return {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}


def _usage(wrote: Wrote) -> dict[str, int]:
    total = wrote.prompt_tokens + wrote.completion_tokens
    return {
        "prompt_tokens": wrote.prompt_tokens,
        "completion_tokens": wrote.completion_tokens,
        "total_tokens": total,
    }


async def _answer(
    studio: Studio, request: Request, asked: TextAsked, kind: str, prefix: str, choice: Choice
) -> Response | dict[str, object]:
    work, model = await run_in_threadpool(work_of, asked, studio)
    job = studio.submit("text", partial(write_texts, work, model, studio.models))
    head: dict[str, object] = {
        "id": f"{prefix}-{token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": model.id,
    }
    if asked.stream:
        chat = kind == "chat.completion"
        head["object"] = "chat.completion.chunk" if chat else kind
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        parts = _streamed(job, studio, head, _delta if chat else _continuation, work.n, usage)
        return StreamingResponse(parts, media_type="text/event-stream")
    wrote = await finished(job, studio.jobs, gone_of(request))
    assert isinstance(wrote, Wrote)
    pairs = zip(wrote.texts, wrote.reasons, strict=True)
    choices = [choice(k, text, reason) for k, (text, reason) in enumerate(pairs)]
    return head | {"choices": choices, "usage": _usage(wrote)}


async def _streamed(
    job: Job, studio: Studio, head: dict[str, object], delta: Choice, count: int, usage: bool
) -> AsyncIterator[str]:
    """The texts as they settle: what was sent does not change any more. The job is cancelled if the client
    leaves."""
    sent = [""] * count

    def chunk(choices: list[dict[str, object]], **more: object) -> str:
        return f"data: {json.dumps(head | {'choices': choices} | more)}\n\n"

    def new(texts: tuple[str, ...]) -> list[str]:
        chunks: list[str] = []
        for k, text in enumerate(texts):
            if len(text) > len(sent[k]) and text.startswith(sent[k]):
                chunks.append(chunk([delta(k, text[len(sent[k]) :], None)]))
                sent[k] = text
        return chunks

    try:
        if delta is _delta:
            for k in range(count):
                first: dict[str, object] = {
                    "index": k,
                    "delta": {"role": "assistant", "content": ""},
                    "finish_reason": None,
                }
                yield chunk([first])
        async for it in changes(job):
            for part in new(it.texts):
                yield part
        wrote = job.result
        if not isinstance(wrote, Wrote):
            failed = refused(job)
            yield f"data: {json.dumps(body_of('/v1/', failed.status, failed.message))}\n\n"
            return
        for part in new(wrote.texts):
            yield part
        for k, reason in enumerate(wrote.reasons):
            yield chunk([delta(k, "", reason)])
        if usage:
            yield chunk([], usage=_usage(wrote))
        yield "data: [DONE]\n\n"
    finally:
        if not job.ended:
            studio.jobs.cancel(job)
