"""`/sdapi/v1`: the HTTP API of AUTOMATIC1111's web UI (1.10), for the programs that speak it."""

import base64
import json
from dataclasses import asdict
from secrets import randbelow
from time import strftime
from typing import Annotated, TypeVar

from fastapi import APIRouter, Body, Request
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from unveil.image.prompts.infotext import parse_infotext
from unveil.serve.a1111 import lists
from unveil.serve.a1111.extras import Extras, enlarged
from unveil.serve.a1111.pictures import input_of
from unveil.serve.a1111.request import (
    KEPT,
    Img2Img,
    Txt2Img,
    check_image,
    check_text,
    checkpoint_of,
    config_of,
)
from unveil.serve.images import Input, Made, check_sides
from unveil.serve.models import Described
from unveil.serve.refusal import Refused
from unveil.serve.studio import Studio
from unveil.serve.uploads import decoded, picture
from unveil.serve.waiting import gone_of

Kind = TypeVar("Kind")
Json = dict[str, object]
Asked = Annotated[dict[str, object], Body()]


def routes(studio: Studio) -> APIRouter:
    """The routes below /sdapi/v1."""
    router = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111"])
    chosen = [""]  # the model of the options; "": the first

    @router.post("/txt2img")
    async def txt2img(body: Asked, request: Request) -> Json:
        asked = _read(Txt2Img, body)
        check_text(asked)
        return await _made(studio, request, asked, _model(studio, checkpoint_of(asked) or chosen[0]), body)

    @router.post("/img2img")
    async def img2img(body: Asked, request: Request) -> Json:
        asked, more = _read(Txt2Img, body), _read(Img2Img, body)
        check_text(asked)
        check_image(more)
        model = _model(studio, checkpoint_of(asked) or chosen[0])
        given = await run_in_threadpool(_given, studio, asked, more, model)
        shown = body if more.include_init_images else body | {"init_images": None, "mask": None}
        return await _made(studio, request, asked, model, shown, given)

    @router.get("/progress")
    async def progress(skip_current_image: bool = False) -> Json:
        return lists.progress(studio, skip_current_image)

    @router.post("/interrupt")
    async def interrupt() -> Json:
        _end(studio)
        return {}

    @router.post("/skip")
    async def skip() -> None:
        _end(studio)

    @router.get("/options")
    async def options() -> Json:
        return lists.options(studio, _model(studio, chosen[0]))

    @router.post("/options")
    async def set_options(body: Asked) -> None:
        now = lists.options(studio, _model(studio, chosen[0]))
        for name, value in body.items():
            if name != "sd_model_checkpoint" and now.get(name, KEPT.get(name, ...)) != value:
                raise Refused(400, f"option {name[:80]} cannot be changed here; leave it out")
        if (title := body.get("sd_model_checkpoint")) is not None:
            chosen[0] = _model(studio, str(title)).id

    @router.post("/png-info")
    def png_info(body: Asked) -> Json:
        upload = picture(decoded(str(body.get("image") or "")), studio.settings.limits.megapixels)
        info = upload.texts.get("parameters", "")
        said = parse_infotext(info)
        pairs = {"Prompt": said.prompt, "Negative prompt": said.negative} | said.settings
        items = {name: text for name, text in upload.texts.items() if name != "parameters"}
        return {"info": info, "items": items, "parameters": pairs if info else {}}

    @router.post("/extra-single-image")
    def extra_single_image(body: Asked) -> Json:
        asked = _read(Extras, body)
        file = enlarged(asked, studio.settings.limits.megapixels)
        return {"html_info": "", "image": base64.b64encode(file).decode()}

    @router.post("/unload-checkpoint")
    async def unload() -> Json:
        studio.models.unload()
        return {}

    @router.get("/sd-models")
    async def sd_models() -> list[Json]:
        return lists.sd_models(studio)

    @router.get("/loras")
    async def loras() -> list[Json]:
        return lists.loras(studio)

    @router.get("/embeddings")
    async def embeddings() -> Json:
        return lists.embeddings(studio)

    for path, answer in lists.FIXED.items():
        _add_fixed(router, path, answer)
    router.add_api_route("/memory", lists.memory, methods=["GET"])
    for path in ("/refresh-checkpoints", "/refresh-loras", "/refresh-embeddings", "/reload-checkpoint"):
        _add_fixed(router, path, None, "POST")
    del txt2img, img2img, progress, interrupt, skip, options, set_options, png_info
    del extra_single_image, unload, sd_models, loras, embeddings
    return router


