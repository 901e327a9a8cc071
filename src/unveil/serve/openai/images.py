"""`/v1/images`: OpenAI's API of images."""

import base64
import io
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from secrets import randbelow
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response, StreamingResponse

from unveil.image.recipes.config import SampleImage
from unveil.image.settings import SolverName
from unveil.serve.a1111.lists import with_uploads
from unveil.serve.a1111.pictures import NOISE, input_of
from unveil.serve.a1111.request import Img2Img
from unveil.serve.images import Input, check_sides, condition_of, settled
from unveil.serve.jobs import Job
from unveil.serve.models import Described
from unveil.serve.refusal import Refused, body_of
from unveil.serve.studio import Studio
from unveil.serve.uploads import Upload, picture
from unveil.serve.waiting import changes, gone_of, refused

CROP = 1  # `resize_mode`


@dataclass(frozen=True)
class ImagesAsked:
    """A request of images; what is behind `user` is our own, for `extra_body`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    prompt: Annotated[str, Field(max_length=4000)] = ""
    model: str | None = None
    n: Annotated[int | None, Field(ge=1, le=10)] = None
    size: Annotated[str | None, Field(pattern=r"^(auto|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$")] = None
    response_format: Literal["b64_json", "url"] | None = None
    quality: Literal["auto", "standard"] | None = None
    background: Literal["auto", "opaque"] | None = None
    output_format: Literal["png"] | None = None
    moderation: Literal["auto", "low"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int | None, Field(ge=0, le=3)] = None
    user: str | None = None
    seed: Annotated[int | None, Field(ge=0, le=2**53)] = None
    steps: Annotated[int | None, Field(ge=1)] = None
    scale: Annotated[float | None, Field(ge=0, le=1000)] = None
    solver: SolverName | None = None
    negative: str = ""
    strength: Annotated[float | None, Field(gt=0, le=1)] = None


def routes(studio: Studio) -> APIRouter:
    """The routes below /v1/images."""
    router = APIRouter(prefix="/v1/images", tags=["OpenAI"])

    @router.post("/generations", response_model=None)
    async def generations(asked: ImagesAsked, request: Request) -> Response | dict[str, object]:
        if asked.strength is not None:
            raise Refused(400, "`strength` is for edits and variations; leave it out")
        model = studio.models.find(asked.model or "", "image")
        return await _answer(studio, request, asked, model, None, "image_generation")

    @router.post("/edits", response_model=None)
    async def edits(request: Request) -> Response | dict[str, object]:
        async with request.form(max_files=18, max_fields=40) as form:
            asked = _read(form)
            uploads, mask = await _uploads(form, studio)
        if not asked.prompt:
            raise Refused(400, "`prompt` is missing; variations need none")
        model = studio.models.find(asked.model or "", "image")
        if mask is None and uploads[0].image.mode == "RGBA" and _has_holes(uploads[0]):
            mask = uploads[0]
        given = await run_in_threadpool(_input, asked, uploads, mask, model, studio)
        return await _answer(studio, request, asked, model, given, "image_edit")

    @router.post("/variations", response_model=None)
    async def variations(request: Request) -> Response | dict[str, object]:
        async with request.form(max_files=2, max_fields=40) as form:
            asked = _read(form)
            uploads, mask = await _uploads(form, studio)
        if asked.prompt or mask is not None:
            raise Refused(400, "variations have neither `prompt` nor `mask`; use edits")
        model = studio.models.find(asked.model or "", "image")
        given = await run_in_threadpool(_input, asked, uploads, None, model, studio)
        return await _answer(studio, request, asked, model, given, "image_edit")

    del generations, edits, variations
    return router


def _read(form: FormData) -> ImagesAsked:
    """The text fields of a form.

    Raises:
        Refused: a value of another type or out of range, or an unknown field.
    """
    values = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    try:
        return TypeAdapter(ImagesAsked).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(400, f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}") from error


async def _uploads(form: FormData, studio: Studio) -> tuple[list[Upload], Upload | None]:
    """The images, named `image` or `image[]`, and the mask."""
    megapixels = studio.settings.limits.megapixels
    files = {"image": [], "image[]": [], "mask": []}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in files:
                raise Refused(400, f"`{name[:80]}`: no file of this name is needed")
            files[name].append(await run_in_threadpool(picture, await value.read(), megapixels))
    images = [*files["image"], *files["image[]"]]
    if not images:
        raise Refused(400, "`image` is missing")
    if len(images) > 1:
        raise Refused(400, "`image`: this server changes one image at a time")
    return images, files["mask"][0] if files["mask"] else None


def _has_holes(upload: Upload) -> bool:
    return int(np.asarray(upload.image.getchannel("A")).min()) < 128


def _input(
    asked: ImagesAsked, uploads: list[Upload], mask: Upload | None, model: Described, studio: Studio
) -> Input:
    """Images at the size of the result, cropped in the middle; where a mask is transparent, the image is made
    anew."""
    sides = _sides(asked, model) or (model.width, model.height)
    check_sides(studio.settings.limits, 1.0, *sides)
    if mask is not None and (mask.image.mode != "RGBA" or not _has_holes(mask)):
        raise Refused(400, "`mask` has no transparent part; what is transparent is made anew")
    rules = Img2Img(
        mask_blur=0.0,
        inpainting_fill=NOISE,
        inpaint_full_res=False,
        inpainting_mask_invert=1,  # of the alpha
        resize_mode=CROP,
    )
    return input_of(rules, uploads, mask, sides, model.channels)


def _sides(asked: ImagesAsked, model: Described) -> tuple[int, int] | None:
    """Width and height; None: those of the model."""
    if asked.size in (None, "auto"):
        return None
    width, height = map(int, asked.size.split("x"))
    return None if (width, height) == (model.width, model.height) else (width, height)


def config_of(asked: ImagesAsked, model: Described, studio: Studio, given: Input | None) -> SampleImage:
    """The config of `unveil sample image` for a request.

    Raises:
        Refused, ValueError: settings that cannot be followed.
    """
    if asked.response_format == "url":
        raise Refused(400, "`response_format`: images are sent as b64_json; leave it out")
    if asked.partial_images and not asked.stream:
        raise Refused(400, "`partial_images` needs `stream`")
    if asked.stream and (asked.n or 1) > 1:
        raise Refused(400, "`n`: one image at a time is streamed")
    scale = asked.scale
    if given is not None and not asked.prompt:
        scale = 1.0
    values: dict[str, object] = {
        "n": asked.n or 1,
        "seed": randbelow(2**32) if asked.seed is None else asked.seed,
        "steps": asked.steps,
        "solver": asked.solver,
        "size": _sides(asked, model) or (),
        "task": "" if given is None else "img2img" if given.begins else "inpaint",
        "strength": asked.strength if given is not None and given.begins else None,
    }
    if asked.strength is not None and given is not None and not given.begins:
        raise Refused(400, "`strength` is for edits without a mask; leave it out")
    config = settled(model, studio.models, values | condition_of(model, asked.prompt, asked.negative, scale))
    return config if given is None else with_uploads(config, given)


async def _answer(
    studio: Studio, request: Request, asked: ImagesAsked, model: Described, given: Input | None, event: str
) -> Response | dict[str, object]:
    config = await run_in_threadpool(config_of, asked, model, studio, given)
    job = studio.images(config, given, model)
    if asked.stream:
        job.watched = bool(asked.partial_images)
        parts = _streamed(job, studio, event, asked.partial_images or 0)
        return StreamingResponse(parts, media_type="text/event-stream")
    made = await studio.made(job, gone_of(request))
    data = [{"b64_json": base64.b64encode(file).decode()} for file in made.files]
    return {"created": int(time.time()), "data": data, "output_format": "png", "size": _size(made.files[0])}


def _size(file: bytes) -> str:
    from PIL import Image

    with Image.open(io.BytesIO(file)) as image:
        return f"{image.width}x{image.height}"


async def _streamed(job: Job, studio: Studio, event: str, partial: int) -> AsyncIterator[str]:
    """Partial images at equal parts of the way, and the image; the job is cancelled if the client leaves."""
    sent = 0
    try:
        async for it in changes(job):
            preview = it.preview
            if preview is not None and sent < partial and it.progress >= (sent + 1) / (partial + 1):
                yield _event(f"{event}.partial_image", preview, {"partial_image_index": sent})
                sent += 1
        if job.state != "done":
            failed = refused(job)
            yield f"event: error\ndata: {json.dumps(body_of('/v1/', failed.status, failed.message))}\n\n"
            return
        made = await studio.made(job, _never)
        yield _event(f"{event}.completed", made.files[0], {"usage": None})
    finally:
        if not job.ended:
            studio.jobs.cancel(job)


async def _never() -> None:
    import asyncio

    await asyncio.Event().wait()


def _event(kind: str, file: bytes, more: dict[str, object]) -> str:
    data = {
        "type": kind,
        "b64_json": base64.b64encode(file).decode(),
        "created_at": int(time.time()),
        "size": _size(file),
        "quality": "auto",
        "background": "opaque",
        "output_format": "png",
    }
    return f"event: {kind}\ndata: {json.dumps(data | more)}\n\n"
