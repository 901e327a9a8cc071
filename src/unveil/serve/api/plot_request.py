"""Requests of `/api/plots`: X/Y/Z plots of images."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from secrets import randbelow
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from unveil.serve.api.image_request import STRICT, ImageJob, config_of
from unveil.serve.models import Described
from unveil.serve.plots import Axis, Plot, Setting, axis_of, replaced
from unveil.serve.refusal import Refused
from unveil.serve.studio import Studio
from unveil.serve.uploads import Upload

FIELDS = {"class": "label"}  # names of settings in `ImageJob`, where they differ


@dataclass(frozen=True)
class AxisAsked:
    """An axis: a setting, and its values as A1111's script reads them."""

    __pydantic_config__ = STRICT

    setting: Setting
    values: Annotated[
        str,
        Field(
            max_length=2000,
            description="numbers and ranges, such as 1, 2, 4-8, 10-20 (+5), 0-1 [3]; or names; of `prompt` "
            "texts, of which the first is replaced by each in turn",
        ),
    ]


@dataclass(frozen=True)
class PlotJob:
    """A job whose images are those of `image` with each value of up to three settings."""

    __pydantic_config__ = STRICT

    image: ImageJob
    x: AxisAsked | None = None
    y: AxisAsked | None = None
    z: AxisAsked | None = None


def plot_of(
    asked: PlotJob, model: Described, studio: Studio, uploads: Sequence[Upload], mask: Upload | None
) -> Plot:
    """The cells of a request.

    Raises:
        Refused, ValueError: no axis, the same one twice, too many cells, or settings that cannot be followed.
    """
    wanted = [one for one in (asked.x, asked.y, asked.z) if one is not None]
    if not wanted:
        raise Refused(400, "a plot needs at least one of `x`, `y` and `z`")
    once = [one.setting for one in wanted if one.setting != "prompt"]
    if len(set(once)) < len(once):
        raise Refused(400, "the axes of a plot must have different settings")
    if asked.image.n != 1:
        raise Refused(400, "`n`: each cell of a plot is one image; leave it out")
    axes = [None if one is None else axis_of(one.setting, one.values) for one in (asked.x, asked.y, asked.z)]
    x, y, z = axes
    sizes = [len(axis.values) if axis else 1 for axis in axes]
    if (count := sizes[0] * sizes[1] * sizes[2]) > studio.settings.limits.largest_n:
        raise Refused(
            400, f"{count} images: this server makes at most {studio.settings.limits.largest_n} per job"
        )
    seed = randbelow(2**32) if asked.image.seed is None else asked.image.seed
    base: dict[str, object] = asdict(asked.image)
    base |= {"seed": seed, "checkpoint": model.id}
    cells = [
        config_of(_changed(base, axes, values), model, studio, uploads, mask)
        for values in product(*map(range, reversed(sizes)))
    ]
    said = {
        name: value
        for name, value in base.items()
        if name not in ("given", "mask") and value not in (None, (), "")
    }
    named = {"x": asked.x, "y": asked.y, "z": asked.z}
    text = json.dumps({"image": said} | {name: asdict(one) for name, one in named.items() if one})
    return Plot((x, y, z), cells, text)


def _changed(base: dict[str, object], axes: Sequence[Axis | None], places: Sequence[int]) -> ImageJob:
    """The job of a cell.

    Args:
        places: the numbers of the values of z, y and x.
    Raises:
        Refused: a value out of range.
    """
    values = dict(base)
    for axis, place in zip(axes, reversed(places), strict=True):
        if axis is None:
            continue
        value = axis.values[place]
        name = FIELDS.get(axis.setting, axis.setting)
        if name == "prompt":
            prompts = values["prompt"]
            assert isinstance(prompts, tuple)
            values[name] = replaced(prompts, axis, str(value))
        else:
            values[name] = (value,) if name == "label" else value
    try:
        return TypeAdapter(ImageJob).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(400, f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}") from error
