"""Requests of `/api/images`: the settings of `unveil sample image`, with uploads in place of files."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field

from unveil.image.data.reading import Fit
from unveil.image.high_resolution import Upscaler
from unveil.image.recipes.config import SampleImage
from unveil.image.settings import GridName, SolverName
from unveil.serve.images import Input, settled
from unveil.serve.models import Described
from unveil.serve.refusal import Refused
from unveil.serve.studio import Studio
from unveil.serve.uploads import Upload, decoded, picture, pixels_of

STRICT = ConfigDict(extra="forbid", populate_by_name=True)
UPLOADED = ("given", "mask")
Whole = Annotated[int | None, Field(ge=0, le=2**53)]


@dataclass(frozen=True)
class ImageJob:
    """Settings of `unveil sample image`; what is absent is the model's usual."""

    __pydantic_config__ = STRICT

    checkpoint: Annotated[str, Field(description="id of a model; empty: the first", max_length=200)] = ""
    n: Annotated[int, Field(ge=1, description="number of images")] = 1
    label: Annotated[
        tuple[int | str, ...],
        Field(alias="class", description="classes in turn, by number or name; -1: none", max_length=1000),
    ] = ()
    prompt: Annotated[tuple[str, ...], Field(description="texts, used in turn", max_length=64)] = ()
    negative: Annotated[str | int | None, Field(description="negative prompt, or class")] = None
    seed: Annotated[Whole, Field(description="image i uses seed + i; absent: a random one")] = None
    solver: SolverName | None = None
    grid: GridName | None = None
    steps: Annotated[int | None, Field(ge=1)] = None
    eta: Annotated[float | None, Field(ge=0, le=1)] = None
    scale: Annotated[float | None, Field(ge=0, le=1000, description="of guidance; 1: none")] = None
    rescale: Annotated[float | None, Field(ge=0, le=1)] = None
    threshold: Annotated[float | None, Field(ge=0, le=1)] = None
    size: Annotated[tuple[int, ...], Field(max_length=2, description="width and height")] = ()
    variation: Annotated[float | None, Field(ge=0, le=1)] = None
    variation_seed: Whole = None
    hires: Annotated[float | None, Field(ge=1, le=16)] = None
    hires_steps: Annotated[int | None, Field(ge=0)] = None
    hires_strength: Annotated[float | None, Field(gt=0, le=1)] = None
    hires_upscaler: Upscaler | None = None
    task: Literal["", "img2img", "inpaint"] = ""
    given: Annotated[
        tuple[str, ...],
        Field(alias="from", max_length=16, description="images of the task, as base64, used in turn"),
    ] = ()
    mask: Annotated[str, Field(description="image as base64; where it is bright, images are generated")] = ""
    strength: Annotated[float | None, Field(gt=0, le=1)] = None
    jumps: Annotated[int | None, Field(ge=1)] = None
    fit: Fit = "exact"
    batch_size: Annotated[int | None, Field(ge=1)] = None


@dataclass(frozen=True)
class PngInfo:
    """An image whose settings are read."""

    __pydantic_config__ = STRICT

    image: Annotated[str, Field(description="a PNG as base64 or data URL")]


def uploads_of(asked: ImageJob, studio: Studio) -> tuple[list[Upload], Upload | None]:
    """The images and the mask of a request.

    Raises:
        Refused: they cannot be read, or do not belong to the task.
    """
    megapixels = studio.settings.limits.megapixels
    uploads = [picture(decoded(text), megapixels) for text in asked.given]
    mask = picture(decoded(asked.mask), megapixels) if asked.mask else None
    if bool(uploads) != bool(asked.task):
        raise Refused(400, "`task` needs images in `from`, and images need a `task`")
    if (mask is not None) != (asked.task == "inpaint"):
        raise Refused(400, "`task=inpaint` needs a `mask`, and nothing else does")
    return uploads, mask


def config_of(
    asked: ImageJob, model: Described, studio: Studio, uploads: Sequence[Upload], mask: Upload | None
) -> SampleImage:
    """The config of a request.

    Raises:
        ValueError, Refused: settings that exclude each other.
    """
    from secrets import randbelow

    named = [field.name for field in fields(asked) if field.name not in ("checkpoint", *UPLOADED)]
    values = {name: getattr(asked, name) for name in named}
    if asked.seed is None:
        values["seed"] = randbelow(2**32)
    if not model.prompts and asked.prompt:
        raise Refused(400, "`prompt`: this model reads no prompts; leave it out")
    if not model.classes and asked.label:
        raise Refused(400, "`class`: this model has no classes; leave it out")
    values["given"] = tuple(f"uploaded-{it.digest[:12]}.png" for it in uploads)
    values["mask"] = f"uploaded-{mask.digest[:12]}.png" if mask else ""
    return settled(model, studio.models, values)


def read(config: SampleImage, uploads: Sequence[Upload], mask: Upload | None, model: Described) -> Input:
    """Uploads at the size of the result, as `unveil sample image` reads files.

    Raises:
        UnveilError: another size, with `fit=exact`.
    """
    width, height = config.size or (model.width, model.height)
    pixels = np.stack([_fitted(it, config, width, height, model.channels) for it in uploads])
    masked = None if mask is None else _fitted(mask, config, width, height, 1)[0] >= 128
    digests = tuple(it.digest for it in (*uploads, *([mask] if mask else [])))
    return Input(pixels, masked, config.task == "img2img", digests)


def _fitted(upload: Upload, config: SampleImage, width: int, height: int, channels: int) -> np.ndarray:
    from unveil.image.data.picture_files import channels_first, fitted
    from unveil.image.data.reading import Reading
    from unveil.serve.uploads import opaque

    image = opaque(upload.image)
    if width == height and image.size != (width, height):
        image = fitted(image, Reading(width, config.fit), "the uploaded image")
    if image.size != (width, height):
        raise Refused(400, f"the uploaded image is {image.width} x {image.height}, not {width} x {height}")
    if channels == 1 or image.mode == "L":
        return pixels_of(image, channels)
    return np.ascontiguousarray(channels_first(image))