def _add_fixed(router: APIRouter, path: str, answer: object, method: str = "GET") -> None:
    async def fixed() -> object:
        return answer

    router.add_api_route(path, fixed, methods=[method], name=path[1:])


def _read(kind: type[Kind], body: Json) -> Kind:
    """The fields of a request.

    Raises:
        Refused: a value of another type or out of range.
    """
    try:
        return TypeAdapter(kind).validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise Refused(422, f"`{name}`: {first['msg']}") from error


def _model(studio: Studio, title: str) -> Described:
    """The model of a title, "name [hash]", or of an id.

    Raises:
        Refused: there is none.
    """
    return studio.models.find(title.partition(" [")[0], "image")


def _end(studio: Studio) -> None:
    """End the job that runs with what it has so far."""
    current = studio.jobs.current
    if current is not None:
        current.skip.set()


def _given(studio: Studio, asked: Txt2Img, more: Img2Img, model: Described) -> Input:
    """The uploads of img2img."""
    megapixels = studio.settings.limits.megapixels
    uploads = [picture(decoded(text), megapixels) for text in more.init_images]
    mask = picture(decoded(more.mask), megapixels) if more.mask else None
    sides = (asked.width or model.width, asked.height or model.height)
    check_sides(studio.settings.limits, float(len(uploads)), *sides)
    return input_of(more, uploads, mask, sides, model.channels)


async def _made(
    studio: Studio, request: Request, asked: Txt2Img, model: Described, body: Json, given: Input | None = None
) -> Json:
    """Make the images of a request, and answer."""
    task = "" if given is None else "img2img" if given.begins else "inpaint"
    config = await run_in_threadpool(config_of, asked, model, studio.models, randbelow, task)
    if given is not None:
        config = lists.with_uploads(config, given)
    job = studio.images(config, given, model)
    made = await studio.made(job, gone_of(request))
    images = [base64.b64encode(file).decode() for file in made.files] if asked.send_images else []
    info = info_of(made, asked, model, lists.hash_of(studio, model))
    full = asdict(asked) | {name: value for name, value in body.items() if name not in asdict(asked)}
    return {"images": images, "parameters": full, "info": json.dumps(info)}


def info_of(made: Made, asked: Txt2Img, model: Described, digest: str) -> Json:
    """What `info` of an answer says, as JSON."""
    config, count = made.config, len(made.files)
    varied = config.variation > 0
    seeds = [config.job.seed + (0 if varied else k) for k in range(count)]
    subseeds = [config.variation_seed + k if varied else seeds[k] for k in range(count)]
    extra: Json = {"Schedule type": asked.scheduler or "Automatic"}
    if config.high.hires > 1:
        extra |= {"Hires upscale": config.high.hires, "Hires upscaler": asked.hr_upscaler or "Latent"}
    return {
        "prompt": asked.prompt,
        "all_prompts": [asked.prompt] * count,
        "negative_prompt": asked.negative_prompt,
        "all_negative_prompts": [asked.negative_prompt] * count,
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": subseeds[0],
        "all_subseeds": subseeds,
        "subseed_strength": config.variation,
        "width": made.sides[1],
        "height": made.sides[0],
        "sampler_name": asked.sampler_name or asked.sampler_index or "Euler",
        "cfg_scale": asked.cfg_scale,
        "steps": asked.steps,
        "batch_size": asked.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": model.id,
        "sd_model_hash": digest[:10],
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": asked.denoising_strength,
        "extra_generation_params": extra,
        "index_of_first_image": 0,
        "infotexts": made.infotexts,
        "styles": [],
        "job_timestamp": strftime("%Y%m%d%H%M%S"),
        "clip_skip": 1,
        "is_using_inpainting_conditioning": model.masks,
        "version": "unveil",
    }
